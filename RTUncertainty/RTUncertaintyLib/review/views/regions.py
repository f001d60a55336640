"""Connected regions in which a map exceeds its threshold: the places that a reviewer goes through, ranked by what they
could change: the surface of a structure, where the dose is if there is one. Air is no region.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer.util
import vtk

from ...mrml.segmentation import indices_on
from ...runs.overlays import OVERLAYS
from ...runs.run import Run

AIR_HU = -500.0
SMALLEST_ML, MOST = 0.05, 200
"""Smaller regions are noise; more regions nobody goes through."""
SHARE_OF_STRUCTURE = 0.25
"""Share of its voxels from which on a region lies "in" a structure."""
REACH_MM, FAR = 5.0, 0.01
"""An excess further than this from the surface of every structure counts this much: it changes no contour."""


@dataclass(frozen=True)
class Region:
    """One region. `mean` is in the map's unit, `excess` the integral of what lies above the threshold (unit times ml);
    `point` (RAS, mm) lies in the region; `place` says where it is, such as "in bone"."""

    volume_ml: float
    mean: float
    excess: float
    point: tuple[float, float, float]
    place: str


def uncertain_regions(run: Run, key: str, threshold: float, dose=None) -> list[Region]:
    """The regions of the map `key` above `threshold` (of a signed map: further than that from its middle, each side for
    itself) inside the tissue of the body. Voxels that touch by a corner are connected.

    They are ranked by their excess near the surfaces of the run's structures (within `REACH_MM`; excess elsewhere
    counts `FAR` of it), weighted by the dose where a dose volume node is given.
    """
    from scipy import ndimage

    node, overlay = run.overlays[key], OVERLAYS[key]
    values = slicer.util.arrayFromVolume(node).astype(np.float32) - overlay.middle
    if overlay.signed:
        candidates = [values > threshold, values < -threshold]
    else:
        candidates = [values > threshold]
    body = tissue_of(run, node)
    labels, count = np.zeros(values.shape, np.int32), 0
    for candidate in candidates:
        found, number = ndimage.label(candidate if body is None else candidate & body, np.ones((3, 3, 3)))
        labels[found > 0] = found[found > 0] + count
        count += number
    if not count:
        return []
    where = np.flatnonzero(labels)  # a small share of the image
    of, inside = labels.ravel()[where], values.ravel()[where]
    above = np.abs(inside) - threshold
    sizes, excess = (np.bincount(of, weights, count + 1) for weights in (None, above))
    ml = float(np.prod(node.GetSpacing())) / 1000
    weight = np.bincount(of, above * _matters(run, node, where, dose), count + 1)
    ranked = [r for r in np.argsort(-weight, kind="stable") if r and sizes[r] * ml >= SMALLEST_ML][:MOST]
    means = np.bincount(of, inside, count + 1)
    places = _places(run, node, labels, sizes, ranked)
    points = _points(node, where, of, above, ranked)
    return [
        Region(
            float(sizes[r] * ml),
            float(means[r] / sizes[r] + overlay.middle),
            float(excess[r] * ml),
            points[r],
            places[r],
        )
        for r in ranked
    ]


def body_of(run: Run, node) -> np.ndarray | None:
    """The body (bool [z, y, x]) on the grid of `node`: tissue and the air inside it. None where there is no CT for it;
    the maps of a prediction are zero outside of the body already.
    """
    from scipy import ndimage

    tissue = tissue_of(run, node)
    return None if tissue is None else np.stack([ndimage.binary_fill_holes(plane) for plane in tissue])


def tissue_of(run: Run, node) -> np.ndarray | None:
    """The tissue (bool [z, y, x]) on the grid of `node`, from the CT of the run on that grid: lung and other air are
    none. None where there is no such CT.
    """
    ct = run.tissue_ct
    if ct is None or ct.GetScene() is None:
        return None
    tissue = slicer.util.arrayFromVolume(ct) > AIR_HU
    shape = tuple(reversed(node.GetImageData().GetDimensions()))
    if tissue.shape != shape:
        return None
    return tissue


def _matters(run: Run, node, where: np.ndarray, dose) -> np.ndarray:
    """How much each of the voxels `where` (flat indices) could change: 1 near a surface, `FAR` elsewhere, times its
    share of the largest dose (a tenth at least) where a dose is given.
    """
    from scipy.spatial import cKDTree

    shape = tuple(reversed(node.GetImageData().GetDimensions()))
    spacing = np.array(node.GetSpacing())[::-1]
    voxels = np.stack(np.unravel_index(where, shape), 1)
    surface = _surface_voxels(run, node)
    weight = np.ones(len(where))
    if len(surface):
        distance, _index = cKDTree(surface * spacing).query(voxels * spacing, distance_upper_bound=REACH_MM)
        weight = np.where(np.isfinite(distance), 1.0, FAR)
    if dose is not None and dose.GetImageData() is not None:
        weight = weight * _share_of_dose(dose, node, voxels)
    return weight


def _surface_voxels(run: Run, node) -> np.ndarray:
    """The voxels [n, 3] (k, j, i) on the surfaces of the run's structures."""
    from scipy import ndimage

    segmentation, found = run.main_segmentation, [np.zeros((0, 3))]
    if segmentation is None or segmentation.GetScene() is None:
        return found[0]
    for index in range(segmentation.GetSegmentation().GetNumberOfSegments()):
        voxels = indices_on(segmentation, segmentation.GetSegmentation().GetNthSegment(index).GetName(), node)
        if len(voxels):
            first = voxels.min(0) - 1
            box = np.zeros(voxels.max(0) - first + 2, bool)
            box[tuple((voxels - first).T)] = True
            found.append(np.argwhere(box & ~ndimage.binary_erosion(box)) + first)
    return np.concatenate(found)


def _share_of_dose(dose, node, voxels: np.ndarray) -> np.ndarray:
    """The dose at voxels (k, j, i) of `node`, as a share of the largest; a tenth at least, so that nothing is lost."""
    to_ras, to_dose, both = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(to_ras)
    dose.GetRASToIJKMatrix(to_dose)
    vtk.vtkMatrix4x4.Multiply4x4(to_dose, to_ras, both)
    matrix = slicer.util.arrayFromVTKMatrix(both)
    index = np.rint(voxels[:, ::-1] @ matrix[:3, :3].T + matrix[:3, 3]).astype(int)[:, ::-1]
    values = slicer.util.arrayFromVolume(dose)
    inside = ((index >= 0) & (index < values.shape)).all(1)
    found = np.zeros(len(voxels))
    found[inside] = values[tuple(index[inside].T)]
    return np.clip(found / max(float(values.max()), 1e-6), 0.1, 1.0)


def _points(node, where, of, above, ranked) -> dict[int, tuple]:
    """Of each region the voxel nearest to its centre of excess, in the slice that holds most of it, as RAS points."""
    to_ras = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(to_ras)
    shape = tuple(reversed(node.GetImageData().GetDimensions()))
    order = np.argsort(of, kind="stable")
    starts = np.searchsorted(of[order], np.arange(of.max() + 2))
    found = {}
    for region in ranked:
        own = order[starts[region] : starts[region + 1]]
        voxels = np.stack(np.unravel_index(where[own], shape), 1)
        weight = above[own] + 1e-6
        slices = np.bincount(voxels[:, 0], weight)
        chosen = voxels[:, 0] == slices.argmax()
        centre = np.average(voxels[chosen], axis=0, weights=weight[chosen])
        nearest = voxels[chosen][((voxels[chosen] - centre) ** 2).sum(1).argmin()]
        found[region] = tuple(to_ras.MultiplyPoint((*(float(v) for v in nearest[::-1]), 1.0))[:3])
    return found


def _places(run: Run, node, labels: np.ndarray, sizes: np.ndarray, ranked) -> dict[int, str]:
    """In which structure each region lies for the most part, else in which tissue."""
    best: dict[int, tuple[float, str]] = {}
    segmentation = run.main_segmentation
    if segmentation is not None and segmentation.GetScene() is not None:
        for index in range(segmentation.GetSegmentation().GetNumberOfSegments()):
            name = segmentation.GetSegmentation().GetNthSegment(index).GetName()
            voxels = indices_on(segmentation, name, node)
            overlap = (
                np.bincount(labels[tuple(voxels.T)], minlength=len(sizes)) if len(voxels) else np.zeros(len(sizes))
            )
            for region in ranked:
                share = overlap[region] / sizes[region]
                if share >= SHARE_OF_STRUCTURE and share > best.get(region, (0.0, ""))[0]:
                    best[region] = (share, f"in {name}")
    return {region: best[region][1] if region in best else "outside the structures" for region in ranked}

"""Connected regions in which a map exceeds its threshold: the places that a reviewer goes through, largest excess
first.
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


@dataclass(frozen=True)
class Region:
    """One region. `mean` is in the map's unit, `excess` the integral of what lies above the threshold (unit times ml);
    `point` (RAS, mm) lies in the region; `place` says where it is, such as "in bone"."""

    volume_ml: float
    mean: float
    excess: float
    point: tuple[float, float, float]
    place: str


def uncertain_regions(run: Run, key: str, threshold: float) -> list[Region]:
    """The regions of the map `key` above `threshold` (of a signed map: further than that from its middle, each side for
    itself) inside the body, ranked by their excess. Voxels that touch by a corner are connected."""
    from scipy import ndimage

    node, overlay = run.overlays[key], OVERLAYS[key]
    values = slicer.util.arrayFromVolume(node).astype(np.float32) - overlay.middle
    if overlay.signed:
        candidates = [values > threshold, values < -threshold]
    else:
        candidates = [values > threshold]
    body = body_of(run, node)
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
    ranked = [r for r in np.argsort(-excess, kind="stable")[:MOST] if r and sizes[r] * ml >= SMALLEST_ML]
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
    """The body (bool [z, y, x]) on the grid of `node`: tissue and the air inside it, from the CT of the run on that
    grid.

    None where there is no such CT; the maps of a prediction are zero outside of the body already.
    """
    from scipy import ndimage

    ct = run.tissue_ct
    if ct is None or ct.GetScene() is None:
        return None
    tissue = slicer.util.arrayFromVolume(ct) > AIR_HU
    shape = tuple(reversed(node.GetImageData().GetDimensions()))
    if tissue.shape != shape:
        return None
    return np.stack([ndimage.binary_fill_holes(plane) for plane in tissue])


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

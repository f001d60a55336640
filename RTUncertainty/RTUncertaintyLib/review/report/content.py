"""A run in the scene as what the report shows: images, structures and tables from its nodes, in patient axes."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from rtuncertainty.core import geometry
from rtuncertainty.core.errors import InputError
from rtuncertainty.report import data
from rtuncertainty.report.structures import Part, Structure

from ...mrml.segmentation_export import on_grid
from ...mrml.volume_export import RAS_TO_LPS, UnusableVolume, ijk_to_world, parent_to_world, volume_array
from ...mrml.volumes import image_like
from ...runs.inside import percent_of
from ...runs.overlays import OVERLAYS
from ...runs.review_data import ReviewData, table_rows_of
from ..dose.nodes import curve_rows

IMAGES = {"synct": "synct", "warped": "warped_planning", "reference": "reference", "input": "input"}
"""Attribute of a run -> key of the report's images."""


def result_of(run) -> data.ReportData:
    """What a run of any job says, for `rtuncertainty.report.build.page`; nothing in the scene changes.

    Raises `InputError` for a run that is gone or that has no image left in the scene.
    """
    if not run.exists():
        raise InputError(f"{run.name}: the run is no longer in the scene; load its result again.")
    review = ReviewData.of_run(run)
    images = _images(run)
    if not images:
        raise InputError(f"{run.name}: none of its images is in the scene; load its result again.")
    grid = next(iter(images.values()))
    summary = {"name": run.name, "job": review.job, "level": review.level, **review.summary}
    summary.setdefault(
        "structures", [{"name": s.name, "color": [round(255 * c) for c in s.color]} for s in review.structures]
    )
    result = data.in_patient_axes(summary, images)
    result.images["body"] = _body(run, result)
    result.tables = {key: table_rows_of(node) for key, node in run.tables.items() if there(run, node)}
    result.reviews = (
        [
            {
                "structure": s.name,
                "decision": s.decision.state,
                "comment": s.decision.comment,
                "reviewer": s.decision.reviewer,
                "time": s.decision.time,
            }
            for s in review.structures
        ]
        if result.tables.get("review")
        else []
    )
    result.structures = _structures(run, review, summary, grid)
    result.dvh = data.dvh_curves(curve_rows(run), result.structures)
    return result


def there(run, node) -> bool:
    """Whether a node is in the run's scene."""
    return node is not None and node.GetScene() is run.scene


def _images(run) -> dict[str, sitk.Image]:
    """The run's images, all on the grid of the first; what lies otherwise (the user's own input) is resampled."""
    nodes = {key: getattr(run, attribute, None) for attribute, key in IMAGES.items() if attribute != "input"}
    nodes |= {OVERLAYS[key].image: node for key, node in run.overlays.items() if OVERLAYS[key].image in data.IMAGES}
    images = {key: image_like(volume_array(node), node) for key, node in nodes.items() if there(run, node)}
    if there(run, run.input):
        try:
            given = _in_world(run.input)
        except UnusableVolume:
            given = None  # under a transform that is not linear: the report does without it, and says so
        if given is not None:
            grid = next(iter(images.values()), given)
            outside = float(sitk.GetArrayViewFromImage(given).min())
            images["input"] = geometry.resample(given, grid, background=outside)
    return images


def _in_world(node) -> sitk.Image:
    """A volume node where it lies in the world, linear transforms included."""
    matrix = RAS_TO_LPS @ ijk_to_world(node)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    image = sitk.GetImageFromArray(volume_array(node))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    return image


def _body(run, result: data.ReportData) -> np.ndarray:
    """The body, uint8: maps of a prediction are zero outside of it; else tissue of the CT
    (`rtuncertainty.report.data.in_patient_axes`)."""
    from scipy import ndimage

    for key in ("predictive_sd", "entropy"):
        if key in result.images and result.job == "predict" and np.any(result.images[key]):
            inside = result.images[key] > 0
            return np.stack([ndimage.binary_fill_holes(plane) for plane in inside]).astype(np.uint8)
    return result.images["body"]


def _structures(run, review: ReviewData, summary: dict, grid: sitk.Image) -> list[Structure]:
    """The structures with all their contours on the grid of the report."""
    known = {s.get("name"): s for s in summary.get("structures", [])}
    to_grid = np.linalg.inv(_matrix(grid))
    sets = {path: node for path, node in getattr(run, "segmentations", {}).items() if there(run, node)}
    planning = getattr(run, "outlines", None)
    if not sets and there(run, run.main_segmentation):
        sets = {"structure": run.main_segmentation}
    out = []
    for s in review.structures:
        entry = known.get(s.name, {})
        contours = {path: _part(node, s.name, to_grid @ parent_to_world(node), grid) for path, node in sets.items()}
        if there(run, planning):
            name = entry.get("planning_name") or s.name
            contours["planning"] = _part(
                planning, name, to_grid @ _rigid_back(summary) @ parent_to_world(planning), grid
            )
        contours = {path: part for path, part in contours.items() if part is not None}
        default = entry.get("default") or ("propagated" if "propagated" in sets else "structure")
        out.append(
            Structure(
                s.name,
                tuple(round(255 * c) for c in s.color),
                contours,
                default,
                _inside(run, s.name, grid),
                entry.get("description") or "",
            )
        )
    return out


def _part(node, name: str, to_grid: np.ndarray, grid: sitk.Image) -> Part | None:
    """The voxels of a segment on a grid, in patient axes; None when it is not there."""
    identifier = node.GetSegmentation().GetSegmentIdBySegmentName(name)
    found = on_grid(node, identifier, to_grid, grid.GetSize()) if identifier else None
    if found is None:
        return None
    (i, j, k), voxels = found
    return _axial_part(voxels > 0, (k, j, i), grid)


def _axial_part(voxels: np.ndarray, first, grid: sitk.Image) -> Part:
    """A piece [k, j, i] of a volume on `grid`, whose first voxel has the index `first` (k, j, i), in patient axes."""
    whole = np.zeros(grid.GetSize()[::-1], np.uint8)
    whole[tuple(slice(a, a + n) for a, n in zip(first, voxels.shape))] = voxels
    part = Part.of(data.axial_array(geometry.like(whole, grid, np.uint8)))
    if voxels.dtype == bool:
        part.voxels = part.voxels > 0
    return part


def _inside(run, name: str, grid: sitk.Image) -> Part | None:
    """The nested contours of a structure in percent, None where the run has none."""
    node = run.inside.get(name)
    if not there(run, node) or node.GetImageData() is None:
        return None
    image = image_like(percent_of(node), node)
    first = grid.TransformPhysicalPointToIndex(image.GetOrigin())
    array = sitk.GetArrayViewFromImage(image)
    fits = all(f >= 0 and f + n <= size for f, n, size in zip(first, image.GetSize(), grid.GetSize()))
    if not fits or not np.allclose(image.GetSpacing(), grid.GetSpacing(), rtol=1e-4):
        array, first = sitk.GetArrayFromImage(geometry.resample(image, grid, "nearest")), (0, 0, 0)
    return _axial_part(array, first[::-1], grid)


def _matrix(grid: sitk.Image) -> np.ndarray:
    """Voxel index (i, j, k) of an image to RAS in mm, 4 × 4."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(grid.GetDirection()).reshape(3, 3) * grid.GetSpacing()
    matrix[:3, 3] = grid.GetOrigin()
    return RAS_TO_LPS @ matrix


def _rigid_back(summary: dict) -> np.ndarray:
    """From planning to daily points (RAS, mm) by the rigid alignment of a propagation, 4 × 4."""
    transform = data.rigid(summary)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    return RAS_TO_LPS @ np.linalg.inv(matrix) @ RAS_TO_LPS

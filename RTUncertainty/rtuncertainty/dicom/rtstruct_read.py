"""RTSTRUCT in: the contours of a structure set as masks on the voxels of an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rtuncertainty.core import geometry
from rtuncertainty.core.errors import InputError
from rtuncertainty.core.structure_set import COLORS, Structure, unused
from rtuncertainty.deformation.field import axes

from . import combine, fill
from .rtstruct_file import Roi, find, rois_of

# voxels by which the points of a contour may leave their plane, and mm: coordinates are rounded
PLANAR, ROUNDED_MM = 0.2, 0.12
# of the grid that is made where no image is given
PIXEL_MM = 1.0


def read_structures(
    path, grid: sitk.Image | None = None, tell=None, image_name: str = "the image"
) -> dict[str, Structure]:
    """The structures of an RTSTRUCT as masks, by name.

    A voxel is inside when its centre is (`fill.rasterised`); slices between contours that are further apart than the
    slices are interpolated (`fill.stacked`), and a note says so. Only CLOSED_PLANAR and CLOSEDPLANAR_XOR contours
    count, of others a note says so. A ROI without contours is an empty structure. Equal names get a number.

    Args:
        path: a file, or a folder with only one.
        grid: the image that they were drawn on; its metadata "frame_of_reference", if there is any, is compared. None:
            one is made around the contours: their planes, pixels of 1 mm.
        tell: called with every note, a line of text.
        image_name: what messages call `grid`.

    Returns:
        Masks on the voxels of the grid.

    Raises:
        InputError: no whole structure set, another frame of reference, or no contour in `grid`.
    """
    path, tell = find(Path(path)), tell or (lambda note: None)
    rois = rois_of(path)
    _check_frame(rois, grid, path, tell, image_name)
    if not any(roi.contours for roi in rois):
        raise InputError(f"{path}: holds no closed planar contour; give a structure set with structures in it.")
    grid = _own_grid(rois) if grid is None else grid
    axis, inside = _slice_axis(rois, grid), False
    found: dict[str, Structure] = {}
    for number, roi in enumerate(rois):
        name = unused(roi.name, found)
        if name != roi.name:
            tell(f"{roi.name}: several structures have this name; the later one is called {name}.")
        for why, count in roi.left_out.items():
            tell(f"{name}: {count} of its contours left out: {why}.")
        if not roi.contours and roi.left_out:
            continue
        mask = _mask(roi, name, grid, axis, tell)
        inside |= bool(mask.any())
        found[name] = Structure(
            name, geometry.like(mask, grid, np.uint8), roi.color or COLORS[number % len(COLORS)], roi.code, roi.role
        )
    if not inside:
        raise InputError(f"{path}: none of its contours lies in {image_name}; give the image that they were drawn on.")
    return found


def _check_frame(rois: list[Roi], grid, path: Path, tell, image_name: str) -> None:
    """Compare frames of reference, and leave out structures of another one than that of the grid."""
    here = (
        grid.GetMetaData("frame_of_reference") if grid is not None and grid.HasMetaDataKey("frame_of_reference") else ""
    )
    frames = {roi.frame for roi in rois if roi.contours}
    if grid is None:
        if len(frames - {""}) > 1:
            raise InputError(
                f"{path}: its structures lie in {len(frames)} frames of reference; give the image that they were drawn "
                "on."
            )
        return
    if not here or frames == {""}:
        which = path.name if here else image_name
        tell(
            f"{which} names no frame of reference: that the structures were drawn on {image_name} could not be checked."
        )
        return
    if frames and not frames & {here, ""}:
        raise InputError(
            f"{path}: its frame of reference is not that of {image_name}; give the structure set that was drawn on "
            "this scan."
        )
    for roi in rois:
        if roi.contours and roi.frame not in (here, ""):
            roi.leave_out("in another frame of reference", len(roi.contours))
            roi.contours = []


def _slice_axis(rois: list[Roi], grid: sitk.Image) -> int:
    """The axis (0 x, 1 y, 2 z) of the grid across which the contours lie; slices of a series lie across z."""
    matrix, _ = axes(grid)
    spread = np.array([np.ptp(np.linalg.solve(matrix, c.T), 1) for roi in rois for c in roi.contours])
    planar = (spread <= PLANAR).sum(0)
    return int(2 - planar[::-1].argmax())


def _mask(roi: Roi, name: str, grid: sitk.Image, axis: int, tell) -> np.ndarray:
    """The voxels [z, y, x] (uint8) of a ROI."""
    matrix, origin = axes(grid)
    size, spacing = np.array(grid.GetSize()), np.array(grid.GetSpacing())
    across, down = [a for a in range(3) if a != axis]
    shape, planes, outside, oblique = (size[down], size[across]), [], False, 0
    for contour in roi.contours:
        index = np.linalg.solve(matrix, (contour - origin).T).T
        if np.ptp(index[:, axis]) > max(PLANAR, ROUNDED_MM / spacing[axis]):
            oblique += 1
            continue
        outside |= bool((index < -0.5 - PLANAR).any() or (index > size - 0.5 + PLANAR).any())
        planes.append((float(index[:, axis].mean()), index[:, [across, down]]))
    if oblique:
        tell(f"{name}: {oblique} of its contours lie oblique to the slices of the image and were left out.")
    if not planes:
        tell(f"{name}: has no contour; it is an empty structure.")
        return np.zeros(size[::-1], np.uint8)
    if outside:
        tell(f"{name}: reaches beyond the image and is cut off there.")
    shapes, mm2 = {}, 0.0
    told: dict[str, int] = {}
    for at, found in _together(planes).items():
        groups, kinds = combine.grouped(found, spacing[[across, down]], roi.xor)
        shapes[at] = fill.rasterised(groups, shape)
        mm2 = max(mm2, combine.area(groups) * float(spacing[across] * spacing[down]))
        for kind in sorted(kinds):
            told[kind] = told.get(kind, 0) + 1
    for note in combine.notes(name, told):
        tell(note)
    mask, filled, gaps = fill.stacked(shapes, int(size[axis]), (spacing[down], spacing[across]))
    if filled:
        tell(f"{name}: its contours are further apart than the slices; {filled} slices between them were interpolated.")
    if gaps:
        tell(
            f"{name}: has no contours in {len(gaps)} {'gap' if len(gaps) == 1 else 'gaps'} of up to "
            f"{max(gaps) * spacing[axis]:.1f} mm, left open."
        )
    if not outside and mm2 and not mask.any():
        tell(
            f"{name}: is thinner than a voxel, no voxel's middle lies inside: its contours have up to {mm2:.3g} mm² in "
            f"{len(shapes)} planes ({_volume_ml(planes, spacing, axis, roi.xor):.3g} ml), the mask is empty."
        )
    # [slice, down, across] as [z, y, x]
    return np.ascontiguousarray(np.transpose(mask, np.argsort([2 - axis, 2 - down, 2 - across])))


def _together(planes: list) -> dict[float, list[np.ndarray]]:
    """Polygons by the plane in which they lie; positions that differ by rounding only are one plane."""
    at, _ = combine.levels([height for height, _ in planes])
    found: dict[float, list[np.ndarray]] = {}
    for height, polygon in sorted(planes, key=lambda p: p[0]):
        found.setdefault(float(at[np.abs(at - height).argmin()]), []).append(polygon)
    return found


def _volume_ml(planes: list, spacing, axis: int, xor: bool) -> float:
    """The volume of contours, each plane as thick as their usual distance, or a slice where there is only one."""
    across, down = [a for a in range(3) if a != axis]
    _, usual = combine.levels([height for height, _ in planes])
    areas = [combine.area(combine.grouped(f, spacing[[across, down]], xor)[0]) for f in _together(planes).values()]
    return sum(areas) * float(spacing[across] * spacing[down] * spacing[axis] * (usual or 1.0)) / 1000


def _own_grid(rois: list[Roi]) -> sitk.Image:
    """A grid around all contours: slices as the contours lie, at their usual distance; pixels of 1 mm."""
    contours = [c for roi in rois for c in roi.contours]
    largest = max(contours, key=lambda c: np.ptp(c, 0).max())
    normal = np.linalg.svd(largest - largest.mean(0))[2][2]
    # the patient's axis that is nearest to the normal, as the third; the others follow it
    order = np.argsort(np.abs(normal))
    third = normal * np.sign(normal[order[2]])
    first = np.eye(3)[order[:2].min()]
    first = first - third * (first @ third)
    first /= np.linalg.norm(first)
    frame = np.stack([first, np.cross(third, first), third])
    points = np.concatenate(contours) @ frame.T
    low, high = points.min(0), points.max(0)
    steps = [combine.levels([float((c @ third).mean()) for c in roi.contours])[1] for roi in rois if roi.contours]
    steps = [s for s in steps if s > 0]
    step = float(np.median(steps)) if steps else 3.0
    at = float((largest @ third).mean())
    low[2] = at - np.ceil((at - low[2]) / step - 0.01) * step
    pixel = min(PIXEL_MM, step)
    spacing = np.array([pixel, pixel, step])
    low = low - 2 * spacing
    grid = sitk.Image([int(n) for n in np.ceil((high - low) / spacing) + 3], sitk.sitkUInt8)
    grid.SetSpacing([float(s) for s in spacing])
    grid.SetOrigin([float(v) for v in low @ frame])
    grid.SetDirection([float(v) for v in frame.T.ravel()])
    return grid

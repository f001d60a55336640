"""A planning and a daily CT as the joint networks see them: on one grid, rigidly aligned, in one scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..core import ct as bodies
from ..core import geometry, image_io
from ..core.ct import AIR_HU, TISSUE_HU
from ..core.errors import InputError
from . import rigid as rigidly

MARGIN_MM = 8.0  # of air that is left around the daily body
MOST_VOXELS = 3_000_000  # of a scan of any region, on working voxels; about half of them are the patient

# of an MR: the share of the tissue's bright end that counts as tissue at all, and what the bright end becomes in HU
TISSUE, BRIGHT = 0.12, 700.0


@dataclass
class Pair:
    """A planning and a daily scan on the working grid over the daily body; arrays [z, y, x].

    Attributes:
        grid: the working grid.
        daily, planning: float32, HU; the latter resampled by `rigid`.
        body: bool, of the daily scan.
        known: bool, where the planning scan was taken.
        labels: {name: float32, 0 to 1}, the planning structures resampled by `rigid`.
        rigid: maps points of the daily to the planning scan (LPS, mm).
        planning_body: bool, of the planning scan.
    """

    grid: sitk.Image
    daily: np.ndarray
    planning: np.ndarray
    body: np.ndarray
    known: np.ndarray
    labels: dict[str, np.ndarray]
    rigid: sitk.Transform
    planning_body: np.ndarray


def cropped(image: sitk.Image, mask: np.ndarray, margin_mm: float) -> sitk.Image:
    """The part of an image around a mask, as far as the image goes.

    Args:
        image: 3-D.
        mask: bool [z, y, x] on its grid.
        margin_mm: left on each side.

    Returns:
        The part, at its place in space.
    """
    box = geometry.bounding_box(mask, np.ceil(margin_mm / np.array(image.GetSpacing()[::-1])))[::-1]
    return sitk.RegionOfInterest(image, [s.stop - s.start for s in box], [s.start for s in box])


def through(image: sitk.Image, grid: sitk.Image, transform: sitk.Transform, outside: float) -> np.ndarray:
    """An image on another grid, looked up where a transform points at; smoothed first where voxels become larger.

    Args:
        image: 3-D scalar.
        grid: the image whose grid the result has.
        transform: from points of `grid` to points of `image` (LPS, mm).
        outside: value beyond the image.

    Returns:
        float32 [z, y, x] on `grid`, linear interpolation.
    """
    return sitk.GetArrayFromImage(
        sitk.Resample(geometry.smoothed_for(image, grid), grid, transform, sitk.sitkLinear, outside, sitk.sitkFloat32)
    )


def working_spacing(daily: sitk.Image, finest) -> list[float]:
    """Voxels (mm) for a scan of any region: `finest`, or the scan's own where they are larger; larger in proportion
    where there would be more than `MOST_VOXELS`."""
    own = geometry.to_axial(daily).GetSpacing()
    spacing = np.maximum(np.array(finest, float), own)
    extent = np.prod(np.array(daily.GetSize(), float) * daily.GetSpacing())
    return list(map(float, spacing * max(1.0, (extent / np.prod(spacing) / MOST_VOXELS) ** (1 / 3))))


def make_pair(
    planning: sitk.Image,
    structures: dict[str, sitk.Image],
    daily: sitk.Image,
    spacing,
    align: bool = True,
    names: tuple[str, str] = ("the planning CT", "the daily CT"),
) -> Pair:
    """Brings both CTs and the planning structures onto the working grid.

    Args:
        planning: CT in HU, axial (`geometry.to_axial`).
        daily: CT in HU, axial.
        structures: {name: mask} on the planning CT.
        spacing: of the working grid, (x, y, z), mm.
        align: whether to look for a rigid transform first.
        names: what messages call the planning and the daily CT.

    Returns:
        The pair.

    Raises:
        InputError: a CT without a patient.
    """
    # bodies are looked for on the working voxels: on those of a scanner it takes ten times as long
    coarse = [geometry.resample(i, geometry.resampled_grid(i, spacing), background=AIR_HU) for i in (planning, daily)]
    planning_body, body = (bodies.body_mask(i, name) for i, name in zip(coarse, names))
    transform = rigidly.register(coarse[1], coarse[0], body, planning_body) if align else rigidly.identity()
    inside = sitk.GetArrayFromImage(body) > 0
    grid, body = cropped(coarse[1], inside, MARGIN_MM), cropped(body, inside, MARGIN_MM)
    labels = {name: through(_around(mask, grid), grid, transform, 0.0) for name, mask in structures.items()}
    return Pair(
        body,
        sitk.GetArrayFromImage(grid),
        through(planning, grid, transform, AIR_HU),
        sitk.GetArrayFromImage(body) > 0,
        _field_of_view(planning, grid, transform),
        labels,
        transform,
        sitk.GetArrayFromImage(sitk.Resample(planning_body, grid, transform, sitk.sitkNearestNeighbor, 0)) > 0,
    )


def label_array(masks: dict[str, np.ndarray], organs, shape) -> np.ndarray:
    """Masks as one array of labels; in each voxel the largest, if above one half.

    Args:
        masks: {organ: 0 to 1, [z, y, x]}.
        organs: names in the order of the labels 1, 2, …; some may have no mask.
        shape: (z, y, x).

    Returns:
        uint8 [z, y, x].
    """
    labels = np.zeros(shape, np.uint8)
    best = np.full(labels.shape, 0.5, np.float32)
    for number, organ in enumerate(organs, 1):
        if organ in masks:
            more = masks[organ] > best
            labels[more] = number
            best[more] = masks[organ][more]
    return labels


def _around(mask: sitk.Image, grid: sitk.Image) -> sitk.Image:
    """The part of a structure's mask that holds it, with a margin that no smoothing for the voxels of `grid` leaves."""
    array = sitk.GetArrayViewFromImage(mask) > 0
    return cropped(mask, array, 4 * max(grid.GetSpacing())) if array.any() else mask


def _field_of_view(image: sitk.Image, grid: sitk.Image, transform: sitk.Transform) -> np.ndarray:
    """Where `grid`, moved by `transform`, lies inside `image` (bool)."""
    ones = sitk.Image(image.GetSize(), sitk.sitkUInt8)
    ones.CopyInformation(image)
    return sitk.GetArrayFromImage(sitk.Resample(ones + 1, grid, transform, sitk.sitkNearestNeighbor, 0)) > 0


def kind_of_pair(planning: sitk.Image, daily: sitk.Image, names: tuple[str, str]) -> str:
    """ "CT" or "MR". Raises `InputError` for one of each."""
    kinds = [
        "CT" if image_io.is_ct(sitk.GetArrayViewFromImage(i), image_io.modality(i)) else "MR" for i in (planning, daily)
    ]
    if kinds[0] == kinds[1]:
        return kinds[0]
    ct, other = names if kinds[0] == "CT" else names[::-1]
    raise InputError(
        f"{ct} is a CT and {other} is none (no air near -1000 HU): a registration compares two scans of one kind, and "
        "what it makes of two kinds was never checked; give two CTs (a cone-beam CT in HU too) or two MRs."
    )


def like_ct(mr: sitk.Image, name: str) -> sitk.Image:
    """An MR with its background at -1000, the faintest tissue at -300 and its bright end at 700 (float32), so that what
    finds bodies and compares CTs does it here too. Raises `InputError` for an image without any contrast."""
    array = sitk.GetArrayFromImage(mr).astype(np.float32)
    positive = array[array > 0]
    bright = float(np.percentile(positive, 99)) if positive.size else 0.0
    if bright <= float(array.min()):
        raise InputError(f"{name} shows nothing (all its voxels are alike); give the patient's scan.")
    hu = np.interp(array, [0.0, TISSUE * bright, bright], [AIR_HU, TISSUE_HU, BRIGHT])
    return geometry.like(hu, mr)

"""The distribution of a propagated or segmented structure's volume on the daily grid, and the quality of its
contour.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..core import geometry, surfaces
from ..uncertainty import volume_assessment, volume_distribution, volumes
from ..uncertainty.volume_assessment import Assessed

# voxels of a structure's bounding box
LARGEST = 3_000_000


def of_deformation(
    name: str,
    mask: np.ndarray,
    sd_mm: sitk.Image,
    sampled_mm: sitk.Image,
    daily: sitk.Image,
    card: dict,
    rule: dict | None,
) -> Assessed:
    """Volume distribution and quality of a structure moved by the deformation.

    The volume's distribution is made of the SD that the samples have: in it the whole surface moves in and out as one,
    as it does from sample to sample. What a calibrated point errs besides, others do not, so a volume made of the
    calibrated SD would be far too uncertain; how far volumes do err is for the calibration of volumes to say.

    Args:
        name: of the structure.
        mask: bool [z, y, x] on the grid of the daily CT.
        sd_mm: across the surface, calibrated, as `spread_about` gives it: where the surface may lie, point by point,
            which the nested contours show.
        sampled_mm: the same, uncalibrated.
        daily: the daily CT, for its grid.
        card: of the model, whose calibration of volumes counts.
        rule: how the card tidies the structure, or None.

    Returns:
        What is known of the structure.
    """
    shown, volume = (_moved_together(name, mask, sd, daily, card, rule) for sd in (sd_mm, sampled_mm))
    return replace(shown, distribution=volume.distribution)


def _moved_together(name, mask, sd_mm, daily, card, rule) -> Assessed:
    """With the surface moving by as many of its SDs everywhere."""
    size = np.prod([s.stop - s.start for s in geometry.bounding_box(mask)]) if mask.any() else 0
    coarse = max(1, math.ceil(math.sqrt(size / LARGEST)))
    # distances over millions of voxels take minutes: of a whole body they are taken on every second or third
    grid = (
        geometry.resampled_grid(daily, [s * k for s, k in zip(daily.GetSpacing(), (coarse, coarse, 1))])
        if coarse > 1
        else daily
    )
    there = sitk.GetArrayFromImage(geometry.resample(geometry.like(mask, daily, np.uint8), grid, "nearest")) > 0
    sd = sitk.GetArrayFromImage(sitk.Resample(sd_mm, grid, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32))
    member = geometry.like(
        volume_distribution.from_surface(there, sd[surfaces.surface(there)], grid.GetSpacing()), grid
    )
    inside = sitk.GetArrayFromImage(geometry.resample(member, daily))
    return volume_assessment.assess(name, inside, None, mask, None, daily, card, rule)


def of_segmentation(
    name: str,
    mean: np.ndarray,
    variance: np.ndarray,
    grid: sitk.Image,
    mask: np.ndarray,
    daily: sitk.Image,
    card: dict,
    rule: dict | None,
) -> Assessed:
    """Volume distribution and quality of a structure that was segmented directly.

    Args:
        name: of the structure.
        mean: of its probability over the samples, [z, y, x] on `grid`.
        variance: the same.
        grid: the working grid.
        mask: bool [z, y, x] on the grid of the daily CT.
        daily: the daily CT, for its grid.
        card: of the model, whose calibration of volumes counts.
        rule: how the card tidies the structure, or None.

    Returns:
        What is known of the structure.
    """
    p, sd = (
        sitk.GetArrayFromImage(
            sitk.Resample(geometry.like(a, grid), daily, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32)
        )
        for a in (mean, np.sqrt(variance.clip(0)))
    )
    return volume_assessment.assess(
        name, volumes.probability_of_being_inside(p, sd**2), p, mask, None, daily, card, rule
    )


def spread_about(mask: np.ndarray, sd: np.ndarray, grid: sitk.Image) -> sitk.Image:
    """The SD of a surface in every voxel of its grid: that of the nearest surface voxel.

    Args:
        mask: bool [z, y, x].
        sd: mm, at the surface voxels, in the order of `np.nonzero(surfaces.surface(mask))`.
        grid: of the mask.

    Returns:
        float32 on `grid`, mm.
    """
    edge = surfaces.surface(mask)
    values = np.zeros(mask.shape, np.float32)
    values[edge] = sd
    nearest = ndimage.distance_transform_edt(
        ~edge, tuple(grid.GetSpacing())[::-1], return_distances=False, return_indices=True
    )
    return geometry.like(values[tuple(nearest)], grid)

"""How far a deformation is from the truth: at points, or against a field that is known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
import torch

from ..core import geometry
from ..core.errors import InputError
from .field import axes, require_field, within
from .warp import sample_tensor


class ErrorSummary(NamedTuple):
    """Mean, 95th percentile and maximum of distances in mm, and their number."""

    mean: float
    p95: float
    maximum: float
    number: int

    @staticmethod
    def of(distances: np.ndarray) -> "ErrorSummary":
        return ErrorSummary(float(distances.mean()), float(np.percentile(distances, 95)), float(distances.max()), int(distances.size))


def transform_points(field: sitk.Image, points) -> np.ndarray:
    """Points of the fixed image (n × 3, mm, LPS) carried to the moving image: x + d(x), with d interpolated linearly."""
    points = np.asarray(points, np.float64).reshape(-1, 3)
    matrix, origin = axes(field)
    index = np.linalg.solve(matrix, (points - origin).T)
    array = np.ascontiguousarray(np.moveaxis(sitk.GetArrayFromImage(require_field(field)), -1, 0))
    sampled = sample_tensor(torch.from_numpy(array)[None], torch.from_numpy(index).reshape(1, 3, 1, 1, -1))
    return points + sampled.reshape(3, -1).T.numpy()


def target_registration_error(field: sitk.Image, fixed_points, moving_points) -> np.ndarray:
    """Distances (mm, n) between where `field` puts points of the fixed image and where they are in the moving one (n × 3, LPS).

    `ErrorSummary.of` sums them up. Raises `InputError` when there are not as many points of one as of the other, or none.
    """
    fixed, moving = (np.asarray(p, np.float64).reshape(-1, 3) for p in (fixed_points, moving_points))
    if len(fixed) != len(moving) or not len(fixed):
        raise InputError(f"there are {len(fixed)} points in the fixed and {len(moving)} in the moving image; give pairs.")
    return np.linalg.norm(transform_points(field, fixed) - moving, axis=1)


def field_error(field: sitk.Image, truth: sitk.Image, mask: np.ndarray | None = None) -> ErrorSummary:
    """The distance in mm between two deformations over the voxels of `mask` (bool [z, y, x]), or over all.

    Raises `InputError` when the two are on different grids or the mask does not fit or is empty.
    """
    if not geometry.same_grid(field, truth):
        raise InputError("the two deformations are on different grids; resample one of them first.")
    difference = sitk.GetArrayFromImage(require_field(field)) - sitk.GetArrayFromImage(require_field(truth))
    return ErrorSummary.of(within(np.linalg.norm(difference, axis=-1), mask, "the deformation"))

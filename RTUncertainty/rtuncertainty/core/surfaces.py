"""Distances between surfaces of structures, and how far a surface may move."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from .errors import InputError
from .geometry import bounding_box


class SurfaceDistance(NamedTuple):
    """Distances between two surfaces, mm.

    Attributes:
        mean: over the surface voxels of both.
        hausdorff95: 95th percentile, the larger of the two directions.
        mean_of_means: of the two directions' means (Elmahdy 2021, Eq. 10).
        hausdorff: the largest one (Eq. 11).
    """

    mean: float
    hausdorff95: float
    mean_of_means: float
    hausdorff: float


def surface(mask: np.ndarray) -> np.ndarray:
    """The voxels of a mask that have a neighbour (of six) outside, or lie at the image's edge.

    Args:
        mask: bool [z, y, x].

    Returns:
        bool [z, y, x].
    """
    return mask & ~ndimage.binary_erosion(mask)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice coefficient, 2·|a ∩ b| / (|a| + |b|) (Elmahdy 2021, Eq. 9).

    Args:
        a: mask.
        b: mask of the same shape.

    Returns:
        0 to 1; NaN when both are empty.
    """
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    size = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / size if size else float("nan")


def surface_distance(a: np.ndarray, b: np.ndarray, spacing) -> SurfaceDistance:
    """Distances between the surface voxels of two masks (Elmahdy 2021, Eqs. 10 and 11, and beside them the mean over
    both surfaces together and the 95th percentile).

    Args:
        a: bool [z, y, x].
        b: bool [z, y, x].
        spacing: (x, y, z), mm.

    Returns:
        mm; NaN when one of the masks is empty.

    Raises:
        InputError: masks of different shapes.
    """
    if a.shape != b.shape:
        raise InputError(
            f"two structures of {a.shape} and {b.shape} voxels cannot be compared; resample one of them first."
        )
    if not a.any() or not b.any():
        return SurfaceDistance(*[float("nan")] * 4)
    box = bounding_box(a | b, 1)
    # at the border of the box a structure may be cut by the image's edge: there it has a surface
    own, other = surface(a[box]), surface(b[box])
    sampling = tuple(spacing)[::-1]
    there = ndimage.distance_transform_edt(~other, sampling)[own]
    back = ndimage.distance_transform_edt(~own, sampling)[other]
    mean = (there.sum() + back.sum()) / (there.size + back.size)
    return SurfaceDistance(
        float(mean),
        float(max(np.percentile(there, 95), np.percentile(back, 95))),
        float((there.mean() + back.mean()) / 2),
        float(max(there.max(), back.max())),
    )


def normal_sd(covariance: np.ndarray, mask: np.ndarray, spacing) -> np.ndarray:
    """The SD of a displacement across the surface of a mask.

    Args:
        covariance: [6, z, y, x] (xx, yy, zz, xy, xz, yz), mm².
        mask: bool [z, y, x].
        spacing: (x, y, z), mm.

    Returns:
        mm, at the surface voxels in the order of `np.nonzero(surface(mask))`.
    """
    at = np.nonzero(surface(mask))
    smooth = ndimage.gaussian_filter(mask.astype(np.float32), 1.0)
    slope = np.stack([g[at] for g in np.gradient(smooth, *tuple(spacing)[::-1])][::-1])
    n = slope / np.maximum(np.linalg.norm(slope, axis=0), 1e-6)
    xx, yy, zz, xy, xz, yz = (c[at] for c in covariance)
    variance = (
        xx * n[0] ** 2 + yy * n[1] ** 2 + zz * n[2] ** 2 + 2 * (xy * n[0] * n[1] + xz * n[0] * n[2] + yz * n[1] * n[2])
    )
    return np.sqrt(np.maximum(variance, 0))


def threshold_sd(mean: np.ndarray, variance: np.ndarray, mask: np.ndarray, spacing) -> np.ndarray:
    """The SD of where a probability crosses one half, SD(p) / |∇p|, to first order.

    Where the probability is flat the crossing is anywhere: the slope is taken as at least 1 % per mm.

    Args:
        mean: of the probability over the samples, [z, y, x].
        variance: the same.
        mask: bool [z, y, x].
        spacing: (x, y, z), mm.

    Returns:
        mm, at the surface voxels in the order of `np.nonzero(surface(mask))`.
    """
    at = np.nonzero(surface(mask))
    slope = np.sqrt(sum(g[at] ** 2 for g in np.gradient(mean, *tuple(spacing)[::-1])))
    return np.sqrt(np.maximum(variance[at], 0)) / np.maximum(slope, 0.01)

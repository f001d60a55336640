"""Members of a distribution of synthetic CTs: mean and standard deviation with errors that are alike in neighbouring
voxels.

What the error of one voxel does to a dose is nothing; what the errors along a beam do depends on how far they go
together. Independent errors average out over some tens of voxels and give a band that is far too narrow; one error for
the whole image gives the widest. Here member = mean + SD × field, with a Gaussian random field of mean 0 and variance
1. On the five validation patients of `limb-t1-synct` the errors in units of their SD are correlated like `MEASURED`:
half of their variance is gone after 4 mm, a quarter goes on over centimetres, and a few percent are one error for the
whole image (`training/results/dose.md` has the curve beside this one). The field carries the whole predictive variance:
real dropout samples are as smooth as the network's masks, voxel by voxel, and their part in that variance is a few
percent.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

# (part of the variance, distance over which it goes together in mm): the part of 0 mm is the noise of single voxels
MEASURED = ((0.16, 0.0), (0.33, 3.0), (0.25, 9.0), (0.22, 25.0), (0.04, float("inf")))
# HU that a CT can hold
RANGE = (-1024.0, 3071.0)


def expected(distance_mm, parts=MEASURED):
    """The correlation of a field of such `parts` between places so many mm apart (more than 0)."""
    d = np.asarray(distance_mm, float)
    return sum(part * (1.0 if np.isinf(mm) else np.exp(-((d / mm) ** 2)) if mm > 0 else 0.0) for part, mm in parts)


def smooth_field(shape, spacing, correlation_mm: float | None, generator: np.random.Generator) -> np.ndarray:
    """A Gaussian random field [z, y, x] of mean 0, variance 1 and correlation exp(−d²/correlation²), float32; None: as
    `MEASURED`.

    spacing: (x, y, z) in mm. A correlation of 0 gives independent voxels, an infinite one a single number. The variance
    is 1 in the mean over fields, at the edges too.
    """
    if correlation_mm is None:
        return sum(np.float32(np.sqrt(part)) * smooth_field(shape, spacing, mm, generator) for part, mm in MEASURED)
    if np.isinf(correlation_mm):
        return np.full(shape, generator.standard_normal(), np.float32)
    # white noise through a Gaussian of sd s has the correlation exp(−d²/4s²)
    kernels = [_kernel(correlation_mm / 2 / s) for s in reversed(spacing)]
    wide = [n + len(k) - 1 for n, k in zip(shape, kernels)]
    field = generator.standard_normal(wide, np.float32)
    for axis, kernel in enumerate(kernels):
        half = len(kernel) // 2
        field = ndimage.correlate1d(field, kernel, axis)
        field = field[(slice(None),) * axis + (slice(half, half + shape[axis]),)]
    return field


def _kernel(sd: float) -> np.ndarray:
    """A Gaussian of `sd` voxels to 3.5 sd, whose squares sum to 1."""
    half = int(np.ceil(3.5 * sd))
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / max(sd, 1e-6)) ** 2)
    return kernel / np.sqrt((kernel**2).sum())


def field_members(
    mean: np.ndarray, sd: np.ndarray, spacing, samples: int, seed: int = 0, correlation_mm: float | None = None
) -> Iterator[np.ndarray]:
    """Members of a distribution of synthetic CTs, in antithetic pairs (a field and its negative), so that their mean is
    `mean`.

    Args:
        mean: HU [z, y, x].
        sd: HU [z, y, x].
        spacing: (x, y, z), mm.
        samples: how many.
        seed: the same seed gives the same members.
        correlation_mm: as of `smooth_field`.

    Yields:
        HU [z, y, x].
    """
    generator = np.random.default_rng(seed)
    error = np.zeros_like(mean)
    for number in range(samples):
        # the second of a pair is the first one's mirror image
        error = -error if number % 2 else sd * smooth_field(mean.shape, spacing, correlation_mm, generator)
        yield np.clip(mean + error, *RANGE)

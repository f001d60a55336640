"""Random fields that go together over space as the errors of synthetic CTs do; `dose.plan.samples` tells from where the
numbers are.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# (part of the variance, distance over which it goes together in mm): the part of 0 mm is the noise of single voxels
MEASURED = ((0.16, 0.0), (0.33, 3.0), (0.25, 9.0), (0.22, 25.0), (0.04, float("inf")))


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
        fields = (np.float32(np.sqrt(part)) * smooth_field(shape, spacing, mm, generator) for part, mm in MEASURED)
        return sum(fields, np.zeros(shape, np.float32))
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

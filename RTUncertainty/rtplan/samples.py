"""Members of a distribution of synthetic CTs: mean and standard deviation with errors that are alike in neighbouring voxels.

What the error of one voxel does to a dose is nothing; what the errors along a beam do depends on how far they go together. Independent
errors average out over some tens of voxels and give a band that is far too narrow; one error for the whole image gives the widest. Here
member = mean + sd × field, with a Gaussian random field of mean 0 and variance 1 whose correlation falls as exp(−d²/l²) with the distance.
On two validation patients of `limb-t1-synct` the errors in units of their sd fall off like this over the first centimetre with l of 4 to 9 mm, and
have a tail beyond; the default is above that. The field carries the whole predictive variance: real dropout samples are as smooth as
the network's masks, voxel by voxel, and their part in that variance is a few percent.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

CORRELATION_MM = 10.0
# HU that a CT can hold
RANGE = (-1024.0, 3071.0)


def smooth_field(shape, spacing, correlation_mm: float, generator: np.random.Generator) -> np.ndarray:
    """A Gaussian random field [z, y, x] of mean 0, variance 1 and correlation exp(−d²/correlation²), float32.

    spacing: (x, y, z) in mm. A correlation of 0 gives independent voxels, an infinite one a single number. The variance is 1 in the mean
    over fields, at the edges too.
    """
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
    return kernel / np.sqrt((kernel ** 2).sum())


def field_members(mean: np.ndarray, sd: np.ndarray, spacing, samples: int, seed: int = 0,
                  correlation_mm: float = CORRELATION_MM) -> Iterator[np.ndarray]:
    """Yields `samples` members [z, y, x] in HU, in antithetic pairs (a field and its negative), so that their mean is `mean`.

    mean, sd: HU; spacing: (x, y, z) in mm. The same seed gives the same members.
    """
    generator = np.random.default_rng(seed)
    for number in range(samples):
        # the second of a pair is the first one's mirror image
        error = -error if number % 2 else sd * smooth_field(mean.shape, spacing, correlation_mm, generator)
        yield np.clip(mean + error, *RANGE)

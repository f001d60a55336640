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

from rtuncertainty.uncertainty.fields import MEASURED, expected, smooth_field

__all__ = ["MEASURED", "RANGE", "expected", "field_members", "smooth_field"]
# HU that a CT can hold
RANGE = (-1024.0, 3071.0)


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

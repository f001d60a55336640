"""Whether a predictive SD finds the errors (sparsification) and whether its intervals hold what they promise.

Functions take one-dimensional arrays over the scored voxels of one patient, in HU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rtuncertainty.uncertainty import metrics

# nominal levels of the central intervals
LEVELS = tuple(k / 100 for k in range(10, 100, 5))
# parts of the voxels that are taken away
REMOVED = tuple(k / 100 for k in range(0, 100, 5))
Z_EDGES = tuple(k / 4 for k in range(-20, 21))


def interval_coverage(z: np.ndarray, levels=LEVELS) -> list[float]:
    """The share of z-scores inside the central Gaussian interval of each level; a voxel without z counts as outside.

    Args:
        z: [n].
        levels: 0 to 1 each.

    Returns:
        One share a level.
    """
    return list(metrics.coverage(z, levels).values())


def calibration_error(observed, levels=LEVELS) -> float:
    """Expected calibration error of intervals: the mean of |observed − nominal| coverage (Kuleshov 2018, unsquared).

    Args:
        observed: share at each level.
        levels: 0 to 1 each.

    Returns:
        0 to 1.
    """
    return float(np.abs(np.asarray(observed) - np.asarray(levels)).mean())


def z_histogram(z: np.ndarray) -> list[float]:
    """The share of z-scores in each bin of Z_EDGES; what lies beyond ±5 is in no bin."""
    finite = z[np.isfinite(z)]
    return (np.histogram(finite, Z_EDGES)[0] / max(1, finite.size)).tolist()


@dataclass
class Sparsification:
    """Sparsification (Ilg 2018) by MAE, relative to the MAE of all voxels.

    Attributes:
        mae: at each of `REMOVED`, the most uncertain voxels gone.
        oracle: the same, the largest errors gone.
        ause: mean over all parts of mae − oracle: 0 for a perfect ranking.
        ause_random: what an SD that knows nothing of the errors comes to.
    """

    mae: list[float]
    oracle: list[float]
    ause: float
    ause_random: float


def sparsification(error: np.ndarray, sd: np.ndarray, removed=REMOVED, seed: int = 0) -> Sparsification | None:
    """Sparsification of errors by an SD. The areas are exact: means over taking away 0, 1, … n − 1 voxels, not over the
    points of the curve.

    Args:
        error: [n], HU.
        sd: [n], HU.
        removed: parts at which the curve is given.
        seed: voxels of equal SD go in random order.

    Returns:
        The curve and its areas, or None where every error is 0.
    """
    size = np.abs(np.asarray(error, np.float64))
    if not size.any():
        return None
    order = np.random.default_rng(seed).permutation(size.size)
    order = order[np.argsort(sd[order], kind="stable")]
    kept = np.arange(1, size.size + 1) * size.mean()
    own, oracle = np.cumsum(size[order]) / kept, np.cumsum(np.sort(size)) / kept
    last = [max(0, math.ceil(round((1 - part) * size.size, 6)) - 1) for part in removed]
    return Sparsification(
        own[last].tolist(), oracle[last].tolist(), float((own - oracle).mean()), float((1 - oracle).mean())
    )

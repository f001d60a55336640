"""Volumes of structures with intervals, and the chance that a voxel belongs to a structure (Eaton-Rosen 2018, Sec.
2.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betainc

# a chance below this, whatever the distribution, counts as none
SURE = 0.0025


@dataclass
class Volume:
    """A structure's volume and its interval.

    Attributes:
        structure: its name.
        volume_ml: of the contour that is shown.
        lower_ml, upper_ml: NaN where not calibrated: samples alone say too little (`VolumeDistribution`).
        level: nominal, of the interval.
        calibrated: whether the model's card has a calibration for it.
    """

    structure: str
    volume_ml: float
    lower_ml: float
    upper_ml: float
    level: float
    calibrated: bool


def probability_of_being_inside(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """P(p > ½) for a foreground probability p, taken as a Beta distribution with its moments over the samples.

    A voxel without variance, or one that is `SURE`, counts as in or out by its mean; a variance at or beyond what a
    probability can have, m(1 − m), is a coin toss with mean m.

    Args:
        mean: any shape.
        variance: of the same shape.

    Returns:
        The same shape.

    Raises:
        ValueError: NaN or infinite moments.
    """
    mean, variance = np.clip(np.asarray(mean), 0.0, 1.0), np.asarray(variance)
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        raise ValueError("moments of a probability hold NaN or infinite values")
    out = (mean > 0.5).astype(np.float64)
    # P(p beyond ½) ≤ v / (v + (m − ½)²), Cantelli's inequality: most voxels of an image need no more than that
    unsure = np.nonzero((variance > 1e-9) & ((mean - 0.5) ** 2 * SURE < variance * (1 - SURE)))
    m, v = mean[unsure].astype(np.float64), variance[unsure].astype(np.float64)
    largest = m * (1 - m)
    coin = v >= 0.999 * largest
    v = np.where(coin, 0.5 * largest, v)
    nu = np.divide(largest, v, out=np.full(m.shape, 2.0), where=v > 0) - 1
    out[unsure] = np.where(coin, m, 1.0 - betainc(m * nu, (1 - m) * nu, 0.5))
    return out

"""Volumes of structures with intervals (Eaton-Rosen 2018, Sec. 2.2, voxels fully correlated)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betainc

from .structures import connected_to

COLUMNS = ("structure", "volume_ml", "lower_ml", "upper_ml", "level", "calibrated")


@dataclass
class Volume:
    """A structure's volume and its interval in ml at a nominal `level`; `calibrated` as the model's card says."""

    structure: str
    volume_ml: float
    lower_ml: float
    upper_ml: float
    level: float
    calibrated: bool


def probability_of_being_inside(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """P(p > ½) for a foreground probability p with these moments over the samples, taken as a Beta distribution.

    Same shapes in and out. A voxel without spread counts as in or out by its mean; a variance at or beyond what a
    probability can have, m(1 − m), is a coin toss with mean m.
    """
    mean = np.clip(np.asarray(mean, np.float64), 0.0, 1.0)
    out = (mean > 0.5).astype(np.float64)
    largest = mean * (1 - mean)
    coin = (largest > 1e-9) & (variance >= 0.999 * largest)
    out[coin] = mean[coin]
    beta = (largest > 1e-9) & (variance > 1e-9) & ~coin
    m, v = mean[beta], np.asarray(variance, np.float64)[beta]
    nu = m * (1 - m) / v - 1
    out[beta] = 1.0 - betainc(m * nu, (1 - m) * nu, 0.5)
    return out


def volume_interval(name, mean, variance, labelled: np.ndarray, ml_per_voxel: float, level: float, calibrated=False) -> Volume:
    """The volume of `labelled` voxels with the interval whose ends are the volumes of the nested quantile contours.

    The contour of percentile q holds the voxels whose q-quantile of the probability lies above ½, which is where
    P(p > ½) > 1 − q. `mean` and `variance` are the sampled foreground probability's moments [z, y, x]. Where the
    structure is only some of the pieces of the likely voxels (`structures.tidy`), so are the contours.
    """
    inside = probability_of_being_inside(mean, variance)
    tail = (1 - level) / 2
    volume = float(labelled.sum()) * ml_per_voxel
    lower = float(((inside > 1 - tail) & labelled).sum()) * ml_per_voxel
    upper = float(connected_to(inside > tail, labelled).sum()) * ml_per_voxel
    return Volume(name, volume, min(lower, volume), max(upper, volume), level, calibrated)


def table(volumes: list[Volume]) -> str:
    """`volumes.csv` as text."""
    rows = [",".join(COLUMNS)]
    for v in volumes:
        rows.append(f"{v.structure},{v.volume_ml:.3f},{v.lower_ml:.3f},{v.upper_ml:.3f},{v.level:g},{'yes' if v.calibrated else 'no'}")
    return "\n".join(rows) + "\n"

"""CV+ intervals of volumes from the folds of a cross-fitted study (Barber, Candès, Ramdas & Tibshirani 2021, Sec. 3;
cross-conformal prediction, Vovk 2015).

Every patient of the study was scored by the checkpoint that has not seen him: s = log(true volume / its volume) / u,
with a unit u that may follow the patient (`unit`). For a new patient checkpoint k says the volume m_k and the unit u_k;
each old patient i, of fold k(i), puts the volume m_k(i)·exp(u_k(i)·s_i) forward. The interval of level 1 − α reaches
from the ⌊α/2·(n + 1)⌋-th smallest of these to the ⌈(1 − α/2)·(n + 1)⌉-th: its two margins are learnt apart, so a
network that draws too large is corrected.

It holds a new patient's volume with a probability of 1 − 2α − √(2/n) at the least (their Theorem 4, for each side α/2),
and in practice of about 1 − α, if patients are exchangeable. Several rows of a patient (structures of a pooled fit,
scans) share his weight (Lee, Barber & Willett 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .volume_distribution import VolumeDistribution

# what may scale a score: nothing, the distribution's own width, what the contour lacks in expected Dice, the entropy
# along its surface
UNITS = ("none", "width", "dice", "entropy")
# the units' limits: nobody is surer of a volume than of so much, and what is worse than the most is lost anyway
LIMITS = {"width": (0.1, 1.5), "dice": (0.03, 0.6), "entropy": (0.05, 0.6)}
# c of log(v + c), ml, which keeps a volume of 0 finite
OFFSET_ML = 0.01


class MemberVolume(NamedTuple):
    """What one checkpoint says of a structure: its `distribution` of volume, and the expected Dice (before any
    calibration) and surface entropy (nats) of its contour.
    """

    distribution: VolumeDistribution
    expected_dice: float = math.nan
    surface_entropy: float = math.nan


def unit(member: MemberVolume, scale: str) -> float:
    """u of one of `UNITS`; the most that there is where the contour has no such number."""
    if scale == "none":
        return 1.0
    low, high = LIMITS[scale]
    if scale == "width":
        ends = np.log(np.array([member.distribution.quantile(q) for q in (5, 95)]) + OFFSET_ML)
        value = float(ends[1] - ends[0])
    else:
        value = 1 - member.expected_dice if scale == "dice" else member.surface_entropy
    return float(np.clip(value, low, high)) if math.isfinite(value) else high


def score(member: MemberVolume, true_ml: float, scale: str) -> float:
    """s of a patient whose true volume is known."""
    return math.log((true_ml + OFFSET_ML) / (member.distribution.volume_ml + OFFSET_ML)) / unit(member, scale)


def upper(values, weights, level: float) -> float:
    """The smallest value that so many of n + 1 patients do not exceed; infinite for too few patients.

    weights: of each value 1 over the number of rows of its patient; of equal ones ⌈level·(n + 1)⌉ is counted.
    """
    values, weights = np.asarray(values, float), np.asarray(weights, float)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / (weights.sum() + 1)
    at = int(np.searchsorted(reached, level - 1e-9))
    return float(values[order][at]) if at < values.size else math.inf


def flattened(
    scores: Sequence[Sequence[Sequence[float]]], weights: Sequence[Sequence[float]] = ()
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(checkpoint, score, weight) of every row, from the scores by checkpoint, by patient, of each of his rows.

    weights: of each patient, by checkpoint (Barber, Candès, Ramdas & Tibshirani 2023, "Conformal prediction beyond
    exchangeability": patients of another kind than the new one count for less than 1); none: 1 each.
    """
    every = [
        (k, s, (weights[k][i] if weights else 1.0) / len(rows))
        for k, patients in enumerate(scores)
        for i, rows in enumerate(patients)
        for s in rows
    ]
    found = np.array(every, float).reshape(-1, 3)
    return found[:, 0].astype(int), found[:, 1], found[:, 2]


def interval(
    members: Sequence[MemberVolume], rows: tuple[np.ndarray, np.ndarray, np.ndarray], scale: str, level: float
) -> tuple[float, float]:
    """(lower, upper) in ml; (0, infinite) where the patients are too few for the level.

    Args:
        members: what each checkpoint says of the new patient; a single one stands for all.
        rows: of the old patients, `flattened`.
        scale: one of `UNITS`.
        level: 0 to 1.
    """
    which, scores, weights = rows
    centre = np.array([math.log(m.distribution.volume_ml + OFFSET_ML) for m in members])
    by = np.array([unit(m, scale) for m in members])
    if len(members) == 1:
        which = np.zeros_like(which)
    values, side = centre[which] + by[which] * scores, (1 + level) / 2
    low, high = -upper(-values, weights, side), upper(values, weights, side)
    return max(0.0, math.exp(low) - OFFSET_ML), math.exp(high) - OFFSET_ML if high < 700 else math.inf

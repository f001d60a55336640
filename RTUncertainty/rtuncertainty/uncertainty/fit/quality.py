"""From a number told without a truth to the true Dice: an isotonic map with an interval, and how well it tells bad
contours.

All functions take arrays over contours: the predictor, the true Dice, and the patient of each.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from scipy import optimize, stats

from ..quality import QualityCalibration
from . import conformal

# a contour below this Dice is a bad one
BAD = 0.85
LEVEL = 0.9
# fewer contours than this say too little for a map
LEAST = 10
# fewer patients than this are too few to draw from
DRAWN = 5


def isotonic(x, y, weight) -> tuple[np.ndarray, np.ndarray]:
    """(knots, values): the rising step function of least weighted squares (SciPy), joined linearly.

    Each block of equal values is held by its first and last x.
    """
    x, same = np.unique(np.asarray(x, float), return_inverse=True)  # equal x are one, whatever their y
    weights = np.bincount(same, weight)
    found = optimize.isotonic_regression(np.bincount(same, np.multiply(weight, y)) / weights, weights=weights)
    ends = np.union1d(found.blocks[:-1], found.blocks[1:] - 1)
    return x[ends], found.x[ends]


def _usable(predictor, dice, patients):
    predictor, dice, patients = np.asarray(predictor, float), np.asarray(dice, float), np.asarray(patients)
    kept = np.isfinite(predictor) & np.isfinite(dice)
    return predictor[kept], dice[kept], patients[kept]


def held_out(predictor, dice, patients) -> np.ndarray:
    """The mapped predictor of every contour, by a map fitted on all other patients."""
    found = np.full(len(dice), math.nan)
    for name in dict.fromkeys(patients.tolist()):
        mine = patients == name
        knots, values = isotonic(predictor[~mine], dice[~mine], conformal.weights(patients[~mine]))
        found[mine] = np.interp(predictor[mine], knots, values)
    return found


def fit(predictor, dice, patients, level: float = LEVEL) -> QualityCalibration | None:
    """The map on all contours; its interval has the conformal quantiles of the residuals of patients left out, (1 −
    level)/2 a side.

    None for fewer than `LEAST` contours or three patients, or where patients are too few for the level.
    """
    predictor, dice, patients = _usable(predictor, dice, patients)
    if len(dice) < LEAST or len(set(patients.tolist())) < 3:
        return None
    residual = dice - held_out(predictor, dice, patients)
    below, above = (conformal.quantile(sign * residual, patients, (1 + level) / 2) for sign in (-1, 1))
    if not math.isfinite(max(below, above)):
        return None
    knots, values = isotonic(predictor, dice, conformal.weights(patients))
    return QualityCalibration(
        tuple(knots.tolist()),
        tuple(values.tolist()),
        -max(0.0, below),
        max(0.0, above),
        level,
        len(dice),
        len(set(patients.tolist())),
        {
            k: None if isinstance(v, float) and math.isnan(v) else round(v, 4)
            for k, v in scores(predictor, dice, patients).items()
        },
    )


def auroc(score, bad) -> float:
    """The probability that a bad contour has a lower score than a good one, ties half (Mann & Whitney); NaN without
    both kinds.
    """
    score, bad = np.asarray(score, float), np.asarray(bad, bool)
    n, m = int(bad.sum()), int((~bad).sum())
    if not n or not m:
        return math.nan
    ranks = stats.rankdata(score)
    return float(1 - (ranks[bad].sum() - n * (n + 1) / 2) / (n * m))


def auroc_interval(
    score, bad, patients, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap interval of `auroc`: patients are drawn with replacement, each with all of its contours.

    NaN where it says nothing: fewer than `DRAWN` patients, fewer than three bad or good contours, one kind only in more
    than half of the draws, or a perfect order (every draw of a perfect order is perfect, however few contours it rests
    on).
    """
    score, bad, patients = np.asarray(score, float), np.asarray(bad, bool), np.asarray(patients)
    names = np.unique(patients)
    if len(names) < DRAWN or min(bad.sum(), (~bad).sum()) < 3:
        return math.nan, math.nan
    of = [np.flatnonzero(patients == n) for n in names]

    def drawn(index):
        rows = np.concatenate([of[int(i)] for i in index])
        return auroc(score[rows], bad[rows])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of draws without a bad contour, which are counted below
        found = stats.bootstrap(
            (np.arange(len(names)),),
            drawn,
            n_resamples=resamples,
            vectorized=False,
            method="percentile",
            random_state=np.random.default_rng(seed),
        ).bootstrap_distribution
    known = found[np.isfinite(found)]
    if known.size < resamples / 2 or np.ptp(known) == 0:
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def spearman(score, dice) -> float:
    """Rank correlation; NaN for fewer than three contours or a constant."""
    if len(dice) < 3 or np.ptp(score) == 0 or np.ptp(dice) == 0:
        return math.nan
    return float(stats.spearmanr(score, dice).statistic)


def scores(predictor, dice, patients, bad: float = BAD) -> dict:
    """Of a predictor that rises with the Dice: spearman, auroc of "Dice below `bad`", and the mean absolute error of
    the cross-validated map (mae) beside that of the mean Dice of the other patients (mae_of_mean)."""
    predictor, dice, patients = _usable(predictor, dice, patients)
    out = {
        "spearman": spearman(predictor, dice),
        "auroc": auroc(predictor, dice < bad),
        "bad": int((dice < bad).sum()),
        "n": len(dice),
    }
    if len(set(patients.tolist())) > 1:
        means = np.array([dice[patients != p].mean() for p in patients])
        out |= {
            "mae": float(np.abs(dice - held_out(predictor, dice, patients)).mean()),
            "mae_of_mean": float(np.abs(dice - means).mean()),
        }
    return out

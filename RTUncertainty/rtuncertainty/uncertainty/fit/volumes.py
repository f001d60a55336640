"""Do intervals of volumes hold what they promise, and what makes them: fits of
`rtuncertainty.uncertainty.volume_calibration`.

The unit is a row: one structure on one scan, the distribution of its volume as a network gave it (uncalibrated), and
its true volume. Every score of a calibration is of a patient on whom it was not fitted (`leave_one_out`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from scipy import optimize, stats

from .. import cross_conformal
from ..cross_conformal import MemberVolume
from ..volume_calibration import (
    CONFORMAL,
    CV_PLUS,
    POOLED,
    SHOWN,
    Group,
    VolumeCalibration,
    limits,
    log_ratio,
    margin_to,
    needed,
    own_width,
)
from ..volume_distribution import PERCENTILES, VolumeDistribution
from . import conformal
from .split import split


@dataclass(frozen=True)
class VolumeRow:
    """One structure on one scan. `ml`: its volume at each of `PERCENTILES`, before any calibration; `true_ml`: as
    drawn.

    `case`: the scan, where a patient has several. `present`: whether the patient has (or was drawn) the structure at
    all; rows without are never calibrated on. `dice`: of the contour with the truth, beside what may tell it without a
    truth: `expected_dice`, `surface_entropy` (nats), `rtuncertainty.uncertainty.quality`; NaN where unknown.
    """

    network: str
    patient: str
    structure: str
    ml: tuple[float, ...]
    true_ml: float
    present: bool = True
    case: str = ""
    dice: float = math.nan
    expected_dice: float = math.nan
    surface_entropy: float = math.nan
    fold: int = -1
    # the same percentiles of the sum of probabilities (`volume_distribution.of_sums`); none of earlier versions
    sums_ml: tuple[float, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "sums_ml", tuple(self.sums_ml or ()))
        if len(self.ml) != len(PERCENTILES):
            raise ValueError(
                f"{self.patient}, {self.structure}: {len(self.ml)} volumes for {len(PERCENTILES)} percentiles"
            )

    @cached_property
    def distribution(self) -> VolumeDistribution:
        """The distribution that `ml` tabulates."""
        return VolumeDistribution(self.structure, PERCENTILES, tuple(self.ml))

    @property
    def member(self) -> MemberVolume:
        """What an interval may be made of: all but the truth."""
        return MemberVolume(self.distribution, self.expected_dice, self.surface_entropy)


# levels whose margins a conformal calibration stores: those of tables, curves and percentiles
LEVELS = (*(round(0.05 * k, 2) for k in range(1, 20)), 0.68, 0.98, 0.99)
# what is asked of a calibration, see `own_fit`
ASKED = (0.5, 0.8, 0.9, 0.95)


def usable(rows: list[VolumeRow]) -> list[VolumeRow]:
    """Those that can be calibrated on: the structure is there, and it was found. Whether it was found is known without
    a truth, so the promise of an interval holds for all that are."""
    return [r for r in rows if r.present and r.distribution.volume_ml > 0]


def own_fit(patients: int, method: str = "conformal") -> int:
    """From so many patients on a structure has a fit of its own: when that costs no level that all structures pooled
    would reach.
    """
    return max((needed(method, level) for level in ASKED if needed(method, level) <= patients), default=1)


def interval_score(lower, upper, truth, level: float) -> np.ndarray:
    """The interval score of a central interval (Gneiting & Raftery 2007, Eq. 43; Winkler 1972), over the true volume:
    its width, and 2/α of what the truth lies outside. Smaller is better.
    """
    lower, upper, truth = (np.asarray(v, float) for v in (lower, upper, truth))
    outside = np.maximum(lower - truth, 0) + np.maximum(truth - upper, 0)
    return (upper - lower + 2 / (1 - level) * outside) / truth


def fit_cv_plus(rows: list[VolumeRow], unit: str, checkpoints: int) -> Group:
    """The scores of all rows by checkpoint and patient, see `cross_conformal`."""
    scores: list[dict[str, list[float]]] = [{} for _ in range(checkpoints)]
    for r in rows:
        scores[r.fold].setdefault(r.patient, []).append(cross_conformal.score(r.member, r.true_ml, unit))
    return Group(len(rows), len({r.patient for r in rows}), scores=[list(fold.values()) for fold in scores])


def chosen_unit(rows: list[VolumeRow], level: float = 0.9, count: int = 10) -> str:
    """Which of `cross_conformal.UNITS` has the best interval score on patients left out; "none" unless another one is
    better by more than the standard error of the difference over patients.
    """
    patients = sorted({r.patient for r in rows})
    if len(patients) < 2 * needed(CV_PLUS, level):
        return "none"
    sides = [set(split(patients, count, k)[1]) for k in range(count)]
    found = {}
    for unit in cross_conformal.UNITS:
        by_patient: dict[str, list[float]] = {}
        for out in sides:
            fitted = _cv_plus([r for r in rows if r.patient not in out], None, unit)
            for r in rows:
                if r.patient in out:
                    ends = fitted.interval(r.distribution, level, members=(r.member,))
                    s = interval_score(ends.lower, ends.upper, r.true_ml, level)
                    by_patient.setdefault(r.patient, []).append(float(s))
        found[unit] = np.array([np.mean(by_patient[p]) for p in patients])
    best = min(found, key=lambda u: found[u].mean())
    gain = found["none"] - found[best]
    return best if gain.mean() > gain.std(ddof=1) / math.sqrt(len(gain)) else "none"


def _cv_plus(rows: list[VolumeRow], least: int | None, unit: str | None) -> VolumeCalibration:
    if any(r.fold < 0 for r in rows):
        raise ValueError("cv_plus takes the rows of a bundle of several folds, each patient's by one checkpoint")
    count = 1 + max(r.fold for r in rows)
    unit = unit or chosen_unit(rows)
    groups = {POOLED: fit_cv_plus(rows, unit, count)}
    least = max(2, own_fit(groups[POOLED].patients, CV_PLUS) if least is None else least)
    names = list(dict.fromkeys(r.structure for r in rows))
    for name in names if len(names) > 1 else []:
        mine = [r for r in rows if r.structure == name]
        if len({r.patient for r in mine}) >= least:
            groups[name] = fit_cv_plus(mine, unit, count)
    return VolumeCalibration(CV_PLUS, groups, unit=unit)


def _log_ratios(rows: list[VolumeRow]) -> tuple[np.ndarray, np.ndarray]:
    """(x of the tabulated volumes [n, percentiles], x of the true volumes [n])."""
    medians = [r.distribution.volume_ml for r in rows]
    return np.stack([log_ratio(r.ml, m) for r, m in zip(rows, medians)]), np.array(
        [float(log_ratio(r.true_ml, m)) for r, m in zip(rows, medians)]
    )


def positions(x: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Where truths [n] lie in distributions x [n, percentiles], as standard normal scores; beyond the table by its last
    slope.

    Normal tails: the table ends at 0.5 and 99.5 %, and a truth far outside must still tell how far.
    """
    z = stats.norm.ppf(np.array(PERCENTILES) / 100)
    # a distribution without spread has every truth at its far end; a slope keeps that finite
    x = x + 1e-6 * z
    k = np.clip((x < truth[:, None]).sum(1) - 1, 0, len(z) - 2)
    rows = np.arange(len(x))
    return z[k] + (truth - x[rows, k]) * (z[k + 1] - z[k]) / (x[rows, k + 1] - x[rows, k])


def fit_log_affine(rows: list[VolumeRow]) -> Group:
    """Shift and scale with which the truths' percentiles are uniform: least Cramér–von Mises distance, every patient
    weighing the same.

    Raises `ValueError` when no distribution has a spread: there is nothing to scale.
    """
    x, truth = _log_ratios(rows)
    if np.ptp(x, axis=1).max() < 1e-6:
        raise ValueError("no volume has a spread, so there is nothing to scale; use the conformal calibration")
    weight = conformal.weights([r.patient for r in rows])

    def distance(parameters):
        u = stats.norm.cdf(positions(x, (truth - parameters[1]) / np.exp(parameters[0])))
        order = np.argsort(u)
        w = weight[order]
        return float((w * (u[order] - np.cumsum(w) + w / 2) ** 2).sum())

    starts = [(s, b) for s in np.linspace(-2, 4, 25) for b in (0.0, float(np.median(truth)))]
    best = optimize.minimize(
        distance,
        min(starts, key=distance),
        method="Nelder-Mead",
        options={"xatol": 1e-4, "fatol": 1e-9, "maxiter": 400},
    )
    return Group(len(rows), len({r.patient for r in rows}), float(best.x[1]), float(np.exp(np.clip(best.x[0], -3, 5))))


def _at(ml: np.ndarray, percentile: float) -> np.ndarray:
    """`VolumeDistribution.quantile` of many [n, percentiles] at once."""
    k = int(np.clip(np.searchsorted(PERCENTILES, percentile) - 1, 0, len(PERCENTILES) - 2))
    part = np.clip((percentile - PERCENTILES[k]) / (PERCENTILES[k + 1] - PERCENTILES[k]), 0, 1)
    return (1 - part) * ml[:, k] + part * ml[:, k + 1]


def fit_conformal(rows: list[VolumeRow], usual: dict | None = None, scaled: bool = False, shown: bool = False) -> Group:
    """The margins of all `LEVELS` that so many patients allow; scaled: in units of each distribution's own width;
    shown: from the shown contour's volume. `usual`: see `fit`.
    """
    patients, margins = [r.patient for r in rows], {}
    _, truth = _log_ratios(rows)
    ml, medians = np.array([r.ml for r in rows]), np.array([r.distribution.volume_ml for r in rows])
    unit = own_width(_at(ml, 5), _at(ml, 95)) if scaled else 1.0
    least, most = np.array([limits(usual or {}, r.structure, m) for r, m in zip(rows, medians)]).T
    for level in LEVELS:
        low, high = (log_ratio(_at(ml, 50 + side * 50 * level), medians) * (not shown) for side in (-1, 1))
        margin = conformal.quantile(
            np.maximum(margin_to(-low, -truth, -least), margin_to(high, truth, most)) / unit, patients, level
        )
        if math.isfinite(margin):
            margins[level] = margin
    return Group(len(rows), len(set(patients)), margins=margins)


def fit(
    rows: list[VolumeRow], method: str, least: int | None = None, usual: dict[str, tuple[float, float]] | None = None
) -> VolumeCalibration:
    """The calibration by `method` on all `usable` rows; structures with `least` patients (by default `own_fit`) get
    their own.

    `usual`: (least, most) ml that training patients had, by structure, for the conformal methods.

    Raises `ValueError` for no such row, and as the method does.
    """
    rows = usable(rows)
    if method == "none":
        return VolumeCalibration()
    if not rows:
        raise ValueError("no structure is present and found in any row: nothing can be calibrated")
    if method == CV_PLUS:
        return _cv_plus(rows, least, None)
    usual = dict(usual or {}) if method in (*CONFORMAL, *SHOWN) else {}
    methods: dict[str, Callable] = {
        "log_affine": fit_log_affine,
        "conformal": partial(fit_conformal, usual=usual),
        "conformal_scaled": partial(fit_conformal, usual=usual, scaled=True),
        "conformal_shown": partial(fit_conformal, usual=usual, shown=True),
        "conformal_shown_scaled": partial(fit_conformal, usual=usual, scaled=True, shown=True),
    }
    one = methods[method]
    groups = {POOLED: one(rows)}
    names = list(dict.fromkeys(r.structure for r in rows))
    least = max(2, own_fit(groups[POOLED].patients) if least is None else least)
    for name in names if len(names) > 1 else []:
        mine = [r for r in rows if r.structure == name]
        if len({r.patient for r in mine}) >= least:
            try:
                groups[name] = one(mine)
            except ValueError:
                pass  # nothing to scale in this structure: the pooled fit serves it
    return VolumeCalibration(method, groups, usual)

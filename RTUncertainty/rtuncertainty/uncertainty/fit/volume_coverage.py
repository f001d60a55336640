"""How often intervals of volumes hold the truth, and how wide they are, for patients on whom nothing was fitted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..volume_calibration import CV_PLUS, METHODS, VolumeCalibration
from ..volume_distribution import PERCENTILES
from . import volume_ranges
from . import volumes as volume_calibration
from .split import split
from .volumes import VolumeRow

LEVELS = tuple(round(0.05 * k, 2) for k in range(2, 20))
BINS = 10
ALL = "all"
UNINFORMED = "uninformed"


@dataclass
class Coverage:
    """Of some rows: `coverage`, median `width` (over the shown contour's volume) and mean interval `score` (over the
    true volume, `volumes.interval_score`) by nominal level; `by_patient`: at 90 %, of each patient the share of his
    structures whose interval holds; and the share of truths in each tenth of the percentiles (`pit`; a tenth each where
    the distribution is right)."""

    n: int
    patients: int
    coverage: dict[float, float] = field(default_factory=dict)
    width: dict[float, float] = field(default_factory=dict)
    score: dict[float, float] = field(default_factory=dict)
    by_patient: list[float] = field(default_factory=list)
    pit: list[float] = field(default_factory=list)

    @property
    def error(self) -> float:
        """Mean distance of observed from nominal coverage over the levels (expected calibration error)."""
        return float(np.mean([abs(c - level) for level, c in self.coverage.items()])) if self.coverage else math.nan


def folds(rows: list[VolumeRow], count: int = 10) -> list[tuple[list[VolumeRow], list[VolumeRow]]]:
    """(others, left out) for each fold of patients, dealt by their names; rows of one patient stay together.

    Raises `ValueError` for fewer than two patients.
    """
    names = sorted({r.patient for r in rows})
    if len(names) < 2:
        raise ValueError("leaving patients out takes at least two of them")
    count = min(count, len(names))
    sides = [set(split(names, count, k)[1]) for k in range(count)]
    return [([r for r in rows if r.patient not in out], [r for r in rows if r.patient in out]) for out in sides]


def cross_validated(
    rows: list[VolumeRow], method: str, count: int = 10, training: dict[str, list[float]] | None = None
):
    """[(row, its `VolumeCalibration`)] of every usable row (`volume_calibration.usable`), fitted on other patients.

    training: volumes (ml) of the training patients by structure, if known. Raises `ValueError` as `fit` does.
    """
    rows = volume_calibration.usable(rows)
    if method == "none":
        return [(r, VolumeCalibration()) for r in rows]
    found, usual = [], volume_ranges.ends(training)
    for others, left_out in folds(rows, count):
        calibration = volume_calibration.fit(others, method, usual=usual)
        found += [(r, calibration) for r in left_out]
    return found


def uninformed(volumes: list[float], level: float) -> tuple[float, float]:
    """The interval of one who knows the organ but not the image: quantiles of known volumes in ml."""
    low, high = np.quantile(volumes, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class _Interval:
    """What is told of a row: the interval [levels, 2] at each of LEVELS, and volumes at PERCENTILES (None where
    there is none).
    """

    row: VolumeRow
    ends: np.ndarray
    ml: list


def _intervals(rows, method, training, count) -> list[_Interval]:
    """Of every usable row; a row without any uninformed volume is left out."""
    if method != UNINFORMED:
        return [
            _Interval(
                r,
                np.array([c.interval(r.distribution, level, members=(r.member,))[:2] for level in LEVELS]),
                list(r.ml) if method == "none" else c.quantiles(r.distribution, members=(r.member,)),
            )
            for r, c in cross_validated(rows, method, count, training)
        ]
    found = []
    for others, left_out in folds(volume_calibration.usable(rows), count):
        for r in left_out:
            known = (training or {}).get(r.structure) or [o.true_ml for o in others if o.structure == r.structure]
            if known:
                found.append(
                    _Interval(
                        r,
                        np.array([uninformed(known, level) for level in LEVELS]),
                        list(np.quantile(known, np.array(PERCENTILES) / 100)),
                    )
                )
    return found


def _percentile(true_ml: float, ml: list) -> float:
    """Where a truth lies in tabulated volumes, 0 to 1; percentiles without a volume are left out."""
    known = [(v, q / 100) for v, q in zip(ml, PERCENTILES) if v is not None]
    if not known:
        return math.nan
    volumes, at = zip(*known)
    low, high = (
        np.interp(true_ml, volumes, at, 0, 1),
        1 - np.interp(-true_ml, [-v for v in volumes[::-1]], [1 - q for q in at[::-1]], 0, 1),
    )
    return float(low + high) / 2


def evaluate(
    rows: list[VolumeRow], training: dict[str, list[float]] | None = None, count: int = 10
) -> dict[str, dict[str, Coverage]]:
    """{method: {"all" or structure: `Coverage`}} of one network, cross-validated by patient; "uninformed" is among the
    methods.

    training: volumes (ml) of the training patients by structure, for the conformal intervals and the uninformed one;
    without them that takes those of the other validation patients. A method that cannot be fitted (no spread at all) is
    left out. Structures that are not there or were not found do not count.
    """
    found = {}
    for method in ("none", *METHODS, CV_PLUS, UNINFORMED):
        try:
            intervals = _intervals(rows, method, training, count)
        except ValueError:
            continue
        names = list(dict.fromkeys(t.row.structure for t in intervals))
        found[method] = {
            name: _coverage([t for t in intervals if name in (ALL, t.row.structure)]) for name in [ALL, *names]
        }
    return found


def _coverage(intervals: list[_Interval]) -> Coverage:
    out = Coverage(len(intervals), len({t.row.patient for t in intervals}))
    if not intervals:
        return out
    ends, truth, median = (
        np.stack([t.ends for t in intervals]),
        np.array([t.row.true_ml for t in intervals]),
        np.array([t.row.distribution.volume_ml for t in intervals]),
    )
    inside = (ends[..., 0] - 1e-9 <= truth[:, None]) & (truth[:, None] <= ends[..., 1] + 1e-9)
    out.coverage = dict(zip(LEVELS, inside.mean(0).tolist()))
    out.width = dict(zip(LEVELS, np.median((ends[..., 1] - ends[..., 0]) / median[:, None], axis=0).tolist()))
    scored = [
        volume_calibration.interval_score(ends[:, k, 0], ends[:, k, 1], truth, level).mean()
        for k, level in enumerate(LEVELS)
    ]
    out.score = dict(zip(LEVELS, map(float, scored)))
    names, at_90 = np.array([t.row.patient for t in intervals]), inside[:, LEVELS.index(0.9)]
    out.by_patient = [float(at_90[names == n].mean()) for n in dict.fromkeys(names.tolist())]
    at = np.array([_percentile(t.row.true_ml, t.ml) for t in intervals])
    at = at[np.isfinite(at)]
    out.pit = (np.histogram(at, BINS, (0, 1))[0] / max(1, at.size)).tolist()
    return out

"""Calibrated intervals of volumes: what a card's `calibration.volumes` does to a `VolumeDistribution` (Eaton-Rosen
2018, Sec. 2.2).

All methods work on x = log((v + c) / (m + c)), the logarithm of a volume v over the shown contour's volume m (c keeps a
volume of 0 finite), so an interval stretches by factors and never reaches below 0.

log_affine: x → shift + scale·x, fitted so that the percentiles at which true volumes lie are uniform
(probability-integral transform). The paper's affine map of percentile levels cannot reach beyond the samples; one of
the volumes can.

conformal: conformalised quantile regression (Romano, Patterson & Candès 2019): both ends of the interval of a level
move out by a margin in x, the level's conformal quantile of max(low − x, x − high) over validation cases. Symmetric
(their Theorem 1): the asymmetric one (Theorem 2) needs twice the cases for a level and is wider. The margin is the same
for every structure and patient: a network that is sure of everything gets an interval too. The interval holds the true
volume of a new patient with at least the promised probability, whatever the network, if patients are exchangeable (and
the structure is there and was found).

conformal_scaled: the same with a margin in units of the distribution's own width (its 90 % interval in x, from
`LEAST_WIDTH` to `MOST_WIDTH`), so that one contour that was missed, and of which the network was unsure, does not widen
those of which it was sure (CQR-m of Kivaranovic 2020, CQR-r of Sesia & Candès 2020, whom it did not help; here it
does). The promise is the same.

conformal_shown, conformal_shown_scaled: the same with both ends at the shown contour's volume, not at those of the
distribution: the margin, in x or in units of the own width, is all of the interval. For a distribution that says which
volumes are less certain than others, but is far too wide: that of a deformation, in which the whole surface moves in or
out at once.

cv_plus: of a bundle of several folds, see `cross_conformal`; what a card says of its promise is `GUARANTEE`.

Where the card knows which volumes of a structure patients have (`usual`: the least and the most that training patients
had), the part of a margin that lies beyond them counts for `PACE` only: nobody's mandible holds 600 ml. The intervals
of a level still grow with the margin without end, so the promise holds as before (nested conformal prediction, Gupta,
Kuchibhotla & Ramdas 2022).

The fit is fit/volumes.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from . import cross_conformal
from .cross_conformal import OFFSET_ML, MemberVolume
from .volume_distribution import VolumeDistribution

CV_PLUS = "cv_plus"
METHODS = ("log_affine", "conformal", "conformal_scaled")
# those that promise their level whatever the network
CONFORMAL = METHODS[1:]
SHOWN = ("conformal_shown", "conformal_shown_scaled")
GUARANTEE = {
    **dict.fromkeys(
        (*CONFORMAL, *SHOWN),
        "holds a new patient's volume with at least the promised probability, if patients are exchangeable",
    ),
    CV_PLUS: "CV+ (Barber 2021; Vovk 2015): an interval of 1 − α holds a new patient's volume with a probability of at "
    "least 1 − 2α − √(2/patients), and of about 1 − α in practice, if patients are exchangeable",
}
POOLED = "pooled"
NEVER_CALIBRATED = "this model's volumes were never calibrated"
# how far an end moves beyond what training patients had, over how far it moves elsewhere
PACE = 0.2
# what a margin of conformal_scaled is multiplied with at least and at most, in x: nobody is surer of a volume than of
# ±5 %, and an interval that spans a factor of 4.5 by itself needs no margin in units of more
LEAST_WIDTH, MOST_WIDTH = 0.1, 1.5


class Interval(NamedTuple):
    """An interval of a volume.

    Attributes:
        lower, upper: ml, the network's own where not calibrated (`shown` for what a user sees).
        calibrated: whether it is for the level asked for.
        cases: validation cases it stands on.
        note: what to know of it.
    """

    lower: float
    upper: float
    calibrated: bool
    cases: int
    note: str

    @property
    def shown(self) -> tuple[float, float]:
        """(lower, upper) in ml as results state them: NaN unless calibrated."""
        return (self.lower, self.upper) if self.calibrated else (math.nan, math.nan)


def log_ratio(ml, median_ml):
    """x = log((v + c) / (m + c)) of volumes, see the module.

    Args:
        ml: v, number or array.
        median_ml: m, volume of the shown contour.

    Returns:
        The shape of `ml`.
    """
    return np.log((np.asarray(ml, float) + OFFSET_ML) / (median_ml + OFFSET_ML))


def from_log_ratio(x: float, median_ml: float) -> float:
    """The volume at x, the inverse of `log_ratio`.

    Args:
        x: see the module.
        median_ml: volume of the shown contour.

    Returns:
        ml, at least 0.
    """
    return max(0.0, math.exp(min(x, 50.0)) * (median_ml + OFFSET_ML) - OFFSET_ML)


def own_width(p5_ml, p95_ml):
    """What margins of conformal_scaled are multiplied with: the width of the network's own 90 % interval, limited.

    Args:
        p5_ml: 5th percentile of a volume, number or array.
        p95_ml: 95th percentile.

    Returns:
        In x, of their shape.
    """
    return np.clip(log_ratio(p95_ml, 0.0) - log_ratio(p5_ml, 0.0), LEAST_WIDTH, MOST_WIDTH)


def moved_out(end, margin, limit):
    """The upper end of an interval after it moved out by a margin: at `PACE` beyond a limit.

    Args:
        end: in x, number or array.
        margin: in x.
        limit: in x; infinite: everywhere alike.

    Returns:
        In x.
    """
    limit, out = np.maximum(limit, end), end + np.asarray(margin, float)
    return np.where(
        (out <= limit) | np.less_equal(margin, 0), out, limit + PACE * (out - np.where(np.isfinite(limit), limit, out))
    )


def margin_to(end, truth, limit):
    """The margin with which `moved_out` reaches a truth.

    Args:
        end: in x.
        truth: in x.
        limit: in x.

    Returns:
        In x.
    """
    limit = np.maximum(limit, end)
    return np.where(
        truth <= limit, truth - end, limit - end + (truth - np.where(np.isfinite(limit), limit, truth)) / PACE
    )


def patients_needed(level: float) -> int:
    """The smallest number of patients from which an interval of `level` can be learnt: n with (n + 1)·level ≤ n."""
    return math.ceil(level / (1 - level) - 1e-9)


def needed(method: str, level: float) -> int:
    """`patients_needed` of a method's interval; each end of cv_plus is a quantile of its own."""
    return patients_needed((1 + level) / 2 if method == CV_PLUS else level)


def limits(usual: dict[str, tuple[float, float]], structure: str, median_ml: float) -> tuple[float, float]:
    """The least and the most that a structure's volume is known to be.

    Args:
        usual: {structure: (least, most) in ml}.
        structure: its name.
        median_ml: volume of the shown contour.

    Returns:
        (least, most) in x; infinite where nothing is known of it.
    """
    if structure not in usual:
        return -math.inf, math.inf
    low, high = log_ratio(usual[structure], median_ml)
    return float(low), float(high)


@dataclass(frozen=True)
class Group:
    """The fit for one structure, or for all.

    Attributes:
        cases, patients: that it was fitted on.
        shift, scale: of log_affine.
        margins: {level: margin} of the conformal methods, in x or in units of `own_width`.
        scores: of cv_plus, by checkpoint and patient (`cross_conformal`).
        weights: of these patients where they do not all count as one, by checkpoint and patient; `patients` is then
            their sum.
    """

    cases: int
    patients: int
    shift: float = 0.0
    scale: float = 1.0
    margins: dict[float, float] = field(default_factory=dict)
    scores: list[list[list[float]]] = field(default_factory=list)
    weights: list[list[float]] = field(default_factory=list)

    @cached_property
    def rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The scores as `cross_conformal.interval` takes them."""
        return cross_conformal.flattened(self.scores, self.weights)


@dataclass(frozen=True)
class VolumeCalibration:
    """What a card says of the calibration of volumes.

    Attributes:
        method: "none", one of `METHODS` or `SHOWN`, or `CV_PLUS`.
        groups: fits by structure, and "pooled" for those without their own.
        usual: {structure: (least, most) in ml} that training patients had, which the conformal methods use.
        unit: of cv_plus, what scales its scores.
    """

    method: str = "none"
    groups: dict[str, Group] = field(default_factory=dict)
    usual: dict[str, tuple[float, float]] = field(default_factory=dict)
    unit: str = "none"

    def group(self, structure: str) -> Group | None:
        """The fit that serves a structure."""
        return self.groups.get(structure, self.groups.get(POOLED)) if self.method != "none" else None

    def interval(
        self,
        distribution: VolumeDistribution,
        level: float,
        structure: str | None = None,
        members: Sequence[MemberVolume] = (),
    ) -> Interval:
        """An interval, calibrated as far as the validation cases allow; `note` says where they do not.

        Intervals of a higher level hold those of a lower one. A structure that was not found (a shown volume of 0)
        keeps the network's own: validation cases with a volume say nothing of it, and ratios to 0 nothing at all.

        Args:
            distribution: of the network's samples.
            level: 0 to 1.
            structure: whose fit counts; None: the distribution's.
            members: what each checkpoint says, for cv_plus; none: all say `distribution`.

        Returns:
            Bounds in ml.
        """
        group = self.group(structure or distribution.organ or distribution.structure)
        if group is None or distribution.volume_ml <= 0:
            return Interval(
                *distribution.interval(level),
                False,
                0,
                NEVER_CALIBRATED if group is None else "it was not found, so nothing is calibrated",
            )
        least = needed(self.method, level)
        enough = group.patients >= least
        note = (
            ""
            if enough
            else f"too few cases for {100 * level:g} %: it takes {least} patients, there are {group.patients}"
        )
        if self.method == CV_PLUS:
            return Interval(*self._cv_plus(distribution, level, group, members), enough, group.cases, note)
        lower, upper = (
            self._log_affine(distribution, level, group)
            if self.method == "log_affine"
            else self._conformal(
                distribution,
                level,
                group,
                *limits(self.usual, structure or distribution.organ or distribution.structure, distribution.volume_ml),
            )
        )
        return Interval(lower, upper, enough, group.cases, note)

    def quantiles(
        self, distribution: VolumeDistribution, structure: str | None = None, members: Sequence[MemberVolume] = ()
    ) -> list[float | None]:
        """The calibrated volumes at the distribution's percentiles: ends of intervals.

        Args:
            distribution: of the network's samples.
            structure: whose fit counts; None: the distribution's.
            members: as of `interval`.

        Returns:
            ml; None where it is not calibrated so far out.
        """
        group, out = self.group(structure or distribution.organ or distribution.structure), []
        for q in distribution.percentiles:
            found = self.interval(distribution, abs(2 * q - 100) / 100, structure, members)
            out.append(None if group is None or not found.calibrated else found.lower if q < 50 else found.upper)
        return out

    def _cv_plus(self, distribution, level, group, members) -> tuple[float, float]:
        """The shown contour's volume is always inside; beyond what the patients allow the network's own interval."""
        if level <= 0:
            return distribution.volume_ml, distribution.volume_ml
        # a checkpoint that found nothing says nothing of how much there is, and all together stand for it
        said = [m if m.distribution.volume_ml > 0 else MemberVolume(distribution) for m in members]
        if len(said) != len(group.scores):
            said = said[:1] if len(said) == 1 else [MemberVolume(distribution)]
        low, high = cross_conformal.interval(said, group.rows, self.unit, level)
        own = distribution.interval(level)
        return (
            min(low if group.patients >= needed(CV_PLUS, level) else own[0], distribution.volume_ml),
            max(high if group.patients >= needed(CV_PLUS, level) else own[1], distribution.volume_ml),
        )

    @staticmethod
    def _log_affine(distribution, level, group):
        m = distribution.volume_ml
        return tuple(
            from_log_ratio(group.shift + group.scale * float(log_ratio(v, m)), m) for v in distribution.interval(level)
        )

    def _conformal(self, distribution, level, group, least, most):
        m = distribution.volume_ml
        if level <= 0:
            return m, m
        unit = (
            float(own_width(distribution.quantile(5), distribution.quantile(95)))
            if self.method.endswith("_scaled")
            else 1.0
        )
        low = high = 0.0

        def include(ends, margin):
            nonlocal low, high
            low = min(low, -float(moved_out(-ends[0], unit * margin, -least)))
            high = max(high, float(moved_out(ends[1], unit * margin, most)))

        # a level between those fitted takes the next higher one, which keeps the promise; lower ones are held inside
        above = [k for k in group.margins if k >= level - 1e-9]
        used = sorted(k for k in group.margins if k < level - 1e-9) + ([min(above)] if above else [])
        shown = self.method in SHOWN
        for k in used:
            include((0.0, 0.0) if shown else log_ratio(distribution.interval(k), m), group.margins[k])
        if not above:
            # beyond all fitted levels: at least the network's own interval with the last margin
            include(log_ratio(distribution.interval(level), m), max(0.0, group.margins[used[-1]] if used else 0.0))
        return from_log_ratio(low, m), from_log_ratio(high, m)

    def as_card(self) -> dict | None:
        """What the card stores as `calibration.volumes`; None for "none"."""
        if self.method == "none":
            return None
        every = self.groups.get(POOLED)
        own = [name for name in self.groups if name != POOLED]
        groups = {}
        for name, g in self.groups.items():
            groups[name] = {"cases": g.cases, "patients": g.patients} | (
                {"shift": round(g.shift, 6), "scale": round(g.scale, 6)}
                if self.method == "log_affine"
                else {"scores": [[[round(v, 4) for v in rows] for rows in fold] for fold in g.scores]}
                | ({"weights": [[round(w, 4) for w in fold] for fold in g.weights]} if g.weights else {})
                if self.method == CV_PLUS
                else {"margins": {f"{k:g}": round(v, 6) for k, v in sorted(g.margins.items())}}
            )
        whole = every or Group(
            sum(g.cases for g in self.groups.values()), max(g.patients for g in self.groups.values())
        )
        return (
            {
                "method": self.method,
                "cases": whole.cases,
                "patients": whole.patients,
                "per": own or POOLED,
                "groups": groups,
            }
            | ({"usual_ml": {name: list(ends) for name, ends in self.usual.items()}} if self.usual else {})
            | self._said()
        )

    def _said(self) -> dict:
        """Of cv_plus, whose promise is another one than the level."""
        return {"unit": self.unit, "guarantee": GUARANTEE[CV_PLUS]} if self.method == CV_PLUS else {}


def of_card(card: dict) -> VolumeCalibration:
    """The calibration that a card brings.

    Args:
        card: of the model.

    Returns:
        Its method is "none" where it brings none.

    Raises:
        InputError: a method that this version does not know.
    """
    stored = card["calibration"].get("volumes")
    if not stored:
        return VolumeCalibration()
    if stored.get("method") not in (*METHODS, *SHOWN, CV_PLUS):
        from ..core.errors import InputError

        raise InputError(
            f"{card.get('name', 'the card')}: calibration of volumes by '{stored.get('method')}' is unknown; known are "
            f"{', '.join((*METHODS, *SHOWN, CV_PLUS))}."
        )
    groups = {
        name: Group(
            g["cases"],
            g["patients"],
            g.get("shift", 0.0),
            g.get("scale", 1.0),
            {float(k): v for k, v in g.get("margins", {}).items()},
            g.get("scores", []),
            g.get("weights", []),
        )
        for name, g in stored["groups"].items()
    }
    return VolumeCalibration(
        stored["method"],
        groups,
        {name: tuple(ends) for name, ends in stored.get("usual_ml", {}).items()},
        stored.get("unit", "none"),
    )

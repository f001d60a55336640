"""From rows of volumes to what a card says of them: calibrated intervals, expected Dice, validated flags."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..volume_calibration import CONFORMAL, CV_PLUS, needed, patients_needed
from . import flags as flag_thresholds
from . import quality as quality_calibration
from . import volume_coverage, volume_ranges
from . import volumes as volume_calibration
from .flags import Validated
from .quality import BAD
from .volumes import VolumeRow

LEVEL = 0.9


@dataclass
class Calibrated:
    """`volumes`, `quality` and `flags` for the card's `calibration` (None where nothing could be fitted), and all
    limits that were tried, whether validated or not."""

    volumes: dict | None
    quality: dict | None
    flags: dict | None
    tried: dict[str, Validated]

    def as_card(self) -> dict:
        """The three entries of `calibration`."""
        return {"volumes": self.volumes, "quality": self.quality, "flags": self.flags}


def fit(
    rows: list[VolumeRow],
    method: str | tuple[str, ...] | None = None,
    limit: float = BAD,
    count: int = 10,
    training: dict | None = None,
    promised: bool = False,
) -> Calibrated:
    """Fit everything on the rows of one network; scores in the result are of patients who were left out.

    method: one of `rtuncertainty.uncertainty.volume_calibration.METHODS`, or several, of which that is taken whose
    intervals are narrower on patients left out; by default "cv_plus" for the rows of a bundle of folds, else the
    conformal ones (both promise the level) where there are patients enough for 90 %, else "log_affine". limit: a Dice
    below is bad. count: folds of the cross-validation. training: volumes (ml) of the training patients by structure, if
    known. promised: limits by conformal risk control, see `flags.earn`.
    """
    # a structure that was not found has a flag of its own
    rows = volume_calibration.usable(rows)
    patients = len({r.patient for r in rows})
    if patients < 2:
        return Calibrated(None, None, None, {})
    methods = (
        (method,)
        if isinstance(method, str)
        else method
        if method
        else (CV_PLUS,)
        if patients > needed(CV_PLUS, LEVEL) and all(r.fold >= 0 for r in rows)
        else CONFORMAL
        if patients > patients_needed(LEVEL)
        else ("log_affine",)
    )
    try:
        volumes, held = min((_volumes(rows, m, count, training) for m in methods), key=lambda found: _width(found[1]))
    except ValueError:  # no spread, which nothing can scale
        volumes, held = None, [(r, r.distribution.interval(LEVEL)) for r in rows]
    scored = [(r, i) for r, i in held if math.isfinite(r.dice)]
    names = np.array([r.patient for r, _ in scored])
    dice, expected = (np.array([getattr(r, k) for r, _ in scored], float) for k in ("dice", "expected_dice"))
    mapping = quality_calibration.fit(expected, dice, names) if len(scored) else None
    if mapping is not None:
        # the flag sees the mapped number, so its limit is chosen on numbers mapped by other patients
        known = np.isfinite(expected)
        expected[known] = quality_calibration.held_out(expected[known], dice[known], names[known])
    widths = [(i[1] - i[0]) / r.distribution.volume_ml for r, i in scored]
    scores = {
        "interval_width": widths,
        "expected_dice": expected,
        "surface_entropy": [r.surface_entropy for r, _ in scored],
    }
    tried = (
        flag_thresholds.flags(
            {k: np.asarray(v, float) for k, v in scores.items()}, dice, names, limit, promised=promised
        )
        if len(scored)
        else {}
    )
    validated = flag_thresholds.flags_for_card(tried, limit) or {}
    usual = volume_ranges.ranges(training or {})
    unusual = volume_ranges.earn(rows, usual)
    if unusual is not None:
        tried["usual_volume"] = unusual
        if unusual.validated:
            validated["usual_volume"] = volume_ranges.entry(unusual, usual)
    return Calibrated(volumes, None if mapping is None else mapping.as_card(), validated or None, tried)


def _width(held) -> float:
    """The median width of intervals over the volume of the shown contour."""
    return float(np.median([(i[1] - i[0]) / r.distribution.volume_ml for r, i in held]))


def _score(held) -> float:
    """The mean interval score over the true volume (`volumes.interval_score`)."""
    ends = np.array([i for _, i in held])
    truth = np.array([r.true_ml for r, _ in held])
    return round(float(volume_calibration.interval_score(ends[:, 0], ends[:, 1], truth, LEVEL).mean()), 3)


def _by_patient(held) -> dict:
    """How the coverage spreads over patients: of each the share of his structures whose interval holds; its mean, SD
    and least, and the SD that independent structures would have.
    """
    inside: dict[str, list[bool]] = {}
    for r, (low, high) in held:
        inside.setdefault(r.patient, []).append(low <= r.true_ml <= high)
    share = np.array([np.mean(v) for v in inside.values()])
    every = float(np.mean([x for v in inside.values() for x in v]))
    chance = np.sqrt(np.mean([every * (1 - every) / len(v) for v in inside.values()]))
    values = {"mean": share.mean(), "sd": share.std(), "sd_by_chance": chance, "least": share.min()}
    return {k: round(float(v), 3) for k, v in values.items()}


def _volumes(rows, method, count, training) -> tuple[dict, list]:
    """(the card's entry, each row with its interval of `LEVEL` by a fit on others)."""
    cross_validated = volume_coverage.cross_validated(rows, method, count, training)
    held = [(r, c.interval(r.distribution, LEVEL, members=(r.member,))[:2]) for r, c in cross_validated]
    before = [r.distribution.interval(LEVEL) for r in rows]
    entry = volume_calibration.fit(rows, method, usual=volume_ranges.ends(training)).as_card() or {}
    entry |= {
        "within_90": round(float(np.mean([low <= r.true_ml <= high for r, (low, high) in held])), 3),
        "within_90_before": round(
            float(np.mean([low <= r.true_ml <= high for r, (low, high) in zip(rows, before)])), 3
        ),
        "interval_score_90": _score(held),
        "interval_score_90_before": _score(list(zip(rows, before))),
        "patients_90": _by_patient(held),
        "how": f"each patient calibrated on others, {min(count, len({r.patient for r in rows}))} folds",
    }
    return entry, held

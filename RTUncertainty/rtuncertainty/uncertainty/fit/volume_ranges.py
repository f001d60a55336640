"""The volumes that training patients had: for the calibration of volumes, and for a card's flag "unusual volume"
(`rtuncertainty.uncertainty.volume_range`) if validation shows that it helps."""

from __future__ import annotations

import math

from ..volume_range import beyond
from .flags import Validated, tested
from .volumes import VolumeRow

# the range of n patients leaves 2 of n + 1 new ones outside: so far beyond it is unusual, and a structure needs so many
# patients
BEYOND, LEAST_PATIENTS = 1.25, 10
# a volume tells of a contour that missed most of a structure, not of one that is inaccurate
LOST = 0.5


def ranges(training: dict[str, list[float]]) -> dict[str, dict]:
    """{structure: {cases, least_ml, most_ml}} of the drawn volumes (ml) of training patients, where there are
    enough.
    """
    return {
        name: {"cases": len(ml), "least_ml": round(min(ml), 2), "most_ml": round(max(ml), 2)}
        for name, ml in training.items()
        if len(ml) >= LEAST_PATIENTS and min(ml) > 0
    }


def ends(training: dict[str, list[float]] | None) -> dict[str, tuple[float, float]]:
    """{structure: (least, most) ml} of `ranges`, for `volume_calibration.fit`; nothing where no training volumes are
    known.
    """
    return {name: (u["least_ml"], u["most_ml"]) for name, u in ranges(training or {}).items()}


def earn(rows: list[VolumeRow], usual: dict[str, dict]) -> Validated | None:
    """How the flag does on `usable` validation rows; nothing in it is fitted to them. None without a bad contour or
    without a good one.
    """
    known = [r for r in rows if r.structure in usual and math.isfinite(r.dice)]
    flagged = [
        beyond(r.distribution.volume_ml, usual[r.structure]["least_ml"], usual[r.structure]["most_ml"]) > BEYOND
        for r in known
    ]
    return tested(BEYOND, flagged, [r.dice < LOST for r in known], [r.patient for r in known])


def entry(found: Validated, usual: dict[str, dict]) -> dict:
    """What the card stores as `calibration.flags.usual_volume`."""
    return found.as_card(dice_limit=LOST, structures=usual)

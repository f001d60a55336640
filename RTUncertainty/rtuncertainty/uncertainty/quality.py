"""How good a contour is likely to be, without a truth: expected Dice, and the entropy along its surface."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..core.structures import connected_to
from ..core.surfaces import surface

# probabilities below this are a network's way to say no; over all voxels of an image they would add up to an organ
LEAST = 0.01


@dataclass
class Quality:
    """How good a contour is likely to be.

    Attributes:
        structure: its name.
        expected_dice: calibrated where the card can, else as `expected_dice` gives it.
        dice_lower, dice_upper: its interval; NaN where nothing was calibrated.
        calibrated: whether it was.
        surface_entropy: nats, mean over the surface voxels.
    """

    structure: str
    expected_dice: float
    dice_lower: float = math.nan
    dice_upper: float = math.nan
    calibrated: bool = False
    surface_entropy: float = math.nan


def expected_dice(probability: np.ndarray, labelled: np.ndarray, rule: dict | None = None) -> float:
    """E[2·|S ∩ Y| / (|S| + |Y|)] of a contour S with a truth Y.

    Y holds each voxel with its probability, independently of the others. The ratio of sums is expanded to second order
    about their means (delta method), which leaves an error of the order of 1/|S|².

    Args:
        probability: [z, y, x].
        labelled: S, bool [z, y, x].
        rule: where it keeps pieces only, probabilities of pieces apart from the contour do not count.

    Returns:
        0 to 1; NaN without a voxel in S.

    Raises:
        ValueError: NaN or infinite probabilities.
    """
    labelled = np.asarray(labelled, bool)
    if not labelled.any():
        return math.nan
    if not np.isfinite(probability).all():
        raise ValueError("probabilities hold NaN or infinite values")
    possible = probability > LEAST
    if {"largest", "smallest_ml"} & set(rule or {}):
        possible = connected_to(possible, labelled)
    own = np.clip(probability[labelled], 0, 1).astype(np.float64)
    other = np.clip(probability[possible & ~labelled], 0, 1).astype(np.float64)
    hit, total = own.sum(), labelled.sum() + own.sum() + other.sum()
    common = (own * (1 - own)).sum()
    spread = common + (other * (1 - other)).sum()
    return float(2 * (hit / total - common / total**2 + hit * spread / total**3))


def surface_entropy(entropy: np.ndarray, labelled: np.ndarray) -> float:
    """Mean of the predictive entropy over the surface voxels of a contour.

    Args:
        entropy: nats [z, y, x].
        labelled: bool [z, y, x].

    Returns:
        nats; NaN without a voxel.
    """
    edge = surface(np.asarray(labelled, bool))
    return float(entropy[edge].mean()) if edge.any() else math.nan


def binary_entropy(probability: np.ndarray) -> np.ndarray:
    """−p log p − (1 − p) log(1 − p), in nats."""
    p = np.clip(np.asarray(probability, np.float64), 1e-12, 1 - 1e-12)
    return -p * np.log(p) - (1 - p) * np.log1p(-p)


@dataclass(frozen=True)
class QualityCalibration:
    """From expected to true Dice, as seen on validation patients.

    Attributes:
        knots, dice: expected → true, both rising (isotonic), linear between them.
        below, above: what the truth may differ by at `level` (≤ 0 and ≥ 0).
        level: nominal, 0 to 1.
        cases, patients: that it was fitted on.
        scores: of cross-validation, for the card alone.
    """

    knots: tuple[float, ...]
    dice: tuple[float, ...]
    below: float
    above: float
    level: float = 0.9
    cases: int = 0
    patients: int = 0
    scores: dict = field(default_factory=dict)

    def apply(self, expected: float) -> tuple[float, float, float]:
        """The true Dice to expect.

        Args:
            expected: as `expected_dice` gives it.

        Returns:
            (Dice, lower, upper), each within 0 and 1.
        """
        value = float(np.interp(expected, self.knots, self.dice))
        return value, float(np.clip(value + self.below, 0, 1)), float(np.clip(value + self.above, 0, 1))

    def as_card(self) -> dict:
        """What the card stores as `calibration.quality`."""
        return {
            "method": "isotonic",
            "from": "expected_dice",
            "knots": [round(k, 5) for k in self.knots],
            "dice": [round(d, 5) for d in self.dice],
            "below": round(self.below, 5),
            "above": round(self.above, 5),
            "level": self.level,
            "cases": self.cases,
            "patients": self.patients,
            **self.scores,
        }


def of_card(card: dict) -> QualityCalibration | None:
    """The mapping that a card brings, or None."""
    s = card["calibration"].get("quality")
    if not s:
        return None
    return QualityCalibration(
        tuple(s["knots"]), tuple(s["dice"]), s["below"], s["above"], s["level"], s["cases"], s["patients"]
    )


def assess(
    structure: str,
    probability: np.ndarray,
    labelled: np.ndarray,
    entropy: np.ndarray | None,
    card: dict,
    rule: dict | None = None,
) -> Quality:
    """The quality of one contour.

    Args:
        structure: its name.
        probability: [z, y, x].
        labelled: the contour, bool [z, y, x].
        entropy: nats [z, y, x]; None: that of the structure against the rest.
        card: of the model, whose calibration counts.
        rule: how the card tidies the structure, or None.

    Returns:
        Calibrated where the card can.
    """
    raw = expected_dice(probability, labelled, rule)
    out = Quality(
        structure,
        raw,
        surface_entropy=surface_entropy(binary_entropy(probability) if entropy is None else entropy, labelled),
    )
    mapping = of_card(card)
    if mapping is not None and math.isfinite(raw):
        out.expected_dice, out.dice_lower, out.dice_upper = mapping.apply(raw)
        out.calibrated = True
    return out

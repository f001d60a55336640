"""Recalibrated uncertainty of a synthetic CT: what a card's `calibration.synct.recalibration` does to the variances.

The variance that the samples give is scaled, and a residual variance added, by the predicted HU (air, fat, muscle,
marrow and compact bone differ in how much too sure a network is); both are interpolated between knots, so that no edge
appears in the map. An interval of level p is mean ± factor(p)·SD, with factors that are quantiles of |z| on validation
patients: errors have heavier tails than a Gaussian. The fit is fit/hu.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import stats


@dataclass
class Recalibration:
    """What turns the sampled variances of a synthetic CT into validated ones; linear in the predicted HU between knots.

    Attributes:
        knots: HU, rising.
        scale: factor of the SD at each knot.
        residual: SD in HU that is added at each knot.
        factors: {level: half of an interval's width in SDs}.
    """

    knots: list[float]
    scale: list[float]
    residual: list[float]
    factors: dict[float, float] = field(default_factory=dict)

    def apply(self, synct: np.ndarray, intrinsic: np.ndarray, parameter: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Recalibrated variances.

        Args:
            synct: predicted HU, any shape.
            intrinsic: variance, HU², of that shape.
            parameter: variance, HU², of that shape.

        Returns:
            (intrinsic, parameter), HU²; the residual is intrinsic.
        """
        squared = np.interp(synct, self.knots, self.scale) ** 2
        residual = np.interp(synct, self.knots, self.residual) ** 2
        return intrinsic * squared + residual, parameter * squared

    def factor(self, level: float) -> float:
        """Half of the width of an interval; between known levels by interpolation, Gaussian beyond.

        Args:
            level: 0 to 1.

        Returns:
            In SDs.
        """
        levels = sorted(self.factors)
        if not levels or not levels[0] <= level <= levels[-1]:
            return gaussian_factor(level)
        return float(np.interp(level, levels, [self.factors[k] for k in levels]))

    def as_card(self) -> dict:
        """What the card stores."""
        return {
            "knots_hu": [float(k) for k in self.knots],
            "scale": [round(float(s), 4) for s in self.scale],
            "residual_hu": [round(float(r), 2) for r in self.residual],
            "interval_factors": {f"{k:g}": round(float(v), 4) for k, v in sorted(self.factors.items())},
        }


def gaussian_factor(level: float) -> float:
    """Half of the width of the central interval of a Gaussian.

    Args:
        level: 0 to 1.

    Returns:
        In SDs.
    """
    return float(stats.norm.ppf(0.5 + level / 2))


def of_card(card: dict) -> Recalibration | None:
    """The recalibration that a card brings, or None."""
    stored = (card["calibration"].get("synct") or {}).get("recalibration")
    if not stored:
        return None
    return Recalibration(
        stored["knots_hu"],
        stored["scale"],
        stored["residual_hu"],
        {float(k): v for k, v in stored["interval_factors"].items()},
    )


def interval_factors(card: dict, levels) -> dict[float, float]:
    """Half widths of intervals, as the card has them, else Gaussian.

    Args:
        card: of the model.
        levels: 0 to 1 each.

    Returns:
        {level: SDs}.
    """
    found = of_card(card)
    return {level: found.factor(level) if found else gaussian_factor(level) for level in levels}

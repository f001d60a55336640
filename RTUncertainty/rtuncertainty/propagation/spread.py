"""The calibrated SD of a deformation: what a card's `calibration.spread` does to the covariance over the samples.

Dropout shows which places are less certain than others, not by how many millimetres the deformation errs: it knows
nothing of what the network never learnt. On validation pairs, whose true deformation is known, the sampled covariance Σ
is scaled and a residual added, a²·Σ + b²·1, so that errors over SD have an SD of 1. Training's side, the fit, is
training/calibration/spread.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SpreadCalibration:
    """What turns a sampled covariance Σ into a calibrated one, a²·Σ + b²·1.

    Attributes:
        scale: a, of the SD.
        residual_mm: b.
        factor_90: half of a 90 % interval of the displacement along an axis, in SDs.
    """

    scale: float
    residual_mm: float
    factor_90: float

    def apply(self, covariance: np.ndarray) -> np.ndarray:
        """The calibrated covariance of a sampled one.

        Args:
            covariance: [6, ...] (xx, yy, zz, xy, xz, yz), mm².

        Returns:
            The same shape and unit.
        """
        out = self.scale**2 * covariance
        out[:3] += self.residual_mm**2
        return out


def of_card(card: dict) -> SpreadCalibration | None:
    """The calibration that a card brings, or None."""
    stored = card["calibration"].get("spread") or {}
    if "scale" not in stored:
        return None
    return SpreadCalibration(float(stored["scale"]), float(stored["residual_mm"]), float(stored["factor_90"]))

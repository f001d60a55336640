"""Calibrated intervals of a target's D98, Davg and D2 on a synthetic CT: what a card's `calibration.dose` adds to the
band of samples.

Both ends of the band of 5 to 95 % of samples move out by a margin in percent of the prescription: the conformal
quantile, over validation patients, of how far the CT's dose lay outside of the band (Romano, Patterson & Candès 2019).
So the interval holds the dose on the CT with at least the promised probability in patients like those, for the simple
plan of the same kind of radiation, whatever the samples are worth.

Training's side, the fit, is training/calibration/dose.py.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DoseCalibration:
    """The calibration of a target's doses.

    Attributes:
        level: that the intervals promise, 0 to 1.
        patients: of the validation behind it.
        margins: percent of the prescription by `compare.DOSES`.
    """

    level: float
    patients: int
    margins: dict[str, float]

    def interval(self, lower: dict[str, float], upper: dict[str, float]) -> dict[str, tuple[float, float]]:
        """The calibrated intervals of the difference from the CT.

        Args:
            lower: end of the samples' band by dose, percent of the prescription.
            upper: the other end.

        Returns:
            {dose: (lower, upper)}, percent of the prescription.
        """
        found = {}
        for dose, margin in self.margins.items():
            low, high = lower[dose] - margin, upper[dose] + margin
            # a margin below 0 must not turn a narrow band inside out
            found[dose] = (low, high) if low <= high else ((low + high) / 2,) * 2
        return found


def of_card(card: dict | None, modality: str) -> DoseCalibration | None:
    """The calibration that a card brings for one kind of radiation.

    Args:
        card: of the model, or None.
        modality: photon or proton.

    Returns:
        None where it brings none.
    """
    stored = (((card or {}).get("calibration") or {}).get("dose") or {}).get(modality)
    return DoseCalibration(stored["level"], stored["patients"], dict(stored["margins_percent"])) if stored else None

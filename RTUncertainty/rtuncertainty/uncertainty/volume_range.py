"""Is a volume one that a patient may have? The card's `calibration.flags.usual_volume` says what the training patients
had.

A network that misses a structure may be sure of the little that it found: neither its interval nor its expected Dice
then says so. That nobody's parotid holds 2 ml does.
"""

from __future__ import annotations

import math


def beyond(ml: float, least_ml: float, most_ml: float) -> float:
    """The factor by which a volume lies beyond the range of known ones.

    Args:
        ml: the volume.
        least_ml: end of the range.
        most_ml: end of the range.

    Returns:
        1 inside, infinite for a volume of 0.
    """
    if ml <= 0:
        return math.inf
    return max(1.0, least_ml / ml, ml / most_ml)


def reason(structure: str, ml: float, card: dict, cut_off: bool = False) -> str | None:
    """Why the volume of a structure is unusual.

    Args:
        structure: its name.
        ml: its volume.
        card: of the model, whose `calibration.flags.usual_volume` counts.
        cut_off: it reaches the edge of the image, so that a small volume says nothing.

    Returns:
        A text; None where it is not unusual, or where the card knows nothing of it.
    """
    known = (card["calibration"].get("flags") or {}).get("usual_volume") or {}
    usual = known.get("structures", {}).get(structure)
    if (
        usual is None
        or (cut_off and ml < usual["least_ml"])
        or beyond(ml, usual["least_ml"], usual["most_ml"]) <= known["threshold"]
    ):
        return None
    bad = known["caught"] + known["missed"]
    return (
        f"{ml:.1f} ml is {'less' if ml < usual['least_ml'] else 'more'} than any of the {usual['cases']} training "
        f"patients had ({usual['least_ml']:.1f} to "
        f"{usual['most_ml']:.1f} ml); on {known['cases']} validation contours such volumes gave away {known['caught']} "
        f"of {bad} with a Dice below "
        f"{known['dice_limit']:g}, with {known['false_alarms']} false alarm{'s' * (known['false_alarms'] != 1)}; check "
        "the contour."
    )

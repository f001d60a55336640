"""How far two contours of a structure agree, and what that means in words: green, amber or red."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..core import surfaces
from ..uncertainty.fit.flags import CATCH, HIGH_IS_BAD, Validated, earn

# where a card says nothing: what clinics correct (3 mm) and what they redraw
LIMITS = {"amber": {"msd_mm": 1.5, "dice": 0.80, "sd_mm": 1.5}, "red": {"msd_mm": 3.0, "dice": 0.65, "sd_mm": 3.0}}
LIGHTS = ("green", "amber", "red")
# a light is amber where clinics would correct, red where they would redraw: true mean surface distance, mm
LIGHT_MM = {"amber": LIMITS["amber"]["msd_mm"], "red": LIMITS["red"]["msd_mm"]}
# of what two observers differ by in a structure, where a card says it (`calibration.observers`)
TIMES_OBSERVERS = {"amber": 2.0, "red": 3.0}


@dataclass
class Agreement:
    """How well two paths agree on a structure, and what to do.

    Attributes:
        dice: of the two masks; NaN with one path only.
        msd_mm: mean surface distance; NaN with one path only.
        worst_slice: index along z where they differ most, or where the SD is largest.
        light: green, amber or red.
        reason: why, for the user.
    """

    dice: float
    msd_mm: float
    worst_slice: int
    light: str
    reason: str


def limits_of(card: dict, structure: str = "") -> dict:
    """The limits of green, amber and red of a model.

    Args:
        card: its validated limits (`calibration.lights`) come before its own (`outputs.deformation.limits`), these
            before `TIMES_OBSERVERS` what two observers differ by in the structure, these before the fixed ones. A
            surface distance below the fixed limit is never asked for: voxels do not show it.
        structure: the model's name of it; "": none that observers drew.

    Returns:
        As `LIMITS`.
    """
    people = (card["calibration"].get("observers") or {}).get(structure)
    scale: dict[str, dict[str, float]] = {}
    for level, times in TIMES_OBSERVERS.items():
        if not people:
            break
        distance = max(times * people["msd_mm"], LIMITS[level]["msd_mm"])
        scale[level] = {"dice": 1 - times * (1 - people["dice"]), "msd_mm": distance}
    given = card["outputs"]["deformation"].get("limits") or {}
    validated = card["calibration"].get("lights") or {}
    return {
        level: fixed
        | scale.get(level, {})
        | given.get(level, {})
        | {name: e["threshold"] for name, e in validated.get(level, {}).items()}
        for level, fixed in LIMITS.items()
    }


def worst_slice(first: np.ndarray, second: np.ndarray | None, otherwise: int | None) -> int:
    """The slice in which most voxels of two masks differ.

    Args:
        first: bool [z, y, x].
        second: bool [z, y, x], or None.
        otherwise: the answer where they do not differ or there is one only; None is the middle slice of the structure.

    Returns:
        Index along z.
    """
    if second is not None and (first ^ second).any():
        return int((first ^ second).sum((1, 2)).argmax())
    if otherwise is not None or not first.any():
        return first.shape[0] // 2 if otherwise is None else int(np.clip(otherwise, 0, first.shape[0] - 1))
    return int(np.median(np.nonzero(first)[0]))


def judge(
    first: np.ndarray,
    second: np.ndarray | None,
    spacing,
    sd: float = math.nan,
    otherwise: int | None = None,
    limits: dict | None = None,
) -> Agreement:
    """Compares the propagated mask with the directly segmented one.

    Args:
        first: propagated, bool [z, y, x].
        second: segmented, bool [z, y, x], or None.
        spacing: (x, y, z), mm.
        sd: the sampled SD (mm) of the propagated surface, NaN without samples; with one contour alone nothing then
            speaks for it, and it is amber.
        otherwise: as of `worst_slice`.
        limits: as `LIMITS`, which are the default.

    Returns:
        The agreement: the worst of what Dice, distance and SD say.
    """
    limits = {**LIMITS, **(limits or {})}
    dice = surfaces.dice(first, second) if second is not None else math.nan
    msd = surfaces.surface_distance(first, second, spacing).mean if second is not None else math.nan
    light, reasons = "green", []
    if not first.any():
        light, reasons = "red", ["the propagated structure is empty"]
    elif second is not None and not second.any():
        light, reasons = "red", ["the direct segmentation found nothing"]
    for level in ("red", "amber"):
        limit = limits[level]
        messages = [
            text
            for worse, text in (
                (msd > limit["msd_mm"], f"the two contours are {msd:.1f} mm apart on average"),
                (dice < limit["dice"], f"their Dice is {dice:.2f}"),
                (sd > limit["sd_mm"], f"the surface is uncertain by {sd:.1f} mm (SD)"),
            )
            if worse
        ]
        if messages and LIGHTS.index(level) > LIGHTS.index(light):
            light, reasons = level, messages
    if second is None and math.isnan(sd) and light == "green":
        light, reasons = "amber", ["there is one contour and nothing was sampled, so nothing speaks for it"]
    if not reasons:
        reasons = [
            "the two contours agree"
            if second is not None
            else "the sampled surfaces agree; the model does not segment it directly"
        ]
    return Agreement(dice, msd, worst_slice(first, second, otherwise), light, "; ".join(reasons))


def lights(rows: list[dict], catch: float = CATCH, promised: bool = False) -> dict[str, dict[str, Validated]]:
    """{"amber", "red": {measure: `Validated`}} of the measures of `agreement.LIMITS`, for contours that are off by
    `LIGHT_MM`.

    A red limit is never laxer than the amber one of its measure.
    """
    patients, true = [r["patient"] for r in rows], np.array([r["true_msd_mm"] for r in rows], float)
    found: dict[str, dict[str, Validated]] = {level: {} for level in LIGHT_MM}
    for level, limit in LIGHT_MM.items():
        for name in LIMITS[level]:
            one = earn(
                [math.nan if r.get(name) is None else r[name] for r in rows],
                true > limit,
                patients,
                HIGH_IS_BAD[name],
                catch,
                promised,
            )
            if one is not None:
                found[level][name] = one
    for name in set(found["amber"]) & set(found["red"]):
        amber, red = found["amber"][name], found["red"][name]
        if (amber.threshold > red.threshold) == HIGH_IS_BAD[name] and amber.threshold != red.threshold:
            del found["red"][name]
    return found


def lights_for_card(found: dict[str, dict[str, Validated]]) -> dict | None:
    """The card's `calibration.lights`: of the measures with a validated amber limit the one with the fewest
    mistakes; None without any.

    One only: a light comes on where any limit is exceeded, so the false alarms of several would add up. The other
    measures keep their fixed limits. A red limit stands only beside an amber one, so that no fixed amber limit is
    stricter than an validated red one.
    """
    validated = {name: e for name, e in found["amber"].items() if e.validated}
    if not validated:
        return None
    name = min(
        validated, key=lambda n: (validated[n].missed + validated[n].false_alarms, list(LIMITS["amber"]).index(n))
    )
    red = found["red"].get(name)
    return {
        "amber": {name: validated[name].as_card(true_msd_mm=LIGHT_MM["amber"])},
        **({"red": {name: red.as_card(true_msd_mm=LIGHT_MM["red"])}} if red is not None and red.validated else {}),
    }

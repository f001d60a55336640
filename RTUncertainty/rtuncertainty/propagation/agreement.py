"""How far two contours of a structure agree, and what that means in words: green, amber or red."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..core import surfaces

# where a card says nothing: what clinics correct (3 mm) and what they redraw
LIMITS = {"amber": {"msd_mm": 1.5, "dice": 0.80, "sd_mm": 1.5}, "red": {"msd_mm": 3.0, "dice": 0.65, "sd_mm": 3.0}}
LIGHTS = ("green", "amber", "red")


@dataclass
class Agreement:
    """Dice and mean surface distance (mm) of the two paths, NaN with one path only; `worst_slice` is the index along
    the third axis where they differ most, or where the spread is largest; `light` and `reason` say what to do."""

    dice: float
    msd_mm: float
    worst_slice: int
    light: str
    reason: str


def limits_of(card: dict) -> dict:
    """The limits of the lights, as `LIMITS`: those validated on pairs (`calibration.lights`) where the card has them,
    over those it sets itself (`outputs.deformation.limits`), over the fixed ones."""
    given = card["outputs"]["deformation"].get("limits") or {}
    validated = card["calibration"].get("lights") or {}
    return {
        level: fixed | given.get(level, {}) | {name: e["threshold"] for name, e in validated.get(level, {}).items()}
        for level, fixed in LIMITS.items()
    }


def worst_slice(first: np.ndarray, second: np.ndarray | None, otherwise: int | None) -> int:
    """Of two masks (bool [z, y, x]) the slice in which most voxels differ; where they do not, or there is one only,
    `otherwise`, or the middle one of the structure."""
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
    """Compare the propagated mask with the directly segmented one (or None), both bool [z, y, x] with `spacing` (x, y,
    z; mm).

    `sd`: the sampled sd (mm) of the propagated surface, NaN without samples; with one contour alone nothing then speaks
    for it, and it is amber. `otherwise`: see `worst_slice`. `limits`:
    as `LIMITS`.
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

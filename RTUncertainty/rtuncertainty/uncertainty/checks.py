"""Did it work? What every run is asked when it is over, each question with a limit and a flag.

The limits are fixed ones. On simulated days of two necks what was right lay far below them (skins 1.2 mm, bones 0.3 mm,
there and back 0.8 mm, features 0.005), and the same pairs 35 mm off far above (skins and bones 10 mm, features 0.12).
Testing/benchmarks/registration.py measures both on as many cases as it is given, and a card may bring limits of its own
(`calibration.checks`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .flags import Flag

BONE_HU, LUNG_HU = 250.0, -400.0
# structures of less (ml) are no check
LEAST_ML = {"bodies": 200.0, "bones": 20.0, "lungs": 200.0}
LEAST_DETERMINANT = 0.05  # what folds is pressed so far
# name: (limit, what is measured, what to say)
LIMITS = {
    "bodies": 4.0,
    "bones": 4.0,
    "lungs": 5.0,
    "there_and_back": 5.0,
    "residual": 0.06,
    "strain": np.inf,  # only where a card has one
}
WORDS = {
    **{
        name: f"the {what} of the warped and the daily scan lie {{value:.1f}} mm apart (limit {{limit:.1f}})"
        for name, what in (("bodies", "skins"), ("bones", "bones"), ("lungs", "lungs"))
    },
    "there_and_back": "there and back again misses by {value:.1f} mm on average (limit {limit:.1f})",
    "residual": "the warped scan is less like the daily one than on any case that it was checked on (difference of "
    "features {value:.3f}, limit {limit:.3f})",
    "strain": "tissue would be stretched and pressed by {value:.0%} (SD), more than in any case that was right (limit "
    "{limit:.0%})",
}


@dataclass
class Evidence:
    """What was measured (mm, but for `residual` and `strain`); NaN where there is nothing to measure it on."""

    values: dict[str, float]

    def failures(self, card: dict) -> list[str]:
        """What lies beyond its limit, in words."""
        limits = LIMITS | {k: v["limit"] for k, v in ((card.get("calibration") or {}).get("checks") or {}).items()}
        return [
            WORDS[name].format(value=value, limit=limits[name])
            for name, value in self.values.items()
            if value > limits[name]
        ]

    def flags(self, card: dict) -> list[Flag]:
        """A serious flag for each."""
        return [
            Flag("deformation", "serious", "registration failed", f"{words[:1].upper()}{words[1:]}; do not use it.")
            for words in self.failures(card)
        ]


def measured(
    daily: np.ndarray,
    warped: np.ndarray,
    body: np.ndarray,
    warped_body: np.ndarray,
    known: np.ndarray,
    spacing,
    is_ct: bool,
    there_and_back: np.ndarray | None = None,
    residual: float | None = None,
    determinant: np.ndarray | None = None,
) -> Evidence:
    """Compare the daily with the warped planning scan, arrays [z, y, x] on the working grid.

    Args:
        daily: HU.
        warped: the planning scan, HU.
        body: mask of the patient on the daily scan.
        warped_body: that of the planning scan, warped.
        known: where the planning scan was taken, warped.
        spacing: (x, y, z) in mm.
        is_ct: whether bones and lungs are seen by their HU.
        there_and_back: mm.
        residual: see `propagation.registration.residual_of`.
        determinant: of the deformation's Jacobian; its strain is the SD of the logarithm.
    """
    pairs = {"bodies": (body, warped_body)}
    if is_ct:
        inner = ndimage.binary_erosion(body, iterations=2), ndimage.binary_erosion(warped_body, iterations=2)
        pairs["bones"] = tuple((a > BONE_HU) & m for a, m in zip((daily, warped), (body, warped_body)))
        pairs["lungs"] = tuple((a < LUNG_HU) & m for a, m in zip((daily, warped), inner))
    values = {
        name: _apart(first & known, second & known, spacing, LEAST_ML[name]) for name, (first, second) in pairs.items()
    }
    inside = body & known
    if there_and_back is not None:
        values["there_and_back"] = float(there_and_back[inside].mean()) if inside.any() else float("nan")
    if residual is not None:
        values["residual"] = residual
    if determinant is not None:
        logs = np.log(np.maximum(determinant[inside], LEAST_DETERMINANT))
        values["strain"] = float(logs.std()) if logs.size else float("nan")
    return Evidence(values)


def _apart(first: np.ndarray, second: np.ndarray, spacing, least_ml: float) -> float:
    """The mean distance (mm) of what only one of two masks has to the other one, over the size of a shell: NaN where
    both are small, infinite where one of them is missing."""
    ml = float(np.prod(spacing)) / 1000
    sizes = [float(m.sum()) * ml for m in (first, second)]
    if max(sizes) < least_ml:
        return float("nan")
    if min(sizes) < 0.05 * max(sizes):
        return float("inf")
    distances = []
    for a, b in ((first, second), (second, first)):
        surface = a & ~ndimage.binary_erosion(a, border_value=1)
        inner = b & ~ndimage.binary_erosion(b, border_value=1)
        if not surface.any() or not inner.any():
            return float("nan")
        distances.append(ndimage.distance_transform_edt(~inner, tuple(spacing)[::-1])[surface])
    return float(np.concatenate(distances).mean())

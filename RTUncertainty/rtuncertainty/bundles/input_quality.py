"""Is an image as good as those that a model was trained on? Noise, sharpness and intensities against the card's
`input.statistics`.

All is measured in the body, on the image as the network sees it (its voxels, its scale). Only what harms counts: more
noise, blurred edges, other intensities; a better image is never warned of. Training's side is
training/data/prepare/input_statistics.py. Needs no torch.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage, stats

# of each statistic: whether a high value is the bad one, and the text of its warning
MEASURES = {
    "noise": (True, "The noise is {value:.1%} of the contrast in the body"),
    "sharpness": (False, "The edges in a slice rise by {value:.1%} of the contrast per mm"),
    "sharpness_z": (False, "The edges from slice to slice rise by {value:.1%} of the contrast per mm"),
    "histogram": (True, "The intensities in the body are {value:.2f} sd off those of the training images on average"),
}
LEVELS = tuple(round(0.05 * k, 2) for k in range(1, 20))
# an image is warned of beyond the interval that holds a new one of the kind with this probability
CONFIDENCE = 0.995
# training images may be alike to the last digit (phantoms); a new one may differ by so much all the same
LEAST_SD = 0.05
# Immerkær's operator: planes, and edges along the axes, give 0
LAPLACE = np.array([[[1, -2, 1], [-2, 4, -2], [1, -2, 1]]], np.float32)


def statistics(volume: np.ndarray, body: np.ndarray, spacing) -> dict[str, float]:
    """Noise and sharpness of an image in the body, over its contrast (the 5th to the 95th percentile of the body).

    Noise is the SD by the median absolute deviation of Immerkær's Laplacian in the slices (Immerkær 1996; the median
    keeps edges out). Sharpness is the 95th percentile of the slope after smoothing over a voxel, which keeps noise out.

    Args:
        volume: [z, y, x], in the network's scale.
        body: bool [z, y, x].
        spacing: (x, y, z), mm.

    Returns:
        {"noise", "sharpness" in the slices (1/mm), "sharpness_z" from slice to slice (1/mm)}; NaN where too little of
        the body is there.
    """
    inside = ndimage.binary_erosion(body, np.ones((1, 3, 3)))
    if inside.sum() < 100:
        return dict.fromkeys(("noise", "sharpness", "sharpness_z"), math.nan)
    volume = volume.astype(np.float32, copy=False)
    contrast = max(float(np.subtract(*np.percentile(volume[body], [95, 5]))), 1e-6)
    response = ndimage.convolve(volume, LAPLACE, mode="nearest")[inside]
    noise = 1.4826 * float(np.median(np.abs(response - np.median(response)))) / 6
    x, y, z = spacing
    smooth = ndimage.gaussian_filter(volume, (0, 1, 1))
    slope = np.hypot(np.gradient(smooth, y, axis=1), np.gradient(smooth, x, axis=2))[inside]
    found = {
        "noise": noise / contrast,
        "sharpness": float(np.percentile(slope, 95)) / contrast,
        "sharpness_z": math.nan,
    }
    if volume.shape[0] > 2:
        both = inside[1:] & inside[:-1]
        if both.any():
            found["sharpness_z"] = float(np.percentile(np.abs(np.diff(smooth, axis=0))[both], 95)) / z / contrast
    return found


def quantiles(volume: np.ndarray, body: np.ndarray) -> list[float]:
    """Quantiles of the intensities in the body.

    Args:
        volume: [z, y, x].
        body: bool [z, y, x].

    Returns:
        One for each of `LEVELS`, in the unit of the volume.
    """
    return np.quantile(volume[body], LEVELS).tolist()


def histogram_distance(own, typical) -> float:
    """How far two histograms are apart: the first Wasserstein distance without the tails.

    Args:
        own: of `quantiles`.
        typical: of `quantiles`.

    Returns:
        Their mean distance, in typical SDs.
    """
    typical = np.asarray(typical, float)
    # the span of the 5th to the 95th percentile is 3.29 SDs of a normal distribution
    return float(np.abs(np.asarray(own, float) - typical).mean() / max((typical[-1] - typical[0]) / 3.29, 1e-6))


def measured(volume: np.ndarray, body: np.ndarray, spacing, stored: dict) -> dict[str, float]:
    """All `MEASURES` of an image.

    Args:
        volume: [z, y, x], in the network's scale.
        body: bool [z, y, x].
        spacing: (x, y, z), mm.
        stored: the card's `input.statistics`, whose typical quantiles count.

    Returns:
        {measure: value}; NaN where it cannot be measured.
    """
    found = statistics(volume, body, spacing)
    return found | {
        "histogram": histogram_distance(quantiles(volume, body), stored["quantiles"]) if body.any() else math.nan
    }


def evened(name: str, value):
    """A measure on the scale on which it varies alike up and down: the logarithm of a ratio, the root of a distance.

    Args:
        name: of `MEASURES`.
        value: number or array.

    Returns:
        The same shape as `value`.
    """
    return np.sqrt(value) if name == "histogram" else np.log(np.maximum(value, 1e-6))


def deviations(found: dict[str, float], stored: dict) -> dict[str, float]:
    """How far each measure, `evened`, is off to the bad side.

    Args:
        found: `measured` of the image.
        stored: the card's `input.statistics`.

    Returns:
        {measure: SDs of the training images}; 0 where it is as usual or better, absent where it is NaN.
    """
    out = {}
    for name, known in stored["measures"].items():
        value = found.get(name, math.nan)
        if not math.isfinite(value):
            continue
        z = float(evened(name, value) - known["mean"]) / (
            max(known["sd"], LEAST_SD) * math.sqrt(1 + 1 / stored["cases"])
        )
        out[name] = max(0.0, z if MEASURES[name][0] else -z)
    return out


def score(volume: np.ndarray, body: np.ndarray, spacing, stored: dict) -> float:
    """One number for how unlike the training images an image is: the largest of its `deviations`.

    Args:
        volume: [z, y, x], in the network's scale.
        body: bool [z, y, x].
        spacing: (x, y, z), mm.
        stored: the card's `input.statistics`.

    Returns:
        SDs; 0 is as good as the training images, `limit` is where warnings begin.
    """
    return max(deviations(measured(volume, body, spacing, stored), stored).values(), default=0.0)


def limit(cases: int) -> float:
    """The deviation beyond which an image is warned of: Student's, as few training images know their SD badly.

    Args:
        cases: number of training images.

    Returns:
        SDs.
    """
    return float(stats.t.ppf(CONFIDENCE, max(1, cases - 1)))


def likeness(volume: np.ndarray, body: np.ndarray, spacing, card: dict) -> dict:
    """How like the training images an image is, as a result keeps it.

    Args:
        volume: [z, y, x], in the network's scale.
        body: bool [z, y, x].
        spacing: (x, y, z), mm.
        card: of the model.

    Returns:
        {"measures": `measured`, "deviations": `deviations`, "limit": SDs beyond which it is unlike}; empty for a card
        without `input.statistics`.
    """
    stored = card["input"].get("statistics")
    if not stored:
        return {}
    found = measured(volume, body, spacing, stored)
    return {
        "measures": {k: float(f"{v:.6g}") for k, v in found.items() if math.isfinite(v)},
        "deviations": {k: round(v, 3) for k, v in deviations(found, stored).items()},
        "limit": round(limit(stored["cases"]), 3),
    }


def warnings(volume: np.ndarray, body: np.ndarray, spacing, card: dict, found: dict | None = None) -> list[str]:
    """What of an image is worse than in the training images.

    Worse than usual by `limit`, and worse than in every training image: their SDs take one that is unlike the others
    for a rare one.

    Args:
        volume: [z, y, x], in the network's scale.
        body: bool [z, y, x].
        spacing: (x, y, z), mm.
        card: of the model.
        found: `measured` of the image, where that was done.

    Returns:
        Whole sentences; none for a card without `input.statistics`.
    """
    stored = card["input"].get("statistics")
    if not stored:
        return []
    found, out = found or measured(volume, body, spacing, stored), []
    for name, z in deviations(found, stored).items():
        if z > limit(stored["cases"]):
            low, high = stored["measures"][name]["range"]
            if low <= found[name] <= high:
                continue
            form = "{:.2f}" if name == "histogram" else "{:.1%}"
            seen = f"{form.format(low)} to {form.format(high)}"
            out.append(
                f"{MEASURES[name][1].format(value=found[name])}; in the {stored['cases']} training images it was "
                f"{seen}. "
                "Expect larger errors than the model's card says."
            )
    return out

"""Colour tables of 256 RGB entries (uint8), made by interpolation between a few anchors in CIELAB.

Every sequential table rises steadily in lightness, so that it reads in grey and with any colour vision; the diverging
one is blue to red through near-white (safe for red-green blindness) and even in lightness about its middle.
"""

from __future__ import annotations

import numpy as np

# sRGB anchors, equally spaced from the lowest to the highest value
ANCHORS = {
    # total (predictive) uncertainty: black over violet and orange to light yellow
    "predictive": ((8, 4, 20), (62, 15, 92), (138, 34, 106), (205, 66, 71), (242, 125, 22), (249, 200, 50), (253, 252, 180)),
    # noise in the data (intrinsic): black over teal to light green
    "intrinsic": ((6, 8, 24), (12, 50, 84), (13, 96, 112), (28, 142, 122), (88, 186, 112), (166, 222, 120), (244, 252, 196)),
    # doubt of the model (parameter): black over blue and violet to light pink
    "parameter": ((8, 6, 26), (32, 32, 110), (84, 48, 156), (146, 62, 168), (204, 92, 164), (240, 146, 166), (254, 222, 206)),
    # entropy of structures: viridis-like
    "entropy": ((40, 4, 72), (66, 50, 122), (56, 96, 140), (36, 140, 140), (54, 182, 118), (142, 214, 68), (253, 231, 37)),
    # signed: blue is too low, red too high
    "signed": ((8, 48, 107), (49, 118, 182), (140, 190, 222), (246, 246, 246), (238, 162, 128), (196, 66, 66), (103, 6, 31)),
    "grey": ((0, 0, 0), (255, 255, 255)),
}
# sRGB primaries and D65
_TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
_WHITE = _TO_XYZ.sum(1)


def names() -> tuple[str, ...]:
    """The tables' names."""
    return tuple(ANCHORS)


def table(name: str) -> np.ndarray:
    """The table `name` as uint8 (256, 3), lowest value first. Raises `KeyError` for an unknown name."""
    if name == "grey":
        return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    anchors = rgb_to_lab(np.array(ANCHORS[name], float))
    at = np.linspace(0, len(anchors) - 1, 256)
    lab = np.stack([np.interp(at, np.arange(len(anchors)), anchors[:, k]) for k in range(3)], axis=1)
    return np.clip(np.rint(lab_to_rgb(lab)), 0, 255).astype(np.uint8)


def apply(values: np.ndarray, name: str, low: float, high: float) -> np.ndarray:
    """`values` of any shape as uint8 RGB with a last axis of 3; below `low` and above `high` the ends' colours, NaN lowest."""
    scaled = (np.nan_to_num(np.asarray(values, np.float32), nan=low) - low) / max(high - low, 1e-12)
    return table(name)[np.clip(np.rint(scaled * 255), 0, 255).astype(np.uint8)]


def rgb_to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB 0 to 255 to CIELAB (D65), (n, 3)."""
    c = rgb / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    t = linear @ _TO_XYZ.T / _WHITE
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def lab_to_rgb(lab: np.ndarray) -> np.ndarray:
    """CIELAB (D65) to sRGB 0 to 255, (n, 3), not clipped to the gamut's upper end."""
    fy = (lab[:, 0] + 16) / 116
    f = np.stack([fy + lab[:, 1] / 500, fy, fy - lab[:, 2] / 200], axis=1)
    t = np.where(f > 6 / 29, f ** 3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    linear = np.clip((t * _WHITE) @ np.linalg.inv(_TO_XYZ).T, 0, None)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)

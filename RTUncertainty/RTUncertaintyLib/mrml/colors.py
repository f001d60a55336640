"""Colour tables of the overlays: perceptually ordered, readable with colour-vision deficiency, on a grey image.

The anchors are samples of the public-domain (CC0) matplotlib maps *plasma* and *viridis* (Smith and van der Walt, 2015)
without their darkest end, which would look like shadow on a grey image, and of Moreland's *cool-warm* map (Moreland,
"Diverging color maps for scientific visualization", ISVC 2009) with blue and orange-red ends.
"""

from __future__ import annotations

import colorsys

import numpy as np

SIZE = 256
ALIKE = 0.12
"""Distance of two colours (red, green, blue in 0..1) below which they are taken for one."""
GOLDEN = 0.618
"""Turn of the hue from one try to the next: the golden ratio never comes back soon."""

_ANCHORS = {
    "standard_deviation": [
        (84, 2, 163),
        (112, 3, 168),
        (139, 10, 165),
        (163, 29, 154),
        (185, 50, 137),
        (204, 71, 120),
        (219, 92, 104),
        (233, 114, 87),
        (244, 136, 73),
        (251, 161, 57),
        (254, 188, 43),
        (248, 216, 36),
        (240, 249, 33),
    ],
    "information": [
        (68, 57, 130),
        (62, 74, 137),
        (53, 93, 141),
        (46, 109, 142),
        (39, 127, 142),
        (33, 144, 141),
        (32, 163, 134),
        (53, 183, 121),
        (85, 198, 103),
        (122, 209, 81),
        (165, 219, 54),
        (210, 226, 27),
        (253, 231, 37),
    ],
    "signed": [
        (59, 76, 192),
        (88, 118, 226),
        (124, 159, 249),
        (163, 194, 255),
        (202, 216, 239),
        (228, 228, 228),
        (242, 202, 175),
        (246, 160, 116),
        (238, 118, 68),
        (217, 75, 30),
        (166, 36, 3),
    ],
}

PALETTES = tuple(_ANCHORS)


def palette(name: str) -> np.ndarray:
    """The table `name` (one of `PALETTES`): float array of shape (256, 4), red, green, blue and opacity in 0..1."""
    anchors = np.asarray(_ANCHORS[name], dtype=float) / 255.0
    at = np.linspace(0.0, len(anchors) - 1.0, SIZE)
    channels = [np.interp(at, np.arange(len(anchors)), anchors[:, c]) for c in range(3)]
    return np.column_stack([*channels, np.ones(SIZE)])


def told_apart(colors: list[tuple]) -> list[tuple]:
    """The colours (red, green, blue in 0..1), of which each that is like one before it is turned to another hue.

    Alike is less than `ALIKE` apart. The first of a kind keeps its colour, so that a structure has the colour that
    its card gives it.
    """
    found: list[tuple] = []
    for color in colors:
        hue, lightness, saturation = colorsys.rgb_to_hls(*color)
        candidate = tuple(color)
        for step in range(1, 60):
            if all(np.linalg.norm(np.subtract(candidate, other)) >= ALIKE for other in found):
                break
            candidate = colorsys.hls_to_rgb(
                (hue + step * GOLDEN) % 1.0, min(max(lightness, 0.35), 0.7), max(saturation, 0.5)
            )
        found.append(tuple(candidate))
    return found


def hide_middle(table: np.ndarray, half_width: float) -> np.ndarray:
    """A copy of a signed table (N, 4) whose middle part is transparent.

    `half_width` is the share (0..1) of each half that is hidden: with a range of ±4 and a limit of 2 it is 0.5.
    """
    result = table.copy()
    position = np.abs(np.linspace(-1.0, 1.0, len(table)))
    result[:, 3] = np.where(position < half_width, 0.0, 1.0)
    return result

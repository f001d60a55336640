"""Pictures of a report by Pillow: slices with contours, maps, legends and the patient's directions; the geometry of
its charts."""

from __future__ import annotations

import functools
import io
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .structures import Part, Structure

PIXELS = 420
"""The longer edge of a picture."""
LEGEND = 38
"""Height of the strip below a picture that holds its legend, in pixels."""
LIGHT, DARK = (255, 233, 168), (28, 36, 48)
# anchors in sRGB, equally spaced from the lowest to the highest value; all but "signed" rise in lightness
COLORS = {
    "predictive": (
        (8, 4, 20),
        (62, 15, 92),
        (138, 34, 106),
        (205, 66, 71),
        (242, 125, 22),
        (249, 200, 50),
        (253, 252, 180),
    ),
    "intrinsic": (
        (6, 8, 24),
        (12, 50, 84),
        (13, 96, 112),
        (28, 142, 122),
        (88, 186, 112),
        (166, 222, 120),
        (244, 252, 196),
    ),
    "parameter": (
        (8, 6, 26),
        (32, 32, 110),
        (84, 48, 156),
        (146, 62, 168),
        (204, 92, 164),
        (240, 146, 166),
        (254, 222, 206),
    ),
    "entropy": (
        (40, 4, 72),
        (66, 50, 122),
        (56, 96, 140),
        (36, 140, 140),
        (54, 182, 118),
        (142, 214, 68),
        (253, 231, 37),
    ),
    "signed": (
        (8, 48, 107),
        (49, 118, 182),
        (140, 190, 222),
        (246, 246, 246),
        (238, 162, 128),
        (196, 66, 66),
        (103, 6, 31),
    ),
    "grey": ((0, 0, 0), (255, 255, 255)),
}


@dataclass(frozen=True)
class Scale:
    """How values become colours.

    Attributes:
        table: of `COLORS`.
        low, high: the values at its ends.
        unit: at the legend.
    """

    table: str
    low: float
    high: float
    unit: str = ""


def number(value: float) -> str:
    """A number as people write it: about three digits, a true minus sign, a dash for none."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    if size >= 100 or value == round(value):
        text = f"{value:,.0f}".replace(",", "\u202f") if size >= 10000 else f"{value:.0f}"
    else:
        text = f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.095 else f"{value:.2g}"
    return text.replace("-", "−")


def round_up(value: float) -> float:
    """The next round number at or above `value`: 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8 times a power of ten."""
    if not value > 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if m * power >= value * (1 - 1e-9))


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers within a range.

    Args:
        low: end of the range.
        high: end of the range.
        about: how many are wanted.

    Returns:
        Rising.
    """
    step = 10.0 ** math.floor(math.log10(max((high - low) / about, 1e-12)))
    step *= next(m for m in (1, 2, 2.5, 5, 10) if (high - low) / (m * step) <= about + 1e-9)
    first = math.ceil(low / step - 1e-9)
    return [round((first + i) * step, 10) for i in range(int(math.floor(high / step + 1e-9)) - first + 1)]


def colored(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Values as colours; beyond the scale the colours of its ends, NaN the lowest.

    Args:
        values: any shape.
        scale: how.

    Returns:
        uint8 RGB with a last axis of 3.
    """
    anchors = np.array(COLORS[scale.table], float)
    at = (np.nan_to_num(np.asarray(values, np.float32), nan=scale.low) - scale.low) / max(scale.high - scale.low, 1e-12)
    return (
        np.stack([np.interp(at * (len(anchors) - 1), np.arange(len(anchors)), c) for c in anchors.T], axis=-1)
        .round()
        .astype(np.uint8)
    )


class View:
    """A plane of a volume, drawn with square pixels.

    Axial and coronal pictures have the patient's right at the left, sagittal ones the front at the left; the head is at
    the top.

    Args:
        plane: "axial", "coronal" or "sagittal".
        index: number of the slice across the plane.
        box: slices (z, y, x) of the voxels to show.
        spacing: (x, y, z), mm.
    """

    AXES = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}
    LETTERS = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}  # left, right, top, bottom

    def __init__(self, plane: str, index: int, box, spacing):
        self.plane, self.index, self.box = plane, index, box
        self.across, *self.axes = self.AXES[plane]
        self.millimetres = [(box[axis].stop - box[axis].start) * float(spacing[2 - axis]) for axis in self.axes]
        self.shape = tuple(max(1, round(mm * PIXELS / max(self.millimetres))) for mm in self.millimetres)

    def cut(self, volume: np.ndarray | Part) -> np.ndarray:
        """The slice of a volume, interpolated to the picture's pixels.

        Args:
            volume: [z, y, x].

        Returns:
            float32 [rows, columns].
        """
        where = list(self.box)
        where[self.across] = self.index
        plane = np.asarray(volume[tuple(where)], np.float32)
        plane = plane if self.plane == "axial" else plane[::-1]
        return np.asarray(
            Image.fromarray(np.ascontiguousarray(plane)).resize(self.shape[::-1], Image.Resampling.BILINEAR)
        )

    def pixel(self, voxel) -> tuple[float, float]:
        """Where in the picture a voxel is.

        Args:
            voxel: (z, y, x).

        Returns:
            (row, column).
        """
        row, column = (
            (voxel[axis] + 0.5 - self.box[axis].start) / (self.box[axis].stop - self.box[axis].start) * size
            for axis, size in zip(self.axes, self.shape)
        )
        return (row if self.plane == "axial" else self.shape[0] - row), column

    def outline(self, mask: np.ndarray | Part, level: float = 0.5, thin: bool = False) -> np.ndarray:
        """Where the border of a mask runs: the pixels on either side of it.

        Args:
            mask: [z, y, x], bool or values.
            level: above which values count as inside.
            thin: the pixels inside only.

        Returns:
            bool [rows, columns].
        """
        inside, edge = self.cut(mask) > level, np.zeros(self.shape, bool)
        for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
            differ = inside[a] != inside[b]
            edge[a] |= differ
            edge[b] |= differ
        return edge & inside if thin else edge


@dataclass(frozen=True)
class Line:
    """A contour in a picture.

    Attributes:
        pixels: bool [rows, columns].
        color: RGB.
        rim: dark pixels below it, so that it shows on light and dark alike.
    """

    pixels: np.ndarray
    color: tuple
    rim: bool = False


CONTOURS = {
    "planning": "thin: planning contour",
    "propagated": "thick line: propagated contour",
    "structure": "line: contour",
    "segmented": "dashed: the model's own contour",
    "accepted": "dotted white: accepted contour",
}
"""Path of a structure's contour -> how it is drawn, in the order of drawing."""
NESTED = ((5, 0.65), (95, 0.65))
"""Percentile of a nested contour, and how far its colour goes towards white."""


def contour_lines(view: View, structures: list[Structure], paths=tuple(CONTOURS)) -> list[Line]:
    """The contours of some structures.

    Args:
        view: the plane.
        structures: with their contours.
        paths: keys of `CONTOURS` that are drawn.

    Returns:
        Lines in the order in which they are drawn.
    """
    lines = []
    for path in (p for p in CONTOURS if p in paths):
        for s in structures:
            part = s.contours.get(path)
            if part is not None and part.any():
                pixels = view.outline(part, thin=path == "planning")
                if path in ("segmented", "accepted"):
                    pixels &= dashes(pixels, 7.0 if path == "segmented" else 3.0)
                color = (
                    (255, 255, 255) if path == "accepted" else _paler(s.color, 0.55) if path == "planning" else s.color
                )
                lines.append(Line(pixels, color, path in ("structure", "propagated")))
    return lines


def nested_lines(view: View, structure: Structure) -> list[Line]:
    """The nested contours of a structure: that of percentile q holds the voxels inside in more than 100 − q %.

    Args:
        view: the plane.
        structure: with its percentile map.

    Returns:
        Lines; none without the map.
    """
    return (
        [Line(view.outline(structure.inside, 100 - q, thin=True), _paler(structure.color, pale)) for q, pale in NESTED]
        if structure.inside
        else []
    )


def _paler(color, share: float) -> tuple[int, ...]:
    return tuple(int((1 - share) * c + share * 255) for c in color)


def dashes(pixels: np.ndarray, length: float) -> np.ndarray:
    """Every other sector of a picture about the middle of some pixels: a closed line becomes dashes.

    Args:
        pixels: bool [rows, columns].
        length: of a dash, about, pixels.

    Returns:
        bool [rows, columns].
    """
    if not pixels.any():
        return pixels
    rows, columns = (index - where.mean() for index, where in zip(np.indices(pixels.shape), np.nonzero(pixels)))
    count = max(4, round(math.pi * float(np.hypot(rows, columns)[pixels].mean()) / length))
    return np.floor(np.arctan2(rows, columns) / math.pi * count) % 2 == 0


@dataclass
class Figure:
    """A finished picture.

    Attributes:
        caption: below it.
        key: what it shows, a key of the report's images.
        png: the file.
    """

    caption: str
    key: str
    png: bytes = field(repr=False)


def draw(
    view: View,
    rgb: np.ndarray,
    lines: list[Line],
    caption: str,
    key: str,
    *,
    scale: Scale | None = None,
    strip: bool = False,
    bar: bool = False,
    cross=None,
    square: bool = False,
) -> Figure:
    """Completes a picture and packs it.

    Args:
        view: what the pixels are of.
        rgb: uint8 [rows, columns, 3].
        lines: contours, drawn in their order.
        caption: see `Figure`.
        key: see `Figure`.
        scale: of the legend below it; None: no legend.
        strip: whether there is room for a legend although it has none, so that a row is even.
        bar: whether it has a bar of 5 cm (1 cm on a small field).
        cross: voxel (z, y, x) at which ticks at the edges point, so that nothing near it is covered.
        square: whether it is put into the middle of a black square.

    Returns:
        The picture as a PNG.
    """
    rgb = rgb.copy()
    for line in lines:
        if line.rim:
            wide = line.pixels.copy()
            for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
                wide |= np.roll(line.pixels, shift, axis)
            rgb[wide] = (0.45 * rgb[wide]).astype(np.uint8)
    for line in lines:
        rgb[line.pixels] = line.color
    height, width = view.shape
    side = max(width, height)
    size = (side, side) if square else (width, height)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    picture = Image.new("RGB", (size[0], size[1] + (LEGEND if scale or strip else 0)), "white")
    picture.paste((0, 0, 0), (0, 0, *size))
    picture.paste(Image.fromarray(rgb), (left, top))
    pen = ImageDraw.Draw(picture)
    if cross is not None:
        row, column = view.pixel(cross)
        x, y, long = left + column, top + row, side // 18
        for ends in (
            (0, y, long, y),
            (size[0] - long, y, size[0], y),
            (x, 0, x, long),
            (x, size[1] - long, x, size[1]),
        ):
            pen.line(ends, LIGHT, 2)
    away = 0.84 if cross is not None else 0.5  # letters leave the ticks alone
    places = (
        (6, (1 - away) * size[1], "lm"),
        (size[0] - 6, (1 - away) * size[1], "rm"),
        (away * size[0], 6, "mt"),
        (away * size[0], size[1] - 6, "mb"),
    )
    for letter, (x, y, anchor) in zip(View.LETTERS[view.plane], places):
        _text(pen, (x, y), letter, anchor)
    if bar:
        length = 50 if view.millimetres[1] > 120 else 10
        pen.line((10, size[1] - 10, 10 + length * width / view.millimetres[1], size[1] - 10), LIGHT, 3)
        _text(pen, (10, size[1] - 15), f"{length // 10} cm", "lb")
    if scale is not None:
        _legend(picture, pen, scale, size[1])
    out = io.BytesIO()
    picture.save(out, "PNG")
    return Figure(caption, key, out.getvalue())


def _text(pen, at, text: str, anchor: str) -> None:
    """Light letters with a dark edge, which show on bone and on air."""
    pen.text(at, text, LIGHT, _font(15), anchor, stroke_width=2, stroke_fill=(0, 0, 0))


def _legend(picture, pen, scale: Scale, top: int) -> None:
    """The scale's colours with round numbers and the unit below a picture."""
    left, right = 8, picture.width - 9
    bar = colored(np.linspace(scale.low, scale.high, right - left)[None].repeat(10, 0), scale)
    picture.paste(Image.fromarray(bar), (left, top + 4))
    values = ticks(scale.low, scale.high, 4)
    for value in values:
        x = left + (right - left) * (value - scale.low) / (scale.high - scale.low)
        text = number(value).replace("−", "-") + (
            f" {scale.unit}" if value == values[-1] and scale.unit else ""
        )  # the font has no minus sign
        half = pen.textlength(text, _font(16)) / 2
        pen.line((x, top + 14, x, top + 17), DARK)
        pen.text((min(max(x, half), picture.width - 1 - half), top + 18), text, DARK, _font(16), "mt")


@functools.cache
def _font(size: int):
    return ImageFont.load_default(size)


@dataclass
class Series:
    """A line of a chart, perhaps with a band about it.

    Attributes:
        name: in the key of the chart.
        color: RGB, or a text for HTML.
        x, y: NaN where there is none.
        dashed: or not.
        lower, upper: of the band, or None.
    """

    name: str
    color: tuple | str
    x: Any
    y: Any
    dashed: bool = False
    lower: Any = None
    upper: Any = None


def hexadecimal(color) -> str:
    """A colour (0..255 each) for HTML; one that is a text already as it is."""
    return color if isinstance(color, str) else "#" + "".join(f"{max(0, min(255, int(c))):02x}" for c in color)


def chart(
    series: list[Series], x_title: str, y_title: str, *, x_range=None, y_range=None, marks=(), height: int = 230
) -> dict:
    """The geometry of a chart for the macro `chart` of the template, in units of its drawing, which is 620 wide.

    Args:
        series: what is drawn, in this order.
        x_title: what the horizontal axis says.
        y_title: what the vertical axis says.
        x_range: ends of the axis; None: from the data.
        y_range: ends of the axis; None: from the data, from 0.
        marks: places on the horizontal axis that get a dotted line.
        height: of the drawing.

    Returns:
        What the macro takes.
    """
    left, right, top, floor = 52, 608, 10, height - 40
    values = np.concatenate([np.asarray(s.y, float) for s in series] + [np.zeros(1)])
    x0, x1 = x_range or (min(min(s.x) for s in series), max(max(s.x) for s in series))
    y0, y1 = y_range or (0.0, 1.08 * max(float(values[np.isfinite(values)].max()), 1e-6))
    x1, y1 = (b if b > a else a + 1 for a, b in ((x0, x1), (y0, y1)))

    def x(v):
        return round(float(left + (v - x0) / (x1 - x0) * (right - left)), 1)

    def y(v):
        return round(float(floor - (v - y0) / (y1 - y0) * (floor - top)), 1)

    lines, bands = [], []
    for s in series:
        if s.lower is not None and s.upper is not None:
            around = [*zip(s.x, s.upper), *reversed([*zip(s.x, s.lower)])]
            bands.append((" ".join(f"{x(a)},{y(b)}" for a, b in around), hexadecimal(s.color)))
        runs: list[list[str]] = [[]]
        for a, b in zip(s.x, s.y):
            runs[-1].append(f"{x(a)},{y(b)}") if math.isfinite(b) else runs.append([])
        lines += [(" ".join(run), hexadecimal(s.color), s.dashed) for run in runs if run]
    return {
        "width": 620,
        "height": height,
        "left": left,
        "right": right,
        "top": top,
        "floor": floor,
        "lines": lines,
        "bands": bands,
        "key": [(s.name, hexadecimal(s.color), s.dashed) for s in series],
        "x_title": x_title,
        "y_title": y_title,
        "x_ticks": [(x(v), number(v)) for v in ticks(x0, x1, 8)],
        "y_ticks": [(y(v), number(v)) for v in ticks(y0, y1)],
        "marks": [x(v) for v in marks],
    }

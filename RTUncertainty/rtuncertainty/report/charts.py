"""Charts and legends of the report as inline SVG and HTML; every text is escaped here or made of numbers."""

from __future__ import annotations

import math
from html import escape

import numpy as np

from . import colormaps
from .pictures import Scale

# Okabe and Ito's colours, told apart with any colour vision
LINES = {"predictive": "#d55e00", "intrinsic": "#009e73", "parameter": "#0072b2", "absolute error": "#222222",
         "displacement": "#d55e00"}


def number(value: float) -> str:
    """A number as people write it: three digits or so, a true minus sign."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    if size >= 100 or value == round(value):
        text = f"{value:,.0f}".replace(",", "\u202f") if size >= 10000 else f"{value:.0f}"
    else:
        text = f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.095 else f"{value:.2g}"
    return text.replace("-", "−")


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, about as many as asked."""
    step = 10.0 ** math.floor(math.log10(max((high - low) / about, 1e-12)))
    step *= next(m for m in (1, 2, 2.5, 5, 10) if (high - low) / (m * step) <= about + 1e-9)
    first = math.ceil(low / step - 1e-9)
    return [round((first + i) * step, 10) for i in range(int(math.floor(high / step + 1e-9)) - first + 1)]


def legend(scale: Scale) -> str:
    """A horizontal bar of the scale's colours with round numbers and the unit."""
    table = colormaps.table(scale.table)
    stops = "".join(f"<stop offset='{i / 16:.4f}' stop-color='rgb({r},{g},{b})'/>"
                    for i, (r, g, b) in enumerate(table[np.linspace(0, 255, 17).round().astype(int)]))
    name = f"g-{scale.table}"
    marks = []
    unit = f" {scale.unit}" if scale.unit else ""
    values = ticks(scale.low, scale.high, 4)
    for value in values:
        x = 8 + 264 * (value - scale.low) / (scale.high - scale.low)
        anchor = "start" if x < 14 else "end" if x > 258 else "middle"
        label = number(value) + (escape(unit) if value == values[-1] else "")
        marks.append(f"<line x1='{x:.1f}' x2='{x:.1f}' y1='11' y2='14' stroke='#555'/>"
                     f"<text x='{x:.1f}' y='25' text-anchor='{anchor}'>{label}</text>")
    label = f"Legend, {number(scale.low)} to {number(scale.high)}{escape(unit, quote=True)}"
    return (f"<svg class='legend' viewBox='0 0 280 28' role='img' font-family='Arial, sans-serif' font-size='10.5' fill='#38424e' aria-label='{label}'>"
            f"<defs><linearGradient id='{name}'>{stops}</linearGradient></defs><rect x='8' y='1' width='264' height='10' "
            f"fill='url(#{name})' stroke='#999' stroke-width='0.5'/>{''.join(marks)}</svg>")


class _Frame:
    """Axes of a chart: maps data to the picture and draws the frame, grid, ticks and titles."""

    def __init__(self, x_range, y_range, x_title, y_title, width=620, height=230, left=52, about=8, levels=True):
        """`about`: how many numbers stand along the horizontal axis; `levels`: whether there is a vertical one."""
        self.x_range, self.y_range, self.width, self.height = x_range, y_range, width, height
        self.left, self.right, self.top, self.bottom = left, 12, 10, 40
        self.parts = []
        floor, end = height - self.bottom, width - self.right
        for value in ticks(*y_range) if levels else ():
            y = self.y(value)
            self.segment(self.left, end, y, y, "#e3e6e8")
            self.label(self.left - 6, y + 4, number(value), "end")
        for value in ticks(*x_range, about=about):
            x = self.x(value)
            self.segment(x, x, floor, floor + 4, "#555")
            self.label(x, floor + 17, number(value))
        self.segment(self.left, end, floor, floor, "#555")
        self.label((self.left + end) / 2, height - 5, x_title)
        self.parts.append(f"<text transform='translate(13 {(self.top + floor) / 2}) rotate(-90)' text-anchor='middle'>"
                          f"{escape(y_title)}</text>")

    def segment(self, x1, x2, y1, y2, colour, dash=""):
        dash = f" stroke-dasharray='{dash}'" if dash else ""
        self.parts.append(f"<line x1='{x1:.1f}' x2='{x2:.1f}' y1='{y1:.1f}' y2='{y2:.1f}' stroke='{colour}'{dash}/>")

    def label(self, x, y, words, anchor="middle"):
        self.parts.append(f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'>{escape(words)}</text>")

    def x(self, value):
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.width - self.left - self.right)

    def y(self, value):
        low, high = self.y_range
        return self.height - self.bottom - (value - low) / (high - low) * (self.height - self.top - self.bottom)

    def line(self, xs, ys, colour, dashed=False):
        runs, run = [], []
        for x, y in zip(xs, ys):
            if math.isfinite(y):
                run.append(f"{self.x(x):.1f},{self.y(y):.1f}")
            elif run:
                runs.append(run)
                run = []
        for points in runs + [run]:
            if len(points) == 1:
                cx, cy = points[0].split(",")
                self.parts.append(f"<circle cx='{cx}' cy='{cy}' r='2.5' fill='{colour}'/>")
            elif points:
                dash = " stroke-dasharray='5 3'" if dashed else ""
                self.parts.append(f"<polyline points='{' '.join(points)}' fill='none' stroke='{colour}' "
                                  f"stroke-width='1.8'{dash}/>")

    def svg(self, label):
        return (f"<svg class='chart' viewBox='0 0 {self.width} {self.height}' role='img' font-family='Arial, sans-serif' font-size='11' fill='#38424e' "
                f"aria-label='{escape(label, quote=True)}'>{''.join(self.parts)}</svg>")


def key(entries: list[tuple[str, str, bool]]) -> str:
    """A line of (name, colour, dashed) samples above a chart."""
    samples = []
    for name, colour, dashed in entries:
        dash = " stroke-dasharray='5 3'" if dashed else ""
        samples.append(f"<span><svg width='26' height='8'><line x1='1' x2='25' y1='4' y2='4' stroke='{colour}' "
                       f"stroke-width='2'{dash}/></svg> {escape(name)}</span>")
    return f"<div class='key'>{''.join(samples)}</div>"


def along_slices(curves: dict[str, np.ndarray], marked: list[int], unit: str = "HU") -> str:
    """Means in the body in `unit`, slice by slice (number 1 is the lowest), NaN where there is none; `marked` slices stand out."""
    count = len(next(iter(curves.values())))
    top = max((float(np.nanmax(c)) for c in curves.values() if np.isfinite(c).any()), default=1.0)
    frame = _Frame((1, max(count, 2)), (0, 1.08 * max(top, 1e-6)), "axial slice (1 = lowest)", f"mean in the body ({unit})")
    for index in marked:
        x = frame.x(index + 1)
        frame.segment(x, x, frame.top, frame.height - frame.bottom, "#888", "2 3")
    for name, curve in curves.items():
        frame.line(np.arange(1, count + 1), curve, LINES[name], dashed=name == "absolute error")
    entries = [(name if name == "absolute error" else f"{name} SD", LINES[name], name == "absolute error") for name in curves]
    return _together(key(entries + [("slices shown above", "#888888", True)]) + frame.svg("Mean uncertainty in every slice"))


def z_histogram(z: np.ndarray) -> str:
    """Histogram of z-scores as a density from −5 to 5 (the ends hold what lies beyond), with N(0, 1) drawn over it."""
    edges = np.linspace(-5, 5, 51)
    share = np.histogram(np.clip(z, -4.999, 4.999), edges)[0] / max(z.size, 1)
    density = share / (edges[1] - edges[0])
    frame = _Frame((-5, 5), (0, 1.1 * max(0.4, float(density.max()))), "z-score: (synCT − CT) / predictive SD", "density")
    for left, right, value in zip(edges[:-1], edges[1:], density):
        x, y = frame.x(left), frame.y(value)
        frame.parts.append(f"<rect x='{x:.1f}' y='{y:.1f}' width='{frame.x(right) - x:.2f}' height='{frame.y(0) - y:.1f}' "
                           f"fill='#9cc3dc' stroke='#fff' stroke-width='0.4'/>")
    at = np.linspace(-5, 5, 101)
    frame.line(at, np.exp(-0.5 * at ** 2) / math.sqrt(2 * math.pi), "#d55e00")
    entries = [("this image", "#9cc3dc", False), ("what perfect error bars would give, N(0, 1)", "#d55e00", False)]
    return _together(key(entries) + frame.svg("Histogram of z-scores against the standard normal distribution"))


def _together(html: str) -> str:
    """Not to be parted by a page break."""
    return f"<div class='together'>{html}</div>"


def error_against_sd(error: np.ndarray, sd: np.ndarray, bins: int = 12) -> str:
    """RMS error against the mean predictive SD (HU) in bins of equal numbers of voxels, and the line of error bars that are right."""
    parts = np.array_split(np.argsort(sd, kind="stable"), min(bins, len(sd)))
    predicted = np.array([sd[p].mean() for p in parts])
    found = np.array([math.sqrt(float(np.mean(error[p].astype(float) ** 2))) for p in parts])
    top = 1.05 * float(max(predicted.max(), found.max(), 1e-6))
    frame = _Frame((0, top), (0, top), "predictive SD (HU)", "RMS error (HU)", height=260)
    frame.line([0, top], [0, top], "#888", dashed=True)
    frame.line(predicted, found, "#0072b2")
    for x, y in zip(predicted, found):
        frame.parts.append(f"<circle cx='{frame.x(x):.1f}' cy='{frame.y(y):.1f}' r='3' fill='#0072b2'/>")
    entries = [("voxels with about this SD", "#0072b2", False), ("error bars that are right", "#888888", True)]
    return _together(key(entries) + frame.svg("RMS error against predictive SD"))


def rgb(colour) -> str:
    """A colour (0 to 255) for SVG, darkened where it would be lost on white."""
    r, g, b = (max(0, min(255, int(c))) for c in colour)
    if 0.3 * r + 0.59 * g + 0.11 * b > 170:
        r, g, b = (int(0.72 * c) for c in (r, g, b))
    return f"rgb({r},{g},{b})"


def intervals(bars: list[tuple], colours: dict[str, tuple]) -> str:
    """Intervals about each volume in per cent: (name, lower, upper, calibrated); those not calibrated are dashed."""
    reach = max(max(abs(low), abs(high)) for _, low, high, _ in bars)
    reach = min(max(1.08 * reach, 5.0), 150.0)
    frame = _Frame((-min(reach, 100.0), reach), (0, 1), "deviation from the volume (%)", "", height=46 + 18 * len(bars), left=150, levels=False)
    zero = frame.x(0)
    frame.segment(zero, zero, frame.top, frame.height - frame.bottom, "#999", "2 3")
    for number_, (name, low, high, calibrated) in enumerate(bars):
        y, colour = frame.top + 18 * number_ + 9, rgb(colours.get(name, (90, 90, 90)))
        left, right = frame.x(max(low, frame.x_range[0])), frame.x(min(high, frame.x_range[1]))
        dash = "" if calibrated else " stroke-dasharray='4 2'"
        frame.parts.append(f"<line x1='{left:.1f}' x2='{right:.1f}' y1='{y:.1f}' y2='{y:.1f}' stroke='{colour}' stroke-width='5'{dash}/>")
        frame.parts.append(f"<circle cx='{zero:.1f}' cy='{y:.1f}' r='3.2' fill='#1c2430'/>")
        if high > frame.x_range[1]:
            frame.label(frame.width - 2, y + 4, "›", "end")  # it goes on
        frame.label(frame.left - 8, y + 4, name if len(name) < 24 else f"{name[:22]}…", "end")
    kinds = [("interval, calibrated", "#555555", False), ("interval, not calibrated", "#555555", True)]
    present = [kind for kind, calibrated in zip(kinds, (True, False)) if any(b[3] == calibrated for b in bars)]
    return _together(key(present) + frame.svg("Intervals of the volumes, relative to the volumes"))


def distributions(curves: dict[str, tuple], stated: dict[str, dict], colours: dict[str, tuple]) -> str:
    """A small chart for each structure: volume (ml) -> share of the distribution below it, the interval shaded, the volume marked."""
    out = []
    for name, (volume, percentile) in curves.items():
        margin = 0.04 * (volume[-1] - volume[0])
        volume = np.maximum(volume, 0)
        title = f"{name if len(name) < 30 else name[:28] + '…'} (ml)"
        frame = _Frame((max(0.0, volume[0] - margin), volume[-1] + margin), (0, 100), title, "below (%)", 300, 170, about=4)
        low, high, found = stated[name]["lower_ml"], stated[name]["upper_ml"], stated[name]["volume_ml"]
        colour = rgb(colours.get(name, (90, 90, 90)))
        if math.isfinite(low) and math.isfinite(high):
            left, right = (frame.x(min(max(v, frame.x_range[0]), frame.x_range[1])) for v in (low, high))
            frame.parts.insert(0, f"<rect x='{left:.1f}' y='{frame.top}' width='{max(right - left, 0):.1f}' "
                                  f"height='{frame.y(0) - frame.top:.1f}' fill='#eef1f4'/>")
        frame.line(volume, percentile, colour)
        if math.isfinite(found) and frame.x_range[0] <= found <= frame.x_range[1]:
            frame.segment(frame.x(found), frame.x(found), frame.top, frame.y(0), "#1c2430", "3 3")
        out.append(f"<div class='small'>{frame.svg(f'Distribution of the volume of {name}')}</div>")
    told = key([("distribution", "#555555", False), ("stated volume", "#1c2430", True)]) + "<p class='soft'>Shaded: the interval of the table.</p>"
    return told + f"<div class='charts'>{''.join(out)}</div>"


def dvh(curves: list[dict]) -> str:
    """Dose-volume histograms: each `curve` has a name, a color, dose (Gy) and volume (%) and, where known, lower and upper (%)."""
    dose = max((float(np.max(c["dose"])) for c in curves if len(c["dose"])), default=1.0)
    frame = _Frame((0, max(dose, 1e-6)), (0, 100), "dose (Gy)", "volume (%)", height=300)
    for c in curves:
        colour = rgb(c.get("color") or (90, 90, 90))
        if c.get("lower") is not None and c.get("upper") is not None:
            there = [(frame.x(d), frame.y(v)) for d, v in zip(c["dose"], c["upper"])]
            back = [(frame.x(d), frame.y(v)) for d, v in zip(c["dose"], c["lower"])][::-1]
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in there + back)
            frame.parts.append(f"<polygon points='{points}' fill='{colour}' fill-opacity='0.22'/>")
        frame.line(c["dose"], c["volume"], colour)
    return _together(key([(c["name"], rgb(c.get("color") or (90, 90, 90)), False) for c in curves]) + frame.svg("Dose-volume histograms"))

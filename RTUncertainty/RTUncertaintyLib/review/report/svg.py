"""The report's charts on a QPainter: the few SVG elements that `rtuncertainty.report.charts` makes, as vectors."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

ALIGN = {"start": 1, "end": 2, "middle": 4}  # Qt's AlignLeft, AlignRight, AlignHCenter
_VERTICALLY = 0x80


def size(svg: str) -> tuple[float, float]:
    """Width and height of a drawing in its own units."""
    return tuple(float(v) for v in re.search(r"viewBox='0 0 ([\d.]+) ([\d.]+)'", svg).groups())


def draw(painter, svg: str, left: float, top: float, width: float, family: str) -> None:
    """Draw a chart at a place, as wide as given; the painter is left as it was."""
    root = ElementTree.fromstring(svg)
    scale = width / size(svg)[0]
    painter.save()
    painter.translate(left, top)
    painter.scale(scale, scale)
    style = {key: root.get(key) for key in ("font-size", "fill")}
    gradients = {g.get("id"): [(float(s.get("offset")), s.get("stop-color")) for s in g] for g in root.iter("linearGradient")}
    for element in root:
        _draw(painter, element, style, gradients, family)
    painter.restore()


def colour(text: str, opacity: float = 1.0):
    """A colour as SVG writes it: #rgb, #rrggbb or rgb(r,g,b)."""
    import qt

    found = re.match(r"rgb\((\d+),\s*(\d+),\s*(\d+)\)", text)
    if found:
        parts = [int(v) for v in found.groups()]
    else:
        text = text.lstrip("#")
        text = "".join(2 * c for c in text) if len(text) == 3 else text
        parts = [int(text[i:i + 2], 16) for i in (0, 2, 4)]
    return qt.QColor(*parts, round(255 * opacity))


def pen(text: str, width: float, dashes: str = ""):
    """A pen of a colour and a width; `dashes` as SVG writes them."""
    import qt

    made = qt.QPen(colour(text))
    made.setWidthF(width)
    made.setCapStyle(qt.Qt.FlatCap)
    if dashes:
        made.setDashPattern([float(d) / width for d in dashes.split()])
    return made


def _draw(painter, element, style, gradients, family) -> None:
    import qt

    kind, get = element.tag, element.get

    def number(name: str) -> float:
        return float(get(name) or 0)

    if kind == "text":
        _text(painter, element, style, family)
        return
    if kind == "rect" and (get("fill") or "").startswith("url("):
        _gradient(painter, gradients[get("fill")[5:-1]], *(number(k) for k in ("x", "y", "width", "height")))
    path = qt.QPainterPath()
    if kind == "line":
        path.moveTo(number("x1"), number("y1"))
        path.lineTo(number("x2"), number("y2"))
    elif kind in ("polyline", "polygon"):
        points = [tuple(float(v) for v in point.split(",")) for point in (get("points") or "").split()]
        for index, point in enumerate(points):
            (path.lineTo if index else path.moveTo)(*point)
        if kind == "polygon":
            path.closeSubpath()
    elif kind == "rect":
        path.addRect(*(number(k) for k in ("x", "y", "width", "height")))
    elif kind == "circle":
        path.addEllipse(number("cx") - number("r"), number("cy") - number("r"), 2 * number("r"), 2 * number("r"))
    else:
        return
    fill = get("fill") if kind not in ("line", "polyline") else None
    if fill and fill != "none" and not fill.startswith("url("):
        painter.fillPath(path, qt.QBrush(colour(fill, float(get("fill-opacity") or 1))))
    if get("stroke"):
        painter.strokePath(path, pen(get("stroke"), float(get("stroke-width") or 1), get("stroke-dasharray") or ""))


def _gradient(painter, stops, x, y, width, height) -> None:
    """A bar of colours; each piece lies a little under the next, so that no gap shows."""
    import qt

    pieces = 4 * (len(stops) - 1)
    for piece in range(pieces):
        at = (piece + 0.5) / pieces
        before = max(i for i, (offset, _) in enumerate(stops) if offset <= at)
        (low, first), (high, second) = stops[before], stops[min(before + 1, len(stops) - 1)]
        share = (at - low) / (high - low) if high > low else 0.0
        a, b = colour(first), colour(second)
        mixed = [round((1 - share) * getattr(a, c)() + share * getattr(b, c)()) for c in ("red", "green", "blue")]
        left = x + width * piece / pieces
        painter.fillRect(qt.QRectF(left, y, min(1.6 * width / pieces, x + width - left), height), qt.QBrush(qt.QColor(*mixed)))


def _text(painter, element, style, family) -> None:
    """A text at its anchor; turned where the element says so."""
    height = float(style["font-size"] or 11)
    moved = re.match(r"translate\(([-\d.]+) ([-\d.]+)\) rotate\(([-\d.]+)\)", element.get("transform") or "")
    painter.save()
    if moved:
        painter.translate(float(moved.group(1)), float(moved.group(2)))
        painter.rotate(float(moved.group(3)))
    # the baseline is at y, and about a third of the letters' height lies above the middle of the box
    x, y = float(element.get("x") or 0), float(element.get("y") or 0)
    put(painter, element.text or "", x, y - 0.36 * height, height, ALIGN[element.get("text-anchor") or "start"], family, style["fill"] or "#000")
    painter.restore()


def put(painter, text: str, x: float, y: float, height: float, align: int, family: str, ink: str, bold: bool = False) -> None:
    """A line of text of a height, with its middle at `y` and its left, right or middle (Qt's flag `align`) at `x`."""
    import qt

    # fonts are set ten times as large and scaled: letters then stand where they belong at any size
    font = qt.QFont(family)
    font.setPixelSize(max(1, round(10 * height)))
    font.setBold(bold)
    painter.save()
    painter.translate(x, y)
    painter.scale(0.1, 0.1)
    painter.setFont(font)
    painter.setPen(qt.QPen(colour(ink)))
    wide, high = 120000.0, 20 * height
    left = {1: 0.0, 2: -wide, 4: -wide / 2}[align]
    painter.drawText(qt.QRectF(left, -high / 2, wide, high), align | _VERTICALLY, text)
    painter.restore()

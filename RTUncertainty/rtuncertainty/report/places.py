"""Where to look: three planes through the least certain place of every structure that was flagged."""

from __future__ import annotations

import math
from html import escape

import numpy as np

from . import charts
from . import data
from . import pictures
from . import slices
from . import structures as report_structures, tables
from . import text as words
from .pictures import View
from .structures import Structure

MARGIN_MM = 22.0
EDGES_MM = (80.0, 150.0)  # of a picture: less shows a structure without its neighbourhood, more makes it small
PIXELS = 360
NESTED = ((5, 0.65), (95, 0.65))
"""Percentile of a nested contour, and how far its colour goes towards white."""
MOST = 12


def flagged(result: data.Result) -> list[tuple[Structure, list[dict]]]:
    """The structures with a serious flag or a warning (in a propagation also a red or amber light), worst first, each with all
    its flags."""
    rank = {s: i for i, s in enumerate(words.SEVERITIES)}
    by_name: dict[str, list[dict]] = {}
    for flag in result.flags:
        by_name.setdefault(flag.get("subject", ""), []).append(flag)
    for row in result.tables.get("structure_table", []):
        severity = {"red": "serious", "amber": "warning"}.get(row.get("light", ""))
        if severity and row.get("structure") not in by_name:
            by_name[row["structure"]] = [{"severity": severity, "flag": row.get("flag") or row["light"], "reason": row.get("reason") or ""}]
    found = [(s, by_name[s.name], min(rank.get(r.get("severity", ""), len(rank)) for r in by_name[s.name])) for s in result.structures if s.name in by_name]
    for _, rows, _ in found:
        rows.sort(key=lambda r: rank.get(r.get("severity", ""), len(rank)))
    return [(s, rows) for s, rows, worst in sorted(found, key=lambda f: f[2]) if worst < rank["info"]]


def places(result: data.Result) -> list[str]:
    """A section for each flagged structure (at most `MOST`), or where none is flagged for the one that is least certain."""
    found = flagged(result)
    title, rest = "The flagged structures, where they are least certain", found[MOST:]
    if not found:
        found, title = _widest(result), "Nothing was flagged as a warning; the least certain structure"
    if not found:
        return []
    values, key = data.doubt(result)
    out = [f"<h2>{title}</h2>", _explained(result, key, [s for s, _ in found])]
    for structure, rows in found[:MOST]:
        told = " ".join(f"<b>{words.text(r.get('flag'))}.</b> {words.text(r.get('reason'))}" for r in rows)
        swatch = f"<span class='swatch' style='background:{words.colour({'color': structure.color})}'></span>"
        head = f"<h3>{swatch}{words.text(structure.name)}</h3>" + (f"<p>{told}</p>" if told else "")
        place = report_structures.least_certain(structure, result.spacing, values)
        if place is None:
            out.append(f"<section class='slice'>{head}<p class='soft'>It has no voxel, so there is no place to show.</p></section>")
            continue
        out.append(f"<section class='slice'>{head}{_pictures(result, structure, *place, key)}</section>")
    if rest:
        out.append(f"<p>{len(rest)} more flagged structures are not pictured: {', '.join(words.text(s.name) for s, _ in rest)}.</p>")
    return out


def _widest(result: data.Result) -> list[tuple[Structure, list[dict]]]:
    """The structure whose interval is widest relative to its volume, alone; empty without intervals."""
    widths = []
    for s in result.shown():
        known = tables.interval(result, s.name)
        width = (known["upper_ml"] - known["lower_ml"]) / known["volume_ml"] if known["volume_ml"] > 0 else math.nan
        if math.isfinite(width):
            widths.append((width, s))
    return [(max(widths, key=lambda w: w[0])[1], [])] if widths else []


def _explained(result: data.Result, key: str, structures: list[Structure]) -> str:
    out = ["Three planes through one place, at which the ticks at the edges of the pictures point"]
    keys = {k for s in structures for k in s.contours}
    if result.job == "propagate":
        out.append("; ".join(text for k, text in slices.LINES.items() if k in keys))
    if any(s.inside is not None for s in structures):
        out.append("The pale lines around the contour are nested: outside of the outer line lies the structure with a probability of less "
                   "than 5 %, inside of the inner line with more than 95 %")
    if key:
        out.append(f"Below: {escape(slices.map_panel(result, key).title)}")
    return "<p class='explained'>" + ". ".join(o[:1].upper() + o[1:] for o in out if o) + ".</p>"


def field_of(structure: Structure, place, shape, spacing) -> tuple[slice, ...]:
    """The box (z, y, x) to show: a cube about the place, as large as the structure with `MARGIN_MM` around it, but no smaller than
    the first and no larger than the second of `EDGES_MM`; the part of it that lies inside the volume."""
    steps = [float(s) for s in reversed(spacing)]
    around = report_structures.around(structure, spacing, MARGIN_MM)
    edge = float(np.clip(max((b.stop - b.start) * step for b, step in zip(around, steps)), *EDGES_MM))
    out = []
    for at, count, step, b in zip(place, shape, steps, around):
        wide = min(count, int(np.ceil(edge / step)))
        # the structure's middle where the whole of it is seen, else the place
        middle = (b.start + b.stop) / 2 if (b.stop - b.start) <= wide else at + 0.5
        low = int(np.clip(round(middle - wide / 2), at + 1 - wide, at))
        low = min(max(0, low), count - wide)
        out.append(slice(low, low + wide))
    return tuple(out)


def _pictures(result: data.Result, structure: Structure, place, reason: str, key: str) -> str:
    """Anatomy with contours, and below it the uncertainty, in three planes."""
    shape = result.body.shape
    box = field_of(structure, place, shape, result.spacing)
    anatomy, scale = slices.anatomy(result)
    others = [s for s in result.shown() if s.name != structure.name]
    lines = tuple(k for k in slices.LINES if k in structure.contours)
    above, below = [], []
    overlay = slices.map_panel(result, key) if key else None
    for plane in ("axial", "coronal", "sagittal"):
        view = View(plane, box, result.spacing, longest=PIXELS)
        across = place[View.AXES[plane][0]]
        title = f"{plane.capitalize()}, slice {across + 1} of {shape[0]}" if plane == "axial" else plane.capitalize()
        inside = view.cut(result.body, across) > 0.5
        grey = pictures.coloured(view.cut(result.images[anatomy], across), scale) if anatomy else np.where(
            inside, 60, 0)[..., None].repeat(3, 2).astype(np.uint8)
        marked = pictures.with_lines(grey, _thin(view, across, others))
        marked = pictures.with_lines(marked, nested_lines(view, across, structure))
        marked = pictures.with_lines(marked, *slices.contour_lines(view, across, lines, [structure]))
        marked = pictures.squared(pictures.with_cross(marked, *view.pixel(place)), PIXELS)
        above.append(slices.figure(marked, f"place-{anatomy}", title, view, None, plane == "axial", square=True))
        if overlay is not None:
            values = view.cut(result.images[key], across)
            shown = inside & (np.abs(values - overlay.middle) >= overlay.threshold)
            rgb = pictures.laid_over(grey, values, overlay.scale, shown)
            rgb = pictures.with_lines(rgb, *slices.contour_lines(view, across, lines, [structure]))
            rgb = pictures.squared(pictures.with_cross(rgb, *view.pixel(place)), PIXELS)
            below.append(slices.figure(rgb, f"place-{key}", overlay.title, view, overlay.scale))
    told = f"Shown where {reason}."
    if overlay is not None:
        name = overlay.title[:1].lower() + overlay.title[1:] if overlay.title[1:2].islower() else overlay.title
        told += f" There the {name} is {charts.number(float(result.images[key][place]))} {overlay.scale.unit}."
    told = f"<p class='soft'>{escape(told)}</p>"
    return told + f"<div class='pictures places'>{''.join(above + below)}</div>"


def nested_lines(view: View, index: int, structure: Structure) -> list[tuple[np.ndarray, tuple]]:
    """(pixels, colour) of the nested contours of a structure: those of percentile q hold the voxels inside with more than 100 − q %."""
    out = []
    for percentile, pale in NESTED if structure.inside is not None else ():
        colour = (1 - pale) * np.array(structure.color, float) + pale * 255
        out.append((view.outline(structure.inside, index, 1.0, level=100 - percentile), tuple(int(c) for c in colour)))
    return out


def _thin(view: View, index: int, structures: list[Structure]) -> list[tuple[np.ndarray, tuple]]:
    """(pixels, colour) of the neighbours' contours, faint."""
    out = []
    for s in structures:
        colour = tuple(int(0.6 * c + 0.4 * 110) for c in s.color)
        out.append((view.outline(s.mask, index, 1.0), colour))
    return out

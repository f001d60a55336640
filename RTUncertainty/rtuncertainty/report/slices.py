"""The report's slices: which images a job shows, how each becomes colours, and rows of them as figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

import numpy as np

from . import charts
from . import data
from . import pictures
from . import text as words
from .pictures import Scale, View
from .structures import Structure

SOFT_TISSUE = (-160.0, 240.0)
ENTROPY_FROM = 0.1  # nats; below it a voxel is as good as certain
JACOBIAN_FROM = 0.1  # a tenth of the volume
LINES = {"propagated": "thick line: propagated contour", "segmented": "dashed: the model's own contour", "structure": "line: contour",
         "planning": "thin: planning contour", "accepted": "dotted white: accepted contour"}


@dataclass
class Panel:
    """One picture of a row: the image `key` in the colours of `scale`, laid over the anatomy where it is `threshold` or more away
    from `middle` when there is a threshold; with the contours `lines`."""

    key: str
    title: str
    scale: Scale
    threshold: float | None = None
    middle: float = 0.0
    lines: tuple[str, ...] = ()
    masked: bool = False


def anatomy(result: data.Result) -> tuple[str, Scale]:
    """The image on which contours are judged, and its window; ("", a scale) when there is none."""
    images = result.images
    if "synct" in images:
        return "synct", Scale("grey", *pictures.CT_WINDOW, "HU")
    if result.job == "propagate":
        return ("input" if "input" in images else "warped_planning"), Scale("grey", *SOFT_TISSUE, "HU")
    if "input" not in images:
        return "", Scale("grey", 0.0, 1.0, "")
    return "input", input_scale(result)


def modality(result: data.Result) -> str:
    """CT, MR or "" of the input, by the model's card; where that says nothing, an image with air at −1000 counts as CT."""
    known = (result.summary.get("model", {}).get("input") or {}).get("modality") or ("CT" if result.job == "propagate" else "")
    return known or ("CT" if "input" in result.images and float(result.images["input"].min()) < -200 else "")


def input_scale(result: data.Result) -> Scale:
    """The window of the input: soft tissue of a CT, of another image up to its brightest half percent."""
    if modality(result) == "CT":
        return Scale("grey", *SOFT_TISSUE, "HU")
    values = result.images["input"][result.body] if result.body.any() else result.images["input"]
    return Scale("grey", min(0.0, float(values.min())), max(float(np.percentile(values, 99.5)), 1e-6), "")


def limit(result: data.Result, key: str, percentile: float = 99.5) -> float:
    """The round number up to which a map is coloured: the same on every slice."""
    values = np.abs(result.images[key][result.body] if result.body.any() else result.images[key])
    values = values[np.isfinite(values)]
    return pictures.nice_limit(float(np.percentile(values, percentile))) if values.size else 1.0


def map_panel(result: data.Result, key: str, lines: tuple[str, ...] = ()) -> Panel:
    """An uncertainty map over the anatomy, with its range, threshold and unit."""
    if key in ("entropy", "segmented_entropy"):
        known = len(result.structures) if key == "entropy" else sum("segmented" in s.contours for s in result.structures)
        scale, threshold = Scale("entropy", 0.0, math.log(max(known + 1, 2)), "nats"), ENTROPY_FROM
        title = "Entropy of the structures" if key == "entropy" else "Entropy of the segmentation"
    elif key == "jacobian":
        away = np.abs(result.images[key][result.body] - 1) if result.body.any() else np.zeros(1)
        reach = min(max(pictures.nice_limit(float(np.percentile(away, 99))), 0.2), 1.0)
        return Panel(key, "Jacobian (1: no change of volume)", Scale("signed", 1 - reach, 1 + reach, ""), JACOBIAN_FROM, 1.0, lines)
    else:
        inside = result.images[key][result.body]
        scale = Scale("predictive", 0.0, limit(result, key), "mm" if key == "displacement_sd" else "HU")
        threshold = pictures.nice_limit(float(np.percentile(inside, 75))) if inside.size else 0.0
        threshold = min(threshold, 0.8 * scale.high)
        title = "SD of the displacement" if key == "displacement_sd" else "Predictive SD over synthetic CT"
    return Panel(key, title, scale, threshold, 0.0, lines)


def panels(result: data.Result) -> list[Panel]:
    """What to draw of a slice, in reading order."""
    images = result.images
    if result.job == "propagate":
        return _propagation_panels(result)
    out = [Panel("input", f"Input {modality(result) or 'image'}", input_scale(result))] if "input" in images else []
    ct = Scale("grey", *pictures.CT_WINDOW, "HU")
    if "synct" not in images:
        out += [Panel(out[0].key, f"{out[0].title} with structures", out[0].scale, lines=("structure",))] if out else []
        return out + [map_panel(result, "entropy", ("structure",))] * ("entropy" in images)
    out.append(Panel("synct", "Synthetic CT with structures", ct, lines=("structure",)))
    if "predictive_sd" in images:
        out.append(map_panel(result, "predictive_sd", ("structure",)))
    whole = "predictive_sd" if "predictive_sd" in images else "intrinsic_sd"
    if "intrinsic_sd" in images:
        out.append(Panel("intrinsic_sd", "Intrinsic SD (the data)", Scale("intrinsic", 0.0, limit(result, whole), "HU"), masked=True))
    if "parameter_sd" in images:
        out.append(Panel("parameter_sd", "Parameter SD (the model)", Scale("parameter", 0.0, limit(result, "parameter_sd"), "HU"), masked=True))
    if "entropy" in images:
        out.append(Panel("entropy", "Entropy of the structures", map_panel(result, "entropy").scale, lines=("structure",), masked=True))
    if result.has_reference:
        out.append(Panel("reference", "Reference CT", ct))
        if "error" in images:
            reach = limit(result, "error", 98)
            out.append(Panel("error", "Error: synCT − CT", Scale("signed", -reach, reach, "HU"), masked=True))
        if "zscore" in images:
            out.append(Panel("zscore", "z-score: error / predictive SD", Scale("signed", *pictures.Z_RANGE, ""), masked=True))
    return out


def _propagation_panels(result: data.Result) -> list[Panel]:
    ct, images = Scale("grey", *SOFT_TISSUE, "HU"), result.images
    paths = {p for s in result.structures for p in s.contours}
    out = [Panel("input", "Daily CT, planning and propagated", ct, lines=("planning", "propagated"))] if "input" in images else []
    out.append(Panel("warped_planning", "Planning CT, deformed", ct, lines=("propagated",)))
    if "segmented" in paths:
        out.append(Panel(anatomy(result)[0], "Propagated and segmented", ct, lines=("propagated", "segmented")))
    out += [map_panel(result, key, ("propagated",)) for key in ("displacement_sd", "jacobian") if key in images]
    if "segmented_entropy" in images and "segmented" in paths:
        out.append(map_panel(result, "segmented_entropy", ("segmented",)))
    return out


def drawn(result: data.Result, view: View, index: int, panel: Panel, structures: list[Structure]) -> np.ndarray:
    """The picture of a panel, RGB."""
    values = view.cut(result.images[panel.key], index)
    inside = view.cut(result.body, index) > 0.5
    if panel.threshold is None:
        rgb = pictures.coloured(values, panel.scale)
        if panel.masked:
            rgb[~inside] = 0
    else:
        key, scale = anatomy(result)
        grey = pictures.coloured(view.cut(result.images[key], index), scale) if key else np.where(inside, 60, 0)[..., None].repeat(3, 2).astype(np.uint8)
        shown = inside & (np.abs(values - panel.middle) >= panel.threshold)
        rgb = pictures.laid_over(grey, values, panel.scale, shown)
    return pictures.with_lines(rgb, *contour_lines(view, index, panel.lines, structures))


def contour_lines(view: View, index: int, keys: tuple[str, ...], structures: list[Structure]) -> tuple[list, list]:
    """(pixels, colour) of the contours `keys` of some structures, and the rims below them."""
    lines, rims = [], []
    for structure in structures:
        for key in keys:
            part = structure.contours.get(key)
            if part is None or not part.any():
                continue
            thick = key in ("structure", "propagated")
            pixels = view.outline(part, index, 2.0 if key != "planning" else 1.0)
            colour = np.array(structure.color, float)
            if key == "segmented":
                pixels &= dashes(pixels, 7.0)
            if key == "planning":
                colour = 0.45 * colour + 0.55 * 255
            if key == "accepted":
                pixels, colour = pixels & dashes(pixels, 3.0), np.full(3, 255.0)
            lines.append((pixels, tuple(int(c) for c in colour)))
            if thick:
                rims.append(view.outline(part, index, 4.0))
    return lines, rims


def dashes(pixels: np.ndarray, length: float) -> np.ndarray:
    """True in every other sector of a picture about the middle of some pixels, so that a closed line becomes dashed; a dash is
    about `length` pixels."""
    if not pixels.any():
        return pixels
    where = np.nonzero(pixels)
    row, column = (w.mean() for w in where)
    rows, columns = np.indices(pixels.shape)
    radius = float(np.hypot(where[0] - row, where[1] - column).mean())
    count = max(4, round(math.pi * radius / length))
    return np.floor(np.arctan2(rows - row, columns - column) / math.pi * count) % 2 == 0


def figure(rgb: np.ndarray, key: str, title: str, view: View, scale: Scale | None, bar: bool = False, square: bool = False) -> str:
    """A picture with the patient's directions, its legend and, on request, a bar of 5 cm (1 cm on a small field). `square`: it was
    made square, so that its width is the longer edge of the view."""
    left, right, top, bottom = View.LETTERS[view.plane]
    told = ""
    if bar:
        across = max(view.millimetres) if square else view.millimetres[1]
        length = 50 if across > 120 else 10
        told = f"<span class='bar' style='width:{100 * length / across:.1f}%'><i>{length // 10} cm</i></span>"
    return (f"<figure data-image='{key}'><figcaption>{escape(title)}</figcaption><div class='picture'>"
            f"<img alt='{escape(title, quote=True)}' src='{pictures.data_address(rgb)}'>"
            f"<span class='l'>{left}</span><span class='r'>{right}</span><span class='t'>{top}</span>"
            f"<span class='b'>{bottom}</span>{told}</div>{charts.legend(scale) if scale is not None else ''}</figure>")


def row(result: data.Result, view: View, index: int, wanted: list[Panel], structures: list[Structure]) -> str:
    """The panels of a slice, side by side."""
    out = []
    for number, panel in enumerate(wanted):
        rgb = drawn(result, view, index, panel, structures)
        grey = panel.scale.table == "grey" and not panel.scale.unit
        out.append(figure(rgb, panel.key, panel.title, view, None if grey else panel.scale, number == 0))
    return f"<div class='pictures'>{''.join(out)}</div>"


def overview(result: data.Result) -> list[str]:
    """The chosen slices, whole, and a coronal and a sagittal cut."""
    box = pictures.box_of(result.body, result.spacing)
    shown, wanted = result.shown(), panels(result)
    if not wanted:
        return ["<h2>Pictures</h2>", "<p>The input image was not given to the report and the result holds no map, so there is nothing to show.</p>"]
    out = ["<h2>Pictures</h2>", _explained(result, shown, wanted)]
    count = result.body.shape[0]
    for index, reason in data.chosen_slices(result):
        view = View("axial", _zoomed(result, index, box), result.spacing)
        out.append(f"<section class='slice'><h3>Axial slice {index + 1} of {count}: {escape(reason)}</h3>"
                   + row(result, view, index, wanted, shown) + "</section>")
    few = _few(result, wanted)
    for plane, index in zip(("coronal", "sagittal"), data.cut_position(result)):
        if box[View.AXES[plane][0]].start <= index < box[View.AXES[plane][0]].stop:
            out.append(f"<section class='slice'><h3>{plane.capitalize()} cut</h3>"
                       + row(result, View(plane, box, result.spacing), index, few, shown) + "</section>")
    return out


def _zoomed(result: data.Result, index: int, box) -> tuple[slice, ...]:
    """The box of an axial slice: that of all slices, or of the body in this one where it fills little of it (a neck below the
    level of the head, above the shoulders)."""
    own = pictures.box_of(result.body[index:index + 1], result.spacing)[1:]
    small = all(o.stop - o.start < 0.8 * (b.stop - b.start) for o, b in zip(own, box[1:]))
    return (box[0], *own) if small and result.body[index].any() else box


def _few(result, wanted: list[Panel]) -> list[Panel]:
    """The three panels of the coronal and sagittal cuts."""
    if "synct" in result.images:
        keys = ("synct", "predictive_sd", "error") if "error" in result.images else ("synct", "predictive_sd", "entropy")
        return [p for p in wanted if p.key in keys]
    return wanted[:3] if result.job == "predict" else [wanted[0], *(p for p in wanted[1:] if p.key in ("displacement_sd", "jacobian"))]


def _explained(result: data.Result, shown: list[Structure], wanted: list[Panel]) -> str:
    """What the colours and lines of the pictures mean."""
    swatches = "&ensp;".join(f"<span class='swatch' style='background:{words.colour({'color': s.color})}'></span>{words.text(s.name)}"
                             for s in shown) or "none found"
    keys = {k for p in wanted for k in p.lines if any(k in s.contours for s in shown)}
    lines = "; ".join(LINES[k] for k in LINES if k in keys)
    scale = anatomy(result)[1]
    out = [f"Outlines: {swatches}"]
    if lines and keys != {"structure"}:
        out.append(lines[:1].upper() + lines[1:])
    if scale.unit == "HU":
        out.append(f"CT window {charts.number(scale.low)} to {charts.number(scale.high)} HU")
    for panel in wanted:
        if panel.threshold is not None:
            unit = f" {panel.scale.unit}" if panel.scale.unit else ""
            away = f"differs from {charts.number(panel.middle)} by {charts.number(panel.threshold)}{unit}" if panel.middle else (
                f"exceeds {charts.number(panel.threshold)}{unit}")
            out.append(f"{escape(panel.title)} is coloured where it {away}")
    if any("entropy" in p.key for p in wanted):
        out.append("Entropy is 0 where the structure is certain and 0.69 where two are equally likely")
    out.append("The patient's right is at the left")
    if "input" not in result.images:
        out.append("The input image was not given to the report, so it is not shown")
    if result.oblique_degrees > 2:
        out.append(f"The image planes are tilted by {result.oblique_degrees:.0f}° against the patient's axes and are shown as they are")
    return "<p class='explained'>" + ". ".join(out) + ".</p>"

"""The report: one HTML page that holds all it shows and prints on A4."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

import numpy as np

from . import report_charts as charts
from . import report_data as data
from . import report_pictures as pictures
from . import report_text as words
from .report_pictures import Scale, View


def write_report(result_folder, input_image=None) -> Path:
    """Write `report.html` into a result folder and return its path.

    `input_image` is the MR that was given to `predict`, as a `SimpleITK.Image` or a path; when left out, the path in
    `summary.json` is used if it is there and absolute, and otherwise the page does without pictures of the input and
    says so. Of the input only the file's name is shown. Raises `InputError` for an incomplete or damaged folder.
    """
    result = data.load(result_folder, input_image)
    path = Path(result_folder) / "report.html"
    path.write_text(page(result), encoding="utf-8")
    return path


def page(result: data.Result) -> str:
    """The page as text."""
    summary = result.summary
    chosen = data.chosen_slices(result)
    body = [
        words.head(summary),
        words.flags(result.flags, summary.get("notes", [])),
        words.volumes(result.volumes, summary.get("structures", [])),
        _pictures(result, chosen),
        _uncertainty(result, [index for index, _ in chosen]),
        _compared(result),
        words.card(summary.get("model", {})),
        words.run(summary),
        f"<p class='soft'>RTUncertainty {words.text(summary.get('versions', {}).get('rtuncertainty'))}. "
        "Research use only — not for clinical decisions.</p>",
    ]
    return ("<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
            f"<title>{escape(str(summary.get('name', 'RTUncertainty report')))}</title><style>{words.STYLE}</style></head>"
            f"<body>{''.join(body)}</body></html>\n")


def _uncertainty(result: data.Result, marked: list[int]) -> str:
    """How large the uncertainty is, in words, and its course along the slices."""
    body, images = result.body, result.images
    if not body.any():
        return "<h2>Uncertainty of the synthetic CT</h2><p>No body was found, so nothing is known about it.</p>"
    area = body.sum((1, 2))

    def course(values):
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(area > 0, (values * body).sum((1, 2)) / area, np.nan)

    parts = ("predictive", "intrinsic", "parameter")
    curves = {name: course(images[f"{name}_sd"]) for name in parts if f"{name}_sd" in images}
    inside = images["predictive_sd"][body]
    told = (f"<p>Predictive SD in the body: mean {charts.number(float(inside.mean()))} HU, half of the voxels below "
            f"{charts.number(float(np.median(inside)))} HU, 5 % above {charts.number(float(np.percentile(inside, 95)))} HU. "
            "It is the sum, in variances, of the <b>intrinsic</b> part (noise and ambiguity in the image itself; more training "
            "data would not remove it) and the <b>parameter</b> part (the model's own doubt; large where the image is unlike "
            "the training data).</p>")
    if result.has_reference and "error" in images:
        curves["absolute error"] = course(np.abs(images["error"]))
    return "<h2>Uncertainty of the synthetic CT</h2>" + told + charts.along_slices(curves, marked)


def _compared(result: data.Result) -> str:
    """z-scores and metrics, where there is a reference CT."""
    if not result.has_reference:
        return ""
    out = ["<h2>Against the reference CT</h2><p>The CT is taken as it lies: where it is not aligned with the MR, because the "
           "patient lay otherwise, the shift counts as error.</p>"]
    z = result.images["zscore"][_compared_voxels(result)] if "zscore" in result.images else np.empty(0)
    if z.size:
        sd = float(z.std())
        if sd > 1.15:
            verdict = "Errors are larger than the error bars say: the bars are too narrow here, or the CT is not aligned."
        elif sd < 0.87:
            verdict = "Errors are smaller than the error bars say: the bars are too wide here."
        else:
            verdict = "The error bars are about as wide as the errors."
        out.append(f"<p>z-scores in the body: mean {charts.number(float(z.mean()))}, SD {charts.number(sd)} "
                   f"({charts.number(float(z.size))} voxels). {verdict}</p>" + charts.z_histogram(z))
    out.append(words.metrics(result.metrics))
    return "".join(out)


def _compared_voxels(result: data.Result) -> np.ndarray:
    """The body less voxels that were not compared, whose z-score and error are exactly 0 or not finite."""
    z = result.images["zscore"]
    return result.body & np.isfinite(z) & (z != 0)


def _panels(result: data.Result) -> list[tuple[str, str, Scale, str | None]]:
    """What to draw: (image, title, scale, overlay rule); a scale's ends are the same on every slice."""
    images, body = result.images, result.body

    def top(key, percentile=99.5):
        values = np.abs(images[key][body]) if body.any() else np.abs(images[key])
        return pictures.nice_limit(float(np.nanpercentile(values, percentile)))

    ct = Scale("grey", *pictures.CT_WINDOW, "HU")
    panels = []
    if "input" in images:
        inside = images["input"][body] if body.any() else images["input"]
        panels.append(("input", "Input MR", Scale("grey", 0.0, float(np.percentile(inside, 99.5)), ""), None))
    panels.append(("synct", "Synthetic CT with structures", ct, "outlines"))
    sd_top = top("predictive_sd")
    panels.append(("predictive_sd", "Predictive SD over synthetic CT", Scale("predictive", 0.0, sd_top, "HU"), "over CT"))
    if "intrinsic_sd" in images:
        panels.append(("intrinsic_sd", "Intrinsic SD (the data)", Scale("intrinsic", 0.0, sd_top, "HU"), None))
    if "parameter_sd" in images:
        panels.append(("parameter_sd", "Parameter SD (the model)", Scale("parameter", 0.0, top("parameter_sd"), "HU"), None))
    if "entropy" in images:
        classes = len(result.summary.get("structures", [])) + 1
        largest = math.log(max(classes, 2))
        panels.append(("entropy", "Entropy of the structures", Scale("entropy", 0.0, largest, "nats"), "outlines"))
    if result.has_reference:
        panels.append(("reference", "Reference CT", ct, None))
        if "error" in images:
            limit = top("error", 98)
            panels.append(("error", "Error: synCT − CT", Scale("signed", -limit, limit, "HU"), None))
        if "zscore" in images:
            panels.append(("zscore", "z-score: error / predictive SD", Scale("signed", *pictures.Z_RANGE, ""), None))
    return panels


def _pictures(result: data.Result, chosen: list[tuple[int, str]]) -> str:
    box = pictures.box_of(result.body, result.spacing)
    structures = []
    for s in result.summary.get("structures", []):
        mask = result.images["structures"] == s["label"] if "structures" in result.images else np.zeros(1, bool)
        if mask.any():
            structures.append((mask, tuple(s.get("color") or (255, 255, 0)), s))
    panels = _panels(result)
    threshold = _threshold(result)
    swatches = "&ensp;".join(f"<span class='swatch' style='background:{words.colour(s)}'></span>{words.text(s['name'])}"
                        for _, _, s in structures) or "none found"
    out = ["<h2>Pictures</h2><p>", "Outlines: ", swatches, f". CT window {charts.number(pictures.CT_WINDOW[0])} to "
           f"{charts.number(pictures.CT_WINDOW[1])} HU. The predictive SD is laid over the synthetic CT where it exceeds "
           f"{charts.number(threshold)} HU. Entropy is 0 where the structure is certain and 0.69 where two are equally likely. "
           "The patient's right is at the left."]
    if "input" not in result.images:
        out.append(" The input image was not given to the report, so it is not shown.")
    if result.oblique_degrees > 2:
        out.append(f" The image planes are tilted by {result.oblique_degrees:.0f}° against the patient's axes "
                   "and are shown as they are.")
    out.append("</p>")
    count = result.body.shape[0]
    for index, reason in chosen:
        view = View("axial", box, result.spacing)
        out.append(f"<section class='slice'><h3>Axial slice {index + 1} of {count}: {escape(reason)}</h3>"
                   + _row(result, view, index, panels, structures, threshold) + "</section>")
    row, column = data.cut_position(result)
    wanted = ("synct", "predictive_sd", "error") if "error" in result.images else ("synct", "predictive_sd", "entropy")
    few = [p for p in panels if p[0] in wanted]
    out.append("<section class='slice'>")
    for plane, index in (("coronal", row), ("sagittal", column)):
        if not box[View.AXES[plane][0]].start <= index < box[View.AXES[plane][0]].stop:
            continue
        out.append(f"<h3>{plane.capitalize()} cut</h3>"
                   + _row(result, View(plane, box, result.spacing), index, few, structures, threshold))
    return "".join(out) + "</section>"


def _threshold(result: data.Result) -> float:
    """The SD in HU above which it is laid over the CT: the upper quarter of the body, rounded."""
    inside = result.images["predictive_sd"][result.body]
    return pictures.nice_limit(float(np.percentile(inside, 75))) if inside.size else 0.0


def _row(result, view, index, panels, structures, threshold) -> str:
    outlines = [(mask, colour) for mask, colour, _ in structures]
    inside = view.cut(result.body.astype(np.float32), index) > 0.5
    out = ["<div class='pictures'>"]
    for number, (key, title, scale, rule) in enumerate(panels):
        values = view.cut(result.images[key], index)
        rgb = pictures.coloured(values, scale)
        if key in ("intrinsic_sd", "parameter_sd", "entropy", "error", "zscore"):
            rgb[~inside] = 0
        if rule == "over CT":
            ct = Scale("grey", *pictures.CT_WINDOW, "HU")
            grey = pictures.coloured(view.cut(result.images["synct"], index), ct)
            rgb = np.where((inside & (values >= threshold))[..., None], rgb, grey)
        if rule in ("over CT", "outlines"):
            rgb = pictures.with_outlines(rgb, view, index, outlines)
        left, right, top, bottom = View.LETTERS[view.plane]
        bar = ""
        if number == 0 and view.millimetres[1] > 60:
            bar = f"<span class='bar' style='width:{100 * 50 / view.millimetres[1]:.1f}%'><i>5 cm</i></span>"
        out.append(f"<figure data-image='{key}'><figcaption>{escape(title)}</figcaption><div class='picture'>"
                   f"<img alt='{escape(title, quote=True)}' src='{pictures.data_address(rgb)}'>"
                   f"<span class='l'>{left}</span><span class='r'>{right}</span><span class='t'>{top}</span>"
                   f"<span class='b'>{bottom}</span>{bar}</div>{charts.legend(scale) if key != 'input' else ''}</figure>")
    return "".join(out) + "</div>"

"""The report: one HTML page that holds all it shows and prints on A4."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np

from .. import __version__
from . import charts
from . import data
from . import places, propagation, slices, tables
from . import text as words

EACH_PAGE = "Research use only — not for clinical use"


def write_report(result_folder, input_image=None, planning_structures=None) -> Path:
    """Write `report.html` into a result folder of `predict` or `propagate` and return its path.

    `input_image` is the image that was given to `predict`, or the daily CT, as a `SimpleITK.Image` or a path; when left out, the
    path in `summary.json` is used if it is there and absolute, and otherwise the page does without pictures of the input and
    says so. `planning_structures`: paths of the structures that were propagated and of their planning CT. Of all these only the
    files' names are shown.
    Raises `InputError` for an incomplete or damaged folder.
    """
    result = data.load(result_folder, input_image, planning_structures)
    path = Path(result_folder) / "report.html"
    path.write_text(page(result), encoding="utf-8")
    return path


def page(result: data.Result, level: float = tables.LEVEL) -> str:
    """The page as text; `level` is that of the intervals."""
    title = escape(str(result.summary.get("name", "RTUncertainty report")))
    return ("<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
            f"<title>{title}</title><style>{words.STYLE}</style></head>"
            f"<body>{''.join(sections(result, level))}</body></html>\n")


def sections(result: data.Result, level: float = tables.LEVEL) -> list[str]:
    """The content, in pieces of HTML that follow one another: headings, paragraphs, tables, charts and rows of pictures."""
    summary = result.summary
    propagated = result.job == "propagate"
    earned = tables.earned(summary["model"]) if summary.get("model") else ""
    out = [words.head(summary, result.patient), words.flags(result.flags, summary.get("notes", []), earned)]
    out += propagation.agreement(result) if propagated else []
    out += tables.structures(result, level)
    out += tables.reviews(result)
    out += places.places(result)
    out += tables.dvh(result)
    out += slices.overview(result)
    out += propagation.scans(result) if propagated else []
    if "predictive_sd" in result.images:
        out += _uncertainty(result, [index for index, _ in data.chosen_slices(result)])
    out += _compared(result)
    # a review of somebody's own contours has neither
    out += [words.card(summary["model"])] if summary.get("model") else []
    out += [words.run(summary)] if summary.get("options") else []
    out.append(f"<p class='soft'>RTUncertainty {words.text(summary.get('versions', {}).get('rtuncertainty') or __version__)}. {EACH_PAGE}.</p>")
    return out


def _uncertainty(result: data.Result, marked: list[int]) -> list[str]:
    """How large the uncertainty is, in words, and its course along the slices."""
    body, images = result.body, result.images
    title = "<h2>Uncertainty of the synthetic CT</h2>"
    if not body.any():
        return [title, "<p>No body was found, so nothing is known about it.</p>"]
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
    return [title, told, charts.along_slices(curves, marked)]


def _compared(result: data.Result) -> list[str]:
    """z-scores and metrics, where there is a reference CT."""
    if not result.has_reference:
        return []
    out = ["<h2>Against the reference CT</h2>", "<p>The CT is taken as it lies: where it is not aligned with the MR, because the "
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
        out += [f"<p>z-scores in the body: mean {charts.number(float(z.mean()))}, SD {charts.number(sd)} "
                f"({charts.number(float(z.size))} voxels). {verdict}</p>", charts.z_histogram(z)]
    if z.size and {"error", "predictive_sd"} <= set(result.images):
        at = _compared_voxels(result)
        out += ["<p>Where the model says that it is uncertain, errors should be as large as it says:</p>",
                charts.error_against_sd(result.images["error"][at], result.images["predictive_sd"][at])]
    return out + [words.metrics(result.tables.get("metrics", []))]


def _compared_voxels(result: data.Result) -> np.ndarray:
    """The body less voxels that were not compared, whose z-score and error are exactly 0 or not finite."""
    z = result.images["zscore"]
    return result.body & np.isfinite(z) & (z != 0)

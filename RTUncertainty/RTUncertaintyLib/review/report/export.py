"""The report of a run in the scene: one HTML page, a PDF and all tables, in a folder of its own."""

from __future__ import annotations

import datetime
import math
import tempfile
from pathlib import Path

from rtuncertainty.core.errors import InputError
from rtuncertainty.core.image_io import Staging
from rtuncertainty.report import build
from rtuncertainty.report.context import context
from rtuncertainty.results import tables

from ...runs.review_data import table_rows_of
from ..dose.nodes import curve_rows
from . import pdf
from .content import result_of, there

FORMATS = ("html", "pdf", "csv")


def export(
    run, folder: Path, formats=FORMATS, level: float = 0.9, patient: dict[str, str] | str | None = None
) -> list[Path]:
    """Write the report of a run of any job into a new folder; returns the files.

    formats
        Of "html" (report.html, holds all it shows), "pdf" (report.pdf, the same content on A4; needs the
        application's Qt) and
        "csv" (each table of the run).
    level
        Nominal level of the intervals, where the run has it.
    patient
        What to print of the patient, such as {"Name": …, "ID": …}, or a line of text: exactly this stands on the
        first page and,
        in the PDF, on every page. None: nothing, and then images and run are not called by their names in the scene
        either, because
        these may hold a patient's name. It is never looked for in the scene.

    The folder appears whole or not at all. Raises `InputError` when it exists already and is not empty, cannot be
    written (disk
    full, no permission), when the run is gone or the PDF cannot be made, and `ValueError` for an unknown format.
    """
    folder = Path(folder).absolute()
    unknown = set(formats) - set(FORMATS)
    if unknown or not formats:
        raise ValueError(f"formats are of {', '.join(FORMATS)}, not {', '.join(sorted(unknown)) or 'none'}")
    _require_free(folder)
    if "pdf" in formats and not pdf.available():
        raise InputError(pdf.NEEDED)
    result = result_of(run)
    given = {"Patient": patient} if isinstance(patient, str) else patient or {}
    result.patient = {str(k): str(v).strip() for k, v in given.items() if str(v).strip()}
    name = run.name if result.patient else _nameless(result.summary)
    values = context(result, level) if {"html", "pdf"} & set(formats) else {}
    with Staging(folder) as staging:
        with staging.writing():
            if "html" in formats:
                (staging.folder / "report.html").write_text(build.render(values), encoding="utf-8")
            if "pdf" in formats:
                with tempfile.TemporaryDirectory() as pictures:
                    pdf.write(
                        build.render(values, Path(pictures)),
                        staging.folder / "report.pdf",
                        name,
                        _header(name, result.patient),
                        build.EACH_PAGE,
                    )
            for table, text in (_tables(run) if "csv" in formats else {}).items():
                (staging.folder / table).write_text(text, encoding="utf-8", newline="")
        names = sorted(p.name for p in staging.folder.iterdir())
        staging.commit()
    return [folder / name for name in names]


def _require_free(folder: Path) -> None:
    """Raise `InputError` when a folder is a file, or holds something that the report would be mixed with."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the report.")
    try:
        full = folder.is_dir() and any(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror or error}; choose another folder.") from error
    if full:
        raise InputError(f"{folder} exists already and is not empty; choose a new folder for the report.")


def _nameless(summary: dict) -> str:
    """Take the names of images out of a summary; returns what the run is called without them."""
    for key, words in (
        ("input", "the input image"),
        ("planning", "the planning CT"),
        ("daily", "the daily CT"),
        ("structures_input", "the structures"),
    ):
        if isinstance(summary.get(key), dict):
            summary[key] = {**summary[key], "name": words, "path": ""}
    model = summary.get("model") or {}
    summary["name"] = str(model.get("title") or model.get("name") or "RTUncertainty review")
    return summary["name"]


def _header(name: str, patient: dict[str, str]) -> str:
    """What stands above every page of the PDF."""
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    of = ", ".join(f"{k}: {v}" for k, v in patient.items())
    return f"Report of {now} on the result of {name}" + (f", for {of}." if of else ".")


def _tables(run) -> dict[str, str]:
    """File name -> text of each table of the run that has a row."""
    out = {}
    for key, node in run.tables.items():
        rows = table_rows_of(node) if there(run, node) else []
        if rows:
            out[tables.FILES.get(key, f"{key}.csv")] = _csv(rows)
    curves = curve_rows(run)
    if curves:
        out["dvh_curves.csv"] = _csv(curves)
    return out


def _csv(rows: list[dict]) -> str:
    return tables.text(rows[0], [[_cell(v) for v in row.values()] for row in rows])


def _cell(value) -> str:
    """A cell; an unknown number is empty. Text that a spreadsheet would compute is kept from it by `tables.text`."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.10g}"
    return str(value)

"""The tables of a result folder and the names of its overlays, as the panel shows them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .results_folder import TABLES, ResultFolder, open_result, read_table
from ..widgets.text import _


# key of `scene.OVERLAYS` -> how the panel calls it, in the order of its list
OVERLAY_TITLES = {
    "predictive": _("Predictive uncertainty (SD)"),
    "intrinsic": _("Intrinsic uncertainty (SD)"),
    "parameter": _("Parameter uncertainty (SD)"),
    "entropy": _("Entropy of the structures"),
    "mutual_information": _("Mutual information of the structures"),
    "error": _("Error against the reference CT"),
    "zscore": _("z-score against the reference CT"),
}


@dataclass(frozen=True)
class ResultTables:
    """What a result folder says: `name`, `volumes` and `flags` (lists of dicts with the columns of volumes.csv and
    flags.csv), `notes`, and the `report` if there is one."""

    name: str
    volumes: list[dict]
    flags: list[dict]
    notes: list[str]
    report: Path | None


def read_result(folder: Path) -> ResultTables:
    """Read the tables of a result folder. Raises `rtuncertainty.core.errors.InputError` when it is not a whole one."""
    result = open_result(folder)
    report = result.path / "report.html"
    return ResultTables(
        name=result.name,
        volumes=_rows(result, "volumes"),
        flags=_rows(result, "flags"),
        notes=[str(note) for note in result.summary.get("notes", [])],
        report=report if report.is_file() else None,
    )


def _rows(result: ResultFolder, name: str) -> list[dict]:
    return read_table(result.tables[name], TABLES[name]) if name in result.tables else []


def volume_row(row: dict) -> list[str]:
    """Structure, volume, interval and calibration of a row of volumes.csv, as texts."""
    volume, lower, upper, level = (float(row[key]) for key in ("volume_ml", "lower_ml", "upper_ml", "level"))
    digits = 0 if max(volume, upper) >= 1000 else 1  # a narrow panel shows the whole row then
    return [
        row["structure"],
        f"{volume:.{digits}f}",
        _("{lower} to {upper} ({level:.0%})").format(lower=f"{lower:.{digits}f}", upper=f"{upper:.{digits}f}", level=level),
        _("yes") if row["calibrated"].strip().lower() == "yes" else _("no"),
    ]

"""The tables and the list of overlays of a result folder, as the panel shows them."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from .text import _


@dataclass(frozen=True)
class Overlay:
    """An uncertainty image that can lie over the synthetic CT. `key` is the one of `scene.show_overlay`."""

    key: str
    title: str
    unit: str
    threshold: float
    maximum: float
    step: float


# key in the summary's "files", and how it is shown
_OVERLAYS = (
    ("predictive_sd", Overlay("predictive", _("Predictive uncertainty (SD)"), "HU", 60, 500, 5)),
    ("intrinsic_sd", Overlay("intrinsic", _("Intrinsic uncertainty (SD)"), "HU", 60, 500, 5)),
    ("parameter_sd", Overlay("parameter", _("Parameter uncertainty (SD)"), "HU", 20, 500, 5)),
    ("entropy", Overlay("entropy", _("Entropy of the structures"), "nats", 0.2, 2.0, 0.05)),
    ("zscore", Overlay("zscore", _("z-score against the reference CT"), "SD", 2.0, 10.0, 0.1)),
)


@dataclass(frozen=True)
class ResultTables:
    """What a result folder says: `name`, `overlays`, `volumes` and `flags` (lists of dicts with the columns of
    volumes.csv and flags.csv), `notes`, and the `report` if there is one."""

    name: str
    overlays: list[Overlay]
    volumes: list[dict]
    flags: list[dict]
    notes: list[str]
    report: Path | None


def read_result(folder: Path) -> ResultTables:
    """Read the tables of a result folder. Raises OSError or ValueError when it is not one."""
    folder = Path(folder)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    files = summary["files"]
    report = folder / "report.html"
    return ResultTables(
        name=summary["name"],
        overlays=[overlay for name, overlay in _OVERLAYS if files.get(name)],
        volumes=_rows(folder, files.get("volumes")),
        flags=_rows(folder, files.get("flags")),
        notes=list(summary.get("notes", [])),
        report=report if report.is_file() else None,
    )


def _rows(folder: Path, name: str | None) -> list[dict]:
    if not name:
        return []
    with open(folder / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def volume_row(row: dict) -> list[str]:
    """Structure, volume, interval and calibration of a row of volumes.csv, as texts."""
    level = float(row["level"])
    return [
        row["structure"],
        f"{float(row['volume_ml']):.1f}",
        _("{lower:.1f} to {upper:.1f} ({level:.0%})").format(
            lower=float(row["lower_ml"]), upper=float(row["upper_ml"]), level=level),
        _("yes") if row["calibrated"].strip().lower() == "yes" else _("no"),
    ]

"""A result folder of `rtuncertainty propagate`, checked as a whole before anything is made of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from rtuncertainty.core.errors import InputError

from ..results_folder import REVIEW_TABLES, inside, inside_files, read_summary, read_table, require_files
from ..results_folder import TABLES as RESULT_TABLES

LIGHTS = ("red", "amber", "green")
"""Agreement of the two paths, worst first."""
PATHS = ("propagated", "segmented")
IMAGES = ("warped_planning", "jacobian", "displacement_sd", "segmented_entropy")
REQUIRED = ("transform", "warped_planning", "jacobian", "propagated", "structure_table")
TABLES = {
    "structure_table": (
        "structure", "default", "planning_ml", "propagated_ml", "propagated_lower_ml", "propagated_upper_ml", "segmented_ml",
        "segmented_lower_ml", "segmented_upper_ml", "dice", "msd_mm", "propagated_sd_mm", "segmented_sd_mm", "worst_slice",
        "light", "flag", "reason"),
    "volumes": RESULT_TABLES["volumes"],
    "flags": RESULT_TABLES["flags"],
    **{key: RESULT_TABLES[key] for key in REVIEW_TABLES},
}


@dataclass(frozen=True)
class PropagationFolder:
    """The folder, its `summary.json` and where its files lie: `images`, `segmentations` ('propagated', 'segmented') and
    `tables` map a key of the summary to a file, `inside` a structure's name."""

    path: Path
    summary: dict
    transform: Path
    images: dict[str, Path]
    segmentations: dict[str, Path]
    tables: dict[str, Path]
    inside: dict[str, Path] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the run, such as 'headneck-ct-propagation on daily'."""
        return str(self.summary["name"])

    @property
    def daily_name(self) -> str:
        """Name of the daily CT."""
        return str((self.summary.get("daily") or {}).get("name") or "daily")

    @property
    def planning_name(self) -> str:
        """Name of the planning CT."""
        return str((self.summary.get("planning") or {}).get("name") or "planning")


@dataclass(frozen=True)
class StructureRow:
    """One structure on the daily scan.

    `volumes` maps a path to (ml, lower, upper), `sd_mm` to the spread of its surface; `dice` and `msd_mm` compare the two
    paths. None stands for what does not apply. `worst_slice` is the index along the third axis of the daily image.
    """

    name: str
    paths: tuple[str, ...]
    default: str
    light: str
    flag: str
    reason: str
    planning_ml: float | None
    volumes: dict[str, tuple]
    sd_mm: dict[str, float | None]
    dice: float | None
    msd_mm: float | None
    worst_slice: int | None


@dataclass(frozen=True)
class PropagationTables:
    """What a result folder says: name of the run, its structures (worst light first), flags, notes, level of the intervals,
    and how alike the scans are (`similarity`: 'before', 'rigid', 'after' -> correlation) and how much the deformation folds."""

    name: str
    structures: list[StructureRow]
    flags: list[dict]
    notes: list[str]
    level: float
    similarity: dict[str, float]
    folding: float | None


def open_propagation(folder) -> PropagationFolder:
    """Read `summary.json` and check that every file it names is there.

    Raises `rtuncertainty.core.errors.InputError` in one line when `folder` is no result, has an unknown format or lacks a file.
    """
    path = Path(folder)
    summary = read_summary(path, "propagate")
    named = summary["files"]
    missing = [key for key in REQUIRED if not named.get(key)]
    if missing:
        raise InputError(f"{path / 'summary.json'}: names no file for {', '.join(missing)}; run the model again.")

    def files(keys):
        return {key: inside(path, named[key]) for key in keys if named.get(key)}

    result = PropagationFolder(path, summary, inside(path, named["transform"]), files(IMAGES), files(PATHS), files(TABLES),
                               inside_files(path, named))
    require_files(path, [result.transform, *result.images.values(), *result.segmentations.values(), *result.tables.values(),
                         *result.inside.values()])
    return result


def read_propagation(folder) -> PropagationTables:
    """Read the tables of a result folder. Raises `rtuncertainty.core.errors.InputError` when it is not a whole one."""
    result = open_propagation(folder)
    rows = structure_rows(result)
    return PropagationTables(
        name=result.name,
        structures=sorted(rows, key=lambda row: LIGHTS.index(row.light)),
        flags=read_table(result.tables["flags"], TABLES["flags"]) if "flags" in result.tables else [],
        notes=[str(note) for note in result.summary.get("notes", [])],
        level=float(result.summary.get("level") or 0.9),
        similarity={k: v for k, v in (result.summary.get("similarity") or {}).items() if isinstance(v, (int, float))},
        folding=result.summary.get("folding"),
    )


def structure_rows(result: PropagationFolder) -> list[StructureRow]:
    """The rows of structures.csv, in its order. Raises `InputError` for a number that is none or an unknown word."""
    file = result.tables["structure_table"]
    return rows_of_table(read_table(file, TABLES["structure_table"]), result.summary, file)


def rows_of_table(table: list[dict[str, str]], summary: dict, file: Path) -> list[StructureRow]:
    """The rows of a table with the columns of structures.csv; `file` is where it is from, for errors."""
    paths = {s["name"]: tuple(p for p in PATHS if p in s.get("paths", PATHS[:1])) for s in summary.get("structures", [])}
    return [_row(row, paths, file) for row in table]


def _row(row: dict[str, str], paths: dict[str, tuple], file: Path) -> StructureRow:
    name = row["structure"]

    def number(column: str) -> float | None:
        text = (row[column] or "").strip()
        try:
            value = float(text or "nan")
            return None if math.isnan(value) else value
        except ValueError:
            raise InputError(f"{file}: {column} of {name} is {text!r}, which is no number; run the model again.") from None

    known = paths.get(name, PATHS[:1])
    if row["light"] not in LIGHTS or row["default"] not in known:
        raise InputError(f"{file}: {name} has the light {row['light']!r} and the default {row['default']!r}, which this version "
                         "does not know; update RTUncertainty.")
    worst = number("worst_slice")
    return StructureRow(
        name=name, paths=known, default=row["default"], light=row["light"], flag=row["flag"] or "", reason=row["reason"] or "",
        planning_ml=number("planning_ml"),
        volumes={p: (number(f"{p}_ml"), number(f"{p}_lower_ml"), number(f"{p}_upper_ml")) for p in known},
        sd_mm={p: number(f"{p}_sd_mm") for p in known},
        dice=number("dice"), msd_mm=number("msd_mm"), worst_slice=None if worst is None else int(worst))

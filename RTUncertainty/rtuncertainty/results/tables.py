"""The tables of a result: their columns, the one writer and the one reader of CSV, and the rows of what was
computed.
"""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import InputError

if TYPE_CHECKING:
    from ..uncertainty.flags import Flag
    from ..uncertainty.volume_assessment import Assessed
    from ..uncertainty.volumes import Volume

COLUMNS = {
    "structure_table": (
        "structure",
        "default",
        "light",
        "planning_ml",
        "propagated_ml",
        "propagated_lower_ml",
        "propagated_upper_ml",
        "segmented_ml",
        "segmented_lower_ml",
        "segmented_upper_ml",
        "dice",
        "msd_mm",
        "propagated_sd_mm",
        "segmented_sd_mm",
        "worst_slice",
        "flag",
        "reason",
    ),
    "volumes": ("structure", "volume_ml", "lower_ml", "upper_ml", "level", "calibrated"),
    "flags": ("subject", "severity", "flag", "reason"),
    "metrics": ("region", "metric", "value", "unit"),
    "volume_distribution": ("structure", "percentile", "volume_ml", "calibrated_ml"),
    "volume_intervals": ("structure", "level", "lower_ml", "upper_ml", "calibrated", "cases", "note"),
    "quality": ("structure", "expected_dice", "dice_lower", "dice_upper", "calibrated", "surface_entropy"),
}
"""Of each table, by its key in the summary's "files"; ml, mm and HU as the names and units say, an unknown number is
an empty cell.
"""
FILES = {key: f"{key}.csv" for key in COLUMNS} | {
    "quality": "structure_quality.csv",
    "structure_table": "structures.csv",
}


# what spreadsheets take for the beginning of a formula, and that with apostrophes before it
FORMULA = re.compile("'*[=+\\-@\\t\\r]")


def text(columns, rows) -> str:
    """A table as CSV text: UTF-8, a comma between cells, quoted where a cell needs it, lines end in a line feed.

    A text that a spreadsheet would take for a formula gets an apostrophe before it, which `read` takes away again.

    Args:
        columns: the names of the columns.
        rows: dicts by column, or sequences in the order of the columns; None and NaN become an empty cell.

    Returns:
        The file's content, its head first.
    """
    lines = [_line(columns)]
    for row in rows:
        cells = [row[c] for c in columns] if isinstance(row, dict) else row
        lines.append(_line("" if v is None or isinstance(v, float) and math.isnan(v) else _harmless(v) for v in cells))
    return "".join(lines)


def _line(cells) -> str:
    """One line. By the end of line that it is told, the writer knows which cells to quote: both characters."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(cells)
    return out.getvalue().removesuffix("\r\n") + "\n"


def _harmless(cell):
    """A cell that no spreadsheet executes: names come from other people's files. Numbers stay as they are."""
    if not isinstance(cell, str) or not FORMULA.match(cell):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def _as_given(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def read(file, columns=()) -> list[dict[str, str]]:
    """The rows of a CSV file.

    Args:
        file: its path.
        columns: those it must have.

    Returns:
        A dict of texts by column for each row.

    Raises:
        InputError: the file cannot be read as a table, or lacks some of `columns`.
    """
    try:
        with open(file, newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream, restval="")
            rows, found = list(reader), reader.fieldnames or []
            rows = [{k: _as_given(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{file}: cannot be read as a table ({str(error).strip() or type(error).__name__})."
        ) from error
    absent = [c for c in columns if c not in found]
    if absent:
        raise InputError(f"{file}: lacks the columns {', '.join(absent)}; run the job again.")
    if any(None in row for row in rows):
        raise InputError(f"{file}: a line has more cells than there are columns; run the job again.")
    return rows


def number(row: dict, column: str, file: str | Path = "the table") -> float | None:
    """A cell as a number.

    Args:
        row: a row of `read`.
        column: which cell.
        file: where the row is from, for the message.

    Returns:
        The number; None where the cell is empty or NaN.

    Raises:
        InputError: the cell is a text that is no number.
    """
    cell = (row[column] or "").strip()
    try:
        value = float(cell or "nan")
    except ValueError:
        raise InputError(
            f"{file}: {column} of {next(iter(row.values()))} is {cell!r}, which is no number; run the job again."
        ) from None
    return None if math.isnan(value) else value


def rounded(value: float | None, digits: int = 3) -> str:
    """A number as the text of a cell; empty for None and NaN."""
    return "" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def yes(value: bool) -> str:
    """A truth value as the text of a cell."""
    return "yes" if value else "no"


def _rows(key: str, rows) -> list[dict[str, str]]:
    return [dict(zip(COLUMNS[key], map(str, row), strict=True)) for row in rows]


def of_volumes(volumes: list[Volume]) -> list[dict[str, str]]:
    """The rows of volumes.csv; volumes in ml."""
    return _rows(
        "volumes",
        (
            [
                v.structure,
                rounded(v.volume_ml),
                rounded(v.lower_ml),
                rounded(v.upper_ml),
                f"{v.level:g}",
                yes(v.calibrated),
            ]
            for v in volumes
        ),
    )


def of_flags(flags: list[Flag]) -> list[dict[str, str]]:
    """The rows of flags.csv."""
    return _rows("flags", ([f.subject, f.severity, f.flag, f.reason] for f in flags))


def of_metrics(metrics: list) -> list[dict[str, str]]:
    """The rows of metrics.csv.

    Args:
        metrics: list of `uncertainty.metrics.Row`.

    Returns:
        A dict of texts by column for each.
    """
    return _rows("metrics", ([m.region, m.metric, f"{m.value:.6g}", m.unit] for m in metrics))


def of_assessed(found: list[Assessed], card: dict) -> dict[str, list[dict[str, str]]]:
    """The rows of volume_distribution.csv, volume_intervals.csv and structure_quality.csv.

    Args:
        found: what is known of each structure's volume and quality.
        card: the model's, whose calibration counts; intervals and calibrated volumes are empty where it was not
            calibrated so far out.

    Returns:
        {the table's key: its rows}; volumes in ml.
    """
    from ..uncertainty import volume_calibration
    from ..uncertainty.volume_distribution import LEVELS

    calibration, distribution, intervals, quality = volume_calibration.of_card(card), [], [], []
    for f in found:
        d, q = f.distribution, f.quality
        distribution += [
            [f.name, f"{p:g}", rounded(v), rounded(c)]
            for p, v, c in zip(d.percentiles, d.ml, calibration.quantiles(d, members=f.members))
        ]
        for level in LEVELS:
            i = calibration.interval(d, level, members=f.members)
            flat = i.note == volume_calibration.NEVER_CALIBRATED and d.ml[0] == d.ml[-1]
            note = i.note + "; the samples have no spread" * flat
            intervals.append([f.name, f"{level:g}", *map(rounded, i.shown), yes(i.calibrated), i.cases, note])
        dice = [rounded(v, 4) for v in (q.expected_dice, q.dice_lower, q.dice_upper)]
        quality.append([f.name, *dice, yes(q.calibrated), rounded(q.surface_entropy, 4)])
    return {
        key: _rows(key, rows)
        for key, rows in (("volume_distribution", distribution), ("volume_intervals", intervals), ("quality", quality))
    }

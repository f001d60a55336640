"""Writing so that nothing is ever half there: a file is written beside its place and moved in when it is whole."""

from __future__ import annotations

import csv
import os
from contextlib import contextmanager
from pathlib import Path

from rtuncertainty.core import image_io


@contextmanager
def replaced(path: Path):
    """A temporary path beside another, which replaces it at the end of the block and is gone if the block fails.

    Args:
        path: of the file.

    Yields:
        The temporary path.

    Raises:
        InputError: in one line, for a full disk or a place that cannot be written to.
    """
    # before the first dot: the format of "ct.nii.gz" is known from all that follows it
    name, dot, suffixes = path.name.partition(".")
    temporary = path.with_name(f"{name}.part{dot}{suffixes}")
    try:
        with image_io.Staging(path.parent).writing():
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Makes a folder and clears it of what a killed run left half-written.

    Args:
        path: of the folder.

    Raises:
        InputError: it cannot be made.
    """
    with image_io.Staging(path).writing():
        path.mkdir(parents=True, exist_ok=True)
        for left in path.glob("*.part.*"):
            left.unlink()


def write_csv(path: Path, rows: list[dict], names: list[str] | None = None) -> None:
    """Writes a table, whole or not at all.

    Args:
        path: of the file.
        rows: dicts by column.
        names: of the columns; None: the keys in the order in which they first occur.

    Raises:
        InputError: it cannot be written.
    """
    names = names or list(dict.fromkeys(k for row in rows for k in row))
    with replaced(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, names)
        writer.writeheader()
        writer.writerows(rows)
        f.flush()


def replace_text(path: Path, text: str) -> Path:
    """Writes a text beside its place and renames it, so that a killed run leaves no half file.

    Args:
        path: of the file.
        text: all of it.

    Returns:
        The path.

    Raises:
        InputError: it cannot be written.
    """
    with replaced(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def merged(table: Path, rows: list[dict], made=()) -> list[dict]:
    """New rows and the old ones of other cases.

    Args:
        table: CSV file that may exist.
        rows: new ones, with "case".
        made: cases whose old rows go, besides those of `rows`.

    Returns:
        Rows by case.
    """
    made = {r["case"] for r in rows} | set(made)
    others: list[dict] = []
    if table.exists():
        with open(table, newline="", encoding="utf-8") as f:
            others = [r for r in csv.DictReader(f) if r["case"] not in made]
    return sorted([*others, *rows], key=lambda r: r["case"])


def duration(seconds: float) -> str:
    """A time in words: "40 s", "12 min", "3 h 05 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"

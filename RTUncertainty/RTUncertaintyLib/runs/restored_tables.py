"""The tables of a run that a saved scene brought back: from its nodes, as `read_result` and `read_propagation` read them from files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from .propagation.folder import LIGHTS, PropagationTables, rows_of_table
from .result_tables import ResultTables
from .review_data import read_summary, table_rows_of


def prediction_tables(run) -> ResultTables:
    """Of `scene.PredictionRun`. The report, which is a file of its own, is not part of a scene."""
    return ResultTables(name=run.name, volumes=_rows(run, "volumes"), flags=_rows(run, "flags"),
                        notes=[str(note) for note in read_summary(run).get("notes") or []], report=None)


def propagation_tables(run, accepted: dict[str, str]) -> PropagationTables:
    """Of `scene.PropagationRun`; `accepted`: structure -> the path that was accepted, which is then the chosen one.

    Raises `rtuncertainty.core.errors.InputError` when the table of structures is not one that this version knows.
    """
    summary = read_summary(run)
    rows = rows_of_table(_rows(run, "structure_table"), summary, Path(run.name))
    rows = [replace(r, default=accepted[r.name]) if accepted.get(r.name) in r.paths else r for r in rows]
    return PropagationTables(
        name=run.name, structures=sorted(rows, key=lambda row: LIGHTS.index(row.light)), flags=_rows(run, "flags"),
        notes=[str(note) for note in summary.get("notes") or []], level=float(summary.get("level") or 0.9),
        similarity={k: v for k, v in (summary.get("similarity") or {}).items() if isinstance(v, (int, float))}, folding=summary.get("folding"))


def _rows(run, key: str) -> list[dict[str, str]]:
    """The rows of one of the run's tables as the texts that its file had; none without that table."""
    node = run.tables.get(key)
    if node is None or node.GetScene() is None:
        return []
    return [{k: _text(v) for k, v in row.items()} for row in table_rows_of(node)]


def _text(value) -> str:
    return "" if isinstance(value, float) and math.isnan(value) else str(value)

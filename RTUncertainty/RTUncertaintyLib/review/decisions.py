"""The reviewer's decisions: a table of the run that is written row by row, so that each can be taken back and none
is lost.
"""

from __future__ import annotations

import datetime

from ..mrml import tables
from ..runs.run import Run

COLUMNS = ("structure", "decision", "comment", "reviewer", "time")
STATES = ("open", "accepted", "edited", "rejected")
KEY = "review"
"""Of the table among `run.tables`."""


def decide(run: Run, name: str, state: str, comment: str = "", reviewer: str = "") -> None:
    """Write what was decided of a structure; the row before stays, for `undo_decision`. Raises `ValueError` for an
    unknown state.
    """
    if state not in STATES:
        raise ValueError(f"{state!r} is no decision; it is one of {', '.join(STATES)}.")
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    table = _node(run)
    was = table.StartModify()
    row = table.AddEmptyRow()
    for column, text in enumerate((name, state, comment.strip(), reviewer.strip(), now)):
        table.SetCellText(row, column, tables.plain(text))
    table.EndModify(was)


def undo_decision(run: Run) -> str | None:
    """Take the last decision back; returns the structure that it was about, None when nothing was decided."""
    if not decided(run):
        return None
    table = run.tables[KEY]
    row = table.GetNumberOfRows() - 1
    name = tables.original(table.GetCellText(row, 0))
    table.RemoveRow(row)
    return name


def decided(run: Run) -> int:
    """How many decisions can be taken back."""
    table = run.tables.get(KEY)
    return table.GetNumberOfRows() if table is not None and table.GetScene() is run.scene else 0


def _node(run: Run):
    """The table of the run; an empty one is made where there is none yet, or it was deleted."""
    table = run.tables.get(KEY)
    if table is None or table.GetScene() is not run.scene:
        table = tables.add_table(run.scene, [], COLUMNS, run.scene.GenerateUniqueName(f"{run.name} review"))
        run.tables[KEY] = run.add(table, f"table.{KEY}")
    return table

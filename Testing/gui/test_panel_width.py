"""A panel works at 430 px and never asks for more: not with long names, not with many rows, not after it was laid out
again and again. Slicer makes its module panel as wide as the widget's minimum size hint and its scroll bar.
"""

import dataclasses

import pytest
import slicer
from gui_support.review import review  # noqa: F401
from gui_support.volumes import add_volume
from make_propagation import make_propagation
from make_review import make_large
from standins import process_events

from rtuncertainty.results import Result
from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.runs.propagation.structure_rows import structure_rows

WIDTH, SCROLL_BAR = 430, 16
LONG = "Parotid_gland_left_as_it_was_drawn_by_the_second_observer_on_the_planning_CT"
SECTIONS = [
    "inputs",
    "settings",
    "modelCard",
    "results",
    "log",
    "result",
    "own",
    "structures",
    "overlay",
    "dose",
    "output",
    "dicom",
]  # collapsible


def widest(panel) -> int:
    """Open all sections, lay out several times, and return the width that the panel asks for."""
    from PySide6.QtWidgets import QWidget

    ui, host = panel.ui, panel.parent
    for section in SECTIONS:
        button = getattr(ui, f"{section}CollapsibleButton", None)
        if button is not None:
            button.collapsed = False
    found = []
    for _round in range(4):  # Slicer widens the panel to what it asks for, and asks again
        host.resize(max(WIDTH - SCROLL_BAR, QWidget.minimumSizeHint(host).width()), 1400)
        process_events()
        found.append(max(QWidget.minimumSizeHint(host).width() + SCROLL_BAR, QWidget.sizeHint(host).width()))
    assert len(set(found[1:])) == 1, f"the panel grows: {found}"
    return found[-1]


def cut(panel) -> list[str]:
    """Visible widgets that reach out of the panel at its right side."""
    from PySide6.QtCore import QPoint
    from PySide6.QtWidgets import QWidget

    host, found = panel.parent, []
    for widget in vars(panel.ui).values():
        if isinstance(widget, QWidget) and widget.isVisibleTo(host):
            right = widget.mapTo(host, QPoint(0, 0)).x() + widget.width
            found += [widget.name] if right > host.width else []
    return found


def columns_fit(table) -> bool:
    return table.horizontalHeader().length() <= table.viewport().width


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A result of 25 structures with long names."""
    return make_large(tmp_path_factory.mktemp("many") / "r", 25, (60, 60, 12), prefix=LONG)


def test_prediction(panel, many):
    add_volume(f"{LONG} {LONG}")
    assert widest(panel) <= WIDTH
    panel.panel.results.show(run_scene.load_result(many), Result.read(many))
    panel.panel.tell(f"Done. {LONG} {LONG}.")
    assert widest(panel) <= WIDTH and cut(panel) == []
    assert panel.ui.volumesTable.rowCount == 25 and columns_fit(panel.ui.volumesTable)
    assert panel.ui.flagsTable.visible and columns_fit(panel.ui.flagsTable)


def test_propagation(propagation, tmp_path):
    add_volume(f"{LONG} {LONG}")
    assert widest(propagation) <= WIDTH
    folder = make_propagation(tmp_path / "r")
    results, rows = propagation.panel.results, structure_rows(Result.read(folder))
    results.show(run_scene.load_propagation(folder), Result.read(folder))
    rows = [dataclasses.replace(row, name=f"{LONG}_{n}") for n in range(5) for row in rows]
    results._structures.fill(rows)
    propagation.panel.tell(f"Done. {LONG} {LONG}.")
    assert widest(propagation) <= WIDTH and cut(propagation) == []
    assert propagation.ui.structuresTable.rowCount == 25 and columns_fit(propagation.ui.structuresTable)


def test_review(review, many):
    add_volume(f"{LONG} {LONG}")
    assert widest(review) <= WIDTH
    review.panel.show(review.logic.review(many, show=False))
    review.ui.structuresTable.cellClicked.emit(1, 0)
    assert review.panel.parameters.structure.startswith(LONG)
    assert widest(review) <= WIDTH and cut(review) == []
    table = review.ui.structuresTable
    assert table.rowCount >= 25 and columns_fit(table)
    slicer.mrmlScene.Clear(0)

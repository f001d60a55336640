"""What the tests of the RTReview panel share: its widget, result folders, and ways to click."""

from pathlib import Path

import pytest
from make_propagation import make_propagation
from make_result import make_result
from make_review import add_review_files, make_large
from standins import load_module, process_events

from RTUncertaintyLib.mrml.attributes import nodes_by_class
from RTUncertaintyLib.review.table import STRUCTURE

MODULE = Path(__file__).resolve().parents[3] / "RTUncertainty" / "RTReview" / "RTReview.py"


@pytest.fixture
def review(scene):
    """RTReview's widget as the application builds it, in an empty scene."""
    widget, host = load_module(MODULE)[1:]
    host.resize(520, 1000)
    host.show()
    process_events()
    yield widget
    widget.cleanup()
    host.close()
    host.deleteLater()
    process_events()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Result folders by what they hold."""
    place = tmp_path_factory.mktemp("results")
    return {
        "new": add_review_files(make_result(place / "new", reference=True)),
        "old": make_result(place / "old"),
        "propagation": add_review_files(make_propagation(place / "propagation")),
        "many": make_large(place / "many", 7, (48, 40, 16)),
    }


@pytest.fixture
def opened(review, folders, monkeypatch):
    """`opened("new")` opens a result folder by the button; returns the widget."""
    import qt

    def press(name):
        monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *_: str(folders.get(name, name)))
        review.ui.openButton.click()
        return review

    return press


def column(widget, index):
    """The texts of a column, titles of groups left out."""
    table = widget.ui.structuresTable
    return [table.item(row, index).text() for row in range(table.rowCount) if not is_title(table, row)]


def is_title(table, row):
    return table.columnSpan(row, 0) > 1


def row_of(widget, name):
    """The row of a structure in the table."""
    table = widget.ui.structuresTable
    return next(r for r in range(table.rowCount) if not is_title(table, r) and table.item(r, STRUCTURE).text() == name)


def click(widget, name):
    widget.ui.structuresTable.cellClicked.emit(row_of(widget, name), 0)


def decision_buttons(ui):
    return [ui.acceptButton, ui.editButton, ui.rejectButton, ui.reopenButton]


def contours(scene):
    return [
        n
        for n in nodes_by_class(scene, "vtkMRMLModelNode")
        if n.GetAttribute("RTUncertainty.Role") and n.GetDisplayNode().GetVisibility()
    ]

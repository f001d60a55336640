"""The table of structures on the daily scan: agreement of the paths, uncertainty, volume, and the path chosen for each.

Five columns of two lines: more do not fit into a panel of 430 pixels.
"""

from __future__ import annotations

from collections.abc import Callable

from ..runs.propagation.structure_rows import StructureRow
from ..widgets import table_rows
from ..widgets.table_rows import NONE, number
from ..widgets.text import _

STRUCTURE, AGREEMENT, PATH, SPREAD, VOLUME = range(5)
MOST_ROWS = 12
ROW_HEIGHT = 24  # pixels; rows with and without a choice are of one height
LIGHT_WORDS = {"green": _("green"), "amber": _("amber"), "red": _("red")}
PATH_WORDS = {"propagated": _("propagated"), "segmented": _("segmented")}


class StructureTable:
    """Wires a QTableWidget. `clicked(name)` is called when a row is clicked or reached by keyboard, `chosen()` when a
    path was chosen."""

    def __init__(self, table, clicked: Callable[[str], None], chosen: Callable[[], None]):
        self._table, self._clicked, self._chosen = table, clicked, chosen
        self._rows: list[StructureRow] = []
        self._boxes: dict[str, object] = {}
        table.connect("cellClicked(int,int)", self._cell_clicked)
        table.connect("currentCellChanged(int,int,int,int)", self._cell_reached)

    def fill(self, rows: list[StructureRow], level: float = 0.9) -> None:
        """Show structures, each with the path that the model proposes."""
        import qt

        table = self._table
        table.blockSignals(True)
        self._boxes, self._rows = {}, rows
        table.rowCount = 0  # the choices of the run before go with their rows
        table_rows.fill(
            table, [texts(row, row.default) for row in rows], [tip(row) for row in rows], stretch=(STRUCTURE,)
        )
        for index, row in enumerate(rows):
            for column in range(table.columnCount):
                table_rows.paint(table.item(index, column), row.light)
                if column >= SPREAD:
                    table.item(index, column).setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
            if len(row.paths) > 1:
                box = qt.QComboBox()
                box.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
                box.setMinimumContentsLength(5)
                for path in row.paths:
                    box.addItem(PATH_WORDS[path], path)
                box.setCurrentIndex(row.paths.index(row.default))
                box.connect("currentIndexChanged(int)", self._path_changed)
                table.setCellWidget(index, PATH, box)
                self._boxes[row.name] = box
        table.verticalHeader().setMinimumSectionSize(ROW_HEIGHT)
        for column, words in (
            (
                AGREEMENT,
                _(
                    "Green: the two paths agree, and the samples too. Amber: look at it. Red: expect to correct it. "
                    "Below it the Dice of the propagated and the segmented contour (1 is perfect), and the mean "
                    "distance of their surfaces in mm."
                ),
            ),
            (PATH, _("Which contour you accept: the planning structure moved by the deformation, or the model's own.")),
            (SPREAD, _("Sampled standard deviation of the surface's position, by the chosen path.")),
            (
                VOLUME,
                _(
                    "Volume on the planning CT, and on the daily CT by the chosen path, with its {level:.0%} interval; "
                    "there is none where the model's volumes were not calibrated."
                ).format(level=level),
            ),
        ):
            table.horizontalHeaderItem(column).setToolTip(words)
        table_rows.set_widths(table, (STRUCTURE,))  # with the lists in their cells
        table_rows.fit(table, MOST_ROWS)
        table.setCurrentCell(-1, -1)
        table.blockSignals(False)

    def paths(self) -> dict[str, str]:
        """Structure -> the path chosen for it."""
        return {row.name: self._path(row) for row in self._rows}

    def _path(self, row: StructureRow) -> str:
        box = self._boxes.get(row.name)
        return box.itemData(box.currentIndex) if box is not None else row.default

    def _path_changed(self) -> None:
        """Volume and spread are those of the chosen path."""
        for index, row in enumerate(self._rows):
            for column, text in enumerate(texts(row, self._path(row))):
                self._table.item(index, column).setText(text)
        self._chosen()

    def _cell_clicked(self, row, column) -> None:
        if 0 <= row < len(self._rows):
            self._clicked(self._rows[row].name)

    def _cell_reached(self, row, column, previous_row, previous_column) -> None:
        if row != previous_row:
            self._cell_clicked(row, column)


def texts(row: StructureRow, path: str) -> list[str]:
    """The cells of a row; volume and spread are those of `path`."""
    return [
        row.name,
        agreement_text(row),
        PATH_WORDS[path],
        number(row.sd_mm.get(path), 1),
        volume_text(row, path),
    ]


def agreement_text(row: StructureRow) -> str:
    """The word for the agreement, and below it Dice and distance (mm) of the two paths where there are two."""
    if row.dice is None and row.msd_mm is None:
        return LIGHT_WORDS[row.light]
    return f"{LIGHT_WORDS[row.light]}\n{number(row.dice, 2)}, {number(row.msd_mm, 1)}"


def volume_text(row: StructureRow, path: str) -> str:
    """Planning volume, volume on the daily scan and its interval, in ml: "24.1 → 21.3", and "20.1–22.8" below it, or
    that it is not calibrated although it was sampled.
    """
    volume, lower, upper = row.volumes[path]
    if volume is None:
        return NONE
    digits = 0 if max(v for v in (row.planning_ml, volume, upper) if v is not None) >= 100 else 1
    if lower is None or upper is None:
        interval = "\n" + _("not calibrated") if row.sd_mm.get(path) is not None else ""
    else:
        interval = f"\n{lower:.{digits}f}–{upper:.{digits}f}"
    return f"{number(row.planning_ml, digits)} → {volume:.{digits}f}{interval}"


def tip(row: StructureRow) -> str:
    """Why a structure has its light, and what a click does."""
    return _("{name}: {light}. {reason}.\nClick to look at its worst slice.").format(
        name=row.name, light=LIGHT_WORDS[row.light], reason=(row.reason[:1].upper() + row.reason[1:]).rstrip(".")
    )

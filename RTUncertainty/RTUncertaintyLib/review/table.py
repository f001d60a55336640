"""The table of structures in a review: volume with interval, expected Dice, entropy, flag and decision, worst first."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..runs.review_data import Interval, Structure
from ..widgets import table_rows
from ..widgets.table_rows import NONE, number
from ..widgets.text import _

STRUCTURE, VOLUME, CALIBRATED, DICE, ENTROPY, FLAG, DECISION = range(7)
SWATCH, MOST_ROWS = 12, 10  # pixels, rows
STATE_WORDS = {"open": _("open"), "accepted": _("accepted"), "edited": _("edited"), "rejected": _("rejected")}
STATE_SIGNS = {"open": "", "accepted": "✓", "edited": "✎", "rejected": "✗"}
STATE_COLOURS = {"accepted": "green", "edited": "amber", "rejected": "red"}
_STATE_ORDER = {"open": 0, "rejected": 1, "edited": 2, "accepted": 3}


class ReviewTable:
    """Wires a QTableWidget. `chosen(name)` is called when a row is clicked or reached by keyboard."""

    def __init__(self, table, chosen: Callable[[str], None]):
        self._table, self._chosen = table, chosen
        self._structures: list[Structure] = []
        self._level, self._sorted_by, self._descending = 0.9, None, False
        table.connect("cellClicked(int,int)", self._cell_clicked)
        table.connect("currentCellChanged(int,int,int,int)", self._cell_reached)
        table.horizontalHeader().connect("sectionClicked(int)", self._header_clicked)

    def fill(self, structures, level: float, chosen: str = "") -> None:
        """Show structures in the order that was asked for last, with intervals of `level`; `chosen` is marked, and
        told to nobody.
        """
        self._structures, self._level = list(structures), level
        self._order()
        table = self._table
        table.blockSignals(True)
        table_rows.fill(
            table, [texts(s, level) for s in self._structures], [tip(s, level) for s in self._structures], stretch=False
        )
        for row, structure in enumerate(self._structures):
            self._dress(row, structure)
        for column, words in (
            (
                VOLUME,
                _(
                    "Volume, and below it the interval that holds the true volume with {level:.0%} probability; there "
                    "is none where the model's volumes were not calibrated."
                ).format(level=level),
            ),
            (
                CALIBRATED,
                _("Whether the interval was checked and corrected on patients that the model was not trained on."),
            ),
            (DICE, _("Overlap with the true structure that is to be expected, with its 90 % interval; 1 is perfect.")),
            (
                ENTROPY,
                _(
                    "Mean entropy on the contour's surface, in nats: 0 is certain, 0.69 a coin toss between two "
                    "structures, and more a toss between several."
                ),
            ),
            (FLAG, _("Why it deserves a second look.")),
            (DECISION, _("What you decided: ✓ accepted, ✎ edited, ✗ rejected.")),
        ):
            table.horizontalHeaderItem(column).setToolTip(words)
        table.horizontalHeaderItem(VOLUME).setText(_("ml ({level:.0%})").format(level=level))
        self._fit()
        self._mark(chosen)
        table.blockSignals(False)

    def names(self) -> list[str]:
        """The structures, from the first row to the last."""
        return [s.name for s in self._structures]

    def _fit(self) -> None:
        """Rows of two lines, flags in what is left of the width; with up to `MOST_ROWS` the table is as high as its
        rows.
        """
        import qt

        table = self._table
        table.horizontalHeader().setSectionResizeMode(FLAG, qt.QHeaderView.Stretch)
        height = 2 * table.fontMetrics().lineSpacing() + 4
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.Fixed)
        for row in range(table.rowCount):
            table.setRowHeight(row, height)
        table.setFixedHeight(
            table.horizontalHeader().sizeHint.height() + min(max(table.rowCount, 1), MOST_ROWS) * height + 4
        )

    def _dress(self, row: int, structure: Structure) -> None:
        import qt

        table = self._table
        swatch = qt.QPixmap(SWATCH, SWATCH)
        swatch.fill(qt.QColor(*(round(255 * c) for c in structure.color)))
        table.item(row, STRUCTURE).setIcon(qt.QIcon(swatch))
        for column in (VOLUME, DICE, ENTROPY):
            table.item(row, column).setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
        table_rows.paint(table.item(row, FLAG), structure.severity)
        table.item(row, DECISION).setTextAlignment(qt.Qt.AlignCenter)
        table_rows.paint(table.item(row, DECISION), STATE_COLOURS.get(structure.decision.state, ""))

    def _mark(self, name: str) -> None:
        row = self.names().index(name) if name in self.names() else -1
        self._table.setCurrentCell(row, STRUCTURE if row >= 0 else -1)

    def _order(self) -> None:
        """Worst first, or by a column: numbers descending at the first click, what is missing always last."""
        if self._sorted_by is None:
            self._structures.sort(key=lambda s: s.worst_first())
            return

        def key(structure):
            value = _value(structure, self._sorted_by, self._level)
            if isinstance(value, str):
                return False, value
            missing = value is None or math.isnan(value)
            return missing, 0 if missing else -value if self._descending else value

        self._structures.sort(key=key, reverse=self._descending and self._sorted_by == STRUCTURE)

    def _header_clicked(self, column: int) -> None:
        """Sort by a column; a second click turns the order round, a third goes back to worst first."""
        import qt

        first_descending = column not in (STRUCTURE, DICE, FLAG, DECISION)  # the worst on top: low Dice, high entropy
        if column == self._sorted_by and self._descending != first_descending:
            self._sorted_by = None
        elif column == self._sorted_by:
            self._descending = not self._descending
        else:
            self._sorted_by, self._descending = column, first_descending
        header = self._table.horizontalHeader()
        header.setSortIndicatorShown(self._sorted_by is not None)
        if self._sorted_by is not None:
            header.setSortIndicator(column, qt.Qt.DescendingOrder if self._descending else qt.Qt.AscendingOrder)
        row = self._table.currentRow()
        self.fill(self._structures, self._level, self.names()[row] if 0 <= row < len(self._structures) else "")

    def _cell_clicked(self, row, column) -> None:
        if 0 <= row < len(self._structures):
            self._chosen(self._structures[row].name)

    def _cell_reached(self, row, column, previous_row, previous_column) -> None:
        if row != previous_row:
            self._cell_clicked(row, column)


def _value(structure: Structure, column: int, level: float):
    """What a column sorts by: a text or a number, None when it is missing."""
    quality, interval = structure.quality, structure.interval(level)
    if column == STRUCTURE:
        return structure.name.lower()
    return {
        VOLUME: structure.volume_ml,
        CALIBRATED: None if interval is None else float(interval.calibrated),
        DICE: quality.expected_dice if quality else None,
        ENTROPY: quality.surface_entropy if quality else None,
        FLAG: float(structure.worst_first()[0]),
        DECISION: float(_STATE_ORDER[structure.decision.state]),
    }[column]


def texts(structure: Structure, level: float) -> list[str]:
    """The cells of a row."""
    quality, interval = structure.quality, structure.interval(level)
    dice = with_interval(quality.expected_dice, quality.dice_lower, quality.dice_upper, 2) if quality else NONE
    calibrated = NONE if interval is None else _("yes") if interval.calibrated else _("no")
    flag = structure.flags[0].flag if structure.flags else ""
    return [
        structure.name,
        volume_text(structure, level),
        calibrated,
        dice,
        number(quality.surface_entropy if quality else None, 2),
        flag,
        STATE_SIGNS[structure.decision.state],
    ]


def volume_text(structure: Structure, level: float) -> str:
    """Volume in ml, and its interval in a second line."""
    interval = structure.interval(level)
    lower, upper = (interval.lower_ml, interval.upper_ml) if interval else (None, None)
    largest = max((v for v in (structure.volume_ml, upper) if v is not None), default=0.0)
    if interval is not None and None in (lower, upper):
        return number(structure.volume_ml, 0 if largest >= 100 else 1) + "\n" + _("not calibrated")
    return with_interval(structure.volume_ml, lower, upper, 0 if largest >= 100 else 1)


def with_interval(value: float | None, lower: float | None, upper: float | None, digits: int) -> str:
    """A number, and its interval in a second line where there is one."""
    if None in (lower, upper):
        return number(value, digits)
    return f"{number(value, digits)}\n{lower:.{digits}f}–{upper:.{digits}f}"


def note_text(interval: Interval) -> str:
    """What limits an interval, or why there is none."""
    said = _("No interval: {note}.") if interval.lower_ml is None else _("Interval: {note}.")
    return said.format(note=interval.note.rstrip("."))


def tip(structure: Structure, level: float) -> str:
    """All that is known of a row in words, and what a click does."""
    interval = structure.interval(level)
    lines = [f"{structure.name}: {f.reason or f.flag}" for f in structure.flags] or [structure.name]
    if interval is not None and interval.note:
        lines.append(note_text(interval))
    if interval is not None and interval.calibrated and interval.cases:
        lines.append(_("Interval calibrated on {count} cases.").format(count=interval.cases))
    if structure.decision.state != "open":
        lines.append(_("Decision: {state}.").format(state=STATE_WORDS[structure.decision.state]))
    if structure.decision.comment:
        lines.append(_("Comment: {text}").format(text=structure.decision.comment))
    return "\n".join([*lines, _("Click to look at its least certain slice.")])

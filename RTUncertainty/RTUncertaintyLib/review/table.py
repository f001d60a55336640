"""The table of structures in a review: three groups, each structure with its reason, volume and decision, worst first.

Four columns: more do not fit into a panel of 430 pixels. What else is known stands in the tool tips.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..runs.review_data import Interval, ReviewData, Structure
from ..widgets import table_rows
from ..widgets.table_rows import number
from ..widgets.text import _
from . import triage

STRUCTURE, WHY, VOLUME, DECISION = range(4)
SWATCH, MOST_ROWS = 12, 10  # pixels, rows
STATE_WORDS = {"open": _("open"), "accepted": _("accepted"), "edited": _("edited"), "rejected": _("rejected")}
STATE_SIGNS = {"open": "", "accepted": "✓", "edited": "✎", "rejected": "✗"}
STATE_COLOURS = {"accepted": "green", "edited": "amber", "rejected": "red"}
_STATE_ORDER = {"open": 0, "rejected": 1, "edited": 2, "accepted": 3}
_GROUP_COLOURS = {triage.LOOK: "amber", triage.FINE: "green", triage.UNCOVERED: "grey"}


class ReviewTable:
    """Wires a QTableWidget. `chosen(name)` is called when a row is clicked or reached by keyboard."""

    def __init__(self, table, chosen: Callable[[str], None]):
        self._table, self._chosen = table, chosen
        self._data: ReviewData | None = None
        self._rows: list[Structure | str] = []
        self._level, self._sorted_by, self._descending = 0.9, None, False
        table.connect("cellClicked(int,int)", self._cell_clicked)
        table.connect("currentCellChanged(int,int,int,int)", self._cell_reached)
        table.horizontalHeader().connect("sectionClicked(int)", self._header_clicked)

    def fill(self, data: ReviewData | None, level: float, chosen: str = "") -> None:
        """Show the structures of a run in their groups, or in the order that was asked for last, with intervals of
        `level`; `chosen` is marked, and told to nobody.
        """
        self._data, self._level = data, level
        self._rows = self._ordered()
        table = self._table
        table.blockSignals(True)
        table.clearSpans()
        table_rows.fill(
            table,
            [self._texts(row) for row in self._rows],
            [self._tip(row) for row in self._rows],
            stretch=(STRUCTURE, WHY),
        )
        for row, what in enumerate(self._rows):
            if isinstance(what, str):
                self._dress_title(row, what)
            else:
                self._dress(row, what)
        for column, words in (
            (WHY, _("Why it stands where it stands. Click the title to sort by it.")),
            (
                VOLUME,
                _(
                    "Volume, and below it the interval that holds the true volume with {level:.0%} probability; there "
                    "is none where the model's volumes were not calibrated."
                ).format(level=level),
            ),
            (DECISION, _("What you decided: ✓ accepted, ✎ edited, ✗ rejected.")),
        ):
            table.horizontalHeaderItem(column).setToolTip(words)
        table.horizontalHeaderItem(VOLUME).setText(_("ml ({level:.0%})").format(level=level))
        self._fit()
        self._mark(chosen)
        table.blockSignals(False)

    def names(self) -> list[str]:
        """The structures, from the first row to the last."""
        return [s.name for s in self._rows if not isinstance(s, str)]

    def row_of(self, name: str) -> int:
        """The row of a structure, -1 without one."""
        return next((r for r, s in enumerate(self._rows) if not isinstance(s, str) and s.name == name), -1)

    def _texts(self, row: Structure | str) -> list[str]:
        if isinstance(row, str):
            count = sum(triage.verdict(s, self._data).group == row for s in self._data.structures)
            return [f"{triage.TITLES[row]} ({count})", "", "", ""]
        return texts(row, self._data, self._level)

    def _tip(self, row: Structure | str) -> str:
        return triage.rule_text(self._data) if isinstance(row, str) else tip(row, self._level)

    def _fit(self) -> None:
        """Rows of two lines, titles of one; with up to `MOST_ROWS` the table is as high as its rows."""
        import qt

        table = self._table
        line = table.fontMetrics().lineSpacing()
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.Fixed)
        table.verticalHeader().setMinimumSectionSize(line)
        heights = [line + 6 if isinstance(row, str) else 2 * line + 4 for row in self._rows] or [2 * line + 4]
        for row, height in enumerate(heights[: table.rowCount]):
            table.setRowHeight(row, height)
        table.setFixedHeight(table.horizontalHeader().sizeHint.height() + sum(heights[: MOST_ROWS + 3]) + 4)

    def _dress_title(self, row: int, group: str) -> None:
        import qt

        table = self._table
        table.setSpan(row, 0, 1, table.columnCount)
        item = table.item(row, STRUCTURE)
        item.setFlags(qt.Qt.ItemIsEnabled)
        font = item.font()
        font.setBold(True)
        item.setFont(font)
        table_rows.paint(item, _GROUP_COLOURS[group])

    def _dress(self, row: int, structure: Structure) -> None:
        import qt

        table = self._table
        swatch = qt.QPixmap(SWATCH, SWATCH)
        swatch.fill(qt.QColor(*(round(255 * c) for c in structure.color)))
        table.item(row, STRUCTURE).setIcon(qt.QIcon(swatch))
        table.item(row, VOLUME).setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
        table_rows.paint(table.item(row, WHY), structure.severity)
        table.item(row, DECISION).setTextAlignment(qt.Qt.AlignCenter)
        table_rows.paint(table.item(row, DECISION), STATE_COLOURS.get(structure.decision.state, ""))

    def _mark(self, name: str) -> None:
        row = self.row_of(name)
        self._table.setCurrentCell(row, STRUCTURE if row >= 0 else -1)

    def _ordered(self) -> list[Structure | str]:
        """In groups, worst first; or by a column: numbers descending at the first click, what is missing always
        last.
        """
        if self._data is None:
            return []
        if self._sorted_by is None:
            groups = triage.groups(self._data)
            return [row for group in triage.GROUPS if groups[group] for row in (group, *groups[group])]

        def key(structure):
            value = _value(structure, self._sorted_by)
            if isinstance(value, str):
                return False, value
            missing = value is None or math.isnan(value)
            return missing, 0 if missing else -value if self._descending else value

        return sorted(self._data.structures, key=key, reverse=self._descending and self._sorted_by == STRUCTURE)

    def _header_clicked(self, column: int) -> None:
        """Sort by a column; a second click turns the order round, a third goes back to the groups."""
        import qt

        first_descending = column == VOLUME
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
        chosen = self._rows[row] if 0 <= row < len(self._rows) else ""
        self.fill(self._data, self._level, "" if isinstance(chosen, str) else chosen.name)

    def _cell_clicked(self, row, column) -> None:
        if 0 <= row < len(self._rows) and not isinstance(self._rows[row], str):
            self._chosen(self._rows[row].name)

    def _cell_reached(self, row, column, previous_row, previous_column) -> None:
        if row != previous_row:
            self._cell_clicked(row, column)


def _value(structure: Structure, column: int):
    """What a column sorts by: a text or a number, None when it is missing."""
    if column == STRUCTURE:
        return structure.name.lower()
    return {
        WHY: float(structure.worst_first()[0]),
        VOLUME: structure.volume_ml,
        DECISION: float(_STATE_ORDER[structure.decision.state]),
    }[column]


def texts(structure: Structure, data: ReviewData, level: float) -> list[str]:
    """The cells of a row."""
    return [
        structure.name,
        triage.verdict(structure, data).reason,
        volume_text(structure, level),
        STATE_SIGNS[structure.decision.state],
    ]


def quality_text(structure: Structure) -> str:
    """Expected Dice with its interval, where it was calibrated; one that was not is not shown."""
    quality = structure.quality
    if quality is None or not quality.calibrated or quality.expected_dice is None:
        return ""
    if None in (quality.dice_lower, quality.dice_upper):
        return _("Expected Dice {dice:.2f}.").format(dice=quality.expected_dice)
    return _("Expected Dice {dice:.2f} ({lower:.2f} to {upper:.2f}).").format(
        dice=quality.expected_dice, lower=quality.dice_lower, upper=quality.dice_upper
    )


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
    lines += [text for text in (quality_text(structure),) if text]
    if interval is not None and interval.note:
        lines.append(note_text(interval))
    if interval is not None and interval.calibrated and interval.cases:
        lines.append(_("Interval calibrated on {count} cases.").format(count=interval.cases))
    if structure.decision.state != "open":
        lines.append(_("Decision: {state}.").format(state=STATE_WORDS[structure.decision.state]))
    if structure.decision.comment:
        lines.append(_("Comment: {text}").format(text=structure.decision.comment))
    return "\n".join([*lines, _("Click to look at its least certain slice.")])

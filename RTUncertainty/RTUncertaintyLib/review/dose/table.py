"""The table of DVH numbers in the RTReview panel: a row a structure, with intervals, and a tick for those that the
chart shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ...widgets import table_rows
from ...widgets.text import _
from .nodes import Dvhs, Row

STRUCTURE, CALIBRATED = 0, 1
NUMBERS = (("d98_gy", "D98"), ("d95_gy", "D95"), ("d50_gy", "D50"), ("d2_gy", "D2"), ("mean_gy", "Dmean"))
NONE, MOST_ROWS, SWATCH = "–", 12, 12
_WORDS = {"volume": _("yes"), "no": _("no"), "": NONE}


class DvhTable:
    """Wires a QTableWidget. `ticked(names)` is called when the user ticks or unticks a structure."""

    def __init__(self, table, ticked: Callable[[list[str]], None]):
        self._table, self._ticked = table, ticked
        table.connect("itemChanged(QTableWidgetItem*)", self._changed)

    def fill(self, found: Dvhs | None, doses: list[float]) -> None:
        """Show DVHs with the volumes at these doses (Gy); None for none."""
        import qt

        table = self._table
        table.blockSignals(True)
        heads = [
            _("Structure"),
            _("Cal."),
            *(f"{title}\nGy" for _c, title in NUMBERS),
            *(f"V{d:g} Gy\n%" for d in doses),
        ]
        table.columnCount = len(heads)
        table.setHorizontalHeaderLabels(heads)
        rows = found.rows if found is not None else ()
        texts = [
            [
                r.structure,
                _WORDS.get(r.calibrated, NONE),
                *(_cell(r.numbers.get(c), r.intervals.get(c)) for c, _t in NUMBERS),
                *(_cell(*found.volume_at(r, d), percent=True) for d in doses),
            ]
            for r in rows
        ]
        table_rows.fill(table, texts, [tip(r) for r in rows], stretch=())
        height = 2 * table.fontMetrics().lineSpacing() + 4
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.Fixed)
        for index, row in enumerate(rows):
            table.setRowHeight(index, height)
            item = table.item(index, STRUCTURE)
            item.setFlags((item.flags() | qt.Qt.ItemIsUserCheckable) if row.volume is not None else qt.Qt.ItemIsEnabled)
            if row.structure in found.colors:
                swatch = qt.QPixmap(SWATCH, SWATCH)
                swatch.fill(qt.QColor(*(round(255 * c) for c in found.colors[row.structure])))
                item.setIcon(qt.QIcon(swatch))
            if row.volume is not None:
                item.setCheckState(qt.Qt.Checked if row.structure in found.shown else qt.Qt.Unchecked)
            table_rows.paint(table.item(index, CALIBRATED), {"volume": "green", "no": "amber"}.get(row.calibrated, ""))
            for column in range(2, table.columnCount):
                table.item(index, column).setTextAlignment(int(qt.Qt.AlignCenter))
        table.setFixedHeight(
            table.horizontalHeader().sizeHint.height() + min(max(len(rows), 1), MOST_ROWS) * height + 18
        )
        table.blockSignals(False)

    def _changed(self, item) -> None:
        import qt

        if item.column() != STRUCTURE:
            return
        items = [self._table.item(row, STRUCTURE) for row in range(self._table.rowCount)]
        self._ticked([i.text() for i in items if i.checkState() == qt.Qt.Checked])


def tip(row: Row) -> str:
    """What is known of a row, in sentences."""
    parts = []
    if row.level is not None and row.calibrated == "volume":
        parts.append(
            _(
                "{level:.0%} intervals, of contours that have the calibrated volumes of their percentiles; that doses "
                "hold their "
                "intervals was not checked by itself."
            ).format(level=row.level)
        )
    elif row.level is not None:
        parts.append(
            _("{level:.0%} intervals of the network's own contours, never calibrated.").format(level=row.level)
        )
    elif row.volume is not None:
        parts.append(_("No band: this result has neither samples nor probabilities of this contour."))
    return " ".join([*parts, *([f"{row.note[:1].upper()}{row.note[1:].rstrip('.')}."] if row.note else [])])


def doses_in(text: str) -> tuple[list[float], str]:
    """(doses in Gy that a text such as "20, 40" names, what is wrong with it or nothing)."""
    words = [w for w in re.split(r"[\s,;]+", text.strip()) if w]
    try:
        found = [float(w) for w in words]
    except ValueError:
        found = [-1.0]
    if any(not 0 <= d < 1000 for d in found):
        return [], _("Give doses in Gy with commas between, such as 20, 40.")
    return list(dict.fromkeys(found))[:8], ""


def _cell(value: float | None, interval: tuple[float, float] | None, percent: bool = False) -> str:
    """A value, and its interval below it."""
    if value is None:
        return NONE
    digits = 0 if percent and value >= 10 else 1
    return f"{value:.{digits}f}" + (
        f"\n{interval[0]:.{digits}f}–{interval[1]:.{digits}f}" if interval is not None else ""
    )

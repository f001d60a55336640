"""Rows of text in a QTableWidget, and the colours that say how serious a row is."""

from __future__ import annotations

COLOURS = {
    "serious": ("#f8d9d9", "#6b1414"),
    "warning": ("#fdf0c8", "#5c4500"),
    "red": ("#f8d9d9", "#6b1414"),
    "amber": ("#fdf0c8", "#5c4500"),
    "green": ("#d8eedd", "#14401f"),
    "grey": ("#e2e4e8", "#2c3036"),
}
"""Word -> background and text, both set: a row reads well in the light and in the dark style."""
NONE = "–"
FLAGS_HEIGHT = (150, 220)
"""Pixels of a table of flags: at least (when it has as many), and at most."""
MOST_CHARACTERS = 20
"""Width of a column that does not stretch."""


def number(value: float | None, digits: int) -> str:
    """A number with so many digits behind the point, a dash for None."""
    return NONE if value is None else f"{value:.{digits}f}"


def fill(table, rows: list[list[str]], tips: list[str] | None = None, stretch: tuple[int, ...] = (-1,)) -> None:
    """Put texts into a table, which goes away without rows. `tips` is one text for each row; else a cell repeats
    itself.

    The columns `stretch` share what the others leave of the width; the others are as wide as their contents, up to
    `MOST_CHARACTERS`, so that a long name never pushes a number out of the panel.
    """
    import qt

    table.rowCount = len(rows)
    for r, row in enumerate(rows):
        for c, text in enumerate(row):
            item = qt.QTableWidgetItem(text)
            item.setToolTip(tips[r] if tips else text)
            table.setItem(r, c, item)
    # Long texts wrap: the rows follow the width of the panel.
    table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
    set_widths(table, stretch)
    table.visible = bool(rows)


def set_widths(table, stretch: tuple[int, ...] = (-1,)) -> None:
    """Give the columns their widths, see `fill`."""
    import qt

    header, most = table.horizontalHeader(), MOST_CHARACTERS * table.fontMetrics().averageCharWidth()
    columns = {c % table.columnCount for c in stretch} if table.columnCount else set()
    for column in range(table.columnCount):
        if column in columns:
            header.setSectionResizeMode(column, qt.QHeaderView.Stretch)
        else:
            header.setSectionResizeMode(column, qt.QHeaderView.Interactive)
            wanted = max(table.sizeHintForColumn(column), header.sectionSizeHint(column))
            header.resizeSection(column, min(wanted, most))


def fit(table, most_rows: int) -> None:
    """Make a table as high as its rows, of more than `most_rows` as those. Else a layout squeezes it when the panel
    is long.
    """
    import qt

    table.resizeRowsToContents()
    height = _height(table, most_rows)
    if (
        table.horizontalScrollBarPolicy != qt.Qt.ScrollBarAlwaysOff
        and table.horizontalHeader().length() > table.viewport().width
    ):
        height += table.horizontalScrollBar().sizeHint.height()
    table.setFixedHeight(height)


def _height(table, most_rows: int) -> int:
    """Pixels of the header and of the first rows, with the frame."""
    return (
        table.horizontalHeader().sizeHint.height()
        + sum(table.rowHeight(r) for r in range(min(table.rowCount, most_rows)))
        + 4
    )


def paint(item, word: str) -> None:
    """Colour a cell by a word of `COLOURS`; other words leave it as it is."""
    import qt

    if word in COLOURS:
        background, text = COLOURS[word]
        item.setBackground(qt.QBrush(qt.QColor(background)))
        item.setForeground(qt.QBrush(qt.QColor(text)))


def fill_flags(table, rows: list[dict]) -> None:
    """The rows of flags.csv: subject, severity, and what was flagged and why. The table is never so high that it
    takes the panel.
    """
    fill(table, [[row["subject"], row["severity"], f"{row['flag']}: {row['reason']}"] for row in rows])
    for index, row in enumerate(rows):
        paint(table.item(index, 1), row["severity"])
    table.resizeRowsToContents()
    least, most = FLAGS_HEIGHT
    height = _height(table, table.rowCount)
    table.setMinimumHeight(min(height, least))
    table.setMaximumHeight(min(height, most))

"""The report's page as PDF on A4, by Qt's text document; what stands above and below the content of every page is
drawn beside it.

Lengths are in tenths of a point, so that letters stand where they belong at any resolution.
"""

from __future__ import annotations

from pathlib import Path

from rtuncertainty.core.errors import InputError

MM = 720 / 25.4
PAGE, MARGIN, TOP, BOTTOM = (210 * MM, 297 * MM), 15 * MM, 20 * MM, 18 * MM
WIDTH, HEIGHT = PAGE[0] - 2 * MARGIN, PAGE[1] - TOP - BOTTOM
RESOLUTION = 1200
FAMILY = "Arial"
NEEDED = "A PDF is written by Slicer: export from the application, or leave the PDF out and print the HTML page."


def available() -> bool:
    """Whether Qt is here to write a PDF with: in the Slicer application it is."""
    try:
        import qt
    except ImportError:
        return False
    return hasattr(qt, "QPdfWriter")


def write(html: str, file: Path, title: str, header: str, footer: str) -> None:
    """Write a page to a PDF file.

    Args:
        html: of `rtuncertainty.report.build.page` with a print folder, which is still there.
        file: the PDF.
        title: what readers call it.
        header, footer: stand on every page.

    Raises:
        InputError: without Qt, and when the file cannot be written.
    """
    if not available():
        raise InputError(NEEDED)
    import qt

    document = _document(html)
    writer = qt.QPdfWriter(str(file))
    writer.setTitle(title)
    writer.setCreator("RTUncertainty")
    writer.setResolution(RESOLUTION)
    painter = qt.QPainter()
    if not painter.begin(writer):
        raise InputError(f"{file}: cannot be written; choose another folder or free space on the disk.")
    try:
        origin, count = writer.pageLayout().paintRectPixels(RESOLUTION), document.pageCount
        count = count if isinstance(count, int) else count()
        for page in range(count):
            if page:
                writer.newPage()
            painter.save()
            painter.translate(-origin.x(), -origin.y())
            painter.scale(RESOLUTION / 720, RESOLUTION / 720)
            _frame(painter, header, footer, f"{page + 1} / {count}")
            painter.translate(MARGIN, TOP - page * HEIGHT)
            document.drawContents(painter, qt.QRectF(0, page * HEIGHT, WIDTH, HEIGHT))
            painter.restore()
    finally:
        painter.end()
    if not file.is_file() or file.stat().st_size < 100 or b"%%EOF" not in file.read_bytes()[-64:]:
        raise InputError(f"{file}: the PDF could not be written whole; is the disk full?")


def _document(html: str):
    """The page as a document of A4 pages; headings stay with what follows them, rows of pictures and charts whole."""
    import qt

    document = qt.QTextDocument()
    document.setDefaultFont(_font(88))
    document.setDocumentMargin(0)
    document.setHtml(html)
    document.setPageSize(qt.QSizeF(WIDTH, HEIGHT))
    layout, block, start = document.documentLayout(), document.begin(), None
    while block.isValid():
        cursor, box = qt.QTextCursor(block), layout.blockBoundingRect(block)
        table = cursor.currentTable()
        if table is not None:
            frame = layout.frameBoundingRect(table)
            # a long table may be parted, but not from its heading
            bottom = frame.bottom() if frame.height() < HEIGHT / 2 else box.bottom()
            _keep(qt, layout, start if start is not None else block, bottom)
            block, start = document.findBlock(table.lastPosition() + 1), None
            continue
        level = block.blockFormat().headingLevel()
        if level:  # one of a lower rank belongs to what stands above it
            start = start if start is not None and start.blockFormat().headingLevel() < level else block
        elif start is not None:
            _keep(qt, layout, start, box.bottom())
        block = block.next()
    return document


def _keep(qt, layout, block, bottom: float) -> None:
    """Begin a page with a block, or the table that it stands in, when what ends at `bottom` does not fit on the
    block's page."""
    cursor = qt.QTextCursor(block)
    table = cursor.currentTable()
    top = layout.frameBoundingRect(table).y() if table is not None else layout.blockBoundingRect(block).y()
    if int(top // HEIGHT) == int((bottom - 1) // HEIGHT):
        return
    form = table.format() if table is not None else block.blockFormat()
    form.setPageBreakPolicy(qt.QTextFormat.PageBreak_AlwaysBefore)
    if table is not None:
        table.setFormat(form)
    else:
        cursor.setBlockFormat(form)


def _font(height: int, bold: bool = False):
    import qt

    font = qt.QFont(FAMILY)
    font.setPixelSize(height)
    font.setBold(bold)
    return font


def _frame(painter, header: str, footer: str, number: str) -> None:
    """What stands above and below the content of a page."""
    import qt

    below = PAGE[1] - BOTTOM
    for top in (TOP - 5 * MM, below + 4 * MM):
        painter.fillRect(qt.QRectF(MARGIN, top, WIDTH, 0.2 * MM), qt.QBrush(qt.QColor(213, 219, 225)))
    grey, red, left, right = (
        qt.QColor(90, 102, 117),
        qt.QColor(140, 29, 24),
        0x81,
        0x82,
    )  # Qt's AlignLeft and AlignRight, each with AlignVCenter
    for text, top, ink, side, bold in (
        (header, TOP - 11 * MM, grey, left, False),
        (footer, below + 4.5 * MM, red, left, True),
        (number, below + 4.5 * MM, grey, right, False),
    ):
        painter.setFont(_font(76, bold))
        painter.setPen(qt.QPen(ink))
        painter.drawText(qt.QRectF(MARGIN, top, WIDTH, 6 * MM), side, text)

"""A report as PDF on A4, by Qt: blocks of the report's HTML, laid out page by page, with a header and a footer on each.

Lengths are in tenths of a point, whatever the resolution of screen and printer.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from rtuncertainty.core.errors import InputError

from . import svg as review_svg
from .pdf_blocks import Block, Figure, blocks, split

POINT = 10.0
MM = 72 / 25.4 * POINT
PAGE, MARGIN, TOP, BOTTOM = (210 * MM, 297 * MM), 15 * MM, 20 * MM, 18 * MM
WIDTH, HEIGHT = PAGE[0] - 2 * MARGIN, PAGE[1] - TOP - BOTTOM
GAP = 2.2 * MM
FAMILY = "Arial"
RESOLUTION = 1200
CHART = 0.82
"""Share of the page's width that a chart takes alone."""
# Colours are all set: in the dark style of the application text would be white.
STYLE = """
body,p,h1,h2,h3,td,th,li,ul,span,b,div,code { color:#1c2430; }
p { margin-top:0px; margin-bottom:0px; } h1 { font-size:190px; margin:0px; } h2 { font-size:130px; margin:0px; } h3 { font-size:106px; margin:0px; }
td,th { padding:18px 40px 18px 40px; border-bottom:5px solid #d5dbe1; } th { font-weight:600; background-color:#f4f6f8; text-align:left; white-space:nowrap; }
.facts th { background-color:#ffffff; color:#5a6675; font-weight:normal; } .soft,.explained { color:#5a6675; }
.strong { color:#8c1d18; font-weight:600; } .n,.name { white-space:nowrap; } ul { margin:0px; } code { font-size:70px; }
.serious .level { color:#b3261e; } .warning .level { color:#8a5200; } .info .level { color:#2f5c8a; } .none .level { color:#2c6a3e; }
"""


def available() -> bool:
    """Whether Qt is here to write a PDF with: in the Slicer application it is."""
    try:
        import qt
    except ImportError:
        return False
    return hasattr(qt, "QPdfWriter")


def write(sections: list[str], file: Path, title: str, header: str, footer: str) -> None:
    """Write the pieces of `rtuncertainty.report.build.sections` to a PDF file; `header` and `footer` stand on every page.

    Raises `InputError` without Qt and when the file cannot be written.
    """
    if not available():
        raise InputError("A PDF is written by Slicer: export from the application, or leave the PDF out and print the HTML page.")
    with tempfile.TemporaryDirectory() as scratch:
        _Writer(file, title, header, footer, Path(scratch)).write(blocks(sections))
    if not file.is_file() or file.stat().st_size < 100 or b"%%EOF" not in file.read_bytes()[-64:]:
        raise InputError(f"{file}: the PDF could not be written whole; is the disk full?")


class _Writer:
    """Lays blocks out from top to bottom; a page is begun when the next one does not fit."""

    def __init__(self, file: Path, title: str, header: str, footer: str, scratch: Path):
        self._file, self._title, self._header, self._footer, self._scratch = file, title, header, footer, scratch
        self._documents: dict[int, object] = {}

    def write(self, content: list[Block]) -> None:
        import qt

        pages = self._pages(content)
        writer = qt.QPdfWriter(str(self._file))
        writer.setTitle(self._title)
        writer.setCreator("RTUncertainty")
        writer.setResolution(RESOLUTION)
        painter = qt.QPainter()
        if not painter.begin(writer):
            raise InputError(f"{self._file}: cannot be written; choose another folder or free space on the disk.")
        try:
            origin = writer.pageLayout().paintRectPixels(RESOLUTION)
            for number, page in enumerate(pages):
                if number:
                    writer.newPage()
                painter.save()
                painter.translate(-origin.x(), -origin.y())
                painter.scale(RESOLUTION / 72 / POINT, RESOLUTION / 72 / POINT)
                self._frame(painter, number + 1, len(pages))
                for top, block in page:
                    self._draw(painter, block, TOP + top)
                painter.restore()
        finally:
            painter.end()

    def _pages(self, content: list[Block]) -> list[list[tuple[float, Block]]]:
        """(distance from the top, block) of each page."""
        pages, at = [[]], 0.0
        waiting = list(content)
        while waiting:
            count = next((i for i, b in enumerate(waiting) if not b.keep), len(waiting) - 1) + 1
            while count > 1 and sum(self._height(b) + self._gap(b) for b in waiting[:count]) > HEIGHT:
                count -= 1  # more than a page holds: as much as it takes
            group = waiting[:count]
            needed = sum(self._height(b) + self._gap(b) for b in group)
            if at and at + needed > HEIGHT:
                pages.append([])
                at = 0.0
            if count == 1 and needed > HEIGHT and len(split(group[0])) > 1:
                waiting[:1] = split(group[0])
                continue
            for block in group:
                at += self._gap(block) if at else 0.0
                pages[-1].append((at, block))
                at += self._height(block)
            waiting = waiting[count:]
        return pages

    def _gap(self, block: Block) -> float:
        """Space above a block."""
        return 3.2 * GAP if block.html.startswith("<h2") else 1.6 * GAP if block.html.startswith("<h3") else GAP

    def _height(self, block: Block) -> float:
        if block.figures:
            return max(self._figure_size(f, block)[1] for f in block.figures)
        if block.charts:
            return max(self._chart_width(block) * height / width for width, height in map(review_svg.size, block.charts))
        line = 0.8 * MM if block.html.startswith("<h2") else 0.0
        return float(self._document(block).size.height()) + line

    def _document(self, block: Block):
        """The text of a block, laid out."""
        import qt

        if id(block) not in self._documents:
            document = qt.QTextDocument()
            font = qt.QFont(FAMILY)
            font.setPixelSize(86)
            document.setDefaultFont(font)
            document.setDocumentMargin(0)
            document.setDefaultStyleSheet(STYLE)
            document.setHtml(f"<body>{block.html}</body>")
            document.setTextWidth(WIDTH)
            self._documents[id(block)] = document
        return self._documents[id(block)]

    def _column(self, block: Block, of: int) -> float:
        return (WIDTH * block.width - (of - 1) * GAP) / of

    def _chart_width(self, block: Block) -> float:
        return CHART * WIDTH if len(block.charts) == 1 and review_svg.size(block.charts[0])[0] > 400 else self._column(block, 3)

    def _figure_size(self, figure: Figure, block: Block) -> tuple[float, float]:
        """Height of the picture, and of the whole with caption and legend."""
        image, width = self._image(figure), self._column(block, 3)
        picture = width * image.height() / max(image.width(), 1)
        return picture, 4.0 * MM + picture + (width * 28 / 280 + 0.6 * MM if figure.legend else 0.0)

    def _image(self, figure: Figure):
        import qt

        if id(figure) not in self._documents:
            file = self._scratch / f"{len(self._documents)}.png"
            file.write_bytes(figure.png)
            self._documents[id(figure)] = qt.QImage(str(file))
        return self._documents[id(figure)]

    def _draw(self, painter, block: Block, top: float) -> None:
        import qt

        if block.figures:
            width = self._column(block, 3)
            for index, figure in enumerate(block.figures):
                self._draw_figure(painter, figure, block, MARGIN + index * (width + GAP), top, width)
        elif block.charts:
            width = self._chart_width(block)
            for index, svg in enumerate(block.charts):
                review_svg.draw(painter, svg, MARGIN + index * (width + GAP), top, width, FAMILY)
        else:
            painter.save()
            painter.translate(MARGIN, top)
            self._document(block).drawContents(painter)
            painter.restore()
            if block.html.startswith("<h2"):
                below = top + self._height(block)
                painter.fillRect(qt.QRectF(MARGIN, below - 0.35 * MM, WIDTH, 0.35 * MM), qt.QBrush(review_svg.colour("#d5dbe1")))

    def _draw_figure(self, painter, figure: Figure, block: Block, left: float, top: float, width: float) -> None:
        import qt

        height = self._figure_size(figure, block)[0]
        review_svg.put(painter, figure.caption, left, top + 1.7 * MM, 76, 1, FAMILY, "#1c2430", bold=True)
        top += 4.0 * MM
        painter.drawImage(qt.QRectF(left, top, width, height), self._image(figure))
        aside = block.width < 1  # ticks point at the middle of the edges there
        across, down = (0.84, 0.14) if aside else (0.5, 0.5)
        places = ((left + 1.2 * MM, top + down * height, 1), (left + width - 1.2 * MM, top + down * height, 2),
                  (left + across * width, top + 2.2 * MM, 4), (left + across * width, top + height - 2.2 * MM, 4))
        for letter, (x, y, align) in zip(figure.letters, places):
            _readable(painter, letter, x, y, align)
        share, words = figure.bar
        if share:
            painter.fillRect(qt.QRectF(left + 2 * MM, top + height - 2 * MM, share * width, 0.5 * MM), qt.QBrush(review_svg.colour("#ffe9a8")))
            _readable(painter, words, left + 2 * MM, top + height - 4 * MM, 1)
        if figure.legend:
            review_svg.draw(painter, figure.legend, left, top + height + 0.6 * MM, width, FAMILY)

    def _frame(self, painter, number: int, count: int) -> None:
        """What stands above and below the content of every page."""
        import qt

        line = qt.QBrush(review_svg.colour("#d5dbe1"))
        painter.fillRect(qt.QRectF(MARGIN, TOP - 5 * MM, WIDTH, 0.2 * MM), line)
        painter.fillRect(qt.QRectF(MARGIN, PAGE[1] - BOTTOM + 4 * MM, WIDTH, 0.2 * MM), line)
        review_svg.put(painter, self._header, MARGIN, TOP - 8 * MM, 74, 1, FAMILY, "#5a6675")
        below = PAGE[1] - BOTTOM + 7.5 * MM
        review_svg.put(painter, self._footer, MARGIN, below, 76, 1, FAMILY, "#8c1d18", bold=True)
        review_svg.put(painter, f"{number} / {count}", PAGE[0] - MARGIN, below, 76, 2, FAMILY, "#5a6675")


def _readable(painter, text: str, x: float, y: float, align: int) -> None:
    """A letter on a picture: light, with a dark shadow, so that it shows on bone and on air."""
    if text:
        review_svg.put(painter, text, x + 0.25 * MM, y + 0.25 * MM, 76, align, FAMILY, "#000000", bold=True)
        review_svg.put(painter, text, x, y, 76, align, FAMILY, "#ffe9a8", bold=True)

"""The report as PDF through Qt: whole, with everything on it, nothing taken for HTML, nothing over the edge of a page."""

import re
import zlib

import make_propagation
import make_result
import make_review
import numpy as np
import pytest
from RTUncertaintyLib.review.report import content as review_content, pdf as review_pdf, export, svg as review_svg
from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.review.report.pdf_blocks import Block, blocks, split
from RTUncertaintyLib.review import decisions
from rtuncertainty.report import build, charts as report_charts
from rtuncertainty.core.errors import InputError

NASTY = "<img src='x'>&lt;b&gt;"


@pytest.fixture(autouse=True)
def with_qt(application):
    """`qt` is there once the stand-ins are."""
    global qt
    import qt


@pytest.fixture
def run(scene, tmp_path):
    folder = make_review.add_review_files(make_result.make_result(tmp_path / "r", reference=True))
    return run_scene.load_result(folder, scene, input_file=make_result.make_input(tmp_path))


def streams(pdf: bytes) -> list[bytes]:
    """The unpacked streams of a PDF file."""
    found = []
    for data in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, flags=re.DOTALL):
        try:
            found.append(zlib.decompress(data))
        except zlib.error:
            found.append(data)
    return found


def pages(pdf: bytes) -> int:
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf))


def test_a_report_becomes_a_pdf_with_a_page_number_on_each_page(run, tmp_path):
    decisions.decide(run, "gtv", "rejected", NASTY, "MZ")
    files = export.export(run, tmp_path / "out", ("html", "pdf"), patient={"Name": "Phantom"})
    assert [f.name for f in files] == ["report.html", "report.pdf"]
    pdf = files[1].read_bytes()
    assert pdf.startswith(b"%PDF-") and b"%%EOF" in pdf[-64:] and pages(pdf) >= 4
    # every picture of the page is an image of the file (some readers count a mask as well)
    assert len(re.findall(rb"/Subtype\s*/Image", pdf)) >= files[0].read_text(encoding="utf-8").count("<figure")
    assert b"/FontFile2" in pdf  # letters go with the file


def test_every_word_of_the_page_is_in_the_blocks(run):
    sections = build.sections(review_content.result_of(run))
    found = blocks(sections)
    document = qt.QTextDocument()
    plain = ""
    for block in found:
        document.setHtml(block.html)
        plain += " " + document.toPlainText()
        plain += " ".join([f.caption for f in block.figures])
    words = re.sub(r"<svg.*?</svg>|<style.*?</style>|<[^>]+>", " ", "".join(sections), flags=re.DOTALL)
    document.setHtml(words)
    shown = set(re.findall(r"\w{4,}", plain))
    assert set(re.findall(r"\w{4,}", document.toPlainText())) - shown == set()
    assert sum(len(b.figures) for b in found) == "".join(sections).count("<figure")
    charts = [svg for b in found for svg in [*b.charts, *(f.legend for f in b.figures if f.legend)]]
    assert len(charts) == len(re.findall(r"<svg class='(?:chart|legend)'", "".join(sections)))


def test_user_text_stays_text():
    for block in blocks([f"<p>{build.words.text(NASTY)}</p>", f"<div class='flag serious'><b class='level'>Serious</b><div>{build.words.text(NASTY)}</div></div>"]):
        document = qt.QTextDocument()
        document.setHtml(block.html)
        assert NASTY in document.toPlainText() and "<img" not in block.html


def test_blocks_stay_on_the_page_and_headings_with_what_follows(run):
    content = blocks(build.sections(review_content.result_of(run)))
    writer = review_pdf._Writer(None, "", "", "", None)
    writer._image = lambda figure: qt.QImage(400, 360, qt.QImage.Format_RGB32)
    laid_out = writer._pages(content)
    assert [b for page in laid_out for _, b in page] == content
    for page in laid_out:
        bottom = 0.0
        for top, block in page:
            assert top >= bottom - 1e-6
            bottom = top + writer._height(block)
        assert bottom <= review_pdf.HEIGHT
        assert not page[-1][1].html.startswith(("<h2", "<h3"))  # a heading alone at the end of a page


def test_a_table_longer_than_a_page_goes_on_with_its_heading():
    rows = "".join(f"<tr><td>row {n}</td></tr>" for n in range(200))
    block = Block(f"<table width='100%'><tr><th>Heading</th></tr>{rows}</table>")
    writer = review_pdf._Writer(None, "", "", "", None)
    laid_out = writer._pages([block])
    parts = [b.html for page in laid_out for _, b in page]
    assert len(laid_out) > 2 and all("Heading" in part for part in parts)
    assert re.findall(r"row \d+", "".join(parts)) == [f"row {n}" for n in range(200)]
    assert split(Block("<p>no table</p>")) == [Block("<p>no table</p>")]


def drawn(svg: str, width: int = 620) -> np.ndarray:
    """A chart as pixels (rows, columns, 3) on white."""
    height = round(width * review_svg.size(svg)[1] / review_svg.size(svg)[0])
    image = qt.QImage(width, height, qt.QImage.Format_RGB32)
    image.fill(qt.QColor(255, 255, 255))
    painter = qt.QPainter(image)
    painter.setRenderHint(qt.QPainter.Antialiasing)
    review_svg.draw(painter, svg, 0, 0, width, "Arial")
    painter.end()
    return np.array(image.constBits(), np.uint8).reshape(height, width, 4)[..., 2::-1]


def test_charts_look_as_qt_draws_svg():
    from PySide6 import QtCore, QtSvg

    curve = np.sin(np.linspace(0, 6, 60)) + 2
    chart = re.search(r"<svg class='chart'.*</svg>", report_charts.along_slices({"predictive": curve, "absolute error": curve + 0.5}, [20]), re.DOTALL).group(0)
    legend = report_charts.legend(report_charts.Scale("predictive", 0.0, 200.0, "HU"))
    for svg in (chart, legend):
        own = drawn(svg).astype(int)
        image = qt.QImage(own.shape[1], own.shape[0], qt.QImage.Format_RGB32)
        image.fill(qt.QColor(255, 255, 255))
        painter = qt.QPainter(image)
        painter.setRenderHint(qt.QPainter.Antialiasing)
        QtSvg.QSvgRenderer(QtCore.QByteArray(svg.encode())).render(painter, QtCore.QRectF(0, 0, own.shape[1], own.shape[0]))
        painter.end()
        other = np.array(image.constBits(), np.uint8).reshape(own.shape[0], own.shape[1], 4)[..., 2::-1].astype(int)
        # letters differ by a pixel here and there: compare coarsely, and see that both draw about as much
        shape = (own.shape[0] // 10 * 10, own.shape[1] // 10 * 10)
        coarse = [p[:shape[0], :shape[1]].reshape(shape[0] // 10, 10, shape[1] // 10, 10, 3).mean((1, 3)) for p in (own, other)]
        assert np.abs(coarse[0] - coarse[1]).mean() < 2.5, svg[:40]
        assert (255 - own).sum() == pytest.approx((255 - other).sum(), rel=0.12)


def test_the_dark_style_does_not_whiten_the_text(run, tmp_path):
    palette = qt.QPalette()
    for role in (qt.QPalette.Text, qt.QPalette.WindowText):
        palette.setColor(role, qt.QColor(255, 255, 255))
    application = qt.QApplication.instance()
    before = qt.QPalette(application.palette())
    application.setPalette(palette)
    try:
        review_pdf.write(["<h1>Title</h1>", "<p>Some words</p>", "<ul><li>entry</li></ul>", "<table class='facts'><tr><th>a</th><td>b</td></tr></table>"],
                         tmp_path / "dark.pdf", "t", "head", "foot")
    finally:
        application.setPalette(before)
    content = b"\n".join(s for s in streams((tmp_path / "dark.pdf").read_bytes()) if b" Tj" in s or b"] TJ" in s or b" Tf" in s)
    assert content and not re.search(rb"\b1 1 1 (rg|scn)\b[^\n]*\n(?:(?!\b(?:rg|scn)\b).)*?T[jJ]", content)


def test_a_propagation_becomes_a_pdf(scene, tmp_path):
    folder = make_review.add_review_files(make_propagation.make_propagation(tmp_path / "r"))
    run = run_scene.load_propagation(folder, scene)
    assert pages(export.export(run, tmp_path / "out", ("pdf",))[0].read_bytes()) >= 4


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(InputError, match="missing"):
        review_pdf.write(["<p>x</p>"], tmp_path / "missing" / "a.pdf", "t", "h", "f")

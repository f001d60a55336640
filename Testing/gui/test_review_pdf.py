"""The report as PDF through Qt: whole, with every word and picture of the page, nothing taken for HTML, nothing over
the edge of a page."""

import re
import zlib

import make_propagation
import make_result
import make_review
import pytest

from rtuncertainty.core.errors import InputError
from rtuncertainty.report import build
from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.review import decisions
from RTUncertaintyLib.review.report import content, export, pdf

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


def streams(file: bytes) -> list[bytes]:
    """The unpacked streams of a PDF file."""
    found = []
    for data in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", file, flags=re.DOTALL):
        try:
            found.append(zlib.decompress(data))
        except zlib.error:
            found.append(data)
    return found


def pages(file: bytes) -> int:
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", file))


def test_a_report_becomes_a_pdf(run, tmp_path):
    decisions.decide(run, "gtv", "rejected", NASTY, "MZ")
    files = export.export(run, tmp_path / "out", ("html", "pdf"), patient={"Name": "Phantom"})
    assert [f.name for f in files] == ["report.html", "report.pdf"]
    file, html = files[1].read_bytes(), files[0].read_text(encoding="utf-8")
    assert file.startswith(b"%PDF-") and b"%%EOF" in file[-64:] and 3 <= pages(file) <= 9
    # every picture, interval and chart of the page is an image of the file (some readers count a mask as well)
    assert len(re.findall(rb"/Subtype\s*/Image", file)) >= html.count("<figure") + html.count("<svg")
    assert b"/FontFile2" in file  # letters go with the file
    assert sum(s.count(b"Tj") + s.count(b"TJ") for s in streams(file)) > 100  # and text is text


def test_the_printed_page_says_what_the_page_says_and_its_pictures_are_there(run, tmp_path):
    data = content.result_of(run)
    data.reviews = [{"structure": NASTY, "decision": "rejected", "comment": NASTY, "reviewer": NASTY, "time": ""}]
    (tmp_path / "print").mkdir()
    page, printed = build.page(data), build.page(data, print_folder=tmp_path / "print")
    document = qt.QTextDocument()
    document.setHtml(re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL))
    wanted = set(re.findall(r"\w{4,}", document.toPlainText()))
    document.setHtml(printed)
    assert wanted - set(re.findall(r"\w{4,}", document.toPlainText())) == set()
    assert NASTY in document.toPlainText() and "<img src='x'" not in printed
    files = [qt.QUrl(f).toLocalFile() for f in re.findall(r'<img src="([^"]*)"', printed)]
    assert len(files) == page.count("<figure") + page.count("<svg")
    assert not [f for f in files if qt.QImage(f).isNull()]


def test_rows_of_pictures_are_whole_and_headings_stay_with_what_follows(run, tmp_path):
    document = pdf._document(build.page(content.result_of(run), print_folder=tmp_path))
    layout, block, headings = document.documentLayout(), document.begin(), 0
    while block.isValid():
        box, following = layout.blockBoundingRect(block), block.next()
        assert not block.text().strip() or box.right() <= pdf.WIDTH + 1, block.text()
        if "\ufffc" in block.text() or block.blockFormat().headingLevel():
            assert int(box.top() // pdf.HEIGHT) == int((box.bottom() - 1) // pdf.HEIGHT), block.text()
        if block.blockFormat().headingLevel():
            headings += 1
            assert int(layout.blockBoundingRect(following).top() // pdf.HEIGHT) == int(box.top() // pdf.HEIGHT), (
                block.text()
            )
        block = following
    assert headings > 10


def test_a_long_table_goes_on_over_pages(tmp_path):
    rows = "".join(f"<tr><td>row {n}</td></tr>" for n in range(200))
    pdf.write(f"<h2>Heading</h2><table width='100%'>{rows}</table>", tmp_path / "a.pdf", "t", "head", "foot")
    assert pages((tmp_path / "a.pdf").read_bytes()) > 2


def test_the_dark_style_does_not_whiten_the_text(run, tmp_path):
    palette = qt.QPalette()
    for role in (qt.QPalette.Text, qt.QPalette.WindowText):
        palette.setColor(role, qt.QColor(255, 255, 255))
    application = qt.QApplication.instance()
    before = qt.QPalette(application.palette())
    application.setPalette(palette)
    try:
        pdf.write(build.page(content.result_of(run), print_folder=tmp_path), tmp_path / "dark.pdf", "t", "head", "foot")
    finally:
        application.setPalette(before)
    text = b"\n".join(
        s for s in streams((tmp_path / "dark.pdf").read_bytes()) if b" Tj" in s or b"] TJ" in s or b" Tf" in s
    )
    assert text and not re.search(rb"\b1 1 1 (rg|scn)\b[^\n]*\n(?:(?!\b(?:rg|scn)\b).)*?T[jJ]", text)


def test_a_propagation_becomes_a_pdf(scene, tmp_path):
    folder = make_review.add_review_files(make_propagation.make_propagation(tmp_path / "r"))
    run = run_scene.load_propagation(folder, scene)
    assert pages(export.export(run, tmp_path / "out", ("pdf",))[0].read_bytes()) >= 4


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(InputError, match="missing"):
        pdf.write("<p>x</p>", tmp_path / "missing" / "a.pdf", "t", "h", "f")

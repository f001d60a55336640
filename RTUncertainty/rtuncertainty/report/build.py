"""The report of a result: one HTML page that holds all it shows, and the same page in the form that is printed."""

from __future__ import annotations

import base64
from pathlib import Path

from ..core.errors import InputError
from . import data
from .context import LEVEL, context
from .details import dvh_chart
from .figures import Figure, hexadecimal, number

EACH_PAGE = "Not a medical device. Research use only, not for clinical decisions."
PRINTED_WIDTH = 5102
"""Width of a printed page's content in tenths of a point: A4 less 15 mm at either side."""
BOX_COLORS = {"serious": "#b3261e", "warning": "#c77700", "info": "#4a78a8", "good": "#3b7d4f"}


def write_report(result_folder, input_image=None, planning_structures=None) -> Path:
    """Writes `report.html` into a result folder of `predict` or `propagate`.

    Args:
        result_folder: the result.
        input_image: what was given to `predict`, or the daily CT, as a `SimpleITK.Image` or a path; None: the path in
            the summary is used if it is there and absolute, and otherwise the page does without pictures of the input
            and says so.
        planning_structures: paths of the structures that were propagated and of their planning CT. Only files' names
            are shown.

    Returns:
        The page's path.

    Raises:
        InputError: an incomplete or damaged folder, or jinja2 is missing.
    """
    path = Path(result_folder) / "report.html"
    path.write_text(page(data.load(result_folder, input_image, planning_structures)), encoding="utf-8")
    return path


def page(content: data.ReportData, level: float = LEVEL, print_folder: Path | None = None) -> str:
    """The page of a result.

    Args:
        content: the result.
        level: of the intervals, 0 to 1.
        print_folder: see `render`.

    Returns:
        HTML.
    """
    return render(context(content, level), print_folder)


def render(values: dict, print_folder: Path | None = None) -> str:
    """The values of `context.context` as a page.

    Args:
        values: what the page shows.
        print_folder: for Qt's text document instead of a browser: pictures and charts then lie in this folder as files.

    Returns:
        HTML.
    """
    return (
        _environment(print_folder)
        .get_template("template.html.j2")
        .render(values, printed=print_folder is not None, picture_width=PRINTED_WIDTH // 3 - 40, colors_of=BOX_COLORS)
        .lstrip()
    )


def dvh_drawing(curves: list[dict]) -> str:
    """Dose-volume histograms as a drawing.

    Args:
        curves: see `data.dvh_curves`.

    Returns:
        A piece of HTML.
    """
    return drawing(dvh_chart(curves))


def drawing(content: dict | None) -> str:
    """A chart of `figures.chart` as a piece of HTML."""
    return str(_environment(None).get_template("macros.html.j2").module.chart(content))


def _environment(print_folder: Path | None):
    """The templates, with the filters that write pictures into the page, or into files where it is printed."""
    try:
        import jinja2
        from markupsafe import Markup
    except ImportError:
        raise InputError(
            "A report needs the Python package jinja2: install it (in Slicer: slicer.util.pip_install('jinja2')), "
            "then try again."
        ) from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )

    def file(folder: Path, content: bytes, suffix: str) -> str:
        path = folder / f"{len(list(folder.iterdir()))}{suffix}"
        path.write_bytes(content)
        return path.absolute().as_uri()

    def source(figure: Figure) -> str:
        if print_folder is not None:
            return file(print_folder, figure.png, ".png")
        return "data:image/png;base64," + base64.b64encode(figure.png).decode("ascii")

    def drawn(svg: str, width: int):
        if print_folder is None:
            return Markup(svg)
        alone = str(svg).strip().replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        return Markup('<img src="{}" width="{}">').format(file(print_folder, alone.encode(), ".svg"), width)

    environment.filters |= {"source": source, "drawing": drawn, "color": hexadecimal, "number": number}
    return environment

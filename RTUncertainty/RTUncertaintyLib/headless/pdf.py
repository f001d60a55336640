"""A page as PDF without the application: `python -m RTUncertaintyLib.headless.pdf PAGE.html FILE.pdf TITLE FOOTER`.

It is printed as RT Review prints its report, by Qt's text document, with Qt from PySide6 where Slicer's is not there.
"""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

from rtuncertainty.core.errors import RTUncertaintyError

from ..review.report import pdf


def provide_qt() -> None:
    """Makes `qt` of PySide6 where there is none."""
    try:
        import qt  # noqa: F401

        return
    except ImportError:
        pass
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from PySide6 import QtCore, QtGui

    made = types.ModuleType("qt")
    for source in (QtCore, QtGui):
        for name in (n for n in dir(source) if n.startswith("Q")):
            setattr(made, name, getattr(source, name))
    sys.modules["qt"] = made
    made.application = QtGui.QGuiApplication.instance() or QtGui.QGuiApplication([])


def main(arguments: list[str]) -> int:
    """Prints a page; one line on standard error where that fails."""
    html, file, title, footer = arguments
    try:
        provide_qt()
        pdf.write(Path(html).read_text(encoding="utf-8"), Path(file), title, title, footer)
    except (RTUncertaintyError, ImportError, OSError) as error:
        print(f"{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Hearing of every change of a path in a panel."""

from __future__ import annotations

from typing import Callable


def on_path(edit, changed: Callable[[], None]) -> None:
    """Call `changed()` when the path of a ctkPathLineEdit was changed or taken out.

    Without name filters the widget takes a path of one letter and more for valid, and tells `currentPathChanged` of valid ones only:
    of a field that was emptied it tells nothing but `validInputChanged`.
    """
    edit.connect("currentPathChanged(QString)", changed)
    edit.connect("validInputChanged(bool)", changed)

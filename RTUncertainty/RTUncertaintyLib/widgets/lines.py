"""Single lines of a panel: a message in a colour that says how much it matters, a path that the user gives."""

from __future__ import annotations

from collections.abc import Callable

# Text and background are both set: the line reads well in the light and in the dark style.
_STYLES = {
    "plain": "",
    "good": "background: #d8eedd; color: #14401f; padding: 4px; border-radius: 3px",
    "warning": "background: #fdf0c8; color: #5c4500; padding: 4px; border-radius: 3px",
    "error": "background: #f8d9d9; color: #6b1414; padding: 4px; border-radius: 3px",
}


def show_message(label, text: str, kind: str = "plain") -> None:
    """Put `text` into a QLabel; `kind` is "plain", "good", "warning" or "error". Without text the line goes away."""
    label.text = text
    label.styleSheet = _STYLES[kind]
    label.visible = bool(text)


def duration(seconds: float) -> str:
    """A time left in words: "40 s", "3 min"."""
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60)} min"


def on_path(edit, changed: Callable[[], None]) -> None:
    """Call `changed()` when the path of a ctkPathLineEdit was changed or taken out.

    Without name filters the widget takes a path of one letter and more for valid, and tells `currentPathChanged` of
    valid ones only: of a field that was emptied it tells nothing but `validInputChanged`.
    """
    edit.connect("currentPathChanged(QString)", changed)
    edit.connect("validInputChanged(bool)", changed)

"""What a run of the Python console does to the application while it is waited for: events are processed, its progress
stands in the status bar.
"""

from __future__ import annotations

from collections.abc import Callable

import slicer
import slicer.util

from .lines import duration
from .text import _


def idle() -> Callable[[], None] | None:
    """What keeps the application alive; None without one."""
    application = getattr(slicer, "app", None)
    return application.processEvents if application is not None else None


def progress(name: str) -> Callable[[dict], None]:
    """Where the events of the backend go when the caller takes none: into the status bar, if there is one."""

    def show(event: dict) -> None:
        if event.get("event") != "progress" or getattr(slicer, "app", None) is None:
            return
        text = _("{name}: {message}").format(name=name, message=event.get("message") or event.get("stage") or "")
        if isinstance(event.get("overall"), (int, float)):
            text += f" ({event['overall']:.0%})"
        if isinstance(event.get("seconds_left"), (int, float)):
            text += _(", about {time} left").format(time=duration(event["seconds_left"]))
        slicer.util.showStatusMessage(text, 5000)

    return show

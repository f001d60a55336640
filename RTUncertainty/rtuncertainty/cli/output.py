"""What the command line prints. A run of hours is not lost because nobody reads any more, or because a terminal knows
no umlauts.
"""

from __future__ import annotations

import contextlib
import os
import sys

from ..core.events import as_json


def prepare() -> None:
    """Letters that a stream's encoding has not are escaped from now on, instead of ending the run."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # no stream at all, or one of somebody else's making
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def say(text: str, error: bool = False, end: str = "\n") -> bool:
    """Print on standard output, or standard error; False where nobody reads there any more, and nothing comes of it."""
    stream = sys.stderr if error else sys.stdout
    try:
        print(text, file=stream, end=end, flush=True)
        return stream is not None
    except (OSError, ValueError):
        # else Python would try again at its end, and fail
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        return False


def say_event(event: dict) -> bool:
    """An event as a JSON line on standard output, in letters that it has."""
    encoding = str(getattr(sys.stdout, "encoding", None) or "ascii").lower().replace("-", "")
    return say(as_json(event, ascii_only=encoding != "utf8"))

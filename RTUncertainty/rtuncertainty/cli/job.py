"""What the commands that run a job share: options, progress, the end of it."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from ..core.errors import Cancelled
from ..core.events import CancelToken, Progress
from .output import say, say_event


def add_events(p) -> None:
    """Add to a command's parser how it says where it stands, and what went wrong."""
    p.add_argument(
        "--progress", choices=["text", "json", "none"], default="text", help="json: one event a line on standard output"
    )
    add_debug(p)


def add_debug(p) -> None:
    """Add the option `--debug` to a command's parser."""
    p.add_argument("--debug", action="store_true", help="show the traceback of an error")


def add_result(p) -> None:
    """Add to a command's parser what may be written besides a result folder, and `add_events`."""
    p.add_argument("--scene", action="store_true", help="also write scene.mrb for 3D Slicer (needs slicer-core)")
    p.add_argument(
        "--report", action="store_true", help="also write report.html, one page with pictures, tables and charts"
    )
    add_events(p)


def progress(args, **more) -> Progress:
    """The progress of a command whose options are those of `add_result`.

    Args:
        args: parsed.
        more: of `Progress`, such as the shares of the stages.

    Returns:
        Cancelled by a signal.
    """
    extra = tuple(n for n in ("scene", "report") if getattr(args, n))
    return Progress(show(args.progress), cancel_on_signal(), extra, **more)


def show(kind: str):
    """A listener that prints events as JSON lines, or as text on standard error."""

    def text(event):
        if event["event"] == "note":
            say(f"\nnote: {event['message']}", error=True)
        elif event["event"] == "progress" and _at_a_terminal():
            left = event["seconds_left"]
            after = f", about {left:.0f} s left" if left is not None else ""
            say(f"\r{event['overall']:4.0%}  {event['message']}{after}".ljust(79), error=True, end="")

    def lines(event):
        # whoever listened to events may be gone while the terminal is there; where both are, so is who started the run
        if not say_event(event) and not say("note: nobody reads the events any more; the run goes on.", error=True):
            raise Cancelled("Left alone by who started it; nothing was written.")

    return {"json": lines, "text": text, "none": None}[kind]


def _at_a_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # no standard error, or a closed one
        return False


def cancel_on_signal() -> CancelToken:
    """SIGINT, SIGTERM and SIGHUP cancel; a second one ends the program at once. Under nohup, SIGHUP does nothing."""
    token = CancelToken()

    def stop(number, frame):
        signal.signal(number, signal.SIG_DFL)
        token.cancel()

    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    for number in (signal.SIGINT, signal.SIGTERM, hangup):
        if number is not None and not (number == hangup and signal.getsignal(number) == signal.SIG_IGN):
            signal.signal(number, stop)
    return token


def done(folder: Path, args) -> None:
    """Say where the results are."""
    if args.progress == "json":
        say_event({"event": "done", "output": str(folder)})
    else:
        if _at_a_terminal():
            say("", error=True)
        say(str(folder))

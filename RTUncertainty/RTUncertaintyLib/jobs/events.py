"""What the backend says: its JSON lines, and its exit codes in words."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass, field

from ..widgets.text import _

LONGEST_LINE = 1 << 20
"""Bytes without a line break after which the output cannot be JSON lines and is given up as text."""


@dataclass
class EventStream:
    """Cuts a byte stream into events. Lines may arrive in pieces, in the middle of a character too.

    What is not an event ends up in `stray`, one text a line, for the log.
    """

    stray: list[str] = field(default_factory=list)
    _rest: bytes = b""

    def feed(self, data: bytes) -> list[dict]:
        """Events completed by `data`, oldest first."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            lines, self._rest = [*lines, self._rest[:200]], b""
        return [event for event in map(self._parse, lines) if event is not None]

    def close(self) -> list[dict]:
        """The events of a last line without a line break."""
        return self.feed(b"\n") if self._rest else []

    def _parse(self, line: bytes) -> dict | None:
        text = line.decode("utf-8", errors="replace").strip()
        if not text:
            return None
        try:
            event = json.loads(text)
        except ValueError:
            event = None
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            return event
        self.stray.append(text)
        return None


@dataclass
class Exit:
    """How the process ended: its exit code, or the signal that ended it, and what it said before."""

    code: int | None = None
    signal_number: int | None = None
    not_started: str = ""
    error: str = ""
    errors_tail: str = ""
    output: str = ""
    """Where a result is all the same, though an extra of the run (scene, report) failed."""

    def __post_init__(self):
        # A launcher and a shell report a signal as 128 + n, subprocess as -n.
        if self.code is not None and self.code < 0:
            self.code, self.signal_number = None, -self.code
        elif self.code is not None and 128 < self.code < 160:
            self.code, self.signal_number = None, self.code - 128

    @property
    def said(self) -> str:
        """The backend's own sentence: its error event, or else the last line on standard error."""
        lines = [line.strip() for line in self.errors_tail.splitlines() if line.strip()]
        return self.error or (lines[-1] if lines else "")


def explain(end: Exit) -> str:
    """One message, in words, for a run that did not succeed: what happened and what to do."""
    if end.not_started:
        return _("The model could not be started: {reason}").format(reason=end.not_started)
    if end.signal_number is not None:
        return _explain_signal(end.signal_number)
    if end.code == 0:
        return _("The run ended without results. Open the log below for what it said.")
    if end.code == 2:
        return end.said or _("The backend refused the input. Open the log below for what it said.")
    if end.code == 3:
        advice = _("Choose the CPU as device, close other programs, or crop the volume.")
        return _("Out of memory. {said} {advice}").format(said=end.said, advice=advice).replace("  ", " ")
    if end.code == 4:
        return _("The run was cancelled by the system; nothing was added to the scene.")
    said = end.said or _("it said nothing")
    return _("The run failed (exit code {code}): {said}").format(code=end.code, said=said)


def _explain_signal(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = str(number)
    if name == "SIGKILL":
        return _(
            "The run was killed by the system (SIGKILL), most often because memory ran out. "
            "Close other programs, choose fewer samples or crop the volume."
        )
    if name in ("SIGTERM", "SIGINT", "SIGHUP"):
        return _("The run was ended from outside ({name}); nothing was added to the scene.").format(name=name)
    return _("The run crashed ({name}); the scene is unchanged. Try the CPU as device; the log is below.").format(
        name=name
    )

"""One run of the backend in progress: the process, its files, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..widgets.text import _
from .command import BackendCommand
from .events import Exit, explain
from .process import ProcessRunner
from .workspace import RunWorkspace


@dataclass(frozen=True)
class Outcome:
    """`state` is "done", "failed" or "cancelled"; `message` tells it in one line; `folder` holds the results. A run
    that is done has a message where an extra failed.
    """

    state: str
    message: str
    folder: Path | None = None


class RunListener(Protocol):
    """Who is told about a run. All calls come on the main thread."""

    def progressed(self, event: dict) -> None:
        """A progress event of the backend."""

    def noted(self, message: str) -> None:
        """Something that the user should know."""

    def logged(self, line: str) -> None:
        """A line for the log."""

    def ended(self, run: BackendRun, outcome: Outcome) -> None:
        """The run is over; called exactly once."""


def outcome_of(end: Exit, output: Path, cancelled: bool, proof: str = "summary.json") -> Outcome:
    """What an exit means. Results count only when the backend ended well, or says that they are whole all the same, and
    the file that proves it is there.
    """
    if cancelled:
        return Outcome("cancelled", _("Cancelled. Nothing was added to the scene."))
    if end.code == 0 and (output / proof).exists():
        return Outcome("done", "", output)
    if end.output and (output / proof).exists():
        return Outcome("done", end.said, output)
    return Outcome("failed", explain(end))


class BackendRun:
    """A run in a process of its own. `workspace` is emptied unless the run is done; `proof` is the file that a run
    leaves when it is.
    """

    def __init__(
        self, command: BackendCommand, workspace: RunWorkspace, listener: RunListener, proof: str = "summary.json"
    ):
        self.workspace, self._listener, self._cancelled, self._proof = workspace, listener, False, proof
        self._runner = ProcessRunner(command, self._event, listener.logged, self._end)

    @property
    def running(self) -> bool:
        return self._runner.running

    def start(self) -> None:
        self._runner.start(self.workspace.arguments)

    def cancel(self) -> None:
        """Ask the run to end; `ended` follows within seconds."""
        self._cancelled = True
        self._runner.cancel()

    def abort(self) -> None:
        """End the run now; `ended` is called before this returns."""
        self._cancelled = True
        self._runner.abort()

    def _event(self, event: dict) -> None:
        if event["event"] == "progress":
            self._listener.progressed(event)
        elif event["event"] == "note":
            self._listener.noted(str(event.get("message", "")))

    def _end(self, end: Exit) -> None:
        outcome = outcome_of(end, self.workspace.output, self._cancelled, self._proof)
        if outcome.state == "done":
            self.workspace.discard_inputs()
        else:
            self.workspace.discard()
        self._listener.ended(self, outcome)

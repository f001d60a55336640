"""A job of a panel or of one section of it: one button that starts it, one that cancels it, a bar and a line."""

from __future__ import annotations

from collections.abc import Callable

from rtuncertainty.core.errors import RTUncertaintyError

from ..mrml.volume_export import UnusableVolume
from ..widgets.lines import duration, show_message
from ..widgets.text import _
from .backend_run import BackendRun, Outcome


class SectionJob:
    """Listens to a `BackendRun`. `finish(run, outcome)` is called when it is done and returns (message, kind);
    `changed()` whenever a job begins or ends. What the backend prints is not kept: it may speak of a patient's
    files."""

    def __init__(self, bar, label, cancel_button, finish: Callable, changed: Callable[[], None]):
        self._bar, self._label, self._cancel_button, self._finish, self._changed = (
            bar,
            label,
            cancel_button,
            finish,
            changed,
        )
        self._run: BackendRun | None = None
        self.notes: list[str] = []
        cancel_button.connect("clicked()", self.cancel)
        self._show_running()

    @property
    def running(self) -> bool:
        return self._run is not None

    def tell(self, text: str, kind: str = "plain") -> None:
        """The section's line."""
        show_message(self._label, text, kind)

    def begin(self, start: Callable[[SectionJob], BackendRun]) -> None:
        """Start what `start(listener)` returns; what it raises for the user becomes the line."""
        if self.running:
            return
        self.notes = []
        try:
            self._run = start(self)
        except (UnusableVolume, RTUncertaintyError, RuntimeError, OSError) as error:
            self.tell(str(error), "error")
            return
        if not self._run.running:
            self._run = None  # it failed to start, and `ended` has told why
        else:
            self._bar.value = 0
            self.tell(_("Starting…"))
        self._refresh()

    def cancel(self) -> None:
        """Ask the job to end."""
        if self._run is not None:
            self.tell(_("Cancelling…"))
            self._cancel_button.enabled = False
            self._run.cancel()

    def abort(self) -> None:
        """End the job at once and without a word: the scene, the run or the panel goes away."""
        run, self._run = self._run, None
        if run is not None:
            run.abort()
            self.tell("")
            self._refresh()

    def _refresh(self) -> None:
        self._show_running()
        self._changed()

    def _show_running(self) -> None:
        self._bar.visible = self._cancel_button.visible = self._cancel_button.enabled = self.running

    # -- what the run tells

    def progressed(self, event: dict) -> None:
        if self._run is None:
            return
        overall, left = event.get("overall"), event.get("seconds_left")
        if isinstance(overall, (int, float)):
            self._bar.value = int(1000 * min(max(overall, 0), 1))
        words = self._words(event)
        self.tell(
            _("{stage}, about {time} left").format(stage=words, time=duration(left))
            if isinstance(left, (int, float))
            else words
        )

    def _words(self, event: dict) -> str:
        """What a progress event says."""
        return event.get("message") or ""

    def noted(self, message: str) -> None:
        self.notes.append(message)

    def logged(self, line: str) -> None:
        pass

    def ended(self, run: BackendRun, outcome: Outcome) -> None:
        if self._run is None and outcome.state == "cancelled":
            return  # aborted: nobody is waiting
        self._run = None
        message, kind = outcome.message, {"failed": "error"}.get(outcome.state, "plain")
        if outcome.state == "done":
            try:
                message, kind = self._finish(run, outcome)
            except (UnusableVolume, RTUncertaintyError, OSError, RuntimeError, ValueError) as error:
                message, kind = str(error), "error"
        self.tell(message, kind)
        self._refresh()

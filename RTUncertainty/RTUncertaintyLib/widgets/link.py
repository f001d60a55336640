"""From the panel that made a run to the one that reviews it."""

from __future__ import annotations

import slicer
import slicer.util

from .lines import show_message
from .text import _


class ReviewLink:
    """The button "Review in RT Review" of a results section; `run()` gives the nodes of the run on show, or None."""

    def __init__(self, ui, run):
        self._ui, self._run = ui, run
        ui.reviewButton.connect("clicked()", self._open)

    def update(self) -> None:
        """Follow the run on show."""
        there = self._run() is not None
        self._ui.reviewButton.enabled = there
        self._ui.reviewButton.toolTip = (
            _("Structures worst first, DVHs with bands, decisions, a report, and the way out as DICOM.")
            if there
            else _("There are no results yet.")
        )

    def _open(self) -> None:
        message = open_review(self._run())
        if message:
            show_message(self._ui.statusLabel, message, "error")


def open_review(run) -> str:
    """Switch to RT Review with a run on show; returns what speaks against it, empty when it is open."""
    if getattr(slicer.modules, "rtreview", None) is None:
        return _(
            "RT Review is not there: add the folder RTReview under Edit, Application settings, Modules, and start "
            "Slicer again."
        )
    try:
        slicer.util.selectModule("RTReview")
    except RuntimeError as error:  # no main window
        return _("RT Review cannot be opened: {error}").format(error=error)
    slicer.util.getModuleWidget("RTReview").panel.show_run(run.run_id)
    return ""

"""The reviewer's decisions in the RTReview panel: accept, edit, reject or open again, a comment, counts, undo."""

from __future__ import annotations

from collections.abc import Callable

from ..runs.review_data import ReviewData, Structure
from ..widgets.lines import show_message
from ..widgets.text import _
from . import editor

COUNT_WORDS = {"accepted": _("accepted"), "edited": _("edited"), "rejected": _("rejected"), "open": _("open")}


class ReviewList:
    """Wires the buttons below the table. `builder()` gives the scene functions, `changed()` is called after a decision,
    `reviewer()` gives the name to sign with, `tell(text, kind)` writes the panel's status line."""

    def __init__(self, ui, builder: Callable, changed: Callable[[], None], reviewer: Callable[[], str], tell: Callable):
        self._ui, self._builder, self._changed, self._reviewer, self._tell = ui, builder, changed, reviewer, tell
        self._nodes, self._data, self._structure = None, None, None
        ui.acceptButton.connect("clicked()", self._accept)
        ui.editButton.connect("clicked()", self._edit)
        ui.rejectButton.connect("clicked()", self._reject)
        ui.reopenButton.connect("clicked()", self._reopen)
        ui.undoButton.connect("clicked()", self._undo)
        ui.commentEdit.connect("editingFinished()", self._commented)
        self.show(None, None, None)

    def show(self, nodes, data: ReviewData | None, structure: Structure | None) -> None:
        """Follow a run and the structure that is chosen in it, or none."""
        ui = self._ui
        same = (
            self._nodes is nodes
            and structure is not None
            and self._structure is not None
            and structure.name == self._structure.name
        )
        if not same:
            self._commented()  # what was typed belongs to the structure before
        self._nodes, self._data, self._structure = nodes, data, structure
        state = structure.decision.state if structure is not None else ""
        for button, decision, words in (
            (ui.acceptButton, "accepted", _("The contour is good as it is.")),
            (
                ui.editButton,
                "edited",
                _(
                    "Open the Segment Editor on this structure; it counts as edited when it was changed there. "
                    "Volumes stay those before."
                ),
            ),
            (ui.rejectButton, "rejected", _("The contour is not to be used.")),
            (ui.reopenButton, "open", _("Take it up again: nothing is decided.")),
        ):
            button.enabled = structure is not None and (state != decision or decision == "edited")
            button.toolTip = words if structure is not None else _("Choose a structure in the table.")
        ui.commentEdit.enabled = structure is not None
        comment = structure.decision.comment if structure is not None else ""
        if ui.commentEdit.text != comment:
            ui.commentEdit.text = comment
        count = self._builder().decided(nodes) if nodes is not None else 0
        ui.undoButton.enabled = count > 0
        ui.undoButton.toolTip = (
            _("Take the last of {count} decisions back.").format(count=count)
            if count
            else _("Nothing was decided yet.")
        )
        show_message(
            ui.countsLabel,
            counts_text(data) if data is not None and data.structures else "",
            "good" if data is not None and data.structures and not data.counts()["open"] else "plain",
        )

    def _decide(self, state: str) -> None:
        if self._nodes is None or self._structure is None or not self._nodes.exists():
            return
        self._builder().decide(self._nodes, self._structure.name, state, self._ui.commentEdit.text, self._reviewer())
        self._changed()

    def _accept(self) -> None:
        self._decide("accepted")

    def _reject(self) -> None:
        self._decide("rejected")

    def _reopen(self) -> None:
        self._decide("open")

    def _edit(self) -> None:
        if self._nodes is None or self._structure is None or not self._nodes.exists():
            return
        problem = editor.edit(self._nodes, self._structure.name, self._ui.commentEdit.text, self._reviewer())
        if problem:
            self._tell(problem, "warning")

    def _commented(self) -> None:
        """A comment is kept with the decision that there is."""
        structure, text = self._structure, self._ui.commentEdit.text.strip()
        if structure is None or self._nodes is None or not self._nodes.exists() or text == structure.decision.comment:
            return
        self._structure = None  # leaving the field by a click on another row comes here twice
        self._builder().decide(self._nodes, structure.name, structure.decision.state, text, self._reviewer())
        self._changed()

    def _undo(self) -> None:
        if self._nodes is not None and self._nodes.exists():
            self._structure = None  # the comment in the field is not a new one
            name = self._builder().undo_decision(self._nodes)
            if name:
                self._tell(_("Taken back: the last decision on {name}.").format(name=name), "plain")
            self._changed()


def counts_text(data: ReviewData) -> str:
    """How many structures are in each state, in one line."""
    counts = data.counts()
    parts = [f"{counts[state]} {words}" for state, words in COUNT_WORDS.items() if counts[state]]
    return _("{total} structures: {parts}.").format(total=len(data.structures), parts=", ".join(parts))

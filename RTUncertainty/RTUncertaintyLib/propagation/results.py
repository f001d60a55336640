"""The Results section of the RTPropagation panel: structures, views, accepted contours, deformation, flags, removal."""

from __future__ import annotations

from rtuncertainty.results import Result

from ..runs.propagation.structure_rows import LIGHTS, structure_rows
from ..widgets import table_rows
from ..widgets.lines import show_message
from ..widgets.link import ReviewLink
from ..widgets.text import _
from ..widgets.view_controls import ViewControls
from .table import LIGHT_WORDS, PATH_WORDS, StructureTable
from .view import PropagationView


class PropagationResults:
    """Shows one run. `ui` holds the widgets, `builder()` gives the scene functions, `removed(nodes)` is called after
    the user removed the run."""

    def __init__(self, ui, builder, removed):
        self._ui, self._builder, self._removed = ui, builder, removed
        self._nodes, self._rows = None, []
        self._view = PropagationView(ui, builder)
        self._structures = StructureTable(ui.structuresTable, self._jump, self._refresh_accepted)
        ui.acceptButton.connect("clicked()", self._accept)
        ui.moveSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._refresh_moved)
        ui.moveButton.connect("clicked()", self._move)
        ui.undoMoveButton.connect("clicked()", self._undo_move)
        self._review = ReviewLink(ui, lambda: self._nodes)
        self._controls = ViewControls(ui, builder, lambda: self._nodes)
        ui.removeRunButton.connect("clicked()", self._remove)
        self.clear()

    @property
    def nodes(self):
        """The nodes of the run on show, or None."""
        return self._nodes

    def show(self, nodes, result: Result) -> None:
        """Show a run that is in the scene and in the views."""
        ui = self._ui
        rows = structure_rows(result, self._builder().accepted_paths(nodes))
        self._nodes, self._rows = nodes, sorted(rows, key=lambda row: LIGHTS.index(row.light))
        show_message(ui.resultNameLabel, result.name)
        show_message(ui.similarityLabel, similarity_text(result.summary))
        self._structures.fill(self._rows, result.level)
        table_rows.fill_flags(ui.flagsTable, result.table("flags"))
        self._view.show(nodes)
        self._refresh_buttons()
        ui.resultsCollapsibleButton.collapsed = False

    def show_again(self) -> None:
        """Put the map back that another module, such as the Segment Editor, took from the run's views."""
        if self._nodes is not None and self._nodes.exists():
            if self._builder().in_views(self._nodes):
                self._view.show_again()
            self._controls.update()

    def clear(self) -> None:
        """Show that there are no results; touches no node."""
        self._nodes, self._rows = None, []
        show_message(self._ui.resultNameLabel, _("No results yet."))
        show_message(self._ui.similarityLabel, "")
        self._structures.fill([])
        table_rows.fill(self._ui.flagsTable, [])
        self._view.clear()
        self._refresh_buttons()

    def forget_if_gone(self) -> None:
        """Keep in step when the user deleted the run, or a part of it, in the Data module."""
        if self._nodes is None:
            return
        if not self._nodes.exists():
            self.clear()
        else:
            self._view.drop_gone()
            self._refresh_accepted()

    def _refresh_buttons(self) -> None:
        ui, there = self._ui, self._nodes is not None
        self._review.update()
        self._controls.update()
        none = _("There are no results yet.")
        ui.removeRunButton.enabled = ui.acceptButton.enabled = there
        ui.removeRunButton.toolTip = _("Remove everything that this run added to the scene.") if there else none
        ui.acceptButton.toolTip = (
            _(
                "Put the contours of the chosen paths into one segmentation. Pressed again, only structures whose path "
                "changed are "
                "replaced: what you corrected by hand stays."
            )
            if there
            else none
        )
        self._refresh_accepted()
        self._refresh_moved()

    # -- structures

    def _jump(self, name: str) -> None:
        if self._nodes is not None:
            self._builder().jump_to_structure(self._nodes, name)

    def _accept(self) -> None:
        if self._nodes is None:
            return
        try:
            self._builder().accept_structures(self._nodes, self._structures.paths())
        except ValueError as error:  # a contour was deleted or renamed by hand
            show_message(self._ui.acceptedLabel, str(error), "error")
            return
        for key in self._builder().contour_sets(self._nodes):
            self._builder().show_contours(self._nodes, key, key == "accepted")
        self._view.refresh_contours()
        self._refresh_accepted()

    def _refresh_accepted(self) -> None:
        """The line below Accept: what was accepted, and whether the choice has changed since."""
        label = self._ui.acceptedLabel
        accepted = self._builder().accepted_paths(self._nodes) if self._nodes is not None else {}
        if not accepted:
            show_message(label, "")
            return
        chosen = self._structures.paths()
        changed = [name for name, path in chosen.items() if accepted.get(name) != path]
        if changed:
            show_message(
                label,
                _("Not accepted yet: {names}. Press the button above to bring the segmentation up to date.").format(
                    names=", ".join(changed)
                ),
                "warning",
            )
            return
        counts = {path: sum(p == path for p in accepted.values()) for path in PATH_WORDS}
        text = _("Accepted {count} structures: {parts}.").format(
            count=len(accepted), parts=", ".join(f"{n} {PATH_WORDS[path]}" for path, n in counts.items() if n)
        )
        red = [row.name for row in self._rows if row.light == "red"]
        if red:
            text += " " + _("Look once more at what is {red}: {names}.").format(
                red=LIGHT_WORDS["red"], names=", ".join(red)
            )
        show_message(label, text, "warning" if red else "good")

    # -- deformation

    def _refresh_moved(self) -> None:
        ui, nodes = self._ui, self._nodes
        node = ui.moveSelector.currentNode() if nodes is not None else None
        ui.moveSelector.enabled = nodes is not None
        moved = self._builder().deformed_nodes(nodes) if nodes is not None else []
        reason = (
            self._builder().reason_not_to_move(nodes, node)
            if node is not None
            else (
                _("Choose what shall move, such as the planning dose.")
                if nodes is not None
                else _("There are no results yet.")
            )
        )
        ui.undoMoveButton.enabled = node is not None and node in moved
        ui.undoMoveButton.toolTip = (
            _("Put it back onto the planning CT.")
            if ui.undoMoveButton.enabled
            else _("It does not lie under the deformation.")
        )
        ui.moveButton.enabled = not reason and node not in moved
        ui.moveButton.toolTip = reason or (
            _("It lies under the deformation already.")
            if node in moved
            else _("Put it under the deformation: it moves onto the daily CT. Nothing in it is changed.")
        )
        if node is not None and reason:
            show_message(ui.movedLabel, reason, "warning")
        else:
            names = ", ".join(n.GetName() for n in moved)
            show_message(ui.movedLabel, _("On the daily CT now: {names}.").format(names=names) if moved else "")

    def _move(self) -> None:
        node = self._ui.moveSelector.currentNode()
        if not self._builder().reason_not_to_move(
            self._nodes, node
        ):  # it may have been put under a transform meanwhile
            self._builder().apply_deformation(self._nodes, node)
        self._refresh_moved()

    def _undo_move(self) -> None:
        self._builder().undo_deformation(self._nodes, self._ui.moveSelector.currentNode())
        self._refresh_moved()

    def _remove(self) -> None:
        nodes = self._nodes
        self._builder().remove_run(nodes)
        self.clear()
        self._removed(nodes)


def similarity_text(summary: dict) -> str:
    """How alike the two scans are before and after, and whether the deformation folds, in one line, from a result's
    summary.
    """
    similarity, folding = summary.get("similarity") or {}, summary.get("folding")
    words = (
        ("before", _("{value:.2f} as they lay")),
        ("rigid", _("{value:.2f} after rigid alignment")),
        ("after", _("{value:.2f} after deformation")),
    )
    parts = [text.format(value=similarity[key]) for key, text in words if isinstance(similarity.get(key), (int, float))]
    lines = [_("Likeness of the scans (correlation): {parts}.").format(parts=", ".join(parts))] if parts else []
    if folding is not None:
        lines.append(
            _("The deformation folds in {share:.2%} of the body.").format(share=folding)
            if folding > 0
            else _("The deformation does not fold.")
        )
    return " ".join(lines)

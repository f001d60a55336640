"""The RTReview panel: which run is on show, and what its sections share."""

from __future__ import annotations

from fractions import Fraction
from html import escape

import slicer
import slicer.util

from rtuncertainty.core.errors import RTUncertaintyError

from ..runs.review_data import ReviewData
from ..widgets import card_text, table_rows
from ..widgets.lines import show_message
from ..widgets.text import _
from ..widgets.view_controls import ViewControls
from . import triage
from .decision_list import ReviewList
from .dicom.section import ReviewDicom
from .dose.section import ReviewDvh
from .inputs import ReviewInputs
from .logic import ReviewLogic, first_overlay
from .overlays import ReviewOverlays
from .plots_and_report import ReviewOutput
from .table import ReviewTable, note_text, quality_text

EMPTY = _(
    "No result yet: run RT Prediction or RT Propagation, open a result folder, or review a segmentation of your own."
)

INTERVALS = (
    "https://github.com/RTUncertainty/SlicerRTUncertainty/blob/main/Resources/Documentation/explain/uncertainty.md"
)
"""The page that says what an interval is and how it was checked."""

CHOOSE = _("Choose a result above, or open a result folder.")


class ReviewPanel:
    """Wires the widgets of the .ui file to a `ReviewLogic`. `parameters` is the wrapped parameter node, or None while
    the module is not open."""

    def __init__(self, ui, logic: ReviewLogic):
        self.ui, self.logic, self.parameters = ui, logic, None
        self.nodes = None
        self.data: ReviewData | None = None
        self._drawn: tuple = ()
        self._loading = False
        self._overlays = ReviewOverlays(ui, self._builder, self._overlay_changed)
        self._table = ReviewTable(ui.structuresTable, self._choose)
        self._list = ReviewList(ui, self._builder, self._decided, self._reviewer, self.tell)
        self._output = ReviewOutput(ui, self._level, lambda: self._overlays.key)
        self.dvh = ReviewDvh(ui, logic)
        self.dicom = ReviewDicom(ui, logic)
        self._inputs = ReviewInputs(ui, logic, self.review_segmentation)
        self._views = ViewControls(ui, self._builder, lambda: self.nodes)
        ui.runComboBox.connect("currentIndexChanged(int)", self._run_chosen)
        ui.openButton.connect("clicked()", self._open)
        ui.removeRunButton.connect("clicked()", self._remove)
        ui.nextPlaceButton.connect("clicked()", self.next_place)
        ui.intervalLabel.openExternalLinks = True
        self.show(None)

    @property
    def results(self) -> ReviewPanel:
        """What `JobWidget` tells about nodes that are gone."""
        return self

    def _builder(self):
        return self.logic.scene_builder

    def _level(self) -> float:
        return self.parameters.level.value if self.parameters is not None else 0.9

    def _reviewer(self) -> str:
        return self.parameters.reviewer if self.parameters is not None else ""

    def tell(self, text: str, kind: str = "plain") -> None:
        """The status line."""
        show_message(self.ui.statusLabel, text, kind)

    # -- which run

    def set_parameters(self, parameters) -> None:
        """Follow another parameter node (wrapped), or None."""
        self.parameters = parameters
        if parameters is not None:
            self.reload_runs()
        elif self.nodes is not None and self.nodes.exists():
            self._builder().highlight(self.nodes, None)  # other modules show all structures alike

    def suggest_inputs(self) -> None:
        """Show the run that was on show, else the last one that was loaded."""
        runs = list(self.logic.runs())
        if self.nodes is not None and self.nodes.exists() and self.nodes.run_id == self.parameters.run:
            self._settle_edits()
            self.refresh_data()  # decisions and tables may have changed meanwhile
            if self._builder().in_views(self.nodes):
                self._overlays.show(self.nodes)  # another module may have taken the map from the views
        elif runs:
            self.show(self.logic.run(self.parameters.run if self.parameters.run in runs else runs[-1]))
        else:
            self.show(None)
        self._inputs.refresh()
        self.dvh.suggest_dose()

    def show_run(self, run_id: str) -> None:
        """Show the run with this identifier, which is in the scene."""
        self.show(self.logic.run(run_id))

    def keys(self) -> dict:
        """Keys while the module is open."""
        ui = self.ui
        return {
            "N": self.next_place,
            "A": lambda: ui.acceptButton.click(),
            "E": lambda: ui.editButton.click(),
            "X": lambda: ui.rejectButton.click(),
        }

    def node_arrived(self) -> None:
        """A volume or a segmentation was loaded: the section of the user's own data offers it."""
        self._inputs.refresh()
        self.dvh.suggest_dose()

    def run_arrived(self, nodes) -> None:
        """A run of another module or of the Python console is in the scene: offer it, and show it when there is none
        on show.
        """
        if self.parameters is None or nodes.scene is not slicer.mrmlScene:
            return
        if self.nodes is None and not self._loading:
            self.show(nodes)
        else:
            self.reload_runs()

    def restore_run(self) -> None:
        """Nothing more to do: `suggest_inputs` shows what the scene holds."""

    def reload_runs(self) -> None:
        """Offer the runs in the scene; the one on show stays chosen."""
        combo, runs = self.ui.runComboBox, self.logic.runs()
        combo.blockSignals(True)
        combo.clear()
        for run_id, name in runs.items():
            combo.addItem(name, run_id)
        if self.nodes is None or not runs:
            combo.insertItem(0, _("Choose a result") if runs else _("No result in the scene"), "")
        combo.setCurrentIndex(max(combo.findData(self.nodes.run_id), 0) if self.nodes is not None else 0)
        combo.enabled = bool(runs)
        combo.blockSignals(False)

    def show(self, nodes) -> None:
        """Show a run of the scene, or None."""
        if self.nodes is not None and nodes is not self.nodes and self.nodes.exists():
            self._builder().hide_nested(self.nodes)
            self._builder().highlight(self.nodes, None)
        other = nodes is not None and (self.nodes is None or self.nodes.run_id != nodes.run_id)
        self.nodes, self.data, self._drawn = nodes, None, ()
        self.tell("")
        if self.parameters is not None and nodes is not None and self.parameters.run != nodes.run_id:
            self.parameters.run, self.parameters.structure = nodes.run_id, ""
        if nodes is None:
            self._overlays.clear()
        else:
            if other:
                chosen = self._builder().chosen_overlay(nodes)
                self._builder().show_run(nodes, (first_overlay(nodes) if chosen is None else chosen) or None)
            self._overlays.show(nodes)
        self.reload_runs()
        self.refresh_data()

    def refresh_data(self) -> None:
        """Read the nodes of the run again."""
        nodes = self.nodes
        self.data = self.logic.data(nodes) if nodes is not None and nodes.exists() else None
        self._drawn = ()
        ui = self.ui
        show_message(
            ui.aboutLabel, about(self.data) if self.data is not None else CHOOSE if self.logic.runs() else EMPTY
        )
        table_rows.fill_flags(
            ui.flagsTable, [vars(f) for f in self.data.general_flags] if self.data is not None else []
        )
        ui.removeRunButton.enabled = self.data is not None
        ui.removeRunButton.toolTip = (
            _("Remove everything that this run added to the scene, the decisions included.")
            if self.data
            else _("There is no result on show.")
        )
        self._views.update()
        self._output.show(nodes if self.data is not None else None, self.data)
        for section in (self.dvh, self.dicom):
            section.show(nodes if self.data is not None else None)
        self.refresh()

    def refresh(self) -> None:
        """Bring table, contours and buttons in step with the parameters."""
        structure = self._structure()
        name = structure.name if structure is not None else ""
        drawn = (self.nodes, self.data, self._level(), name, self._nested())
        if drawn == self._drawn:
            return
        before, self._drawn = self._drawn, drawn
        if before[:4] != drawn[:4]:
            self._table.fill(self.data, self._level(), name)
            self._lead()
            show_message(self.ui.structureLabel, *self._structure_text(structure))
            self._list.show(self.nodes if self.data is not None else None, self.data, structure)
        if self.data is not None and self.parameters is not None:
            self._builder().highlight(self.nodes, name or None)
            self._draw_nested(name)

    def _lead(self) -> None:
        """What stands above the structures: the groups in one sentence, what an interval means, and the rule."""
        ui, data = self.ui, self.data
        there = data is not None and bool(data.structures)
        groups = triage.groups(data) if there else {}
        first = next((f for f in groups if groups[f]), "")
        show_message(
            ui.groupsLabel,
            f"<b>{escape(triage.sentence(data))}</b>" if there else "",
            "good" if first == triage.FINE else "plain",
        )
        show_message(ui.intervalLabel, interval_text(data, self._level()) if there else "")
        show_message(ui.ruleLabel, triage.rule_text(data) if there else "")
        ui.nextPlaceButton.enabled = there
        ui.nextPlaceButton.toolTip = (
            _(
                "Go to the next structure that is not decided, those to look at first. "
                "Keys: N next, A accept, E edit, X reject."
            )
            if there
            else _("There is no result on show.")
        )

    def next_place(self) -> str | None:
        """Choose the next structure that is not decided, those to look at first; returns its name, None when all
        are decided.
        """
        if self.data is None or self.parameters is None:
            return None
        groups = triage.groups(self.data)
        order = [s for group in triage.GROUPS for s in groups[group]]
        names = [s.name for s in order]
        at = names.index(self.parameters.structure) if self.parameters.structure in names else -1
        waiting = [s.name for s in (*order[at + 1 :], *order[: at + 1]) if s.decision.state == "open"]
        if not waiting:
            self.tell(_("All structures are decided."), "good")
            return None
        point = self._choose(waiting[0])
        if point is not None:
            self._builder().zoom_to(self.nodes, waiting[0], point)
        return waiting[0]

    def _nested(self) -> bool:
        return self.parameters.nested if self.parameters is not None else False

    def _structure(self):
        return (
            self.data.structure(self.parameters.structure)
            if self.data is not None and self.parameters is not None
            else None
        )

    def _structure_text(self, structure) -> tuple[str, str]:
        """What stands below the table, and how serious it is."""
        if self.data is None:
            return "", "plain"
        if not self.data.structures:
            return _("This result has no structures: look at the map of its uncertainty below."), "plain"
        if structure is None:
            return _("Click a structure to look at its least certain slice."), "plain"
        parts = [
            f"<b>{escape(structure.name)}</b>: "
            + (escape(" ".join(f.reason or f.flag for f in structure.flags)) or _("nothing was flagged."))
        ]
        parts += [text for text in (quality_text(structure),) if text]
        interval = structure.interval(self._level())
        if interval is None and self.data.job == "own":
            parts.append(_("No probability volume was given for it, so it has no interval."))
        elif interval is None:
            parts.append(
                _(
                    "There is no {level:.0%} interval: nothing was sampled, or the result was made by an older version."
                ).format(level=self._level())
            )
        elif interval.note:
            parts.append(escape(note_text(interval), quote=False))
        kind = {"serious": "error", "warning": "warning"}.get(structure.severity, "plain")
        return " ".join(parts), kind

    def _draw_nested(self, name: str) -> None:
        box, shown = self.ui.nestedCheckBox, False
        if name and self._nested():
            shown = self._builder().show_nested(self.nodes, name)
        else:
            self._builder().hide_nested(self.nodes)
        box.toolTip = _(
            "Outlines of the structure's distribution in all slice views: it is hardly smaller than the thin white one "
            "(5 %), and "
            "hardly larger than the light one (95 %); the thick one is the middle (50 %)."
        )
        if shown and not any(i.calibrated for i in self._structure().intervals.values()):
            box.toolTip += " " + _("Uncalibrated: it may be too narrow.")
        if name and self._nested() and not shown:
            box.toolTip = _("This result has neither samples nor probabilities of {name}.").format(name=name)

    # -- what the user does

    def _choose(self, name: str):
        """Look at a structure; returns the point (RAS, mm) that the views went to, None for none."""
        if self.nodes is None or not self.nodes.exists() or self.parameters is None:
            return None
        self.parameters.structure = name
        self.refresh()
        point = self._builder().review_structure(self.nodes, name)
        nowhere = _("{name} is nowhere in this image: there is no voxel of it to jump to.").format(name=name)
        self.tell(nowhere if point is None else "")
        return point

    def _overlay_changed(self) -> None:
        self._output.refresh()

    def _settle_edits(self) -> None:
        """Mark what was changed since it was handed to the Segment Editor as edited."""
        names = self._builder().settle_edits(self.nodes)
        if names:
            self.tell(
                _("Edited: {names}. Volumes and intervals stay those of the model.").format(names=", ".join(names))
            )

    def _decided(self) -> None:
        self.refresh_data()

    def _run_chosen(self) -> None:
        nodes = self.logic.run(self.ui.runComboBox.itemData(self.ui.runComboBox.currentIndex))
        if nodes is not None and nodes.exists():
            self.show(nodes)

    def _open(self) -> None:
        import qt

        folder = qt.QFileDialog.getExistingDirectory(None, _("Result folder"))
        if folder:
            self._start(lambda: self.logic.review(folder, show=False))

    def review_segmentation(self, segmentation, probabilities: dict) -> None:
        """Review the user's own segmentation with these probability volumes."""
        self._start(
            lambda: self.logic.review_segmentation(
                segmentation, probabilities, self.ui.ownImageSelector.currentNode(), show=False
            )
        )

    def _start(self, load) -> None:
        if self._loading:  # a double click: the cursor's change lets the second one in
            return
        self._loading = True
        try:
            with slicer.util.WaitCursor():
                nodes = load()
        except (RTUncertaintyError, OSError, RuntimeError, ValueError) as error:
            self.tell(str(error), "error")
            return
        finally:
            self._loading = False
        self.show(nodes)

    def _remove(self) -> None:
        nodes = self.nodes
        if nodes is not None:
            self._builder().remove_run(nodes)
        self._next_run()
        self.tell(_("The run was removed from the scene."))

    # -- what the application does

    def _next_run(self) -> None:
        """The run on show is gone: show another one that is there, or nothing."""
        runs = list(self.logic.runs())
        self.show(self.logic.run(runs[-1]) if runs else None)

    def forget_if_gone(self) -> None:
        """Keep in step when the user deleted a run, or a part of it, in the Data module."""
        if slicer.mrmlScene.IsClosing():
            return
        if self.nodes is not None and not self.nodes.exists():
            self.show(None)
            return
        self._overlays.drop_gone()
        runs = len(self.logic.runs())
        if self.ui.runComboBox.count != runs + (self.nodes is None or not runs):
            self.reload_runs()

    def scene_closed(self) -> None:
        """The nodes of all runs are gone."""
        self.nodes = None
        self.show(None)

    def abort(self) -> None:
        """The scene is about to close."""
        self.nodes = None
        for section in (self.dvh, self.dicom):
            section.job.abort()

    def close(self) -> None:
        """The panel goes away; what is in the scene stays."""
        self.parameters = None
        for section in (self.dvh, self.dicom):
            section.job.abort()


def interval_text(data: ReviewData, level: float) -> str:
    """What the intervals of the table mean, with what stands behind them; rich text. Empty where there are none."""
    found = [i for s in data.structures if (i := s.interval(level)) is not None and i.lower_ml is not None]
    cases = [i.cases for i in found if i.calibrated and i.cases]
    if not found:
        return ""
    share = Fraction(level).limit_denominator(100)
    text = _("Interval: in {n} of {of} patients the true volume lies in it").format(
        n=share.numerator, of=share.denominator
    )
    if cases:
        text += _("; checked on {cases} validation cases.").format(cases=min(cases))
    else:
        text = _("Interval: as the probabilities have it; it was never checked on patients.")
    return f'{escape(text)} <a href="{INTERVALS}">{_("What this means")}</a>'


def about(data: ReviewData) -> str:
    """The model and how far its intervals can be trusted, then the notes; rich text."""
    card, lines = data.card, []
    if card.get("title"):
        lines.append(f"<b>{escape(card_text.title(card))}</b>")
    if card.get("outputs"):
        words = card_text.calibration_words(card)
        lines.append(escape(words[:1].upper() + words[1:]) + ".")
    lines += [escape(note) for note in data.notes]
    return " ".join(lines)

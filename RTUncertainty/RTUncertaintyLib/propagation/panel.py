"""The RTPropagation panel: what it adds to `JobPanel`. Results are `PropagationResults`'."""

from __future__ import annotations

import re
from pathlib import Path

import slicer.util

from rtuncertainty.bundles import bundle
from rtuncertainty.results import Result

from ..jobs.backend_run import BackendRun, Outcome
from ..jobs.input_check import InputCheck, node_state
from ..jobs.panel import JobPanel
from ..runs.result_tables import result_of_run
from ..widgets.text import _
from .check import check_propagation
from .parameters import Refine
from .results import PropagationResults
from .workspace import PropagationRequest


class PropagationPanel(JobPanel):
    """Planning CT, structures and daily CT in; contours on the daily CT out."""

    stages = {
        "read": _("Reading"),
        "align": _("Aligning"),
        "search": _("Searching for the tissue"),
        "network": _("Sampling the network"),
        "refine": _("Refining the deformation"),
        "sample": _("Sampling the deformation"),
        "assemble": _("Putting together"),
        "write": _("Writing"),
    }
    selectors = ("planningSelector", "structuresSelector", "dailySelector")
    run_tip = _("Propagate the planning structures to the daily CT.")

    def __init__(self, ui, logic, torch=None):
        super().__init__(ui, logic, torch)
        # of the user alone: a parameter node or a model that sets the box emits no such signal
        ui.refineComboBox.connect("activated(int)", self._refinement_chosen)

    def _refinement_chosen(self, index: int) -> None:
        if self.parameters is not None:
            self.parameters.refineChosen = True

    def _model_chosen(self) -> None:
        """Another model may be refined in another way, unless the user has chosen one; a scene's own choice stays."""
        p, card = self.parameters, self.card
        before = re.split(r"[/\\]", p.model.rstrip("/\\"))[-1] if p is not None else ""
        super()._model_chosen()
        if p is None or card is None or before in (card["name"], Path(card["folder"]).name) or p.refineChosen:
            return
        p.refine = Refine(bundle.refinement(card))

    def make_results(self) -> PropagationResults:
        return PropagationResults(self.ui, lambda: self.logic.scene_builder, self.run_removed)

    def suggest_inputs(self) -> None:
        """The only segmentation there is, and the CT that it was drawn on; which scan is the daily one is the user's
        to say.
        """
        p = self.parameters
        if p is None:
            return
        if p.planningStructures is None and p.planningVolume is None:
            segmentations = [
                n for n in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if not n.GetHideFromEditors()
            ]
            if len(segmentations) == 1:
                p.planningStructures = segmentations[0]
                drawn_on = segmentations[0].GetNodeReference("referenceImageGeometryRef")
                if drawn_on is not None and drawn_on.GetClassName() == "vtkMRMLScalarVolumeNode":
                    p.planningVolume = drawn_on

    def inputs(self) -> tuple:
        p = self.parameters
        return (p.planningVolume, p.planningStructures, p.dailyVolume) if p is not None else (None, None, None)

    def missing_input(self) -> str:
        planning, structures, daily = self.inputs()
        missing = [
            words
            for node, words in (
                (planning, _("the planning CT")),
                (structures, _("its structures")),
                (daily, _("the daily CT")),
            )
            if node is None
        ]
        if not missing:
            return ""
        listed = (
            _("{some} and {last}").format(some=", ".join(missing[:-1]), last=missing[-1])
            if len(missing) > 1
            else missing[0]
        )
        return _("Choose {inputs} to begin.").format(inputs=listed)

    def check_key(self) -> tuple:
        return (*(node_state(node) for node in self.inputs()), self.parameters.rigid)

    def check_inputs(self) -> InputCheck:
        return check_propagation(*self.inputs(), self.card, self.parameters.rigid)

    def request(self) -> PropagationRequest:
        p = self.parameters
        return PropagationRequest(
            *self.inputs(),
            self.card["folder"],
            p.samples,
            p.seed,
            p.device.value,
            p.rigid,
            p.refine.value,
            p.outputFolder.strip() or None,
            p.site.strip() or None,
        )

    def restored_tables(self, nodes):
        return result_of_run(nodes)

    def load_result(self, run: BackendRun, outcome: Outcome) -> tuple:
        result = Result.read(outcome.folder, "propagate")
        return self.logic.load(outcome.folder, run.workspace.request, show=self.is_open), result

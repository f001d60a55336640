"""The RTPrediction panel: what it adds to `JobPanel`. Results are `ResultsPanel`'s."""

from __future__ import annotations

import slicer.util

from rtuncertainty.results import Result

from ..jobs.backend_run import BackendRun, Outcome
from ..jobs.input_check import InputCheck, check_input, node_state
from ..jobs.panel import JobPanel
from ..jobs.workspace import RunRequest
from ..mrml.attributes import RUN_ATTRIBUTE
from ..runs.result_tables import result_of_run
from ..widgets.text import _
from .results import ResultsPanel


class PredictionPanel(JobPanel):
    """One volume in; synthetic CT and structures out."""

    stages = {
        "read": _("Reading"),
        "preprocess": _("Preparing"),
        "network": _("Sampling the network"),
        "assemble": _("Putting together"),
        "write": _("Writing"),
        "scene": _("Building the scene"),
        "report": _("Writing the report"),
    }
    first_overlay = "predictive"
    selectors = ("inputSelector",)
    run_tip = _("Run the model on the volume.")

    def make_results(self) -> ResultsPanel:
        return ResultsPanel(self.ui, lambda: self.logic.scene_builder, self.run_removed)

    def suggest_inputs(self) -> None:
        """The first volume there is that no run made."""
        if self.parameters is not None and self.parameters.inputVolume is None:
            volumes = [
                n
                for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
                if n.GetClassName() == "vtkMRMLScalarVolumeNode" and not n.GetAttribute(RUN_ATTRIBUTE)
            ]
            if volumes:
                self.parameters.inputVolume = volumes[0]

    def inputs(self) -> tuple:
        return (self.parameters.inputVolume,) if self.parameters is not None else (None,)

    def missing_input(self) -> str:
        return _("Choose an image (MR, or CT where the model takes one) to begin.") if self.inputs()[0] is None else ""

    def check_key(self) -> tuple:
        return node_state(self.parameters.inputVolume)

    def check_inputs(self) -> InputCheck:
        return check_input(self.parameters.inputVolume, self.card)

    def request(self) -> RunRequest:
        p = self.parameters
        return RunRequest(
            p.inputVolume,
            self.card["folder"],
            p.samples,
            p.seed,
            p.device.value,
            p.biasField.value,
            p.referenceVolume,
            p.outputFolder.strip() or None,
            p.report,
            p.keepSamples,
            p.site.strip() or None,
        )

    def restored_tables(self, nodes):
        return result_of_run(nodes)

    def load_result(self, run: BackendRun, outcome: Outcome) -> tuple:
        result = Result.read(outcome.folder, "predict")
        return self.logic.load(outcome.folder, input_node=run.workspace.request.volume, show=self.is_open), result

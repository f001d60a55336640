"""The Dose section of the RTReview panel: a dose of the scene, its DVHs with bands as a chart and a table."""

from __future__ import annotations

import slicer

from ...jobs.section import SectionJob
from ...jobs.torch_setup import TorchProvider, TorchSetup
from ...widgets.text import _
from ..logic import ReviewLogic
from . import dose_input
from .job import DvhRequest
from .table import DvhTable, doses_in


class ReviewDvh:
    """Wires the section. `torch` is replaced in tests."""

    def __init__(self, ui, logic: ReviewLogic, torch: TorchProvider | None = None):
        self._ui, self._logic, self.torch = ui, logic, torch or TorchSetup()
        self._nodes, self._found, self._checked, self._problem, self._installing = None, None, None, "", False
        self._table = DvhTable(ui.dvhTable, self._show_in_chart)
        self.job = SectionJob(ui.dvhProgressBar, ui.dvhLabel, ui.dvhCancelButton, self._finish, self.refresh)
        ui.doseSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._dose_chosen)
        ui.doseCollapsibleButton.connect("contentsCollapsed(bool)", self.refresh)
        ui.dvhButton.connect("clicked()", self._compute)
        ui.dvhChartButton.connect("clicked()", self._show_chart)
        ui.dvhDosesEdit.connect("editingFinished()", self._fill)
        self.show(None)

    def show(self, nodes) -> None:
        """Follow a run, or none."""
        if nodes is not self._nodes:
            self.job.abort()
            self.job.tell("")
        self._nodes = nodes
        self._fill()
        self.refresh()

    def suggest_dose(self) -> None:
        """Choose the dose when the scene has just one that says that it is one, and nothing is chosen yet."""
        selector = self._ui.doseSelector
        if selector.currentNode() is None:
            found = [n for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if dose_input.is_marked(n)]
            if len(found) == 1:
                selector.setCurrentNode(found[0])

    def refresh(self) -> None:
        """Bring the section in step with run, dose and unit."""
        ui, node = self._ui, self._ui.doseSelector.currentNode()
        stated = dose_input.dose_unit(node) if node is not None else ""
        ui.doseUnitComboBox.enabled = stated not in dose_input.UNITS and not self.job.running
        ui.doseUnitComboBox.toolTip = (
            _("The dose says itself that it is in {unit}.").format(unit=stated)
            if stated in dose_input.UNITS
            else _("The dose does not say its unit: choose it.")
        )
        missing = self._missing(node)
        ui.dvhButton.enabled = not missing and not self.job.running
        ui.dvhButton.toolTip = (
            _("DVHs are being computed.")
            if self.job.running
            else missing
            or _(
                "Compute the dose-volume histograms of all structures, with bands where the result has nested "
                "contours. Slicer stays usable."
            )
        )
        for widget in (ui.doseSelector, ui.prescriptionSpinBox):
            widget.enabled = not self.job.running
        ui.dvhChartButton.enabled = self._found is not None and self._found.chart is not None
        ui.dvhChartButton.toolTip = (
            _("Show the curves and bands in a plot view.")
            if ui.dvhChartButton.enabled
            else _("Compute the DVHs first.")
        )

    def unit(self) -> str:
        """The unit of the chosen dose: its own, else the chosen one."""
        node = self._ui.doseSelector.currentNode()
        stated = dose_input.dose_unit(node) if node is not None else ""
        return stated if stated in dose_input.UNITS else self._ui.doseUnitComboBox.currentText

    def _missing(self, node) -> str:
        if self._nodes is None:
            return _("There is no result on show.")
        if node is None:
            return _("Choose a dose.")
        return self._wrong(node)

    def _wrong(self, node) -> str:
        """Why a node is no dose; looked at once for each state of its voxels."""
        key = (node.GetID(), node.GetImageData().GetMTime() if node.GetImageData() is not None else 0, node.GetMTime())
        if key != self._checked:
            self._checked, self._problem = key, dose_input.problem(node, self.unit())
        return self._problem

    def _dose_chosen(self) -> None:
        node = self._ui.doseSelector.currentNode()
        problem = self._wrong(node) if node is not None else ""
        stated = dose_input.dose_unit(node) if node is not None else ""
        if stated in dose_input.UNITS:
            self._ui.doseUnitComboBox.setCurrentIndex(self._ui.doseUnitComboBox.findText(stated))
        if not self.job.running:
            self.job.tell(problem, "error" if problem else "plain")
        self.refresh()

    # -- computing

    def _compute(self) -> None:
        node, nodes = self._ui.doseSelector.currentNode(), self._nodes
        if nodes is None or not nodes.exists() or self._missing(node):
            self.refresh()
            return
        if self._installing:
            return
        if not self.torch.installed():
            self._installing = True  # the application goes on meanwhile
            try:
                problem = self.torch.install()
            finally:
                self._installing = False
            if problem:
                self.job.tell(problem, "error")
                return
            if nodes is not self._nodes or not nodes.exists() or node is not self._ui.doseSelector.currentNode():
                return
        prescription = self._ui.prescriptionSpinBox.value
        request = DvhRequest(nodes, node, self.unit(), prescription if prescription > 0 else None)
        self.job.begin(lambda listener: self._logic.start_dvh(request, listener))

    def _finish(self, run, outcome) -> tuple[str, str]:
        """The tables go into the scene; returns what to tell."""
        request = run.workspace.request
        if not request.run.exists():
            run.workspace.discard()
            return _("The result was removed from the scene meanwhile."), "plain"
        chart = self._logic.load_dvh(run, outcome)
        self._fill()
        if chart is not None:
            self._logic.scene_builder.show_chart(chart)
        notes = list(self.job.notes)
        unusual = dose_input.warning(request.dose, request.unit) if request.dose.GetScene() is not None else ""
        without = (
            [r.structure for r in self._found.rows if r.volume is not None and r.lower is None]
            if self._found is not None
            else []
        )
        if without and len(without) == sum(r.volume is not None for r in self._found.rows):
            notes.append(_("This result has no nested contours or probabilities: curves without bands."))
        words = " ".join(filter(None, [_("Done."), unusual, *notes]))
        return words, "warning" if unusual or notes else "good"

    # -- what is shown

    def _fill(self) -> None:
        nodes = self._nodes
        self._found = self._logic.scene_builder.read_dvh(nodes) if nodes is not None and nodes.exists() else None
        doses, wrong = doses_in(self._ui.dvhDosesEdit.text)
        if wrong:
            self.job.tell(wrong, "warning")
        self._table.fill(self._found, doses)
        self._ui.dvhDoseLabel.text = (
            _("In {dose}; value, and below it its interval:").format(dose=self._found.dose)
            if self._found is not None
            else ""
        )
        self._ui.dvhDoseLabel.visible = self._found is not None
        self.refresh()

    def _show_in_chart(self, names: list[str]) -> None:
        if self._nodes is not None and self._nodes.exists():
            self._logic.scene_builder.show_in_chart(self._nodes, names)
            self._found = self._logic.scene_builder.read_dvh(self._nodes)

    def _show_chart(self) -> None:
        if self._found is not None and self._found.chart is not None and self._found.chart.GetScene() is not None:
            self._logic.scene_builder.show_chart(self._found.chart)

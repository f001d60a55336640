"""The DICOM section of the RTReview panel: a run as RTSTRUCT, CT series, SEG and registration, into a folder or
Slicer's database.
"""

from __future__ import annotations

from ...jobs.section import SectionJob
from ...jobs.torch_setup import install_package
from ...widgets.lines import on_path
from ...widgets.text import _
from ..logic import ReviewLogic
from . import job
from .job import DicomRequest

FOLDER, DATABASE = range(2)


class ReviewDicom:
    """Wires the section. Its lines tell kinds and counts, never what a DICOM file holds. `install(package, question)`
    is replaced in tests.
    """

    def __init__(self, ui, logic: ReviewLogic):
        self._ui, self._logic, self._nodes, self._offered = ui, logic, None, {}
        self.install, self._installing = install_package, False
        self._boxes = {
            "rtstruct": ui.rtstructCheckBox,
            "ct": ui.dicomCtCheckBox,
            "seg": ui.segCheckBox,
            "registration": ui.registrationCheckBox,
        }
        self.job = SectionJob(ui.dicomProgressBar, ui.dicomLabel, ui.dicomCancelButton, self._finish, self.refresh)
        ui.dicomTargetComboBox.connect("currentIndexChanged(int)", self.refresh)
        for edit in (ui.dicomFolderEdit, ui.dicomReferenceEdit, ui.dicomPlanningEdit):
            on_path(edit, self.refresh)
        for box in self._boxes.values():
            box.connect("toggled(bool)", self.refresh)
        ui.dicomCollapsibleButton.connect("contentsCollapsed(bool)", self._opened)
        ui.dicomButton.connect("clicked()", self._export)
        self.show(None)

    def show(self, nodes) -> None:
        """Follow a run, or none."""
        if nodes is not self._nodes:
            self.job.abort()
            self.job.tell("")
        self._nodes = nodes
        self._look()

    def _opened(self) -> None:
        """The section was opened: contours and packages may have come or gone."""
        self._look()

    def _look(self) -> None:
        """What the run has, looked at anew."""
        nodes = self._nodes
        there = nodes is not None and nodes.exists()
        self._offered = job.offered(nodes) if there and not self._ui.dicomCollapsibleButton.collapsed else {}
        propagated = there and nodes.deforms
        self._boxes["ct"].text = _("Deformed planning CT") if propagated else _("Synthetic CT")
        for kind, box in self._boxes.items():
            why = self._offered.get(kind, "")
            box.enabled = bool(self._offered) and not why
            box.toolTip = (
                why
                or {
                    "rtstruct": _("Contours as a structure set; rejected ones are left out."),
                    "ct": _("A CT series on the slices of the reference series."),
                    "seg": _("Contours as a segmentation object."),
                    "registration": _("The deformation as a deformable spatial registration."),
                }[kind]
            )
        for widget in (self._ui.dicomPlanningLabel, self._ui.dicomPlanningEdit, self._boxes["registration"]):
            widget.visible = propagated and not self._ui.dicomCollapsibleButton.collapsed
        self.refresh()

    def kinds(self) -> tuple[str, ...]:
        """What is ticked and can be written."""
        return tuple(k for k, box in self._boxes.items() if box.checked and box.enabled)

    def refresh(self) -> None:
        """Bring the section in step with what is chosen."""
        ui = self._ui
        ui.dicomFolderEdit.enabled = ui.dicomTargetComboBox.currentIndex == FOLDER
        missing = self._missing()
        ui.dicomButton.enabled = not missing and not self.job.running
        ui.dicomButton.toolTip = (
            _("DICOM files are being written.")
            if self.job.running
            else missing
            or _("Write the chosen objects in the study of the reference series. Every one says NOT FOR CLINICAL USE.")
        )

    def _missing(self) -> str:
        ui, nodes = self._ui, self._nodes
        if nodes is None or not nodes.exists():
            return _("There is no result on show.")
        own = [why for why in self._offered.values() if why]
        if self._offered and len(own) == len(self._offered):
            return self._offered["rtstruct"]
        if not self.kinds():
            return _("Choose at least one kind of object.")
        if not ui.dicomReferenceEdit.currentPath.strip() and not job.series_files(nodes.input):
            return _("Give the folder of the DICOM series that the result describes.")
        if (
            "registration" in self.kinds()
            and not ui.dicomPlanningEdit.currentPath.strip()
            and not job.series_files(nodes.planning)
        ):
            return _("Give the folder of the planning CT's DICOM series, or leave the registration out.")
        if ui.dicomTargetComboBox.currentIndex == DATABASE:
            return (
                ""
                if job.database_open()
                else _("Slicer's DICOM database is not open: open the DICOM module once, or choose a folder.")
            )
        return "" if ui.dicomFolderEdit.currentPath.strip() else _("Choose the folder to write to.")

    def _export(self) -> None:
        if self._missing() or self._installing:
            self.refresh()
            return
        nodes, self._installing = self._nodes, True  # the application goes on meanwhile
        try:
            problem = self._installed(self.kinds())
        finally:
            self._installing = False
        if problem:
            self.job.tell(problem, "error")
            return
        if nodes is not self._nodes or self._missing():
            self.refresh()
            return
        ui = self._ui
        request = DicomRequest(
            self._nodes,
            self.kinds(),
            None if ui.dicomTargetComboBox.currentIndex == DATABASE else ui.dicomFolderEdit.currentPath.strip(),
            ui.dicomReferenceEdit.currentPath.strip() or None,
            ui.dicomPlanningEdit.currentPath.strip() or None,
        )
        self.job.begin(lambda listener: self._logic.start_dicom(request, listener))

    def _installed(self, kinds: tuple[str, ...]) -> str:
        """Offer to install what these kinds need and what is not there; returns what speaks against going on."""
        for package in job.missing_packages(kinds):
            question = _("The export needs the Python package {package}. Install it now (a few MB)?")
            problem = self.install(package, question.format(package=package))
            if problem:
                return _("{problem} Without it there is no {what}.").format(
                    problem=problem, what=_("DICOM export") if package == "pydicom" else job.KINDS["seg"]
                )
        return ""

    def _finish(self, run, outcome) -> tuple[str, str]:
        folder, request = self._logic.finish_dicom(run, outcome), run.workspace.request
        kinds = ", ".join(job.KINDS[k] for k in request.kinds)
        where = (
            _("written to {folder}").format(folder=folder)
            if folder is not None
            else _("added to Slicer's DICOM database")
        )
        left = job.rejected(request.run) if request.run.exists() else []
        notes = [
            *([_("Rejected and left out: {names}.").format(names=", ".join(left))] if left else []),
            *self.job.notes,
        ]
        return " ".join(
            [_("{kinds} {where}. NOT FOR CLINICAL USE.").format(kinds=kinds, where=where), *notes]
        ), "warning" if notes else "good"

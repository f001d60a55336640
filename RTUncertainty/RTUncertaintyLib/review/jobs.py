"""What a review asks of the backend: DVHs of a run in a dose of the scene, and a run as DICOM; in the background or
waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..jobs.backend_run import BackendRun, Outcome, RunListener, outcome_of
from ..jobs.command import BackendCommand, backend_command
from ..jobs.events import explain
from ..jobs.logic import JobError
from ..jobs.process import run_and_wait
from ..jobs.workspace import RunWorkspace
from ..widgets import console
from .dicom.job import DicomRequest, import_into_database, prepare_dicom
from .dose.job import TABLE, DvhRequest, load_dvh, prepare_dvh


class ReviewJobs:
    """Part of `ReviewLogic`; `command` replaces the backend in tests."""

    scene_builder: object
    _command: BackendCommand | None = None

    @property
    def command(self) -> BackendCommand:
        """How the backend is started; raises RuntimeError when no Python for it is found."""
        return self._command or backend_command()

    def start_dvh(self, request: DvhRequest, listener: RunListener) -> BackendRun:
        """Start computing DVHs (needs Qt's event loop); `load_dvh` puts them into the scene when `listener.ended` says
        "done".

        Raises `UnusableVolume` or RuntimeError before anything is started.
        """
        return self._started(prepare_dvh(request), listener, TABLE)

    def load_dvh(self, run: BackendRun, outcome: Outcome):
        """Put computed DVHs into the scene, and remove their files; returns the chart's node."""
        try:
            return load_dvh(self.scene_builder, run.workspace.request, outcome.folder)
        finally:
            run.workspace.discard()

    def dvh(
        self,
        run,
        dose,
        unit: str = "Gy",
        prescription: float | None = None,
        progress: Callable[[dict], None] | None = None,
    ):
        """Compute the DVHs of a run in a dose volume and wait; returns `scene.review_dvh.Dvhs`.

        Raises `UnusableVolume` for what is no dose, and `JobError` with one line when the backend did not succeed.
        """
        request = DvhRequest(run, dose, unit, prescription)
        workspace = prepare_dvh(request)
        try:
            load_dvh(self.scene_builder, request, self._waited(workspace, TABLE, progress))
        finally:
            workspace.discard()
        return self.scene_builder.read_dvh(run)

    def start_dicom(self, request: DicomRequest, listener: RunListener) -> BackendRun:
        """Start writing a run as DICOM; `finish_dicom` has to be called when it is done. Raises `UnusableVolume` or
        RuntimeError.
        """
        return self._started(prepare_dicom(request), listener, ".")

    def finish_dicom(self, run: BackendRun, outcome: Outcome) -> Path | None:
        """The folder with the files, or None after they went into the DICOM database. Raises `UnusableVolume` when
        that refuses them.
        """
        return _delivered(run.workspace, outcome.folder)

    def dicom(
        self, run, kinds, folder: str | None = None, reference: str | None = None, planning: str | None = None
    ) -> Path | None:
        """Write a run as DICOM and wait; see `DicomRequest`. Returns the new folder, None for the database.

        Raises `UnusableVolume` for what is missing, `JobError` when the backend did not succeed.
        """
        workspace = prepare_dicom(DicomRequest(run, tuple(kinds), folder, reference, planning))
        try:
            written = self._waited(workspace, ".", None)
        except BaseException:
            workspace.discard()
            raise
        workspace.discard_inputs()
        return _delivered(workspace, written)

    def _started(self, workspace: RunWorkspace, listener: RunListener, proof: str) -> BackendRun:
        try:
            run = BackendRun(self.command, workspace, listener, proof)
            run.start()
        except BaseException:
            workspace.discard()
            raise
        return run

    def _waited(self, workspace: RunWorkspace, proof: str, progress: Callable[[dict], None] | None) -> Path:
        end = run_and_wait(
            self.command,
            workspace.arguments,
            progress or console.progress("RT Review"),
            lambda line: None,
            console.idle(),
        )
        outcome = outcome_of(end, workspace.output, False, proof)
        if outcome.state != "done":
            raise JobError(explain(end))
        return outcome.folder


def _delivered(workspace: RunWorkspace, folder: Path) -> Path | None:
    if not workspace.request.to_database:
        return folder
    try:
        import_into_database(folder)
    finally:
        workspace.discard()
    return None

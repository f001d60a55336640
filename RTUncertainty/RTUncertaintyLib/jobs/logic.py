"""What every job of the backend shares: its models, its runs in the background or waited for, its temporary files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .. import runs
from ..runs.registry import announce
from ..widgets import console
from .backend_run import BackendRun, RunListener, outcome_of
from .command import BackendCommand, backend_command
from .events import explain
from .process import run_and_wait
from .workspace import RunWorkspace

MODULES = {"predict": "RT Prediction", "propagate": "RT Propagation"}
"""Job of the backend -> the module that offers it."""


class JobError(RuntimeError):
    """A run did not succeed; the message tells why in one line."""


def job_of(card: dict) -> str:
    """The job that a model does, "predict" or "propagate": what its card says, or else what its outputs tell."""
    return card.get("job") or ("propagate" if "deformation" in card["outputs"] else "predict")


class JobLogic:
    """Models, runs and their results. `scene_builder` and `command` replace the scene code and the backend in tests."""

    job = "predict"
    error = JobError
    scene_functions = runs
    """What turns results into nodes and acts on them: a module with functions, unless a test puts something in its
    place.
    """

    def __init__(self, scene_builder=None, command: BackendCommand | None = None):
        super().__init__()
        self.scene_builder, self._command = scene_builder or self.scene_functions, command
        self._workspaces: list[RunWorkspace] = []

    def prepare(self, request, model_name: str) -> RunWorkspace:
        """Export the inputs of a request and build the backend's arguments."""
        raise NotImplementedError

    @property
    def command(self) -> BackendCommand:
        """How the backend is started; raises RuntimeError when no Python for it is found."""
        return self._command or backend_command()

    def models(self) -> list[dict]:
        """The cards of the installed bundles that do this job, see `rtuncertainty.bundles.bundle.list_bundles`.

        The first is what a panel begins with: synthetic CT before structures alone, what has seen patients before
        phantoms' models.
        """
        from rtuncertainty.bundles import bundle

        cards = [card for card in bundle.list_bundles() if job_of(card) == self.job]
        return sorted(cards, key=lambda c: (bool(c["training"].get("phantom")), "synct" not in c["outputs"]))

    def card(self, model: str) -> dict:
        """The card of a bundle by name or folder. Raises `rtuncertainty.core.errors.InputError` that says what is
        wrong.
        """
        from rtuncertainty.bundles import bundle
        from rtuncertainty.core.errors import InputError

        card = bundle.read_card(bundle.find(model))
        job = job_of(card)
        if job != self.job:
            raise InputError(
                f"{card['name']}: is a model for {MODULES.get(job, job)}; {MODULES[self.job]} cannot run it."
            )
        return card

    def start(self, request, listener: RunListener) -> BackendRun:
        """Start a run in the background (needs Qt's event loop). `request.model` may be a name or a folder.

        Raises `UnusableVolume`, `InputError` or RuntimeError before anything is started.
        """
        command, card = self.command, self.card(request.model)
        request.model = card["folder"]
        workspace = self.prepare(request, card["name"])
        self._workspaces.append(workspace)
        run = BackendRun(command, workspace, listener)
        run.start()
        return run

    def finish(self, workspace: RunWorkspace, load: Callable[[Path], object], progress: Callable[[dict], None] | None):
        """Run what was prepared, wait, and return what `load(result folder)` makes of it.

        `progress` is called with every event of the backend. When anything fails, the run's files are gone; raises the
        logic's `error` with one line when the backend did not succeed.
        """
        lines: list[str] = []
        try:
            told = progress or console.progress(MODULES.get(self.job, self.job))
            end = run_and_wait(self.command, workspace.arguments, told, lines.append, console.idle())
            outcome = outcome_of(end, workspace.output, cancelled=False)
            if outcome.state != "done":
                raise self.error(explain(end))
            if outcome.message and progress is not None:
                progress({"event": "note", "message": outcome.message})
            nodes = load(outcome.folder)
        except BaseException:
            workspace.discard()
            raise
        workspace.discard_inputs()
        self._workspaces.append(workspace)
        workspace.release_on_exit()
        announce(nodes)
        return nodes

    def clean_up(self) -> None:
        """Remove the temporary folders of all runs; results in a folder of the user's choice stay."""
        for workspace in self._workspaces:
            workspace.release()
        self._workspaces.clear()

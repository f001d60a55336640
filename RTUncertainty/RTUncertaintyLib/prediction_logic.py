"""Prediction from a volume node to nodes in the scene, with or without a screen."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Protocol

from .backend_command import BackendCommand, backend_command
from .backend_events import explain
from .input_check import check_input
from .prediction_run import PredictionRun, RunListener, outcome_of
from .process_runner import run_and_wait
from .run_workspace import RunRequest, RunWorkspace, prepare
from .volume_export import UnusableVolume


class SceneBuilder(Protocol):
    """What turns a result folder into nodes; `SlicerScene` is one."""

    def load_result(self, folder, scene=None, input_node=None): ...

    def show_result(self, nodes) -> None: ...

    def show_overlay(self, nodes, key) -> None: ...

    def overlay_threshold(self, nodes, key) -> float: ...

    def overlay_range(self, nodes, key) -> tuple[float, str]: ...

    def set_overlay_threshold(self, nodes, key, lower: float) -> None: ...

    def remove_run(self, nodes) -> None: ...


class SlicerScene:
    """The scene functions of `RTUncertaintyLib.scene`, imported when they are needed."""

    def __getattr__(self, name):
        from . import scene

        return getattr(scene, name)

    def overlay_range(self, nodes, key) -> tuple[float, str]:
        """Upper end of an overlay's colours, and its unit (empty for a z-score)."""
        from . import scene

        return nodes.overlays[key].GetDisplayNode().GetWindowLevelMax(), scene.OVERLAYS[key].unit


class PredictionError(RuntimeError):
    """A run did not succeed; the message tells why in one line."""


class PredictionLogic:
    """Models, runs and their results.

    In Slicer's Python console, or in any Python with slicer-core::

        nodes = RTPredictionLogic().predict(volumeNode, "limb-t1-synct", samples=20)

    `scene_builder` and `command` replace the scene code and the backend in tests.
    """

    def __init__(self, scene_builder: SceneBuilder | None = None, command: BackendCommand | None = None):
        super().__init__()
        self.scene_builder, self._command = scene_builder or SlicerScene(), command
        self._workspaces: list[RunWorkspace] = []

    @property
    def command(self) -> BackendCommand:
        """How the backend is started; raises RuntimeError when no Python for it is found."""
        return self._command or backend_command()

    def models(self) -> list[dict]:
        """The cards of the bundles that are installed, see `rtbackend.bundle.list_bundles`."""
        from rtbackend import bundle

        return bundle.list_bundles()

    def card(self, model: str) -> dict:
        """The card of a bundle by name or folder. Raises `rtbackend.errors.InputError` that says what is wrong."""
        from rtbackend import bundle

        return bundle.read_card(bundle.find(model))

    def start(self, request: RunRequest, listener: RunListener) -> PredictionRun:
        """Start a run in the background (needs Qt's event loop). `request.model` may be a name or a folder.

        Raises `UnusableVolume`, `InputError` or RuntimeError before anything is started.
        """
        command, card = self.command, self.card(request.model)
        request.model = card["folder"]
        workspace = prepare(request, card["name"])
        self._workspaces.append(workspace)
        run = PredictionRun(command, workspace, listener)
        run.start()
        return run

    def load(self, folder: Path, scene=None, input_node=None, show: bool = True):
        """Nodes of a result folder, shown in the slice views when `show` is set. `input_node` may have left the scene."""
        nodes = self.scene_builder.load_result(folder, scene=scene, input_node=input_node)
        if show:
            self.scene_builder.show_result(nodes)
        return nodes

    def predict(self, volume_node, model: str, samples: int = 20, *, seed: int = 0, device: str = "auto",
                bias_field: str = "auto", reference=None, output: str | None = None, report: bool = False,
                show: bool | None = None, progress: Callable[[dict], None] | None = None):
        """Run a model on a volume and wait; returns the `RunNodes` of the result.

        Parameters: `volume_node` a vtkMRMLScalarVolumeNode; `model` a bundle's name or folder; `device` "auto", "cpu"
        or "cuda"; `bias_field` "auto", "on" or "off"; `reference` a CT volume node or None; `output` an existing
        folder that keeps the files, or None; `show` whether to show the result (default: when there is a screen);
        `progress` is called with every event of the backend.
        Raises `PredictionError` with one line that says what went wrong. The scene is unchanged then.
        """
        import slicer
        from rtbackend.errors import RTUncertaintyError

        try:
            card = self.card(model)
            check = check_input(volume_node, card)
            if check.errors:
                raise PredictionError(check.message)
            workspace = prepare(RunRequest(volume_node, card["folder"], samples, seed, device, bias_field, reference,
                                           output, report), card["name"])
        except (RTUncertaintyError, UnusableVolume) as error:
            raise PredictionError(str(error)) from error
        lines: list[str] = []
        try:
            end = run_and_wait(self.command, workspace.arguments, progress or (lambda event: None), lines.append)
            outcome = outcome_of(end, workspace.output, cancelled=False)
            if outcome.state != "done":
                raise PredictionError(explain(end))
            scene = volume_node.GetScene() or slicer.mrmlScene
            nodes = self.load(outcome.folder, scene, volume_node, show=hasattr(slicer, "app") if show is None else show)
        except BaseException:
            workspace.discard()
            raise
        workspace.discard_inputs()
        self._workspaces.append(workspace)
        return nodes

    def clean_up(self) -> None:
        """Remove the temporary folders of all runs; results in a folder of the user's choice stay."""
        for workspace in self._workspaces:
            workspace.release()
        self._workspaces.clear()

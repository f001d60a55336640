"""Prediction from a volume node to nodes in the scene, with or without a screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ..jobs.input_check import check_input
from ..jobs.logic import JobError, JobLogic
from ..jobs.workspace import RunRequest, RunWorkspace, prepare
from ..mrml.volume_export import UnusableVolume


class SceneBuilder(Protocol):
    """What turns a result folder into nodes; the package `runs` is one."""

    def load_result(self, folder, scene=None, input_node=None): ...

    def show_result(self, nodes) -> None: ...

    def show_overlay(self, nodes, key) -> None: ...

    def overlay_threshold(self, nodes, key) -> float: ...

    def overlay_range(self, nodes, key) -> tuple[float, str]: ...

    def set_overlay_threshold(self, nodes, key, lower: float) -> None: ...

    def remove_run(self, nodes) -> None: ...


class PredictionError(JobError):
    """A run did not succeed; the message tells why in one line."""


class PredictionLogic(JobLogic):
    """Models, runs and their results.

    In Slicer's Python console, or in any Python with slicer-core::

        nodes = RTPredictionLogic().predict(volumeNode, "limb-t1-synct", samples=20)
    """

    job, error = "predict", PredictionError

    def prepare(self, request: RunRequest, model_name: str) -> RunWorkspace:
        return prepare(request, model_name)

    def load(self, folder: Path, scene=None, input_node=None, show: bool = True):
        """Nodes of a result folder, shown in the slice views when `show` is set. `input_node` may have left the
        scene.
        """
        nodes = self.scene_builder.load_result(folder, scene=scene, input_node=input_node)
        if show:
            self.scene_builder.show_result(nodes)
        return nodes

    def predict(
        self,
        volume_node,
        model: str,
        samples: int = 20,
        *,
        seed: int = 0,
        device: str = "auto",
        bias_field: str = "auto",
        reference=None,
        output: str | None = None,
        report: bool = False,
        keep_samples: int = 0,
        site: str | None = None,
        show: bool | None = None,
        progress: Callable[[dict], None] | None = None,
    ):
        """Run a model on a volume and wait; returns the `PredictionRun` of the result.

        Parameters: `volume_node` a vtkMRMLScalarVolumeNode; `model` a bundle's name or folder; `device` "auto", "cpu"
        or "cuda"; `bias_field` "auto", "on" or "off"; `reference` a CT volume node or None; `output` an existing
        folder that keeps the files, or None; `keep_samples` how many single samples become a sequence; `site` a
        `site.json` whose intervals and limits count; `show` whether
        to show the result (default: when there is a screen); `progress` is called with every event of the backend.
        Raises `PredictionError` with one line that says what went wrong. The scene is unchanged then.
        """
        import slicer

        from rtuncertainty.core.errors import RTUncertaintyError

        try:
            card = self.card(model)
            check = check_input(volume_node, card)
            if check.errors:
                raise PredictionError(check.message)
            workspace = self.prepare(
                RunRequest(
                    volume_node,
                    card["folder"],
                    samples,
                    seed,
                    device,
                    bias_field,
                    reference,
                    output,
                    report,
                    keep_samples,
                    site,
                ),
                card["name"],
            )
        except (RTUncertaintyError, UnusableVolume) as error:
            raise PredictionError(str(error)) from error
        scene = volume_node.GetScene() or slicer.mrmlScene
        show = hasattr(slicer, "app") if show is None else show
        return self.finish(workspace, lambda folder: self.load(folder, scene, volume_node, show=show), progress)

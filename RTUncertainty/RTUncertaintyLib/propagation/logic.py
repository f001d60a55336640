"""Propagation from planning CT, structures and daily CT to nodes in the scene, with or without a screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..jobs.logic import JobError, JobLogic
from ..jobs.workspace import RunWorkspace
from ..mrml.volume_export import UnusableVolume
from .check import check_propagation
from .workspace import PropagationRequest, prepare_propagation

REFINEMENTS = ("off", "fast", "full")


class PropagationError(JobError):
    """A run did not succeed; the message tells why in one line."""


class PropagationLogic(JobLogic):
    """Models, runs and their results.

    In Slicer's Python console, or in any Python with slicer-core::

        nodes = RTPropagationLogic().propagate(planningNode, segmentationNode, dailyNode, "headneck-ct-propagation",
        refine="fast")
    """

    job, error = "propagate", PropagationError

    def prepare(self, request: PropagationRequest, model_name: str) -> RunWorkspace:
        return prepare_propagation(request, model_name)

    def load(self, folder: Path, request: PropagationRequest, scene=None, show: bool = True):
        """Nodes of a result folder, shown in the slice views when `show` is set. What was put in may have left the
        scene.
        """
        nodes = self.scene_builder.load_propagation(
            folder,
            scene=scene,
            planning_node=request.planning,
            structures_node=request.structures,
            daily_node=request.daily,
        )
        if show:
            self.scene_builder.show_propagation(nodes)
        return nodes

    def propagate(
        self,
        planning,
        structures,
        daily,
        model: str,
        samples: int = 20,
        *,
        seed: int = 0,
        device: str = "auto",
        rigid: bool = True,
        refine: str | None = None,
        output: str | None = None,
        site: str | None = None,
        show: bool | None = None,
        progress: Callable[[dict], None] | None = None,
    ):
        """Propagate planning structures to a daily CT and wait; returns the `PropagationRun` of the result.

        Parameters: `planning` and `daily` vtkMRMLScalarVolumeNodes; `structures` the vtkMRMLSegmentationNode of the
        planning CT; `model` a bundle's name or folder; `device` "auto", "cpu" or "cuda"; `rigid` whether to align
        rigidly first; `refine` "off", "fast" or "full", None: fast, and full without a network; `output` an existing
        folder that keeps the files, or None; `site` a `site.json` whose intervals and limits count; `show` whether to
        show the result (default: when there is a screen); `progress` is called with every event of the backend.
        `accept(nodes)` then makes one segmentation of it. Raises `PropagationError` with one line that says what went
        wrong. The scene is unchanged then.
        """
        import slicer

        from rtuncertainty.bundles import bundle
        from rtuncertainty.core.errors import RTUncertaintyError

        if refine not in (None, *REFINEMENTS):
            raise PropagationError(f"refine is {refine!r}; it is one of {', '.join(REFINEMENTS)}.")
        try:
            card = self.card(model)
            check = check_propagation(planning, structures, daily, card, rigid)
            if check.errors:
                raise PropagationError(check.message)
            refine = refine or bundle.refinement(card)
            request = PropagationRequest(
                planning, structures, daily, card["folder"], samples, seed, device, rigid, refine, output, site
            )
            workspace = self.prepare(request, card["name"])
        except (RTUncertaintyError, UnusableVolume) as error:
            raise PropagationError(str(error)) from error
        scene = daily.GetScene() or slicer.mrmlScene
        show = hasattr(slicer, "app") if show is None else show
        return self.finish(workspace, lambda folder: self.load(folder, request, scene, show), progress)

    def accept(self, nodes, paths: dict[str, str] | None = None):
        """The segmentation of accepted contours: of each structure the path in `paths`, else the one that the model
        proposes.
        """
        return self.scene_builder.accept_structures(nodes, paths)

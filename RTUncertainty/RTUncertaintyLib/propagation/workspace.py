"""The files of one propagation: exported scans and structures, and the backend's arguments."""

from __future__ import annotations

from dataclasses import dataclass

from ..jobs.workspace import RunWorkspace, file_name, new_workspace
from ..mrml.segmentation_export import export_structures
from ..mrml.volume_export import export_volume


@dataclass
class PropagationRequest:
    """What the user asks for: nodes of the planning CT, its segmentation and the daily CT; `model` is a bundle's
    folder; `refine` "off", "fast" or "full"; `output` a folder in which the run makes its own folder, or None for a
    temporary one; `site` a site.json or None."""

    planning: object
    structures: object
    daily: object
    model: str
    samples: int = 20
    seed: int = 0
    device: str = "auto"
    rigid: bool = True
    refine: str = "fast"
    output: str | None = None
    site: str | None = None


def prepare_propagation(request: PropagationRequest, model_name: str) -> RunWorkspace:
    """Export the inputs of a propagation and build the backend's arguments.

    Raises `UnusableVolume` when a node or the output folder cannot be used; nothing is left behind then.
    """
    daily_name = request.daily.GetName() or "daily"
    with new_workspace(request, "RTPropagation", f"{model_name} on {daily_name}") as (workspace, inputs):
        files = {}
        for role, node in (("planning", request.planning), ("daily", request.daily)):
            # folders of their own: the two may have one name, and the backend calls a scan as its file is called
            (inputs / role).mkdir()
            files[role] = export_volume(node, inputs / role / f"{file_name(node.GetName() or role)}.nrrd")
        name = file_name(request.structures.GetName() or "structures")
        files["structures"] = export_structures(request.structures, request.planning, inputs / f"{name}.seg.nrrd")
        workspace.arguments = [
            "propagate",
            "--model",
            str(request.model),
            "--planning",
            str(files["planning"]),
            "--structures",
            str(files["structures"]),
            "--daily",
            str(files["daily"]),
            "--output",
            str(workspace.output),
            "--samples",
            str(request.samples),
            "--seed",
            str(request.seed),
            "--device",
            request.device,
            "--rigid",
            "on" if request.rigid else "off",
            "--refine",
            request.refine,
            "--progress",
            "json",
        ]
        if request.site:
            workspace.arguments += ["--site", request.site]
    return workspace

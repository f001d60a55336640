"""The nodes of one run, and how they are found again in a scene that was saved and opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import slicer

RUN_ATTRIBUTE = "RTUncertainty.Run"
ROLE_ATTRIBUTE = "RTUncertainty.Role"
JOB_ATTRIBUTE = "RTUncertainty.Job"
"""Of the folder of a run that no job of the backend made."""
INPUT_REFERENCE = "RTUncertainty.Input"


@dataclass
class Run:
    """What a run of any job put into a scene.

    `overlays` maps a key of `overlays.OVERLAYS` to its scalar volume, `tables` a name to its table node, `inside` a structure's
    name to the label map of the share of samples in which a voxel lies inside it, `nested` a percentile to the model that
    shows such a contour. `input` is the image that the results lie on: a node of the run when the scene was made from files,
    else the user's own node, which the run does not own. `folder_item` is the subject-hierarchy folder.
    """

    scene: object
    run_id: str
    name: str
    folder_item: int = 0
    overlays: dict = field(default_factory=dict)
    tables: dict = field(default_factory=dict)
    inside: dict = field(default_factory=dict)
    nested: dict = field(default_factory=dict)
    input: object = None

    single: ClassVar[tuple[str, ...]] = ("input",)
    """Roles of one node; the attribute is called as the role is."""
    keyed: ClassVar[dict[str, str]] = {"overlay": "overlays", "table": "tables", "inside": "inside", "nested": "nested"}
    """Roles of several nodes, "role.key" -> the dictionary that holds them."""
    references: ClassVar[dict[str, str]] = {"input": INPUT_REFERENCE}
    """The user's own nodes: attribute -> the node reference of the main image that leads to them."""

    @property
    def main(self):
        """The image that stands for the run: when it is gone, so is the run."""
        raise NotImplementedError

    @property
    def main_segmentation(self):
        """The structures that stand for the run, None when it has none."""
        raise NotImplementedError

    def exists(self) -> bool:
        """Whether the run is still in its scene: neither removed nor lost when the scene was closed."""
        return self.main is not None and self.main.GetScene() is not None

    def about_to_be_removed(self) -> None:
        """Give back what the run changed on the user's own nodes."""

    def color_node(self, key: str):
        """The colour table of an overlay."""
        return self.overlays[key].GetDisplayNode().GetColorNode()

    def legend(self, key: str):
        """The colour legend (vtkMRMLColorLegendDisplayNode) of an overlay."""
        return legend_of(self.overlays[key])


@dataclass
class RunNodes(Run):
    """What a prediction put into a scene. `probabilities` maps a structure's name to its volume, `tables` has 'volumes',
    'flags' and 'metrics'. `synct` is None where the model only segments."""

    synct: object = None
    probabilities: dict = field(default_factory=dict)
    segmentation: object = None
    reference: object = None

    single: ClassVar[tuple[str, ...]] = (*Run.single, "synct", "segmentation", "reference")
    keyed: ClassVar[dict[str, str]] = {**Run.keyed, "probability": "probabilities"}

    @property
    def main(self):
        return self.synct or self.segmentation

    @property
    def main_segmentation(self):
        return self.segmentation


def mark(node, run_id: str, role: str) -> None:
    """Write on a node to which run it belongs and as what."""
    node.SetAttribute(RUN_ATTRIBUTE, run_id)
    node.SetAttribute(ROLE_ATTRIBUTE, role)


def nodes_by_class(scene, class_name: str) -> list:
    """The nodes of a class, as a list."""
    found = scene.GetNodesByClass(class_name)
    return [found.GetItemAsObject(i) for i in range(found.GetNumberOfItems())]


def marked_nodes(scene, run_id: str) -> list:
    """All nodes of a run, colour tables and legends included."""
    return [n for n in nodes_by_class(scene, "vtkMRMLNode") if n.GetAttribute(RUN_ATTRIBUTE) == run_id]


def legend_of(volume):
    """The colour legend of a volume, None when it has none."""
    for index in range(volume.GetNumberOfDisplayNodes()):
        display = volume.GetNthDisplayNode(index)
        if display is not None and display.IsA("vtkMRMLColorLegendDisplayNode"):
            return display
    return None


def find_runs(scene=None) -> dict[str, str]:
    """The runs in a scene, of all jobs: identifier -> name, in the order in which they were loaded. One whose main image was
    deleted is none any more, whatever else is left of it."""
    scene = scene or slicer.mrmlScene
    roles = _roles(scene)
    runs = {run_id: _run(scene, run_id, folder, roles.get(run_id, {})) for run_id, folder in _run_folders(_hierarchy(scene)).items()}
    return {run_id: run.name for run_id, run in runs.items() if run is not None}


def run_nodes(run_id: str, scene=None) -> Run | None:
    """The nodes of a run that is in the scene already, None when there is none with this identifier.

    `RunNodes` of a prediction, `PropagationNodes` of a propagation, `OwnNodes` of a review of the user's own data.
    """
    scene = scene or slicer.mrmlScene
    folder = _run_folders(_hierarchy(scene)).get(run_id)
    return _run(scene, run_id, folder, _roles(scene).get(run_id, {})) if folder is not None else None


def _roles(scene) -> dict[str, dict]:
    """Run identifier -> role -> node, of all runs."""
    found: dict[str, dict] = {}
    for node in nodes_by_class(scene, "vtkMRMLNode"):
        if node.GetAttribute(RUN_ATTRIBUTE):
            found.setdefault(node.GetAttribute(RUN_ATTRIBUTE), {})[node.GetAttribute(ROLE_ATTRIBUTE) or ""] = node
    return found


def _run(scene, run_id: str, folder: int, nodes: dict) -> Run | None:
    """The run of these nodes (by their roles), None when its main image is not among them."""
    from .propagation.nodes import PropagationNodes
    from .own import OwnNodes

    hierarchy = _hierarchy(scene)
    propagated = any(role in ("warped", "transform", "outlines") or role.startswith("segmentation.") for role in nodes)
    own = hierarchy.GetItemAttribute(folder, JOB_ATTRIBUTE) == "own"
    job = PropagationNodes if propagated else OwnNodes if own else RunNodes
    run = job(scene, run_id, hierarchy.GetItemName(folder), folder)
    for role, node in nodes.items():
        kind, _, key = role.partition(".")
        if kind in job.single:
            setattr(run, kind, node)
        elif kind in job.keyed:
            getattr(run, job.keyed[kind])[key] = node
    if run.main is None:
        return None
    for attribute, reference in job.references.items():
        if getattr(run, attribute) is None:
            setattr(run, attribute, run.main.GetNodeReference(reference))
    return run


def _hierarchy(scene):
    """The scene's subject hierarchy."""
    return slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(scene)


def _run_folders(hierarchy) -> dict[str, int]:
    """Run identifier -> subject-hierarchy folder."""
    import vtk

    items = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    found = {}
    for index in range(items.GetNumberOfIds()):
        item = items.GetId(index)
        run = hierarchy.GetItemAttribute(item, RUN_ATTRIBUTE)
        if run and hierarchy.GetItemDataNode(item) is None:
            found[run] = item
    return found

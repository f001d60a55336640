"""The nodes of one run, and how they are found again in a scene that was saved and opened."""

from __future__ import annotations

from dataclasses import dataclass, field

import slicer

RUN_ATTRIBUTE = "RTUncertainty.Run"
ROLE_ATTRIBUTE = "RTUncertainty.Role"


@dataclass
class RunNodes:
    """What a run put into a scene.

    `overlays` maps a key of `overlays.OVERLAYS` to its scalar volume, `probabilities` a structure's name, `tables`
    'volumes', 'flags' and 'metrics'. `input` is the image that went in: a node of the run when the scene was made from
    files, else the user's own node, which the run does not own. `folder_item` is the subject-hierarchy folder.
    """

    scene: object
    run_id: str
    name: str
    folder_item: int = 0
    synct: object = None
    overlays: dict = field(default_factory=dict)
    probabilities: dict = field(default_factory=dict)
    segmentation: object = None
    tables: dict = field(default_factory=dict)
    reference: object = None
    input: object = None

    def exists(self) -> bool:
        """Whether the run is still in its scene: neither removed nor lost when the scene was closed."""
        return self.synct is not None and self.synct.GetScene() is not None

    def color_node(self, key: str):
        """The colour table of an overlay."""
        return self.overlays[key].GetDisplayNode().GetColorNode()

    def legend(self, key: str):
        """The colour legend (vtkMRMLColorLegendDisplayNode) of an overlay."""
        return legend_of(self.overlays[key])


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
    """The runs in a scene: identifier -> name, in the order in which they were loaded."""
    hierarchy = _hierarchy(scene or slicer.mrmlScene)
    return {run: hierarchy.GetItemName(item) for run, item in _run_folders(hierarchy).items()}


def run_nodes(run_id: str, scene=None) -> RunNodes | None:
    """The nodes of a run that is in the scene already, None when there is none with this identifier."""
    scene = scene or slicer.mrmlScene
    hierarchy = _hierarchy(scene)
    folder = _run_folders(hierarchy).get(run_id)
    if folder is None:
        return None
    run = RunNodes(scene, run_id, hierarchy.GetItemName(folder), folder)
    for node in marked_nodes(scene, run_id):
        kind, _, key = (node.GetAttribute(ROLE_ATTRIBUTE) or "").partition(".")
        if kind in ("synct", "segmentation", "reference", "input"):
            setattr(run, kind, node)
        elif kind in ("overlay", "probability", "table"):
            {"overlay": run.overlays, "probability": run.probabilities, "table": run.tables}[kind][key] = node
    if run.input is None and run.synct is not None:
        run.input = run.synct.GetNodeReference("RTUncertainty.Input")
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

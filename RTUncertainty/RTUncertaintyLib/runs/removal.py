"""Removing a run, by `remove_run` or by deleting its folder or a volume in the Data module."""

from __future__ import annotations

import weakref

import slicer
import vtk

from ..mrml import hierarchy
from ..mrml.attributes import ROLE_ATTRIBUTE, RUN_ATTRIBUTE, marked_nodes, nodes_by_class
from .run import Run

_watchers: list[_SceneWatcher] = []


def remove_run(run: Run) -> None:
    """Remove everything that a run made: volumes, segmentations, transform, tables, colour tables, legends, folder.

    What the user put into the folder stays, at the top level. Slice views that showed the run show its input again.
    Does nothing when the run is gone already, as after closing the scene.
    """
    scene = run.scene
    if scene is None or not marked_nodes(scene, run.run_id):
        return
    run.about_to_be_removed()
    hierarchy_node = hierarchy.hierarchy_of(scene)
    own = run.input is not None and run.input.GetAttribute(RUN_ATTRIBUTE) == run.run_id
    background = None if own or run.input is None or run.input.GetScene() is not scene else run.input.GetID()
    scene.StartState(scene.BatchProcessState)
    try:
        composites = [c for c in nodes_by_class(scene, "vtkMRMLSliceCompositeNode") if _shows(c, run)]
        for item in _folders(hierarchy_node, run.run_id):
            _keep_foreign_items(hierarchy_node, item, run.run_id)
        for node in marked_nodes(scene, run.run_id):
            _remove_with_companions(scene, node)
        for item in _folders(hierarchy_node, run.run_id):
            hierarchy_node.RemoveItem(item, True, True)
        for composite in composites:
            composite.SetForegroundVolumeID(None)
            composite.SetBackgroundVolumeID(background)
    finally:
        scene.EndState(scene.BatchProcessState)


def watch_scene(scene=None) -> None:
    """From now on, when a volume of a run is deleted by the user, its display, legend and colour table go as well.

    Slicer deletes only the data node of an item. Calling it again for the same scene does nothing.
    """
    scene = scene or slicer.mrmlScene
    _watchers[:] = [w for w in _watchers if w.scene() is not None]
    if not any(w.scene() is scene for w in _watchers):
        _watchers.append(_SceneWatcher(scene))


class _SceneWatcher:
    """Collects the companions of a node before it is removed, and removes them after."""

    def __init__(self, scene):
        self.scene = weakref.ref(scene)
        self._waiting: dict[str, list] = {}
        scene.AddObserver(slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, self._before)
        scene.AddObserver(slicer.vtkMRMLScene.NodeRemovedEvent, self._after)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _before(self, scene, _event, node):
        # No caller: the scene itself is being destroyed.
        if scene is None or node is None or scene.IsClosing():
            return
        if not node.GetAttribute(RUN_ATTRIBUTE) or not node.IsA("vtkMRMLDisplayableNode"):
            return
        self._waiting[node.GetID()] = _companions(node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _after(self, scene, _event, node):
        for companion in self._waiting.pop(node.GetID() if node is not None else None, []):
            if scene is not None and companion.GetScene() is not None:
                scene.RemoveNode(companion)


def _companions(node) -> list:
    """Display, storage, legend and own colour nodes of a node."""
    found = []
    if node.IsA("vtkMRMLDisplayableNode"):
        displays = [node.GetNthDisplayNode(i) for i in range(node.GetNumberOfDisplayNodes())]
        displays = [d for d in displays if d is not None]
        colors = [d.GetColorNode() for d in displays if not d.IsA("vtkMRMLColorLegendDisplayNode")]
        colors = [c for c in colors if c is not None and c.GetAttribute(ROLE_ATTRIBUTE)]
        # Legends first: one without its primary display node complains.
        displays.sort(key=lambda d: not d.IsA("vtkMRMLColorLegendDisplayNode"))
        found += displays + colors + [s for c in colors for s in _storages(c)]
    return found + _storages(node)


def _storages(node) -> list:
    """The storage nodes of a node."""
    if not node.IsA("vtkMRMLStorableNode"):
        return []
    nodes = [node.GetNthStorageNode(i) for i in range(node.GetNumberOfStorageNodes())]
    return [n for n in nodes if n is not None]


def _remove_with_companions(scene, node) -> None:
    """Remove a node and what belongs to it."""
    if node.GetScene() is None:
        return
    companions = _companions(node)
    # Its item first, as the application does; without it the hierarchy would keep an item of a node that is gone.
    hierarchy_node = hierarchy.hierarchy_of(scene)
    item = hierarchy_node.GetItemByDataNode(node)
    if item != hierarchy_node.GetInvalidItemID():
        hierarchy_node.RemoveItem(item, False, False)
    scene.RemoveNode(node)
    for companion in companions:
        if companion.GetScene() is not None:
            scene.RemoveNode(companion)


def _shows(composite, run: Run) -> bool:
    """Whether a slice view shows a volume of the run."""
    for node_id in (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()):
        node = run.scene.GetNodeByID(node_id) if node_id else None
        if node is not None and node.GetAttribute(RUN_ATTRIBUTE) == run.run_id:
            return True
    return False


def _folders(hierarchy_node, run_id: str) -> list[int]:
    """The folders of a run."""
    items = hierarchy.all_items(hierarchy_node.GetScene())
    return [i for i in items if hierarchy_node.GetItemAttribute(i, RUN_ATTRIBUTE) == run_id]


def _keep_foreign_items(hierarchy_node, folder: int, run_id: str) -> None:
    """Move items of nodes that are not the run's out of its folder."""
    for item in hierarchy.all_items(hierarchy_node.GetScene(), folder):
        node = hierarchy_node.GetItemDataNode(item)
        if node is not None and not node.IsA("vtkMRMLFolderDisplayNode") and node.GetAttribute(RUN_ATTRIBUTE) != run_id:
            hierarchy_node.SetItemParent(item, hierarchy_node.GetSceneItemID())

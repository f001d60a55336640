"""The subject-hierarchy folder of a run."""

from __future__ import annotations

import slicer

from .attributes import JOB_ATTRIBUTE, RUN_ATTRIBUTE

# The application's plugins by their names; a scene written without them opens with the right icons and menus.
_OWNERS = {
    "vtkMRMLScalarVolumeNode": "Volumes",
    "vtkMRMLLabelMapVolumeNode": "Volumes",
    "vtkMRMLSegmentationNode": "Segmentations",
    "vtkMRMLTableNode": "Tables",
    "vtkMRMLGridTransformNode": "Transforms",
    "vtkMRMLModelNode": "Models",
}


def hierarchy_of(scene):
    """The scene's subject hierarchy, created when it has none."""
    return slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(scene)


def all_items(scene, below: int | None = None) -> list[int]:
    """The identifiers of all items of a scene, or of all below one of them."""
    import vtk

    hierarchy, ids = hierarchy_of(scene), vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID() if below is None else below, ids, True)
    return [ids.GetId(index) for index in range(ids.GetNumberOfIds())]


def add_run_folder(scene, name: str, run_id: str, job: str) -> int:
    """A folder at the top level, marked with its run and the job that made it."""
    hierarchy = hierarchy_of(scene)
    item = _add_folder(hierarchy, hierarchy.GetSceneItemID(), name)
    hierarchy.SetItemAttribute(item, RUN_ATTRIBUTE, run_id)
    hierarchy.SetItemAttribute(item, JOB_ATTRIBUTE, job)
    return item


def collapsed_folder(scene, name: str, parent: int) -> int:
    """The folder of that name in another one; made, and collapsed, when it is not there yet."""
    hierarchy = hierarchy_of(scene)
    item = hierarchy.GetItemChildWithName(parent, name)
    if item == hierarchy.GetInvalidItemID():
        item = _add_folder(hierarchy, parent, name)
        hierarchy.SetItemExpanded(item, False)
    return item


def _add_folder(hierarchy, parent: int, name: str) -> int:
    item = hierarchy.CreateFolderItem(parent, name)
    hierarchy.SetItemOwnerPluginName(item, "Folder")
    return item


def run_folders(scene) -> dict[str, tuple[int, str]]:
    """Run identifier -> (its folder, the job that is written on it; empty in scenes of older versions)."""
    hierarchy, found = hierarchy_of(scene), {}
    for item in all_items(scene):
        run = hierarchy.GetItemAttribute(item, RUN_ATTRIBUTE)
        if run and hierarchy.GetItemDataNode(item) is None:
            found[run] = item, hierarchy.GetItemAttribute(item, JOB_ATTRIBUTE)
    return found


def put_into_folder(scene, node, folder: int) -> None:
    """Move a node's item into a folder; it is created where the application has not done so already."""
    hierarchy = hierarchy_of(scene)
    item = hierarchy.GetItemByDataNode(node)
    if item == hierarchy.GetInvalidItemID():
        hierarchy.CreateItem(folder, node, _OWNERS.get(node.GetClassName()))
    else:
        hierarchy.SetItemParent(item, folder)


def unique_name(scene, name: str) -> str:
    """`name`, or `name (2)` and so on when a folder of that name is there already."""
    hierarchy = hierarchy_of(scene)
    candidate, number = name, 2
    while hierarchy.GetItemChildWithName(hierarchy.GetSceneItemID(), candidate) != hierarchy.GetInvalidItemID():
        candidate, number = f"{name} ({number})", number + 1
    return candidate

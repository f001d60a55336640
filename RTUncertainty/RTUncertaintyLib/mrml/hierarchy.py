"""The subject-hierarchy folder of a run."""

from __future__ import annotations

import slicer

from ..runs.run import RUN_ATTRIBUTE

# The application's plugins by their names; a scene written without them opens with the right icons and menus.
_OWNERS = {"vtkMRMLScalarVolumeNode": "Volumes", "vtkMRMLLabelMapVolumeNode": "Volumes",
           "vtkMRMLSegmentationNode": "Segmentations", "vtkMRMLTableNode": "Tables", "vtkMRMLGridTransformNode": "Transforms", "vtkMRMLModelNode": "Models"}


def hierarchy_of(scene):
    """The scene's subject hierarchy, created when it has none."""
    return slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(scene)


def add_folder(scene, name: str, run_id: str, parent: int | None = None) -> int:
    """A folder in the subject hierarchy, marked with its run; top level unless `parent` is given."""
    hierarchy = hierarchy_of(scene)
    item = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID() if parent is None else parent, name)
    hierarchy.SetItemOwnerPluginName(item, "Folder")
    if parent is None:
        hierarchy.SetItemAttribute(item, RUN_ATTRIBUTE, run_id)
    return item


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

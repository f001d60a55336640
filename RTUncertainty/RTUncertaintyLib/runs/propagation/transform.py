"""The deformation as a transform node: loading it, putting planning data under it, and taking them out again."""

from __future__ import annotations

from pathlib import Path

from rtuncertainty.core.errors import InputError

from ...mrml.attributes import RUN_ATTRIBUTE, nodes_by_class


class CannotMove(ValueError):
    """The node cannot be moved by the deformation; the message names it, says why and what to do."""


def add_transform(scene, file: Path, name: str):
    """A grid transform node that moves planning nodes onto the daily scan.

    The file maps points of the daily to the planning CT, as ITK resamples; Slicer reads that as the transform from
    parent. Raises `InputError` when it cannot be read as one displacement field.
    """
    node = scene.AddNewNodeByClass("vtkMRMLGridTransformNode", name)
    storage = scene.AddNewNodeByClass("vtkMRMLTransformStorageNode")
    storage.SetFileName(str(file))
    if not storage.ReadData(node):
        raise InputError(f"{file}: cannot be read as a transform; it is damaged or no transform file.")
    # No link to the file: the scene keeps the data, and the result folder may be temporary.
    scene.RemoveNode(storage)
    if node.GetTransformFromParentAs("vtkOrientedGridTransform", False, False) is None:
        raise InputError(f"{file}: holds no single displacement field; run the model again.")
    return node


def apply_deformation(run, node) -> None:
    """Put a node (a dose, a segmentation, a model) that lies on the planning CT under the deformation: it moves onto
    the daily scan.

    Raises `CannotMove` for the run's own nodes, the daily CT, and for a node that lies under another transform.
    """
    reason = reason_not_to_move(run, node)
    if reason:
        raise CannotMove(reason)
    node.SetAndObserveTransformNodeID(run.transform.GetID())


def undo_deformation(run, node) -> None:
    """Take a node out of the deformation: it lies on the planning CT again. Does nothing to a node that is not under
    it.
    """
    if node.GetParentTransformNode() is run.transform:
        node.SetAndObserveTransformNodeID(None)


def deformed_nodes(run) -> list:
    """The nodes under the deformation."""
    if run.transform is None or run.transform.GetScene() is None:
        return []
    return [
        n for n in nodes_by_class(run.scene, "vtkMRMLTransformableNode") if n.GetParentTransformNode() is run.transform
    ]


def reason_not_to_move(run, node) -> str:
    """Why `apply_deformation` refuses a node, in one sentence; empty when it does not."""
    name, parent = node.GetName(), node.GetParentTransformNode()
    if run.transform is None or run.transform.GetScene() is None:
        return "The deformation was deleted from the scene, or the model gives none: run again, or with another model."
    if not node.CanApplyNonLinearTransforms():
        return f"{name} cannot be deformed: choose a volume, a segmentation or a model that lies on the planning CT."
    if node is run.input:
        return f"{name} is the daily CT: choose what lies on the planning CT, such as its dose."
    if node.GetAttribute(RUN_ATTRIBUTE) == run.run_id:
        return f"{name} is a result of this run and lies on the daily scan already."
    if parent is not None and parent is not run.transform:
        return (
            f"{name} lies under the transform {parent.GetName()}: harden it (Data module, right click, Harden "
            "transform), then apply again."
        )
    return ""

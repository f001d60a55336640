"""The accepted contours: one clean segmentation of the path that was chosen for each structure."""

from __future__ import annotations

import slicer
import vtk

from ...mrml import propagation_style
from ...mrml.segmentation import segment_id
from ..run import Run

PATH_TAG = "RTUncertainty.Path"
"""Tag of an accepted segment: the path that it came from."""


def accept_structures(run: Run, paths: dict[str, str] | None = None):
    """Build the segmentation of accepted contours, or bring it up to date; returns its node.

    `paths` maps a structure's name to 'propagated' or 'segmented'; structures that it does not name take the model's
    proposal. A contour that was accepted before by the same path is left as it is, so that corrections by hand stay;
    one whose path changed is replaced, one that was deleted comes back. Raises `ValueError` for a structure or path
    that there is not.
    """
    chosen = {name: (paths or {}).get(name, run.default_path(name)) for name in run.names}
    for name, path in {**(paths or {}), **chosen}.items():
        if name not in chosen or path not in run.paths(name):
            raise ValueError(
                f"{name} has no contour '{path}'; it has {', '.join(run.paths(name)) if name in chosen else 'none'}."
            )
    run.scene.StartState(run.scene.BatchProcessState)
    try:
        node = run.segmentations.get("accepted")
        if node is None or node.GetScene() is not run.scene:
            node = run.segmentations["accepted"] = _new_node(run)
        for name, path in chosen.items():
            if accepted_path(node, name) != path:
                _replace(node, run.segmentations[path], name, path)
        slicer.vtkSlicerSegmentationsModuleLogic.CollapseBinaryLabelmaps(node, False)
        if run.segmentations["propagated"].GetSegmentation().ContainsRepresentation("Closed surface"):
            node.CreateClosedSurfaceRepresentation()
    finally:
        run.scene.EndState(run.scene.BatchProcessState)
    return node


def accepted_paths(run: Run) -> dict[str, str]:
    """The path of every accepted contour; empty before anything was accepted."""
    node = run.segmentations.get("accepted")
    if node is None or node.GetScene() is not run.scene:
        return {}
    return {name: path for name in run.names if (path := accepted_path(node, name))}


def accepted_path(node, name: str) -> str:
    """The path that an accepted segment came from; empty when there is no such segment."""
    identifier, value = segment_id(node, name), vtk.reference("")
    if not identifier or not node.GetSegmentation().GetSegment(identifier).GetTag(PATH_TAG, value):
        return ""
    return str(value)


def _new_node(run: Run):
    """An empty segmentation in the run's folder, on the grid of the daily CT."""
    of = run.input or run.warped
    node = run.scene.AddNewNodeByClass(
        "vtkMRMLSegmentationNode", run.scene.GenerateUniqueName(f"{of.GetName()} accepted structures")
    )
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(of)
    propagation_style.dress(node, "accepted")
    return run.add(node, "segmentation.accepted")


def _replace(node, source, name: str, path: str) -> None:
    """Copy a segment, names, colour and codes with it, in place of the one of that name; its place in the list
    stays.
    """
    segmentation, identifier = node.GetSegmentation(), segment_id(source, name)
    before = segmentation.GetSegmentIndex(segment_id(node, name)) if segment_id(node, name) else -1
    if before >= 0:
        segmentation.RemoveSegment(segment_id(node, name))
    segmentation.CopySegmentFromSegmentation(source.GetSegmentation(), identifier)
    copy = segment_id(node, name)
    segmentation.GetSegment(copy).SetTag(PATH_TAG, path)
    if before >= 0:
        segmentation.SetSegmentIndex(copy, before)

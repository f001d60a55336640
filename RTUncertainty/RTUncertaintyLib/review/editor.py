"""Opening the Segment Editor on a structure of a run."""

from __future__ import annotations

import slicer
import slicer.util

from ..widgets.text import _


def edit(run, name: str) -> str:
    """Switch to the Segment Editor with the structure's segment chosen; returns what speaks against it, empty when it is open."""
    node = editable(run, name)
    if node is None:
        return _("{name} has no contour in the scene to edit.").format(name=name)
    if getattr(slicer.modules, "segmenteditor", None) is None:
        return _("The Segment Editor is not there: it needs the Slicer application with its main window.")
    try:
        slicer.util.selectModule("SegmentEditor")
    except RuntimeError as error:  # no main window
        return _("The Segment Editor cannot be opened: {error}").format(error=error)
    editor = slicer.modules.SegmentEditorWidget.editor
    editor.setSegmentationNode(node)
    image = run.input if run.input is not None and run.input.GetScene() is run.scene else run.main
    if image is not None and image.IsA("vtkMRMLScalarVolumeNode"):
        editor.setSourceVolumeNode(image)
    editor.setCurrentSegmentID(node.GetSegmentation().GetSegmentIdBySegmentName(name))
    return ""


def editable(run, name: str):
    """The segmentation in which a structure is corrected: of a propagation the accepted contours, else those of the proposed path."""
    candidates = [run.main_segmentation]
    if hasattr(run, "segmentations"):
        path = run.default_path(name) if "structure_table" in run.tables and name in run.names else "propagated"
        candidates = [run.segmentations.get("accepted"), run.segmentations.get(path), run.main_segmentation]
    for node in candidates:
        if node is not None and node.GetScene() is run.scene and node.GetSegmentation().GetSegmentIdBySegmentName(name):
            return node
    return None

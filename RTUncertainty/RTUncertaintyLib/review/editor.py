"""Opening the Segment Editor on a structure of a run."""

from __future__ import annotations

import slicer
import slicer.util

from ..widgets.text import _


def edit(run, name: str) -> str:
    """Switch to the Segment Editor with the structure's segment chosen; returns what speaks against it, empty when
    it is open.
    """
    node, _sampled = run.contour(name)
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

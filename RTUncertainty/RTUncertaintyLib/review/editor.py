"""Handing a structure of a run to the Segment Editor, and telling an edit from a look.

Edited is what differs from what was handed over: a digest of the structure's voxels is kept on the segmentation.
"""

from __future__ import annotations

import hashlib
import json

import slicer
import slicer.util
import vtk

from ..mrml.attributes import HANDED_ATTRIBUTE
from ..mrml.segmentation import segment_id, voxels_of
from ..runs.layout import segmentations_of
from ..widgets.text import _
from .decisions import decide


def edit(run, name: str, comment: str = "", reviewer: str = "") -> str:
    """Switch to the Segment Editor with the structure's segment chosen and on show; returns what speaks against it,
    empty when it is open. `comment` and `reviewer` are for the decision, should anything be edited.
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
    hand_over(run, node, name, comment, reviewer)
    editor = slicer.modules.SegmentEditorWidget.editor
    editor.setSegmentationNode(node)
    image = run.input if run.input is not None and run.input.GetScene() is run.scene else run.main
    if image is not None and image.IsA("vtkMRMLScalarVolumeNode"):
        editor.setSourceVolumeNode(image)
    editor.setCurrentSegmentID(segment_id(node, name))
    return ""


def hand_over(run, node, name: str, comment: str = "", reviewer: str = "") -> None:
    """Put a structure on show alone among the run's sets of contours, and keep what it looks like now."""
    for other in segmentations_of(run):
        display = other.GetDisplayNode()
        if display is not None:
            display.SetVisibility(other is node)
    if node.GetDisplayNode() is not None:
        node.GetDisplayNode().SetSegmentVisibility(segment_id(node, name), True)
    given = handed(node)
    given.setdefault(name, {"digest": digest(node, name)})
    given[name] |= {"comment": comment, "reviewer": reviewer}
    node.SetAttribute(HANDED_ATTRIBUTE, json.dumps(given))


def settle_edits(run) -> list[str]:
    """Write the decision "edited" for every structure that differs from what was handed over; returns their names."""
    found = []
    for node in segmentations_of(run):
        given = handed(node)
        for name in [n for n, what in given.items() if digest(node, n) != what["digest"]]:
            what = given.pop(name)
            decide(run, name, "edited", what.get("comment", ""), what.get("reviewer", ""))
            found.append(name)
        if found:
            node.SetAttribute(HANDED_ATTRIBUTE, json.dumps(given))
    return found


def handed(node) -> dict[str, dict]:
    """What is kept of a segmentation's structures that were handed over and not edited yet."""
    try:
        found = json.loads(node.GetAttribute(HANDED_ATTRIBUTE) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def digest(node, name: str) -> str:
    """A digest of where a structure's voxels lie (RAS, to a hundredth of a millimetre)."""
    points = (voxels_of(node, name, vtk.vtkMatrix4x4()) * 100).round().astype("<i8")
    return hashlib.sha256(points.tobytes()).hexdigest()

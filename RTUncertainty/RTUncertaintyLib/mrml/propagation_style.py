"""How the contours of a propagation look: three sets of outlines that stay apart on one slice, whatever their colours.

A structure has one colour in every set. The propagated contour is a thick line, the directly segmented one a light
area, the planning contour (where it was drawn) a thin, faint line; the accepted one is a thick line around a light
area.
"""

from __future__ import annotations

from dataclasses import dataclass

WINDOW = (-160.0, 240.0)
"""HU; soft tissue, the window in which contours are judged."""


@dataclass(frozen=True)
class Style:
    """Opacity of line and area (0: none) and width of the line in pixels, in the slice views; whether it shows in
    3-D.
    """

    line: float
    width: int
    area: float
    in_3d: bool


STYLES = {
    "propagated": Style(1.0, 3, 0.0, True),
    "segmented": Style(0.35, 1, 0.3, False),
    "planning": Style(0.6, 1, 0.0, False),
    "accepted": Style(1.0, 3, 0.15, True),
}


def dress(node, key: str) -> None:
    """Give a segmentation node the look of `STYLES[key]`."""
    style, display = STYLES[key], node.GetDisplayNode()
    display.SetVisibility2DOutline(style.line > 0)
    display.SetOpacity2DOutline(style.line)
    display.SetVisibility2DFill(style.area > 0)
    display.SetOpacity2DFill(style.area)
    display.SetSliceIntersectionThickness(style.width)
    display.SetVisibility3D(style.in_3d)


def copy_outlines(scene, structures, known: list[dict], name: str):
    """A copy of the planning structures for display, where they were drawn, so that the user's own node keeps its look.

    `known` are the structures of the summary: their colours are taken over, and others are left out.
    """
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.GetSegmentation().DeepCopy(structures.GetSegmentation())
    if structures.GetParentTransformNode() is not None:
        node.SetAndObserveTransformNodeID(structures.GetParentTransformNode().GetID())
    node.CreateDefaultDisplayNodes()
    segmentation, by_name = node.GetSegmentation(), {s.get("planning_name") or s["name"]: s for s in known}
    for identifier in list(segmentation.GetSegmentIDs()):
        structure = by_name.get(segmentation.GetSegment(identifier).GetName())
        if structure is None:
            segmentation.RemoveSegment(identifier)
        else:
            segmentation.GetSegment(identifier).SetColor(*(c / 255.0 for c in structure["color"]))
    dress(node, "planning")
    return node

"""The views around a run: 3-D surfaces, the 3-D view's camera, the layout, and whose contours are in the views."""

from __future__ import annotations

import math

import numpy as np
import slicer

from ..mrml.attributes import RUN_ATTRIBUTE, nodes_by_class
from ..widgets.text import _
from .run import Run

BEFORE_PLOT = "RTUncertainty.LayoutBeforePlot"
"""Of the layout node: the arrangement that a plot took the place of."""
VIEW_ANGLE = 30.0
"""Degrees; of Slicer's 3-D cameras."""


def layouts() -> dict[int, str]:
    """The layouts that panels offer: arrangement of `vtkMRMLLayoutNode` -> how they call it."""
    node = slicer.vtkMRMLLayoutNode
    return {
        node.SlicerLayoutFourUpView: _("Four views"),
        node.SlicerLayoutConventionalView: _("3-D above slices"),
        node.SlicerLayoutOneUpRedSliceView: _("Axial alone"),
        node.SlicerLayoutOneUp3DView: _("3-D alone"),
        node.SlicerLayoutFourUpPlotView: _("With a plot"),
    }


def layout_of(scene) -> int | None:
    """The arrangement of the views; None without views."""
    node = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    return node.GetViewArrangement() if node is not None else None


def set_layout(scene, arrangement: int) -> None:
    """Arrange the views; what was kept from before a plot is forgotten."""
    node = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if node is not None:
        node.RemoveAttribute(BEFORE_PLOT)
        node.SetViewArrangement(arrangement)


def before_plot(scene) -> None:
    """Remember the arrangement, which a plot is about to change."""
    node = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if node is not None and not node.GetAttribute(BEFORE_PLOT):
        node.SetAttribute(BEFORE_PLOT, str(node.GetViewArrangement()))


def leave_plot(scene) -> None:
    """Bring back the arrangement that there was before a plot: another run has no use for an empty plot view."""
    node = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    kept = node.GetAttribute(BEFORE_PLOT) if node is not None else None
    if kept:
        set_layout(scene, int(kept))


def segmentations_of(run: Run) -> list:
    """The segmentation nodes that a run owns, and the user's own that it reviews."""
    own = [
        n for n in nodes_by_class(run.scene, "vtkMRMLSegmentationNode") if n.GetAttribute(RUN_ATTRIBUTE) == run.run_id
    ]
    main = run.main_segmentation
    return own + [main] * (main is not None and main.GetScene() is run.scene and main not in own)


def shown_3d(run: Run) -> bool:
    """Whether any of the run's contours is a surface in the 3-D views."""
    return any(n.GetDisplayNode() is not None and n.GetDisplayNode().GetVisibility3D() for n in segmentations_of(run))


def show_3d(run: Run, visible: bool) -> None:
    """Show the run's contours as surfaces, made where they are not there yet, or take them from the 3-D views."""
    for node in segmentations_of(run):
        if visible:
            node.CreateClosedSurfaceRepresentation()
        if node.GetDisplayNode() is not None:
            node.GetDisplayNode().SetVisibility3D(visible)


def bounds_of(run: Run) -> np.ndarray | None:
    """Where the run's contours lie (RAS, mm; [3, 2]), else its main image; None when there is nothing."""
    found = []
    for node in [n for n in segmentations_of(run) if n.GetDisplayNode() is None or n.GetDisplayNode().GetVisibility()]:
        found.append(_bounds(node))
    if not any(b is not None for b in found):
        found = [_bounds(run.main)] if run.main is not None else []
    found = [b for b in found if b is not None]
    if not found:
        return None
    return np.stack([np.min([b[:, 0] for b in found], axis=0), np.max([b[:, 1] for b in found], axis=0)], 1)


def centre_3d(run: Run) -> None:
    """Turn every 3-D view's camera to the run's contours, from the side on which it stands, so that they fill the
    view.
    """
    bounds = bounds_of(run)
    if bounds is None:
        return
    middle, radius = bounds.mean(1), max(float(np.linalg.norm(bounds[:, 1] - bounds[:, 0])) / 2, 1.0)
    for camera in nodes_by_class(run.scene, "vtkMRMLCameraNode"):
        from_there = np.array(camera.GetPosition()) - np.array(camera.GetFocalPoint())
        length = float(np.linalg.norm(from_there))
        direction = from_there / length if length > 0 else np.array([0.0, 1.0, 0.0])
        was = camera.StartModify()
        camera.SetFocalPoint(*middle)
        camera.SetPosition(*(middle + direction * radius / math.sin(math.radians(VIEW_ANGLE / 2))))
        camera.EndModify(was)
        camera.ResetClippingRange()


def hide_other_runs(run: Run) -> None:
    """Take the contours of the other runs from the views: two patients' structures are never on show together."""
    for node in nodes_by_class(run.scene, "vtkMRMLSegmentationNode"):
        other = node.GetAttribute(RUN_ATTRIBUTE)
        if other and other != run.run_id and node.GetDisplayNode() is not None:
            node.GetDisplayNode().SetVisibility(False)


def in_views(run: Run) -> bool:
    """Whether the slice views show an image of the run, or that it is of, or nothing at all."""
    own = [run.main, run.input, run.ct, getattr(run, "planning", None)]
    known = {n.GetID() for n in own if n is not None and n.GetScene() is run.scene}
    shown = {c.GetBackgroundVolumeID() for c in nodes_by_class(run.scene, "vtkMRMLSliceCompositeNode")} - {None}
    return not shown or bool(shown & known)


def _bounds(node) -> np.ndarray | None:
    values = [0.0, -1.0] * 3
    node.GetRASBounds(values)
    bounds = np.array(values).reshape(3, 2)
    return bounds if (bounds[:, 1] >= bounds[:, 0]).all() and np.isfinite(bounds).all() else None

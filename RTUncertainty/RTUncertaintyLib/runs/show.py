"""Showing a run: background, one overlay and its legend in all slice views."""

from __future__ import annotations

import slicer

from ..mrml.attributes import MAP_ATTRIBUTE, RUN_ATTRIBUTE, nodes_by_class
from . import layout, overlays
from .run import Run

OPACITY = 0.6
NO_MAP = "none"


def show_result(
    run: Run, overlay: str | None = "predictive", opacity: float = OPACITY, background: str = "synct"
) -> None:
    """Show a run in all slice views of its scene, linked: `background` below, `overlay` (a key or None) at `opacity`.

    `background` is 'synct' or 'input' (whichever of the two the run has, where it has only one; what is shown stays
    where it has none). `overlay` is left out where the run has no such map: a model that only segments shows its
    entropy instead. A view is fitted only when it showed nothing before, so that the user's zoom stays. Without slice
    views nothing but the legend changes.
    """
    if not run.exists():
        return
    has_input = run.input is not None and run.input.GetScene() is run.scene
    volume = run.input if has_input and (background == "input" or run.synct is None) else run.synct
    if overlay == "predictive" and overlay not in run.overlays:
        overlay = next(iter(run.overlays), None)
    first = run.main.GetAttribute(MAP_ATTRIBUTE) is None
    layout.leave_plot(run.scene)
    run.scene.StartState(run.scene.BatchProcessState)
    try:
        composites = nodes_by_class(run.scene, "vtkMRMLSliceCompositeNode")
        empty = [c for c in composites if not c.GetBackgroundVolumeID()]
        for composite in composites:
            composite.SetLinkedControl(True)
            composite.SetHotLinkedControl(True)
            if volume is not None:
                composite.SetBackgroundVolumeID(volume.GetID())
            composite.SetForegroundOpacity(opacity)
        if volume is not None:
            select_volume(run, volume)
        show_overlay(run, overlay)
        show_contours_of(run)
    finally:
        run.scene.EndState(run.scene.BatchProcessState)
    fit_application_views(run.scene, [c.GetLayoutName() for c in empty])
    if first:
        layout.centre_3d(run)


def show_contours_of(run: Run) -> None:
    """Let the run's own contours be on show, and those of no other run."""
    layout.hide_other_runs(run)
    node = run.main_segmentation
    display = node.GetDisplayNode() if node is not None and node.GetScene() is run.scene else None
    if display is None or node.GetAttribute(RUN_ATTRIBUTE) != run.run_id:
        return
    display.SetVisibility(True)
    names = [node.GetSegmentation().GetNthSegmentID(i) for i in range(node.GetSegmentation().GetNumberOfSegments())]
    if not any(display.GetSegmentVisibility(name) for name in names):
        display.SetAllSegmentsVisibility(True)  # a segmentation without a visible segment is of no use


def show_overlay(run: Run, key: str | None) -> None:
    """Put an overlay in front of the slice views' background, None for none. Exactly its legend is visible then.

    Raises `KeyError` for a key that the run does not have (z-score and error need a reference CT).
    """
    volume = run.overlays[key] if key else None
    if not run.exists():
        return
    for composite in nodes_by_class(run.scene, "vtkMRMLSliceCompositeNode"):
        composite.SetForegroundVolumeID(volume.GetID() if volume is not None else None)
        if volume is not None and composite.GetForegroundOpacity() == 0.0:
            composite.SetForegroundOpacity(OPACITY)
    overlays.show_legends(run.scene, volume)
    run.main.SetAttribute(MAP_ATTRIBUTE, key or NO_MAP)


def shown_overlay(run: Run) -> str | None:
    """The key of the overlay whose legend is visible, None when there is none."""
    for key in run.overlays:
        legend = run.legend(key)
        if legend is not None and legend.GetVisibility():
            return key
    return None


def chosen_overlay(run: Run) -> str | None:
    """The overlay that was chosen for a run, kept in its scene: a key, empty for none, None before any was chosen."""
    kept = run.main.GetAttribute(MAP_ATTRIBUTE) if run.main is not None else None
    if kept == NO_MAP:
        return ""
    return kept if kept in run.overlays else None


def set_overlay_threshold(run: Run, key: str, lower: float) -> None:
    """Make an overlay transparent below `lower` (for error and z-score: between -lower and lower), in its own unit."""
    overlays.apply_threshold(run.overlays[key], overlays.OVERLAYS[key], lower)


def overlay_threshold(run: Run, key: str) -> float:
    """The lower limit of an overlay in its own unit."""
    return float(run.overlays[key].GetAttribute(overlays.LOWER_ATTRIBUTE))


def overlay_range(run: Run, key: str) -> tuple[float, str]:
    """Upper end of an overlay's colours (of a signed one: from its middle), and its unit (empty for a number)."""
    overlay = overlays.OVERLAYS[key]
    return run.overlays[key].GetDisplayNode().GetWindowLevelMax() - overlay.middle, overlay.unit


def select_volume(run: Run, volume) -> None:
    """Make the volume the active one, as loading it by hand would."""
    selection = run.scene.GetNodeByID("vtkMRMLSelectionNodeSingleton")
    if selection is not None:
        selection.SetActiveVolumeID(volume.GetID())
        if run.tables:
            selection.SetActiveTableID(next(iter(run.tables.values())).GetID())


def fit_application_views(scene, layout_names: list[str]) -> None:
    """Fit the named slice views of the application to what they show."""
    application = getattr(slicer, "app", None)
    if application is None or not layout_names or scene is not slicer.mrmlScene:
        return
    logics = application.applicationLogic().GetSliceLogics()
    for index in range(logics.GetNumberOfItems() if logics else 0):
        logic = logics.GetItemAsObject(index)
        if logic.GetSliceNode() and logic.GetSliceNode().GetLayoutName() in layout_names:
            logic.FitSliceToBackground()

"""Showing a propagation: blending planning, warped and daily CT, overlays, contours, and the worst slice of a
structure.
"""

from __future__ import annotations

import numpy as np
import vtk

from ...mrml import propagation_style
from ...mrml.attributes import HIDDEN_ATTRIBUTE, MAP_ATTRIBUTE, nodes_by_class
from ...mrml.segmentation import voxels_of
from ...mrml.volumes import show_as_ct
from .. import layout, overlays
from ..run import Run
from ..show import NO_MAP, OPACITY, fit_application_views, select_volume

PLANNING, WARPED, DAILY = 0.0, 1.0, 2.0
"""Stops of the blend."""


def show_propagation(run: Run, blend: float = DAILY) -> None:
    """Show a run in all slice views of its scene, linked: the daily CT with the contours of both paths over it.

    CTs whose window is automatic get the one that the warped planning CT has, so that a blend compares tissue and not
    windows. The planning structures' own display goes off while their thin outlines are on. A view is fitted only when
    it showed nothing before, so that the user's zoom stays.
    """
    if not run.exists():
        return
    first = run.main.GetAttribute(MAP_ATTRIBUTE) is None
    layout.leave_plot(run.scene)
    run.scene.StartState(run.scene.BatchProcessState)
    try:
        composites = nodes_by_class(run.scene, "vtkMRMLSliceCompositeNode")
        empty = [c for c in composites if not c.GetBackgroundVolumeID()]
        for composite in composites:
            composite.SetLinkedControl(True)
            composite.SetHotLinkedControl(True)
        _match_windows(run)
        structures = run.planning_structures
        if run.outlines is not None and structures is not None and structures.GetDisplayNode() is not None:
            if structures.GetDisplayNode().GetVisibility():
                structures.GetDisplayNode().SetVisibility(False)
                run.outlines.SetAttribute(HIDDEN_ATTRIBUTE, "1")
        layout.hide_other_runs(run)
        if first or not any(contours_visible(run, key) for key in contour_sets(run)):
            for key in contour_sets(run):
                show_contours(run, key, key != "accepted")
        show_blend(run, blend)
        select_volume(run, run.input or run.warped)
    finally:
        run.scene.EndState(run.scene.BatchProcessState)
    fit_application_views(run.scene, [c.GetLayoutName() for c in empty])
    if first:
        layout.centre_3d(run)


def blend_images(run: Run) -> dict[float, object]:
    """The stops of the blend that have an image in the scene: stop -> volume node."""
    found = {PLANNING: run.planning, WARPED: run.warped, DAILY: run.input}
    return {stop: node for stop, node in found.items() if node is not None and node.GetScene() is run.scene}


def show_blend(run: Run, position: float, overlay: str | None = None) -> None:
    """Show the CT at `position` (0 planning, 1 warped planning, 2 daily; between two stops they are blended) in all
    slice views.

    With an `overlay` (a key of the run's overlays), the CT at the nearest stop lies below it, because a view shows two
    images. Exactly the legend of that overlay is visible. Stops whose image is not in the scene are skipped.
    """
    if not run.exists():
        return
    stops = blend_images(run)
    position = min(max(position, min(stops)), max(stops))
    if overlay is not None:
        nearest = min(stops, key=lambda stop: abs(stop - position))
        background, foreground, opacity = stops[nearest], run.overlays[overlay], OPACITY
    else:
        below = max(stop for stop in stops if stop <= position)
        above = min((stop for stop in stops if stop > below), default=below)
        background, foreground = stops[below], stops[above] if above > below else None
        opacity = (position - below) / (above - below) if above > below else 0.0
        if opacity == 0.0:
            foreground = None  # a view shows nothing through an image of no opacity, but still names it
    for composite in nodes_by_class(run.scene, "vtkMRMLSliceCompositeNode"):
        composite.SetBackgroundVolumeID(background.GetID())
        composite.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
        composite.SetForegroundOpacity(opacity)
    overlays.show_legends(run.scene, run.overlays[overlay] if overlay is not None else None)
    run.main.SetAttribute(MAP_ATTRIBUTE, overlay or NO_MAP)


def contour_sets(run: Run) -> dict[str, object]:
    """The sets of contours that can be shown: 'propagated', 'segmented', 'planning', 'accepted' -> segmentation
    node.
    """
    found = {
        **{key: run.segmentations.get(key) for key in ("propagated", "segmented")},
        "planning": run.outlines,
        "accepted": run.segmentations.get("accepted"),
    }
    return {key: node for key, node in found.items() if node is not None and node.GetScene() is run.scene}


def show_contours(run: Run, key: str, visible: bool) -> None:
    """Show or hide a set of contours, see `contour_sets`; does nothing for one that is not there."""
    node = contour_sets(run).get(key)
    if node is not None and node.GetDisplayNode() is not None:
        node.GetDisplayNode().SetVisibility(visible)


def contours_visible(run: Run, key: str) -> bool:
    """Whether a set of contours is shown."""
    node = contour_sets(run).get(key)
    return node is not None and node.GetDisplayNode() is not None and bool(node.GetDisplayNode().GetVisibility())


def jump_to_structure(run: Run, name: str) -> np.ndarray | None:
    """Centre all slice views on a structure in its worst slice; returns the point (RAS, mm), None when it is nowhere.

    The worst slice is the one of the daily scan in which the two paths differ most or, with one path, the spread is
    largest.
    """
    point = worst_point(run, name)
    if point is not None:
        for node in nodes_by_class(run.scene, "vtkMRMLSliceNode"):
            node.JumpSliceByCentering(*point)
    return point


def worst_point(run: Run, name: str) -> np.ndarray | None:
    """The centre (RAS, mm) of a structure, of all its paths together, in its worst slice; else of its nearest slice."""
    world_to_ijk, ijk_to_world = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    run.warped.GetRASToIJKMatrix(world_to_ijk)
    run.warped.GetIJKToRASMatrix(ijk_to_world)
    voxels = [voxels_of(run.segmentations[path], name, world_to_ijk) for path in run.paths(name)]
    voxels = np.concatenate([v for v in voxels if len(v)] or [np.zeros((0, 3))])
    if not len(voxels):
        return None
    slices = np.round(voxels[:, 2])
    wanted = run.worst_slice(name)
    wanted = np.median(slices) if wanted is None else wanted
    nearest = slices[np.abs(slices - wanted).argmin()]
    low, high = (getattr(voxels[slices == nearest], side)(axis=0) for side in ("min", "max"))
    return np.array(ijk_to_world.MultiplyPoint((*(low + high) / 2, 1.0))[:3])


def _match_windows(run: Run) -> None:
    """One window for all three CTs where the user has set none."""
    for node in blend_images(run).values():
        display = node.GetDisplayNode()
        if display is not None and display.GetAutoWindowLevel():
            show_as_ct(node, propagation_style.WINDOW)

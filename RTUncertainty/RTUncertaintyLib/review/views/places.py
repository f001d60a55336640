"""Where a structure is least certain, and showing a place in all views."""

from __future__ import annotations

import numpy as np
import slicer.util
import vtk

from ...mrml.attributes import RUN_ATTRIBUTE, nodes_by_class
from ...mrml.segmentation import mask_on, voxels_of
from ...runs.inside import inside_of, percent_of
from ...runs.run import Run

ENTROPIES = ("entropy", "segmented_entropy", "predictive", "displacement_sd")
"""Maps that tell where a structure is uncertain when nothing else does, the first that a run has."""

FILLED, LEAST_MM = 0.5, 40.0
"""Share of a view that a structure fills when it is zoomed to, and the smallest structure that is zoomed to so."""
CENTRAL = 0.6
"""Share of a view's width and height that counts as its middle part."""


def uncertain_point(run: Run, name: str) -> np.ndarray | None:
    """The centre (RAS, mm) of a structure in the axial slice in which its contour is least certain; None when it is
    nowhere.

    Least certain is the slice with the largest sum of q(1 − q), q being the share of samples in which a voxel lies
    inside; else the worst slice that a propagation names; else the one in which a map of uncertainty is largest over
    the structure.
    """
    node = inside_of(run, name)
    if node is not None:
        share = percent_of(node).astype(np.float32) / 100
        large, contour = (
            share > 0.05,
            share > 0.5,
        )  # what lies outside of the large contour is another structure's doubt
        uncertainty = share * (1 - share) * large
        if large.any():
            return _in_slice(node, uncertainty if uncertainty.any() else share, contour if contour.any() else large)
    point = run.worst_point(name)
    return _from_map(run, name) if point is None else point


def _in_slice(node, weight: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The centre of `shown` in the slice, along the image axis nearest to the patient's, in which `weight` sums up
    to most.
    """
    to_ras = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(to_ras)
    axis = int(np.argmax([abs(to_ras.GetElement(2, i)) for i in range(3)]))  # of i, j, k: the one along head and feet
    in_array = 2 - axis
    worst = int(weight.sum(axis=tuple(a for a in range(3) if a != in_array)).argmax())
    slab = np.take(shown, worst, in_array)
    where = np.argwhere(slab if slab.any() else np.take(weight > 0, worst, in_array))
    middle = list((where.min(0) + where.max(0)) / 2)
    middle.insert(in_array, worst)
    return np.array(to_ras.MultiplyPoint((*middle[::-1], 1.0))[:3])


def _from_map(run: Run, name: str) -> np.ndarray | None:
    """The same, by the first of `ENTROPIES` over the structure's own voxels; its middle slice without any map."""
    of = next((run.overlays[key] for key in ENTROPIES if key in run.overlays), None) or run.main
    if not of.IsA("vtkMRMLScalarVolumeNode"):
        return None
    inside = mask_on(run.main_segmentation, name, of)
    if not inside.any():
        return None
    return _in_slice(of, np.where(inside, np.abs(slicer.util.arrayFromVolume(of)) + 1e-6, 0), inside)


def jump_to(scene, point) -> None:
    """Bring a point (RAS, mm) into all slice views and put the crosshair there; whether it is drawn stays the user's
    choice.

    A view in whose middle part the point lies already only changes its slice, so that the eye keeps its place.
    """
    for node in nodes_by_class(scene, "vtkMRMLSliceNode"):
        to_slice = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(node.GetSliceToRAS(), to_slice)
        aside = np.abs(to_slice.MultiplyPoint((*point, 1.0))[:2])
        if (aside < CENTRAL / 2 * np.array(node.GetFieldOfView()[:2])).all():
            node.JumpSliceByOffsetting(*point)
        else:
            node.JumpSliceByCentering(*point)
    for crosshair in nodes_by_class(scene, "vtkMRMLCrosshairNode"):
        crosshair.SetCrosshairRAS(*point)


def review_structure(run: Run, name: str) -> np.ndarray | None:
    """Jump to a structure's least certain slice and let it stand out among the run's own contours; returns the point.

    The user's own segmentations keep their look.
    """
    point = uncertain_point(run, name)
    if point is not None:
        jump_to(run.scene, point)
    highlight(run, name)
    return point


def zoom_to(run: Run, name: str, point) -> None:
    """Centre all slice views on a point (RAS, mm) and zoom so that the structure fills `FILLED` of each, with
    `LEAST_MM` at least.
    """
    bounds = _extent(run, name)
    for node in nodes_by_class(run.scene, "vtkMRMLSliceNode"):
        width, height, _depth = node.GetDimensions()
        if bounds is not None and width > 0 and height > 0:
            to_ras = node.GetSliceToRAS()
            across = [sum(abs(to_ras.GetElement(r, c)) * bounds[r] for r in range(3)) for c in (0, 1)]
            scale = max(max(across[0], LEAST_MM) / width, max(across[1], LEAST_MM) / height) / FILLED
            node.SetFieldOfView(scale * width, scale * height, node.GetFieldOfView()[2])
        node.JumpSliceByCentering(*point)


def _extent(run: Run, name: str) -> np.ndarray | None:
    """Lengths (mm) of a structure's bounding box along R, A and S; None for one that is nowhere."""
    node, _sampled = run.contour(name)
    voxels = voxels_of(node, name, vtk.vtkMatrix4x4()) if node is not None else np.zeros((0, 3))
    return voxels.max(0) - voxels.min(0) if len(voxels) else None


def highlight(run: Run, name: str | None) -> None:
    """Draw the other structures of the run's own segmentations faintly in the slice views; None draws all as before."""
    for node in nodes_by_class(run.scene, "vtkMRMLSegmentationNode"):
        display = node.GetDisplayNode()
        if node.GetAttribute(RUN_ATTRIBUTE) != run.run_id or display is None:
            continue
        segmentation = node.GetSegmentation()
        for index in range(segmentation.GetNumberOfSegments()):
            identifier = segmentation.GetNthSegmentID(index)
            faint = name is not None and segmentation.GetSegment(identifier).GetName() != name
            display.SetSegmentOpacity2DOutline(identifier, 0.35 if faint else 1.0)
            display.SetSegmentOpacity2DFill(identifier, 0.35 if faint else 1.0)

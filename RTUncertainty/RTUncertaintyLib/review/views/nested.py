"""Nested contours of a structure: where it lies in 5, 50 and 95 % of its distribution, as outlines in the slice
views.
"""

from __future__ import annotations

import colorsys

import numpy as np
import vtk

from ...mrml.attributes import STRUCTURE_ATTRIBUTE
from ...runs.inside import inside_of, percent_of
from ...runs.run import Run

PERCENTILES = (5, 50, 95)
"""The small sure core, the middle, and the large contour that is hardly ever exceeded."""
WIDTHS = {5: 1, 50: 3, 95: 2}
"""Pixels of the outlines."""


def show_nested(run: Run, name: str | None) -> bool:
    """Show the nested contours of a structure in all slice views, None for none; returns whether there are any.

    The contour of percentile q holds the voxels that lie inside the structure in more than 100 − q percent of the
    samples. They are models of the run, so that they go with it; no segmentation is touched.
    """
    source = inside_of(run, name) if name is not None else None
    if source is None:
        hide_nested(run)
        return False
    run.scene.StartState(run.scene.BatchProcessState)
    try:
        for percentile in PERCENTILES:
            node = run.nested.get(str(percentile))
            if node is None or node.GetScene() is not run.scene:
                node = run.nested[str(percentile)] = _new_node(run, percentile)
            if node.GetAttribute(STRUCTURE_ATTRIBUTE) != name or node.GetPolyData() is None:
                node.SetAndObservePolyData(surface(source, percentile))
                node.SetAttribute(STRUCTURE_ATTRIBUTE, name)
                node.SetName(f"{name} {percentile} %")
            node.GetDisplayNode().SetColor(*color(structure_color(run, name), percentile))
            node.GetDisplayNode().SetVisibility(True)
    finally:
        run.scene.EndState(run.scene.BatchProcessState)
    return True


def hide_nested(run: Run) -> None:
    """Take the nested contours from the views."""
    for node in run.nested.values():
        if node.GetScene() is run.scene and node.GetDisplayNode() is not None:
            node.GetDisplayNode().SetVisibility(False)


def nested_structure(run: Run) -> str | None:
    """The structure whose nested contours are on show, None for none."""
    for node in run.nested.values():
        if node.GetScene() is run.scene and node.GetDisplayNode() is not None and node.GetDisplayNode().GetVisibility():
            return node.GetAttribute(STRUCTURE_ATTRIBUTE)
    return None


def surface(source, percentile: float):
    """The surface (vtkPolyData, RAS mm) around the voxels of a volume in percent that belong to the contour of a
    percentile.

    It lies at the voxels' borders, smoothed by less than a voxel, as a segmentation's closed surface is. Interpolated
    between the voxels' values instead, sharp contours would seem up to a voxel apart.
    """
    inside = np.pad(percent_of(source) > 100 - percentile, 1)
    if not inside.any():
        return vtk.vtkPolyData()
    image = vtk.vtkImageData()
    image.SetDimensions(*inside.shape[::-1])
    image.SetOrigin(-1.0, -1.0, -1.0)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    from vtkmodules.util.numpy_support import vtk_to_numpy

    vtk_to_numpy(image.GetPointData().GetScalars())[:] = inside.ravel()
    edges = vtk.vtkFlyingEdges3D()
    edges.SetInputData(image)
    edges.SetValue(0, 0.5)
    edges.ComputeNormalsOff()
    edges.ComputeGradientsOff()
    edges.ComputeScalarsOff()
    smooth = vtk.vtkWindowedSincPolyDataFilter()
    smooth.SetInputConnection(edges.GetOutputPort())
    smooth.SetNumberOfIterations(20)
    smooth.SetPassBand(0.1)
    smooth.NormalizeCoordinatesOn()
    matrix, transform = vtk.vtkMatrix4x4(), vtk.vtkTransform()
    source.GetIJKToRASMatrix(matrix)
    transform.SetMatrix(matrix)
    place = vtk.vtkTransformPolyDataFilter()
    place.SetInputConnection(smooth.GetOutputPort())
    place.SetTransform(transform)
    place.Update()
    return place.GetOutput()


def color(of: tuple, percentile: int) -> tuple:
    """The structure's colour for the middle contour, nearly white for the core, half way between for the large contour:
    all three are seen on dark tissue and on any map."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*of)
    towards_white = {5: 1.0, 50: 0.0, 95: 0.55}[percentile]
    return colorsys.hls_to_rgb(hue, lightness + towards_white * max(0.94 - lightness, 0.0), saturation)


def structure_color(run: Run, name: str) -> tuple:
    """Colour of a structure in the run's segmentation; grey where it is not there."""
    node = run.main_segmentation
    segment = None
    if node is not None and node.GetScene() is run.scene:
        segment = node.GetSegmentation().GetSegment(node.GetSegmentation().GetSegmentIdBySegmentName(name))
    return tuple(segment.GetColor()) if segment is not None else (0.8, 0.8, 0.8)


def _new_node(run: Run, percentile: int):
    """A model of the run that shows in slice views only; hidden from lists, as it changes with the structure on
    show.
    """
    node = run.scene.AddNewNodeByClass("vtkMRMLModelNode", f"{percentile} %")
    node.SetHideFromEditors(True)
    node.SetSelectable(False)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetVisibility3D(False)
    display.SetVisibility2D(True)
    display.SetSliceIntersectionThickness(WIDTHS[percentile])
    return run.add(node, f"nested.{percentile}")

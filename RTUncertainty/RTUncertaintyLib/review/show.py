"""Showing any run for review: its image, one overlay, its contours."""

from __future__ import annotations

import numpy as np
import slicer.util
import vtk

from ..mrml.attributes import INPUT_REFERENCE, RUN_ATTRIBUTE, nodes_by_class
from ..runs.run import Run


def show_run(run: Run, overlay: str | None = None) -> None:
    """Show a run of any job in all slice views, linked, with an overlay (a key of its overlays) or none."""
    run.show(overlay)


def show_run_overlay(run: Run, overlay: str | None) -> None:
    """Exchange the overlay of a run of any job, None for none; a propagation shows its daily CT below it."""
    run.show_overlay(overlay)


def adopt_input(run: Run, name: str = "") -> None:
    """Let a run that was loaded from its folder lie on the user's image that it was made of, when that is in the scene.

    That is the volume with the very grid of the run's images; of several the one called `name`, else none.
    """
    images = [*run.overlays.values(), *(n for n in (run.main,) if n is not None and n.IsA("vtkMRMLScalarVolumeNode"))]
    if run.input is not None or not images:
        return
    fitting = [
        n
        for n in nodes_by_class(run.scene, "vtkMRMLScalarVolumeNode")
        if n.GetClassName() == "vtkMRMLScalarVolumeNode"
        and not n.GetAttribute(RUN_ATTRIBUTE)
        and _same_grid(n, images[0])
    ]
    if len(fitting) > 1:
        fitting = [n for n in fitting if n.GetName() == name]
    if len(fitting) == 1:
        run.input = fitting[0]
        run.main.SetNodeReferenceID(INPUT_REFERENCE, run.input.GetID())


def _same_grid(first, second) -> bool:
    if first.GetImageData() is None or first.GetImageData().GetDimensions() != second.GetImageData().GetDimensions():
        return False
    if first.GetParentTransformNode() is not second.GetParentTransformNode():
        return False
    matrices = [vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()]
    for node, matrix in zip((first, second), matrices):
        node.GetIJKToRASMatrix(matrix)
    return np.allclose(*(slicer.util.arrayFromVTKMatrix(m) for m in matrices), atol=1e-3)

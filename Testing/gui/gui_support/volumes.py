"""Volume nodes for tests."""

import numpy as np
import slicer
import slicer.util
import vtk


def add_volume(name="MR", shape=(24, 32, 32), spacing=(1.0, 1.0, 3.0), array=None, dtype=np.int16):
    """An MR-like volume node; `shape` is (slices, rows, columns), `spacing` (x, y, z) in mm."""
    if array is None:
        array = np.random.default_rng(0).integers(0, 900, shape).astype(dtype)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, array)
    node.SetSpacing(spacing)
    return node


def transform_node(matrix, name="Transform"):
    """A linear transform node with a 4 × 4 matrix to its parent."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    vtk_matrix = vtk.vtkMatrix4x4()
    for r in range(4):
        for c in range(4):
            vtk_matrix.SetElement(r, c, float(matrix[r][c]))
    node.SetMatrixTransformToParent(vtk_matrix)
    return node


def add_case():
    """Planning CT, its structures (two overlap) and daily CT of `make_propagation.case` as nodes: (volume,
    segmentation, volume).
    """
    import make_propagation

    from RTUncertaintyLib.mrml.volumes import add_volume as add_image

    planning, structures, daily = make_propagation.case()
    planning, daily = add_image(slicer.mrmlScene, planning, "Plan"), add_image(slicer.mrmlScene, daily, "Today")
    return planning, add_segmentation(structures, planning), daily


def add_segmentation(structures, reference, name="Structures"):
    """A segmentation node of a list of `rtuncertainty.core.structure_set.Structure` on the grid of `reference`, each
    in a layer of its own.
    """
    from propagation_case import segmentation_node

    return segmentation_node(slicer.mrmlScene, structures, reference, name)

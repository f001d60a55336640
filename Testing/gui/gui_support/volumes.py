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

"""A propagation with the user's own nodes in a scene, and what its segmentations hold."""

from __future__ import annotations

import make_propagation
import numpy as np
import SimpleITK as sitk
import slicer
import slicer.util
import vtk
from vtkmodules.util.numpy_support import vtk_to_numpy

from rtuncertainty.core import structure_set
from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.mrml.attributes import nodes_by_class
from RTUncertaintyLib.mrml.volumes import add_volume

NAMES = [name for name, *_ in make_propagation.STRUCTURES]


def segmentation_node(scene, structures, reference, name="RTSS"):
    """A segmentation node of a list of `Structure` on the grid of the volume `reference`, each in a layer of its
    own.
    """
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    for structure in structures:
        segment = slicer.vtkSegment()
        segment.SetName(structure.name)
        segment.SetColor(*(c / 255.0 for c in structure.color))
        segment.AddRepresentation("Binary labelmap", oriented(sitk.GetArrayFromImage(structure.mask), reference))
        node.GetSegmentation().AddSegment(segment, structure.name)
    return node


def oriented(array, reference):
    """A label image [z, y, x] on the grid of the volume `reference`, as a segmentation keeps it."""
    image, matrix = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
    image.SetDimensions(*array.shape[::-1])
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = np.ascontiguousarray(array, np.uint8).ravel()
    reference.GetIJKToRASMatrix(matrix)
    image.SetImageToWorldMatrix(matrix)
    return image


class Case:
    """Planning CT ("Plan"), its structures ("RTSS") and daily CT ("Today") in a scene, and a run of them; `before` are
    the nodes without the run."""

    def __init__(self, scene, tmp_path, direction=None, **options):
        planning, structures, daily = make_propagation.case(direction)
        self.daily_image, self.folder = (
            daily,
            make_propagation.make_propagation(tmp_path / "r", planning, structures, daily, **options),
        )
        self.planning, self.daily = add_volume(scene, planning, "Plan"), add_volume(scene, daily, "Today")
        self.structures = segmentation_node(scene, structures, self.planning)
        self.structures.GetSegmentation().GetNthSegment(0).SetColor(0.1, 0.2, 0.3)
        self.before = ids(scene)
        self.run = run_scene.load_propagation(self.folder, scene, self.planning, self.structures, self.daily)


def ids(scene) -> set:
    """The identifiers of all nodes."""
    return {n.GetID() for n in nodes_by_class(scene, "vtkMRMLNode")}


def mask(node, name, reference) -> np.ndarray:
    """The voxels (bool [z, y, x]) of a segment on the grid of a volume node."""
    image, matrix, to_index = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    assert node.GetBinaryLabelmapRepresentation(node.GetSegmentation().GetSegmentIdBySegmentName(name), image)
    array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    image.GetImageToWorldMatrix(matrix)
    reference.GetRASToIJKMatrix(to_index)
    vtk.vtkMatrix4x4.Multiply4x4(to_index, matrix, matrix)
    result = np.zeros(slicer.util.arrayFromVolume(reference).shape, bool)
    for k, j, i in np.argwhere(array > 0) + np.array(image.GetExtent()[::2])[::-1]:
        x, y, z = np.round(matrix.MultiplyPoint((i, j, k, 1.0))[:3]).astype(int)
        result[z, y, x] = True
    return result


def file_masks(file) -> dict:
    """The structures of a `.seg.nrrd` file: name -> voxels (bool [z, y, x])."""
    return {name: sitk.GetArrayFromImage(s.mask) > 0 for name, s in structure_set.read(file).items()}

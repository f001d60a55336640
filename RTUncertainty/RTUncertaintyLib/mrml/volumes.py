"""Images as scalar volume nodes, with their geometry and units."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import slicer
import vtk

from .volume_export import RAS_TO_LPS, in_lps, native_lps

# (coding scheme, code, meaning); UCUM units and DICOM quantities, as Slicer's DICOM code writes them.
HOUNSFIELD = (("DCM", "112031", "Attenuation Coefficient"), ("UCUM", "[hnsf'U]", "Hounsfield unit"))
CT_WINDOW = (-400.0, 1000.0)


def ijk_to_ras(image: sitk.Image) -> vtk.vtkMatrix4x4:
    """Voxel index to RAS in mm; SimpleITK's physical points are LPS."""
    matrix = np.eye(4)
    direction = np.asarray(image.GetDirection()).reshape(3, 3)
    matrix[:3, :3] = direction * np.asarray(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    result = vtk.vtkMatrix4x4()
    result.DeepCopy((RAS_TO_LPS @ matrix).ravel().tolist())
    return result


def add_volume(
    scene, image: sitk.Image, name: str, quantity_and_units=None, display: str = "auto", label_map: bool = False
):
    """A scalar volume node of a 3-D image, or a label map; the voxels are copied.

    `display` is "auto" for a grey display node with a window of its own choice, "fixed" for one whose window the caller
    sets (choosing one takes longer than reading the image), "none" for no display node.
    """
    node = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode" if label_map else "vtkMRMLScalarVolumeNode", name)
    node.SetIJKToRASMatrix(ijk_to_ras(image))
    if display == "fixed":
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetAutoWindowLevel(False)
    slicer.util.updateVolumeFromArray(node, sitk.GetArrayFromImage(image))
    if quantity_and_units:
        quantity, units = (_coded_entry(*entry) for entry in quantity_and_units)
        node.SetVoxelValueQuantity(quantity)
        node.SetVoxelValueUnits(units)
    if display == "auto":
        node.CreateDefaultDisplayNodes()
    return node


def image_like(array: np.ndarray, node) -> sitk.Image:
    """An image of an array [z, y, x] on the grid of a volume node."""
    return in_lps(array, native_lps(node))


def show_as_ct(node, window: tuple[float, float] = CT_WINDOW) -> None:
    """Grey with a window (lowest, highest HU), by default from fat to cortical bone."""
    display = node.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(*window)


def show_as_image(node, image: sitk.Image) -> None:
    """Grey between the 1st and 99.5th percentile: a bright coil or vessel shall not darken an MR image."""
    low, high = np.percentile(sitk.GetArrayViewFromImage(image)[::2, ::2, ::2], [1.0, 99.5])
    display = node.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(float(low), float(max(high, low + 1.0)))


def show_as_probability(node) -> None:
    """Grey from 0 to 1."""
    display = node.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(0.0, 1.0)


def _coded_entry(scheme: str, value: str, meaning: str):
    """A code as Slicer keeps it on a volume."""
    entry = slicer.vtkCodedEntry()
    entry.SetValueSchemeMeaning(value, scheme, meaning)
    return entry

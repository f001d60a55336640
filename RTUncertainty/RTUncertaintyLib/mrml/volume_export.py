"""From a volume node to an image file for the backend, where the volume lies in the world."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..widgets.text import _

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


class UnusableVolume(ValueError):
    """The volume cannot be given to a model; the message names the node, what is wrong and what to do."""


def in_lps(array: np.ndarray, matrix: np.ndarray):
    """A SimpleITK image of voxels [k, j, i], or of vectors [k, j, i, 3], and their matrix (4 × 4, voxel indices (i,
    j, k) to LPS in mm).
    """
    import SimpleITK as sitk

    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    return image


def native_lps(node) -> np.ndarray:
    """From voxel indices to LPS (4 × 4) without the transforms that a volume lies under."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return RAS_TO_LPS @ as_array(matrix)


def ijk_to_world(node) -> np.ndarray:
    """The 4 × 4 matrix from voxel indices (i, j, k) to world coordinates (RAS, mm), parent transforms included.

    Raises `UnusableVolume` when a parent transform is not linear, or shears the axes, which no image file can hold.
    """
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    result = parent_to_world(node) @ as_array(matrix)
    spacing = np.linalg.norm(result[:3, :3], axis=0)
    if not np.all(np.isfinite(result)) or spacing.min() <= 0:
        raise UnusableVolume(
            _("{name} has a voxel spacing of zero: set it in the Volumes module.").format(name=node.GetName())
        )
    axes = result[:3, :3] / spacing
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
        raise UnusableVolume(
            _(
                "The axes of {name} are not at right angles (acquisition tilt or a shearing transform): resample it "
                "first (Resample Scalar/Vector/DWI Volume module)."
            ).format(name=node.GetName())
        )
    return result


def as_array(matrix) -> np.ndarray:
    """A vtkMatrix4x4 as a 4 × 4 array."""
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


def parent_to_world(node) -> np.ndarray:
    """The 4 × 4 matrix (RAS, mm) of the transforms that a node lies under. Raises `UnusableVolume` when one is not
    linear.
    """
    import vtk

    transform = node.GetParentTransformNode()
    if transform is None:
        return np.eye(4)
    if not transform.IsTransformToWorldLinear():
        raise UnusableVolume(
            _(
                "{name} lies under the transform {transform}, which is not linear: harden it (Data module, right "
                "click, Harden transform), or take {name} out of it."
            ).format(name=node.GetName(), transform=transform.GetName())
        )
    world = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformToWorld(world)
    return as_array(world)


def volume_array(node) -> np.ndarray:
    """The voxels [k, j, i] of a scalar volume, not copied.

    Raises `UnusableVolume` for what is no image: no or another node, a label map, a volume without voxels or with more
    than one component.
    """
    import slicer.util

    if node is None or not node.IsA("vtkMRMLScalarVolumeNode"):
        name = _("There") if node is None else node.GetName()
        raise UnusableVolume(_("{name} is no volume: choose one that is loaded.").format(name=name))
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        raise UnusableVolume(
            _("{name} is a label map: choose the image that it was drawn on.").format(name=node.GetName())
        )
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None or min(image.GetDimensions()) < 1:
        raise UnusableVolume(_("{name} holds no voxels: load or choose another volume.").format(name=node.GetName()))
    if image.GetNumberOfScalarComponents() != 1:
        raise UnusableVolume(
            _("{name} has {count} values a voxel (vector, colour or time series): choose a volume with one.").format(
                name=node.GetName(), count=image.GetNumberOfScalarComponents()
            )
        )
    return slicer.util.arrayFromVolume(node)


def dicom_modality(node) -> str:
    """The DICOM modality of a volume ("MR", "CT", …) as subject hierarchy keeps it; empty when it is not known."""
    import slicer

    scene = node.GetScene()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene) if scene is not None else None
    if hierarchy is None:
        return ""
    item = hierarchy.GetItemByDataNode(node)
    return (hierarchy.GetItemAttribute(item, "DICOM.Modality") or "").upper() if item else ""


def export_volume(node, path: Path) -> Path:
    """Write the volume to `path` (NRRD, not compressed), parent transforms put into its geometry; returns the path.

    Raises `UnusableVolume` for what `volume_array` and `ijk_to_world` refuse, and for a disk that cannot take it.
    """
    import SimpleITK as sitk

    array = volume_array(node)
    if array.dtype in (np.dtype("int64"), np.dtype("uint64"), np.dtype(bool)):
        array = array.astype(np.float32)
    image = in_lps(array, RAS_TO_LPS @ ijk_to_world(node))
    if dicom_modality(node):
        image.SetMetaData("modality", dicom_modality(node))
    try:
        sitk.WriteImage(image, str(path))
    except RuntimeError as error:
        raise UnusableVolume(
            _("{name} could not be written to {folder}: the disk is full, or the folder cannot be written to.").format(
                name=node.GetName(), folder=path.parent
            )
        ) from error
    return path

"""A dose in the scene: which volume is one, in what unit, and writing it where it lies in the world."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...mrml.volume_export import UnusableVolume, dicom_modality, export_volume, volume_array
from ...widgets.text import _

UNITS = ("Gy", "cGy")
DOSE_ATTRIBUTE = "DicomRtImport.DoseVolume"
UNIT_ATTRIBUTE = "DicomRtImport.DoseUnitName"
"""What SlicerRT writes: on the volume, and on the study that it lies in."""
UNUSUAL_GY = 200.0
"""More is the usual sign of a dose in cGy."""


def dose_unit(node) -> str:
    """The unit that a volume says it is in: "Gy", "cGy", another word (such as RELATIVE), or empty when it says
    nothing.

    From SlicerRT's attribute of the study, or the units of the volume's own DICOM quantity.
    """
    for found in (
        _study_attribute(node, UNIT_ATTRIBUTE),
        node.GetAttribute(UNIT_ATTRIBUTE) or "",
        _coded(node.GetVoxelValueUnits()),
    ):
        if found:
            return next((u for u in UNITS if u.lower() == found.strip().lower()), found.strip())
    return ""


def is_marked(node) -> bool:
    """Whether a volume is said to be a dose by SlicerRT, DICOM or its units."""
    return (
        (node.GetAttribute(DOSE_ATTRIBUTE) or "") == "1" or dicom_modality(node) == "RTDOSE" or dose_unit(node) in UNITS
    )


def problem(node, unit: str) -> str:
    """Why a volume cannot be a dose, in one line that says what to do; empty when it can. unit: as chosen."""
    try:
        array = volume_array(node)
    except UnusableVolume as error:
        return str(error)
    name, modality, stated = node.GetName(), dicom_modality(node), dose_unit(node)
    hounsfield = _coded(node.GetVoxelValueUnits()).lower() in ("hounsfield unit", "[hnsf'u]")
    if modality in ("CT", "MR", "PT") or hounsfield:
        return _("{name} is {what}, no dose: choose the dose, such as an RTDOSE that SlicerRT loaded.").format(
            name=name,
            what=_("a CT") if modality == "CT" or hounsfield else _("an image ({modality})").format(modality=modality),
        )
    if stated and stated not in UNITS:
        return _("{name} is in {unit}: export the dose in Gy or cGy.").format(name=name, unit=stated)
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        return _("{name} holds NaN or infinite values: it is damaged, export the dose again.").format(name=name)
    if low < 0:
        return _(
            "{name} holds negative values (down to {low:g}): it is an image such as a CT, or a difference of doses. "
            "Choose the dose."
        ).format(name=name, low=low)
    if low == high:
        return _("{name} has the same value everywhere: choose the dose.").format(name=name)
    return ""


def warning(node, unit: str) -> str:
    """What is unusual about a dose; empty for nothing."""
    high = float(volume_array(node).max()) * (0.01 if unit == "cGy" else 1.0)
    if high > UNUSUAL_GY:
        return _("{name} reaches {high:.0f} Gy: if its numbers are cGy, choose that unit.").format(
            name=node.GetName(), high=high
        )
    return ""


def export_dose(node, path: Path) -> Path:
    """Write a dose as `volume_export.export_volume` does; one that lies under a deformation (not linear) is resampled
    by it.

    Raises `UnusableVolume`.
    """
    transform = node.GetParentTransformNode()
    if transform is None or transform.IsTransformToWorldLinear():
        return export_volume(node, path)
    import slicer
    import vtk

    copy = slicer.vtkMRMLScalarVolumeNode()
    copy.SetName(node.GetName())
    matrix, image = vtk.vtkMatrix4x4(), vtk.vtkImageData()
    node.GetIJKToRASMatrix(matrix)
    copy.SetIJKToRASMatrix(matrix)
    image.DeepCopy(node.GetImageData())
    copy.SetAndObserveImageData(image)
    to_world = vtk.vtkGeneralTransform()
    transform.GetTransformToWorld(to_world)
    copy.ApplyTransform(to_world)
    return export_volume(copy, path)


def _coded(entry) -> str:
    """The meaning of a code, or its value; empty for none."""
    return "" if entry is None else entry.GetCodeMeaning() or entry.GetCodeValue() or ""


def _study_attribute(node, name: str) -> str:
    """The attribute of the subject-hierarchy item of a node or of what it lies in."""
    import slicer

    scene = node.GetScene()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene) if scene is not None else None
    item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
    while item and item != hierarchy.GetSceneItemID():
        found = hierarchy.GetItemAttribute(item, name)
        if found:
            return found
        item = hierarchy.GetItemParent(item)
    return ""

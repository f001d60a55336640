"""A deformation out, as a Deformable Spatial Registration object (PS3.3, A.39.2 and C.20.3).

DICOM and ITK mean the same: the object lives in the frame of reference of the daily scan (the "Registered RCS"), and
its grid of vectors leads from there to the planning scan (the "Source RCS"): source point = registered point + vector.
Both count in LPS and mm, vectors are the patient's axes whatever the direction of the grid. No matrices: a rigid part
lies in the vectors.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeformableSpatialRegistrationStorage

from rtuncertainty.core.errors import InputError

from . import files
from .author import WARNING, Author, reference
from .series import Series


def make_registration(field: sitk.Image, daily: Series, planning: Series, author: Author) -> Dataset:
    """The object of a displacement field (PS3.3, A.39.2 and C.20.3). Vectors are stored in 32 bits.

    Args:
        field: mm, from daily to planning points; see `rtuncertainty.deformation`.
        daily: the daily scan's series.
        planning: the planning scan's series.
        author: who makes it.

    Returns:
        The dataset.

    Raises:
        InputError: the field leads nowhere near the planning series.
    """
    _check(field, planning)
    field = _right_handed(field)
    made = author.begin(daily, DeformableSpatialRegistrationStorage, "REG", "deformation", 9004)
    made.ContentLabel, made.ContentDescription, made.ContentCreatorName = (
        "DEFORMATION",
        author.titled("planning to daily"),
        "",
    )
    made.Laterality = files.value(daily.first, "Laterality")
    item, grid = Dataset(), Dataset()
    item.SourceFrameOfReferenceUID = planning.first.FrameOfReferenceUID
    item.ReferencedImageSequence = Sequence([reference(s) for s in planning.slices])
    item.FrameOfReferenceTransformationComment = f"{author.name}. {WARNING}"[:1024]
    item.RegistrationTypeCodeSequence = Sequence()
    direction = np.array(field.GetDirection()).reshape(3, 3)
    grid.ImageOrientationPatient = [round(float(v), 10) + 0.0 for v in (*direction[:, 0], *direction[:, 1])]
    grid.ImagePositionPatient = [round(float(v), 6) + 0.0 for v in field.GetOrigin()]
    grid.GridDimensions, grid.GridResolution = list(field.GetSize()), [float(s) for s in field.GetSpacing()]
    # x fastest, then rows, then slices, each vector as x, y, z: the order in memory
    grid.VectorGridData = sitk.GetArrayViewFromImage(field).astype("<f4").tobytes()
    item.DeformableRegistrationGridSequence = Sequence([grid])
    made.DeformableRegistrationSequence = Sequence([item])
    _refer(made, daily, planning)
    return made


def _check(field: sitk.Image, planning: Series) -> None:
    """Raise `InputError` unless the middle of the field leads into the planning series."""
    middle = [n // 2 for n in field.GetSize()]
    point = np.array(field.TransformIndexToPhysicalPoint(middle)) + field[middle]
    index = np.array(planning.grid.TransformPhysicalPointToContinuousIndex([float(v) for v in point]))
    if (index < -0.5).any() or (index > np.array(planning.grid.GetSize()) - 0.5).any():
        raise InputError(
            f"{planning.folder}: is not the planning scan of this result: the deformation leads outside of it; give "
            "the folder "
            "of the scan that was propagated from."
        )


def _right_handed(field: sitk.Image) -> sitk.Image:
    """The same field, its third axis turned over where the grid is left-handed, which DICOM cannot say."""
    if np.linalg.det(np.array(field.GetDirection()).reshape(3, 3)) > 0:
        return field
    # flips the origin and the direction too
    return sitk.Flip(field, [False, False, True])


def _refer(made: Dataset, daily: Series, planning: Series) -> None:
    """The Common Instance Reference module: series of this study, and studies of others."""
    here, elsewhere = Sequence(), Sequence()
    for series in (daily, planning):
        of = Dataset()
        of.SeriesInstanceUID, of.ReferencedInstanceSequence = (
            series.first.SeriesInstanceUID,
            Sequence([reference(s) for s in series.slices]),
        )
        if series.first.StudyInstanceUID == made.StudyInstanceUID:
            here.append(of)
        else:
            study = Dataset()
            study.StudyInstanceUID, study.ReferencedSeriesSequence = series.first.StudyInstanceUID, Sequence([of])
            elsewhere.append(study)
    made.ReferencedSeriesSequence = here
    if elsewhere:
        made.StudiesContainingOtherReferencedInstancesSequence = elsewhere

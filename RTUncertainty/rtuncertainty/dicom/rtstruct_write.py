"""RTSTRUCT out: masks on the slices of the reference series as contours (PS3.3, A.19)."""

from __future__ import annotations

import re

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ImplicitVRLittleEndian, RTStructureSetStorage

from rtuncertainty.core.structure_set import Structure
from rtuncertainty.deformation.field import axes

from .author import WARNING, Author, algorithm, code, reference
from .outlines import polygons
from .series import Series

_STUDY = UID("1.2.840.10008.3.1.2.3.1")
# names that mean a target: the rest are organs
_ROLES = (
    (r"^i?gtv", "GTV"),
    (r"^ctv", "CTV"),
    (r"^ptv", "PTV"),
    (r"^(body|external|skin|patient)$", "EXTERNAL"),
    (r"^bolus", "BOLUS"),
)


def make_structure_set(
    structures: list[Structure],
    series: Series,
    author: Author,
    descriptions: dict[str, str] | None = None,
    edited: bool = False,
) -> Dataset:
    """A structure set of masks (PS3.3, A.19). Overlaps are no matter.

    Contours lie in the slices of the series, run midway between voxels inside and outside (`outlines.polygons`), and
    are closed planar, a hole being joined to its outline. An empty mask becomes a ROI without contours.

    Args:
        structures: masks on the voxels of `series` (see `Series.fit`).
        series: the reference.
        author: who makes it.
        descriptions: for a structure's name what its description shall say, such as its volume.
        edited: a person may have changed them.

    Returns:
        The dataset.
    """
    # long contours do not fit into an element whose length has 16 bits, as it is in explicit VR
    made = author.begin(series, RTStructureSetStorage, "RTSTRUCT", "structures", 9001, ImplicitVRLittleEndian)
    del made.ContentDate, made.ContentTime
    made.StructureSetLabel, made.StructureSetName = "RESEARCH ONLY", author.titled("structures")
    made.StructureSetDescription = author.sentence
    made.StructureSetDate, made.StructureSetTime = made.SeriesDate, made.SeriesTime
    made.ApprovalStatus = "UNAPPROVED"
    made.ReferencedFrameOfReferenceSequence = Sequence([_frame(series)])
    made.StructureSetROISequence, made.ROIContourSequence, made.RTROIObservationsSequence = (
        Sequence(),
        Sequence(),
        Sequence(),
    )
    for number, s in enumerate(structures, 1):
        roi = Dataset()
        roi.ROINumber, roi.ReferencedFrameOfReferenceUID, roi.ROIName = (
            number,
            series.first.FrameOfReferenceUID,
            s.name[:64],
        )
        roi.ROIDescription = " ".join(filter(None, [(descriptions or {}).get(s.name), author.sentence]))[:1024]
        roi.ROIGenerationAlgorithm, roi.ROIGenerationDescription = (
            "SEMIAUTOMATIC" if edited else "AUTOMATIC",
            author.titled("model"),
        )
        roi.ROIDerivationAlgorithmIdentificationSequence = Sequence([algorithm(author)])
        made.StructureSetROISequence.append(roi)
        made.ROIContourSequence.append(_contours(s, number, series))
        made.RTROIObservationsSequence.append(_observation(s, number))
    return made


def role_of(s: Structure) -> str:
    """The RT ROI interpreted type: that of the structure, or what its name says."""
    return s.role or next((role for pattern, role in _ROLES if re.match(pattern, s.name.strip().lower())), "ORGAN")


def _frame(series: Series) -> Dataset:
    """The frame of reference and all slices of the series."""
    frame, study, of = Dataset(), Dataset(), Dataset()
    of.SeriesInstanceUID, of.ContourImageSequence = (
        series.first.SeriesInstanceUID,
        Sequence([reference(s) for s in series.slices]),
    )
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = _STUDY, series.first.StudyInstanceUID
    study.RTReferencedSeriesSequence = Sequence([of])
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = series.first.FrameOfReferenceUID, Sequence([study])
    return frame


def _contours(s: Structure, number: int, series: Series) -> Dataset:
    item, mask = Dataset(), sitk.GetArrayViewFromImage(s.mask) > 0
    item.ROIDisplayColor, item.ReferencedROINumber = [int(c) for c in s.color], number
    matrix, origin = axes(series.grid)
    found = Sequence()
    for k in np.flatnonzero(mask.any((1, 2))):
        # the slice's own place: distances between slices may vary a little
        start = np.array(series.slices[k].ImagePositionPatient, float)
        for polygon in polygons(mask[k]):
            contour, points = Dataset(), polygon @ matrix[:, :2].T + start
            contour.ContourImageSequence = Sequence([reference(series.slices[k])])
            contour.ContourGeometricType, contour.NumberOfContourPoints, contour.ContourNumber = (
                "CLOSED_PLANAR",
                len(points),
                len(found) + 1,
            )
            # + 0: no minus zero
            contour.ContourData = (np.round(points, 4) + 0.0).ravel().tolist()
            found.append(contour)
    if found:
        item.ContourSequence = found
    return item


def _observation(s: Structure, number: int) -> Dataset:
    """What the ROI is: role, code and label."""
    item = Dataset()
    item.ObservationNumber = item.ReferencedROINumber = number
    item.ROIObservationDescription = WARNING
    item.RTROIInterpretedType, item.ROIInterpreter = role_of(s), ""
    if s.code:
        coded = code(s.code["scheme"], s.code["value"], s.code["meaning"])
        if s.code.get("modifier"):
            coded.SegmentedPropertyTypeModifierCodeSequence = Sequence([code(**s.code["modifier"])])
        item.RTROIIdentificationCodeSequence = Sequence([coded])
        if s.code.get("category"):
            item.SegmentedPropertyCategoryCodeSequence = Sequence([code(**s.code["category"])])
    return item

"""DICOM SEG out, through highdicom: masks as binary segments, or probabilities as fractional ones (PS3.3, A.51)."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset

import rtuncertainty
from rtuncertainty.core.errors import InputError
from rtuncertainty.core.segmentation_file import ANATOMICAL_STRUCTURE
from rtuncertainty.core.structure_set import Structure

from . import files
from .author import MANUFACTURER, PATIENT, WARNING, Author, copy_patient
from .series import Series

# of a header: what the place of a slice, and references to it, are made of
NEEDED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "Modality",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "Rows",
    "Columns",
)
# what a structure without a code is
UNKNOWN = {"scheme": "SCT", "value": "91723000", "meaning": "Anatomical structure"}


def make_segmentation(
    structures: list[Structure], series: Series, author: Author, probability: bool = False, edited: bool = False
) -> Dataset:
    """A SEG of masks or probabilities (PS3.3, A.51).

    Masks may overlap; empty ones are left out. Probabilities are stored in steps of 1/255.

    Args:
        structures: images on the voxels of `series` (see `Series.fit`).
        series: the reference.
        author: who makes it.
        probability: the images go from 0 to 1; otherwise they are masks.
        edited: a person may have changed them.

    Returns:
        The dataset.

    Raises:
        InputError: highdicom is missing, or no structure has a voxel.
    """
    seg, highdicom = _library()
    arrays = {s.name: np.asarray(sitk.GetArrayViewFromImage(s.mask)) for s in structures}
    kept = [s for s in structures if arrays[s.name].any()]
    if not kept:
        raise InputError("no structure has a voxel: there is nothing to write as SEG.")
    # slices without a voxel take memory and nothing else
    used = np.flatnonzero(np.any([arrays[s.name].any((1, 2)) for s in kept], 0))
    stacked = np.empty((len(used), *arrays[kept[0].name].shape[1:], len(kept)), np.float32 if probability else np.uint8)
    for k, s in enumerate(kept):
        stacked[..., k] = np.clip(arrays[s.name][used], 0, 1) if probability else arrays[s.name][used] > 0
    kind = seg.SegmentationTypeValues.FRACTIONAL if probability else seg.SegmentationTypeValues.BINARY
    what = "probabilities" if probability else "segmentation"
    with files.quiet():
        made = seg.Segmentation(
            [_nameless(series.slices[k]) for k in used],
            stacked,
            kind,
            [_described(s, k, author, edited, seg, highdicom) for k, s in enumerate(kept, 1)],
            series_instance_uid=author.uid(),
            series_number=9005 if probability else 9003,
            sop_instance_uid=author.uid(),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=author.model[:64],
            device_serial_number="none",
            software_versions=(f"{MANUFACTURER} {rtuncertainty.__version__}", f"model {author.version}"[:64]),
            fractional_type=seg.SegmentationFractionalTypeValues.PROBABILITY,
            max_fractional_value=255,
            content_description=author.titled(what),
            content_label="RESEARCH_ONLY",
            series_description=author.titled(what),
        )
    copy_patient(series.first, made)
    made.SpecificCharacterSet = "ISO_IR 192"
    made.ImageComments = author.sentence
    return made


def _library():
    try:
        import highdicom
        from highdicom import seg
    except ImportError:
        raise InputError(
            "DICOM SEG needs highdicom: run 'pip install highdicom', or leave SEG out by naming the others with --what."
        ) from None
    return seg, highdicom


def _nameless(header: Dataset) -> Dataset:
    """A header that highdicom can copy from: with all that it asks for, and nothing of the patient, which it may
    refuse or quote.
    """
    made = Dataset()
    made.update({header[keyword].tag: header[keyword] for keyword in NEEDED if keyword in header})
    for keyword in PATIENT:
        setattr(made, keyword, "")
    made.file_meta, made.SpecificCharacterSet = header.file_meta, "ISO_IR 192"
    return made


def _described(s: Structure, number: int, author: Author, edited: bool, seg, highdicom):
    """Name, codes, colour and algorithm of a segment."""

    def code(c):
        return highdicom.sr.CodedConcept(c["value"], c["scheme"], c["meaning"][:64])

    coded, how = s.code or UNKNOWN, seg.SegmentAlgorithmTypeValues
    made = seg.SegmentDescription(
        number,
        s.name,
        code(coded.get("category", ANATOMICAL_STRUCTURE)),
        code(coded),
        how.SEMIAUTOMATIC if edited else how.AUTOMATIC,
        highdicom.AlgorithmIdentificationSequence(
            author.model[:64],
            code({"scheme": "DCM", "value": "123110", "meaning": "Artificial Intelligence"}),
            author.version[:64],
            source=f"{MANUFACTURER}, {WARNING}",
        ),
        tracking_uid=author.uid(),
        tracking_id=s.name,
        display_color=highdicom.color.CIELabColor.from_rgb(*(int(c) for c in s.color)),
    )
    if coded.get("modifier"):
        made.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [code(coded["modifier"])]
    made.SegmentDescription = author.sentence[:1024]
    return made

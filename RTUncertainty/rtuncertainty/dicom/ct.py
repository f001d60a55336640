"""A CT series out: an image in HU on the slices of the reference series (PS3.3, A.3)."""

from __future__ import annotations

import copy

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage

from rtuncertainty.core.errors import InputError

from . import files
from .author import Author, code, reference
from .series import Series

# stored values are HU + 1024: not negative for any tissue or air, which is what most scanners send
INTERCEPT = -1024


def make_ct_series(image: sitk.Image, series: Series, author: Author, what: str):
    """The slices of a CT series (PS3.3, A.3). HU are exact: stored as 16 bits, slope 1. Each slice lies where its
    reference does.

    Args:
        image: whole numbers in HU on the voxels of `series`.
        series: the reference.
        author: who makes it.
        what: the name of the image, such as "synthetic CT".

    Yields:
        A dataset for each slice.

    Raises:
        InputError: values beyond 16 bits.
    """
    array = sitk.GetArrayViewFromImage(image)
    stored = np.rint(array).astype(np.int32) - INTERCEPT
    if stored.min() < -32768 or stored.max() > 32767:
        raise InputError(f"the {what} has values from {array.min():g} to {array.max():g}, which are no HU.")
    common = _common(series, author, what)
    normal = np.array(series.grid.GetDirection()).reshape(3, 3)[:, 2]
    for k, source in enumerate(series.slices):
        made = copy.deepcopy(common)
        made.SOPInstanceUID, made.InstanceNumber = author.uid(), k + 1
        made.ImagePositionPatient, made.ImageOrientationPatient = (
            source.ImagePositionPatient,
            source.ImageOrientationPatient,
        )
        made.SliceLocation = round(float(np.array(source.ImagePositionPatient, float) @ normal), 4)
        item = reference(source)
        item.PurposeOfReferenceCodeSequence = Sequence(
            [code("DCM", "121322", "Source image for image processing operation")]
        )
        made.SourceImageSequence = Sequence([item])
        made.WindowCenter, made.WindowWidth = 40, 400
        made.PixelData = stored[k].astype("<i2").tobytes()
        yield made


def _common(series: Series, author: Author, what: str) -> Dataset:
    first = series.first
    made = author.begin(series, CTImageStorage, "CT", what, 9002)
    made.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    source = f"the {files.value(first, 'Modality', 'image')} series that it refers to"
    made.DerivationDescription = f"{what[:1].upper()}{what[1:]} on the slices of {source}. {author.sentence}"[:1024]
    made.ImageComments = author.sentence
    made.ContentQualification = "RESEARCH"
    made.BurnedInAnnotation, made.LossyImageCompression = "NO", "00"
    made.Laterality, made.PatientPosition = files.value(first, "Laterality"), files.value(first, "PatientPosition")
    if files.value(first, "BodyPartExamined"):
        made.BodyPartExamined = first.BodyPartExamined
    made.KVP, made.AcquisitionNumber = None, None
    made.SliceThickness = files.value(first, "SliceThickness") or round(series.grid.GetSpacing()[2], 4)
    made.PixelSpacing, made.Rows, made.Columns = first.PixelSpacing, first.Rows, first.Columns
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 1
    made.RescaleIntercept, made.RescaleSlope, made.RescaleType = INTERCEPT, 1, "HU"
    return made

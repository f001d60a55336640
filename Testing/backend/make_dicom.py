"""Series as a scanner sends them and structure sets as others draw them, written with pydicom alone: not by what is
tested.
"""

from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset

from rtuncertainty.core.structure_set import Structure

# what must never leave the DICOM files; the name needs more than ASCII
PATIENT = {
    "PatientName": "Zweistein^Änne",
    "PatientID": "GEHEIM-4711",
    "PatientBirthDate": "19540321",
    "AccessionNumber": "ACC-99887",
}
SOP_CLASS = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}

OBLIQUE = (0.96, 0.0, 0.28, 0.0, 1.0, 0.0, -0.28, 0.0, 0.96)
SAGITTAL = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CODE = {
    "scheme": "SCT",
    "value": "2812003",
    "meaning": "Head of femur",
    "modifier": {"scheme": "SCT", "value": "7771000", "meaning": "Left"},
    "category": {"scheme": "SCT", "value": "123037004", "meaning": "Anatomical Structure"},
}


def ct(direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), shape=(12, 40, 48), spacing=(1.5, 1.25, 3.0)):
    """Noise in HU, int16."""
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(-1000, 1500, shape).astype(np.int16))
    image.SetSpacing(spacing)
    image.SetOrigin((-31.7, -22.2, 105.4))
    image.SetDirection([float(v) for v in direction])
    return image


def shapes(image):
    """A ball with two holes, a line of voxels on a slope, noise, a dot, nothing."""
    z, y, x = np.ogrid[:12, :40, :48]
    ball = (x - 24) ** 2 + (y - 20) ** 2 + (3 * (z - 6)) ** 2 < 220
    ball = ball & ((x - 27) ** 2 + (y - 20) ** 2 > 12) & ((x - 17) ** 2 + (y - 20) ** 2 > 6)
    found = {
        "Femur links": ball,
        "Nerv äöü": (np.abs(x - y) < 1) & (z > 2) & (z < 9) & (y > 2),
        "noise": (np.random.default_rng(1).random(ball.shape) > 0.8) & (z > 9),
        "PTV": (x == 3) & (y == 4) & (z == 5),
        "empty": np.zeros(ball.shape, bool),
    }
    made = [
        Structure(n, sitk.GetImageFromArray(m.astype(np.uint8)), (200, 10 * k, 30))
        for k, (n, m) in enumerate(found.items())
    ]
    for s in made:
        s.mask.CopyInformation(image)
    made[0].code, made[1].role = CODE, "AVOIDANCE"
    return made


def write_series(
    image: sitk.Image,
    folder: Path,
    modality="CT",
    root="1.2.826.0.1.3680043.10.999.1",
    study=None,
    frame=None,
    skip=(),
    **tags,
) -> Path:
    """One file a slice of a 3-D image of whole numbers (CT: HU), in files whose names tell no order. Returns the
    folder.

    UIDs lie below `root`: series `root`.1, frame of reference `root`.2 unless given, study `root`.9 unless given.
    tags: elements that every slice gets besides, or that replace others.
    """
    folder.mkdir(parents=True, exist_ok=True)
    array, direction = sitk.GetArrayFromImage(image), np.array(image.GetDirection()).reshape(3, 3)
    for k in range(len(array)):
        if k in skip:
            continue
        made = Dataset()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        made.SpecificCharacterSet = "ISO_IR 100"
        for keyword, value in PATIENT.items():
            setattr(made, keyword, value)
        made.PatientSex, made.StudyDate, made.StudyTime, made.StudyID, made.ReferringPhysicianName = (
            "F",
            "20240102",
            "101500",
            "77",
            "Arzt^Ö",
        )
        made.SOPClassUID, made.SOPInstanceUID = SOP_CLASS[modality], f"{root}.3.{k + 1}"
        made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = (
            study or f"{root}.9",
            f"{root}.1",
            frame or f"{root}.2",
        )
        made.Modality, made.SeriesNumber, made.InstanceNumber, made.PositionReferenceIndicator = (
            modality,
            3,
            len(array) - k,
            "",
        )
        made.ImageType, made.Manufacturer, made.PatientPosition = ["ORIGINAL", "PRIMARY", "AXIAL"], "Maker", "HFS"
        made.SliceThickness, made.PixelSpacing = image.GetSpacing()[2], [image.GetSpacing()[1], image.GetSpacing()[0]]
        made.ImagePositionPatient = [round(v, 8) for v in image.TransformIndexToPhysicalPoint((0, 0, k))]
        made.ImageOrientationPatient = [round(v, 12) for v in (*direction[:, 0], *direction[:, 1])]
        made.Rows, made.Columns = array.shape[1:]
        made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 1
        made.BitsAllocated, made.BitsStored, made.HighBit = 16, 16, 15
        made.RescaleIntercept, made.RescaleSlope = 0, 1
        made.PixelData = array[k].astype("<i2").tobytes()
        for keyword, value in tags.items():
            if value is None:
                delattr(made, keyword)
            else:
                setattr(made, keyword, value)
        made.save_as(folder / f"IM{(k * 37) % 1000:03}.dcm", enforce_file_format=True)
    return folder


def circle(x, y, z, radius, count=60) -> np.ndarray:
    """An axial circle as the points [n, 3] of a contour, mm."""
    at = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([x + radius * np.cos(at), y + radius * np.sin(at), np.full(count, z)], 1)


def write_structure_set(
    path: Path, rois, frame: str | None = "1.2.826.0.1.3680043.10.999.1.2", charset="ISO_IR 192", change=None
) -> Path:
    """An RTSTRUCT with `rois`: (name, contours) or (name, contours, type of its contours), contours as points [n, 3].

    frame: the frame of reference; None leaves out all that tells of it. change: called with the dataset before it is
    written.
    """
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    made.SpecificCharacterSet = charset
    made.SOPClassUID, made.SOPInstanceUID, made.Modality = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.3.77", "RTSTRUCT"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.StructureSetLabel = "1.2.3.78", "1.2.3.79", "drawn"
    for keyword, value in PATIENT.items():
        setattr(made, keyword, value)
    if frame is not None:
        made.ReferencedFrameOfReferenceSequence = [Dataset()]
        made.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = frame
    made.StructureSetROISequence, made.ROIContourSequence, made.RTROIObservationsSequence = [], [], []
    for number, (name, contours, *kind) in enumerate(rois, 11):
        roi, drawn, seen = Dataset(), Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = number, name, "MANUAL"
        if frame is not None:
            roi.ReferencedFrameOfReferenceUID = frame
        drawn.ReferencedROINumber, drawn.ROIDisplayColor = number, [number, 100, 200]
        if contours:
            drawn.ContourSequence = []
        for points in contours:
            item = Dataset()
            item.ContourGeometricType, item.NumberOfContourPoints = kind[0] if kind else "CLOSED_PLANAR", len(points)
            item.ContourData = [round(float(v), 6) for v in np.ravel(points)]
            drawn.ContourSequence.append(item)
        seen.ObservationNumber = seen.ReferencedROINumber = number
        seen.RTROIInterpretedType, seen.ROIInterpreter = "ORGAN", ""
        made.StructureSetROISequence.append(roi)
        made.ROIContourSequence.append(drawn)
        made.RTROIObservationsSequence.append(seen)
    if change is not None:
        change(made)
    made.save_as(path, enforce_file_format=True)
    return path

"""Scans as hospitals really send them: a phantom as slices or as frames of an enhanced image, with pydicom alone, and
then spoilt in one way.
"""

from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset

ROOT = "1.2.826.0.1.3680043.10.999.7"
ENHANCED = {"CT": "1.2.840.10008.5.1.4.1.1.2.1", "MR": "1.2.840.10008.5.1.4.1.1.4.1"}


def phantom(shape=(8, 12, 10), spacing=(1.5, 1.25, 3.0)) -> sitk.Image:
    """A CT in whole HU, different in every voxel, with air around, away from the origin."""
    array = np.random.default_rng(0).integers(-100, 900, shape)
    array[:, :2], array[:, -2:] = -1000, -1000
    image = sitk.GetImageFromArray(array.astype(np.int16))
    image.SetSpacing(spacing)
    image.SetOrigin((-31.5, -22.25, 105.5))
    return image


def item(**elements) -> Dataset:
    """A dataset of these elements."""
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def enhanced(image: sitk.Image, modality="CT", order=None, scales=None, shared=False) -> Dataset:
    """An enhanced multi-frame image of whole numbers.

    order: the slice that each frame shows; scales: slope and intercept of each frame, by default (1, −1024) of a CT and
    none of an MR; shared: the scale stands in the shared groups.
    """
    array = sitk.GetArrayFromImage(image).astype(float)
    order = list(range(len(array))) if order is None else list(order)
    scales = scales or ([(1, -1024)] * len(order) if modality == "CT" else None)
    made = item(
        SOPClassUID=ENHANCED[modality],
        SOPInstanceUID=f"{ROOT}.3",
        StudyInstanceUID=f"{ROOT}.9",
        SeriesInstanceUID=f"{ROOT}.1",
        FrameOfReferenceUID=f"{ROOT}.2",
        Modality=modality,
        PatientName="Zweistein^Änne",
        PatientID="GEHEIM-4711",
        NumberOfFrames=len(order),
        Rows=array.shape[1],
        Columns=array.shape[2],
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        BitsAllocated=16,
        BitsStored=16,
        HighBit=15,
        PixelRepresentation=0,
        SpecificCharacterSet="ISO_IR 192",
    )
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    direction = np.array(image.GetDirection()).reshape(3, 3)
    spacing = image.GetSpacing()
    groups = item(
        PixelMeasuresSequence=[item(PixelSpacing=[spacing[1], spacing[0]], SliceThickness=spacing[2])],
        PlaneOrientationSequence=[
            item(ImageOrientationPatient=[float(v) for v in (*direction[:, 0], *direction[:, 1])])
        ],
    )
    frames, stored = [], []
    for number, k in enumerate(order):
        place = [float(v) for v in image.TransformIndexToPhysicalPoint((0, 0, int(k)))]
        frame = item(
            FrameContentSequence=[item(StackID="1", InStackPositionNumber=int(k) + 1)],
            PlanePositionSequence=[item(ImagePositionPatient=place)],
        )
        values = array[k]
        if scales is not None:
            slope, intercept = scales[number]
            values = np.rint((values - intercept) / slope)
            scale = item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="HU" if modality == "CT" else "US")
            if not shared:
                frame.PixelValueTransformationSequence = [scale]
            elif number == 0:
                groups.PixelValueTransformationSequence = [scale]
        frames.append(frame)
        stored.append(values)
    made.SharedFunctionalGroupsSequence, made.PerFrameFunctionalGroupsSequence = [groups], frames
    made.PixelData = np.stack(stored).astype("<u2").tobytes()
    return made


def save(made: Dataset, folder: Path, name="frames.dcm") -> Path:
    """Write a dataset; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    made.save_as(folder / name, enforce_file_format=True)
    return folder


def change_slices(folder: Path, change) -> Path:
    """Call `change(number, dataset)` with every slice of a series, from the lowest on; None deletes the file."""
    files = {f: pydicom.dcmread(f) for f in folder.iterdir()}
    for number, file in enumerate(sorted(files, key=lambda f: float(files[f].ImagePositionPatient[2]))):
        if change(number, files[file]) is None:
            file.unlink()
        else:
            files[file].save_as(file)
    return folder

"""RTDOSE and RTSTRUCT: scaling, place, units and frames of reference."""

import csv

import numpy as np
import pytest
import SimpleITK as sitk

from rtuncertainty.core.errors import InputError
from rtuncertainty.dose import dose_image
from rtuncertainty.dose.job import dvh_to_files


def write_rtdose(path, change=None):
    """pydicom's own RTDOSE example, in Gy, of 15 planes of 10 × 10; returns (values in Gy [z, y, x], dataset)."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    dataset = pydicom.dcmread(get_testdata_file("rtdose.dcm", download=False))
    dataset.DoseUnits = "GY"
    values = dataset.pixel_array * float(dataset.DoseGridScaling)
    if change is not None:
        change(dataset)
    dataset.save_as(path)
    return values, dataset


def test_rtdose_is_scaled_and_in_place(tmp_path):
    values, dataset = write_rtdose(tmp_path / "plan.dcm")
    for given in (tmp_path / "plan.dcm", tmp_path):
        image = dose_image.read(given, "cGy")  # its own unit counts
        assert np.allclose(sitk.GetArrayFromImage(image), values, rtol=1e-6) and values.max() > 1
    assert image.GetSpacing() == (10, 10, 5) and np.allclose(image.GetOrigin(), dataset.ImagePositionPatient)
    assert image.GetMetaData("frame_of_reference") == dataset.FrameOfReferenceUID


def test_rtdose_with_planes_downwards(tmp_path):
    def down(dataset):
        dataset.GridFrameOffsetVector = [-5.0 * k for k in range(15)]

    values, dataset = write_rtdose(tmp_path / "plan.dcm", down)
    image = dose_image.read(tmp_path / "plan.dcm")
    last = image.TransformIndexToPhysicalPoint((0, 0, 14))
    assert last[2] == pytest.approx(dataset.ImagePositionPatient[2] - 70) and image[3, 4, 14] == pytest.approx(
        values[14, 4, 3]
    )


def test_a_folder_of_more_than_a_dose(tmp_path):
    with pytest.raises(InputError, match="holds no DICOM file"):
        dose_image.read(tmp_path)
    for name in ("one.dcm", "two.dcm"):
        write_rtdose(tmp_path / name)
    with pytest.raises(InputError, match="holds 2 DICOM files"):
        dose_image.read(tmp_path)


@pytest.mark.parametrize(
    "change,words",
    [
        (lambda d: setattr(d, "DoseUnits", "RELATIVE"), ["RELATIVE", "in Gy"]),
        (lambda d: delattr(d, "DoseGridScaling"), ["DoseGridScaling"]),
        (lambda d: setattr(d, "Modality", "CT"), ["modality CT", "RTDOSE"]),
        (
            lambda d: setattr(d, "GridFrameOffsetVector", [0.0, 5.0, 11.0, *(20.0 + 5 * k for k in range(12))]),
            ["uneven distances"],
        ),
    ],
)
def test_rtdose_that_is_none(tmp_path, change, words):
    write_rtdose(tmp_path / "plan.dcm", change)
    with pytest.raises(InputError) as error:
        dose_image.read(tmp_path / "plan.dcm")
    assert all(word in str(error.value) for word in ["plan.dcm", *words])


def write_rtstruct(path, rois, frame):
    """A structure set of {name: [contours]}; the least that a reader needs."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.sequence import Sequence

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    meta.MediaStorageSOPInstanceUID = "2.25.1"
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    whole = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    whole.SOPClassUID, whole.SOPInstanceUID, whole.Modality = meta.MediaStorageSOPClassUID, "2.25.1", "RTSTRUCT"
    whole.StructureSetROISequence, whole.ROIContourSequence = Sequence(), Sequence()
    for number, (name, contours) in enumerate(rois.items(), 1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame
        drawn.ReferencedROINumber, drawn.ContourSequence = number, Sequence()
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourData = [f"{v:.3f}" for v in np.ravel(points)]
            drawn.ContourSequence.append(contour)
        whole.StructureSetROISequence.append(roi)
        whole.ROIContourSequence.append(drawn)
    whole.save_as(path, enforce_file_format=True)


def test_rtdose_and_rtstruct(tmp_path):
    """Contours as they were drawn, on a dose of 10 mm: no voxel of an image comes between them."""
    _, dataset = write_rtdose(tmp_path / "dose.dcm")
    x, y, z = (float(v) for v in dataset.ImagePositionPatient)

    def box(z, size):
        return [
            [x + 22, y + 31, z],
            [x + 22 + size, y + 31, z],
            [x + 22 + size, y + 31 + size, z],
            [x + 22, y + 31 + size, z],
        ]

    tilted = [[[x, y, z], [x + 20, y, z + 9], [x, y + 20, z]], box(z + 30, 9)]
    rois = {"box": [box(z + 20 + 3 * k, 24) for k in range(8)], "tilted": tilted, "none": []}
    write_rtstruct(tmp_path / "set.dcm", rois, dataset.FrameOfReferenceUID)
    paths, _ = dvh_to_files(tmp_path / "dose.dcm", tmp_path / "set.dcm", tmp_path / "dvh.csv")
    with paths.open(newline="", encoding="utf-8") as file:
        rows = {row["structure"]: row for row in csv.DictReader(file)}
    assert (
        float(rows["box"]["volume_ml"]) == pytest.approx(24 * 24 * 24 / 1000, rel=1e-3)
        and float(rows["box"]["mean_gy"]) > 0
    )
    assert "parallel planes" in rows["tilted"]["note"] and "no closed contour" in rows["none"]["note"]
    write_rtstruct(tmp_path / "other.dcm", rois, "1.2.3")
    with pytest.raises(InputError, match="other.dcm: its frame of reference"):
        dvh_to_files(tmp_path / "dose.dcm", tmp_path / "other.dcm", tmp_path / "other.csv")

"""CT series, SEG and registration objects, read back by pydicom, GDCM and by hand; series that are none; marks and
UIDs.
"""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from make_dicom import CODE, OBLIQUE, PATIENT, ct, shapes, write_series
from scipy import ndimage

from rtuncertainty import dicom
from rtuncertainty.core import geometry
from rtuncertainty.core.errors import InputError
from rtuncertainty.core.structure_set import Structure
from rtuncertainty.dicom import author

AUTHOR = dicom.Author("limb-t1-synct", "0.2.0")


def frames(dataset):
    """{(segment, place): frame} of a SEG, by its own functional groups."""
    pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    found = {}
    for frame, groups in zip(pixels, dataset.PerFrameFunctionalGroupsSequence):
        said = groups if "SegmentIdentificationSequence" in groups else dataset.SharedFunctionalGroupsSequence[0]
        number = said.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        place = tuple(round(float(v), 3) for v in groups.PlanePositionSequence[0].ImagePositionPatient)
        found[number, place] = frame
    return found


@pytest.mark.parametrize("direction, modality", [((1, 0, 0, 0, 1, 0, 0, 0, 1), "CT"), (OBLIQUE, "MR")])
def test_ct_series(tmp_path, direction, modality):
    source = ct(direction)
    series = dicom.read_series(write_series(source, tmp_path / "scan", modality))
    hu = sitk.GetImageFromArray(np.random.default_rng(3).integers(-1024, 3500, (12, 40, 48)).astype(np.int16))
    hu.CopyInformation(source)
    (tmp_path / "ct").mkdir()
    for k, made in enumerate(dicom.make_ct_series(hu, series, AUTHOR, "synthetic CT")):
        author.write(made, tmp_path / "ct" / f"{k}.dcm")
    reader = sitk.ImageSeriesReader()
    [uid] = reader.GetGDCMSeriesIDs(str(tmp_path / "ct"))
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "ct"), uid))
    back = reader.Execute()
    assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(hu)) and geometry.same_grid(
        back, source, 1e-4
    )
    slices = sorted(map(pydicom.dcmread, (tmp_path / "ct").iterdir()), key=lambda d: d.InstanceNumber)
    for k, d in enumerate(slices):
        assert np.array_equal(
            d.pixel_array.astype(int) * int(d.RescaleSlope) + int(d.RescaleIntercept), sitk.GetArrayFromImage(hu)[k]
        )
        assert np.allclose(
            np.array(d.ImagePositionPatient, float), source.TransformIndexToPhysicalPoint((0, 0, k)), atol=1e-4
        )
        assert (
            d.SOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
            and d.Modality == "CT"
            and d.ImageType[:2] == ["DERIVED", "SECONDARY"]
        )
        assert d.SourceImageSequence[0].ReferencedSOPInstanceUID == series.slices[k].SOPInstanceUID
        for text in (d.SeriesDescription, d.DerivationDescription, d.ImageComments):
            assert "NOT FOR CLINICAL USE" in text and "limb-t1-synct 0.2.0" in text
        assert (
            d.ContentQualification == "RESEARCH"
            and d.SeriesDescription.startswith("synthetic CT")
            and d.PatientName == PATIENT["PatientName"]
        )
    scan = series.first
    assert len({d.SOPInstanceUID for d in slices}) == 12 and not {d.SOPInstanceUID for d in slices} & {
        d.SOPInstanceUID for d in series.slices
    }
    assert (
        {d.SeriesInstanceUID for d in slices} == {uid}
        and uid != scan.SeriesInstanceUID
        and slices[0].FrameOfReferenceUID == scan.FrameOfReferenceUID
    )


def test_values_that_are_no_hu(tmp_path):
    series = dicom.read_series(write_series(ct(), tmp_path / "scan"))
    with pytest.raises(InputError, match="are no HU"):
        list(dicom.make_ct_series(geometry.like(np.full((12, 40, 48), 4e4), ct()), series, AUTHOR, "synthetic CT"))


def test_seg(tmp_path):
    source = ct(OBLIQUE)
    structures = shapes(source)
    series = dicom.read_series(write_series(source, tmp_path / "scan"))
    author.write(dicom.make_segmentation(structures, series, AUTHOR), tmp_path / "seg.dcm")
    made = pydicom.dcmread(tmp_path / "seg.dcm")
    assert [s.SegmentLabel for s in made.SegmentSequence] == [s.name for s in structures if s.name != "empty"]
    found, checked = frames(made), 0
    for number, s in enumerate(structures[:4], 1):
        for k, want in enumerate(sitk.GetArrayFromImage(s.mask)):
            frame = found.get(
                (number, tuple(round(v, 3) for v in source.TransformIndexToPhysicalPoint((0, 0, k)))),
                np.zeros_like(want),
            )
            assert np.array_equal(frame, want)
            checked += want.any()
    assert checked == len(found) > 15
    first = made.SegmentSequence[0]
    assert (
        first.SegmentedPropertyTypeCodeSequence[0].CodeValue == CODE["value"]
        and first.SegmentAlgorithmType == "AUTOMATIC"
    )
    assert first.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    algorithm = first.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("limb-t1-synct", "0.2.0")
    assert "NOT FOR CLINICAL USE" in made.SeriesDescription and "NOT FOR CLINICAL USE" in made.ContentDescription
    assert made.PatientName == PATIENT["PatientName"] and made.FrameOfReferenceUID == series.frame_of_reference
    assert made.SpecificCharacterSet == "ISO_IR 192" and made.StudyInstanceUID == series.first.StudyInstanceUID


def test_probabilities(tmp_path):
    source = ct()
    series = dicom.read_series(write_series(source, tmp_path / "scan"))
    p = np.random.default_rng(0).random((12, 40, 48)).astype(np.float32)
    p[:3] = 0
    author.write(
        dicom.make_segmentation(
            [Structure("gtv", geometry.like(p, source), (1, 2, 3))], series, AUTHOR, probability=True
        ),
        tmp_path / "p.dcm",
    )
    made = pydicom.dcmread(tmp_path / "p.dcm")
    assert (made.SegmentationType, made.SegmentationFractionalType, made.MaximumFractionalValue) == (
        "FRACTIONAL",
        "PROBABILITY",
        255,
    )
    found = frames(made)
    got = np.stack(
        [found[1, tuple(round(v, 3) for v in source.TransformIndexToPhysicalPoint((0, 0, k)))] for k in range(3, 12)]
    )
    assert len(found) == 9 and np.abs(got / 255 - p[3:]).max() <= 0.5 / 255 + 1e-6


def source_point(dataset, point):
    """PS3.3, C.20.3.1.1: where a point of the registered frame lies in the source frame; linear between the vectors."""
    [item] = dataset.DeformableRegistrationSequence
    [grid] = item.DeformableRegistrationGridSequence
    row, column = np.array(grid.ImageOrientationPatient, float).reshape(2, 3)
    size = [int(n) for n in grid.GridDimensions]
    vectors = np.frombuffer(grid.VectorGridData, "<f4").reshape(size[2], size[1], size[0], 3)
    axes = np.stack([row, column, np.cross(row, column)]) * np.array(grid.GridResolution, float)[:, None]
    at = np.linalg.solve(axes.T, point - np.array(grid.ImagePositionPatient, float))
    low, shift = np.floor(at).astype(int), np.zeros(3)
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod([(at - low)[a] if corner[a] else 1 - (at - low)[a] for a in range(3)])
        i, j, k = low + corner
        shift += weight * vectors[k, j, i]
    return point + shift


@pytest.mark.parametrize("flip", [False, True])
def test_registration_leads_from_daily_to_planning_points(tmp_path, flip):
    """A planning landmark is found from its place on the daily scan; the field's own transform, by ITK, says the
    same.
    """
    rng = np.random.default_rng(0)
    daily, planning = ct(OBLIQUE), ct(shape=(30, 90, 90), spacing=(2.0, 2.0, 3.0))
    daily_series = dicom.read_series(write_series(daily, tmp_path / "daily", root="1.2.3.1"))
    plan_series = dicom.read_series(write_series(planning, tmp_path / "plan", root="1.2.3.2", study="1.2.3.2.9"))
    array = ndimage.gaussian_filter(rng.normal(0, 90, (12, 40, 48, 3)), (2, 2, 2, 0)) + (5.0, 8.0, -6.0)
    field = sitk.GetImageFromArray(array, isVector=True)
    field.CopyInformation(daily)
    if flip:
        field = sitk.Flip(field, [False, True, False])
        assert np.linalg.det(np.array(field.GetDirection()).reshape(3, 3)) < 0
    author.write(dicom.make_registration(field, daily_series, plan_series, AUTHOR), tmp_path / "reg.dcm")
    made = pydicom.dcmread(tmp_path / "reg.dcm")
    transform = sitk.DisplacementFieldTransform(sitk.Image(field))
    for index in rng.uniform(1, 10, (40, 3)):
        point = np.array(daily.TransformContinuousIndexToPhysicalPoint([float(v) for v in index]))
        assert np.allclose(source_point(made, point), transform.TransformPoint(point), atol=1e-3)
    [item] = made.DeformableRegistrationSequence
    assert (
        made.FrameOfReferenceUID == "1.2.3.1.2"
        and item.SourceFrameOfReferenceUID == "1.2.3.2.2"
        and made.Modality == "REG"
    )
    assert {r.ReferencedSOPInstanceUID for r in item.ReferencedImageSequence} == {
        s.SOPInstanceUID for s in plan_series.slices
    }
    [other] = made.StudiesContainingOtherReferencedInstancesSequence
    assert other.StudyInstanceUID == "1.2.3.2.9" and made.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.1.1"
    assert "NOT FOR CLINICAL USE" in made.ContentDescription and made.ManufacturerModelName == "limb-t1-synct"
    far = sitk.GetImageFromArray(array + 500, isVector=True)
    far.CopyInformation(daily)
    with pytest.raises(InputError, match="is not the planning scan"):
        dicom.make_registration(far, daily_series, plan_series, AUTHOR)


def test_uids_and_titles():
    a, b, c = (dicom.Author("m", "1", seed=seed) for seed in ("x", "x", "y"))
    first = [a.uid() for _ in range(50)]
    assert first == [b.uid() for _ in range(50)] and not set(first) & {c.uid() for _ in range(50)}
    prefixed = dicom.Author("m", "1", prefix="1.2.826.0.1.3680043.10").uid()
    assert prefixed.startswith("1.2.826.0.1.3680043.10.") and all(
        u.is_valid and len(u) <= 64 for u in (*first, prefixed, AUTHOR.uid())
    )
    assert AUTHOR.uid() != AUTHOR.uid()
    for prefix in ("1.02.3", "abc", "1..2", "1", 30 * "1."):
        with pytest.raises(InputError, match="no prefix of UIDs"):
            dicom.Author("m", "1", prefix=prefix)
    for model in ("m", 30 * "model"):
        for what in ("ct", 80 * "w"):
            title = dicom.Author(model, "1.2").titled(what)
            assert len(title) <= 64 and title.endswith("NOT FOR CLINICAL USE")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"skip": (3, 4)}, "slices are missing"),
        ({"skip": range(1, 12)}, "there is only one"),
        ({"FrameOfReferenceUID": None}, "lacks FrameOfReferenceUID"),
        ({"ImagePositionPatient": [0, 0, 5]}, "several lie at one position"),
        ({"ImagePositionPatient": None}, "position, orientation or pixel spacing is missing"),
        ({"NumberOfFrames": 3}, "multi-frame"),
        ({"Modality": "RTDOSE"}, "holds no DICOM slices"),
    ],
)
def test_series_that_are_none(tmp_path, change, words):
    with pytest.raises(InputError, match=words) as caught:
        dicom.read_series(write_series(ct(), tmp_path / "scan", **change))
    assert str(tmp_path / "scan") in str(caught.value) and not any(v in str(caught.value) for v in PATIENT.values())


def test_folders_that_are_none(tmp_path):
    with pytest.raises(InputError, match="is no folder"):
        dicom.read_series(tmp_path / "nothing")
    (tmp_path / "text.dcm").write_text("no DICOM at all", encoding="utf-8")
    with pytest.raises(InputError, match="holds no DICOM slices"):
        dicom.read_series(tmp_path)
    for number, name in enumerate("ab"):
        for file in write_series(ct(), tmp_path / name, root=f"1.2.3.{number}").iterdir():
            file.rename(tmp_path / f"{name}{file.name}")
    with pytest.raises(InputError, match=r"holds 2 DICOM series \(CT of 12 files, CT of 12 files\)"):
        dicom.read_series(tmp_path)


def test_a_tilted_gantry(tmp_path):
    write_series(ct(), tmp_path / "scan")
    for path in (tmp_path / "scan").iterdir():
        d = pydicom.dcmread(path)
        d.ImagePositionPatient[1] += 0.3 * float(d.ImagePositionPatient[2])
        d.save_as(path)
    with pytest.raises(InputError, match="tilted gantry"):
        dicom.read_series(tmp_path / "scan")


def test_fitting_images_onto_a_series(tmp_path):
    source = ct(OBLIQUE)
    series = dicom.read_series(write_series(source, tmp_path / "scan"))
    assert geometry.same_grid(series.grid, source, 1e-4)
    for order in ("LPS", "PIR", "SAL", "RAI"):
        back = series.fit(sitk.DICOMOrient(source, order), "it")
        assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(source)) and geometry.same_grid(
            back, source, 1e-4
        )
    crop = source[5:30, 4:20, 2:9]
    back = sitk.GetArrayFromImage(series.fit(crop, "it", part=True))
    assert np.array_equal(back[2:9, 4:20, 5:30], sitk.GetArrayFromImage(crop)) and np.count_nonzero(
        back
    ) == np.count_nonzero(sitk.GetArrayFromImage(crop))
    beyond = sitk.ConstantPad(source, (2, 0, 0), (0, 0, 0), 7)
    with pytest.raises(InputError, match="reaches beyond the series"):
        series.fit(beyond, "it", part=True)
    shifted, finer = sitk.Image(source), ct(OBLIQUE, spacing=(1.5, 1.25, 2.9))
    shifted.SetOrigin([v + 0.5 for v in source.GetOrigin()])
    for wrong, words in (
        (crop, "it has 48 × 40 × 12 voxels"),
        (shifted, "at another place"),
        (finer, "the other 48 × 40 × 12 voxels of 1.5 × 1.25 × 2.9 mm"),
        (ct(), "in another direction"),
    ):
        with pytest.raises(InputError, match=words):
            series.fit(wrong, "it")


def test_a_structure_in_one_slice_as_seg(tmp_path):
    source = ct()
    series = dicom.read_series(write_series(source, tmp_path / "scan"))
    dot = shapes(source)[3]
    found = frames(dicom.make_segmentation([dot], series, AUTHOR))
    assert list(found) == [(1, tuple(round(v, 3) for v in source.TransformIndexToPhysicalPoint((0, 0, 5))))]
    assert np.argwhere(next(iter(found.values()))).tolist() == [[4, 3]]

"""RTSTRUCT in and out: what is written is read, by us and by a reader of another kind, and what is broken is told."""

import logging

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from make_dicom import CODE, OBLIQUE, PATIENT, SAGITTAL, circle, ct, shapes, write_series, write_structure_set

from rtuncertainty import dicom
from rtuncertainty.core import image_io
from rtuncertainty.core.errors import InputError
from rtuncertainty.dicom import author, structure_input
from rtuncertainty.dicom.rtstruct_write import role_of


def written(folder, image, structures, modality="CT", **tags):
    series = dicom.read_series(write_series(image, folder / "scan", modality, **tags))
    made = dicom.make_structure_set(
        structures, series, dicom.Author("limb-t1-synct", "0.2.0"), {"PTV": "Volume 0.0 ml."}
    )
    author.write(made, folder / "rs.dcm")
    return folder / "rs.dcm"


@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), OBLIQUE, SAGITTAL])
def test_round_trip(tmp_path, direction):
    image = ct(direction)
    structures, notes = shapes(image), []
    path = written(tmp_path, image, structures)
    scan = image_io.read(tmp_path / "scan")
    found = structure_input.read(path, grid=scan, tell=notes.append)
    assert list(found) == [s.name for s in structures] and notes == ["empty: has no contour; it is an empty structure."]
    for s in structures:
        back = found[s.name]
        assert (
            np.array_equal(sitk.GetArrayFromImage(back.mask), sitk.GetArrayFromImage(s.mask))
            and back.mask.GetDirection() == scan.GetDirection()
        )
        assert back.color == s.color and back.role == role_of(s)
    assert found["Femur links"].code == CODE and found["PTV"].role == "PTV" and found["PTV"].code is None


def test_an_image_with_its_axes_in_another_order(tmp_path):
    image = ct(OBLIQUE)
    structures = shapes(image)
    path = written(tmp_path, image, structures)
    turned = sitk.DICOMOrient(image, "PIR")
    for s, back in zip(structures, dicom.read_structures(path, turned).values()):
        assert np.array_equal(
            sitk.GetArrayFromImage(back.mask), sitk.GetArrayFromImage(sitk.DICOMOrient(s.mask, "PIR"))
        )


def inside_by_angle(points, at):
    """Whether a polygon [n, 2] goes around the points `at` [m, 2], by summing the angles under which its edges are
    seen.
    """
    to = points[None] - at[:, None]
    angle = np.arctan2(to[..., 1], to[..., 0])
    turn = np.diff(np.concatenate([angle, angle[:, :1]], 1), axis=1)
    return np.rint((((turn + np.pi) % (2 * np.pi)) - np.pi).sum(1) / (2 * np.pi)) != 0


def test_another_reader(tmp_path):
    """By the file alone: points in patient coordinates, voxel centres in patient coordinates, angles; nothing of
    ours.
    """
    image = ct(OBLIQUE)
    structures = shapes(image)
    dataset = pydicom.dcmread(written(tmp_path, image, structures))
    slices = {d.SOPInstanceUID: d for d in map(pydicom.dcmread, (tmp_path / "scan").iterdir())}
    names = {r.ROINumber: r.ROIName for r in dataset.StructureSetROISequence}
    for roi in dataset.ROIContourSequence:
        s = next(s for s in structures if s.name == names[roi.ReferencedROINumber])
        mask = np.zeros(sitk.GetArrayFromImage(s.mask).shape, bool)
        for contour in roi.get("ContourSequence", []):
            assert contour.ContourGeometricType == "CLOSED_PLANAR"
            [refers] = contour.ContourImageSequence
            header = slices[refers.ReferencedSOPInstanceUID]
            row, column = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
            points = np.array(contour.ContourData, float).reshape(-1, 3) - np.array(header.ImagePositionPatient, float)
            assert (
                len(points) == contour.NumberOfContourPoints and np.abs(points @ np.cross(row, column)).max() < 1e-3
            )  # in its slice
            flat = points @ np.stack([row, column], 1)
            y, x = np.mgrid[: header.Rows, : header.Columns]
            centres = np.stack(
                [x.ravel() * float(header.PixelSpacing[1]), y.ravel() * float(header.PixelSpacing[0])], 1
            )
            k = len(slices) - header.InstanceNumber
            mask[k] |= inside_by_angle(flat, centres).reshape(y.shape)
        assert np.array_equal(mask, sitk.GetArrayFromImage(s.mask) > 0), s.name


def test_what_the_file_says(tmp_path):
    image = ct()
    structures = shapes(image)
    structures[3].name = "PTV " + 80 * "x"
    dataset = pydicom.dcmread(written(tmp_path, image, structures))
    scan = pydicom.dcmread(next((tmp_path / "scan").iterdir()))
    assert (
        dataset.SpecificCharacterSet == "ISO_IR 192"
        and dataset.PatientName == scan.PatientName
        and dataset.PatientID == scan.PatientID
    )
    assert dataset.StudyInstanceUID == scan.StudyInstanceUID and dataset.SeriesInstanceUID != scan.SeriesInstanceUID
    [frame] = dataset.ReferencedFrameOfReferenceSequence
    [series] = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    assert frame.FrameOfReferenceUID == scan.FrameOfReferenceUID and series.SeriesInstanceUID == scan.SeriesInstanceUID
    assert {r.ReferencedSOPInstanceUID for r in series.ContourImageSequence} == {
        f"1.2.826.0.1.3680043.10.999.1.3.{k}" for k in range(1, 13)
    }
    for text in (
        dataset.SeriesDescription,
        dataset.StructureSetName,
        dataset.StructureSetDescription,
        *(r.ROIDescription for r in dataset.StructureSetROISequence),
    ):
        assert "NOT FOR CLINICAL USE" in text and "limb-t1-synct 0.2.0" in text
    assert dataset.ApprovalStatus == "UNAPPROVED" and {
        r.ROIGenerationAlgorithm for r in dataset.StructureSetROISequence
    } == {"AUTOMATIC"}
    assert (
        max(len(r.ROIName) for r in dataset.StructureSetROISequence) <= 64
        and dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2"
    )
    assert (
        dataset.StructureSetROISequence[0].ROIDerivationAlgorithmIdentificationSequence[0].AlgorithmVersion == "0.2.0"
    )


@pytest.fixture
def scan(tmp_path):
    """An axial CT as its reader gives it, with the frame of reference."""
    return image_io.read(write_series(ct(), tmp_path / "scan"))


def read(path, scan):
    notes = []
    return dicom.read_structures(path, scan, notes.append, "the scan"), notes


Z = 105.4 + 3.0 * np.arange(12)


def test_a_circle_has_its_area(tmp_path, scan):
    path = write_structure_set(tmp_path / "rs.dcm", [("Kreis", [circle(3, 2, z, 15, 400) for z in Z[2:9]])])
    found, notes = read(path, scan)
    assert not notes and found["Kreis"].color == (11, 100, 200) and found["Kreis"].role == "ORGAN"
    array = sitk.GetArrayFromImage(found["Kreis"].mask)
    assert np.flatnonzero(array.any((1, 2))).tolist() == list(range(2, 9))
    assert array[4].sum() * 1.5 * 1.25 == pytest.approx(np.pi * 15**2, rel=0.02)
    centre = np.argwhere(array).mean(0)[::-1]
    assert np.allclose(scan.TransformContinuousIndexToPhysicalPoint([float(v) for v in centre])[:2], (3, 2), atol=0.3)


def test_notes_about_what_was_done(tmp_path, scan):
    tilted = circle(0, 0, Z[5], 6)
    tilted[:, 2] += tilted[:, 0] / 2
    path = write_structure_set(
        tmp_path / "rs.dcm",
        [
            ("Blase", [circle(0, 0, z, 9) for z in Z[1:8:3]]),
            ("Blase", [circle(0, 0, Z[3], 5)]),
            ("Größe", [circle(30, 20, Z[2], 12)]),
            ("Iso", [np.array([[0.0, 0, Z[3]]])], "POINT"),
            ("leer", []),
            ("schief", [tilted, circle(9, 9, Z[4], 4)]),
            ("\n", [circle(5, 5, Z[6], 3)]),
        ],
    )
    found, notes = read(path, scan)
    assert list(found) == ["Blase", "Blase 2", "Größe", "leer", "schief", "ROI 17"]
    assert [n for n in notes if n.startswith("Blase:")] == [
        "Blase: its contours are further apart than the slices; 4 slices between them were interpolated.",
        "Blase: several structures have this name; the later one is called Blase 2.",
    ]
    assert (
        "Größe: reaches beyond the image and is cut off there." in notes
        and "leer: has no contour; it is an empty structure." in notes
    )
    assert "Iso: 1 of its contours left out: of type POINT, not closed planar." in notes
    assert (
        "schief: 1 of its contours lie oblique to the slices of the image and were left out." in notes
        and len(notes) == 6
    )


def test_without_an_image_a_grid_is_made(tmp_path):
    drawn = [circle(3, 2, z, 15, 400) for z in np.arange(10, 31, 2.5)]
    path = write_structure_set(tmp_path / "rs.dcm", [("Kreis", drawn), ("klein", [circle(8, 2, 15.0, 4)])])
    mask = structure_input.read(path)["Kreis"].mask
    assert mask.GetSpacing() == (1.0, 1.0, 2.5)
    assert sitk.GetArrayFromImage(mask).sum() * 2.5 == pytest.approx(9 * 2.5 * np.pi * 15**2, rel=0.02)
    turn = np.array(OBLIQUE).reshape(3, 3)
    mask = structure_input.read(write_structure_set(tmp_path / "o.dcm", [("Kreis", [c @ turn.T for c in drawn])]))[
        "Kreis"
    ].mask
    assert sitk.GetArrayFromImage(mask).sum() * np.prod(mask.GetSpacing()) == pytest.approx(
        9 * 2.5 * np.pi * 15**2, rel=0.02
    )


def without(keyword):
    return lambda dataset: delattr(dataset, keyword)


def unnamed(dataset):
    dataset.ROIContourSequence[0].ReferencedROINumber = 99


def odd(dataset):
    dataset.ROIContourSequence[0].ContourSequence[0].ContourData = [1.0, 2.0, 3.0, 4.0]


def plan(dataset):
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.5"


@pytest.mark.parametrize(
    "rois, options, words",
    [
        ([("a", [circle(0, 0, 900.0, 9)])], {}, "none of its contours lies in the scan"),
        ([("a", [circle(0, 0, Z[3], 9)])], {"frame": "1.2.3.4.5"}, "its frame of reference is not that of the scan"),
        ([("a", [circle(0, 0, Z[3], 9)])], {"change": without("ROIContourSequence")}, "holds no structures"),
        ([("a", [circle(0, 0, Z[3], 9)])], {"change": unnamed}, "does not name"),
        ([("a", [circle(0, 0, Z[3], 9)])], {"change": odd}, "a contour of 'a' is damaged"),
        ([("a", [circle(0, 0, Z[3], 9)])], {"change": plan}, "no structure set"),
        ([("a", [np.zeros((1, 3))], "POINT")], {}, "no closed planar contour"),
        ([("a", [])], {}, "no closed planar contour"),
    ],
)
def test_bad_structure_sets(tmp_path, scan, rois, options, words):
    path = write_structure_set(tmp_path / "rs.dcm", rois, **options)
    with pytest.raises(InputError, match=words) as caught:
        read(path, scan)
    assert (
        "\n" not in str(caught.value)
        and str(path) in str(caught.value)
        and not any(v in str(caught.value) for v in PATIENT.values())
    )


def test_frames_that_are_not_told(tmp_path, scan):
    rois = [("a", [circle(0, 0, Z[3], 9)])]

    def nameless(dataset):
        del dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID

    with pytest.raises(InputError, match="frame of reference is not that"):  # the file as a whole has one
        read(write_structure_set(tmp_path / "rs.dcm", rois, frame="1.2.3.4.5", change=nameless), scan)
    found, notes = read(write_structure_set(tmp_path / "rs.dcm", rois, frame=None), scan)
    assert found["a"].mask is not None and "rs.dcm names no frame of reference" in notes[0]
    found, notes = read(write_structure_set(tmp_path / "rs.dcm", rois), ct())  # a NIfTI file has none either
    assert "the scan names no frame of reference" in notes[0]


def test_a_file_that_is_cut_short_is_never_taken_for_whole(tmp_path, scan):
    whole = write_structure_set(
        tmp_path / "rs.dcm", [("a", [circle(0, 0, z, 9) for z in Z[2:6]]), ("b", [circle(0, 0, Z[3], 9)])]
    ).read_bytes()
    for encoded in (whole, undefined_lengths(tmp_path / "rs.dcm")):
        for end in np.linspace(0, len(encoded) - 1, 60).astype(int):
            (tmp_path / "cut.dcm").write_bytes(encoded[:end])
            with pytest.raises(InputError):
                read(tmp_path / "cut.dcm", scan)
    (tmp_path / "cut.dcm").write_bytes(whole[:200] + bytes(range(256)) * 20)
    with pytest.raises(InputError):
        read(tmp_path / "cut.dcm", scan)


def undefined_lengths(path) -> bytes:
    """The same file with sequences and items that end by a mark."""

    def walk(dataset):
        dataset.is_undefined_length_sequence_item = True
        for element in dataset:
            if element.VR == "SQ":
                element.is_undefined_length = True
                for item in element.value:
                    walk(item)

    dataset = pydicom.dcmread(path)
    walk(dataset)
    dataset.save_as(path.with_name("undefined.dcm"))
    return path.with_name("undefined.dcm").read_bytes()


def test_folders(tmp_path, scan):
    folder = tmp_path / "both"
    write_series(ct(), folder)
    with pytest.raises(InputError, match="holds no DICOM structure sets"):
        read(folder, scan)
    write_structure_set(folder / "rs.dcm", [("a", [circle(0, 0, Z[3], 9)])])
    (folder / "notes.txt").write_text("no DICOM", encoding="utf-8")
    assert list(read(folder, scan)[0]) == ["a"]
    write_structure_set(folder / "rs2.dcm", [("a", [circle(0, 0, Z[3], 9)])])
    with pytest.raises(InputError, match="holds 2 DICOM structure sets"):
        read(folder, scan)


def test_names_in_other_character_sets(tmp_path, scan):
    path = write_structure_set(tmp_path / "rs.dcm", [("Größe", [circle(0, 0, Z[3], 9)])], charset="ISO_IR 100")
    assert list(read(path, scan)[0]) == ["Größe"]


def test_pydicom_says_nothing_and_is_left_as_it_was(tmp_path, scan, recwarn, caplog):
    def wrong(dataset):
        dataset.PatientBirthDate = "geboren 1954"
        dataset.PatientID = 90 * "G"

    path = write_structure_set(tmp_path / "rs.dcm", [("a", [circle(0, 0, Z[3], 9)])], change=wrong)
    recwarn.clear()
    caplog.clear()
    modes = pydicom.config.settings.reading_validation_mode, logging.getLogger("pydicom").level
    read(path, scan)
    assert not recwarn.list and not caplog.records
    assert modes == (pydicom.config.settings.reading_validation_mode, logging.getLogger("pydicom").level)


def test_without_pydicom_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = write_structure_set(tmp_path / "rs.dcm", [("a", [circle(0, 0, Z[3], 9)])])
    monkeypatch.setattr(
        structure_input.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name))
    )
    with pytest.raises(InputError, match="an RTSTRUCT needs pydicom: run 'pip install pydicom'"):
        structure_input.read(path)

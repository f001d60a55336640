"""Scans as they are really sent: right or refused, and never guessed at in silence. See README.md."""

import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from make_dicom import OBLIQUE, write_series
from make_scans import change_slices, enhanced, item, phantom, save
from pydicom.data import get_testdata_files

from rtuncertainty.core import geometry, image_io
from rtuncertainty.core.errors import InputError
from rtuncertainty.dicom import structure_input


def same(found: sitk.Image, wanted: sitk.Image, tolerance=0.0) -> bool:
    """Whether an image has the values of another at the same places in space, whichever end its slices begin at."""
    found, wanted = geometry.to_axial(found), geometry.to_axial(wanted)
    values = [sitk.GetArrayFromImage(i).astype(float) for i in (found, wanted)]
    return geometry.same_grid(found, wanted) and np.abs(values[0] - values[1]).max() <= tolerance


# ------------------------------------------------------------------ 1: frames of enhanced images
FRAMES = {
    "in order": {},
    "backwards": {"order": range(7, -1, -1)},
    "shuffled": {"order": (3, 0, 7, 5, 1, 2, 6, 4)},
    "scale of all": {"shared": True},
    "a scale for each frame": {"scales": [(1 + k % 2, -1000 - 8 * k) for k in range(8)]},
}


@pytest.mark.parametrize("case", FRAMES)
@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), OBLIQUE])
def test_frames_lie_where_their_groups_say(tmp_path, case, direction):
    image = phantom()
    image.SetDirection([float(v) for v in direction])
    tolerance = 1.0 if "scales" in FRAMES[case] else 0.0  # even numbers only can be stored at slope 2
    place = save(enhanced(image, **FRAMES[case]), tmp_path / "ct")
    for given_path in (place, place / "frames.dcm"):
        found = image_io.read(given_path)
        assert same(found, image, tolerance) and found.GetMetaData("modality") == "CT"


def test_frames_against_highdicom(tmp_path):
    """Another reader of functional groups has the same matrix and the same values."""
    highdicom = pytest.importorskip("highdicom")
    file = save(enhanced(phantom(), order=(3, 0, 7, 5, 1, 2, 6, 4)), tmp_path) / "frames.dcm"
    theirs = highdicom.imread(file).get_volume()
    ours = image_io.read(file)
    for index in ((0, 0, 0), (3, 5, 7)):
        row = np.array(ours.TransformIndexToPhysicalPoint(index))
        at = np.rint(theirs.map_reference_to_indices(row[None])[0]).astype(int)
        assert np.allclose(theirs.map_indices_to_reference(at[None])[0], row, atol=1e-6)
        assert ours[index] == pytest.approx(float(theirs.array[tuple(at)]))


def test_an_enhanced_mr_has_its_own_numbers_or_scaled_ones(tmp_path):
    image = phantom() + 1000
    assert same(image_io.read(save(enhanced(image, "MR"), tmp_path / "plain")), image)
    scaled = enhanced(image, "MR", scales=[(0.5 * (1 + k % 3), 0) for k in range(8)])
    assert same(image_io.read(save(scaled, tmp_path / "scaled")), image, 0.76)


def test_frames_in_several_files_and_compressed(tmp_path):
    image = phantom()
    for k in range(8):
        one = enhanced(image, order=[k])
        one.SOPInstanceUID = f"1.2.3.{k}"
        save(one, tmp_path / "each", f"{(3 * k) % 8}.dcm")
    assert same(image_io.read(tmp_path / "each"), image)
    rle = enhanced(image, order=(3, 0, 7, 5, 1, 2, 6, 4))
    rle.compress(pydicom.uid.RLELossless)
    assert same(image_io.read(save(rle, tmp_path / "rle")), image)


def group(frame, sequence):
    return frame.get(sequence)[0]


def stack(made, number):
    for k, frame in enumerate(made.PerFrameFunctionalGroupsSequence):
        setattr(group(frame, "FrameContentSequence"), *number(k))


def without(made, k, keep_count=False):
    """One frame less."""
    del made.PerFrameFunctionalGroupsSequence[k]
    size = made.Rows * made.Columns * 2
    made.PixelData = made.PixelData[: k * size] + made.PixelData[(k + 1) * size :]
    made.NumberOfFrames = made.NumberOfFrames if keep_count else made.NumberOfFrames - 1


def frames_of_a_picture(made):
    made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7.3"
    del made.PerFrameFunctionalGroupsSequence, made.SharedFunctionalGroupsSequence


SPOILT_FRAMES = [
    (lambda m: stack(m, lambda k: ("StackID", str(k // 4))), "2 stacks"),
    (lambda m: stack(m, lambda k: ("TemporalPositionIndex", k % 2 + 1)), "2 time points"),
    (lambda m: without(m, 3), "missing"),
    (lambda m: without(m, 7) or stack(m, lambda k: ("InStackPositionNumber", k + 2)), "places 2 to 8"),
    (lambda m: without(m, 0, True), "NumberOfFrames"),
    (lambda m: setattr(m, "PixelData", m.PixelData[:-500]), "damaged"),
    (lambda m: m.PerFrameFunctionalGroupsSequence[2].pop("PlanePositionSequence"), "ImagePositionPatient"),
    (lambda m: m.SharedFunctionalGroupsSequence[0].pop("PlaneOrientationSequence"), "ImageOrientationPatient"),
    (lambda m: m.SharedFunctionalGroupsSequence[0].pop("PixelMeasuresSequence"), "PixelSpacing"),
    (lambda m: m.PerFrameFunctionalGroupsSequence[2].pop("PixelValueTransformationSequence"), "RescaleSlope"),
    (frames_of_a_picture, "without places"),
    (lambda m: setattr(m, "Modality", "SEG"), "SEG"),
    (lambda m: setattr(m, "Modality", "SM"), "SM"),
    (
        lambda m: [
            setattr(group(f, "PixelValueTransformationSequence"), "RescaleType", "Z_EFF")
            for f in m.PerFrameFunctionalGroupsSequence
        ],
        "RescaleType",
    ),
]


@pytest.mark.parametrize("number", range(len(SPOILT_FRAMES)))
def test_frames_that_make_no_volume_are_refused(tmp_path, number):
    spoil, words = SPOILT_FRAMES[number]
    made = enhanced(phantom())
    spoil(made)
    with pytest.raises(InputError, match=words) as told:
        image_io.read(save(made, tmp_path / "ct"))
    assert "ct" in str(told.value) and "\n" not in str(told.value) and "GEHEIM" not in str(told.value)


def test_frames_of_two_echoes_are_refused(tmp_path):
    made = enhanced(phantom() + 1000, "MR")
    for k, frame in enumerate(made.PerFrameFunctionalGroupsSequence):
        frame.MREchoSequence = [item(EffectiveEchoTime=5.0 + k // 4)]
    with pytest.raises(InputError, match="2 echoes"):
        image_io.read(save(made, tmp_path / "mr"))


def test_a_single_slice_and_no_pydicom(tmp_path, monkeypatch):
    from rtuncertainty.core.scans import dicom_scan

    file = next(write_series(phantom(), tmp_path / "ct").iterdir())
    with pytest.raises(InputError, match="single DICOM slice; give the folder"):
        image_io.read(file)
    monkeypatch.setattr(dicom_scan, "has_pydicom", lambda: False)
    with pytest.raises(InputError, match="pip install pydicom"):
        image_io.read(save(enhanced(phantom()), tmp_path / "frames"))


# ------------------------------------------------------------------ 2: slices that differ
def stored_otherwise(number, d):
    """Every other slice unsigned, with its own slope and intercept: the same HU."""
    values = np.frombuffer(d.PixelData, "<i2").astype(int)
    if number % 2:
        d.PixelRepresentation, d.RescaleIntercept, d.RescaleSlope = 0, -1024 - number, 1
        d.PixelData = (values + 1024 + number).astype("<u2").tobytes()
    return d


def test_each_slice_is_scaled_by_its_own_tags(tmp_path):
    for modality in ("CT", "MR"):
        place = change_slices(write_series(phantom(), tmp_path / modality, modality), stored_otherwise)
        assert same(image_io.read(place), phantom())


def first_signed(number, d):
    """The first slice alone is unsigned: its type must not decide (air became 64,537 HU)."""
    return stored_otherwise(1, d) if number == 0 else d


def test_the_first_slice_does_not_decide_for_all(tmp_path):
    assert same(image_io.read(change_slices(write_series(phantom(), tmp_path / "ct"), first_signed)), phantom())


def only(numbers, **tags):
    def change(number, d):
        if number in numbers:
            for keyword, value in tags.items():
                d.pop(keyword, None) if value is None else setattr(d, keyword, value)
        return d

    return change


SPOILT_SLICES = [
    (only(range(8), RescaleSlope=None, RescaleIntercept=None), "RescaleSlope"),
    (only(range(8), RescaleIntercept=None), "RescaleIntercept"),
    (only([3], RescaleSlope=None, RescaleIntercept=None), "RescaleSlope"),
    (only([3], RescaleSlope=0), "RescaleSlope"),
    (only(range(8), RescaleType="OD"), "RescaleType"),
    (only([3], RescaleType="ED"), "RescaleType"),
    (only(range(8), PixelRepresentation=0), "no HU below 0"),
    (only([3], Modality="MR"), "Modality"),
    (only([3], PatientID="another"), "PatientID"),
    (only([3], FrameOfReferenceUID="1.2.3"), "FrameOfReferenceUID"),
    (only([3], PhotometricInterpretation="MONOCHROME1"), "PhotometricInterpretation"),
    (only(range(8), PhotometricInterpretation="MONOCHROME1"), "MONOCHROME1"),
    (only([3], PixelSpacing=None), "PixelSpacing"),
    (only([3], ImagePositionPatient=None), "ImagePositionPatient"),
    (only([3], PixelSpacing=[1.25, 1.6]), "pixel spacing"),
    (only([0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "localizer"),
    (lambda n, d: None if n == 3 else d, "missing"),
    (lambda n, d: d if n else setattr(d, "PixelData", d.PixelData[:-100]) or d, "fewer pixels"),
]


@pytest.mark.parametrize("number", range(len(SPOILT_SLICES)))
def test_slices_that_do_not_fit_are_refused(tmp_path, number):
    change, words = SPOILT_SLICES[number]
    with pytest.raises(InputError, match=words) as told:
        image_io.read(change_slices(write_series(phantom(), tmp_path / "ct"), change))
    assert "ct" in str(told.value) and "GEHEIM" not in str(told.value)


def test_a_tag_that_only_some_slices_have_is_no_fault(tmp_path):
    place = write_series(phantom(), tmp_path / "ct", FrameOfReferenceUID="1.2.3")
    change_slices(place, only([0, 4], FrameOfReferenceUID=None, PatientID=None))
    found = image_io.read(place)
    assert same(found, phantom()) and found.GetMetaData("frame_of_reference") == "1.2.3"


# ------------------------------------------------------------------ 4: damage and distances
@pytest.mark.parametrize("left", [0, 100, 400, 1000, -100])
@pytest.mark.parametrize("suffix", [".dcm", ""])
def test_a_damaged_slice_is_not_left_out(tmp_path, left, suffix):
    place = write_series(phantom(), tmp_path / "ct")
    for file in place.iterdir():
        file.rename(file.with_suffix(suffix))
    last = sorted(place.iterdir(), key=lambda f: float(pydicom.dcmread(f).ImagePositionPatient[2]))[-1]
    last.write_bytes(last.read_bytes()[:left])
    with pytest.raises(InputError, match=re.escape(last.name)):
        image_io.read(place)


def moved(heights):
    def change(number, d):
        d.ImagePositionPatient = [*d.ImagePositionPatient[:2], heights[number]]
        return d

    return change


def test_distances_that_creep_are_told_or_refused(tmp_path):
    steps = [2.9, 2.9, 2.95, 2.95, 3.0, 3.05, 3.05]
    place = change_slices(write_series(phantom(), tmp_path / "a"), moved(np.insert(np.cumsum(steps), 0, 0)))
    notes = []
    found = image_io.read(place, tell=notes.append)
    assert found.GetSpacing()[2] == pytest.approx(np.mean(steps))
    assert len(notes) == 1 and "from 2.9 to 3.05 mm" in notes[0]
    many = phantom((60, 4, 4))
    steps = np.linspace(2.87, 3.13, 59)  # each within 5 % of 3 mm, but the middle is 1.9 mm off
    place = change_slices(write_series(many, tmp_path / "b"), moved(np.insert(np.cumsum(steps), 0, 0)))
    with pytest.raises(InputError, match="2.87 to 3.13 mm"):
        image_io.read(place)


def test_small_animals(tmp_path):
    for step in (0.1, 0.05, 0.008):
        image = phantom(spacing=(step, step, step))
        image.SetOrigin((1, 2, 3))
        assert same(image_io.read(write_series(image, tmp_path / str(step))), image)


# ------------------------------------------------------------------ 12: folders with something else
def test_other_objects_beside_a_scan_do_not_matter_and_alone_are_named(tmp_path):
    place = write_series(phantom(), tmp_path / "ct")
    files = {Path(f).name: f for f in get_testdata_files()}
    for name, kind in (("rtdose.dcm", "RTDOSE"), ("rtstruct.dcm", None), ("examples_overlay.dcm", None)):
        if kind:
            alone = tmp_path / name[:-4]
            alone.mkdir()
            shutil.copy(files[name], alone)
            with pytest.raises(InputError, match=f"holds {kind}, but no scan"):
                image_io.read(alone)
            with pytest.raises(InputError, match=kind):
                image_io.read(alone / name)
    for name in ("rtdose.dcm", "rtstruct.dcm", "rtplan.dcm"):
        shutil.copy(files[name], place)
    assert same(image_io.read(place), phantom())


def test_pictures_are_no_scans(tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (5, 6, 7)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "a.tif"))
    with pytest.raises(InputError, match="no size and no place"):
        image_io.read(tmp_path / "a.tif")


def test_pydicoms_own_files(tmp_path):
    """All files that come with pydicom, each by itself: none is a volume, and each is refused in one line."""
    from rtuncertainty.dose import dose_image

    count = 0
    for file in map(Path, get_testdata_files()):
        if not file.is_file() or file.suffix in (".json", ".txt", ".dump", ".icc", ".gz"):
            continue
        count += 1
        with pytest.raises(InputError) as told:
            image_io.read(file)
        assert "\n" not in str(told.value) and "itk::" not in str(told.value), told.value
        try:
            dose = dose_image.read(file)
        except InputError as error:
            assert "\n" not in str(error)
            continue
        d = pydicom.dcmread(file)
        assert d.Modality == "RTDOSE" and dose.GetSize() == (d.Columns, d.Rows, d.NumberOfFrames)
        stored = d.pixel_array * float(d.DoseGridScaling)
        assert np.allclose(sitk.GetArrayViewFromImage(dose), stored, rtol=1e-5)
    assert count > 100


# ------------------------------------------------------------------ 4: NIfTI
def nifti(tmp_path, *edits, name="a.nii") -> Path:
    """A NIfTI-1 file whose header was changed: (offset, format, values), see nifti1.h."""
    path = tmp_path / name
    sitk.WriteImage(sitk.Cast(phantom(), sitk.sitkFloat32), str(path))
    raw = bytearray(path.read_bytes())
    for offset, form, values in edits:
        struct.pack_into("<" + form, raw, offset, *values)
    path.write_bytes(raw)
    return path


CODES, SFORM, PIXDIM, SCALE = 252, 280, 80, 112
# a quarter turn about the head axis, as rows of an sform (RAS)
TURNED = (0, -1.25, 0, 5, 1.5, 0, 0, 6, 0, 0, 3, 7)


@pytest.mark.parametrize(
    "edits, words",
    [
        ([(PIXDIM, "3f", (-1.5, 1.25, 3))], "pixdim"),
        ([(PIXDIM, "3f", (1.5, -1.25, -3))], "pixdim"),
        ([(SCALE, "2f", (0, -1024))], "scl_slope"),
        ([(SCALE, "2f", (float("nan"), 0))], "scl_slope"),
        ([(CODES, "2h", (0, 2)), (SFORM, "12f", (-1.5, 1, 0, 5, 0, -1.25, 0, 6, 0, 0, 3, 7))], "sheared|right angles"),
        ([(CODES, "2h", (1, 2)), (SFORM, "12f", (-1.5, 1, 0, 5, 0, -1.25, 0, 6, 0, 0, 3, 7))], "right angles"),
        ([(344, "4s", (b"\0\0\0\0",))], "Analyze"),
        ([(0, "i", (540,))], "NIfTI-2"),
    ],
)
def test_nifti_headers_that_contradict_themselves(tmp_path, edits, words):
    with pytest.raises(InputError, match=words):
        image_io.read(nifti(tmp_path, *edits))


@pytest.mark.parametrize("codes", [(1, 1), (1, 2), (2, 4), (0, 2)])
def test_the_sform_counts_as_in_nibabel(tmp_path, codes):
    """nibabel's `get_best_affine` takes the sform where its code is above 0; ITK does so for some codes only."""
    notes = []
    found = image_io.read(nifti(tmp_path, (CODES, "2h", codes), (SFORM, "12f", TURNED)), tell=notes.append)
    affine = np.vstack([np.reshape(TURNED, (3, 4)), [0, 0, 0, 1]])
    for index in ((0, 0, 0), (3, 2, 1), (9, 11, 7)):
        ras = affine @ [*index, 1]
        assert np.allclose(found.TransformIndexToPhysicalPoint(index), [-ras[0], -ras[1], ras[2]], atol=1e-4)
    assert len(notes) == (codes[0] > 0) and all("sform and qform disagree" in n for n in notes)


def test_structures_are_told_of_too(tmp_path):
    """A label image and its scan, written by one program, have the same two orientations."""
    notes, path = [], nifti(tmp_path, (CODES, "2h", (1, 2)), (SFORM, "12f", TURNED))
    labels = sitk.Cast(sitk.ReadImage(str(path)) > 0, sitk.sitkUInt8)
    sitk.WriteImage(labels, str(tmp_path / "labels.nii"))
    raw = bytearray((tmp_path / "labels.nii").read_bytes())
    struct.pack_into("<2h", raw, CODES, 1, 2)
    struct.pack_into("<12f", raw, SFORM, *TURNED)
    (tmp_path / "labels.nii").write_bytes(raw)
    [found] = structure_input.read(tmp_path / "labels.nii", tell=notes.append).values()
    assert geometry.same_grid(found.mask, image_io.read(path)) and "sform and qform disagree" in notes[0]


def test_an_sform_with_other_voxel_sizes_than_pixdim(tmp_path):
    """The affine counts, in nibabel too."""
    form = (-3, 0, 0, 5, 0, -2.5, 0, 6, 0, 0, 6, 7)
    assert image_io.read(nifti(tmp_path, (CODES, "2h", (0, 2)), (SFORM, "12f", form))).GetSpacing() == (3, 2.5, 6)


def test_nifti_without_a_place_is_told_and_an_ordinary_one_is_not(tmp_path):
    notes = []
    image_io.read(nifti(tmp_path, (CODES, "2h", (0, 0))), tell=notes.append)
    assert len(notes) == 1 and "no orientation" in notes[0]
    notes.clear()
    assert same(image_io.read(nifti(tmp_path, (SCALE, "2f", (0, 0))), tell=notes.append), phantom()) and not notes


def test_headers_without_a_voxel_size(tmp_path):
    for name, line in (("a.nrrd", b"space directions:"), ("a.mha", b"ElementSpacing")):
        path = tmp_path / name
        sitk.WriteImage(phantom(), str(path))
        raw = path.read_bytes()
        start = raw.index(line)
        path.write_bytes(raw[:start] + raw[raw.index(b"\n", start) + 1 :])
        with pytest.raises(InputError, match="states no voxel size"):
            image_io.read(path)


# ------------------------------------------------------------------ whatever happens to slices and frames
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "drop",
                "copy",
                "swap",
                "slope",
                "unsigned",
                "no scale",
                "no place",
                "move",
                "turn",
                "cut",
                "other patient",
            ]
        ),
        st.integers(0, 7),
        st.integers(0, 7),
    ),
    max_size=2,
)


def spoil(folder: Path, changes) -> None:
    """Change a series in ways that keep its meaning (swap: names of files, unsigned, slope) or do not."""
    for kind, k, other in changes:
        files = sorted(f for f in folder.iterdir() if f.stat().st_size > 1000)
        if not files:
            return
        file, second = files[k % len(files)], files[other % len(files)]
        d = pydicom.dcmread(file)
        if kind == "drop":
            file.unlink()
            continue
        if kind == "cut":
            file.write_bytes(file.read_bytes()[:700])
            continue
        if kind == "swap":
            if file != second:
                file.rename(folder / "between")
                second.rename(file)
                (folder / "between").rename(second)
            continue
        if kind == "copy":
            d.SOPInstanceUID += ".1"
            d.save_as(folder / f"copy{k}{other}.dcm")
            continue
        if kind in ("slope", "unsigned") and "RescaleSlope" in d:
            values = np.frombuffer(d.PixelData, "<i2" if d.PixelRepresentation else "<u2") * float(d.RescaleSlope)
            values = values + float(d.RescaleIntercept)
            d.RescaleSlope, d.PixelRepresentation = (0.5, 1) if kind == "slope" else (1, 0)
            d.RescaleIntercept = -1024 if kind == "unsigned" else 10
            stored = np.rint((values - float(d.RescaleIntercept)) / float(d.RescaleSlope))
            d.PixelData = stored.astype("<i2" if d.PixelRepresentation else "<u2").tobytes()
        elif kind == "no scale":
            d.pop("RescaleSlope", None)
        elif kind == "no place":
            d.pop("ImagePositionPatient", None)
        elif kind == "move" and "ImagePositionPatient" in d:
            d.ImagePositionPatient = [*d.ImagePositionPatient[:2], float(d.ImagePositionPatient[2]) + 1.3]
        elif kind == "turn":
            d.ImageOrientationPatient = [0, 1, 0, 1, 0, 0]
        elif kind == "patient":
            d.PatientID = f"P{k}"
        d.save_as(file)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(changes=CHANGES)
def test_a_spoilt_series_is_right_or_refused(tmp_path_factory, changes):
    """Never a third: what is read has the phantom's own values where they lie. An end may be missing: nobody knows."""
    folder = write_series(phantom(), tmp_path_factory.mktemp("s") / "ct")
    spoil(folder, changes)
    try:
        found = image_io.read(folder)
    except InputError as error:
        assert "\n" not in str(error)
        return
    whole = phantom()
    at = whole.TransformPhysicalPointToIndex(found.GetOrigin())
    part = whole[:, :, at[2] : at[2] + found.GetSize()[2]]
    assert same(found, part) and found.GetSize()[2] >= 8 - sum(kind == "drop" for kind, _, _ in changes)


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(
    order=st.permutations(range(8)),
    drop=st.integers(-8, 7),
    stacks=st.integers(1, 2),
    scales=st.booleans(),
)
def test_spoilt_frames_are_right_or_refused(tmp_path_factory, order, drop, stacks, scales):
    made = enhanced(phantom(), order=order, scales=[(1, -1024 - k) for k in range(8)] if scales else None)
    if stacks > 1:
        stack(made, lambda k: ("StackID", str(k % 2)))
    if drop >= 0:
        without(made, drop)
    try:
        found = image_io.read(save(made, tmp_path_factory.mktemp("f")))
    except InputError as error:
        assert "\n" not in str(error)
        assert stacks > 1 or drop >= 0
        return
    assert stacks == 1 and (drop < 0 or order[drop] == 7) and same(found, phantom()[:, :, : found.GetSize()[2]])

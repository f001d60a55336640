"""RTDOSE and gamma as they are really sent: right or refused. See README.md."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from rtuncertainty.core.errors import InputError
from rtuncertainty.dose import dose_image
from rtuncertainty.dose.gamma import gamma
from rtuncertainty.dose.job import gamma_to_file


def write(path, **changes):
    """pydicom's RTDOSE (15 planes, 5 mm apart, of 10 × 10) in Gy with elements changed, None: left out."""
    d = pydicom.dcmread(get_testdata_file("rtdose.dcm", download=False))
    d.DoseUnits = "GY"
    for keyword, value in changes.items():
        d.pop(keyword, None) if value is None else setattr(d, keyword, value)
    d.save_as(path)
    return d


OFFSETS = [5.0 * k for k in range(15)]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"GridFrameOffsetVector": None}, "no GridFrameOffsetVector \\(3004,000C\\)"),
        ({"GridFrameOffsetVector": OFFSETS[:-1]}, "14 numbers in GridFrameOffsetVector"),
        ({"GridFrameOffsetVector": [*OFFSETS, 75.0]}, "16 numbers in GridFrameOffsetVector"),
        ({"GridFrameOffsetVector": [0.0] * 15}, "uneven|cannot be read"),
        ({"GridFrameOffsetVector": OFFSETS[:13] + [70.0, 65.0]}, "uneven"),
        ({"GridFrameOffsetVector": [100 + o for o in OFFSETS]}, "begins with 100 mm"),
        ({"ImagePositionPatient": None}, "ImagePositionPatient"),
        ({"ImageOrientationPatient": None}, "ImageOrientationPatient"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "ImageOrientationPatient"),
        ({"PixelSpacing": None}, "PixelSpacing"),
        ({"PixelSpacing": [0, 5]}, "PixelSpacing"),
        ({"DoseGridScaling": 0}, "DoseGridScaling"),
        ({"DoseGridScaling": None, "RescaleSlope": 1e-6, "RescaleIntercept": 0}, "DoseGridScaling"),
        ({"DoseType": "ERROR"}, "DoseType"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "MONOCHROME1"),
    ],
)
def test_a_dose_whose_place_or_scale_is_not_known_is_refused(tmp_path, changes, words):
    write(tmp_path / "plan.dcm", **changes)
    with pytest.raises(InputError, match=words) as told:
        dose_image.read(tmp_path / "plan.dcm")
    assert "plan.dcm" in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("slope", [2, 0.5, 1e-6, 1])
def test_a_rescale_slope_does_not_replace_the_scaling(tmp_path, slope):
    d = write(tmp_path / "plan.dcm", RescaleSlope=slope, RescaleIntercept=0)
    wanted = d.pixel_array * float(d.DoseGridScaling)
    assert np.allclose(sitk.GetArrayFromImage(dose_image.read(tmp_path / "plan.dcm")), wanted, rtol=1e-5)


def test_offsets_as_heights_and_downwards(tmp_path):
    """Both conventions of PS3.3, C.8.8.3.2; the place of each plane by hand."""
    first = float(write(tmp_path / "plan.dcm").ImagePositionPatient[2])
    for offsets, last in (
        (OFFSETS, first + 70),
        ([-o for o in OFFSETS], first - 70),
        ([first + o for o in OFFSETS], first + 70),
        ([first - o for o in OFFSETS], first - 70),
    ):
        write(tmp_path / "plan.dcm", GridFrameOffsetVector=offsets)
        image = dose_image.read(tmp_path / "plan.dcm")
        assert image.TransformIndexToPhysicalPoint((0, 0, 14))[2] == pytest.approx(last)


def test_the_dose_of_a_single_beam_is_told(tmp_path):
    notes = []
    write(tmp_path / "plan.dcm", DoseSummationType="BEAM")
    dose_image.read(tmp_path / "plan.dcm", note=notes.append)
    assert len(notes) == 1 and "one BEAM" in notes[0]


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(
    offsets=st.permutations(OFFSETS) | st.just(OFFSETS) | st.just(OFFSETS[:7] + OFFSETS[8:] + [75.0]),
    lost=st.sampled_from(["", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "DoseGridScaling"]),
    slope=st.sampled_from([None, 1, 3]),
)
def test_a_spoilt_dose_is_right_or_refused(tmp_path_factory, offsets, lost, slope):
    path = tmp_path_factory.mktemp("d") / "plan.dcm"
    scale = {} if slope is None else {"RescaleSlope": slope, "RescaleIntercept": 0}
    d = write(path, GridFrameOffsetVector=list(offsets), **scale, **({lost: None} if lost else {}))
    try:
        found = dose_image.read(path)
    except InputError as error:
        assert (lost or offsets != OFFSETS) and "\n" not in str(error)
        return
    assert not lost and offsets == OFFSETS and found.GetSpacing() == (10, 10, 5)
    assert np.allclose(sitk.GetArrayViewFromImage(found), d.pixel_array * float(d.DoseGridScaling), rtol=1e-5)


# ------------------------------------------------------------------ gamma
def hill(shape=(11, 12, 13)):
    """A dose of a hill in Gy, on voxels of 2 mm."""
    z, y, x = np.meshgrid(*[np.arange(n) - n // 2 for n in shape], indexing="ij")
    image = sitk.GetImageFromArray((60 * np.exp(-(x**2 + y**2 + z**2) / 60)).astype(np.float32))
    image.SetSpacing((2, 2, 2))
    return image


@pytest.mark.parametrize("max_gamma", [1.1, 2, 5])
@pytest.mark.parametrize("crop", [(slice(3, 11),) * 3, (slice(None), slice(None), slice(4, 9))])
def test_identical_doses_pass_on_a_cropped_grid(max_gamma, crop):
    dose = hill()
    found = gamma(dose, dose[crop], 2, 2, max_gamma=max_gamma)
    assert found.pass_rate() == 100 and found.outside > 0 and found.mean() < 1e-3
    above = sitk.GetArrayFromImage(dose) >= 6
    assert found.evaluated + found.outside == above.sum()
    assert found.evaluated == above[tuple(crop[::-1])].sum()


def test_a_voxel_that_might_pass_beyond_the_end_does_not_count():
    """A dose moved by 2 mm: its match lies 2 mm further, for the last plane beyond the cropped end."""
    dose, moved = hill(), hill()
    moved.SetOrigin((2, 0, 0))
    whole = gamma(dose, moved, 0.5, 2.5, cutoff=30)
    cropped = gamma(dose, moved[:6, :, :], 0.5, 2.5, cutoff=30)
    assert whole.pass_rate() == cropped.pass_rate() == 100 and cropped.evaluated < whole.evaluated


def test_doses_of_two_frames_of_reference_are_refused(tmp_path):
    write(tmp_path / "a.dcm")
    write(tmp_path / "b.dcm", FrameOfReferenceUID="1.2.3")
    assert gamma_to_file(tmp_path / "a.dcm", tmp_path / "a.dcm").pass_rate() == 100
    with pytest.raises(InputError, match="b.dcm: its frame of reference"):
        gamma_to_file(tmp_path / "a.dcm", tmp_path / "b.dcm")

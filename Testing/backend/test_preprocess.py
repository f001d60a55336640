"""Body mask, bias field and z-score on an image whose parts are known."""

import numpy as np
import pytest
import SimpleITK as sitk

from rtuncertainty.core import geometry
from rtuncertainty.core.errors import InputError
from rtuncertainty.prediction import preprocess


def limb(bias=0.0, spacing=(2.0, 2.0, 4.0), shape=(14, 64, 72)):
    """A cylinder of muscle with a ring of fat, a dark bone with bright marrow, in noise; and its true body."""
    z, y, x = np.indices(shape)
    r = np.hypot((y - shape[1] / 2) * spacing[1], (x - shape[2] / 2) * spacing[0])
    image = np.full(shape, 0.0)
    image[r < 50] = 900
    image[r < 42] = 350
    image[r < 15] = 60
    image[r < 8] = 850
    field = np.exp(bias * (x / shape[2] - 0.5) * 2)
    noisy = np.abs(image * field + 12 * np.random.default_rng(0).standard_normal(shape))
    grid = sitk.Image(shape[::-1], sitk.sitkFloat32)
    grid.SetSpacing(spacing)
    return geometry.like(noisy, grid), r < 50, field


def test_body_holds_bone_and_marrow_and_no_air():
    image, truth, _ = limb()
    found = sitk.GetArrayFromImage(preprocess.body_mask(image)) > 0
    # half a voxel of 2 mm around a radius of 50 mm is 4 % of the area
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.96


def test_body_that_fills_the_image():
    image, _, _ = limb()
    inner = image[22:50, 18:46, :]
    assert (sitk.GetArrayFromImage(preprocess.body_mask(inner)) > 0).mean() > 0.98


def test_n4_finds_a_field_and_leaves_an_even_image_alone():
    image, body, field = limb(bias=0.4)
    biased = preprocess.preprocess(image, (None,) * 3)
    assert biased.bias_field_corrected
    mask = geometry.like(body, image, np.uint8)
    found = np.log(sitk.GetArrayFromImage(preprocess.bias_field(image, mask)))[body]
    assert np.corrcoef(found, np.log(field)[body])[0, 1] > 0.95
    even, body, _ = limb(bias=0.0)
    assert not preprocess.preprocess(even, (None,) * 3).bias_field_corrected
    assert preprocess.preprocess(even, (None,) * 3, "on").bias_field_corrected
    assert not preprocess.preprocess(image, (None,) * 3, "off").bias_field_corrected


def test_z_score_in_the_body():
    image, body, _ = limb()
    ready = preprocess.preprocess(image, (None,) * 3, "off")
    inside = sitk.GetArrayFromImage(ready.image)[sitk.GetArrayFromImage(ready.body) > 0]
    assert abs(inside.mean()) < 0.02 and inside.std() == pytest.approx(1, abs=0.02)


def test_scanner_units_do_not_matter():
    image, _, _ = limb()
    a = preprocess.preprocess(image, (None,) * 3, "off").image
    b = preprocess.preprocess(image * 37.5, (None,) * 3, "off").image
    assert np.allclose(sitk.GetArrayFromImage(a), sitk.GetArrayFromImage(b), atol=1e-3)


def test_cancel_ends_n4():
    class Stop(Exception):
        pass

    def stop():
        raise Stop

    image, _, _ = limb(bias=0.4)
    with pytest.raises(Stop):
        preprocess.preprocess(image, (None,) * 3, on_iteration=stop)


def test_nothing_in_it():
    with pytest.raises(InputError, match="dark.nii"):
        preprocess.body_mask(sitk.Image([10, 10, 10], sitk.sitkFloat32) - 5.0, "dark.nii")


def test_voxels_a_hundred_times_too_small_are_called_so():
    image = limb()[0]
    image.SetSpacing((0.02, 0.02, 0.04))
    with pytest.raises(InputError, match="mr.nii is 1.4 × 1.3 × 0.56 mm large.*voxel spacing"):
        preprocess.preprocess(image, (1.0, 1.0, None), "off", "mr.nii")


@pytest.mark.parametrize(
    "asked, told, corrected", [("auto", "off", False), ("on", "off", True), ("off", "on", False), ("auto", "on", True)]
)
def test_the_card_says_whether_the_field_is_corrected_unless_the_user_does(asked, told, corrected):
    image = limb()[0]
    card = {"input": {"spacing_mm": [None, None, None], "bias_field": told}}
    assert preprocess.for_card(image, card, asked).bias_field_corrected == corrected


def cut(shape=(8, 90, 90), skin=2):
    """A thigh that the image cuts: bone with its dark cortex at the right border, fat to the left, air beyond; and
    its true body.
    """
    z, y, x = np.indices(shape)
    body = np.hypot(y - 45, x - 60) < 42
    values = np.where(body, 900.0, 0.0)
    values[body & (np.hypot(y - 45, x - 60) > 42 - skin)] = 150
    values[np.hypot(y - 45, x - 60) < 34] = 300
    bone = np.hypot(y - 45, x - 86)
    values[bone < 14] = 20
    values[bone < 7] = 800
    noise = np.random.default_rng(1).standard_normal((2, *shape)) * 12
    grid = sitk.Image(shape[::-1], sitk.sitkFloat32)
    grid.SetSpacing((1.0, 1.0, 3.0))
    return geometry.like(np.hypot(values + noise[0], noise[1]) + 1, grid), body, bone < 14


@pytest.mark.parametrize("outside", [0, 8])
def test_bone_that_the_border_cuts_is_body(outside):
    """At the border of the image, and at that of a field of view beyond which there is 0."""
    image, body, bone = cut()
    if outside:
        array = sitk.GetArrayFromImage(image)
        array[:, :, -outside:] = 0
        image = geometry.like(array, image)
        body, bone = body[:, :, :-outside], bone[:, :, :-outside]
    found = sitk.GetArrayFromImage(preprocess.body_mask(image))[:, :, : 90 - outside] > 0
    assert found[bone].all()
    assert (found & ~body).sum() < 0.04 * body.sum() and (body & ~found).sum() < 0.01 * body.sum()


def test_dark_skin_is_body():
    image, body, _ = cut()
    found = sitk.GetArrayFromImage(preprocess.body_mask(image)) > 0
    assert found[body].mean() > 0.995 and (found & ~body).sum() < 0.04 * body.sum()


def test_air_between_two_limbs_stays_air():
    z, y, x = np.indices((6, 90, 120))
    values = np.where((np.hypot(y - 40, x - 20) < 36) | (np.hypot(y - 40, x - 100) < 36), 600.0, 0.0)
    noise = np.random.default_rng(2).standard_normal((2, *values.shape)) * 10
    image = sitk.GetImageFromArray((np.hypot(values + noise[0], noise[1]) + 1).astype(np.float32))
    found = sitk.GetArrayFromImage(preprocess.body_mask(image)) > 0
    assert found[:, 38:42, 60].mean() == 0 and found[values > 0].mean() > 0.99


def test_the_scale_is_that_of_the_core():
    """Networks keep what they were trained on: the skin and the cut bone do not move mean and sd."""
    image, _, _ = cut()
    ready = preprocess.preprocess(image, (None,) * 3, "off")
    core = sitk.GetArrayFromImage(preprocess.core_mask(image)) > 0
    inside = sitk.GetArrayFromImage(ready.image)[core]
    assert abs(inside.mean()) < 0.02 and inside.std() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("outside", [-1, -2000, -32768, np.nan])
def test_whatever_lies_outside_of_the_field_of_view(outside, tmp_path):
    from rtuncertainty.core import image_io

    image, _, _ = cut()
    array = sitk.GetArrayFromImage(image)
    array[:, :, -8:] = array[:, :6] = 0
    plain = geometry.like(array, image)
    array[:, :, -8:] = array[:, :6] = outside
    padded = geometry.like(array, image)
    sitk.WriteImage(padded, str(tmp_path / "mr.nii.gz"))
    expected = preprocess.preprocess(plain, (2.0, 2.0, None), "off")
    for given in (image_io.check(padded, "mr", padded=True), image_io.read(tmp_path / "mr.nii.gz", padded=True)):
        found = preprocess.preprocess(given, (2.0, 2.0, None), "off")
        assert np.array_equal(sitk.GetArrayFromImage(found.image), sitk.GetArrayFromImage(expected.image))
        assert np.array_equal(sitk.GetArrayFromImage(found.body), sitk.GetArrayFromImage(expected.body))


def test_nan_inside_is_refused_and_negative_values_with_a_meaning_are_kept(tmp_path):
    from rtuncertainty.core import image_io

    image, _, _ = cut()
    array = sitk.GetArrayFromImage(image)
    array[3, 40:44, 40:44] = np.nan
    sitk.WriteImage(geometry.like(array, image), str(tmp_path / "mr.nii.gz"))
    with pytest.raises(InputError, match="NaN"):
        image_io.check(geometry.like(array, image), "mr", padded=True)
    with pytest.raises(InputError, match="NaN"):
        image_io.read(tmp_path / "mr.nii.gz", padded=True)
    scaled = geometry.like((sitk.GetArrayFromImage(image) - 300) / 200, image)
    assert preprocess.without_padding(scaled) is scaled


@pytest.mark.parametrize("outside, kind", [(65535, np.uint16), (4095, np.int16), (32767, np.int16), (-1, np.int16)])
def test_a_bright_background_is_padding_and_told(outside, kind, tmp_path):
    image, _, _ = cut()
    array = np.rint(sitk.GetArrayFromImage(image)).astype(kind)
    array[:, :, -8:] = array[:, :6] = 0
    plain = geometry.like(array, image, kind)
    array[:, :, -8:] = array[:, :6] = outside
    told = []
    found = preprocess.without_padding(geometry.like(array, image, kind), told.append)
    assert np.array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(plain))
    assert told == ([outside] if outside > 0 else [])


def test_a_saturated_body_is_no_padding():
    """uint8, fat at 255 up to the border of the image."""
    image, _, _ = cut()
    array = np.clip(sitk.GetArrayFromImage(image), 0, 255)
    array[:, :, -10:] = np.maximum(array[:, :, -10:], 200 + 80 * (np.arange(90) > 40)[None, :, None]).clip(0, 255)
    saturated = geometry.like(array, image)
    assert preprocess.without_padding(saturated) is saturated


@pytest.mark.parametrize("top", [0.0, 1500.0, 4095.0, 65535.0])
def test_a_negated_mr_is_refused(top):
    """-MR, and what windowing programs write: the largest value minus the MR."""
    from rtuncertainty.bundles import compatibility

    card = {"name": "m", "input": {"modality": "MR"}}
    image, _, _ = limb()
    compatibility.require(card, compatibility.Scan.of(image), "mr.nii")
    assert not compatibility.warnings(card, compatibility.Scan.of(image))
    for given in (top - image, preprocess.without_padding(top - image)):
        with pytest.raises(InputError, match="mr.nii has a background that is brighter than the body"):
            compatibility.require(card, compatibility.Scan.of(given), "mr.nii")


def test_padding_makes_no_negative():
    """The panel asks before padding is removed: whatever lies outside, the MR is as it was."""
    from rtuncertainty.bundles import background

    image, _, _ = cut()
    for outside in (-32768, 65535, 4095, 0):
        array = sitk.GetArrayFromImage(image)
        array[:, :, -8:] = array[:, :6] = outside
        assert background.negated(array) == ""


def test_where_the_border_is_partly_body_a_negative_is_a_warning():
    from rtuncertainty.bundles import compatibility

    card = {"name": "m", "input": {"modality": "MR"}}
    image = 2000 - cut()[0][:, 20:70, :]
    scan = compatibility.Scan.of(image)
    compatibility.require(card, scan, "mr.nii")
    assert "brightest" in " ".join(compatibility.warnings(card, scan))

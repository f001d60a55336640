"""The digital limb: the same for the same seed, tissues with their HU and signal, and a geometry that holds."""

import time

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from rtuncertainty.core.errors import InputError
from rtuncertainty.phantoms import limb as phantom

ANGLE = np.deg2rad(25)
OBLIQUE = (1, 0, 0, 0, np.cos(ANGLE), -np.sin(ANGLE), 0, np.sin(ANGLE), np.cos(ANGLE))


def array(image):
    return sitk.GetArrayFromImage(image).astype(np.float64)


@pytest.fixture(scope="module")
def limb():
    return phantom.digital_limb(3)


def test_the_default_limb_is_made_in_time():
    start = time.process_time()
    phantom.digital_limb(1)
    assert time.process_time() - start < 10  # 2 s on a quiet core


def test_a_seed_gives_one_limb_and_another_seed_another():
    options = dict(size=(48, 48, 10), spacing=(2.5, 2.5, 6.0))
    first, again, other = (phantom.digital_limb(s, **options) for s in (5, 5, 6))
    for name in ("mr", "ct", "labels", "mr_noise_free", "bias_field"):
        assert np.array_equal(array(getattr(first, name)), array(getattr(again, name)))
    assert (array(first.labels) > 0).sum() != (array(other.labels) > 0).sum()
    assert np.abs(array(first.ct) - array(other.ct)).mean() > 20


def test_types_and_labels(limb):
    assert limb.mr.GetSize() == (160, 160, 60) and limb.mr.GetSpacing() == (1, 1, 3)
    kinds = [i.GetPixelID() for i in (limb.mr, limb.ct, limb.labels, limb.mr_noise_free, limb.bias_field)]
    assert kinds == [sitk.sitkInt16, sitk.sitkInt16, sitk.sitkUInt8, sitk.sitkFloat32, sitk.sitkFloat32]
    assert set(np.unique(array(limb.labels))) == {0, 1, 2}


@pytest.mark.parametrize("seed", [0, 3, 8, 21])
def test_tissues_have_their_hu_and_their_signal(seed):
    limb = phantom.digital_limb(seed, noise=0, bias=0, ct_noise=0, size=(160, 160, 30), spacing=(1, 1, 6))
    mr, ct, labels = array(limb.mr), array(limb.ct), array(limb.labels)

    def core(mask):
        return ndimage.binary_erosion(mask, np.ones((1, 5, 5)))

    bone, tumour = labels == 1, labels == 2
    cortex = bone & (ct > 1000)
    assert 1200 < np.median(ct[core(cortex)]) < 1600 and np.median(mr[core(cortex)]) < 80
    shaft = core(bone & (ct < 600))
    shaft[:18] = False
    assert -60 < np.percentile(ct[shaft], 10) < 120 and np.median(mr[shaft]) > 650
    assert 20 < np.median(ct[core(tumour)]) < 55 and 250 < np.median(mr[core(tumour)]) < 450
    soft = (labels == 0) & (ct > -400)
    fat, muscle = core(soft & (ct < -60)), core(soft & (ct > 30))
    assert -110 < np.median(ct[fat]) < -90 and 850 < np.median(mr[fat]) < 1050
    assert 50 < np.median(ct[muscle]) < 70 and 290 < np.median(mr[muscle]) < 390
    assert np.abs(np.median(ct[ct < -950]) + 1000) < 1 and np.median(mr[ct < -950]) < 20
    # bone and tumour are as large as in an adult's thigh: a femur of 4 to 25 cm², a tumour of 10 to 400 ml
    area = bone.sum((1, 2))
    assert area.min() > 350 and area.max() < 2500 and area[0] > 1.4 * np.median(area)
    assert 10 < tumour.sum() * 6 / 1000 < 400
    # trabecular bone near the end is denser than the marrow of the shaft
    end = core(bone[:2] & (ct[:2] < 600))
    assert ct[:2][end].mean() > 60


def test_structures_are_connected_and_inside_the_body(limb):
    labels, ct = array(limb.labels), array(limb.ct)
    for label in (1, 2):
        mask = labels == label
        parts, count = ndimage.label(mask)
        assert np.bincount(parts.ravel())[1:].max() > 0.97 * mask.sum()
        assert ndimage.gaussian_filter(ct, (0, 1, 1))[mask].min() > -300


def test_noise_is_rician_and_as_strong_as_asked():
    options = dict(size=(96, 96, 12), spacing=(1.7, 1.7, 6.0), bias=0)
    noisy, quiet = (phantom.digital_limb(4, noise=n, **options) for n in (0.02, 0.0))
    assert np.abs(array(quiet.mr) - array(quiet.mr_noise_free)).max() <= 0.5
    sd, difference = 0.02 * 945, array(noisy.mr) - array(noisy.mr_noise_free)
    muscle = (array(noisy.ct) > 20) & (array(noisy.labels) == 0)
    assert difference[muscle].std() == pytest.approx(sd, rel=0.05)
    air = array(noisy.mr_noise_free) < 9
    # over a signal of 8 the magnitude of noise of sd 18.9 has a mean of 24.8 (Rice)
    assert array(noisy.mr)[air].mean() == pytest.approx(24.8, rel=0.05)


def test_bias_field_is_smooth_as_strong_as_asked_and_multiplies():
    limb = phantom.digital_limb(2, size=(64, 64, 12), spacing=(2.5, 2.5, 5), bias=0.3, noise=0)
    log_field = np.log(array(limb.bias_field))
    assert np.abs(log_field).max() == pytest.approx(0.3, rel=1e-3)
    assert max(np.abs(np.diff(log_field, axis=a)).max() for a in (1, 2)) < 0.03
    assert np.abs(array(limb.mr) - array(limb.mr_noise_free) * array(limb.bias_field)).max() <= 0.51


def test_edges_hold_partial_volume():
    limb = phantom.digital_limb(0, size=(96, 96, 6), spacing=(1.6, 1.6, 6), noise=0, ct_noise=0)
    ct = array(limb.ct)
    assert 0.01 < ((ct > -900) & (ct < -200)).mean() < 0.08


def test_an_oblique_grid_moves_the_voxels_not_their_values():
    options = dict(size=(48, 40, 10), spacing=(2.5, 2.6, 6.0), seed=9)
    straight, tilted = phantom.digital_limb(**options), phantom.digital_limb(**options, direction=OBLIQUE)
    assert np.array_equal(array(straight.mr), array(tilted.mr))
    for image in (tilted.mr, tilted.ct, tilted.labels, tilted.mr_noise_free, tilted.bias_field):
        assert np.allclose(image.GetDirection(), OBLIQUE) and image.GetOrigin() == tilted.mr.GetOrigin()
        middle = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
        assert np.allclose(middle, 0, atol=1e-9)
    placed = phantom.digital_limb(**options, origin=(1, 2, 3))
    assert placed.mr.GetOrigin() == (1, 2, 3)


def test_one_slice_no_tumour_and_a_large_field_of_view():
    limb = phantom.digital_limb(1, size=(64, 64, 1), spacing=(4, 4, 5), tumour=False)
    labels = array(limb.labels)
    assert (labels == 1).any() and not (labels == 2).any()


def test_written_files_come_back(tmp_path):
    limb = phantom.write_limb(tmp_path / "deep" / "limb", 7, size=(32, 32, 6), spacing=(4, 4, 8), direction=OBLIQUE)
    for name in ("mr", "ct", "labels"):
        read = sitk.ReadImage(str(tmp_path / "deep" / "limb" / f"{name}.nii.gz"))
        made = getattr(limb, name)
        assert np.array_equal(array(read), array(made)) and np.allclose(
            read.GetDirection(), made.GetDirection(), atol=1e-6
        )
        assert np.allclose(read.GetSpacing(), made.GetSpacing()) and np.allclose(
            read.GetOrigin(), made.GetOrigin(), atol=1e-4
        )


@pytest.mark.parametrize(
    "options",
    [
        dict(size=(8, 64, 4)),
        dict(size=(64, 64, 0)),
        dict(size=(20, 20, 4)),
        dict(spacing=(1, 1, 0)),
        dict(direction=(1, 0, 0, 0, 1, 0, 0, 0, 0)),
    ],
)
def test_impossible_grids_are_refused(options):
    with pytest.raises(InputError, match="digital limb"):
        phantom.digital_limb(0, **options)

"""The digital pelvis: a man's anatomy with its volumes, HU and signals, and a second visit that is known exactly."""

import time
from functools import cache

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage, stats

from rtuncertainty.core.errors import InputError
from rtuncertainty.phantoms import pelvis as phantom_pelvis
from rtuncertainty.phantoms.pelvis import LABELS

COARSE = dict(size=(96, 64, 32), spacing=(4.0, 4.0, 6.0))
CLEAN = dict(noise=0, bias=0, ct_noise=0)
IMAGES = (
    "mr",
    "ct",
    "labels",
    "ct_as_scanned",
    "displacement",
    "refilled",
    "mr_noise_free",
    "ct_noise_free",
    "bias_field",
)
SEEDS = (0, 4, 11)


def array(image):
    return sitk.GetArrayFromImage(image).astype(np.float64)


@cache
def clean(seed):
    return phantom_pelvis.digital_pelvis(seed, **COARSE, **CLEAN)


def middle(pelvis, name):
    """Middle of a structure in mm, (x to the left, y to the back, z to the head)."""
    index = np.argwhere(array(pelvis.labels) == LABELS[name]).mean(0)[::-1]
    return np.array(pelvis.labels.TransformContinuousIndexToPhysicalPoint(index.tolist()))


def whole_body(ct):
    parts, _ = ndimage.label(ct > -300)
    largest = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    return np.stack([ndimage.binary_fill_holes(s) for s in largest])


def test_the_default_pelvis_is_made_in_time():
    start = time.process_time()
    pelvis = phantom_pelvis.digital_pelvis(1)
    assert time.process_time() - start < 20  # 4 s on a quiet core
    assert pelvis.mr.GetSize() == (192, 128, 48) and pelvis.mr.GetSpacing() == (2, 2, 4)
    assert set(np.unique(array(pelvis.labels))) == set(LABELS.values())


def test_a_seed_gives_one_man_and_another_seed_another():
    first, again, other = clean(4), phantom_pelvis.digital_pelvis(4, **COARSE, **CLEAN), clean(0)
    for name in IMAGES:
        assert np.array_equal(array(getattr(first, name)), array(getattr(again, name))), name
    assert first.facts == again.facts and first.rigid.GetParameters() == again.rigid.GetParameters()
    assert np.abs(array(first.ct) - array(other.ct)).mean() > 50
    assert all(first.facts[k] != other.facts[k] for k in first.facts)


def test_types_and_grids():
    pelvis = clean(0)
    kinds = {n: getattr(pelvis, n).GetPixelIDTypeAsString() for n in IMAGES}
    assert [kinds[n] for n in ("mr", "ct", "ct_as_scanned")] == ["16-bit signed integer"] * 3
    assert kinds["labels"] == kinds["refilled"] == "8-bit unsigned integer"
    assert kinds["displacement"] == "vector of 32-bit float"
    for name in set(IMAGES) - {"ct_as_scanned"}:
        image = getattr(pelvis, name)
        grids = [(i.GetSize(), i.GetSpacing(), i.GetOrigin()) for i in (image, pelvis.mr)]
        assert grids[0] == grids[1], name
    assert pelvis.ct_as_scanned.GetSize() != pelvis.mr.GetSize()


@pytest.mark.parametrize("seed", SEEDS)
def test_volumes_are_those_of_men_and_those_drawn(seed):
    pelvis = clean(seed)
    ml = np.bincount(array(pelvis.labels).astype(int).ravel(), minlength=7) * np.prod(pelvis.labels.GetSpacing()) / 1000
    facts = pelvis.facts
    assert 25 <= facts["prostate_ml"] <= 90 and 80 <= facts["bladder_ml"] <= 450
    assert ml[LABELS["prostate"]] == pytest.approx(facts["prostate_ml"], rel=0.06)
    assert ml[LABELS["bladder"]] == pytest.approx(facts["bladder_ml"], rel=0.04)
    ball = 4 / 3 * np.pi * facts["head_radius"] ** 3 / 1000
    for side in ("left", "right"):
        assert 0.9 * ball < ml[LABELS[f"femoral_head_{side}"]] < 1.9 * ball
    assert 30 < ml[LABELS["rectum"]] < 200 and 550 < ml[LABELS["bone"]] < 1300


@pytest.mark.parametrize("seed", SEEDS)
def test_structures_lie_where_they_do_in_a_man(seed):
    pelvis = clean(seed)
    left, right, prostate, rectum, bladder = (
        middle(pelvis, n) for n in ("femoral_head_left", "femoral_head_right", "prostate", "rectum", "bladder")
    )
    assert left[0] > 60 and right[0] < -60 and 150 < left[0] - right[0] < 215
    assert abs(left[2] - right[2]) < 15
    # the prostate between the bladder, above, and the rectum, behind; all in the middle
    assert bladder[2] - prostate[2] > 25 and rectum[1] - prostate[1] > 20 and bladder[1] < rectum[1]
    assert max(abs(prostate[0]), abs(rectum[0]), abs(bladder[0])) < 25
    labels = array(pelvis.labels)
    prostate_slices, bladder_slices = (
        np.flatnonzero((labels == LABELS[n]).any((1, 2))) for n in ("prostate", "bladder")
    )
    assert abs(int(prostate_slices.max()) - int(bladder_slices.min())) <= 3
    # bone behind the rectum (sacrum) and before the prostate (symphysis)
    bone = np.argwhere(labels == LABELS["bone"])
    points = np.array([pelvis.labels.TransformIndexToPhysicalPoint([int(i) for i in b[::-1]]) for b in bone])
    central = np.abs(points[:, 0] - prostate[0]) < 25
    assert (points[central, 1] > rectum[1] + 15).any()
    level = np.abs(points[:, 2] - prostate[2]) < 20
    assert (points[central & level, 1] < prostate[1] - 20).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_structures_are_connected_and_inside_the_body(seed):
    pelvis = clean(seed)
    labels, body = array(pelvis.labels), whole_body(array(pelvis.ct))
    assert ((labels > 0) & ~body).sum() == 0
    for name in ("femoral_head_left", "femoral_head_right", "prostate", "rectum", "bladder"):
        parts, _ = ndimage.label(labels == LABELS[name], np.ones((3, 3, 3)))
        assert np.bincount(parts.ravel())[1:].max() > 0.98 * (parts > 0).sum(), name
    assert (~body[:, 0]).all()  # there is air in front


@pytest.mark.parametrize("seed", SEEDS)
def test_tissues_have_their_hu_and_their_signal(seed):
    pelvis = clean(seed)
    mr, ct, labels = array(pelvis.mr), array(pelvis.ct), array(pelvis.labels)
    body = whole_body(ct)

    def core(mask):
        return ndimage.binary_erosion(mask, np.ones((1, 3, 3)))

    urine, gland, heads = (
        core(core(labels == LABELS["bladder"])),
        core(labels == LABELS["prostate"]),
        core((labels == 2) | (labels == 3)),
    )
    soft = body & (labels == 0)
    fat, muscle = core(soft & (ct < -80) & (ct > -125)), core(soft & (ct > 42) & (ct < 70))
    deep = ndimage.binary_erosion(labels == LABELS["bladder"], iterations=3)
    assert deep.any() and mr[deep].min() > 0.9 * np.median(mr[deep]) and np.ptp(ct[deep]) < 25
    cortex = (labels == LABELS["bone"]) & (ct > 800)
    for mask, low, high in ((urine, -10, 20), (gland, 20, 60), (fat, -115, -85), (muscle, 42, 66), (heads, 90, 480)):
        assert mask.sum() > 50 and low < np.median(ct[mask]) < high
    assert cortex.sum() > 20 and ct.max() < 1800
    assert (ct[labels == LABELS["rectum"]] < -600).any() and np.median(ct[~body]) < -995
    signal = [np.median(mr[m]) for m in (urine, fat, heads, muscle, cortex, ~body)]
    assert all(a > b for a, b in zip(signal, signal[1:])), signal
    assert signal[3] < np.median(mr[gland]) < signal[1]


@pytest.mark.parametrize("seed", SEEDS)
def test_hu_of_spongy_bone_are_no_function_of_the_signal(seed):
    pelvis = clean(seed)
    labels = array(pelvis.labels)
    inside = ndimage.binary_erosion(np.isin(labels, (2, 3)), np.ones((3, 3, 3)))
    mr, ct = array(pelvis.mr_noise_free)[inside], array(pelvis.ct_noise_free)[inside]
    rank = stats.spearmanr(mr, ct).statistic
    assert -0.97 < rank < 0  # fatty marrow is bright and of low density: they are related, not tied
    order = np.argsort(mr)
    near = np.array_split(ct[order], max(4, len(order) // 25))
    assert np.mean([part.std() for part in near]) > 15


def resampled(pelvis, transform):
    return array(
        sitk.Resample(sitk.Cast(pelvis.ct_as_scanned, sitk.sitkFloat32), pelvis.mr, transform, sitk.sitkLinear, -1000.0)
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_the_known_displacement_maps_one_ct_onto_the_other(seed):
    pelvis = clean(seed)
    ct = array(pelvis.ct)
    full = sitk.DisplacementFieldTransform(sitk.Cast(pelvis.displacement, sitk.sitkVectorFloat64))
    same = ndimage.binary_erosion(whole_body(ct), iterations=2) & ~ndimage.binary_dilation(
        array(pelvis.refilled) > 0, iterations=2
    )
    same[[0, 1, -2, -1]] = False  # beyond what the other visit's scan shows
    # blurred alike, so that what remains is displacement and not the two grids' different sharpness
    errors = {}
    for name, transform in (("raw", sitk.Transform()), ("rigid", pelvis.rigid), ("full", full)):
        difference = ndimage.gaussian_filter(resampled(pelvis, transform) - ct, 1.0)
        errors[name] = np.abs(difference)[same].mean()
    assert errors["full"] < 12 and errors["full"] < 0.75 * errors["rigid"] and errors["rigid"] < 0.8 * errors["raw"], (
        errors
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_bones_move_rigidly_and_the_bladder_fills(seed):
    pelvis = clean(seed)
    labels, field = array(pelvis.labels), array(pelvis.displacement)
    for index in np.argwhere(np.isin(labels, (1, 2, 3)))[::97]:
        point = pelvis.mr.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]])
        assert np.allclose(np.add(point, field[tuple(index)]), pelvis.rigid.TransformPoint(point), atol=1.0)
    jacobian = array(sitk.DisplacementFieldJacobianDeterminant(sitk.Cast(pelvis.displacement, sitk.sitkVectorFloat64)))
    assert jacobian.min() > 0.1
    ratio = pelvis.facts["bladder_ml_at_ct"] / pelvis.facts["bladder_ml"]
    assert jacobian[labels == LABELS["bladder"]].mean() == pytest.approx(ratio, rel=0.15)
    still = sitk.TransformToDisplacementField(
        pelvis.rigid,
        sitk.sitkVectorFloat64,
        pelvis.mr.GetSize(),
        pelvis.mr.GetOrigin(),
        pelvis.mr.GetSpacing(),
        pelvis.mr.GetDirection(),
    )
    soft = np.linalg.norm(field - array(still), axis=-1)[whole_body(array(pelvis.ct))]
    assert 3 < soft.max() < 35 and np.abs(array(still)).max() > 1


def test_the_scanned_ct_shows_the_couch_and_the_truth_does_not():
    pelvis = clean(0)
    for image, there in ((pelvis.ct_as_scanned, True), (pelvis.ct, False)):
        ct = array(image)
        last = np.flatnonzero((ct > -300).any((0, 2))).max()
        assert ct[:, last + 2 :].size and (ct[:, last + 2 :] > -985).any() == there


def test_the_other_visit_holds_other_gas():
    pelvis = clean(0)
    refilled = array(pelvis.refilled) > 0
    assert 0.001 < refilled.mean() < 0.1 and (refilled & (array(pelvis.labels) == LABELS["rectum"])).any()


def test_noise_is_rician_and_the_bias_field_multiplies():
    options = dict(COARSE, size=(72, 48, 20))
    quiet, noisy = (
        phantom_pelvis.digital_pelvis(2, noise=n, bias=0.25, ct_noise=c, **options) for n, c in ((0, 0), (0.03, 20))
    )
    field, expected = array(quiet.bias_field), array(quiet.mr_noise_free) * array(quiet.bias_field)
    assert np.abs(np.log(field)).max() == pytest.approx(0.25, rel=1e-3)
    assert np.abs(array(quiet.mr) - expected).max() <= 0.51
    bright = expected > 400
    sd = (array(noisy.mr) - array(noisy.mr_noise_free) * array(noisy.bias_field))[bright].std()
    assert sd == pytest.approx(0.03 * 800, rel=0.25)  # fat's signal varies between patients
    air = array(noisy.mr_noise_free) < 12
    # far from signal the magnitude of noise of that sd is Rayleigh's (scipy)
    assert array(noisy.mr)[air].mean() == pytest.approx(stats.rice.mean(8 / sd, scale=sd), rel=0.08)
    body = whole_body(array(noisy.ct))
    assert (array(noisy.ct) - array(noisy.ct_noise_free))[body].std() == pytest.approx(20, rel=0.05)


def test_written_files_come_back(tmp_path):
    pelvis = clean(0)
    for misregistered, ct in ((True, pelvis.ct_as_scanned), (False, pelvis.ct)):
        folder = pelvis.write(tmp_path / "a" / str(misregistered), misregistered)
        for name, made in (("mr", pelvis.mr), ("ct", ct), ("labels", pelvis.labels)):
            read = sitk.ReadImage(str(folder / f"{name}.nii.gz"))
            assert np.array_equal(array(read), array(made)) and np.allclose(
                read.GetOrigin(), made.GetOrigin(), atol=1e-4
            )


@pytest.mark.parametrize(
    "options",
    [
        dict(size=(60, 128, 48)),
        dict(size=(192, 128, 10)),
        dict(spacing=(2, 2, 0)),
        dict(spacing=(2, 2, 12)),
        dict(size=(192, 128)),
    ],
)
def test_grids_that_show_no_pelvis_are_refused(options):
    with pytest.raises(InputError, match="digital pelvis"):
        phantom_pelvis.digital_pelvis(0, **options)

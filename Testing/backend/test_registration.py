"""Propagation without a model: features, search, optimisation, rigid starts and checks, on motion that is known."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from make_pair import SPACING, image, make_patient
from scipy import ndimage

import rtuncertainty
from rtuncertainty.cli import command_line
from rtuncertainty.core import ct, structure_set, surfaces
from rtuncertainty.core.errors import InputError
from rtuncertainty.deformation import compose_tensor, discrete, features, instance, transform_points, warp_tensor
from rtuncertainty.phantoms.chest import digital_chest
from rtuncertainty.propagation import pair, rigid
from rtuncertainty.uncertainty import checks


def array(i):
    return sitk.GetArrayFromImage(i)


def test_box_is_scipys():
    x = np.random.default_rng(0).standard_normal((7, 9, 8)).astype(np.float32)
    for radius in (1, 2):
        expected = ndimage.uniform_filter(x, 2 * radius + 1, mode="nearest")
        assert np.allclose(features.box(torch.from_numpy(x)[None, None], radius)[0, 0], expected, atol=1e-5)


def test_self_similarities_by_hand():
    """One voxel, with loops; and a scan whose grey values were turned and scaled looks the same."""
    x = np.random.default_rng(1).standard_normal((9, 9, 9)).astype(np.float32)
    found = features.mind(torch.from_numpy(x)[None, None], radius=1, dilation=2, noise=0.0)[0, :, 4, 4, 4].numpy()
    six = [(2, 0, 0), (-2, 0, 0), (0, 2, 0), (0, -2, 0), (0, 0, 2), (0, 0, -2)]
    apart = []
    for k, a in enumerate(six):
        for b in six[k + 1 :]:
            if np.dot(a, b) == 0:
                cubes = [x[tuple(slice(4 + o - 1, 4 + o + 2) for o in n)] for n in (a, b)]
                apart.append(((cubes[0] - cubes[1]) ** 2).mean())
    apart = np.array(apart) - min(apart)
    assert len(apart) == 12 and np.allclose(np.sort(found), np.sort(np.exp(-apart / apart.mean())), atol=1e-5)
    other = features.mind(torch.from_numpy(3 - 2 * x)[None, None], radius=1, dilation=2, noise=0.0)[0, :, 4, 4, 4]
    assert np.allclose(other, found, atol=1e-5)


def scene(shape=(32, 36, 40), seed=0):
    noise = np.random.default_rng(seed).standard_normal(shape)
    return torch.from_numpy((2 * ndimage.gaussian_filter(noise, 2.0) / 0.1).astype(np.float32))[None, None]


def side(x):
    return discrete.Side(features.mind(x), torch.ones_like(x), torch.ones_like(x))


def test_the_search_crosses_centimetres_and_leaves_what_fits():
    moving = scene()
    shift = torch.zeros((1, 3, *moving.shape[2:]))
    shift[:, 0], shift[:, 2] = 9.0, -5.0
    fixed = warp_tensor(moving, shift)
    there, back, _ = discrete.start(side(fixed), side(moving))
    inner = (..., slice(8, -8), slice(8, -8), slice(10, -10))
    assert (there - shift)[inner].norm(dim=1).mean() < 1.0
    assert compose_tensor(there, back)[inner].norm(dim=1).mean() < 0.2
    for x in discrete.start(side(moving), side(moving)):
        assert float(x.abs().max()) == 0.0


def test_two_directions_become_each_others_inverse():
    z, y, x = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in (16, 18, 20)], indexing="ij")
    wave = torch.exp(-4 * (x**2 + y**2 + z**2))
    there = torch.stack([2 * wave, -wave, wave])[None]
    back = -1.2 * there
    missed = compose_tensor(there, back).norm(dim=1).max()
    after = compose_tensor(*discrete.inverse_consistent(there, back)).norm(dim=1).max()
    assert missed > 0.4 and after < 0.1 * missed


def test_instance_optimisation_finds_a_wave():
    moving = scene(seed=3)
    z, y, x = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in moving.shape[2:]], indexing="ij")
    true = torch.stack([2.0 * torch.exp(-3 * (x**2 + y**2 + z**2)), 0 * x, -torch.exp(-3 * (x**2 + y**2))])[None]
    fixed = warp_tensor(moving, true)
    found = instance.optimised(torch.zeros_like(true), fixed, moving, torch.ones_like(fixed), instance.LEVELS["full"])
    inner = (..., slice(5, -5), slice(5, -5), slice(5, -5))
    assert (found - true)[inner].norm(dim=1).mean() < 0.25 * true[inner].norm(dim=1).mean()


@pytest.fixture(scope="module")
def patient():
    return make_patient()


@pytest.fixture(scope="module")
def found(patient):
    planning, masks, daily, *_ = patient
    return rtuncertainty.propagate(planning, masks, daily, samples=3)


def test_without_a_model(found, patient):
    _, masks, _, truth, _ = patient
    assert found.options["refine"] == "full" and found.card["name"] == "registration"
    assert [c.name for c in found.contours] == list(masks) and all(c.segmented is None for c in found.contours)
    for c in found.contours:
        mask = array(truth[c.planning_name]) > 0
        assert surfaces.surface_distance(array(c.propagated) > 0, mask, SPACING).mean < 0.8
        assert c.propagated_sd_mm > 0 and c.agreement.light != "red"
    assert found.folding == 0 and found.checks["there_and_back"] < 2
    assert not [f for f in found.flags if f.severity == "serious"]


def test_the_same_seed_gives_the_same_registration(found, patient):
    planning, masks, daily, *_ = patient
    again = rtuncertainty.propagate(planning, masks, daily, samples=3)
    assert np.array_equal(array(again.field), array(found.field))
    assert np.array_equal(array(again.displacement_sd), array(found.displacement_sd))


def test_a_scan_and_itself_stand_still(patient):
    planning, masks, *_ = patient
    same = rtuncertainty.propagate(planning, masks, planning, samples=2)
    assert np.linalg.norm(array(same.field), axis=-1).mean() < 0.01
    assert not [f for f in same.flags if f.flag == "no gain"]  # of two likenesses of 1.000


@pytest.mark.parametrize("slices, enough", [(2, False), (7, False), (8, True)])
def test_a_scan_of_few_slices(patient, slices, enough):
    planning, masks, daily, *_ = patient
    thin = daily[:, :, 14 : 14 + slices]
    if enough:
        assert len(rtuncertainty.propagate(planning, masks, thin, samples=2, refine="full").contours) == len(masks)
        return
    with pytest.raises(InputError, match=f"too small.*×{slices} voxels") as error:
        rtuncertainty.propagate(planning, masks, thin, samples=2)
    assert "\n" not in str(error.value)


def as_mr(scan):
    """Bright where a CT shows soft tissue, black in air and bone."""
    hu = array(scan).astype(float)
    return image(np.interp(hu, [-1000, -200, 0, 100, 600], [0, 60, 300, 420, 40]), np.float32)


def test_two_mrs_and_one_of_each(patient):
    planning, masks, daily, truth, _ = patient
    plan, day = as_mr(planning), as_mr(daily)
    given = rtuncertainty.propagate(plan, {"Bladder": masks["Bladder"]}, day, samples=2, refine="fast")
    assert given.card["input"]["modality"] == "MR" and array(given.warped_planning).min() >= 0
    distance = surfaces.surface_distance(array(given.contours[0].propagated) > 0, array(truth["Bladder"]) > 0, SPACING)
    assert distance.mean < 1.2
    for one, other in ((planning, day), (plan, daily)):
        with pytest.raises(InputError, match="of one kind") as error:
            rtuncertainty.propagate(one, masks, other, samples=2)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="shows nothing"):
        pair.like_ct(image(np.zeros((8, 8, 8)), np.float32), "the MR")


@pytest.fixture(scope="module")
def chest():
    return digital_chest(0, 25.0, spacing=(5.0, 5.0, 5.0), shift=(0.0, 0.0, 35.0))


@pytest.mark.parametrize("degrees, shift, part", [(20, (60, -30, 120), (0, 66)), (-15, (40, 0, -90), (33, 66))])
def test_turned_couch_far_offset_and_half_a_field_of_view(chest, degrees, shift, part):
    """The rigid transform of what was moved by a known one, where only a part was scanned."""
    planning = chest.planning
    true = sitk.Euler3DTransform((0, 0, 0), 0.03, -0.02, float(np.radians(degrees)), shift)
    cut = planning[:, :, part[0] : part[1]]
    grid = sitk.Image(100, 90, cut.GetSize()[2], sitk.sitkInt16)
    grid.SetSpacing(planning.GetSpacing())
    middle = true.TransformPoint(cut.TransformContinuousIndexToPhysicalPoint([n / 2 for n in cut.GetSize()]))
    grid.SetOrigin([m - n * s / 2 for m, n, s in zip(middle, grid.GetSize(), grid.GetSpacing())])
    daily = sitk.Resample(cut, grid, true.GetInverse(), sitk.sitkLinear, -1000.0)
    mine = rigid.register(daily, planning, ct.body_mask(daily), ct.body_mask(planning))
    index = np.argwhere(array(ct.body_mask(daily)) > 0)[::997, ::-1]
    points = [daily.TransformIndexToPhysicalPoint(i) for i in index.tolist()]
    errors = [np.linalg.norm(np.subtract(mine.TransformPoint(p), true.GetInverse().TransformPoint(p))) for p in points]
    assert np.mean(errors) < 1.5


def test_a_chest_that_breathes_and_lies_35_mm_off(chest):
    lungs = {n: chest.planning_structures[n] for n in ("lung_left", "lung_right")}
    before = np.linalg.norm(chest.daily_points - (0, 0, 35) - chest.planning_points, axis=1).mean()
    found = rtuncertainty.propagate(chest.planning, lungs, chest.daily, samples=2, refine="fast")
    error = np.linalg.norm(transform_points(found.field, chest.daily_points) - chest.planning_points, axis=1).mean()
    assert error < 0.3 * before and error < 2.5  # voxels of 5 mm
    assert all(c.agreement.light != "red" for c in found.contours)


def test_a_registration_that_failed_is_red(chest, monkeypatch):
    """35 mm off, with nothing that could bring it back."""
    from rtuncertainty.propagation import registration

    def lost(pair, *_):
        zero = torch.zeros((1, 3, *pair.daily.shape))
        return registration.Registered(zero, None, zero[0, 0], 0.0)

    monkeypatch.setattr(registration, "run", lost)
    lungs = {n: chest.planning_structures[n] for n in ("lung_left", "lung_right")}
    found = rtuncertainty.propagate(chest.planning, lungs, chest.daily, samples=2, rigid="off")
    assert all(c.agreement.light == "red" and "lungs" in c.agreement.reason for c in found.contours)
    assert any(f.flag == "registration failed" and f.severity == "serious" for f in found.flags)


def test_checks_measure_distances():
    """Two cylinders 6 mm apart; a scan without bone or lung says nothing of them."""
    z, y, x = np.indices((50, 50, 60))
    first, second = (np.hypot(y - 25, x - c) < 12 for c in (27, 30))
    hu = [np.where(m, 40.0, -1000.0) for m in (first, second)]
    everywhere = np.ones(first.shape, bool)
    found = checks.measured(*hu, first, second, everywhere, (2.0, 2.0, 3.0), True, np.full(first.shape, 1.5), 0.01)
    # a circle against itself, 6 mm aside: the mean of |6 cos φ|
    assert found.values["bodies"] == pytest.approx(6 * 2 / np.pi, rel=0.15)
    assert np.isnan(found.values["bones"]) and np.isnan(found.values["lungs"])
    assert found.values["there_and_back"] == 1.5 and found.failures({"calibration": {}}) == []
    limits = {"calibration": {"checks": {"bodies": {"limit": 2.0}}}}
    assert len(found.failures(limits)) == 1 and found.flags(limits)[0].severity == "serious"
    gone = checks.measured(hu[0], hu[1], first, second & False, everywhere, (2.0, 2.0, 3.0), True)
    assert gone.values["bodies"] == np.inf


def test_the_command_line_without_a_model(patient, tmp_path):
    planning, masks, daily, *_ = patient
    segmentation = structure_set.as_segmentation(list(structure_set.read(masks).values()))
    files = {"planning": planning, "structures": segmentation, "daily": daily}
    arguments = ["propagate", "--samples", "2", "--refine", "off", "--report", "--progress", "none"]
    for name, given in files.items():
        path = tmp_path / (f"{name}.seg.nrrd" if name == "structures" else f"{name}.nii.gz")
        sitk.WriteImage(given, str(path))
        arguments += [f"--{name}", str(path)]
    assert command_line.main([*arguments, "--output", str(tmp_path / "r")]) == 0
    summary = json.loads((tmp_path / "r" / "summary.json").read_text(encoding="utf-8"))
    assert summary["model"]["name"] == "registration" and summary["options"]["refine"] == "off"
    assert set(summary["checks"]) == set(checks.LIMITS) and summary["checks"]["bodies"] < 2
    assert not (tmp_path / "r" / "segmented.seg.nrrd").exists()
    assert "registration" in (tmp_path / "r" / "report.html").read_text(encoding="utf-8").lower()


def test_a_card_for_any_scan_warns_of_none():
    from rtuncertainty.bundles import bundle, compatibility

    card, networks = bundle.load("registration")
    assert networks == [None] and card["input"]["modality"] is None
    for modality in ("CT", "MR"):
        scan = compatibility.Scan(np.zeros((8, 8, 8)), np.ones(3), np.full(3, 8), modality)
        compatibility.require(card, scan, "the scan")
        assert compatibility.warnings(card, scan) == []

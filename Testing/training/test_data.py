"""Splits, patches, labels and baselines."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.optimize import isotonic_regression

from rtuncertainty.uncertainty.fit.split import split
from training.data.patches import PatchDataset
from training.data.prepare import synthesis
from training.evaluation.baselines import MonotoneMap


def case(name="a", seed=0):
    """A disc of tissue with a bone and a tumour in it."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices((6, 60, 70))
    r = np.hypot(y - 30, x - 35)
    body = r < 25
    ct = np.where(body, 40.0, -1000.0)
    ct[np.hypot(y - 30, x - 30) < 6] = 900
    labels = synthesis.bone_labels(ct, body, (1.0, 1.0, 3.0)).astype(np.uint8)
    labels[(np.hypot(y - 38, x - 42) < 5) & (z > 2)] = 2
    mr = (np.where(body, 0.0, -2.0) - 1.5 * (labels == 1) + 0.1 * rng.standard_normal(body.shape)).astype(np.float32)
    return synthesis.Case(name, mr, ct.astype(np.float32), labels, body, np.ones_like(body), (1.0, 1.0, 3.0))


def test_patients_never_cross_a_split():
    names = [f"p{i}" for i in range(25)]
    seen = []
    for fold in range(6):
        training, validation = split(names, 6, fold)
        assert not set(training) & set(validation) and sorted(training + validation) == sorted(names)
        seen += validation
    assert sorted(seen) == sorted(names)
    assert split(list(reversed(names)), 6, 2) == split(names, 6, 2)


def test_patches_are_the_same_however_the_run_was_cut():
    cases = [case("a"), case("b", 1)]
    whole = iter(PatchDataset(cases, 32, seed=4))
    first = [next(whole) for _ in range(6)]
    resumed = iter(PatchDataset(cases, 32, seed=4, start=3))
    for a in first[3:]:
        b = next(resumed)
        assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(first[0]["mr"], first[1]["mr"])


def test_patches_of_each_class_hold_it_and_images_stay_aligned():
    data = PatchDataset([case()], 32, seed=0, centres=(1, 0, 0))
    for index in range(8):
        patch = data.patch(index)
        bone = patch["ct"][0] > 500
        assert bone.any()
        # nearest labels and linear CT agree but for the edge
        assert (bone == (patch["labels"] == 1))[patch["weight"] > 0].float().mean() > 0.93
        assert patch["mr"][0][bone].mean() < patch["mr"][0][(patch["weight"] > 0) & ~bone].mean()
    assert any((PatchDataset([case()], 32, seed=0, centres=(0, 1, 0)).patch(i)["labels"] == 2).any() for i in range(4))


def test_patch_without_augmentation_is_the_slice_itself():
    one = case()
    data = PatchDataset([one], 33, seed=0, augment=False, centres=(0, 0, 1))
    patch = data.patch(1)
    inside = patch["weight"] > 0
    assert set(np.unique(patch["labels"].numpy())) <= {0, 1, 2} and inside.any()
    assert patch["ct"].min() >= -1001 and patch["ct"].max() <= 901


def test_bone_labels_hold_the_marrow_and_no_specks():
    z, y, x = np.indices((5, 50, 50))
    r = np.hypot(y - 25, x - 25)
    ct = np.where(r < 22, 40.0, -1000.0)
    ct[(r < 8) & (r > 5)] = 1200
    ct[r <= 5] = -60
    ct[2, 12, 25] = 700  # a calcification
    found = synthesis.bone_labels(ct, r < 22, (1.0, 1.0, 3.0))
    assert found[2, 25, 25] and not found[2, 12, 25]
    assert found.sum() == pytest.approx((r < 8).sum(), rel=0.05)


def test_a_case_survives_its_file(tmp_path):
    one = case()
    synthesis.save_case(one, tmp_path / "a.npz", {"body_dice": 0.98})
    back = synthesis.load_case(tmp_path / "a.npz")
    assert np.abs(back.mr - one.mr).max() <= 1 / 64 and np.abs(back.ct - one.ct).max() <= 1
    assert (
        np.array_equal(back.labels, one.labels)
        and np.array_equal(back.region, one.region)
        and back.spacing == one.spacing
    )


def test_why_a_pair_is_dropped():
    good = {"body_dice": 0.98, "cortical_ratio": float("nan"), "fat_ratio": 2.5, "folding": 0.0}
    assert synthesis.why_dropped(good) == ""
    assert "cortical_ratio 1.20 > 1.0" in synthesis.why_dropped({**good, "cortical_ratio": 1.2})
    assert "body_dice 0.50" in synthesis.why_dropped({**good, "body_dice": 0.5})


@pytest.mark.parametrize("sign", [1, -1])
def test_monotone_map_is_the_best_one(sign):
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 3, 6000)
    hu = sign * 100 * np.tanh(x) + 40 * rng.laplace(size=x.size)
    fitted = MonotoneMap(bins=64).fit(x, hu)
    grid = np.linspace(-2, 3, 500)
    steps = np.diff(fitted(grid)) * sign
    assert steps.min() >= 0
    # least squares isotonic regression (scipy) cannot beat it in absolute error but by the bins' width
    order = np.argsort(x)
    other = isotonic_regression(hu[order], increasing=sign > 0).x
    assert np.abs(fitted(x) - hu).mean() < np.abs(other - hu[order]).mean() * 1.03
    assert np.abs(fitted(x) - hu).mean() < 0.8 * np.abs(hu - np.median(hu)).mean()


def test_isotonic_by_pooling_equals_brute_force():
    from training.evaluation.baselines import HU_CENTRES, _isotonic_l1

    rng = np.random.default_rng(1)
    counts = np.zeros((4, len(HU_CENTRES)))
    for row in counts:
        np.add.at(row, rng.integers(100, 108, 5), 1)
    cost = counts @ np.abs(HU_CENTRES[:, None] - HU_CENTRES[None, 98:110])
    best = np.inf
    for choice in np.ndindex(12, 12, 12, 12):
        if list(choice) == sorted(choice):
            best = min(best, sum(cost[i, c] for i, c in enumerate(choice)))
    values = _isotonic_l1(counts)
    assert np.all(np.diff(values) >= 0)
    assert (counts * np.abs(HU_CENTRES - values[:, None])).sum() == pytest.approx(best)


def test_ct_body_without_the_couch():
    import SimpleITK as sitk

    from rtuncertainty.core import geometry

    itk_needed = pytest.importorskip("itk")
    from training.data.prepare.registration import ct_body

    assert itk_needed
    ct = np.full((4, 80, 80), -1000.0)
    y, x = np.indices((80, 80))
    ct[:, np.hypot(y - 35, x - 40) < 22] = 30
    ct[:, 62:64] = 100  # the couch
    found = ct_body(geometry.like(ct, sitk.Image([80, 80, 4], sitk.sitkFloat32)))
    assert not found[:, 60:].any() and ndimage.label(found)[1] == 1
    assert found[0].sum() == pytest.approx(np.pi * 22**2, rel=0.03)


def test_left_and_right_change_places_in_the_mirror():
    """With the front as a third mark, the sense of rotation front → left → right tells whether sides are named
    rightly.
    """
    labels = np.zeros((1, 90, 90), np.uint8)
    labels[0, 20:26, 42:48], labels[0, 60:66, 62:68], labels[0, 60:66, 22:28] = 1, 2, 3
    mr = np.where(labels > 0, 1.0, -1.0).astype(np.float32)
    classes = {"background": 0, "bone": 1, "head_left": 2, "head_right": 3}
    one = synthesis.Case(
        "a",
        mr,
        np.zeros_like(mr),
        labels,
        np.ones(labels.shape, bool),
        np.ones(labels.shape, bool),
        (1.0, 1.0, 3.0),
        classes,
    )
    unsided = synthesis.Case(
        "b",
        mr,
        np.zeros_like(mr),
        labels,
        one.body,
        one.valid,
        one.spacing,
        {"background": 0, "bone": 1, "rib": 2, "heart": 3},
    )
    senses = {}
    for c in (one, unsided):
        senses[c.name] = set()
        patches = PatchDataset([c], 140, 3, centres=(1, 0, 0))
        for index in range(30):
            found = patches.patch(index)["labels"].numpy()
            if all((found == k).sum() > 9 for k in (1, 2, 3)):
                front, left, right = (np.argwhere(found == k).mean(0) for k in (1, 2, 3))
                senses[c.name].add(np.sign(np.cross(np.append(left - front, 0), np.append(right - front, 0))[2]))
    assert len(senses["a"]) == 1 and len(senses["b"]) == 2


def test_scores_and_losses_look_where_the_body_mask_sees_air(tmp_path):
    """Skin and cut bone that the MR's mask leaves out: they are scored (in the CT's body) and learnt from (in the
    union).
    """
    one = case()
    lost = one.ct_body & one.valid
    lost[:, : one.mr.shape[1] // 2] = False
    one.body &= ~lost
    assert one.region[lost].all() and one.patient[lost].all() and not one.region[~one.ct_body].any()
    synthesis.save_case(one, tmp_path / "a.npz", {})
    assert np.array_equal(synthesis.load_case(tmp_path / "a.npz").ct_body, one.ct_body)
    data = PatchDataset([one], 33, seed=0, augment=False, centres=(0, 0, 1))
    assert lost[tuple(data.points[2][0].T)].any()


def test_an_earlier_file_finds_the_body_of_its_ct_anew(tmp_path):
    one = case()
    synthesis.save_case(one, tmp_path / "a.npz", {})
    with np.load(tmp_path / "a.npz") as f:
        np.savez(tmp_path / "b.npz", **{k: f[k] for k in f if k != "ct_body"})
    assert np.array_equal(
        synthesis.load_case(tmp_path / "b.npz").ct_body, synthesis.load_case(tmp_path / "a.npz").ct_body
    )


def test_a_whole_slice_lies_in_the_middle_of_its_patch():
    one, size = case(), 76
    patch = PatchDataset([one], size, 0, augment=False, whole=True).patch(3)
    inside = np.zeros((size, size), bool)
    inside[8:68, 3:73] = True  # 60 × 70 pixels
    found = patch["mr"][0, 8:68, 3:73].numpy()
    assert min(np.abs(found - one.mr[z]).max() for z in range(6)) < 1e-3
    assert ((patch["valid"].numpy() > 0) == inside).all()

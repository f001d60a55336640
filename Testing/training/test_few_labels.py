"""Learning from few labels: losses by hand and by MONAI, distance maps by SimpleITK, crops, and four methods that
resume.
"""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tiny_scans
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceLoss

from training import __main__ as command
from training import methods
from training.core.distance import signed_distance
from training.data import scan
from training.data.prepare import left_atrium, scans
from training.methods.hasan2021 import feed as few_labels_feed
from training.methods.hasan2021 import loss
from training.methods.hasan2021.adversary import Adversary, Discriminator


def test_supervised_is_cross_entropy_and_monais_dice():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 4, 5, 6), torch.randint(0, 3, (2, 4, 5, 6))
    dice = DiceLoss(include_background=False, softmax=True, to_onehot_y=True, batch=True, smooth_nr=0, smooth_dr=0)(
        logits, labels[:, None]
    )
    assert loss.supervised(logits, labels).item() == pytest.approx(
        (torch.nn.functional.cross_entropy(logits, labels) + dice).item() / 2, abs=1e-6
    )
    assert loss.supervised(logits, labels, printed=True).item() == pytest.approx(dice.item(), abs=1e-6)
    # a batch without the structure: what is found there costs, by hand
    p = torch.full((1, 2, 1, 1, 4), 0.25)
    assert loss.dice_loss(p, torch.zeros(1, 1, 1, 4, dtype=torch.long)).item() == pytest.approx(1.0 / 2.0)


def test_the_transform_of_the_distance_and_cross_task_by_hand():
    z = torch.tensor([-0.01, 0.0, 0.001, 0.01]).reshape(1, 1, 1, 1, 4)
    p = loss.to_probability(z).ravel()
    assert p.tolist() == pytest.approx(
        [1 / (1 + math.exp(-15)), 0.5, 1 / (1 + math.exp(1.5)), 1 / (1 + math.exp(15))], abs=1e-6
    )
    found = torch.tensor([1.0, 0.5, 1.0, 0.0]).reshape(1, 1, 1, 1, 4)
    wanted = sum((a - b) ** 2 for a, b in zip([1.0, 0.5, 1.0, 0.0], p.tolist())) / 4
    assert loss.cross_task(torch.cat([1 - found, found], 1), z).item() == pytest.approx(wanted, abs=1e-6)
    # only where the uncertainty is below the threshold
    doubt = torch.tensor([0.1, 0.6, 0.3, 0.6]).reshape(1, 1, 1, 1, 4)
    sure = ((1 - p[0]) ** 2 + (1 - p[2]) ** 2).item() / 2
    assert loss.guidance(torch.cat([1 - found, found], 1), z, doubt, 0.5).item() == pytest.approx(sure, abs=1e-6)
    assert loss.guidance(torch.cat([1 - found, found], 1), z, doubt, 0.0).item() == 0


def test_uncertainty_threshold_and_ramp_by_hand():
    samples = [torch.tensor([0.9, 0.1]).reshape(1, 2, 1, 1, 1), torch.tensor([0.1, 0.9]).reshape(1, 2, 1, 1, 1)]
    assert loss.uncertainty_of(samples).item() == pytest.approx(math.log(2))  # of the mean, not the mean of entropies
    mean = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    assert loss.uncertainty_of(samples, printed=True).item() == pytest.approx(mean)
    assert (
        loss.ramp(1.0) == 1
        and loss.ramp(0.0) == pytest.approx(math.exp(-5))
        and loss.ramp(0.5) == pytest.approx(math.exp(-1.25))
    )
    assert loss.threshold(1.0) == pytest.approx(math.log(2))
    assert loss.threshold(0.0) == pytest.approx((0.75 + 0.25 * math.exp(-5)) * math.log(2))


def test_mean_teacher_and_its_average_by_hand():
    a = torch.tensor([[0.8, 0.5], [0.2, 0.5]]).reshape(1, 2, 1, 1, 2)
    b = torch.tensor([[0.6, 0.9], [0.4, 0.1]]).reshape(1, 2, 1, 1, 2)
    doubt = torch.tensor([0.1, 0.9]).reshape(1, 1, 1, 1, 2)
    assert loss.mean_teacher(a, b, doubt, 0.5).item() == pytest.approx(0.04)
    assert loss.mean_teacher(a, b, doubt, 1.0).item() == pytest.approx((0.04 + 0.16) / 2)
    teacher, student = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(teacher.weight, 7.0), torch.nn.init.constant_(student.weight, 1.0)
    loss.follow(teacher, student, 0, 0.99)  # forgets how it began
    assert teacher.weight.item() == 1
    torch.nn.init.constant_(student.weight, 2.0)
    loss.follow(teacher, student, 1, 0.99)
    assert teacher.weight.item() == pytest.approx(1.5)
    loss.follow(teacher, student, 1000, 0.99)
    assert teacher.weight.item() == pytest.approx(0.99 * 1.5 + 0.01 * 2)


def test_geman_mcclure_is_eq_1():
    d_l, d_ul = torch.tensor([0.5, -0.5]), torch.tensor([0.8, 0.8])
    squares = 0.25 + 0.04
    assert loss.geman_mcclure(d_l, d_ul - 1).item() == pytest.approx(squares / (1 + squares))
    # the network that segments is content where unlabelled scans score 0, as labelled ones do
    assert loss.geman_mcclure(torch.zeros(2), torch.zeros(2)).item() == 0
    assert loss.geman_mcclure(torch.full((1,), 100.0), torch.zeros(1)).item() < 1  # robust


@pytest.mark.parametrize("kind", ["cross-entropy", "geman-mcclure"])
def test_the_adversary_learns_to_tell_and_the_maps_to_fool_it(kind):
    torch.manual_seed(0)
    adversary = Adversary(kind, 1, 4).eval()  # no dropout: only what is learnt counts
    image, labelled = torch.zeros(4, 1, 16, 16, 16), torch.tensor([True, True, False, False])
    distance = (
        torch.where(labelled.reshape(-1, 1, 1, 1, 1), -0.5, 0.5).expand(4, 1, 16, 16, 16).clone().requires_grad_()
    )
    losses = [adversary.step(image, distance, labelled).item() for _ in range(40)]
    assert losses[-1] < 0.96 * losses[0]
    assert distance.grad is None  # what the network made is not its business
    adversary.discriminator.zero_grad()
    fooling = adversary.fooling(image, distance, labelled)
    fooling.backward()
    assert all(p.grad is None for p in adversary.discriminator.parameters()) and distance.grad[2:].abs().sum() > 0
    better = adversary.fooling(image, (distance - 0.2 * distance.grad / distance.grad.abs().max()).detach(), labelled)
    assert better < fooling


def test_the_discriminator_takes_any_crop():
    d = Discriminator(2, 4)
    assert d(torch.randn(3, 2, 16, 24, 32), torch.randn(3, 1, 16, 24, 32)).shape == (3,)


masks = st.builds(
    lambda seed, share: np.random.default_rng(seed).random((5, 6, 7)) < share,
    st.integers(0, 10_000),
    st.floats(0.05, 0.95),
)


@settings(max_examples=25, deadline=None)
@given(masks, st.tuples(*[st.floats(0.5, 3.0)] * 3))
def test_signed_distance_is_simpleitks(mask, spacing):
    found = signed_distance(mask, spacing)
    if not mask.any() or mask.all():
        assert (found == (-1 if mask.any() else 1)).all()
        return
    half = np.mean(spacing) / 2

    def outside(m):
        image = sitk.GetImageFromArray(m.astype(np.uint8))
        image.SetSpacing(spacing)
        distance = sitk.GetArrayFromImage(
            sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
        )
        return np.where(m, 0, np.maximum(distance - half, 0))

    positive, negative = outside(mask), outside(~mask)
    wanted = positive / max(positive.max(), half) - negative / max(negative.max(), half)
    assert np.abs(found - wanted).max() < 1e-4
    assert found.min() >= -1 and found.max() <= 1 and (found[mask] <= 0).all() and (found[~mask] >= 0).all()


def test_the_transformed_distance_is_the_structure():
    ball = np.linalg.norm(np.mgrid[:20, :20, :20] - 10, axis=0) < 6
    back = loss.to_probability(torch.from_numpy(signed_distance(ball, (1.5, 1.5, 1.5)))).numpy()
    assert np.array_equal(back > 0.5, ball) and np.abs(back - ball).max() < 1e-6


@pytest.fixture(scope="module")
def challenge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("la")
    return folder, tiny_scans.write_scans(folder / "data", 14)


@pytest.fixture(scope="module")
def prepared(challenge):
    folder, _ = challenge
    assert (
        command.main(
            ["left_atrium", "--data", str(folder / "data"), "--out", str(folder / "prepared"), "--spacing", "1"]
        )
        == 0
    )
    return folder / "prepared"


def test_scans_are_prepared_in_their_order_as_predict_sees_them(challenge, prepared):
    folder, names = challenge
    rows = scans.rows_in_order(prepared / "prepare.csv")
    assert [r["case"] for r in rows] == names and names != sorted(names) and all(r["labelled"] == "yes" for r in rows)
    found = scan.load(prepared / "scans" / f"{names[1]}.npz")
    raw = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "data" / "train" / names[1] / "mr.nii.gz"))).astype(float)
    clipped = np.clip(raw, *np.percentile(raw, [0.1, 99.9]))
    wanted = (np.minimum(raw, np.percentile(raw, 99.9)) - clipped.mean()) / clipped.std()
    assert np.abs(found.image - wanted).max() <= 0.5 / scan.STEPS + 1e-3 and found.classes == {
        "background": 0,
        "left_atrium": 1,
    }
    assert np.array_equal(
        found.labels, sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "data" / "train" / names[1] / "la.nii.gz")))
    )
    # the same again makes no file anew
    before = (prepared / "scans" / f"{names[1]}.npz").stat().st_mtime_ns
    left_atrium.run(folder / "data", prepared, 1.0)
    assert (prepared / "scans" / f"{names[1]}.npz").stat().st_mtime_ns == before


def test_a_bad_scan_is_left_out_and_moves_nobody(tmp_path):
    names = tiny_scans.write_scans(tmp_path / "data", 14)
    before = left_atrium.run(tmp_path / "data", tmp_path / "whole", 2.0)
    sides = few_labels_feed.sides(tmp_path / "whole" / "prepare.csv", 3)
    whole = tmp_path / "data" / "train" / names[1] / "mr.nii.gz"
    whole.write_bytes(whole.read_bytes()[:300])
    rows = left_atrium.run(tmp_path / "data", tmp_path / "out", 2.0)
    assert [r["case"] for r in rows] == [r["case"] for r in before] == names
    assert [r["order"] for r in rows if r["kept"] == "no"] == [2] and "cut short" in rows[1]["why"]
    found = few_labels_feed.sides(tmp_path / "out" / "prepare.csv", 3)
    assert found.validation == sides.validation and found.labelled == [names[0], *names[2:4]]
    assert {p.stem for p in (tmp_path / "out" / "overlays").iterdir()} == set(names) - {names[1]}
    assert f"{names[1]},error,failed" in (tmp_path / "out" / "checks.csv").read_text(encoding="utf-8")


def table(folder, rows):
    with open(folder / "prepare.csv", "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows(
            [["case", "kept", "order", "labelled"], *[[n, "yes", k, d] for k, (n, d) in enumerate(rows, 1)]]
        )
    return folder / "prepare.csv"


def test_who_is_labelled_is_as_customary(tmp_path):
    names = [f"c{n}" for n in range(80)]
    later = table(tmp_path, [(n, "yes" if k < 48 else "no") for k, n in enumerate(names)])
    for labelled in (16, 8):
        found = few_labels_feed.sides(later, labelled)
        assert (
            found.labelled == names[:labelled]
            and found.validation == names[40:48]
            and found.unlabelled == names[labelled:40] + names[48:]
        )
    every = few_labels_feed.sides(later, 0)
    assert every.labelled == names[:40]
    now = few_labels_feed.sides(table(tmp_path, [(n, "yes") for n in names[:48]]), 16)
    assert (len(now.labelled), len(now.unlabelled), len(now.validation)) == (16, 24, 8)
    with pytest.raises(SystemExit, match="c3 has no labels"):
        few_labels_feed.sides(table(tmp_path, [(n, "no" if n == "c3" else "yes") for n in names[:48]]), 16)
    with pytest.raises(SystemExit, match="99 labelled"):
        few_labels_feed.sides(later, 99)


CONFIG = {"network": "ua_mt", "labelled": 3, "patch": [16, 12, 8], "arguments": {"width": 2, "levels": 2}}


@pytest.mark.parametrize("augmentation", few_labels_feed.AUGMENTATIONS)
def test_crops_are_numbered_and_hold_what_they_say(prepared, augmentation):
    feed = few_labels_feed.FewLabelsFeed(prepared, methods.config(**CONFIG | {"augmentation": augmentation}))
    feed.load(Path("c.yaml"))
    crops = feed.patches(5)
    first = [crops.patch(k) for k in range(8)]
    assert [bool(c["labelled"]) for c in first] == [True, True, False, False] * 2
    assert all(
        c["image"].shape == (1, 8, 12, 16)
        and c["distance"].shape == (1, 8, 12, 16)
        and c["labels"].shape == (8, 12, 16)
        for c in first
    )
    # nothing of an unlabelled scan's labels is there, though the files have them
    assert not any(c["labels"].any() or c["distance"].any() for c in first if not c["labelled"])
    resumed = iter(feed.patches(5, start=1))
    for c in first[4:]:
        assert all(torch.equal(v, c[k]) for k, v in next(resumed).items())
    seen = [crops.patch(k) for k in (0, 1, 4, 5, 8, 9, 12, 13)]
    assert any(c["labels"].any() for c in seen) and any(len(c["distance"].unique()) > 3 for c in seen)
    for c in seen:  # image, labels and distance map are moved together
        inside = c["labels"] > 0
        assert (c["distance"][0][inside] < 0.05).all() and (c["distance"][0][~inside] > -0.3).all()
        if inside.sum() > 20:
            assert c["image"][0][inside].mean() > c["image"][0][~inside].mean() + 1


@pytest.mark.parametrize("augmentation", few_labels_feed.AUGMENTATIONS)
def test_crops_may_be_centred_on_the_structure(prepared, augmentation):
    shares = []
    for share in (0.0, 1.0):
        feed = few_labels_feed.FewLabelsFeed(
            prepared,
            methods.config(**CONFIG | {"augmentation": augmentation, "on_structure": share, "patch": [4, 4, 4]}),
        )
        feed.load(Path("c.yaml"))
        crops = [feed.patches(5).patch(k) for k in range(0, 80, 4)]
        shares.append(np.mean([bool(c["labels"].any()) for c in crops]))
    assert shares[1] > 0.9 and shares[0] < 0.6


def test_a_crop_may_be_larger_than_the_scan(prepared):
    feed = few_labels_feed.FewLabelsFeed(prepared, methods.config(**CONFIG | {"patch": [32, 32, 16]}))
    feed.load(Path("c.yaml"))
    crop = feed.patches(0).patch(0)
    assert crop["image"].shape == (1, 16, 32, 32) and crop["labels"].sum() > 60
    assert (crop["distance"] == 1).sum() > 5000  # beyond the scan


TERMS = {
    "vnet": set(),
    "ua_mt": {"consistency"},
    "sassnet": {"distance", "adversarial", "discriminator"},
    "mt_ctl": {
        "distance",
        "cross_task",
        "guidance",
        "auxiliary",
        "supervised_uncertainty",
        "supervised_auxiliary",
        "adversarial",
        "discriminator",
    },
}


@pytest.mark.parametrize("method", TERMS)
def test_a_resumed_run_is_the_same_run(prepared, tmp_path, method):
    """Teacher, discriminator and their optimisers go through the checkpoint: cut in two, a training ends with the
    same weights.
    """
    file = tiny_scans.config(tmp_path, method)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    arguments = ["train", "--prepared", str(prepared), "--config", str(file), "--device", "cpu"]
    command.main([*arguments, "--out", str(whole)])
    command.main([*arguments, "--out", str(cut), "--stop-after", "2"])
    command.main([*arguments, "--out", str(cut)])
    states = [torch.load(f / "checkpoints" / "last.ckpt", weights_only=False) for f in (whole, cut)]
    for key, value in states[0]["state_dict"].items():
        if "running" not in key and "num_batches" not in key:  # statistics are settled at every end
            assert torch.equal(value, states[1]["state_dict"][key]), key
    prefixes = {k.split(".")[0] for k in states[0]["state_dict"]}
    assert prefixes == {"network"} | ({"teacher"} if method == "ua_mt" else set()) | (
        {"adversary"} if method in ("sassnet", "mt_ctl") else set()
    )
    if "adversary" in prefixes:
        moments = [list(s["discriminator_optimiser"]["state"].values()) for s in states]
        assert all(torch.equal(a["exp_avg"], b["exp_avg"]) and a["step"] == b["step"] == 4 for a, b in zip(*moments))
    with open(whole / "log" / "metrics.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    assert {k.split("/")[1] for k in rows[0] if k.startswith("train/")} == TERMS[method] | {"supervised", "loss"}
    assert 0 <= next(float(r["val/dice"]) for r in rows if r["val/dice"]) <= 1


def test_after_one_step_the_teacher_is_the_student(prepared, tmp_path):
    file = tiny_scans.config(tmp_path, "ua_mt", steps=1, validate_every=1, checkpoint_every=1)
    command.main(
        ["train", "--prepared", str(prepared), "--config", str(file), "--device", "cpu", "--out", str(tmp_path / "run")]
    )
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=False)["state_dict"]
    weights = [k.removeprefix("teacher.") for k in state if k.startswith("teacher.") and k.endswith(("weight", "bias"))]
    assert weights and all(torch.equal(state[f"teacher.{k}"], state[f"network.{k}"]) for k in weights)


def test_parts_of_mt_ctl_are_switched(tmp_path):
    for parts, decoders, terms in (
        ([], ["distance"], set()),
        (["cross_task"], ["distance"], {"cross_task"}),
        (["guidance"], ["distance", "uncertainty"], {"guidance", "supervised_uncertainty"}),
        (["auxiliary"], ["distance", "auxiliary"], {"auxiliary", "supervised_auxiliary"}),
    ):
        task = methods.build(
            methods.config(network="mt_ctl", parts=parts, steps=10, arguments={"width": 2, "levels": 2})
        )
        assert list(task.network.branches) == decoders and task.adversary is None
        batch = {
            "image": torch.randn(4, 1, 4, 4, 4),
            "labels": torch.randint(0, 2, (4, 4, 4, 4)),
            "distance": torch.rand(4, 1, 4, 4, 4),
            "labelled": torch.tensor([True, True, False, False]),
        }
        found = task.losses(batch)
        assert set(found) == terms | {"supervised", "distance", "loss"}
        ramp = loss.ramp(0.0)
        by_hand = sum(
            v * (1.0 if k.startswith("supervised") else 0.3 if k == "distance" else 0.1 * ramp)
            for k, v in found.items()
            if k != "loss"
        )
        assert found["loss"].item() == pytest.approx(by_hand.item(), rel=1e-5)
    with pytest.raises(SystemExit, match="magic"):
        methods.config(network="mt_ctl", parts=["magic"])


def test_labels_of_unlabelled_scans_are_not_looked_at():
    """Whatever stands in the batch for them, no loss changes."""
    torch.manual_seed(0)
    batch = {
        "image": torch.randn(4, 1, 16, 16, 16),
        "labels": torch.randint(0, 2, (4, 16, 16, 16)),
        "distance": torch.rand(4, 1, 16, 16, 16),
        "labelled": torch.tensor([True, True, False, False]),
    }
    other = batch | {
        "labels": torch.cat([batch["labels"][:2], 1 - batch["labels"][2:]]),
        "distance": torch.cat([batch["distance"][:2], -batch["distance"][2:]]),
    }
    for method in TERMS:
        task = methods.build(
            methods.config(
                network=method, steps=10, arguments={"width": 2, "levels": 2}, discriminator_width=2, patch=[16, 16, 16]
            )
        )
        losses = []
        for b in (batch, other):
            torch.manual_seed(1)
            losses.append(task.losses(b)["loss"].item())
        assert losses[0] == losses[1], method


def test_the_rate_falls_as_in_the_paper():
    from training.core import schedule

    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.01)
    rate = schedule.configured(optimiser, methods.config(schedule="steps", warm_up=0, steps=6000))["lr_scheduler"][
        "scheduler"
    ].lr_lambdas[0]
    assert [rate(s) for s in (0, 2499, 2500, 4999, 5000, 5999)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])

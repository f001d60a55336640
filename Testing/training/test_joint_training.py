"""The losses of registration and segmentation, their weighting, and a joint network from pairs to a checkpoint."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from monai.losses import BendingEnergyLoss, DiceLoss

from rtuncertainty import networks
from rtuncertainty.deformation import warp_tensor
from rtuncertainty.networks.elmahdy2021 import INPUTS, LEVELS, crop_to_level
from training import __main__ as command
from training import methods
from training.data import pair_case
from training.methods.elmahdy2021 import feed, weighting
from training.methods.elmahdy2021 import loss as registration
from training.methods.elmahdy2021.task import swapped

CLASSES = ["a", "b"]


def test_ncc_is_pearsons_correlation_of_the_voxels_that_count():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 2, 1, 5, 6, 7))
    valid = rng.random((2, 1, 5, 6, 7)) > 0.3
    expected = np.mean([1 - np.corrcoef(a[i][valid[i]], b[i][valid[i]])[0, 1] for i in range(2)])
    found = registration.ncc_loss(*(torch.from_numpy(x) for x in (a, b, valid.astype(float))))
    assert found.item() == pytest.approx(expected, abs=1e-6)
    # it does not see a gain or an offset
    assert registration.ncc_loss(
        torch.from_numpy(a), torch.from_numpy(3 * a + 7), torch.ones(2, 1, 5, 6, 7)
    ).item() == pytest.approx(0, abs=1e-6)


def test_a_constant_patch_has_a_loss_of_one_and_a_gradient():
    a = torch.randn(1, 1, 4, 4, 4, requires_grad=True)
    loss = registration.ncc_loss(torch.full((1, 1, 4, 4, 4), -1.0), a, torch.ones(1, 1, 4, 4, 4))
    loss.backward()
    assert loss.item() == pytest.approx(1.0) and torch.isfinite(a.grad).all()
    assert registration.ncc_loss(torch.randn(1, 1, 4, 4, 4), a, torch.zeros(1, 1, 4, 4, 4)).item() == pytest.approx(1.0)


def polynomial(coefficients):
    """u = Σ c_ij·x_i·x_j on 7³ voxels, in all three components with other factors."""
    z, y, x = torch.meshgrid(*[torch.arange(7, dtype=torch.float64)] * 3, indexing="ij")
    p = torch.stack([x, y, z])
    u = torch.einsum("ij,izyx,jzyx->zyx", torch.tensor(coefficients, dtype=torch.float64), p, p)
    return torch.stack([u, 0.5 * u, -2 * u])[None]


@pytest.mark.parametrize(
    "c", [[[1, 0, 0], [0, 0, 0], [0, 0, 0]], [[0, 2, 0], [0, 0, 0], [0, 0, 0]], [[1, 2, -1], [0, 3, 0.5], [0, 0, -2]]]
)
def test_bending_energy_of_polynomials(c):
    d = polynomial(c)
    hessian = np.array(c, float) + np.array(c, float).T
    expected = (hessian**2).sum() * (1 + 0.25 + 4)
    assert registration.bending_energy(d).item() == pytest.approx(expected, rel=1e-9)
    # MONAI takes the mean over the components
    assert 3 * BendingEnergyLoss()(d).item() == pytest.approx(expected, rel=1e-6)


def test_affine_deformations_cost_no_bending_energy():
    z, y, x = torch.meshgrid(*[torch.arange(6.0)] * 3, indexing="ij")
    assert registration.bending_energy(torch.stack([x + 2 * y, 0.3 * z - 1, y])[None]).item() == pytest.approx(
        0, abs=1e-9
    )


def test_overlap_is_monais_dice_of_the_structures_that_were_drawn():
    torch.manual_seed(1)
    found, truth = torch.rand(2, 3, 4, 4, 4), (torch.rand(2, 3, 4, 4, 4) > 0.5).float()
    ones = torch.ones(2, 1, 4, 4, 4)
    dice = DiceLoss(squared_pred=True, smooth_nr=0, smooth_dr=0, reduction="none")(found, truth).reshape(2, 3)
    present = torch.tensor([[1.0, 0, 1], [1, 1, 0]])
    assert registration.overlap_loss(found, truth, present, ones).item() == pytest.approx(
        (dice[present > 0]).mean().item(), abs=1e-6
    )
    # as Eq. 1 prints it, with plain sums
    printed = DiceLoss(smooth_nr=0, smooth_dr=0, reduction="none")(found, truth).reshape(2, 3)
    assert registration.overlap_loss(found, truth, present, ones, printed=True).item() == pytest.approx(
        printed[present > 0].mean().item(), abs=1e-6
    )
    # a structure without a voxel in the patch has nothing to overlap with
    truth[0, 0] = 0
    assert registration.overlap_loss(found, truth, present, ones).item() == pytest.approx(
        torch.stack([dice[0, 2], dice[1, 0], dice[1, 1]]).mean().item(), abs=1e-6
    )
    assert registration.overlap_loss(found, truth, 0 * present, ones).item() == 0
    # unless what is found there shall cost something: by hand
    size = (found[0, 0] ** 2).sum().item()
    assert registration.overlap_loss(found, truth, present, ones, absent=50.0).item() == pytest.approx(
        (size / (size + 50) + sum(d.item() for d in (dice[0, 2], dice[1, 0], dice[1, 1]))) / 4, abs=1e-6
    )


def test_dynamic_weights_by_hand():
    dwa = weighting.build("dwa", 2)
    steps = [torch.tensor([1.0, 4.0]), torch.tensor([0.5, 4.0]), torch.tensor([0.5, 2.0])]
    assert dwa(steps[0]).item() == pytest.approx(5.0)  # weights 1 and 1 while nothing was seen
    assert dwa(steps[1]).item() == pytest.approx(4.5)
    share = [math.exp(0.5), math.exp(1.0)]  # the ratios of the last two steps
    w = [2 * s / sum(share) for s in share]
    assert dwa.weights().tolist() == pytest.approx(w) and dwa(steps[2]).item() == pytest.approx(w[0] * 0.5 + w[1] * 2)
    # a resumed run goes on with what was seen; judging does not count as a step
    other = weighting.build("dwa", 2)
    other.load_state_dict(dwa.state_dict())
    assert torch.equal(other.weights(), dwa.weights())
    other.eval()(steps[0])
    assert torch.equal(other.weights(), dwa.weights())


def test_homoscedastic_weights_are_eq_7():
    w = weighting.build("homoscedastic", 2)
    with torch.no_grad():
        w.log_variance.copy_(torch.tensor([math.log(4.0), 0.0]))
    assert w([torch.tensor(1.0), torch.tensor(3.0)]).item() == pytest.approx(1 / 4 + math.log(2.0) + 3)
    assert w.weights().tolist() == pytest.approx([1 / 4, 1]) and weighting.build("equal", 2).weights().tolist() == [
        1,
        1,
    ]
    with pytest.raises(SystemExit, match="loudest"):
        methods.config(network="dense", weighting="loudest")


def test_a_network_sees_the_inputs_that_are_named():
    given = torch.randn(1, 3, 44, 44, 44)
    network = networks.build("seg", classes=3, widths=(2, 3, 4), inputs="daily+labels").eval()
    first = network(given).logits[2]
    for channel, seen in enumerate((True, False, True)):
        other = given.clone()
        other[:, channel] += 1
        assert torch.equal(network(other).logits[2], first) != seen
    task = methods.build(
        methods.config(network="cross_stitch", inputs="daily+planning", arguments={"classes": 3, "widths": [2, 3, 4]})
    )
    assert task.network.encoders[1].high[0][0].in_channels == 2 and task.config.built_arguments["inputs"]
    watched = task.watched()
    assert [watched[f"weight/{n}"] for n in ("ncc", "dice_warped", "dice_segmented")] == [1, 1, 1]
    assert watched["stitch/3_12"] == pytest.approx(task.network.stitches[2].weight[:, 0, 1].mean().item())
    choices = {f.name: f.metadata["choices"] for f in task.config.settings()}["inputs"]
    assert set(choices) - {""} == set(INPUTS)
    air = feed.outside((-1000, 1000))["fixed"]
    assert air == -2 and feed.tensors(moved(0), (-1000, 1000))["fixed"].min() == -2 == 2 * feed.outside()["fixed"]


def moved(seed):
    """A block world: two organs in a body, moved by a smooth field that is known."""
    rng = np.random.default_rng(seed)
    shape = (48, 52, 56)
    z, y, x = np.meshgrid(*[np.arange(n, dtype=np.float32) for n in shape], indexing="ij")
    body = ((y - 26) / 20) ** 2 + ((x - 28) / 22) ** 2 < 1
    centres = [np.array([24, 26, 18]) + rng.integers(-2, 3, 3), np.array([24, 26, 38]) + rng.integers(-2, 3, 3)]
    planning_labels = np.zeros(shape, np.uint8)
    for k, c in enumerate(centres, 1):
        planning_labels[(z - c[0]) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2 < 49] = k
    planning = np.where(body, 0.0, -1000.0) + 300 * (planning_labels == 1) - 200 * (planning_labels == 2)
    wave = np.exp(-((z - 24) ** 2 + (y - 26) ** 2 + (x - 28) ** 2) / 300)
    d = np.stack([wave * v for v in rng.uniform(-3, 3, 3)]).astype(np.float32)
    pull = torch.from_numpy(d)[None]
    daily = warp_tensor(torch.from_numpy(planning.astype(np.float32))[None, None], pull)[0, 0].numpy()
    organs = torch.from_numpy(np.stack([planning_labels == 1, planning_labels == 2]).astype(np.float32))[None]
    daily_labels = (warp_tensor(organs, pull)[0].numpy() > 0.5).astype(np.uint8)
    return pair_case.PairCase(
        f"p{seed}_day0",
        f"p{seed}",
        planning.astype(np.float32),
        daily,
        planning_labels,
        daily_labels[0] + 2 * daily_labels[1],
        d,
        body,
        np.ones(shape, bool),
        (4.0, 4.0, 3.0),
        CLASSES,
        CLASSES,
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "cases").mkdir()
    cases = [moved(s) for s in range(3)]
    for c in cases:
        pair_case.save(c, folder / "cases" / f"{c.name}.npz", {})
    with open(folder / "prepare.csv", "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows(
            [
                ["case", "kept", "patient", "set"],
                *[[c.name, "yes", c.patient, "validation" if i == 2 else "train"] for i, c in enumerate(cases)],
            ]
        )
    return folder, cases


def test_pairs_come_back_from_their_file(prepared):
    folder, cases = prepared
    back = pair_case.load(folder / "cases" / "p0_day0.npz")
    assert np.abs(back.daily - cases[0].daily).max() <= 4 and np.array_equal(back.daily_labels, cases[0].daily_labels)
    assert (
        np.abs(back.displacement - cases[0].displacement)[:, back.body].max() <= 1 / 64
        and not back.displacement[:, ~back.body].any()
    )
    assert (back.patient, back.classes, back.present, back.spacing) == ("p0", CLASSES, CLASSES, (4.0, 4.0, 3.0))


def test_patches_depend_on_their_number_alone(prepared):
    cases = prepared[1]
    whole = feed.PairPatches(cases, 44, 5)
    resumed, alone = (
        feed.PairPatches(cases, 44, 5, start=3, batch=2),
        iter(feed.PairPatches(cases, 44, 5, batch=2, rank=1, world=2)),
    )
    for key, value in whole.patch(6).items():
        assert torch.equal(value, next(iter(resumed))[key])
    next(alone)
    assert torch.equal(next(alone)["fixed"], whole.patch(3)["fixed"])
    cut = whole.patch(1)
    assert (
        cut["fixed"].shape == (1, 44, 44, 44)
        and cut["fixed_labels"].max() > 0
        and cut["present"].tolist() == [1.0, 1.0]
    )


def test_an_organ_that_few_have_is_seen_as_often(prepared):
    """Organ 2 was drawn in one of three patients only: without `rare` it is in the middle of a ninth of the patches,
    with it of a third.
    """
    cases = [
        replace(c, daily_labels=c.daily_labels * (c.daily_labels != 2)) if k else c for k, c in enumerate(prepared[1])
    ]
    places = np.argwhere(cases[0].daily_labels == 2).mean(0)
    share = []
    for rare in (False, True):
        patches = feed.PairPatches(cases, 44, 5, rare=rare)
        share.append(np.mean([(patches.patch(k)["fixed_labels"] == 2).any() for k in range(60)]))
    assert places.size == 3 and share[0] < 0.45 and share[1] > share[0] + 0.15


def test_voxels_of_organs_can_weigh_more(prepared):
    case = prepared[1][0]
    batch = {k: (v[None] if k == "present" else v[None][..., :48, :52, :56]) for k, v in feed.tensors(case).items()}
    found = []
    for weight in (1.0, 1e6):
        task = methods.build(
            methods.config(
                network="seg", arguments={"classes": 3, "widths": (2, 2, 2)}, cross_entropy=1.0, organ_weight=weight
            )
        )
        out = task.run_network(batch)
        # background is sure everywhere: right in most voxels, wrong by a likelihood of e^-6 in the organs
        sure = [torch.zeros_like(x).index_fill(1, torch.tensor(0), 6.0) for x in out.logits]
        task.run_network = lambda _, out=out, sure=sure: out._replace(logits=sure)
        found.append(task.losses(batch)["dice_segmented"].item())
    assert found[0] < 4 and found[1] == pytest.approx(1 + 6 + math.log(1 + 2 * math.exp(-6)), abs=0.1)


def test_the_true_deformation_has_almost_no_loss(prepared, monkeypatch):
    """The losses see what the network means: with the true displacement the terms are near 0 at all levels, and not
    without.
    """
    case = prepared[1][0]
    task = methods.build(methods.config(network="dense", arguments={"classes": 3, "widths": (2, 2, 2)}))
    batch = {k: v[None] for k, v in feed.tensors(case).items()}
    batch = {k: v if k == "present" else v[..., :48, :52, :56] for k, v in batch.items()}
    real = task.run_network(batch)
    truth = torch.from_numpy(case.displacement)[None]

    def judged(displacement):
        levels = [crop_to_level(displacement, level) / LEVELS[level][1] for level in range(3)]
        monkeypatch.setattr(task, "run_network", lambda b: real._replace(displacement=levels))
        return {k: float(v.detach()) for k, v in task.losses(batch).items()}

    good, none = judged(truth), judged(0 * truth)
    assert good["ncc"] < 0.01 < 0.1 < none["ncc"] and good["dice_warped"] < 0.05 < 0.15 < none["dice_warped"]
    assert none["bending"] == 0 < good["bending"] < 0.1
    weights = good["ncc"] + good["dice_warped"] + good["dice_segmented"] + 0.5 * good["bending"]
    assert good["loss"] == pytest.approx(weights, rel=1e-5)


def test_swapping_exchanges_the_scans(prepared):
    batch = {k: v[None] for k, v in feed.tensors(prepared[1][0]).items()}
    both = swapped(batch)
    assert torch.equal(both["fixed"][1], batch["moving"][0]) and torch.equal(
        both["moving_labels"][1], batch["fixed_labels"][0]
    )
    assert torch.equal(both["known"][1], batch["known"][0]) and len(both["present"]) == 2


@pytest.mark.parametrize(
    "network, weights, terms",
    [
        ("seg", "equal", {"dice_segmented"}),
        ("reg", "equal", {"ncc", "bending"}),
        ("jrs_reg", "dwa", {"ncc", "bending", "dice_warped"}),
        ("sedd", "homoscedastic", {"ncc", "bending", "dice_warped", "dice_segmented"}),
        ("cross_stitch", "equal", {"ncc", "bending", "dice_warped", "dice_segmented"}),
    ],
)
def test_each_network_trains_from_pairs_to_a_checkpoint(prepared, tmp_path, network, weights, terms):
    folder, _ = prepared
    config = tmp_path / "c.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "network": network,
                "arguments": {"classes": 3, "widths": [2, 3, 4], "dropout": 0.1},
                "weighting": weights,
                "steps": 4,
                "batch": 1,
                "patch": 44,
                "warm_up": 1,
                "validate_every": 4,
                "checkpoint_every": 2,
                "log_every": 1,
                "settle_batches": 1,
                "learning_rate": 1e-3,
            }
        ),
        encoding="utf-8",
    )
    arguments = [
        "train",
        "--prepared",
        str(folder),
        "--config",
        str(config),
        "--out",
        str(tmp_path / "run"),
        "--device",
        "cpu",
    ]
    assert command.main([*arguments, "--stop-after", "2"]) == 0 and command.main(arguments) == 0
    split = yaml.safe_load((tmp_path / "run" / "split.json").read_text(encoding="utf-8"))
    assert {k: split[k] for k in ("training", "validation")} == {
        "training": ["p0_day0", "p1_day0"],
        "validation": ["p2_day0"],
    }
    with open(tmp_path / "run" / "log" / "metrics.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    assert terms | {"loss"} == {k.split("/")[1] for k in rows[0] if k.startswith("train/")}
    scored = [float(r["val/score"]) for r in rows if r["val/score"]]
    assert len(scored) == 1 and 0 < scored[0] <= 1
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=False)
    assert state["global_step"] == 4 and all(
        torch.isfinite(v).all() for k, v in state["state_dict"].items() if k.startswith("network.")
    )


def test_pairs_that_do_not_fit_the_config_are_told(prepared, tmp_path):
    folder, _ = prepared
    config = methods.config(network="seg", arguments={"classes": 5})
    with pytest.raises(SystemExit, match="3: background, a, b"):
        feed.PairFeed(folder, config).load(tmp_path / "c.yaml")
    with pytest.raises(SystemExit, match="training pairs"):
        feed.PairFeed(tmp_path, config)

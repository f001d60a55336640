"""Organs in CT: what is packed, what a patch is, losses that know of organs nobody drew, and from scans to a bundle."""

import csv
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rtuncertainty import networks
from rtuncertainty.bundles import bundle
from rtuncertainty.core.ct import normalised
from training import __main__ as command
from training import methods
from training.calibration.rows import read_rows
from training.core import provenance
from training.core.files import write_csv
from training.data import organ_case
from training.data.prepare import organs, pairs
from training.evaluation import organs as volume_evaluation
from training.methods.eatonrosen2018 import feed
from training.methods.eatonrosen2018 import loss as losses
from training.run import export
from training.studies.volumes import study

DATA = Path(os.environ.get("RTU_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
CLASSES = ["parotid_right", "parotid_left", "mandible"]


def patient(seed, drawn=CLASSES):
    """A body with one organ on each side (100 and 300 HU) and one in the middle; all are there, some are drawn."""
    rng = np.random.default_rng(seed)
    shape = (20, 26, 30)
    z, y, x = np.meshgrid(*[np.arange(n, dtype=np.float32) for n in shape], indexing="ij")
    body = ((y - 13) / 11) ** 2 + ((x - 15) / 13) ** 2 < 1
    hu, labels = np.where(body, 0.0, -1000.0), np.zeros(shape, np.uint8)
    for k, (cx, cy, value) in enumerate([(7, 13, 100.0), (23, 13, 300.0), (15, 6, 800.0)], 1):
        c = np.array([10, cy, cx]) + rng.integers(-1, 2, 3)
        inside = ((z - c[0]) / 4) ** 2 + ((y - c[1]) / 3) ** 2 + ((x - c[2]) / 3) ** 2 < 1
        hu[inside] = value
        if CLASSES[k - 1] in drawn:
            labels[inside] = k
    ml = 4 * 4 * 3 / 1000
    volumes = {c: round(float((labels == k).sum()) * ml, 4) for k, c in enumerate(CLASSES, 1) if c in drawn}
    return organ_case.OrganCase(
        f"p{seed}", f"p{seed}", hu.astype(np.float32), labels, body, (4.0, 4.0, 3.0), list(CLASSES), volumes
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("organs")
    (folder / "cases").mkdir()
    cases = [patient(0), patient(1, CLASSES[:2]), patient(2), patient(3, [CLASSES[0], CLASSES[2]])]
    rows = [
        {"case": c.name, "kept": "yes", "patient": c.patient, "set": "validation" if n > 1 else "train"}
        for n, c in enumerate(cases)
    ]
    for c in cases:
        organ_case.save(c, folder / "cases" / f"{c.name}.npz")
    write_csv(folder / "prepare.csv", rows)
    (folder / organs.SETTINGS).write_text("{}", encoding="utf-8")
    return folder, cases


def test_cases_come_back_from_their_file(prepared):
    folder, cases = prepared
    back = organ_case.load(folder / "cases" / "p1.npz")
    assert (
        np.abs(back.hu - cases[1].hu).max() <= 4
        and np.array_equal(back.labels, cases[1].labels)
        and np.array_equal(back.body, cases[1].body)
    )
    assert (back.present, back.classes, back.spacing) == (
        CLASSES[:2],
        CLASSES,
        (4.0, 4.0, 3.0),
    ) and back.drawn_ml == cases[1].drawn_ml
    assert back.ml_per_voxel == pytest.approx(0.048)


def plain_folder(folder):
    """Two patients in the plain layout, 2 mm voxels, in another orientation; two structures overlap, and one is
    drawn in the first only.
    """
    for name in ("A", "B"):
        (folder / name).mkdir()
        z, y, x = np.meshgrid(*[np.arange(n) for n in (30, 60, 70)], indexing="ij")
        body = ((y - 30) / 25) ** 2 + ((x - 35) / 30) ** 2 < 1
        ct = sitk.GetImageFromArray(np.where(body, 40 + (name == "B"), -1000).astype(np.int16))
        block = (y >= 22) & (y < 38) & (z > 8) & (z < 21)
        labels = [("Parotid_L", (x >= 40) & (x < 56) & block), ("Mandible", (x >= 52) & (x < 60) & block)]
        layers = np.stack([m.astype(np.uint8) for _, m in labels[: 1 + (name == "A")]], -1)
        seg = sitk.GetImageFromArray(layers, isVector=True)
        for n, (title, _) in enumerate(labels[: 1 + (name == "A")]):
            for key, value in {
                "ID": title,
                "Name": title,
                "LabelValue": "1",
                "Layer": str(n),
                "Color": "1 0 0",
            }.items():
                seg.SetMetaData(f"Segment{n}_{key}", value)
        for image in (ct, seg):
            image.SetSpacing((2.0, 2.0, 3.0))
            image.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, 1))
        sitk.WriteImage(ct, str(folder / name / "ct.nii.gz"))
        sitk.WriteImage(seg, str(folder / name / "structures.seg.nrrd"))
    return folder


def test_structures_become_organs_on_one_grid(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    data, out = plain_folder(tmp_path / "data"), tmp_path / "out"
    arguments = ["organs", "--data", str(data), "--out", str(out), "--organs", *CLASSES[1:]]
    assert command.main(arguments) == 0
    case, other = (organ_case.load(out / "cases" / f"{n}.npz") for n in "AB")
    assert case.spacing == pytest.approx((4, 4, 3)) and case.present == CLASSES[1:] and other.present == CLASSES[1:2]
    # where they overlap (52 ≤ x < 56) one has it; what is drawn is measured on its own voxels
    assert case.drawn_ml == pytest.approx({"parotid_left": 16 * 16 * 12 * 0.012, "mandible": 8 * 16 * 12 * 0.012})
    there = [int((case.labels == k).sum()) * case.ml_per_voxel for k in (1, 2)]
    shared = 4 * 16 * 12 * 0.012
    assert sum(there) == pytest.approx(sum(case.drawn_ml.values()) - shared, rel=0.05)
    assert all(ml - 1.1 * shared < t <= ml for t, ml in zip(there, case.drawn_ml.values()))
    assert (other.labels == 1).sum() * other.ml_per_voxel == pytest.approx(other.drawn_ml["parotid_left"], rel=0.03)
    # parotid_left is where the patient's left is, whatever the orientation: higher x of an axial LPS grid
    middle = [np.argwhere(case.labels == k)[:, 2].mean() for k in (1, 2)]
    assert middle[0] < middle[1] and middle[0] > case.labels.shape[2] / 2
    assert np.median(case.hu[case.body]) == pytest.approx(40, abs=4) and 0 < case.body.mean() < 1
    # nothing is made again, and nothing is mixed
    before = (out / "cases" / "A.npz").stat().st_mtime_ns
    assert command.main(arguments) == 0 and (out / "cases" / "A.npz").stat().st_mtime_ns == before
    with pytest.raises(SystemExit, match="other settings"):
        organs.run(data, out, CLASSES[1:], (5.0, 5.0, 3.0))
    with pytest.raises(SystemExit, match="any of liver"):
        organs.run(data, tmp_path / "none", ["liver"])


def test_an_organ_beyond_the_body_counts_as_not_drawn(tmp_path, capsys):
    """A scan with two empty slices, as OpenKBP has one: the patient that is found ends there, and so does what is
    known of its organs.
    """
    z, y, x = np.meshgrid(*[np.arange(n) for n in (24, 40, 40)], indexing="ij")
    body = ((y - 20) ** 2 + (x - 20) ** 2 < 17**2) & ~((z > 6) & (z < 9))
    masks = {
        "mandible": (abs(x - 20) < 4) & (abs(y - 20) < 4) & (z > 12) & (z < 20),
        "parotid_left": (abs(x - 28) < 3) & (abs(y - 20) < 4) & (z > 2) & (z < 14),
    }
    ct, *structures = (sitk.GetImageFromArray(a.astype(np.int16)) for a in (np.where(body, 40, -1000), *masks.values()))
    for image in (ct, *structures):
        image.SetSpacing((4.0, 4.0, 3.0))
    made = organs.prepared(
        pairs.Patient("p", ct, dict(zip(masks, structures))), {n: n for n in masks}, CLASSES, (4.0, 4.0, 3.0)
    )
    assert (
        made.present == ["mandible"]
        and (made.labels == 3).sum() == masks["mandible"].sum()
        and not (made.labels == 2).any()
    )
    assert "parotid_left counts as not drawn" in capsys.readouterr().out


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 60))
def test_as_many_voxels_as_ml(seed, voxels):
    filled = np.random.default_rng(seed).uniform(0.25, 0.75, (4, 5, 3)).astype(np.float32)
    assert (organs.preserving(filled, voxels) > 0.5).sum() == voxels
    # those that are filled alike belong to it together
    assert [(organs.preserving(np.float32([0.9, 0.5, 0.5, 0.5]), n) > 0.5).sum() for n in (1, 2, 3, 4)] == [1, 1, 4, 4]
    # but no voxel that is hardly filled, and none is lost that is all but full
    assert (organs.preserving(np.float32([0.1, 0.9, 1.0]), 3) > 0.5).tolist() == [False, True, True]
    assert (organs.preserving(np.float32([0.1, 0.9, 1.0]), 1) > 0.5).tolist() == [False, True, True]
    assert not (organs.preserving(np.zeros(3, np.float32), 2) > 0.5).any()


def test_a_real_patient_is_packed(tmp_path):
    data = DATA / "openkbp_hn"
    if not data.is_dir() and os.environ.get("CI") != "true":
        pytest.skip(f"{data} is not there: set RTU_DATA to the folder with the data sets")
    rows = organs.run(data, tmp_path, only=["pt_206"])
    case = organ_case.load(tmp_path / "cases" / "pt_206.npz")
    assert rows[0]["set"] == "validation" and case.present == [
        "brainstem",
        "spinal_cord",
        "parotid_right",
        "parotid_left",
        "larynx",
    ]
    assert (tmp_path / "cases" / "pt_206.npz").stat().st_size < 1_200_000
    for organ, ml in case.drawn_ml.items():
        mask = case.labels == 1 + pairs.HEADNECK.index(organ)
        assert mask.sum() * case.ml_per_voxel == pytest.approx(ml, rel=0.06) and case.body[mask].mean() > 0.95
    assert (
        np.argwhere(case.labels == 3)[:, 2].max() < np.argwhere(case.labels == 4)[:, 2].min()
    )  # right is at lower x in LPS


def test_patches_depend_on_their_number_alone(prepared):
    cases = prepared[1]
    whole = feed.VolumePatches(cases, 16, 5)
    resumed, part = (
        iter(feed.VolumePatches(cases, 16, 5, **how))
        for how in ({"start": 3, "batch": 2}, {"batch": 2, "rank": 1, "world": 2})
    )
    for key, value in whole.patch(6).items():
        assert torch.equal(value, next(iter(feed.VolumePatches(cases, 16, 5, start=3, batch=2)))[key])
    assert torch.equal(next(resumed)["image"], whole.patch(6)["image"])
    next(part)
    assert torch.equal(next(part)["image"], whole.patch(3)["image"])
    found = [whole.patch(k) for k in range(60)]
    assert {tuple(d["image"].shape) for d in found} == {(1, 16, 16, 16)} and {d["image"].dtype for d in found} == {
        torch.float32
    }
    # each organ as often as any other, though one is drawn in fewer patients
    seen = torch.stack([torch.stack([(d["labels"] == k).any() for k in (1, 2, 3)]) for d in found]).float().mean(0)
    assert seen.min() > 0.3
    beyond = torch.cat([d["image"][0][d["known"] == 0] for d in found])
    assert len(beyond) and beyond.mean().item() == pytest.approx(feed.AIR, abs=0.02)
    assert all((d["labels"][d["known"] == 0] == 0).all() for d in found)


def test_in_the_mirror_left_and_right_change_places(prepared):
    case = patient(0, CLASSES[:2])
    patches = feed.VolumePatches([case], 30, 1)
    looks = set()
    for k in range(24):
        cut = patches.patch(k)
        mean = [cut["image"][0][(cut["labels"] == n) & (cut["known"] > 0)].mean().item() for n in (1, 2)]
        at = [(cut["labels"] == n).nonzero()[:, 2].float().mean().item() for n in (1, 2)]
        if not any(map(math.isnan, at)):
            assert at[0] < at[1]  # the right one is at lower x, mirrored or not
            looks.add(mean[0] < mean[1])
        assert cut["present"].tolist() == [1, 1, 0]
    assert looks == {True, False}
    one = patient(0, CLASSES[1:])
    swapped = {tuple(feed.VolumePatches([one], 12, 0).patch(k)["present"].tolist()) for k in range(12)}
    assert swapped == {(0, 1, 1), (1, 0, 1)}
    one.classes = ["parotid_right", "heart", "mandible"]
    assert not feed.VolumePatches([one], 12, 0).can_mirror
    assert feed.mirrored(["a", "lung_left", "b_left", "lung_right"]) == [0, 3, 2, 1]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.tuples(*[st.floats(0.5, 5)] * 3))
def test_turns_are_rigid_in_mm_but_for_one_scale(seed, spacing):
    matrix = feed.VolumePatches._turn(spacing, np.random.default_rng(seed))
    mm = np.array(spacing)[::-1]
    in_mm = matrix * mm[:, None] / mm
    scale = np.cbrt(np.linalg.det(in_mm))
    assert np.allclose(in_mm @ in_mm.T, scale**2 * np.eye(3), atol=1e-9) and 0.7 < scale < 1.4


def test_what_was_not_drawn_is_unknown_and_not_background():
    logits = (
        torch.log(torch.tensor([0.5, 0.2, 0.3])).reshape(1, 3, 1, 1, 1).expand(1, 3, 1, 1, 2).clone().requires_grad_()
    )
    labels, known = torch.tensor([[[[0, 1]]]]), torch.ones(1, 1, 1, 2)
    for present, background in (([1, 1], 0.5), ([1, 0], 0.8), ([0, 0], 1.0)):
        loss, p = losses.cross_entropy(logits, labels, torch.tensor([present]).float(), known)
        assert loss.item() == pytest.approx(-(math.log(background) + math.log(0.2)) / 2, abs=1e-6) and p[
            0, 2, 0, 0, 0
        ].item() == pytest.approx(0.3)
    # in the background of a patient without organ 2 drawn, finding it costs nothing and teaches nothing
    loss, _ = losses.cross_entropy(logits, labels, torch.tensor([[1.0, 0.0]]), known * torch.tensor([1.0, 0.0]))
    loss.backward()
    gradient = logits.grad[0, :, 0, 0, 0]
    assert (
        gradient[0] / gradient[2] == pytest.approx(0.5 / 0.3, rel=1e-5)
        and gradient[0] < 0 < gradient[1]
        and not logits.grad[..., 1].any()
    )
    # with all drawn it is torch's cross-entropy
    logits, labels = torch.randn(2, 4, 3, 3, 3), torch.randint(0, 4, (2, 3, 3, 3))
    loss, _ = losses.cross_entropy(logits, labels, torch.ones(2, 3), torch.ones(2, 3, 3, 3))
    assert loss.item() == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), abs=1e-6)
    # patients of one batch have each their own
    mixed, _ = losses.cross_entropy(logits, labels, torch.tensor([[1.0, 1, 1], [0, 1, 1]]), torch.ones(2, 3, 3, 3))
    parts = [
        losses.cross_entropy(
            logits[k : k + 1], labels[k : k + 1], torch.tensor([[1.0 - k, 1, 1]]), torch.ones(1, 3, 3, 3)
        )[0].item()
        for k in (0, 1)
    ]
    assert mixed.item() == pytest.approx(np.mean(parts), abs=1e-6)


def test_dice_of_an_organ_that_was_not_drawn_does_not_count():
    p, labels = torch.rand(1, 3, 4, 4, 4).softmax(1), torch.zeros(1, 4, 4, 4, dtype=torch.long)
    labels[0, 1:3] = 1
    known = torch.ones(1, 4, 4, 4)
    losses_ = [losses.dice(p, labels, torch.tensor([present]).float(), known).item() for present in ([1, 0], [1, 1])]
    truth = (labels == 1).float()
    assert losses_[0] == pytest.approx(
        1 - (2 * (p[:, 1] * truth).sum() / ((p[:, 1] ** 2).sum() + truth.sum())).item(), abs=1e-5
    )
    size = (p[:, 2] ** 2).sum().item()
    assert losses_[1] == pytest.approx((losses_[0] + size / (size + 50)) / 2, abs=1e-5)


def test_the_noisy_likelihood_by_hand(monkeypatch):
    noise = iter([torch.tensor([1.0, -1.0]), torch.tensor([0.5, 0.5]), torch.tensor([-2.0, 1.0])])
    monkeypatch.setattr(torch, "randn_like", lambda x: next(noise).reshape(1, 2, 1, 1, 1))
    logits, sd = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1, 1), torch.full((1, 1, 1, 1, 1), 2.0)
    loss, mean = losses.heteroscedastic(
        logits, sd, torch.ones(1, 1, 1, 1, dtype=torch.long), torch.ones(1, 1), torch.ones(1, 1, 1, 1), 3
    )
    # noisy logits (3, −2), (2, 1), (−3, 2): of class 1 the softmax is 1 / (1 + e^difference)
    p = [1 / (1 + math.exp(d)) for d in (5, 1, -5)]
    assert loss.item() == pytest.approx(-math.log(sum(p) / 3), abs=1e-6) and mean.ravel().tolist() == pytest.approx(
        [1 - sum(p) / 3, sum(p) / 3]
    )


def test_without_noise_it_is_the_cross_entropy():
    logits, labels = torch.randn(1, 4, 3, 3, 3), torch.randint(0, 4, (1, 3, 3, 3))
    given = labels, torch.tensor([[1.0, 0, 1]]), torch.ones(1, 3, 3, 3)
    plain, noisy = (
        losses.cross_entropy(logits, *given),
        losses.heteroscedastic(logits, torch.zeros(1, 1, 3, 3, 3), *given, 5),
    )
    assert plain[0].item() == pytest.approx(noisy[0].item(), abs=1e-6) and torch.allclose(plain[1], noisy[1], atol=1e-6)


def test_it_finds_the_noise_that_made_the_labels():
    """Labels drawn from softmax(f + σε) with σ = 2: of all σ the loss is least there."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(1, 3, 20, 20, 40, generator=generator)
    noisy = (logits + 2 * torch.randn(logits.shape, generator=generator)).softmax(1)
    labels = torch.multinomial(noisy.movedim(1, -1).reshape(-1, 3), 1, generator=generator).reshape(1, 20, 20, 40)
    found = {}
    for sd in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0):
        torch.manual_seed(1)
        found[sd] = losses.heteroscedastic(
            logits, torch.full((1, 1, 1, 1, 1), sd), labels, torch.ones(1, 2), torch.ones(1, 20, 20, 40), 60
        )[0].item()
    assert min(found, key=found.get) == 2.0


def budget(names, **changes):
    sizes = {"in_channels": 1, "classes": 4, "width": 2, "features": 4}
    own = {n: {"arguments": sizes | ({"branches": [4, 3]} if n == "hr_hetero" else {})} for n in names}
    return {
        "steps": 3,
        "batch": 1,
        "patch": 14,
        "warm_up": 1,
        "validate_every": 3,
        "checkpoint_every": 1,
        "log_every": 1,
        "settle_batches": 1,
        "noise_samples": 2,
        "evaluation": {"samples": 4},
        "networks": own,
        **changes,
    }


@pytest.fixture
def card(tmp_path, monkeypatch):
    found = yaml.safe_load(study.CARD.read_text(encoding="utf-8"))
    found["outputs"]["structures"] = [
        s | {"label": 1 + CLASSES.index(s["name"])} for s in found["outputs"]["structures"] if s["name"] in CLASSES
    ]
    own = tmp_path / "card.yaml"
    own.write_text(yaml.safe_dump(found), encoding="utf-8")
    monkeypatch.setattr(study, "CARD", own)


def test_from_scans_to_tables_and_a_bundle(prepared, tmp_path, card, capsys, monkeypatch):
    monkeypatch.setattr("training.studies.volumes.noise.STEPS", {"noise": (0.2,)})
    folder, cases = prepared
    settings_ = tmp_path / "budget.yaml"
    parts = [{"steps": 2, "seed": 7, "organ_weight": 10.0, "freeze_norm": False}, {"steps": 1, "freeze_norm": True}]
    settings_.write_text(yaml.safe_dump(budget(study.TITLES, freeze_norm=True, common=parts)), encoding="utf-8")
    out = tmp_path / "out"
    arguments = [
        "reproduce",
        "volumes",
        "--data",
        str(folder),
        "--out",
        str(out),
        "--config",
        str(settings_),
        "--device",
        "cpu",
    ]
    with pytest.raises(SystemExit, match="begin with are not finished"):
        command.main([*arguments, "--minutes", "0"])
    assert command.main([*arguments, "--only", "hr_drop_last", "hr_hetero"]) == 0
    # all began with the last of the common parts, each part with the one before it, and normalisation kept the first
    # one's statistics
    said = {
        n: yaml.safe_load((out / "runs" / n / "config.yaml").read_text(encoding="utf-8"))
        for n in ("common-1", "common-2", "hr_drop_last", "hr_hetero")
    }
    assert [said[n]["initialise"] and Path(said[n]["initialise"]).name for n in said] == [
        None,
        "common-1",
        "common-2",
        "common-2",
    ]
    assert [(c["seed"], c["organ_weight"], c["steps"]) for c in said.values()] == [
        (7, 10.0, 2),
        (1, 1.0, 1),
        (0, 1.0, 3),
        (0, 1.0, 3),
    ]
    states = {n: export.network_state(out / "runs" / n)[0] for n in said}
    mean = next(k for k in states["common-1"] if k.endswith("running_mean"))
    assert all(torch.equal(states["common-1"][mean], s[mean]) for s in states.values())
    assert not torch.equal(states["common-1"]["trunk.0.0.weight"], states["hr_hetero"]["trunk.0.0.weight"])
    text = (out / "results" / "organs.md").read_text(encoding="utf-8")
    assert "| HR-drop-last |" in text and "| HR-hetero |" in text and "HR-default" not in text
    assert "parotid_right (n = 2) | parotid_left (n = 1) | mandible (n = 2)" in text
    before = (out / "evaluation" / "hr_hetero" / "rows.json").stat().st_mtime_ns
    assert command.main([*arguments, "--only", "hr_default", "hr_hetero"]) == 0
    assert (out / "evaluation" / "hr_hetero" / "rows.json").stat().st_mtime_ns == before
    assert "| HR-default |" in (out / "results" / "organs.md").read_text(encoding="utf-8")
    volumes = (out / "results" / "volumes.md").read_text(encoding="utf-8")
    assert (
        "| HR-drop-last | uncalibrated |" in volumes
        and "| HR-hetero | uncalibrated |" in volumes
        and "Eaton-Rosen 2018, Fig. 4" in volumes
    )
    # one bundle, which segments and does nothing else
    made, built = bundle.load(out / "bundle" / "headneck-ct-organs")
    assert (
        made["task"] == "segmentation"
        and set(made["outputs"]) == {"structures"}
        and made["dropout"] == {"p": 0.5, "where": "last layer"}
    )
    assert [s["name"] for s in made["outputs"]["structures"]] == CLASSES and made["accuracy"]["n"] == 2
    hashes = provenance.identities(prepared[0], ["p0", "p1", "p2", "p3"])
    # with what the weights that all begin with have seen
    assert [provenance.unseen_checkpoints(made, hashes[f"p{k}"]) for k in range(4)] == [[], [], [0], [0]] and len(
        made["training"]["patients"]["checkpoints"][0]["seen"]
    ) > 1
    assert [provenance.validated(made, hashes[f"p{k}"]) for k in range(4)] == [False, False, True, True]
    assert (made["training"]["steps"], made["training"]["steps_before"], made["training"]["initialised_with"]) == (
        3,
        3,
        "common-2",
    )
    # of every validation patient and organ the distribution of the volume, and the truth
    rows = read_rows(out / "evaluation" / "hr_drop_last" / "rows.json")
    assert [(r.patient, r.structure, r.present) for r in rows] == [
        (c.name, o, o in c.present) for c in cases[2:] for o in CLASSES
    ]
    assert [r.true_ml for r in rows if r.present] == [v for c in cases[2:] for v in c.drawn_ml.values()]
    stored = json.loads((out / "evaluation" / "hr_drop_last" / "rows.json").read_text(encoding="utf-8"))
    assert stored["training"]["mandible"] == [round(cases[0].drawn_ml["mandible"], 3)] and len(stored["contours"]) == 5
    found = volume_evaluation.sampled(built, made, cases[2], samples=4, device="cpu")
    again = volume_evaluation.sampled(built, made, cases[2], samples=4, device="cpu")
    assert (
        np.array_equal(found.mean, again.mean)
        and np.allclose(found.mean.sum(0), 1, atol=1e-5)
        and found.variance.max() > 0
    )
    assert (
        (found.mean[0][~cases[2].body] == 1).all()
        and not found.variance[:, ~cases[2].body].any()
        and found.entropy.shape == cases[2].hu.shape
    )
    # the same scores by the commands for one model
    one = [str(out / "runs" / "hr_drop_last"), str(out / "bundles" / "hr_drop_last"), str(tmp_path / "one")]
    assert (
        command.main(
            [
                "evaluate",
                "--prepared",
                str(folder),
                "--run",
                one[0],
                "--model",
                one[1],
                "--out",
                one[2],
                "--device",
                "cpu",
                "--samples",
                "4",
            ]
        )
        == 0
    )
    again, first = (
        json.loads((f / "evaluation.json").read_text(encoding="utf-8"))
        for f in (tmp_path / "one", out / "evaluation" / "hr_drop_last")
    )
    assert again == first
    with pytest.raises(SystemExit, match="nobody"):
        command.main([*arguments, "--only", "nobody"])


def test_scores_of_a_network_that_finds_everything(prepared, monkeypatch):
    """A stand-in for the sampler that answers with the truth: what is scored is then perfect, and its volumes are
    those drawn.
    """
    case = prepared[1][2]
    card = {"outputs": {"structures": [{"name": c, "label": k} for k, c in enumerate(CLASSES, 1)]}, "calibration": {}}
    labels = torch.from_numpy(case.labels.astype(np.int64))
    where = tuple(
        slice(*(lambda s: (s[0], s[-1] + 1))(np.flatnonzero(case.body.any(axes)))) for axes in ((1, 2), (0, 2), (0, 1))
    )
    p = torch.nn.functional.one_hot(labels[where], 4).float().movedim(-1, 1)

    class Found:
        probability, probability_variance = p, torch.zeros_like(p)

    def run(built, volume, *_):
        assert np.array_equal(volume, normalised(case.hu)[where])
        return Found, "cpu", 0

    monkeypatch.setattr(volume_evaluation.inference, "run", run)
    found = volume_evaluation.sampled([], card, case, device="cpu")
    assert np.array_equal(found.labels, case.labels)
    rows = volume_evaluation.volume_rows("perfect", found, card)
    assert [r.dice for r in rows] == [1.0] * 3 and [r.expected_dice for r in rows] == pytest.approx([1.0] * 3)
    for r in rows:
        assert (
            r.ml == pytest.approx([case.drawn_ml[r.structure]] * len(r.ml), abs=1e-3)
            and r.true_ml == case.drawn_ml[r.structure]
        )


def test_the_loss_of_each_network_falls(prepared, tmp_path):
    """A few steps from scans to a checkpoint, cut and resumed; the absent organs of one patient do no harm."""
    folder, _ = prepared
    config = tmp_path / "hr.yaml"
    shared = budget([], steps=24, learning_rate=1e-2, validate_every=24)
    sizes = {"in_channels": 1, "classes": 4, "width": 4, "features": 8, "dropout": 0.2}
    config.write_text(
        yaml.safe_dump(
            {
                "network": "hr_drop_all",
                "arguments": sizes,
                **{k: shared[k] for k in shared.keys() - {"networks", "evaluation"}},
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
    with open(tmp_path / "run" / "log" / "metrics.csv", newline="", encoding="utf-8") as f:
        logged = list(csv.DictReader(f))
    found = [float(r["train/loss"]) for r in logged if r.get("train/loss")]
    assert len(found) == 24 and np.mean(found[-6:]) < 0.85 * np.mean(found[:4])
    assert {k for k in logged[-1] if k.startswith("val/dice")} == {f"val/dice_{k}" for k in (1, 2, 3)}


def test_configs_fit_their_networks():
    structures = yaml.safe_load(study.CARD.read_text(encoding="utf-8"))["outputs"]["structures"]
    assert [s["name"] for s in structures] == list(pairs.HEADNECK) and [s["label"] for s in structures] == list(
        range(1, 8)
    )
    for hardware in ("cpu", "gpu"):
        budget_ = study.FOLDER / f"{hardware}.yaml"
        steps = set()
        common = yaml.safe_load(budget_.read_text(encoding="utf-8"))["common"]
        assert common and all(
            set(part) <= {f.name for f in methods.METHODS["eatonrosen2018"].Config.settings()} for part in common
        )
        for name in study.TITLES:
            config = methods.load(methods.file_of(name), budget_)
            network = networks.build(config.network, **config.arguments)
            assert config.network == name and network.classes == 1 + len(structures) and network.in_channels == 1
            steps.add((config.steps, config.patch))
        assert len(steps) == 1
    with pytest.raises(SystemExit, match="organs' first"):
        feed.VolumeFeed(Path("nowhere"), methods.config(network="hr_default"))


def task(**changes):
    torch.manual_seed(0)
    return methods.build(
        methods.config(
            network="hr_default", arguments={"in_channels": 1, "classes": 4, "width": 2, "features": 4}, **changes
        )
    )


def test_an_organ_weighs_as_much_as_it_is_told_to():
    labels = torch.zeros(1, 10, 10, 10, dtype=torch.int64)
    labels[0, :2, :5, :5] = 1
    batch = {
        "image": torch.randn(1, 1, 10, 10, 10),
        "labels": labels,
        "known": torch.ones(1, 10, 10, 10),
        "present": torch.ones(1, 3),
    }
    plain, weighed = task().eval(), task(organ_weight=20.0).eval()
    with torch.no_grad():
        log_p = plain.run_network(batch).logits.log_softmax(1).gather(1, labels[:, None])[:, 0]
        found = [float(t.losses(batch)["likelihood"]) for t in (plain, weighed)]
    organ, background = log_p[labels > 0], log_p[labels == 0]
    assert found[0] == pytest.approx(-float(log_p.mean()), rel=1e-5)
    assert found[1] == pytest.approx(
        -float((20 * organ.sum() + background.sum()) / (20 * len(organ) + len(background))), rel=1e-5
    )
    ended = task(organ_weight=20.0, dice_until=0.0).eval()  # the last steps weigh all voxels alike
    with torch.no_grad():
        terms = ended.losses(batch)
    assert float(terms["likelihood"]) == pytest.approx(found[0], rel=1e-5) and terms["loss"] == terms["likelihood"]


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_statistics_stay_as_they_were(frozen):
    one = task(freeze_norm=frozen).train()
    norms = [m for m in one.network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    before = [m.running_mean.clone() for m in norms]
    one.run_network({"image": 5 + torch.randn(1, 1, 10, 10, 10)})
    same = [torch.equal(m.running_mean, b) for m, b in zip(norms, before)]
    assert len(norms) > 5 and all(same) == frozen and one.training

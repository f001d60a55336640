"""Folds of networks that segment whole volumes, from patients to a bundle; volumes of a synthetic CT's structures."""

import json
from dataclasses import replace

import numpy as np
import pytest
import test_organs
import tiny_scans
import torch
import yaml

pytest.importorskip("lightning")

from rtuncertainty.bundles import bundle
from rtuncertainty.sampling.slices import Statistics
from rtuncertainty.uncertainty import volume_calibration
from training import __main__ as command
from training.core import provenance
from training.core.files import write_csv
from training.data import organ_case
from training.data.case import Case
from training.data.prepare import left_atrium, organs
from training.evaluation import slices
from training.evaluation.case import Evaluated
from training.studies.few_labels import quality
from training.studies.volumes import study as volume_study


def reproduced(name, prepared, out, config, monkeypatch):
    """The card of one command, given twice: nothing is computed again by the second."""
    words = ["reproduce", name, "--data", str(prepared), "--out", str(out), "--config", str(config), "--device", "cpu"]
    assert command.main(words) == 0
    before = {f: f.read_bytes() for f in (out / "bundle").rglob("*") if f.is_file()}

    def never(*_, **__):
        raise AssertionError("computed again")

    monkeypatch.setattr("rtuncertainty.sampling.inference.run", never)
    monkeypatch.setattr("rtuncertainty.sampling.volumes.statistics", never)
    assert command.main(words) == 0
    assert {f: f.read_bytes() for f in before} == before
    (folder,) = (out / "bundle").iterdir()
    return bundle.read_card(folder)


def test_left_atria(tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "STEPS", {"noise": (0.2,)})
    tiny_scans.write_scans(tmp_path / "data", 6)
    left_atrium.run(tmp_path / "data", tmp_path / "prepared", 1.0)
    changes = {"folds": 2, "cross_fit": True, "steps": 2, "validate_every": 2, "labelled": 0}
    config = tiny_scans.config(tmp_path, "vnet", **changes)
    card = reproduced("left_atrium_folds", tmp_path / "prepared", tmp_path / "out", config, monkeypatch)
    assert card["checkpoints"] == 2 and card["accuracy"]["n"] == 6
    assert card["accuracy"]["cases"].startswith("out-of-fold, 6 patients, 2 folds: each by the checkpoint that has not")
    rows = json.loads((tmp_path / "out" / "results" / "quality.json").read_text(encoding="utf-8"))["rows"]
    folds = {r["case"]: r["volume"]["fold"] for r in rows}
    assert len(rows) == 12 and sorted(folds.values()) == [0, 0, 0, 1, 1, 1]
    hashes = provenance.identities(tmp_path / "prepared", list(folds))
    assert all(provenance.unseen_checkpoints(card, hashes[c]) == [k] for c, k in folds.items())


def test_organs_in_ct(tmp_path, monkeypatch):
    prepared = tmp_path / "prepared"
    (prepared / "cases").mkdir(parents=True)
    cases = [test_organs.patient(k) for k in range(4)]
    for c in cases:
        organ_case.save(c, prepared / "cases" / f"{c.name}.npz")
    write_csv(
        prepared / "prepare.csv", [{"case": c.name, "kept": "yes", "patient": c.patient, "set": ""} for c in cases]
    )
    (prepared / organs.SETTINGS).write_text("{}", encoding="utf-8")
    made = yaml.safe_load(volume_study.CARD.read_text(encoding="utf-8"))
    known = {s["name"]: s for s in made["outputs"]["structures"]}
    made["outputs"]["structures"] = [known[c] | {"label": k} for k, c in enumerate(test_organs.CLASSES, 1)]
    monkeypatch.setattr(volume_study, "CARD", tmp_path / "card.yaml")
    volume_study.CARD.write_text(yaml.safe_dump(made), encoding="utf-8")
    config = tmp_path / "config.yaml"
    settings = test_organs.budget([], patch=16, folds=2, cross_fit=True, network="vnet", method="eatonrosen2018")
    settings |= {"arguments": {"classes": 4, "width": 2, "levels": 2}}
    config.write_text(
        yaml.safe_dump({k: v for k, v in settings.items() if k not in ("evaluation", "networks")}), encoding="utf-8"
    )
    card = reproduced("volumes_folds", prepared, tmp_path / "out", config, monkeypatch)
    assert card["checkpoints"] == 2 and card["accuracy"]["cases"].startswith("out-of-fold, 4 patients, 2 folds")
    assert card["training"]["method"] == "organs" and card["input"]["statistics"]["cases"] == 4


def imagined(rng, number):
    """A case with a box of bone and one of tumour, and what samples of a network that draws them too wide say."""
    labels = np.zeros((4, 24, 24), np.uint8)
    labels[1:3, 4:10, 4:9] = 1
    labels[1:3, 14:20, 12 : 16 + int(rng.integers(0, 4))] = 2
    body = np.ones(labels.shape, bool)
    valid = body.copy()
    valid[:, 20:] = False  # what was not measured counts on neither side
    case = Case(f"p{number}", 0.0 * labels, 40.0 + 0 * labels, labels, body, valid, (1.0, 2.0, 5.0), ct_body=body)
    mean = np.full((3, *labels.shape), 0.02, np.float32)
    for k in (1, 2):
        mean[k][labels == k] = 0.9
        mean[k, 1:3, 14:20, 16 : 16 + int(rng.integers(1, 4))] += 0.6 * (k == 2)
    mean[0] = 1 - mean[1:].sum(0)
    variance = 0.05 * mean * (1 - mean)
    zero = torch.zeros(4, 1, 24, 24)
    p, v = (torch.from_numpy(a.clip(0, 1).swapaxes(0, 1).copy()) for a in (mean, variance))
    statistics = Statistics(zero, zero, zero, p, v, zero)
    wanted = np.where(body, mean.argmax(0), 0)
    return case, statistics, Evaluated(f"p{number}", case, 40.0 + 0.0 * labels, probability=mean, labels=wanted)


def test_volumes_of_a_synthetic_ct_are_calibrated(tmp_path):
    rng, rows = np.random.default_rng(0), []
    card = {"name": "m", "weights": {"sha256": "x"}}
    card["outputs"] = {"structures": [{"name": "bone", "label": 1}, {"name": "gtv", "label": 2}]}
    for number in range(24):
        case, statistics, found = imagined(rng, number)
        mine = slices.volume_rows("m", statistics, found, card, case.name)
        ml = 1.0 * 2.0 * 5.0 / 1000
        assert [r.structure for r in mine] == ["bone", "gtv"]
        for k, r in enumerate(mine, 1):
            assert r.true_ml == pytest.approx(((case.labels == k) & case.valid).sum() * ml)
            assert r.distribution.volume_ml == pytest.approx(((found.labels == k) & case.valid).sum() * ml)
            a, b = (found.labels == k) & case.valid, (case.labels == k) & case.valid
            assert r.dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
        rows += [replace(r, fold=number % 4) for r in mine]
    made = slices._volumes(rows, card, tmp_path, {"scored": {}})
    assert made.volumes["method"] == "cv_plus" and made.volumes["patients"] == 24 and made.volumes["within_90"] >= 0.8
    calibration = volume_calibration.of_card({"name": "m", "calibration": made.as_card()})
    for r in rows[:4]:
        ends = calibration.interval(r.distribution, 0.9, members=(r.member,))
        assert ends.calibrated and ends.lower <= r.true_ml * 1.001
    # so few that no interval of 90 % can be had are not calibrated at all
    assert slices._volumes(rows[:16], card, tmp_path, {"scored": {}}).volumes is None

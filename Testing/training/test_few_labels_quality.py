"""The Dice of a contour told from the uncertainty alone: intervals, what the card gets, and the way from a
hospital's folder to a flag.
"""

import csv
import json
import math

import numpy as np
import pytest
import test_scans
import tiny_scans
import torch
import yaml

from rtuncertainty.bundles import bundle
from rtuncertainty.cli import command_line
from rtuncertainty.prediction import preprocess
from rtuncertainty.uncertainty import flags
from rtuncertainty.uncertainty import quality as structure_quality
from rtuncertainty.uncertainty.fit import quality as quality_calibration
from rtuncertainty.uncertainty.fit.volumes import VolumeRow
from rtuncertainty.uncertainty.volume_distribution import PERCENTILES
from rtuncertainty.uncertainty.volumes import Volume
from training import __main__ as command
from training.data import scan
from training.studies.few_labels import flags as few_labels_flags
from training.studies.few_labels import quality as few_labels_quality
from training.studies.few_labels import tables
from training.studies.few_labels.quality import QualityRow


def test_the_interval_of_an_auroc():
    rng = np.random.default_rng(0)
    bad = rng.random(80) < 0.4
    score = rng.standard_normal(80) - 1.2 * bad
    low, high = quality_calibration.auroc_interval(score, bad, np.arange(80))
    area, n, m = quality_calibration.auroc(score, bad), bad.sum(), (~bad).sum()
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)  # Hanley & McNeil 1982
    se = math.sqrt((area * (1 - area) + (n - 1) * (q1 - area**2) + (m - 1) * (q2 - area**2)) / (n * m))
    assert low < area < high and high - low == pytest.approx(2 * 1.96 * se, rel=0.2)
    # contours of one patient are one draw: twice as many of them know no more
    twice = quality_calibration.auroc_interval(np.tile(score, 2), np.tile(bad, 2), np.tile(np.arange(80), 2))
    assert twice == pytest.approx((low, high))
    for s, b in (
        (score, bad & False),
        (score, bad | True),
        (-1.0 * bad, bad),
        (score[:3], np.array([True, False, False])),
    ):
        assert all(
            math.isnan(v)
            for v in quality_calibration.auroc_interval(s, b, np.zeros(len(s)) if len(s) == 3 else np.arange(len(s)))
        )


def rows(patients, noise=0.02, clean_bad=True, seed=0):
    """Six contours of each patient, ever worse; an over-confident expected Dice."""
    rng, out = np.random.default_rng(seed), []
    for p in range(patients):
        best = rng.uniform(0.78 if clean_bad else 0.88, 0.95)
        for k, (kind, amount) in enumerate(
            [("none", 0.0), ("noise", 0.1), ("noise", 0.2), ("noise", 0.4), ("blur", 2.0), ("blur", 4.0)]
        ):
            dice = best - 0.06 * k
            expected = 1 - (1 - dice) / 2 + noise * rng.standard_normal()
            summary = {
                **dict.fromkeys(few_labels_flags.FLAGS, 1.0),
                "dice": dice,
                "expected_dice": expected,
                "surface_entropy": 1 - expected,
            }
            ml = tuple(20 + (q - 50) / 50 for q in PERCENTILES)
            volume = VolumeRow(
                "", f"P{p}", "organ", ml, 20 + rng.standard_normal(), True, f"P{p}", dice, expected, 1 - expected
            )
            out.append(QualityRow(f"P{p}", f"P{p}", kind, amount, summary, volume))
    return out


def test_as_high_a_level_as_there_are_patients_for():
    for patients, level in ((20, 0.9), (10, 0.8), (8, 0.68), (6, 0.68)):
        found = few_labels_quality.mapping(rows(patients))
        assert (found.level, found.cases, found.patients) == (level, 6 * patients, patients)
    assert few_labels_quality.mapping(rows(3)) is None


def test_scans_as_they_are_weigh_half():
    """Where all versions have one expected Dice, the map gives the mean of the clean Dice and of the mean of the
    others.
    """
    many = [
        QualityRow(
            r.case,
            r.patient,
            r.kind,
            r.amount,
            r.summary | {"expected_dice": 0.9, "dice": 0.9 if r.clean else 0.5},
            r.volume,
        )
        for r in rows(8)
    ]
    assert few_labels_quality.left_out(many) == pytest.approx(0.7)
    assert few_labels_quality.mapping(many).apply(0.9)[0] == pytest.approx(0.7)


def test_scores_of_scans_as_they_are_and_made_worse():
    found = few_labels_quality.scores(rows(12))
    assert {k: (s["n"], s["scans"]) for k, s in found.items()} == {
        "as they are": (12, 12),
        "made worse": (60, 12),
        "all": (72, 12),
    }
    assert (
        found["all"]["auroc"] > 0.95
        and found["all"]["mae"] < 0.5 * found["all"]["mae_of_mean"]
        and found["all"]["spearman"] > 0.9
    )
    assert 0.7 < found["all"]["held"] <= 1.0
    good = few_labels_quality.scores(rows(12, clean_bad=False))["as they are"]
    assert good["bad"] == 0 and math.isnan(good["auroc"]) and "not defined" in few_labels_flags.auroc(good)
    # with a predictor that knows nothing, nothing is told
    blind = [
        QualityRow(r.case, r.patient, r.kind, r.amount, r.summary | {"expected_dice": float(v)}, r.volume)
        for r, v in zip(rows(12), np.random.default_rng(1).random(72))
    ]
    s = few_labels_quality.scores(blind)["all"]
    assert s["auroc_low"] < 0.5 < s["auroc_high"] and abs(s["spearman"]) < 0.3


def test_no_scan_tells_of_itself():
    """A patient whose Dice does not follow the rest is not mapped by his own versions."""
    many = rows(8)
    other = [
        QualityRow(
            r.case, r.patient, r.kind, r.amount, r.summary | {"dice": 0.1} if r.patient == "P3" else r.summary, r.volume
        )
        for r in many
    ]
    for r in ("as they are", "made worse"):
        assert few_labels_quality.scores(other)[r]["mae"] > few_labels_quality.scores(many)[r]["mae"] + 0.05


def test_what_the_card_gets_is_what_a_result_shows():
    many = rows(10)
    calibration = json.loads(json.dumps(few_labels_quality.for_card(many), allow_nan=False))
    quality = calibration["quality"]
    assert (quality["cases"], quality["patients"], quality["level"]) == (
        60,
        10,
        0.8,
    ) and "noise of 10, 20, 40 %" in quality["images"]
    assert (
        quality["as_they_are"]["n"] == 10
        and quality["held_level"] == 0.8
        and 0 <= quality["held"] <= 1
        and calibration["volumes"]["cases"] == 10
    )
    card = {"calibration": calibration}
    mapped, low, high = structure_quality.of_card(card).apply(0.9)
    assert low < mapped < high and mapped == pytest.approx(0.8, abs=0.03)
    validated = calibration["flags"]["expected_dice"]
    assert validated["caught"] + validated["missed"] == sum(r.summary["dice"] < 0.85 for r in many)
    ball = np.linalg.norm(np.mgrid[:20, :20, :20] - 9.5, axis=0)
    doubtful = structure_quality.assess("organ", 1 / (1 + np.exp(ball - 6)), ball < 6, None, card)
    raised = flags.of_uncertainty(Volume("organ", 10.0, 9.9, 10.1, 0.9, True), doubtful, card)
    assert doubtful.calibrated and any(f.flag == "low expected Dice" and "blur of 2, 4 mm" in f.reason for f in raised)


def test_scans_are_made_worse_as_predict_would_see_them():
    rng = np.random.default_rng(0)
    body = np.linalg.norm(np.mgrid[:12, :20, :20] - np.reshape([6, 10, 10], (3, 1, 1, 1)), axis=0) < 9
    image = np.where(body, rng.standard_normal(body.shape), -2.0).astype(np.float32)
    case = scan.Scan("c", image, body.astype(np.uint8), (2.0, 2.0, 3.0), {"background": 0, "organ": 1}, body)
    assert few_labels_quality.degraded(case, "none", 0.0, preprocess.IN_BODY) is case
    spread = []
    for amount in (0.1, 0.4):
        worse = few_labels_quality.degraded(case, "noise", amount, preprocess.IN_BODY)
        inside = worse.image[body]
        assert inside.mean() == pytest.approx(0, abs=0.02) and inside.std() == pytest.approx(1, abs=0.03)
        spread.append(worse.image[~body].std())
    assert spread[1] > 2 * spread[0] > 0
    case = scan.Scan("c", np.where(body, 0.0, -1.0).astype(np.float32), None, (2, 2, 3), {}, body)
    ct = few_labels_quality.degraded(case, "noise", 0.4, preprocess.HOUNSFIELD)
    assert ct.image.min() >= -1 and ct.image.max() <= 2 and ct.image[body].std() > 0.1


def test_from_a_hospitals_folder_to_a_flag_in_a_result(tmp_path):
    """scans, card, reproduce, and predict with the bundle: the expected Dice of the result is the one that the card
    calibrates.
    """
    data = tmp_path / "data"
    for k in range(10):
        mr, organ = test_scans.image(k, size=(32, 28, 16))
        test_scans.write(data / f"P{k}" / "image.nii.gz", mr)
        if k < 9:
            test_scans.write(data / f"P{k}" / "organ.nii.gz", organ)
    test_scans.prepare(tmp_path, "--validation", "6", structure="organ", spacing="keep")
    card = ["card", "--prepared", str(tmp_path / "prepared"), "--name", "own-organ"]
    for key in ("title", "training.licence", "training.citation", "intended_use", "licence"):
        card += ["--set", f"{key}=a test"]
    assert command.main(card) == 0
    budget = tmp_path / "budget.yaml"
    settings = yaml.safe_load(
        tiny_scans.config(tmp_path, "mt_ctl", steps=12, validate_every=6, on_structure=0.5).read_text(encoding="utf-8")
    )
    for key in ("network", "labelled", "unlabelled_batch"):
        del settings[key]
    budget.write_text(
        yaml.safe_dump(settings | {"evaluation": {"stride": [16, 16, 16], "samples": 3}}), encoding="utf-8"
    )
    out = tmp_path / "out"
    arguments = [
        "reproduce",
        "few_labels",
        "--data",
        str(tmp_path / "prepared"),
        "--out",
        str(out),
        "--config",
        str(budget),
        "--only",
        "mt_ctl-3",
    ]
    assert command.main([*arguments, "--device", "cpu"]) == 0
    text = (out / "results" / "few_labels.md").read_text(encoding="utf-8")
    assert (
        text.startswith("# Learning from few labels: the organ")
        and "paper" not in text
        and "With scans made worse" in text
    )
    card = bundle.read_card(out / "bundle" / "own-organ")
    assert (
        card["training"]["labelled"] == 3
        and len(card["training"]["patients"]["validation"]["hashes"]) == 6
        and card["input"]["statistics"]["cases"] == 4
    )
    rows_ = few_labels_quality.read(out / "evaluation" / "mt_ctl-3" / "quality.json")
    assert len(rows_) == 6 * 6 and len({r.patient for r in rows_}) == 6
    one = next(iter(card["accuracy"]["table"]))
    assert one == "Dice, organ (%)" and "challenge" not in card["accuracy"]["cases"]
    # with a network that calls most of the body the organ, and what ten patients would calibrate
    last = out / "runs" / "mt_ctl-3" / "checkpoints" / "last.ckpt"
    stored = torch.load(last, weights_only=False)
    stored["state_dict"]["network.head.bias"] += torch.tensor([0.0, 4.0])
    torch.save(stored, last)
    export = [
        "export",
        "--run",
        str(out / "runs" / "mt_ctl-3"),
        "--card",
        str(tmp_path / "prepared" / "card.yaml"),
        "--out",
        str(tmp_path / "bundle"),
    ]
    assert command.main(export) == 0
    summary = json.loads((out / "evaluation" / "mt_ctl-3" / "evaluation.json").read_text(encoding="utf-8"))
    summary |= {"weights_sha256": bundle.read_card(tmp_path / "bundle")["weights"]["sha256"]}
    raw = _predicted(tmp_path, data, "raw")
    (tmp_path / "evaluation.json").write_text(
        json.dumps(summary | {"calibration": {"synct": None} | few_labels_quality.for_card(rows(10))}), encoding="utf-8"
    )
    assert command.main([*export, "--evaluation", str(tmp_path / "evaluation.json")]) == 0
    shown = _predicted(tmp_path, data, "calibrated")
    assert (raw["structure"], raw["calibrated"], raw["dice_lower"], shown["calibrated"]) == ("organ", "no", "", "yes")
    wanted = structure_quality.of_card(bundle.read_card(tmp_path / "bundle")).apply(float(raw["expected_dice"]))
    assert [float(shown[k]) for k in ("expected_dice", "dice_lower", "dice_upper")] == pytest.approx(wanted, abs=2e-4)
    report = (tmp_path / "calibrated" / "report.html").read_text(encoding="utf-8")
    assert "calibrated on 10 validation patients" in report and "its interval is that of 80%" in report
    # other weights' figures are refused
    other = tmp_path / "other.json"
    text = (out / "evaluation" / "mt_ctl-3" / "quality.json").read_text(encoding="utf-8")
    other.write_text(text.replace(card["weights"]["sha256"], "0" * 64), encoding="utf-8")
    with pytest.raises(SystemExit, match="different weights"):
        tables.for_card(out / "evaluation" / "mt_ctl-3" / "rows.json", tmp_path / "e.json", other)


def _predicted(folder, data, name) -> dict:
    """The row of structure_quality.csv of a scan without labels, by the bundle in `folder`."""
    arguments = [
        "predict",
        "--model",
        str(folder / "bundle"),
        "--input",
        str(data / "P9" / "image.nii.gz"),
        "--output",
        str(folder / name),
        "--samples",
        "3",
    ]
    assert command_line.main([*arguments, "--device", "cpu", "--bias-field", "off", "--report"]) == 0
    with open(folder / name / "structure_quality.csv", newline="", encoding="utf-8") as f:
        return next(csv.DictReader(f))

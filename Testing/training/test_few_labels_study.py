"""The study of few labels: the seven figures against MONAI and SimpleITK, windows, tables, and all of it in one
command.
"""

import csv
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tiny_scans
import torch
import yaml
from monai.metrics import (
    compute_average_surface_distance,
    compute_dice,
    compute_hausdorff_distance,
    compute_iou,
    get_confusion_matrix,
)
from scipy import ndimage

from rtuncertainty.bundles import bundle
from training import __main__ as command
from training import methods
from training.core import provenance
from training.data import layouts
from training.data.prepare import left_atrium
from training.evaluation import few_labels, overlap
from training.studies.few_labels import flags as few_labels_flags
from training.studies.few_labels import study, tables

DATA = Path(os.environ.get("RTU_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def test_the_seven_figures_are_monais():
    rng = np.random.default_rng(3)
    smooth = [ndimage.gaussian_filter(rng.standard_normal((14, 18, 22)), 2.0) for _ in range(2)]
    found, truth = (s > np.quantile(s, q) for s, q in zip(smooth, (0.7, 0.6)))
    spacing = (0.7, 0.9, 2.0)
    ours = overlap.scores(found, truth, spacing)
    a, b = (torch.from_numpy(m)[None, None].float() for m in (found, truth))
    tp, fp, _, fn = get_confusion_matrix(a, b).ravel().tolist()
    wanted = {
        "dice": compute_dice(a, b).item(),
        "jaccard": compute_iou(a, b).item(),
        "precision": tp / (tp + fp),
        "recall": tp / (tp + fn),
        "hd95_mm": compute_hausdorff_distance(a, b, percentile=95, spacing=spacing[::-1]).item(),
        "asd_mm": compute_average_surface_distance(a, b, symmetric=True, spacing=spacing[::-1]).item(),
    }
    assert {k: ours[k] for k in wanted} == pytest.approx(wanted, rel=1e-5)
    filters = sitk.LabelOverlapMeasuresImageFilter()
    filters.Execute(sitk.GetImageFromArray(truth.astype(np.uint8)), sitk.GetImageFromArray(found.astype(np.uint8)))
    similarity = filters.GetVolumeSimilarity()  # 2(true − found)/(true + found)
    assert ours["ravd"] == pytest.approx((2 - similarity) / (2 + similarity) - 1)
    assert set(ours) == set(overlap.METRICS)
    nothing = overlap.scores(np.zeros_like(truth), truth, spacing)
    assert nothing["dice"] == nothing["recall"] == 0 and nothing["ravd"] == -1 and math.isnan(nothing["hd95_mm"])
    with pytest.raises(ValueError, match="truth"):
        overlap.scores(found, np.zeros_like(truth), spacing)


def test_sliding_windows_are_the_mean_of_what_each_says():
    class Where:
        """Says where a voxel lies in its window: [0, 1) along x."""

        classes, weight = 2, torch.nn.Parameter(torch.zeros(1))

        def parameters(self):
            yield self.weight

        def features(self, x):
            return torch.arange(x.shape[-1]).expand(x.shape).float() / x.shape[-1]

        def draw(self, features, generator):
            return torch.cat([1 - features, features], 1)

    image = np.zeros((4, 4, 7), np.float32)
    found = few_labels.sliding(Where(), image, (4, 4, 4), (2, 4, 4))[1, 0, 0]
    windows = [[0, 0.25, 0.5, 0.75]] * 3
    wanted = np.full((3, 7), np.nan)
    for row, start in zip(wanted, (0, 2, 3)):
        row[start : start + 4] = windows[0]
    assert found == pytest.approx(np.nanmean(wanted, 0))
    # a scan smaller than the window lies in its middle
    assert few_labels.sliding(Where(), image[:, :, :2], (4, 4, 4), (2, 4, 4))[1, 0, 0] == pytest.approx([0.25, 0.5])


def test_from_the_challenge_to_tables_and_a_bundle(tmp_path, monkeypatch):
    names = tiny_scans.write_scans(tmp_path / "data", 14)
    runs = {n: study.RUNS[n] for n in ("vnet-16", "mt_ctl-16", "mt_ctl-16-cross")}
    monkeypatch.setattr(study, "SHIPPED", "mt_ctl-16")
    monkeypatch.setattr(
        study, "RUNS", {n: study.Run(r.method, r.config, 3, r.title, r.part_of, r.changes) for n, r in runs.items()}
    )
    budget = tmp_path / "budget.yaml"
    settings = yaml.safe_load(
        tiny_scans.config(tmp_path, "ua_mt", steps=2, validate_every=2).read_text(encoding="utf-8")
    )
    for key in ("network", "labelled", "unlabelled_batch"):
        del settings[key]
    budget.write_text(
        yaml.safe_dump(settings | {"evaluation": {"spacing": 1.0, "stride": [8, 8, 4], "samples": 3}}), encoding="utf-8"
    )
    arguments = [
        "reproduce",
        "few_labels",
        "--data",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "out"),
        "--config",
        str(budget),
        "--device",
        "cpu",
        "--only",
        "vnet-16",
        "mt_ctl-16",
        "mt_ctl-16-cross",
    ]
    assert command.main(arguments) == 0
    results = tmp_path / "out" / "results"
    text = (results / "few_labels.md").read_text(encoding="utf-8")
    assert all(
        t in text for t in ("| V-Net | 3 |", "| MT-CTL | 3 |", "| + cross-task | 3 |", "AUROC of Dice < 0.85", "Holm")
    )
    with open(results / "few_labels.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    assert {(r["run"], r["case"]) for r in rows} == {(n, c) for n in runs for c in names[-2:]}
    made = bundle.read_card(tmp_path / "out" / "bundle" / "left-atrium-mr")
    # with the decoders of its maps; the auxiliary one only helps the training
    assert made["architecture"]["name"] == "mt_ctl" and "auxiliary" not in made["architecture"]["arguments"]["decoders"]
    assert made["task"] == "segmentation" and "synct" not in made["outputs"]
    assert (
        made["training"]["labelled"] == 3
        and made["training"]["method"] == "mt_ctl"
        and made["input"]["spacing_mm"] == [1.0, 1.0, 1.0]
    )
    assert (
        made["accuracy"]["n"] == 2
        and "research" in made["licence"]
        and all(
            provenance.unseen_checkpoints(made, h) == [0]
            for h in provenance.identities(tmp_path / "out" / "prepared", names[-2:]).values()
        )
    )
    found = json.loads((tmp_path / "out" / "evaluation" / "mt_ctl-16" / "rows.json").read_text(encoding="utf-8"))[
        "cases"
    ]
    assert set(found) == set(names[-2:]) and all(
        0 <= r["sampled"]["mean_entropy"] <= math.log(2) + 1e-6 for r in found.values()
    )
    # given again it does nothing anew
    before = (tmp_path / "out" / "evaluation" / "vnet-16" / "rows.json").stat().st_mtime_ns
    assert command.main(arguments) == 0
    assert (tmp_path / "out" / "evaluation" / "vnet-16" / "rows.json").stat().st_mtime_ns == before


def test_runs_budgets_and_configs_fit_each_other():
    for hardware in ("cpu", "gpu"):
        for name, run in study.RUNS.items():
            config = methods.load(methods.file_of(run.config), study.FOLDER / f"{hardware}.yaml")
            multiple = 2 ** (config.arguments.get("levels", 5) - 1)
            assert all(n % multiple == 0 for n in config.patch), (hardware, name)
            assert config.unlabelled_batch == (0 if run.config == "vnet" else 2) and config.schedule == "steps"
    gpu = methods.load(methods.file_of("mt_ctl"), study.FOLDER / "gpu.yaml")
    assert (gpu.steps, gpu.patch, gpu.learning_rate, gpu.momentum, gpu.weight_decay) == (
        6000,
        (112, 112, 80),
        0.01,
        0.9,
        1e-4,
    )
    assert (gpu.distance_weight, gpu.adversarial_weight, gpu.augmentation) == (0.3, 0.01, "quarter turns")


def test_runs_of_a_hospitals_own_scans(tmp_path):
    def runs(labelled, unlabelled):
        rows = [["case", "kept", "order", "labelled", "set"], ["v", "yes", 1, "yes", "validation"]]
        rows += [
            [f"c{k}", "yes", k + 2, "yes" if k < labelled else "no", "train"] for k in range(labelled + unlabelled)
        ]
        with open(tmp_path / "prepare.csv", "w", newline="", encoding="utf-8") as f:
            csv.writer(f).writerows(rows)
        found, shipped = study.runs_of(tmp_path)
        assert shipped in found and all(r.labelled <= labelled for r in found.values())
        return set(found), shipped

    assert study.runs_of(tmp_path) == (study.RUNS, "vnet-all")  # without scans.json: the challenge's
    (tmp_path / "scans.json").write_text("{}", encoding="utf-8")
    names, shipped = runs(12, 5)
    assert (
        {"vnet-12", "mt_ctl-12", "ua_mt-6", "mt_ctl-12-cross"} <= names
        and "vnet-all" not in names
        and shipped == "mt_ctl-12"
    )
    names, shipped = runs(12, 0)  # without unlabelled scans half of the labels are put aside
    assert {"vnet-6", "mt_ctl-6", "vnet-all"} <= names and "mt_ctl-12" not in names and shipped == "mt_ctl-6"
    assert runs(1, 0) == ({"vnet-all"}, "vnet-all")


def rows_json(folder, name, dice, labelled=16):
    doubts = [f for f, sign in few_labels_flags.FLAGS.items() if sign < 0]
    cases = {
        f"c{k}": {
            "scores": {
                m: d if m in ("dice", "jaccard", "precision", "recall") else 10 * (1 - d) for m in overlap.METRICS
            },
            "sampled": {"dice": d, "expected_dice": d - 0.05, **{f: 1 - d for f in doubts}},
        }
        for k, d in enumerate(dice)
    }
    path = folder / f"{name}.json"
    path.write_text(
        json.dumps(
            {
                "format": 1,
                "network": name,
                "labelled": labelled,
                "weights_sha256": "",
                "samples": 2,
                "window": [1, 1, 1],
                "stride": [1, 1, 1],
                "spacing_mm": [1, 1, 1],
                "cases": cases,
            }
        ),
        encoding="utf-8",
    )
    return path


def test_tables_test_and_flag(tmp_path):
    base = np.array([0.6, 0.7, 0.74, 0.78, 0.86, 0.88, 0.9, 0.92])
    runs = study.RUNS
    files = {
        "vnet-16": rows_json(tmp_path, "vnet-16", base),
        "mt_ctl-16": rows_json(tmp_path, "mt_ctl-16", base + 0.03),
        "vnet-8": rows_json(tmp_path, "vnet-8", base - 0.1, 8),
    }
    found = {n: json.loads(f.read_text(encoding="utf-8")) for n, f in files.items()}
    tests = {t.metric: t for t in tables.paired_tests(found, runs)}
    assert tests["dice"].median == pytest.approx(0.03) and tests["dice"].p == pytest.approx(2 / 2**8)
    assert (tests["dice"].a, tests["dice"].b) == ("mt_ctl-16", "vnet-16") and tests["dice"].family == 1
    assert tests["ravd"].median == pytest.approx(-0.3)
    flags = few_labels_flags.scores({"vnet-16": found["vnet-16"]})
    assert flags["expected_dice"]["auroc"] == flags["mean_entropy"]["auroc"] == 1 and flags["expected_dice"]["bad"] == 4
    assert flags["surface_entropy"]["spearman"] == pytest.approx(1)
    text = (tables.write(files, runs, tmp_path / "results", "two cores") / "few_labels.md").read_text(encoding="utf-8")
    assert "*MT-CTL, paper*" in text and "*91.80*" in text and f"{100 * base.mean():.2f} ±" in text
    (tmp_path / "other.json").write_text(
        files["vnet-8"].read_text(encoding="utf-8").replace('"c3"', '"c9"'), encoding="utf-8"
    )
    with pytest.raises(SystemExit, match="other scans"):
        tables.write(files | {"vnet-8": tmp_path / "other.json"}, runs, tmp_path / "results", "")


def test_the_real_scans_are_found_in_their_order():
    data = DATA / "la_mr"
    if not data.is_dir() and os.environ.get("CI") != "true":
        pytest.skip(f"{data} is not there: set RTU_DATA to the folder with the data sets")
    names = left_atrium.order(data, [s.name for s in layouts.find(data).sources])
    assert (
        len(names) >= 48
        and names[:2] == ["06SR5RBREL16DQ6M8LWS", "0RZDK210BSMWAA6467LU"]
        and names[47] == "E2ZMO66WGS74UKXTZPPQ"
    )

"""Six networks, elastix and the tables, on pairs whose motion is known; pairs made of a digital patient."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import yaml

pytest.importorskip("itk")

from test_joint_training import moved  # noqa: E402

from rtuncertainty.bundles import bundle
from rtuncertainty.core import structure_set  # noqa: E402
from rtuncertainty.core.errors import InputError  # noqa: E402
from rtuncertainty.deformation import warp_tensor  # noqa: E402
from rtuncertainty.phantoms import pelvis as phantom_pelvis
from rtuncertainty.prediction import predict
from training import __main__ as command  # noqa: E402
from training.data import pair_case
from training.data.prepare import pairs
from training.evaluation import (
    contours,  # noqa: E402
    elastix,
)
from training.methods.elmahdy2021 import feed  # noqa: E402
from training.studies.propagation import study, tables  # noqa: E402

CLASSES = ["brainstem", "mandible"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "prepared"
    (folder / "cases").mkdir(parents=True)
    rows = [["case", "kept", "patient", "set"]]
    for seed in range(3):
        case = moved(seed)
        case.classes, case.present = CLASSES, CLASSES if seed != 1 else CLASSES[:1]
        pair_case.save(case, folder / "cases" / f"{case.name}.npz", {})
        rows.append([case.name, "yes", case.patient, "validation" if seed else "train"])
    with open(folder / "prepare.csv", "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows(rows)
    (folder / "pairs.json").write_text("{}", encoding="utf-8")
    return folder


def test_scores_of_the_truth_and_of_nothing():
    case = moved(0)
    truth, nothing = torch.from_numpy(case.displacement), torch.zeros(3, *case.daily.shape)
    good, none = (contours.deformation_row(case, d) for d in (truth, nothing))
    assert good["tre_mm"] == 0 and good["correlation"] > 0.94 > none["correlation"] and none["jacobian_sd"] == 0
    length = np.sqrt(((case.displacement * np.reshape([4, 4, 3], (3, 1, 1, 1))) ** 2).sum(0))[case.body]
    assert none["tre_mm"] == pytest.approx(length.mean(), rel=1e-5)
    rows = contours.contour_rows(case, contours.warped_labels(case, truth))
    assert [r["organ"] for r in rows] == ["a", "b"] and all(r["dsc"] > 0.97 and r["msd_mm"] < 0.3 for r in rows)
    lost = contours.contour_rows(case, np.zeros_like(case.daily_labels))
    assert all(r["dsc"] == 0 and math.isnan(r["msd_mm"]) for r in lost)


def test_a_moved_structure_that_broke_is_scored_whole_as_it_is_shown():
    case = moved(0)
    broken = case.daily_labels.copy()
    broken[broken.shape[0] // 2] = 0  # through the middle of both
    moved_rows, segmented = (contours.contour_rows(case, broken, moved=m) for m in (True, False))
    assert all(a["dsc"] > b["dsc"] + 0.1 and a["dsc"] > 0.85 for a, b in zip(moved_rows, segmented))


def test_elastix_finds_the_motion(monkeypatch):
    monkeypatch.setitem(elastix.SETTINGS, "MaximumNumberOfIterations", ["30"])
    case = moved(0)
    d = elastix.displacement(case)
    none, found = (contours.deformation_row(case, x) for x in (0 * d, d))
    assert found["correlation"] > none["correlation"] and found["folding"] == 0
    before, after = (
        np.mean([r["msd_mm"] for r in contours.contour_rows(case, contours.warped_labels(case, x))]) for x in (0 * d, d)
    )
    assert after < 0.6 * before


def test_from_pairs_to_tables_and_a_bundle(prepared, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(elastix.SETTINGS, "MaximumNumberOfIterations", ["5"])
    monkeypatch.setattr("rtuncertainty.propagation.refine.ITERATIONS", {"off": (0, 0), "fast": (2, 0), "full": (2, 1)})
    site = study.SITES["propagation"]
    card = yaml.safe_load((study.FOLDER / site.card).read_text(encoding="utf-8"))
    card["outputs"]["structures"] = [
        s | {"label": k} for k, s in enumerate((s for s in card["outputs"]["structures"] if s["name"] in CLASSES), 1)
    ]
    own = tmp_path / "card.yaml"
    own.write_text(yaml.safe_dump(card), encoding="utf-8")
    monkeypatch.setitem(study.SITES, "propagation", replace(site, card=own))
    budget = tmp_path / "budget.yaml"
    sizes = {"arguments": {"classes": 3, "widths": [2, 3, 4], "dropout": 0.1}}
    budget.write_text(
        yaml.safe_dump(
            {
                "steps": 2,
                "batch": 1,
                "patch": 44,
                "warm_up": 1,
                "validate_every": 2,
                "checkpoint_every": 1,
                "settle_batches": 1,
                "networks": {n: sizes for n in ("seg", "reg", "cross_stitch", "dense")},
            }
        ),
        encoding="utf-8",
    )
    arguments = [
        "reproduce",
        "propagation",
        "--data",
        str(prepared),
        "--out",
        str(tmp_path / "out"),
        "--config",
        str(budget),
        "--device",
        "cpu",
        "--only",
        "seg",
        "reg",
        "cross_stitch",
        "reg-5",
    ]
    assert command.main(arguments) == 0
    results = tmp_path / "out" / "results"
    text = (results / "propagation.md").read_text(encoding="utf-8")
    assert all(
        t in text
        for t in (
            "| Seg | segmented |",
            "| Reg | propagated |",
            "| Cross-stitch both ways + fast | propagated |",
            "| Cross-stitch both ways + full |",
            "| Reg, bending 5 |",
            "| elastix |",
            "| rigid |",
        )
    )
    with open(results / "contours.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    # an organ that was not drawn in a patient has no row
    assert {(r["pair"], r["organ"]) for r in rows} == {
        ("p1_day0", "brainstem"),
        ("p2_day0", "brainstem"),
        ("p2_day0", "mandible"),
    }
    rigid = [float(r["dsc"]) for r in rows if r["title"] == "rigid"]
    assert all(0 < d < 1 for d in rigid) and len(rigid) == 3
    made = bundle.read_card(tmp_path / "out" / "bundle" / "headneck-ct-propagation")
    assert (
        made["training"]["cases"] == 1
        and made["outputs"]["deformation"]["bending"] == 0.5
        and "synct" not in made["outputs"]
    )
    assert {s["path"] for s in made["outputs"]["structures"]} <= {"propagated", "segmented"} and made["accuracy"][
        "n"
    ] == 2
    assert made["calibration"]["spread"]["structures"] == 3
    # given again it does nothing anew
    before = (tmp_path / "out" / "evaluation" / "reg" / "rows.json").stat().st_mtime_ns
    assert command.main(arguments) == 0
    assert (tmp_path / "out" / "evaluation" / "reg" / "rows.json").stat().st_mtime_ns == before
    with pytest.raises(SystemExit, match="nobody"):
        command.main([*arguments, "nobody"])
    # the same scores by the commands for one model
    one = [
        str(tmp_path / "out" / "runs" / "cross_stitch"),
        str(tmp_path / "out" / "bundles" / "cross_stitch"),
        str(tmp_path / "one"),
    ]
    assert (
        command.main(
            [
                "evaluate",
                "--prepared",
                str(prepared),
                "--run",
                one[0],
                "--model",
                one[1],
                "--out",
                one[2],
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    again, first = (
        json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
        for folder in (tmp_path / "one", tmp_path / "out" / "evaluation" / "cross_stitch")
    )
    assert again == first and "| cross_stitch both ways + fast | propagated |" in (
        tmp_path / "one" / "propagation.md"
    ).read_text(encoding="utf-8")
    # and without the run, of all patients whom the weights have not seen; the weights stay, their figures become those
    model, new = made["folder"], tmp_path / "new"
    scored = ["--prepared", str(prepared), "--model", str(model), "--out", str(tmp_path / "all"), "--device", "cpu"]
    assert command.main(["evaluate", *scored, "--refine", "fast"]) == 0
    found = json.loads((tmp_path / "all" / "evaluation.json").read_text(encoding="utf-8"))
    assert set(found["scored"]) == {"p1_day0", "p2_day0"} and found["accuracy"] == first["accuracy"]
    found["accuracy"]["n"] = 7
    (tmp_path / "all" / "evaluation.json").write_text(json.dumps(found), encoding="utf-8")
    figures = ["--evaluation", str(tmp_path / "all" / "evaluation.json"), "--out", str(new)]
    with pytest.raises(SystemExit, match="--version"):
        command.main(["export", "--model", str(model), *figures])
    assert command.main(["export", "--model", str(model), *figures, "--version", "9.0.0"]) == 0
    card = bundle.read_card(new)
    assert card["version"] == "9.0.0" and card["accuracy"]["n"] == 7 and card["weights"] == made["weights"]
    found["weights_sha256"] = "0" * 64
    (tmp_path / "all" / "evaluation.json").write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(SystemExit, match="other weights"):
        command.main(["export", "--model", str(model), *figures, "--version", "9.0.0"])
    # a model of this kind is told apart from one that makes a synthetic CT
    with pytest.raises(InputError, match="contour propagation"):
        predict.predict(
            sitk.GetImageFromArray(np.random.default_rng(0).integers(1, 900, (20, 40, 40)).astype(np.int16)),
            made["folder"],
            samples=2,
        )


def test_the_table_compares_pair_by_pair(tmp_path):
    def rows(shift):
        return [
            {
                "pair": f"p{i}_day0",
                "method": "network",
                "path": "propagated",
                "organ": o,
                "dsc": 0.8,
                "msd_mm": 1 + 0.1 * i + shift,
                "hd95_mm": 3.0,
            }
            for i in range(6)
            for o in ("a", "b")
        ]

    deformation = [
        {
            "pair": f"p{i}_day0",
            "method": "network",
            "seconds": 2.0,
            "tre_mm": 1.0,
            "tre_p95_mm": 2.0,
            "jacobian_sd": 0.1,
            "folding": 0.01,
            "correlation": 0.9,
        }
        for i in range(6)
    ]
    other = {"deformations": [], "spreads": [], "symmetry": []}
    (tmp_path / "n.json").write_text(
        json.dumps(other | {"contours": rows(-0.2), "deformations": deformation}), encoding="utf-8"
    )
    (tmp_path / "b.json").write_text(
        json.dumps(other | {"contours": [r | {"method": "elastix"} for r in rows(0)]}), encoding="utf-8"
    )
    text = (
        tables.write({"Net": tmp_path / "n.json"}, tmp_path / "b.json", tmp_path / "results", "a machine")
        / "propagation.md"
    ).read_text(encoding="utf-8")
    assert (
        "| Net | propagated | 1.05 ± 0.17 (1.05) | 1.05 ± 0.17 (1.05) | 1.05 |" in text
        and "| Net | propagated | -0.20 | -0.20 |" in text
        and "| 2 of 2 | a, b |" in text
    )
    assert "| Net | 1.00 ± 0.00 | 2.00 ± 0.00 | 0.100 ± 0.000 | 1.000 ± 0.000 | 0.9000 ± 0.0000 | 2.0 ± 0.0 |" in text
    rho, n = tables.rank_correlation(
        [{"sd_mm": s, "msd_mm": s**3} for s in (1.0, 2.0, 3.0, 5.0)] + [{"sd_mm": math.nan, "msd_mm": 1.0}]
    )
    assert (rho, n) == (pytest.approx(1.0), 4)


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    """A small digital pelvis in the plain layout."""
    folder = tmp_path_factory.mktemp("plain")
    pelvis = phantom_pelvis.digital_pelvis(0)
    coarse = sitk.Resample(
        pelvis.ct,
        [70, 54, 34],
        sitk.Transform(),
        sitk.sitkLinear,
        pelvis.ct.GetOrigin(),
        [s * n / m for s, n, m in zip(pelvis.ct.GetSpacing(), pelvis.ct.GetSize(), (70, 54, 34))],
        pelvis.ct.GetDirection(),
        -1000.0,
    )
    labels = sitk.Resample(pelvis.labels, coarse, sitk.Transform(), sitk.sitkNearestNeighbor)
    for name in ("A", "B"):
        (folder / name).mkdir()
        # one image twice would be one patient
        ct = sitk.Cast(coarse + (2.0 if name == "B" else 0.0), sitk.sitkInt16)
        sitk.WriteImage(ct, str(folder / name / "ct.nii.gz"))
        masks = {n: sitk.Equal(labels, phantom_pelvis.LABELS[n]) for n in ("bladder", "rectum", "prostate")}
        sitk.WriteImage(
            structure_set.as_segmentation(list(structure_set.read(masks).values())),
            str(folder / name / "structures.seg.nrrd"),
        )
    (folder / "C").mkdir()
    return folder


def test_pairs_of_a_plain_folder(patient, tmp_path, capsys):
    out = tmp_path / "pairs"
    assert (
        command.main(
            [
                "pairs",
                "--data",
                str(patient),
                "--out",
                str(out),
                "--organs",
                "bladder",
                "rectum",
                "--spacing",
                "6",
                "6",
                "6",
                "--days",
                "1",
            ]
        )
        == 0
    )
    assert "C: left out, no usable CT" in capsys.readouterr().out
    case = pair_case.load(out / "cases" / "A_day0.npz")
    assert case.classes == case.present == ["bladder", "rectum"] and case.patient == "A"
    before = np.abs(case.planning - case.daily)[case.body & case.known].mean()
    warped = warp_tensor(torch.from_numpy(case.planning)[None, None], torch.from_numpy(case.displacement)[None])[
        0, 0
    ].numpy()
    assert np.abs(warped - case.daily)[case.body & case.known].mean() < 0.95 * before
    true = contours.contour_rows(case, contours.warped_labels(case, torch.from_numpy(case.displacement)))
    rigid = contours.contour_rows(case, case.planning_labels)
    assert np.mean([r["dsc"] for r in true]) > max(0.85, np.mean([r["dsc"] for r in rigid]))
    # no patient on both sides, whatever the folds
    training, validation = feed.sides(out / "prepare.csv", 2, 0)
    assert {n[0] for n in training} & {n[0] for n in validation} == set() and len(training) == len(validation) == 1
    with pytest.raises(SystemExit, match="other settings"):
        pairs.run(patient, out, ("bladder",), (6.0, 6.0, 6.0), 1)
    with pytest.raises(SystemExit, match="any of liver"):
        pairs.run(patient, tmp_path / "none", ("liver",), (6.0, 6.0, 6.0), 1)


def test_networks_are_compared_over_patients_and_the_bladder_by_its_filling():
    rows = [
        {"title": title, "path": path, "pair": f"p{p}_day0", "organ": "bladder", "msd_mm": p + worse, "change": change}
        for title, path, worse in (
            ("A", "propagated", 1),
            ("B", "propagated", 9),
            ("B", "segmented", 2),
            ("C", "propagated", 3),
        )
        for p, change in enumerate((-0.5, -0.2, 0.0, 0.05, 0.3, 0.6))
    ]
    text = tables.between_networks(rows)
    # ranks 1, 2, 3 in each of six patients: Friedman's χ² is 12, p = e⁻⁶; Wilcoxon's exact p 2/2⁶, twice by Holm
    assert "6 patients and 3 networks: p = 0.0025" in text and "| A | 3.50 | best |" in text
    assert "| B | 4.50 | 0.062 |" in text and "| C | 5.50 | 0.062 |" in text
    text = tables.bladder_filling(rows)
    assert "emptier (n = 2) | alike (n = 2) | fuller (n = 2)" in text
    assert "| A | propagated | 1.50 ± 0.50 | 3.50 ± 0.50 | 5.50 ± 0.50 |" in text

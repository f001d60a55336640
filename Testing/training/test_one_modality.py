"""A plain nnU-Net folder of one modality, MR or CT, goes all the way; who cannot be used is listed and stops no one."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk
import yaml

pytest.importorskip("lightning")

from rtuncertainty.bundles import bundle
from rtuncertainty.core import geometry
from rtuncertainty.prediction import predict
from training import __main__ as command
from training.core import provenance
from training.data import organ_case, scan_folders
from training.data.prepare import patients

SPACING = (2.0, 2.0, 3.0)
LABELS = {"background": 0, "bladder": 1, "rectum": 2}


def image(seed, hu=False):
    """A cylinder in air with two organs in it; (image, labels)."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[:14, :32, :36]
    body = (y - 16) ** 2 + (x - 18) ** 2 < 190
    labels = np.zeros(body.shape, np.uint8)
    labels[(z - 7) ** 2 + (y - 12) ** 2 + (x - 14 - seed % 3) ** 2 < 14] = 1
    labels[(z - 7) ** 2 + (y - 21) ** 2 + (x - 22) ** 2 < 10] = 2
    array = np.where(body, 0, -1000) + 80 * (labels == 1) - 60 * (labels == 2) + 10 * rng.standard_normal(body.shape)
    if not hu:
        array = body * (array + 200) + 4 * rng.random(body.shape)
    out = sitk.GetImageFromArray(array.astype(np.float32))
    out.SetSpacing(SPACING)
    return out, geometry.like(labels, out, np.uint8)


def nnunet(folder, channel, count=5):
    """nnU-Net v2, raw: imagesTr, labelsTr, dataset.json; one image is cut short and one is no volume at all."""
    for sub in ("imagesTr", "labelsTr"):
        (folder / sub).mkdir(parents=True)
    for k in range(count):
        mr, labels = image(k, channel == "CT")
        sitk.WriteImage(mr, str(folder / "imagesTr" / f"case_{k:03d}_0000.nii.gz"))
        sitk.WriteImage(labels, str(folder / "labelsTr" / f"case_{k:03d}.nii.gz"))
    whole = (folder / "imagesTr" / "case_000_0000.nii.gz").read_bytes()
    (folder / "imagesTr" / "cut_0000.nii.gz").write_bytes(whole[: len(whole) // 2])
    sitk.WriteImage(image(0)[1], str(folder / "labelsTr" / "cut.nii.gz"))
    content = {"channel_names": {"0": channel}, "labels": LABELS, "numTraining": count, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def table(file) -> list[dict]:
    with open(file, newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def left_out(out) -> dict[str, str]:
    return {r["case"]: r["why"] for r in table(out / "prepare.csv") if r["kept"] == "no"}


def run(*words):
    assert command.main([str(w) for w in words]) == 0


@pytest.mark.parametrize("channel", ["T2", "CT"])
def test_from_nnunet_to_a_calibrated_bundle_that_predicts(tmp_path, channel, capsys):
    data, out = nnunet(tmp_path / "Dataset001_Pelvis", channel), tmp_path / "prepared"
    if channel == "CT":
        with pytest.raises(SystemExit, match="6 cases are CTs without an MR: 'python -m training organs'"):
            command.main(["prepare", "--data", str(data), "--out", str(out), "--for", "segmentation"])
        run("organs", "--data", data, "--out", out, "--spacing", *SPACING)
    else:
        arguments = ["--spacing", *SPACING, "--bias-field", "off", "--for", "segmentation"]
        run("prepare", "--data", data, "--out", out, *arguments)
    assert list(left_out(out)) == ["cut"] and "cut short" in left_out(out)["cut"]
    assert [r["case"] for r in table(out / "checks.csv") if r["level"] == "error"] == ["cut"]
    assert {p.stem for p in (out / "overlays").iterdir()} == {f"case_{k:03d}" for k in range(5)}
    found = organ_case.load(out / "cases" / "case_001.npz")
    truth = sitk.GetArrayFromImage(image(1)[1])
    ml = float(np.prod(SPACING)) / 1000
    assert found.classes == ["bladder", "rectum"] and found.ct == (channel == "CT")
    assert found.drawn_ml == pytest.approx({n: (truth == v).sum() * ml for n, v in LABELS.items() if v})
    config = {
        "method": "eatonrosen2018",
        "network": "hr_drop_last",
        "arguments": {"in_channels": 1, "classes": 3, "width": 4, "features": 8},
        "folds": 2,
        "steps": 30,
        "batch": 2,
        "patch": 14,
        "warm_up": 1,
        "learning_rate": 0.02,
        "organ_weight": 20.0,
        "settle_batches": 8,
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    run("train", "--prepared", out, "--config", tmp_path / "c.yaml", "--out", tmp_path / "run", "--device", "cpu")
    filled = {"title": "t", "licence": "CC0", "training.licence": "none", "training.citation": "c", "intended_use": "t"}
    run("card", "--prepared", out, "--name", "own", *(w for k, v in filled.items() for w in ("--set", f"{k}={v}")))
    export = ["export", "--run", tmp_path / "run", "--card", out / "card.yaml", "--out", tmp_path / "model"]
    run(*export)
    evaluation = tmp_path / "evaluation"
    one = ["--prepared", out, "--run", tmp_path / "run", "--model", tmp_path / "model", "--device", "cpu"]
    run("evaluate", *one, "--out", evaluation, "--samples", 3)
    files = [f"own={evaluation / 'rows.json'}", "--out", tmp_path / "calibrated"]
    run("calibrate", *files, "--evaluation", evaluation / "evaluation.json")
    run(*export, "--evaluation", evaluation / "evaluation.json")
    card = bundle.read_card(tmp_path / "model")
    assert card["task"] == "segmentation" and card["accuracy"]["n"] == 3 and card["calibration"]["volumes"]
    assert card["input"]["modality"] == ("CT" if channel == "CT" else "MR")
    mr = image(7, channel == "CT")[0]
    result = predict.predict(mr, tmp_path / "model", samples=2, device="cpu")
    assert result.synct is None and [v.structure for v in result.volumes] == ["bladder", "rectum"]
    assert "see prepare.csv" in capsys.readouterr().out


def test_voxels_to_be_ignored_are_unknown(tmp_path):
    data = nnunet(tmp_path / "data", "T1", 1)
    labels = sitk.GetArrayFromImage(image(0)[1])
    labels[5:9, 20:24, 12:16] = 3
    sitk.WriteImage(geometry.like(labels, image(0)[0], np.uint8), str(data / "labelsTr" / "case_000.nii.gz"))
    content = json.loads((data / "dataset.json").read_text(encoding="utf-8"))
    content["labels"]["ignore"] = 3
    (data / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    arguments = ["--spacing", *SPACING, "--bias-field", "off", "--for", "segmentation", "--only", "case_000"]
    run("prepare", "--data", data, "--out", tmp_path / "out", *arguments)
    from training.methods.eatonrosen2018 import feed

    case = organ_case.load(tmp_path / "out" / "cases" / "case_000.npz")
    assert case.known is not None and np.array_equal(~case.known, labels == 3)
    assert np.array_equal(feed.tensors(case)["known"].numpy() == 0, labels == 3)
    drawn = [feed.VolumePatches([case], 14, 0).patch(n) for n in range(12)]
    inside = [(p["known"] == 0).float().mean().item() for p in drawn]
    # patches lie within the scan or beyond it; those that see the place have a hole there
    assert max(inside) > 0 and all((p["labels"][p["known"] == 0] == 0).all() for p in drawn)


def hospital(folder):
    """Planning CTs in folders: label images, a table of names, and one bad case of each kind."""
    for k, name in enumerate(("A", "B")):
        ct, labels = image(k, True)
        (folder / name).mkdir(parents=True)
        sitk.WriteImage(ct, str(folder / name / "ct.nii.gz"))
        if k:
            sitk.WriteImage(labels, str(folder / name / "structures.nii.gz"))
            (folder / name / "structures.json").write_text(json.dumps({"Harnblase": 1, "Rektum": 2}), encoding="utf-8")
        else:
            sitk.WriteImage(labels == 1, str(folder / name / "Bladder.nii.gz"))
            sitk.WriteImage(labels * 0, str(folder / name / "rectum.nii.gz"))
    bad = ("C empty", "D cut", "E nothing drawn", "F no structures", "G twice", "H MR")
    for name in bad:
        (folder / name).mkdir()
    whole = (folder / "A" / "ct.nii.gz").read_bytes()
    (folder / "D cut" / "ct.nii.gz").write_bytes(whole[: len(whole) // 2])
    for name, (ct, labels) in {
        "E nothing drawn": image(4, True),
        "F no structures": image(5, True),
        "G twice": image(0, True),
        "H MR": image(6),
    }.items():
        sitk.WriteImage(ct, str(folder / name / "ct.nii.gz"))
        if not name.startswith("F"):
            sitk.WriteImage(labels * (not name.startswith("E")), str(folder / name / "bladder.nii.gz"))
    return folder


TOLD = {
    "C empty": "no usable CT",
    "D cut": "cut short",
    "E nothing drawn": "none of its structures is one of bladder, rectum; there are bladder",
    "F no structures": "none of its structures is one of bladder, rectum",
    "G twice": "the same image as A",
    "H MR": "not in HU",
}


@pytest.mark.parametrize("kind", ["organs", "pairs"])
def test_who_cannot_be_used_stops_no_one(tmp_path, kind, capsys):
    data, out = hospital(tmp_path / "data"), tmp_path / "out"
    more = ["--days", 1] if kind == "pairs" else []
    command_line = [kind, "--data", data, "--out", out, "--organs", "bladder", "rectum", "--spacing", *SPACING, *more]
    run(*command_line)
    assert "2 " + ("pairs" if kind == "pairs" else "scans") + ", 6 left out" in capsys.readouterr().out
    why = left_out(out)
    assert set(why) == set(TOLD) and all(words in why[n] for n, words in TOLD.items()), why
    kept = [r["case"] for r in table(out / "prepare.csv") if r["kept"] == "yes"]
    assert kept == (["A", "B"] if kind == "organs" else ["A_day0", "B_day0"])
    assert sorted(p.stem for p in (out / "overlays").iterdir()) == kept
    checks = {(r["case"], r["level"], r["check"]) for r in table(out / "checks.csv")}
    assert {(n, "error") for n in TOLD} == {(c, level) for c, level, _ in checks if level == "error"}
    assert ("A", "warning", "empty label") in checks
    # one of them is mended: the others' rows stay, his is another one
    sitk.WriteImage(image(9, True)[0], str(data / "F no structures" / "ct.nii.gz"))
    sitk.WriteImage(image(9)[1] == 1, str(data / "F no structures" / "bladder.nii.gz"))
    run(*command_line, "--only", "F no structures")
    assert set(left_out(out)) == set(TOLD) - {"F no structures"} and len(table(out / "prepare.csv")) == 8
    with pytest.raises(SystemExit, match="--only: no patient is named Z"):
        command.main([*map(str, command_line), "--only", "Z"])


def test_scans_of_nnunet(tmp_path):
    data, out = nnunet(tmp_path / "data", "T2"), tmp_path / "out"
    run("scans", "--data", data, "--out", out, "--structure", "rectum", "--bias-field", "off", "--validation", 2)
    rows = table(out / "prepare.csv")
    assert {r["case"] for r in rows if r["kept"] == "no"} == {"cut"} and sum(r["labelled"] == "yes" for r in rows) == 5
    rectum = int((sitk.GetArrayFromImage(image(3)[1]) == 2).sum()) * float(np.prod(SPACING)) / 1000
    assert float(next(r for r in rows if r["case"] == "case_003")["rectum_ml"]) == pytest.approx(rectum, abs=0.01)
    assert {p.stem for p in (out / "overlays").iterdir()} == {f"case_{k:03d}" for k in range(5)}
    with pytest.raises(SystemExit, match="in 0 usable patients"):
        command.main(["scans", "--data", str(data), "--out", str(tmp_path / "o"), "--structure", "liver=liver"])


def test_who_validates_is_told_by_the_images(tmp_path):
    """Other names deal nobody to another side, in either kind of preparation."""
    first, second = nnunet(tmp_path / "first", "CT"), tmp_path / "second"
    for sub in ("imagesTr", "labelsTr"):
        (second / sub).mkdir(parents=True)
        for file in (first / sub).iterdir():
            new = file.name.replace("case_00", "patient-of-ward-")
            (second / sub / new).write_bytes(file.read_bytes())
    (second / "dataset.json").write_bytes((first / "dataset.json").read_bytes())
    sides, orders = [], []
    for k, data in enumerate((first, second)):
        out = tmp_path / f"organs{k}"
        run("organs", "--data", data, "--out", out, "--spacing", *SPACING)
        names = provenance.patients(out)
        sides.append([n[-1] for n in provenance.dealt(out, names.values(), 5, 0)[1]])
        out = tmp_path / f"scans{k}"
        run("scans", "--data", data, "--out", out, "--structure", "rectum", "--spacing", *SPACING)
        orders.append([(r["case"][-1], r["set"]) for r in table(out / "prepare.csv") if r["kept"] == "yes"])
    assert sides[0] == sides[1] and len(sides[0]) == 1 and orders[0] == orders[1]


def test_digital_patients_are_dealt_by_their_names():
    assert [(s.name, s.digital) for s in patients.find(None, 2)] == [("PELVIS_000", True), ("PELVIS_001", True)]


def test_scans_of_one_patient_are_found_for_organs(tmp_path):
    """One place says what each patient has: `pairs` and `organs` take what `scans` finds, of CTs."""
    (tmp_path / "P" / "day1").mkdir(parents=True)
    sitk.WriteImage(image(0, True)[0], str(tmp_path / "P" / "day1" / "ct.nrrd"))
    sitk.WriteImage(image(0)[1], str(tmp_path / "P" / "day1" / "mr.nrrd"))
    assert [s.name for s in patients.find(tmp_path)] == ["P_day1"]
    assert scan_folders.find(tmp_path, modality="CT", name="ct")[0].image.name == "ct.nrrd"

"""The commands of training/README.md run as printed, one after the other, on a tiny hospital with some bad cases.

The trainings are made small by `--set`, and nothing else is changed.
"""

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from test_documentation import GUIDE, ROOT, commands
from tiny_scans import write_scans

pytest.importorskip("lightning")

from rtuncertainty.bundles import bundle  # noqa: E402
from rtuncertainty.cli import command_line  # noqa: E402
from rtuncertainty.phantoms import limb as phantom  # noqa: E402
from training import __main__ as training  # noqa: E402

SMALL = {
    "runs/limb/m4": "arguments.width=4 arguments.features=8 arguments.branch_width=4 steps=2 batch=2 patch=16",
    "runs/limb/m4-two": "arguments.width=4 arguments.features=8 arguments.branch_width=4 steps=2 batch=2 patch=16",
    "runs/propagation/runs/cross_stitch": "arguments.widths=[2,3,4] steps=1 batch=1 patch=44",
    "runs/volumes/runs/hr_drop_last": "arguments.width=2 arguments.features=4 steps=2 batch=1 patch=14 folds=2",
    "runs/try/run": "arguments.width=2 arguments.levels=2 discriminator_width=2 steps=2 patch=[16,16,16]",
}
NAMES = ("Zoë 01", "a_b-c", "knee (left)", "7")


def run(lines: list[str]) -> None:
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[0] == "rtuncertainty":
            assert command_line.main(words[1:]) == 0, line
            continue
        launcher, words = words[: words.index("training") + 1], words[words.index("training") + 1 :]
        if words[0] == "train":
            for change in (*SMALL[words[words.index("--out") + 1]].split(), "settle_batches=1", "warm_up=0"):
                words += ["--set", change]
        if launcher[0] == "torchrun":  # which is this module
            launcher = [sys.executable, "-m", "torch.distributed.run", *launcher[1:]]
            path = os.pathsep.join([str(ROOT), str(ROOT / "RTUncertainty")])
            command = [*launcher, *words, "--device", "cpu"]
            done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-2000:]
            continue
        assert training.main(words) == 0, line


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder from which the guide's paths lead to the project's configs; commands are given there."""
    (tmp_path / "training").symlink_to(ROOT / "training")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def printed(*texts: str) -> list[str]:
    """The guide's commands that hold one of the texts, in their order, each once; but for whole experiments."""
    found = [c for c in commands(GUIDE) if any(t in c for t in texts) and " reproduce " not in c]
    return list(dict.fromkeys(found))


def write(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def test_from_patients_to_a_model_of_synthetic_ct(place):
    data = place / "DATA" / "Dataset001_Limb"
    for k, name in enumerate((*NAMES, "no CT", "swapped", "cut short", "constant")):
        limb = phantom.digital_limb(k, size=(30, 28, 4), spacing=(3.2, 3.4, 6.0))
        mr, ct = (limb.ct, limb.mr) if name == "swapped" else (limb.mr, limb.ct)
        write(sitk.Cast(mr, sitk.sitkFloat32) * (name != "constant"), data / "imagesTr" / f"{name}_0000.nii.gz")
        if name != "no CT":
            write(ct, data / "imagesTr" / f"{name}_0001.nii.gz")
        write(limb.labels == 2, data / "labelsTr" / f"{name}.nii.gz")
    short = data / "imagesTr" / "cut short_0000.nii.gz"
    short.write_bytes(short.read_bytes()[:900])
    about = {"channel_names": {"0": "MR", "1": "CT"}, "labels": {"background": 0, "gtv": 1}, "file_ending": ".nii.gz"}
    (data / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
    lines = printed("runs/limb/prepared", "runs/limb/m4")
    assert [c.split()[3] for c in lines] == ["prepare", "train", "card", "export", "evaluate", "export"]
    run(lines)
    with open("runs/limb/prepared/prepare.csv", newline="", encoding="utf-8") as f:
        kept = {r["case"]: r["kept"] for r in csv.DictReader(f)}
    assert {n for n, k in kept.items() if k == "yes"} == set(NAMES) and len(kept) == 8
    card = bundle.read_card("runs/limb/models/my-limb")
    assert card["name"] == "my-limb" and card["accuracy"]["n"] == 1 and "McGill" not in json.dumps(card)
    for name in ("m4", "m2b"):  # two networks' evaluations
        shutil.copytree("runs/limb/evaluation", f"runs/mr_only/evaluation/{name}")
    [several], compare = torchrun(), printed(" compare ")
    run([several, *compare])
    assert len(compare) == 1 and (place / "runs/mr_only/results").is_dir()
    assert json.loads((place / "runs/limb/m4-two/versions.json").read_text(encoding="utf-8"))["processes"] == 2


def test_your_own_organ_from_few_labels(place, monkeypatch):
    z, y, x = np.mgrid[:10, :24, :28]
    for k in range(8):
        body, organ = (y - 11) ** 2 + (x - 14) ** 2 < 90, (z - 5) ** 2 + (y - 10) ** 2 + (x - 14 - k % 3) ** 2 < 12
        noise = 4 * np.random.default_rng(k).random(body.shape)
        for name, array in (("mr", (100 * body + 80 * organ + noise).astype(np.float32)), ("labels", 6 * organ)):
            image = sitk.GetImageFromArray(array if name == "mr" else array.astype(np.uint8))
            image.SetSpacing((8.0, 8.0, 9.0))
            if name == "mr" or k < 6:
                write(image, place / "runs/try/hospital" / f"PELVIS_00{k}" / f"{name}.nii.gz")
    (place / "runs/try/hospital/PELVIS_008").mkdir()
    monkeypatch.setenv("RTU_MODELS", "runs/try/models")
    lines = [c for c in printed("runs/try", "rtuncertainty models") if " cohort " not in c]
    did = [c.replace("python -m training ", "").replace("rtuncertainty ", "").split()[0] for c in lines]
    assert did == ["scans", "card", "train", "export", "evaluate", "export", "models", "predict"]
    run(lines)
    assert bundle.read_card("runs/try/models/bladder-mr")["accuracy"]["n"] == 2
    assert (place / "runs/try/result").is_dir()


ORGANS = ("Brainstem", "SpinalCord", "Parotid_R", "Parotid_L", "Esophagus", "Larynx", "Mandible")


def test_organs_and_propagation_of_planning_cts(place):
    z, y, x = np.mgrid[:12, :40, :44]
    for k, name in enumerate((*NAMES, "empty", "cut short")):
        (place / "DATA" / name).mkdir(parents=True)
        if name == "empty":
            continue
        body = (y - 20) ** 2 + (x - 22) ** 2 < 330
        labels = np.zeros(body.shape, np.uint8)
        for n, (cy, cx) in enumerate(((12, 22), (28, 22), (20, 10), (20, 34), (28, 30), (20, 22), (12, 32)), 1):
            labels[(abs(z - 6) < 4) & (abs(y - cy) < 3) & (abs(x - cx - k % 2) < 3)] = n
        noise = 15 * np.random.default_rng(k).standard_normal(body.shape)
        ct = sitk.GetImageFromArray((np.where(body, 0, -1000) + 30 * labels + noise).astype(np.float32))
        drawn = sitk.GetImageFromArray(labels)
        for stem, image in (("ct", ct), ("structures", drawn)):
            image.SetSpacing((4.0, 4.0, 3.0))
            write(image, place / "DATA" / name / f"{stem}.nii.gz")
        table = {n: v for v, n in enumerate(ORGANS, 1)}
        (place / "DATA" / name / "structures.json").write_text(json.dumps(table), encoding="utf-8")
    short = place / "DATA" / "cut short" / "ct.nii.gz"
    short.write_bytes(short.read_bytes()[:900])
    lines = printed("runs/volumes", "runs/propagation/")
    did = ["pairs", "train", "organs", "train", "card", "export", "evaluate", "calibrate", "export"]
    assert [c.split()[3] for c in lines] == did
    run(lines)
    card = bundle.read_card("runs/volumes/models/my-organs")
    assert card["accuracy"]["n"] == 2 and [s["name"] for s in card["outputs"]["structures"]][2] == "parotid_right"
    for name, count in (("volumes", 4), ("propagation", 8)):
        with open(f"runs/{name}/prepared/prepare.csv", newline="", encoding="utf-8") as f:
            kept = {r["case"]: r["kept"] for r in csv.DictReader(f)}
        assert sum(k == "yes" for k in kept.values()) == count and {kept["empty"], kept["cut short"]} == {"no"}


def test_the_left_atrium(place):
    names = write_scans(place / "DATA", 3)
    [line] = printed(" left_atrium ")
    run([line])
    with open("runs/la/prepared/prepare.csv", newline="", encoding="utf-8") as f:
        assert [r["case"] for r in csv.DictReader(f)] == names


def torchrun() -> list[str]:
    return [line for line in GUIDE.read_text(encoding="utf-8").splitlines() if line.startswith("torchrun ")]

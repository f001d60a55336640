"""What is wrong with which case: bad files, bad pairs and bad labels are listed with a reason, and never stop a run."""

import csv
import errno
import gzip
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from rtuncertainty.core import geometry
from rtuncertainty.phantoms import limb as phantom
from training import __main__ as command
from training.data import checks, layouts, reading
from training.data.labels import DEFAULT
from training.data.prepare import synthesis

QUICK = synthesis.Options(spacing=(None, None, None), bias_field="off", register="none")


@pytest.fixture(scope="module")
def limb():
    return phantom.digital_limb(1, size=(44, 40, 6), spacing=(2.2, 2.4, 5.0))


@pytest.fixture
def cohort(limb, tmp_path):
    """A folder per case, as many as are asked for, each with mr, ct and gtv; what is given replaces an image."""

    def make(*names, suffix=".nii.gz", **images):
        for name in names:
            folder = tmp_path / "data" / name
            folder.mkdir(parents=True)
            for k, image in ({"mr": limb.mr, "ct": limb.ct, "gtv": limb.labels == 2} | images).items():
                if image is not None:
                    sitk.WriteImage(image, str(folder / (k + suffix)))
        return tmp_path / "data"

    return make


def changed(image, change, dtype=np.float32):
    return geometry.like(change(sitk.GetArrayFromImage(image).astype(np.float64)), image, dtype)


def shifted(image, by):
    moved = sitk.Image(image)
    moved.SetOrigin([o + b for o, b in zip(image.GetOrigin(), by)])
    return moved


def kinds(data, register="none", **options):
    """{(level, check): message} of the only case."""
    [source] = layouts.find(data, **options).sources
    try:
        _, found = checks.inspect(source, DEFAULT, True, register == "none")
    except checks.BadCase as bad:
        found = bad.findings
    return {(f.level, f.check): f.message for f in found}


def test_a_good_case_has_no_finding(cohort):
    assert kinds(cohort("a")) == {}


@pytest.mark.parametrize(
    "image, change, level, check, told",
    [
        ("ct", lambda a: a + 1024, "error", "modality", "not in HU"),
        ("ct", lambda a: a / 1000, "error", "modality", "not in HU"),
        ("ct", lambda a: np.where(a < -900, -3024, a + 1000), "error", "modality", "not in HU"),
        ("ct", lambda a: np.where(a > 250, 3050, a), "warning", "metal", "above 3000 HU"),
        ("ct", lambda a: np.minimum(a, 200), "warning", "clipped", "cut off at 200 HU"),
        ("ct", lambda a: np.maximum(a, -300), "warning", "clipped", "lowest value is -300"),
        ("ct", lambda a: np.full_like(a, 40), "error", "file", "same value"),
        ("mr", lambda a: np.where(a < 60, -1000, a), "error", "modality", "looks like a CT"),
        ("mr", lambda a: a - 400, "warning", "modality", "negative values down to"),
        ("mr", lambda a: np.rint(a / 200), "warning", "modality", "is it a label image"),
        ("mr", lambda a: np.zeros_like(a), "error", "file", "same value"),
        ("gtv", lambda a: np.zeros_like(a), "warning", "empty label", "'gtv' is empty"),
        ("gtv", lambda a: a / 2, "error", "file", "no integers"),
    ],
)
def test_values(limb, cohort, image, change, level, check, told):
    images = {"mr": limb.mr, "ct": limb.ct, "gtv": limb.labels == 2}
    found = kinds(cohort("a", **{image: changed(images[image], change)}))
    assert told in found[level, check]
    assert ("error" in {k[0] for k in found}) == (level == "error")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mha", ".nrrd"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_in_every_format(limb, cohort, suffix, bad):
    def spoil(a):
        a[2, 3, 4] = bad
        return a

    assert "NaN or infinite" in kinds(cohort("a", suffix=suffix, ct=changed(limb.ct, spoil)))["error", "file"]


@pytest.mark.parametrize("suffix, cut", [(".nii.gz", 2000), (".nii", 2000), (".mha", 2000), (".nrrd", 2000)])
def test_a_file_that_is_cut_short(cohort, suffix, cut):
    data = cohort("a", suffix=suffix)
    path = data / "a" / f"ct{suffix}"
    path.write_bytes(path.read_bytes()[:-cut])
    assert str(path) in kinds(data)["error", "file"]


def test_dimensions_and_spacing(limb, cohort, tmp_path):
    stack = sitk.JoinSeries([limb.mr, limb.mr])
    assert "4 dimensions" in kinds(cohort("a", mr=stack))["error", "file"]
    sitk.WriteImage(limb.mr[:, :, 2], str(tmp_path / "flat.nii"))
    with pytest.raises(reading.InputError, match="2 dimensions|single slice"):
        reading.read(tmp_path / "flat.nii")
    header = bytearray(gzip.decompress((tmp_path / "data" / "a" / "ct.nii.gz").read_bytes()))
    (tmp_path / "good.nii").write_bytes(header)
    assert reading.nifti_header(tmp_path / "good.nii") == (pytest.approx((2.2, 2.4, 5.0)), True)
    header[84:88] = struct.pack("<f", 0.0)
    (tmp_path / "zero.nii").write_bytes(header)
    assert min(sitk.ReadImage(str(tmp_path / "zero.nii")).GetSpacing()) > 0  # ITK hides it
    with pytest.raises(reading.InputError, match="voxel size"):
        reading.read(tmp_path / "zero.nii")
    header[84:88], header[252:256] = struct.pack("<f", 2.4), struct.pack("<2h", 0, 0)
    (tmp_path / "nowhere.nii").write_bytes(header)
    assert "neither qform nor sform" in checks.check_header(tmp_path / "nowhere.nii", "CT")[0].message
    small = sitk.Image(limb.mr)
    small.SetSpacing((0.022, 0.024, 0.05))  # cm taken for mm
    assert "are these mm?" in checks.check_spacing(small, "MR")[0].message


def test_pairs(limb, cohort, tmp_path):
    found = kinds(cohort("a", ct=shifted(limb.ct, (900, 0, 0))))
    assert "do not overlap" in found["error", "overlap"]
    (tmp_path / "data").rename(tmp_path / "first")
    data = cohort("a", ct=shifted(limb.ct, (4, 0, 0)), gtv=shifted(limb.labels == 2, (0, 300, 0)))
    found = kinds(data)
    assert (
        "another grid" in found["warning", "grid"] and "'gtv' and the MR do not overlap" in found["warning", "overlap"]
    )
    assert ("note", "grid") in kinds(data, "rigid")  # which is what registration is for
    # the same voxels stored in another order are the same grid
    assert checks.check_pair(limb.mr, sitk.DICOMOrient(limb.ct, "PIR"), True) == []


def test_masks(limb, cohort):
    body = sitk.GetArrayFromImage(limb.ct) > -500
    assert checks.check_mask(body, body) == []
    half = body & (np.arange(body.shape[2]) < 20)
    [found] = checks.check_mask(half, body)
    assert found.level == "warning" and f"{100 * half.sum() / body.sum():.0f} %" in found.message
    assert checks.check_mask(np.zeros_like(body), body)[0].message == "the mask is empty"
    data = cohort("1PA001", mask=limb.ct > 5000, gtv=None)
    [source] = layouts.find(data).sources
    with pytest.raises(checks.BadCase, match="the mask is empty"):
        synthesis.prepare_case(source, QUICK)


def test_bad_cases_are_listed_and_the_others_prepared(limb, cohort, tmp_path, capsys):
    cohort("good")
    cohort("no_gtv", gtv=None)
    cohort("no_ct", ct=None)
    cohort("far", ct=shifted(limb.ct, (900, 0, 0)))
    data = cohort("swapped", ct=limb.mr, mr=limb.ct)
    out = tmp_path / "out"
    rows = {r["case"]: r for r in synthesis.run(data, out, options=QUICK)}
    assert {n for n, r in rows.items() if r["kept"] == "yes"} == {"good", "no_gtv"}
    assert rows["swapped"]["why"].startswith("MR and CT are swapped: ")
    assert "not for synthesis" in rows["no_ct"]["why"] and "do not overlap" in rows["far"]["why"]
    assert sorted(p.name for p in (out / "cases").iterdir()) == ["good.npz", "no_gtv.npz"]
    with open(out / "checks.csv", newline="", encoding="utf-8") as f:
        table = {(r["case"], r["level"], r["check"]) for r in csv.DictReader(f)}
    assert table == {
        ("far", "error", "overlap"),
        ("no_ct", "error", "no CT"),
        ("swapped", "error", "swapped"),
        ("no_gtv", "warning", "class missing"),
    }
    told = capsys.readouterr().out
    assert "checks: 5 cases, 3 with errors" in told and "class missing   1: no_gtv (the class gtv is missing)" in told
    with open(out / "prepare.csv", newline="", encoding="utf-8") as f:
        assert [r["case"] for r in csv.DictReader(f) if r["kept"] == "yes"] == ["good", "no_gtv"]
    # scores that show no fit are a hint where nobody registered, and drop the pair where somebody did
    assert synthesis.why_dropped({"body_dice": 0.5, "fat_ratio": 1.0}, ignore=("fat_ratio",)) == "body_dice 0.50 < 0.94"


def table(path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def test_only_does_not_forget_the_others(limb, cohort, tmp_path):
    cohort("a")
    cohort("b", gtv=None)
    data, out = cohort("c", ct=None), tmp_path / "out"
    synthesis.run(data, out, options=QUICK)
    before = {name: table(out / name) for name in ("prepare.csv", "checks.csv")}
    assert [r["case"] for r in synthesis.run(data, out, ["a"], options=QUICK)] == ["a"]
    assert {name: table(out / name) for name in before} == before


def test_several_processes_prepare_what_one_does(cohort, tmp_path, capfd, monkeypatch):
    cohort("a", "b")
    data = cohort("none", ct=None)
    monkeypatch.setattr(synthesis, "TELL_EVERY", 0.0)
    one, two = (synthesis.run(data, tmp_path / str(n), options=QUICK, processes=n) for n in (1, 2))
    assert one == two and [r["kept"] for r in two] == ["yes", "yes", "no"]
    a, b = (synthesis.load_case(tmp_path / n / "cases" / "b.npz") for n in "12")
    assert np.array_equal(a.mr, b.mr) and np.array_equal(a.ct, b.ct)
    assert "2 of 3 cases, about " in capfd.readouterr().out


def test_an_interruption_is_one_line(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(synthesis, "run", interrupt)
    with pytest.raises(SystemExit, match="^Interrupted; the same command goes on where it stopped.$"):
        command.main(["prepare", "--data", str(tmp_path), "--out", str(tmp_path / "out")])


@pytest.mark.skipif(os.name == "nt", reason="holds Python up by a call of the C library")
@pytest.mark.parametrize("processes", [1, 2])
def test_an_interruption_ends_what_leaves_python_no_time(tmp_path, processes):
    """As elastix does, `sleep` called with Python's lock held keeps the process from looking after signals."""
    (tmp_path / "held.py").write_text(
        "import ctypes, multiprocessing, os, sys\n"
        "from training.core import parallel\n"
        "def held(case):\n"
        "    left_behind = multiprocessing.Lock()\n"
        "    os.write(1, b'begun\\n')\n"
        "    ctypes.PyDLL(None).sleep(100)\n"
        "if __name__ == '__main__':\n"
        f"    list(parallel.over(held, [0, 1, 2], {processes}, apart=True))\n",
        encoding="utf-8",
    )
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"""
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which who runs tests behind may have taken away
from training.__main__ import main
from training.data.prepare import synthesis
synthesis.run = lambda *_: runpy.run_path({str(tmp_path / "held.py")!r}, run_name="__main__")
main(["prepare", "--data", ".", "--out", "out"])
""",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "RTUncertainty"), str(tmp_path)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(processes):
        assert process.stdout.readline() == "begun\n", process.stderr.read()
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert said.splitlines() == ["Interrupted; the same command goes on where it stopped."]
    assert process.returncode == 1 and time.monotonic() - started < 30


def test_other_options_prepare_a_case_again_and_the_same_do_not(cohort, tmp_path, capsys):
    data, out = cohort("a"), tmp_path / "out"
    synthesis.run(data, out, options=QUICK)
    path = out / "cases" / "a.npz"
    before = path.stat().st_mtime_ns
    first = synthesis.load_case(path)
    synthesis.run(data, out, options=QUICK)
    assert path.stat().st_mtime_ns == before
    coarse = synthesis.Options(spacing=synthesis.parse_spacing(["4", "4", "keep"]), bias_field="off", register="none")
    synthesis.run(data, out, options=coarse)
    second = synthesis.load_case(path)
    assert second.mr.shape[1] < first.mr.shape[1] and "prepared before with other options" in capsys.readouterr().out
    assert synthesis.read_record(path)["options"] == {
        "spacing": [4.0, 4.0, None],
        "register": "none",
        "bias_field": "off",
        "labels": ["bone=ct", "gtv=gtv"],
    }


def test_a_file_of_an_earlier_version_has_the_options_of_its_time(limb, cohort, tmp_path):
    data, path = cohort("a"), tmp_path / "out" / "cases" / "a.npz"
    path.parent.mkdir(parents=True)
    shape = (3, 5, 7)
    scores = {"body_dice": 0.99, "cortical_ratio": 0.3, "fat_ratio": 2.0, "folding": 0.0, "shift_mm": 1.0}
    whole = np.packbits(np.ones(shape, bool))
    np.savez_compressed(
        path,
        mr=np.full(shape, 32, np.int16),
        ct=np.full(shape, 20, np.int16),
        labels=np.ones(shape, np.uint8),
        spacing=(1.0, 1.0, 3.0),
        body=whole,
        valid=whole,
        scores=json.dumps(scores),
    )
    old = synthesis.load_case(path)
    assert old.classes == synthesis.LABELS and (old.ct == 40).all() and (old.mr == 1).all() and old.region.all()
    [row] = synthesis.run(data, tmp_path / "out")  # the defaults of that time: it is used as it is, without elastix
    assert row["kept"] == "yes" and synthesis.load_case(path).mr.shape == shape
    synthesis.run(data, tmp_path / "out", options=QUICK)
    assert synthesis.load_case(path).mr.shape == (6, 40, 44)


def test_a_killed_run_resumes(cohort, tmp_path, monkeypatch):
    data, out = cohort("a", "b"), tmp_path / "out"
    save = np.savez_compressed

    def killed(path, **arrays):
        if "b" in path.name:
            path.write_bytes(b"PK")
            raise KeyboardInterrupt
        save(path, **arrays)

    monkeypatch.setattr(np, "savez_compressed", killed)
    with pytest.raises(KeyboardInterrupt):
        synthesis.run(data, out, options=QUICK)
    monkeypatch.undo()
    assert [p.name for p in (out / "cases").iterdir()] == ["a.npz"]
    before = (out / "cases" / "a.npz").stat().st_mtime_ns
    # a kill that leaves no time to tidy up, and a power cut in the middle of a file
    (out / "cases" / "b.part.npz").write_bytes(b"PK")
    (out / "cases" / "b.npz").write_bytes((out / "cases" / "a.npz").read_bytes()[:5000])
    rows = synthesis.run(data, out, options=QUICK)
    assert [r["kept"] for r in rows] == ["yes", "yes"] and (out / "cases" / "a.npz").stat().st_mtime_ns == before
    assert (
        sorted(p.name for p in (out / "cases").iterdir()) == ["a.npz", "b.npz"]
        and synthesis.load_case(out / "cases" / "b.npz").region.any()
    )


def test_a_full_disk_and_a_bad_place_are_told_in_a_line(cohort, tmp_path, monkeypatch):
    data, out = cohort("a"), tmp_path / "out"

    def full(path, **arrays):
        path.write_bytes(b"PK")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(SystemExit, match=r"cases: no space left on the disk"):
        synthesis.run(data, out, options=QUICK)
    assert list((out / "cases").iterdir()) == [] and not (out / "prepare.csv").exists()
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(SystemExit, match="cannot be written|is a file"):
        synthesis.run(data, tmp_path / "file" / "out", options=QUICK)


def test_arguments(cohort, tmp_path):
    assert synthesis.parse_spacing(["1"]) == (1.0, 1.0, None) and synthesis.parse_spacing(["1", "2", "3"]) == (
        1.0,
        2.0,
        3.0,
    )
    for words in (["0"], ["x"], ["1"] * 4, ["-1"]):
        with pytest.raises(SystemExit, match="--spacing"):
            synthesis.parse_spacing(words)
    with pytest.raises(SystemExit, match="no case is named z; there are a"):
        synthesis.run(cohort("a"), tmp_path / "out", only=["z"])


def test_a_class_that_is_missing_in_a_fold():
    labels = {"a": ["bone"], "b": ["bone", "gtv"], "c": ["bone", "gtv"], "d": ["bone"]}
    assert checks.fold_warnings(labels, ["a", "b"], ["c", "d"]) == []
    [told] = checks.fold_warnings(labels, ["a", "d"], ["b", "c"])
    assert told.startswith("class gtv: in none of the 2 training cases")
    assert ["validation" in t for t in checks.fold_warnings(labels, ["b", "c"], ["a", "d"])] == [True]
    assert (
        len(checks.fold_warnings(labels, ["a", "b"], ["c"], {"background": 0, "bone": 1, "gtv": 2, "rectum": 3})) == 2
    )

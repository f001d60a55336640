"""Cohorts of digital pelves: folders that prepare reads, and cases under perfect and under imperfect truth."""

import csv

import numpy as np
import pytest
import SimpleITK as sitk

from rtuncertainty.phantoms.pelvis import LABELS, digital_pelvis
from training import __main__ as command
from training.data.prepare import cohort
from training.data.prepare.synthesis import list_cases, load_case

COARSE = dict(size=(80, 54, 20), spacing=(4.8, 4.8, 8.0))


def array(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    out = tmp_path_factory.mktemp("images")
    cohort.write(out, patients=2, seed=3, **COARSE)
    return out


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared") / "pelves"
    return out, cohort.prepare_cohort(out, patients=1, seed=3, misregistered=True, **COARSE)


def test_prepare_finds_the_patients_and_not_the_truth(images):
    assert [s.name for s in list_cases(images)] == ["PELVIS_000", "PELVIS_001"]
    for name in ("PELVIS_000", "PELVIS_001"):
        assert sorted(p.name for p in (images / name).iterdir()) == ["ct.nii.gz", "labels.nii.gz", "mr.nii.gz"]
        mr, ct, truth = (
            sitk.ReadImage(str(p / f"{n}.nii.gz"))
            for p, n in ((images / name, "mr"), (images / name, "ct"), (images / "truth" / name, "ct"))
        )
        assert truth.GetSize() == mr.GetSize() != ct.GetSize() and np.allclose(truth.GetOrigin(), mr.GetOrigin())
        assert truth.GetPixelID() == sitk.sitkInt16
    assert not np.array_equal(*(array(images / "truth" / n / "ct.nii.gz") for n in ("PELVIS_000", "PELVIS_001")))


def test_a_killed_run_goes_on_and_another_cohort_is_refused(images):
    made = (images / "PELVIS_000" / "mr.nii.gz").stat().st_mtime_ns
    before = array(images / "PELVIS_001" / "mr.nii.gz")
    # as if it had been killed while the second patient was written
    (images / "PELVIS_001").rename(images / ".PELVIS_001")
    (images / ".PELVIS_001" / "labels.nii.gz").unlink()
    folders = cohort.write(images, patients=2, seed=3, **COARSE)
    assert [f.name for f in folders] == ["PELVIS_000", "PELVIS_001"]
    assert (images / "PELVIS_000" / "mr.nii.gz").stat().st_mtime_ns == made
    assert (
        np.array_equal(array(images / "PELVIS_001" / "mr.nii.gz"), before)
        and (images / "PELVIS_001" / "labels.nii.gz").exists()
    )
    assert not (images / ".PELVIS_001").exists()
    for other in (dict(seed=4), dict(seed=3, misregistered=False)):
        with pytest.raises(SystemExit, match="another cohort"):
            cohort.write(images, patients=2, **other, **COARSE)


def test_cases_hold_what_was_drawn(prepared):
    out, rows = prepared
    case, true = (load_case(out / sub / "PELVIS_000.npz") for sub in ("cases", "truth"))
    pelvis = digital_pelvis(cohort.LARGEST * 3, **COARSE)
    labels = sitk.GetArrayFromImage(pelvis.labels)
    assert np.array_equal(case.labels, labels) and case.classes == LABELS and case.spacing == pelvis.mr.GetSpacing()
    assert case.mr[case.body].mean() == pytest.approx(0, abs=0.05) and case.mr[case.body].std() == pytest.approx(
        1, abs=0.05
    )
    assert case.body[labels > 0].mean() > 0.999 and true.valid.all() and 0.8 < case.valid.mean() <= 1
    assert np.abs(true.ct - sitk.GetArrayFromImage(pelvis.ct))[true.body].max() <= 1  # steps of 2 HU
    assert (true.ct[:, 0] == -1000).all()
    with open(out / "prepare.csv", encoding="utf-8", newline="") as f:
        table = list(csv.DictReader(f))
    assert [r["case"] for r in table] == ["PELVIS_000"] and table[0]["kept"] == "yes" and table[0]["why"] == ""
    assert float(table[0]["prostate_ml"]) == pytest.approx(pelvis.facts["prostate_ml"], abs=1e-3)
    assert (out / "overlays" / "PELVIS_000.png").stat().st_size > 10_000


def test_misregistered_cases_fit_in_bone_and_not_in_soft_tissue(prepared):
    out, rows = prepared
    case, true = (load_case(out / sub / "PELVIS_000.npz") for sub in ("cases", "truth"))
    assert 15 < rows[0]["mae_to_truth"] < 120
    assert np.abs(case.ct - true.ct)[case.region].mean() == pytest.approx(rows[0]["mae_to_truth"], rel=0.02)
    bone = (true.ct > 250) & case.region
    assert 2 * (bone & (case.ct > 250)).sum() / (bone.sum() + ((case.ct > 250) & case.region).sum()) > 0.8


def test_prepared_cases_are_kept(prepared):
    out, rows = prepared
    path = out / "cases" / "PELVIS_000.npz"
    made = path.stat().st_mtime_ns
    assert cohort.prepare_cohort(out, patients=1, seed=3, misregistered=True, **COARSE) == rows
    assert path.stat().st_mtime_ns == made
    with pytest.raises(SystemExit, match="another cohort"):
        cohort.prepare_cohort(out, patients=1, seed=3, **COARSE)


def test_the_command(tmp_path, monkeypatch, capsys):
    calls = []
    for name in ("write", "prepare_cohort"):
        monkeypatch.setattr(cohort, name, lambda *a, _name=name, **k: calls.append((_name, a, k)) or [1] * a[1])
    command.main(["cohort", "--out", str(tmp_path), "--patients", "4"])
    command.main(["cohort", "--out", str(tmp_path), "--prepared", "--misregistered", "--seed", "2"])
    assert calls == [("write", (tmp_path, 4, 0), {}), ("prepare_cohort", (tmp_path, 15, 2), {"misregistered": True})]
    assert "4 patients" in capsys.readouterr().out


@pytest.mark.parametrize("patients, seed", [(0, 0), (1001, 0), (3, -1)])
def test_impossible_cohorts_are_refused(tmp_path, patients, seed):
    with pytest.raises(SystemExit, match="patients"):
        cohort.write(tmp_path / "new", patients, seed)
    assert not (tmp_path / "new").exists()
    with pytest.raises(SystemExit, match="patients"):
        next(cohort.cases(patients, seed))

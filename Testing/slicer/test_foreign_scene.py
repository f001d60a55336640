"""Results of other tools open in RT Review as any other, and say that nothing of them was checked."""

import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

sys.path.append(str(Path(__file__).resolve().parents[1] / "backend"))
import make_foreign as foreign  # noqa: E402

import rtuncertainty  # noqa: E402
from rtuncertainty.core.errors import InputError  # noqa: E402
from RTUncertaintyLib.review import triage  # noqa: E402
from RTUncertaintyLib.review.logic import ReviewLogic  # noqa: E402


def opened(tmp_path, *sources, **options):
    """The run of what was collected, and what it says."""
    pytest.importorskip("torch")  # it collects
    image = foreign.write(foreign.ct(), tmp_path / "case_01_0000.nii.gz")
    rtuncertainty.collect(image, list(sources), **options).write(tmp_path / "result")
    logic = ReviewLogic()
    run = logic.review(tmp_path / "result", show=False)
    return run, logic.data(run)


def test_one_segmentation(scene, tmp_path):
    run, data = opened(tmp_path, foreign.total_multilabel(tmp_path / "seg.nii.gz"))
    assert {s.name for s in data.structures} == set(foreign.NAMES)
    assert run.overlays == {} and all(s.intervals == {} and s.quality is None for s in data.structures)
    assert data.structure("liver").volume_ml == pytest.approx(7.56)
    assert any("this model gives none" in note for note in data.notes)
    assert data.card["name"] == "TotalSegmentator"
    assert len(triage.groups(data)[triage.LOOK]) == 3  # nothing is called probably fine
    assert "no record" in triage.rule_text(data)


def test_an_ensemble(scene, tmp_path):
    run, data = opened(tmp_path, *(foreign.fold(tmp_path / f"f{k}", foreign.labels(grow=k)) for k in range(3)))
    assert set(run.overlays) == {"entropy", "mutual_information"}
    liver = data.structure("liver")
    assert liver.distribution and all(p.calibrated_ml is None for p in liver.distribution)
    assert all(i.lower_ml is None and not i.calibrated and i.note for i in liver.intervals.values())
    assert run.samples["browser"].GetMasterSequenceNode().GetNumberOfDataNodes() == 3
    assert {triage.verdict(s, data).group for s in data.structures} == {triage.LOOK}


def test_synthetic_cts(scene, tmp_path):
    for k in range(3):
        foreign.write(foreign.ct(10, k), tmp_path / "sct" / f"sct_{k}.nii.gz")
    run, data = opened(tmp_path, tmp_path / "sct", modality="MR")
    assert {"parameter", "predictive"} <= set(run.overlays)
    assert "Intrinsic uncertainty (SD): this model gives none." in data.notes
    assert run.synct is not None and data.structures == ()


@pytest.mark.parametrize("count", [1, 3])
def test_deformations(scene, tmp_path, count):
    plan = foreign.write(np.roll(foreign.ct(), 2, 2), tmp_path / "plan.nii.gz")
    drawn = foreign.seg_nrrd(tmp_path / "plan.seg.nrrd", np.roll(foreign.labels(), 2, 2))
    for k in range(count):
        foreign.field(tmp_path / "dvf" / f"field_{k}.nii.gz", (4 + 2 * k, 0, 0))
    run, data = opened(tmp_path, tmp_path / "dvf", planning=plan, planning_structures=drawn)
    assert data.job == "propagate" and {s.name for s in data.structures} == set(foreign.NAMES)
    assert ("displacement_sd" in run.overlays) == (count > 1)
    assert {s.severity for s in data.structures} == {"warning"}  # amber: nothing speaks for them


def test_the_folder_of_another_tool_is_no_result(scene, tmp_path):
    with pytest.raises(InputError, match="becomes one by 'rtuncertainty collect'"):
        ReviewLogic().review(foreign.total_folder(tmp_path / "seg"))
    assert sitk.ReadImage(str(tmp_path / "seg" / "liver.nii.gz")).GetSize() == foreign.SIZE

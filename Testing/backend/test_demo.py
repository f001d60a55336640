"""The demo on a user's own folder: what it prints, and bad input."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from make_bundle import make_bundle
from make_pair import make_propagation_bundle
from test_preprocess import limb

from rtuncertainty.cli import command_line, demo
from rtuncertainty.core import geometry


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """(folder with mr and ct, bundle, folder for the output)"""
    place = tmp_path_factory.mktemp("demo")
    image, body, _ = limb()
    folder = place / "case"
    folder.mkdir()
    sitk.WriteImage(image, str(folder / "mr.nrrd"))
    sitk.WriteImage(geometry.like(np.where(body, 40, -1000), image, np.int16), str(folder / "ct.nii.gz"))
    return folder, make_bundle(place / "bundle"), place / "out"


def run(case, capsys, *more):
    folder, bundle, output = case
    code = command_line.main(
        ["demo", "--case", str(folder), "--model", str(bundle), "--output", str(output), "--samples", "2", *more]
    )
    summary_lines = capsys.readouterr()
    return code, summary_lines.out, summary_lines.err.strip().splitlines()


def test_own_folder_with_a_ct(case, capsys):
    code, out, errors = run(case, capsys)
    assert code == 0, errors
    result = case[2] / "result"
    assert (result / "report.html").is_file() and (result / "error.nii.gz").is_file()
    for words in (
        "soft tissue",
        "times as large as stated",
        "not aligned with the MR",
        "not calibrated",
        str(result / "report.html"),
    ):
        assert words in out, words
    # the error that is printed is that of the files, over the body of the CT, beyond which it is 0
    error = np.abs(sitk.GetArrayFromImage(sitk.ReadImage(str(result / "error.nii.gz"))))
    error = error[error > 0].mean()
    line = next(line for line in out.splitlines() if line.split()[:1] == ["body"])
    assert float(line.split()[1]) == pytest.approx(error, abs=1.0)


def test_truth_of_a_digital_limb_is_told(case, capsys):
    run(case, capsys)
    result, truth = case[2] / "result", case[2] / "labels.nii.gz"
    found = sitk.ReadImage(str(result / "structures.seg.nrrd"))
    labels = np.zeros(found.GetSize()[::-1], np.uint8)
    labels[2:5, 10:20, 10:20] = 1
    sitk.WriteImage(geometry.like(labels, found, np.uint8), str(truth))
    same = sitk.GetArrayFromImage(found) == 1
    dice = 2 * (same & (labels == 1)).sum() / (same.sum() + 300)
    bone = next(line for line in demo.summary_lines(result, truth) if line.strip().startswith("bone "))
    assert f"true: {300 * np.prod(found.GetSpacing()) / 1000:.1f} ml, Dice {dice:.2f}" in bone


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda f: (f / "mr.nrrd").unlink(), "holds no mr (mr.nii.gz"),
        (lambda f: shutil.rmtree(f), "is no folder"),
    ],
)
def test_bad_folder(case, tmp_path, capsys, spoil, words):
    folder = shutil.copytree(case[0], tmp_path / "case")
    spoil(folder)
    code, _, errors = run((folder, case[1], tmp_path / "out"), capsys)
    assert code == 2 and len(errors) == 1 and words in errors[0]
    assert not (tmp_path / "out").exists()


def test_propagation_on_a_digital_pelvis(tmp_path, capsys):
    model = make_propagation_bundle(tmp_path / "bundle")
    assert (
        command_line.main(
            ["demo", "--job", "propagate", "--model", str(model), "--output", str(tmp_path / "out"), "--samples", "2"]
        )
        == 0
    )
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if " mm   (" in line]
    assert {r[0] for r in rows} == {"bladder", "rectum", "prostate", "femoral_head_left", "femoral_head_right"}
    # a network that has learnt nothing: rigid alignment and refinement alone bring bones where they are
    heads = [r for r in rows if r[0].startswith("femoral")]
    assert all(float(r[1]) > 0.9 > float(r[4].strip("(")) for r in heads), out
    assert (tmp_path / "out" / "result" / "transform.h5").is_file() and "digital patients only" in out
    assert command_line.main(["demo", "--job", "propagate", "--case", str(tmp_path)]) == 2

"""The page "Error bars for your own model" runs as printed, on small files in the forms that the tools write."""

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from test_documentation import DOCS, ROOT, blocks

sys.path.append(str(ROOT / "Testing" / "backend"))
import make_foreign as foreign  # noqa: E402

from rtuncertainty.cli import command_line  # noqa: E402
from rtuncertainty.core import geometry  # noqa: E402
from rtuncertainty.results import Result  # noqa: E402

PAGE = DOCS / "use" / "your_own_model.md"


def others(place: Path) -> None:
    """What TotalSegmentator, nnU-Net and the others of the page write."""
    foreign.write(foreign.ct(), place / "ct.nii.gz")
    foreign.total_folder(place / "segmentations")
    for name in ("segmentation.nii.gz", "glands.nii.gz"):
        foreign.total_multilabel(place / name)
    whole = sitk.DICOMOrient(foreign.image(foreign.labels()), "RAS")
    grid = geometry.resampled_grid(whole, [1.5, 1.5, 1.5])
    low = sitk.GetArrayFromImage(sitk.Resample(whole, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0))
    foreign.npz(place / "probs.npz", foreign.probabilities(low), foreign.properties(grid))
    foreign.write(foreign.ct(), place / "images" / "case_01_0000.nii.gz")
    for k in range(3):
        foreign.fold(place / f"fold_{k}", foreign.labels(grow=k))
        foreign.write(foreign.ct(10, k), place / "synthetic-cts" / f"sct_{k}.nii.gz")
        foreign.seg_nrrd(place / "repeats" / f"repeat_{k}.seg.nrrd", foreign.labels(grow=k))
        foreign.field(place / "deformations" / f"field_{k}.nii.gz", (3 + k, 0, 0))
    foreign.write(np.linspace(0, 60, 24 * 20 * 16, dtype=np.float32).reshape(16, 20, 24), place / "dose.nrrd")
    foreign.write(np.where(foreign.ct() > -500, 100 + foreign.ct(50) / 10, 0), place / "mr.nii.gz")
    foreign.write(foreign.ct(), place / "daily.nii.gz")
    foreign.write(np.roll(foreign.ct(), 2, 2), place / "plan.nii.gz")
    foreign.seg_nrrd(place / "plan.seg.nrrd", np.roll(foreign.labels(), 2, 2))
    folder = place / "impactsynth"
    for k in range(2):
        foreign.write(foreign.ct(10, k), folder / f"sct_{k}.nii.gz")
    foreign.write(20.0 + foreign.labels().astype(np.float32), folder / "sct_sd.nii.gz")
    foreign.write(foreign.labels(), folder / "labels.nii.gz")
    foreign.write(foreign.ct(), folder / "mr.nii.gz")
    (said,) = blocks(PAGE, "json")
    (folder / "source.json").write_text(said, encoding="utf-8")


def test_the_page_runs_as_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    others(tmp_path)
    ran = 0
    for line in (line for block in blocks(PAGE, "bash") for line in block.splitlines()):
        if line.startswith("rtuncertainty "):
            assert command_line.main(shlex.split(line)[1:]) == 0, (line, capsys.readouterr().err)
            ran += 1
    assert ran >= 8
    for code in blocks(PAGE, "python"):
        exec(compile(code, str(PAGE), "exec"), {})
    # what the table at its top promises
    assert not Result.read("result").has("inside") and Result.read("result-probabilities").has("entropy")
    assert Result.read("ensemble").has("mutual_information") and Result.read("repeats-result").has("inside")
    assert Result.read("sct").has("parameter_sd") and Result.read("moved").has("displacement_sd")
    impact = Result.read("impact-result")
    assert impact.card["name"] == json.loads(blocks(PAGE, "json")[0])["tool"] and impact.card["version"] == "1.2"
    assert Result.read("result-python").has("structures") and Path("dvh.csv").is_file()

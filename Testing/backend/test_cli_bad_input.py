"""Runs that end too early: cancelled at every stage, or left alone by the process that started them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from make_bundle import make_bundle
from test_preprocess import limb

from rtuncertainty.core import geometry
from rtuncertainty.core.errors import Cancelled
from rtuncertainty.core.events import CancelToken, Progress
from rtuncertainty.jobs import prediction as job

LIBRARY = Path(__file__).resolve().parents[2] / "RTUncertainty"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with an MR and a bundle."""
    folder = tmp_path_factory.mktemp("early")
    image, _, _ = limb()
    sitk.WriteImage(image, str(folder / "mr.nii.gz"))
    make_bundle(folder / "bundle")
    return folder


@pytest.mark.parametrize("stage", ["read", "preprocess", "network", "assemble", "write", "report"])
@pytest.mark.parametrize("earlier", [False, True])
def test_cancelled_at_every_stage_leaves_what_was_there(place, stage, earlier):
    output = place / "out"
    if earlier:
        output.mkdir()
        (output / "synct.nii.gz").write_text("an earlier result", encoding="utf-8")
    before = sorted(place.rglob("*"))
    token, told = CancelToken(), []

    def listen(event):
        told.append(event.get("stage"))
        if event.get("stage") == stage:
            token.cancel()

    with pytest.raises(Cancelled):
        job.predict_to_folder(
            place / "mr.nii.gz",
            place / "bundle",
            output,
            progress=Progress(listen, token, ("report",)),
            report=True,
            samples=2,
        )
    assert told[-1] == stage and sorted(place.rglob("*")) == before
    if earlier:
        assert (output / "synct.nii.gz").read_text(encoding="utf-8") == "an earlier result"
        shutil.rmtree(output)


@pytest.mark.skipif(os.name == "nt", reason="a broken pipe is told otherwise there")
def test_left_alone_by_who_started_it(place):
    """The application was killed: nobody reads the events any more, and the run ends without a result."""
    command = [
        sys.executable,
        "-m",
        "rtuncertainty",
        "predict",
        "--model",
        str(place / "bundle"),
        "--input",
        str(place / "mr.nii.gz"),
        "--output",
        str(place / "orphan"),
        "--samples",
        "100000",
        "--progress",
        "json",
    ]
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(LIBRARY)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline()
    process.stdout.close()
    process.stderr.close()
    assert process.wait(timeout=90) not in (0, None)
    assert not [p for p in place.iterdir() if "orphan" in p.name]


def test_a_ct_as_the_users_choice_of_both(place, capsys):
    """MR and reference changed over by mistake: told before anything is computed."""
    from rtuncertainty.cli import command_line

    mr = sitk.ReadImage(str(place / "mr.nii.gz"))
    hu = np.where(sitk.GetArrayFromImage(mr) > 50, 40, -1000)
    sitk.WriteImage(geometry.like(hu, mr, np.int16), str(place / "ct.nii.gz"))
    code = command_line.main(
        [
            "predict",
            "--model",
            str(place / "bundle"),
            "--input",
            str(place / "ct.nii.gz"),
            "--reference",
            str(place / "mr.nii.gz"),
            "--output",
            str(place / "swapped"),
            "--samples",
            "2",
        ]
    )
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and len(lines) == 1 and "is a CT" in lines[0] and not (place / "swapped").exists()

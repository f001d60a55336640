"""Result folders that are written beside their place: nothing that was computed is lost to what stands there
already.
"""

import json
import subprocess
import sys

import pytest

from rtuncertainty.core import structure_names
from rtuncertainty.core.errors import InputError
from rtuncertainty.core.image_io import Staging


@pytest.mark.parametrize(
    "summary", [[1], {"files": {"x": ["a.nii.gz"]}}, {"files": [1]}, {"files": {"x": {"y": 3}}}, 7]
)
def test_a_damaged_summary_in_the_output_folder_is_no_obstacle(tmp_path, summary):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    with Staging(tmp_path / "out") as staging:
        staging.text("a", "a.csv")
        staging.commit()
    assert (tmp_path / "out" / "a.csv").read_text(encoding="utf-8") == "a"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_folder_in_the_way_changes_nothing_and_the_result_is_kept(tmp_path):
    (tmp_path / "out" / "synct.nii.gz").mkdir(parents=True)
    (tmp_path / "out" / "a.csv").write_text("old", encoding="utf-8")
    with (
        pytest.raises(InputError, match="is a folder where a file of the result would go.*out-1"),
        Staging(tmp_path / "out") as staging,
    ):
        staging.text("new", "a.csv")
        staging.text("x", "synct.nii.gz")
        staging.commit()
    assert (tmp_path / "out" / "a.csv").read_text(encoding="utf-8") == "old"
    assert (tmp_path / "out-1" / "a.csv").read_text(encoding="utf-8") == "new"


def test_what_cannot_be_written_is_known_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(InputError, match="no permission"), Staging(tmp_path / "out"):
        raise AssertionError("the work began")


def test_two_processes_of_one_number_do_not_meet(tmp_path, monkeypatch):
    monkeypatch.setattr("os.getpid", lambda: 1)
    with Staging(tmp_path / "out") as one, Staging(tmp_path / "out") as two:
        assert one.folder != two.folder


COMMIT = """
import os, sys, time
from pathlib import Path
from rtuncertainty.core.image_io import Staging

folder, letter, at_once = Path(sys.argv[1]), sys.argv[2], os.replace


def replace(a, b):
    time.sleep({"1c": 0.6, "2a": 0.2, "2e": 0.8}.get(letter + Path(a).name[0], 0))
    at_once(a, b)


os.replace = replace
with Staging(folder / "out") as staging:
    for name in "abcdef":
        staging.text(letter, f"{name}.csv")
    staging.text('{"files": {%s}}' % ", ".join(f'"{n}": "{n}.csv"' for n in "abcdef"), "summary.json")
    (folder / letter).touch()
    while not all((folder / other).exists() for other in "12"):
        time.sleep(0.001)
    staging.commit()
"""


def test_two_results_at_the_same_instant_do_not_mix(tmp_path):
    """Two processes that begin to move their files together; each pauses where the other one overtakes it."""
    running = [subprocess.Popen([sys.executable, "-c", COMMIT, str(tmp_path), letter]) for letter in "12"]
    assert [process.wait(60) for process in running] == [0, 0]
    found = {(tmp_path / "out" / f"{name}.csv").read_text(encoding="utf-8") for name in "abcdef"}
    assert len(found) == 1 and sorted(p.name for p in tmp_path.iterdir()) == ["1", "2", "out"]


def test_what_a_dead_process_left_does_not_lock_the_next_out(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").touch()
    with Staging(tmp_path / "out") as staging:
        staging.text("a", "a.csv")
        staging.commit()
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "a.csv"]


@pytest.mark.parametrize(
    "name, organ",
    [
        ("Rückenmark", "spinal_cord"),
        ("Speiseröhre", "esophagus"),
        ("Hüftkopf links", "femoral_head_left"),
        ("Œsophage", "esophagus"),
        ("Moelle épinière", "spinal_cord"),
    ],
)
def test_umlauts_and_accents(name, organ):
    assert structure_names.organ(name) == organ

"""Result folders that are written beside their place: nothing that was computed is lost to what stands there
already.
"""

import json

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

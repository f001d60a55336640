"""One result: what is written is read again, whatever a structure is called; what leads out of the folder is
refused.
"""

import csv
import json
import os

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from make_bundle import make_bundle
from make_named_result import NASTY, result
from make_pair import make_patient, make_propagation_bundle

from rtuncertainty import predict, propagate
from rtuncertainty.core import image_io
from rtuncertainty.core.errors import InputError
from rtuncertainty.dicom.export import volume_texts
from rtuncertainty.dose import bands
from rtuncertainty.prediction.as_result import as_result
from rtuncertainty.propagation.as_result import as_result as propagation_result
from rtuncertainty.report import data
from rtuncertainty.results import Result, tables
from rtuncertainty.results.result import SDS

# DICOM's LO: up to 64 characters, no control characters
NAMES = st.lists(
    st.one_of(
        st.sampled_from(NASTY),
        st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" "), min_size=1, max_size=64),
    ),
    min_size=1,
    max_size=4,
    unique=True,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAMES)
def test_any_name_comes_back(tmp_path, names):
    folder = tmp_path / "r"
    before = result(names)
    rows = {key: list(before.table(key)) for key in ("volumes", "flags")}
    before.write(folder)
    found = Result.read(folder)
    found.require_files()
    assert list(found.structures()) == names == found.of_structures("inside") == found.of_structures("probabilities")
    assert found.table("volumes") == rows["volumes"] and found.table("flags") == rows["flags"]
    assert [sitk.GetArrayFromImage(found.image("inside", n)).sum() for n in names] == [1600] * len(names)
    assert list(bands.read(folder, names)) == names and list(volume_texts(found)) == names
    report = data.load(folder)
    assert [s.name for s in report.structures] == names == [r["structure"] for r in report.tables["volumes"]]
    assert {p.parent for p in folder.rglob("*")} == {folder}


FORMULAS = ['=HYPERLINK("http://x","y")', "+1+1", "-2+3", "@SUM(A1)", "'=1+1", "''=1", "'quoted'", "-", "a\nb"]


@pytest.mark.parametrize("name", [*FORMULAS, "\t=1", "\r=1", "a\rb", "a\r\nb"])
def test_no_spreadsheet_executes_a_name_and_the_reader_returns_it(tmp_path, name):
    """As OWASP asks: no cell begins with = + - @, tab or carriage return; numbers below zero stay numbers."""
    text = tables.text(["name", "x", "y"], [[name, -1.5, "-2.5"]])
    (tmp_path / "t.csv").write_text(text, encoding="utf-8", newline="")
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as stream:
        cells = list(csv.reader(stream))[1]
    assert cells[0][0] not in "=+-@\t\r" and cells[1:] == ["-1.5", "-2.5"]
    assert tables.read(tmp_path / "t.csv", ["name"]) == [{"name": name, "x": "-1.5", "y": "-2.5"}]


def test_such_names_come_back_from_a_result(tmp_path):
    result(FORMULAS).write(tmp_path / "r")
    found = Result.read(tmp_path / "r")
    assert list(found.structures()) == FORMULAS == [r["structure"] for r in found.table("volumes")]
    assert list(bands.read(tmp_path / "r", FORMULAS)) == FORMULAS


def test_a_name_with_a_comma_from_end_to_end(tmp_path):
    """A prediction and a propagation of such structures, written by the jobs' own way."""
    folder = make_bundle(tmp_path / "m")
    card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    for s, name in zip(card["outputs"]["structures"], ("GTV, left", "=CTV; Größe'")):
        s["name"] = name
    (folder / "model.json").write_text(json.dumps(card), encoding="utf-8")
    array = np.zeros((4, 36, 34), np.float32)
    array[:, 6:30, 6:28] = 100 + 10 * np.random.default_rng(0).random((4, 24, 22))
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 2.0, 4.0))
    as_result(predict(image, folder, samples=2)).write(tmp_path / "r")
    found = Result.read(tmp_path / "r", "predict")
    assert [r["structure"] for r in found.table("volumes")] == ["GTV, left", "=CTV; Größe'"] == list(found.structures())

    planning, given_masks, daily, _, _ = make_patient()
    renamed = {f'{n}, left\\right "x"/y ': m for n, m in given_masks.items()}
    made = propagate(
        planning, renamed, daily, make_propagation_bundle(tmp_path / "p"), samples=2, refine="off", symmetric="off"
    )
    propagation_result(made).write(tmp_path / "q")
    found = Result.read(tmp_path / "q", "propagate")
    assert (
        sorted(found.structures("propagated"))
        == sorted(renamed)
        == sorted(r["structure"] for r in found.table("structure_table"))
    )


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../outside.nii.gz", "sub/inside.nii.gz", "..", ".", "", 7, ["a"], "link.nii.gz", "loop", "a\0b"],
)
@pytest.mark.parametrize("key", ["synct", "volumes", "inside", "transform", "unknown"])
def test_no_file_outside_of_the_folder(tmp_path, name, key):
    folder = tmp_path / "r"
    result(["a"]).write(folder)
    (tmp_path / "outside.nii.gz").write_bytes((folder / "synct.nii.gz").read_bytes())
    os.symlink(tmp_path / "outside.nii.gz", folder / "link.nii.gz")
    os.symlink(folder / "loop", folder / "loop")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    summary["files"][key] = {"a": name} if key == "inside" else name
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    if name == "" and key != "inside":
        return Result.read(folder).require_files()  # earlier versions wrote an empty name for what there is not
    with pytest.raises(InputError, match="outside its own folder"):
        Result.read(folder)


def test_every_reader_refuses_it(tmp_path):
    from rtuncertainty.dicom.export import export_result
    from rtuncertainty.dose.plan.job import read_synct

    result(["a"]).write(tmp_path / "r")
    summary = json.loads((tmp_path / "r" / "summary.json").read_text(encoding="utf-8"))
    summary["files"]["synct"] = "../../etc/passwd"
    (tmp_path / "r" / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    for reader in (
        Result.read,
        lambda f: bands.read(f, ["a"]),
        read_synct,
        lambda f: export_result(f, tmp_path, tmp_path / "out"),
    ):
        with pytest.raises(InputError, match="outside its own folder"):
            reader(tmp_path / "r")


def test_a_result_of_an_early_version_is_read(tmp_path):
    """Neither format, nor job, nor tables of distributions; a summary with keys that nobody knows any more."""
    result(["a"]).write(tmp_path / "r")
    summary = json.loads((tmp_path / "r" / "summary.json").read_text(encoding="utf-8"))
    for key in ("format", "job", "notes"):
        del summary[key]
    summary["files"] = {
        k: v for k, v in summary["files"].items() if k in ("synct", "body", "structures", "volumes")
    } | {"inside": None, "entropy": ""}
    (tmp_path / "r" / "summary.json").write_text(json.dumps(summary | {"old": 1}), encoding="utf-8")
    found = Result.read(tmp_path / "r", "predict")
    assert found.job == "predict" and found.table("quality") == [] and not found.has("inside") and found.level == 0.9
    assert found.missing_sds() == [f"{title}: this model gives none." for title in SDS.values()]


def test_what_is_wrong_is_told_in_one_line(tmp_path):
    result(["a"]).write(tmp_path / "r")
    for damage, words in (
        (lambda f: (f / "volumes.csv").write_text("structure\na\n"), "lacks the columns volume_ml"),
        (
            lambda f: (f / "volumes.csv").write_text(
                ",".join(tables.COLUMNS["volumes"]) + "\nGTV, left,1,1,1,0.9,no\n"
            ),
            "more cells",
        ),
        (lambda f: (f / "volumes.csv").unlink(), "volumes.csv: is missing"),
        (lambda f: (f / "summary.json").write_text("[]"), "cannot be read as the summary"),
        (lambda f: (f / "summary.json").unlink(), "is no result folder"),
    ):
        damage(tmp_path / "r")
        with pytest.raises(InputError, match=words) as error:
            Result.read(tmp_path / "r").table("volumes")
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="there is no such folder"):
        Result.read(tmp_path / "nothing")


def test_the_place_is_replaced_whole(tmp_path):
    result(["a", "b"]).write(tmp_path / "r")
    (tmp_path / "r" / "mine.txt").write_text("mine")
    with pytest.raises(InputError), image_io.Staging(tmp_path / "r") as staging:
        result(["c"]).write(staging)
        raise InputError("cancelled")
    assert list(Result.read(tmp_path / "r").structures()) == ["a", "b"]
    result(["c"]).write(tmp_path / "r")
    assert not (tmp_path / "r" / "inside_a.nii.gz").exists() and (tmp_path / "r" / "mine.txt").is_file()


def test_any_name_in_dicom(tmp_path):
    """A backslash separates values there, spaces around a name count for nothing, and 64 characters are all."""
    import pydicom
    from make_dicom import write_series

    from rtuncertainty.dicom import structure_input
    from rtuncertainty.dicom.export import export_result, long_strings

    long = ["x" * 63 + end for end in ("ab", "ac")]
    names = [n for n in NASTY if n.strip() == n] + long
    result(names).write(tmp_path / "r")
    write_series(
        sitk.Cast(Result.read(tmp_path / "r").image("synct"), sitk.sitkInt16)
        + sitk.GetImageFromArray(np.arange(4 * 6 * (2 * len(names) + 2), dtype=np.int16).reshape(4, 6, -1)),
        tmp_path / "scan",
        "MR",
        "1.2.3.5",
    )
    export_result(tmp_path / "r", tmp_path / "scan", tmp_path / "out", what=["rtstruct"])
    written = [str(r.ROIName) for r in pydicom.dcmread(tmp_path / "out" / "rtstruct.dcm").StructureSetROISequence]
    expected = [n.replace("\\", "/") for n in names[:-2]] + ["x" * 63 + "a", "x" * 60 + " 2"]
    assert written == expected == list(long_strings(names).values())
    assert (
        list(structure_input.read(tmp_path / "out" / "rtstruct.dcm", grid=Result.read(tmp_path / "r").grid()))
        == expected
    )
    told = {
        str(r.ROIName): str(r.ROIDescription)
        for r in pydicom.dcmread(tmp_path / "out" / "rtstruct.dcm").StructureSetROISequence
    }
    assert all(text.startswith("Volume 1.0 ml") for text in told.values())


def test_a_backslash_in_a_structure_set_is_part_of_the_name(tmp_path):
    from make_dicom import circle, write_structure_set

    from rtuncertainty.dicom import structure_input

    path = write_structure_set(
        tmp_path / "rs.dcm", [("PTV\\56, left", [circle(3, 2, z, 15, 100) for z in (0.0, 3.0, 6.0)])]
    )
    assert list(structure_input.read(path)) == ["PTV\\56, left"]


@pytest.mark.parametrize("step, option", [("write_scene", "--scene"), ("_report", "--report")])
def test_a_scene_or_report_that_fails_loses_no_result(tmp_path, monkeypatch, capsys, step, option):
    from rtuncertainty.cli import command_line
    from rtuncertainty.jobs import finish, prediction

    def fails(*_):
        raise InputError("the scene could not be written: no such folder")

    monkeypatch.setattr(finish, step, fails)
    monkeypatch.setattr(prediction, "require_scene_writer", lambda scene: None)
    array = np.zeros((4, 36, 34), np.float32)
    array[:, 6:30, 6:28] = 100 + 10 * np.random.default_rng(0).random((4, 24, 22))
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 2.0, 4.0))
    sitk.WriteImage(image, str(tmp_path / "mr.nrrd"))
    code = command_line.main(
        [
            "predict",
            "--model",
            str(make_bundle(tmp_path / "m")),
            "--input",
            str(tmp_path / "mr.nrrd"),
            "--output",
            str(tmp_path / "r"),
            "--samples",
            "2",
            "--progress",
            "json",
            option,
        ]
    )
    told = capsys.readouterr()
    said, last = told.err, json.loads(told.out.splitlines()[-1])
    assert last["event"] == "error" and last["output"] == str(tmp_path / "r")
    assert (
        code == 2
        and f"{tmp_path / 'r'}: the result is there, but the scene could not be written: no such folder" in said
    ), said
    Result.read(tmp_path / "r").require_files()
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []


def test_a_result_that_lies_in_a_folder_is_not_written_again_without_its_files(tmp_path):
    """It would leave a summary alone, over the files of the result itself too."""
    result(["femur"]).write(tmp_path / "r")
    before = {p.name: p.read_bytes() for p in (tmp_path / "r").iterdir()}
    for place in ("other", "r"):
        with pytest.raises(InputError, match="copy that folder"):
            Result.read(tmp_path / "r").write(tmp_path / place)
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "r").iterdir()} and not (tmp_path / "other").exists()


@pytest.mark.parametrize("given", ["", " ", None, 42])
def test_what_is_no_path_is_refused(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an empty name is not the folder one is in
    with pytest.raises(InputError, match="is no image; give its path"):
        predict(given, "limb-t1-synct")


def test_a_folder_without_a_series_leaves_the_terminal_alone(tmp_path, capfd):
    with pytest.raises(InputError, match="no DICOM series"):
        image_io.read(tmp_path)
    assert capfd.readouterr() == ("", "")

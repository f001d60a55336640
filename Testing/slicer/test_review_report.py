"""The report of a run in the scene: the same content as the folder's, from nodes alone, in a folder that appears
whole.
"""

import csv
import errno
import json
import re
from pathlib import Path

import make_propagation
import make_result
import make_review
import numpy as np
import propagation_case
import pytest
import SimpleITK as sitk
import slicer
import vtk

from rtuncertainty.core.errors import InputError
from rtuncertainty.report import build, data
from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.review import decisions
from RTUncertaintyLib.review.report import content, export

NASTY = "<script>alert('x')</script>&=1"


def full(tmp_path, **options):
    """(result folder with all files, the image that it is of)."""
    folder = make_review.add_review_files(make_result.make_result(tmp_path / "r", **options))
    return folder, make_result.make_input(tmp_path, options.get("direction"))


def voxels(part) -> np.ndarray:
    return np.stack([part[k, slice(0, part.shape[1]), slice(0, part.shape[2])] for k in range(part.shape[0])])


def assert_same(found: data.ReportData, wanted: data.ReportData, body: bool = True) -> None:
    """Whether both show the same: images, structures with all contours, nested contours, tables."""
    assert found.spacing == pytest.approx(wanted.spacing)
    for key in set(wanted.images) - (set() if body else {"body"}):
        assert found.images[key] == pytest.approx(wanted.images[key], abs=1e-4), key
    assert [s.name for s in found.structures] == [s.name for s in wanted.structures]
    for a, b in zip(found.structures, wanted.structures):
        assert a.color == b.color and a.default == b.default and set(a.contours) == set(b.contours)
        for path in a.contours:
            assert np.array_equal(voxels(a.contours[path]), voxels(b.contours[path])), (a.name, path)
        assert (a.inside is None) == (b.inside is None)
        assert a.inside is None or np.array_equal(voxels(a.inside), voxels(b.inside))
    assert [r.get("structure") for r in found.tables["volumes"]] == [r["structure"] for r in wanted.tables["volumes"]]


@pytest.mark.parametrize("oblique", [True, False])
def test_a_run_shows_what_its_folder_shows(scene, tmp_path, oblique):
    folder, image = full(tmp_path, reference=True, direction=None if oblique else np.eye(3))
    run = run_scene.load_result(folder, scene, input_file=image)
    wanted = data.load(folder, image)
    assert_same(content.result_of(run), wanted)


def test_a_sagittal_run_is_shown_in_patient_axes(scene, tmp_path):
    folder, image = full(tmp_path, direction=np.eye(3))
    wanted = data.load(folder, image)
    for file in [*folder.glob("*.nii.gz"), image]:
        sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(file)), "PIR"), str(file))
    run = run_scene.load_result(folder, scene, input_file=image)
    found = content.result_of(run)
    for key in ("synct", "predictive_sd", "entropy", "input"):
        assert np.array_equal(found.images[key], wanted.images[key]), key
    assert np.array_equal(voxels(found.structures[1].inside), voxels(wanted.structures[1].inside))
    assert np.array_equal(voxels(found.structures[1].mask), voxels(wanted.structures[1].mask))


def test_a_propagation_shows_what_its_folder_shows(scene, tmp_path):
    case = propagation_case.Case(scene, tmp_path)
    daily, planning = tmp_path / "Today.nii.gz", tmp_path / "s.seg.nrrd"
    _, structures, image = make_propagation.case()
    sitk.WriteImage(image, str(daily))
    sitk.WriteImage(make_propagation.structure_set.as_segmentation(structures), str(planning))
    assert_same(content.result_of(case.run), data.load(case.folder, daily, (planning, None)))


def test_an_input_on_another_grid_or_under_a_transform_lies_where_it_is(scene, tmp_path):
    folder, image = full(tmp_path, direction=np.eye(3))
    wanted = data.load(folder, image).images["input"].astype(float)
    run = run_scene.load_result(folder, scene, input_file=image)
    shift = slicer.vtkMRMLLinearTransformNode()
    scene.AddNode(shift)
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(2, 3, 2 * make_result.SPACING[2])  # towards the head
    shift.SetMatrixTransformToParent(matrix)
    run.input.SetAndObserveTransformNodeID(shift.GetID())
    found = content.result_of(run).images["input"]
    assert found[2:] == pytest.approx(wanted[:-2], abs=1e-3)


def test_html_and_tables_are_written_whole(scene, tmp_path):
    folder, image = full(tmp_path, reference=True)
    run = run_scene.load_result(folder, scene, input_file=image)
    decisions.decide(run, "gtv", "rejected", NASTY, "=HYPERLINK(1)")
    written = export.export(run, tmp_path / "out", ("html", "csv"))
    assert (
        {p.name for p in written}
        == {
            "report.html",
            "volumes.csv",
            "flags.csv",
            "metrics.csv",
            "review.csv",
            "structure_quality.csv",
            "volume_distribution.csv",
            "volume_intervals.csv",
        }
        == {p.name for p in (tmp_path / "out").iterdir()}
    )
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in html and "&lt;script&gt;alert(&#39;x&#39;)" in html and build.EACH_PAGE in html
    assert html.count("<figure") >= 21 and "1 of 2 structures were reviewed" in html
    with open(tmp_path / "out" / "review.csv", newline="", encoding="utf-8") as file:
        row = list(csv.DictReader(file))[0]
    assert row["comment"] == NASTY and row["reviewer"] == "'=HYPERLINK(1)"  # a spreadsheet must not compute it
    with open(tmp_path / "out" / "volumes.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "structure": "bone",
        "volume_ml": "4.93",
        "lower_ml": "4.71",
        "upper_ml": "5.2",
        "level": "0.9",
        "calibrated": "no",
    }
    assert rows[1]["lower_ml"] == ""


def test_the_patient_is_named_only_when_asked_for(scene, tmp_path):
    folder, image = full(tmp_path, name="Doe^Jane")
    run = run_scene.load_result(folder, scene, input_file=image)
    run.input.SetName("Doe^Jane")
    item = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item.SetItemAttribute(item.GetItemByDataNode(run.input), "DICOM.PatientID", "4711")
    without = export.export(run, tmp_path / "a", ("html", "csv"))
    text = "".join(p.read_text(encoding="utf-8") for p in without)
    assert "Doe^Jane" in run.name and "Doe^" not in text and "the input image" in text
    assert "4711" not in re.sub('base64,[^"]*', "", text) and str(tmp_path) not in text
    html = export.export(run, tmp_path / "b", ("html",), patient={"Name": "Doe^Jane", "ID": NASTY, "Born": " "})[
        0
    ].read_text(encoding="utf-8")
    assert "Doe^Jane" in html and "&lt;script&gt;" in html and "Born" not in html
    assert "Patient" in export.export(run, tmp_path / "c", ("html",), patient="Doe, J.")[0].read_text(encoding="utf-8")


def test_the_level_of_the_intervals_is_the_one_asked_for(scene, tmp_path):
    folder, _ = full(tmp_path)
    run = run_scene.load_result(folder, scene)
    html = export.export(run, tmp_path / "out", ("html",), level=0.5)[0].read_text(encoding="utf-8")
    assert "50% interval (ml)" in html and "90% interval (ml)" not in html


def test_a_propagation_and_a_model_that_only_segments_have_reports(scene, tmp_path):
    case = propagation_case.Case(scene, tmp_path)
    html = export.export(case.run, tmp_path / "out", ("html", "csv"))
    assert "structures.csv" in {p.name for p in html}
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Propagated contours with uncertainty" in text and "Thin: planning contour" in text
    run_scene.accept_structures(case.run, {name: "propagated" for name in propagation_case.NAMES})
    text = export.export(run_scene.run_nodes(case.run.run_id, scene), tmp_path / "again", ("html",))[0].read_text(
        encoding="utf-8"
    )
    assert "accepted contour" in text


def test_a_model_that_only_segments_shows_what_its_folder_shows(scene, tmp_path):
    folder, image = full(tmp_path, direction=np.eye(3))
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    for key in ("synct", "intrinsic_sd", "parameter_sd", "predictive_sd"):
        (folder / summary["files"].pop(key)).unlink()
    summary["model"]["outputs"] = {"structures": summary["structures"]}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    run = run_scene.load_result(folder, scene, input_file=image)
    found = content.result_of(run)
    assert_same(found, data.load(folder, image), body=False)
    page = export.export(run, tmp_path / "out", ("html",))[0].read_text(encoding="utf-8")
    assert (
        "<h1>Structures with uncertainty" in page
        and 'data-image="place-entropy"' in page
        and "Hounsfield" not in page
        and "> HU" not in page
    )


def test_a_review_of_the_users_own_data_has_a_report(scene, tmp_path):
    folder, image = full(tmp_path, direction=np.eye(3))
    given = run_scene.load_result(folder, scene, input_file=image)
    own = run_scene.review_segmentation(given.segmentation, dict(given.probabilities), scene, given.input)
    found = content.result_of(own)
    assert [s.name for s in found.structures] == ["bone", "gtv"] and found.body.all()
    assert np.array_equal(voxels(found.structures[1].mask), make_result.labels() == 2)
    page = export.export(own, tmp_path / "out", ("html",))[0].read_text(encoding="utf-8")
    assert "Structures with uncertainty" in page and "never calibrated" in page and "Input image" in page


def test_existing_folders_and_files_are_left_alone(scene, tmp_path):
    folder, _ = full(tmp_path)
    run = run_scene.load_result(folder, scene)
    full_one = tmp_path / "full"
    full_one.mkdir()
    (full_one / "mine.txt").write_text("x", encoding="utf-8")
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for place, words in ((full_one, "not empty"), (tmp_path / "file", "is a file"), (tmp_path / "file" / "in", "file")):
        with pytest.raises(InputError, match=words):
            export.export(run, place, ("html",))
    assert [p.name for p in full_one.iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    assert export.export(run, tmp_path / "empty", ("csv",))
    with pytest.raises(ValueError, match="docx"):
        export.export(run, tmp_path / "new", ("docx",))


def test_a_full_disk_leaves_nothing(scene, tmp_path, monkeypatch):
    folder, _ = full(tmp_path)
    run = run_scene.load_result(folder, scene)
    before, write = set(tmp_path.iterdir()), Path.write_text

    def fail(path, *arguments, **options):
        if path.name == "volumes.csv":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(InputError, match="no space left"):
        export.export(run, tmp_path / "out", ("html", "csv"))
    assert set(tmp_path.iterdir()) == before


def test_a_run_that_is_gone_has_no_report(scene, tmp_path):
    folder, _ = full(tmp_path)
    run = run_scene.load_result(folder, scene)
    run_scene.remove_run(run)
    with pytest.raises(InputError, match="no longer in the scene"):
        export.export(run, tmp_path / "out", ("html",))
    assert not (tmp_path / "out").exists()


def test_a_saved_scene_has_the_same_report(views, tmp_path):
    from RTUncertaintyLib.headless import scene as headless

    folder, image = full(tmp_path)
    run = run_scene.load_result(folder, views.scene, input_file=image)
    decisions.decide(run, "bone", "accepted", "as drawn", "MZ")
    wanted = build.page(content.result_of(run))
    assert views.scene.WriteToMRB(str(tmp_path / "s.mrb"))
    other = headless.new_scene()
    headless.open_scene(other, tmp_path / "s.mrb")
    found = build.page(content.result_of(run_scene.run_nodes(run.run_id, other.scene)))
    without = [
        re.sub('base64,[^"]*', "", html) for html in (found, wanted)
    ]  # a volume of the scene file may round by a bit
    assert without[0] == without[1] and "1 of 2 structures were reviewed: 1 accepted." in found


def test_without_qt_a_pdf_is_refused_in_words(scene, tmp_path, monkeypatch):
    folder, _ = full(tmp_path)
    run = run_scene.load_result(folder, scene)
    monkeypatch.setattr(export.pdf, "available", lambda: False)
    with pytest.raises(InputError, match="leave the PDF out"):
        export.export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()

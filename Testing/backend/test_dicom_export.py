"""From DICOM to DICOM by the command line: what a prediction and a propagation found comes out in the right place, and
the patient is named in the DICOM files and nowhere else."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from make_bundle import make_bundle
from make_dicom import PATIENT, write_series
from make_pair import make_patient, make_propagation_bundle
from test_dicom_objects import frames, source_point
from test_preprocess import limb

from rtuncertainty import dicom
from rtuncertainty.cli import command_line
from rtuncertainty.core import geometry, structure_set
from rtuncertainty.core.structure_set import Structure
from rtuncertainty.dicom import author, segmentation, structure_input


def run(capfd, *arguments):
    """(exit code, all that was said) of a command line."""
    code = command_line.main([str(a) for a in arguments])
    said = capfd.readouterr()
    return code, said.out + said.err


def export(capfd, case, output, *more, result=None, reference=None):
    return run(
        capfd,
        "export",
        "--result",
        result or case / "result",
        "--dicom-reference",
        reference or case / "scan",
        "--output",
        output,
        *more,
    )


def secrets(place: Path) -> list[Path]:
    """Files below a folder that hold something of the patient, in any encoding."""
    wanted = [v.encode(code) for v in (*PATIENT.values(), "Zweistein") for code in ("utf-8", "latin-1", "utf-16-le")]
    return [p for p in place.rglob("*") if p.is_file() and any(w in p.read_bytes() for w in wanted)]


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """An oblique MR series and a result that was made on it."""
    folder = tmp_path_factory.mktemp("predicted")
    image = sitk.Cast(limb()[0], sitk.sitkInt16)
    image.SetDirection((0.96, 0.0, 0.28, 0.0, 1.0, 0.0, -0.28, 0.0, 0.96))
    write_series(image, folder / "scan", "MR")
    make_bundle(folder / "bundle")
    assert (
        command_line.main(
            [
                "predict",
                "--model",
                str(folder / "bundle"),
                "--input",
                str(folder / "scan"),
                "--output",
                str(folder / "result"),
                "--samples",
                "2",
                "--progress",
                "none",
            ]
        )
        == 0
    )
    return folder


@pytest.fixture(scope="module")
def propagated(tmp_path_factory):
    """Planning and daily series of one patient, an RTSTRUCT, and what `propagate` made of them."""
    folder = tmp_path_factory.mktemp("propagated")
    planning, masks, daily, moved, _ = make_patient(shift=(2.0, -1.0, 0.0), wave_mm=3.0)
    write_series(planning, folder / "planning", root="1.2.3.1")
    write_series(daily, folder / "scan", root="1.2.3.2", study="1.2.3.1.9")
    series = dicom.read_series(folder / "planning")
    structures = [
        Structure(s.name, s.mask, s.color, role="AVOIDANCE" if s.name == "Rectum" else "")
        for s in structure_set.read(masks).values()
    ]
    author.write(dicom.make_structure_set(structures, series, dicom.Author("m", "1")), folder / "rs.dcm")
    make_propagation_bundle(folder / "bundle")
    assert (
        command_line.main(
            [
                "propagate",
                "--model",
                str(folder / "bundle"),
                "--planning",
                str(folder / "planning"),
                "--structures",
                str(folder / "rs.dcm"),
                "--daily",
                str(folder / "scan"),
                "--output",
                str(folder / "result"),
                "--samples",
                "2",
                "--refine",
                "off",
                "--progress",
                "none",
            ]
        )
        == 0
    )
    return folder


def masks_of(path):
    return {n: sitk.GetArrayFromImage(s.mask) for n, s in structure_input.read(path).items()}


def test_a_prediction(predicted, tmp_path, capfd):
    code, said = export(capfd, predicted, tmp_path / "dicom")
    assert code == 0, said
    assert "synthetic CT, " in said and "NOT FOR CLINICAL USE" in said and not secrets(predicted / "result")
    assert sorted(p.name for p in (tmp_path / "dicom").iterdir()) == ["ct", "rtstruct.dcm", "seg.dcm"]
    scan, result = dicom.read_series(predicted / "scan"), predicted / "result"
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "dicom" / "ct")))
    ct, synct = reader.Execute(), sitk.ReadImage(str(result / "synct.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(ct), sitk.GetArrayFromImage(synct)) and geometry.same_grid(ct, synct)
    want = masks_of(result / "structures.seg.nrrd")
    found = dicom.read_structures(tmp_path / "dicom" / "rtstruct.dcm", scan.grid)
    assert list(found) == list(want) == ["bone", "gtv"]
    assert (
        all(np.array_equal(sitk.GetArrayFromImage(found[n].mask), m) for n, m in want.items())
        and max(m.sum() for m in want.values()) > 50
    )
    assert (
        found["gtv"].role == "GTV"
        and found["gtv"].code["value"] == "4147007"
        and found["bone"].color == (241, 214, 145)
    )
    dataset = pydicom.dcmread(tmp_path / "dicom" / "rtstruct.dcm")
    volumes = (result / "volumes.csv").read_text(encoding="utf-8").splitlines()[1].split(",")
    assert (
        f"Volume {float(volumes[1]):.1f} ml, no interval, not calibrated."
        in dataset.StructureSetROISequence[0].ROIDescription
    )


def test_probabilities_on_request(predicted, tmp_path, capfd):
    code, said = export(capfd, predicted, tmp_path / "dicom", "--what", "probability", "--progress", "json")
    assert code == 0, said
    events = [json.loads(line) for line in said.splitlines()]
    assert events[-1] == {"event": "done", "output": str(tmp_path / "dicom")} and [
        p.name for p in (tmp_path / "dicom").iterdir()
    ] == ["probability.dcm"]
    made = pydicom.dcmread(tmp_path / "dicom" / "probability.dcm")
    image, found = sitk.ReadImage(str(predicted / "result" / "probability_bone.nii.gz")), frames(made)
    assert made.SegmentSequence[0].SegmentLabel == "bone" and len(found) > 10
    for k, want in enumerate(sitk.GetArrayFromImage(image)):
        at = np.round(image.TransformIndexToPhysicalPoint((0, 0, k)), 2)
        [frame] = [f for (number, place), f in found.items() if number == 1 and np.allclose(place, at, atol=0.02)] or [
            np.zeros(want.shape)
        ]
        assert np.abs(frame / 255 - want).max() <= 0.5 / 255 + 1e-6


def test_a_propagation(propagated, tmp_path, capfd):
    """In by RTSTRUCT, out by RTSTRUCT: names, roles and places hold, and the registration says how planning and
    daily points lie.
    """
    summary = json.loads((propagated / "result" / "summary.json").read_text(encoding="utf-8"))
    assert summary["structures_input"]["path"] == "rs.dcm" and not secrets(propagated / "result")
    code, said = export(capfd, propagated, tmp_path / "dicom", "--dicom-planning", propagated / "planning")
    assert code == 0 and "vectors" in said, said
    daily = dicom.read_series(propagated / "scan")
    found = dicom.read_structures(tmp_path / "dicom" / "rtstruct.dcm", daily.grid)
    want = masks_of(propagated / "result" / "structures.seg.nrrd")
    assert (
        all(np.array_equal(sitk.GetArrayFromImage(found[n].mask), m) for n, m in want.items())
        and want["PTV"].sum() > 1000
    )
    assert {n: s.role for n, s in found.items()} == {"Bladder": "ORGAN", "Rectum": "AVOIDANCE", "PTV": "PTV"}
    reg, transform = (
        pydicom.dcmread(tmp_path / "dicom" / "registration.dcm"),
        sitk.ReadTransform(str(propagated / "result" / "transform.h5")),
    )
    for index in np.random.default_rng(0).uniform(4, 25, (20, 3)):
        point = np.array(daily.grid.TransformContinuousIndexToPhysicalPoint([float(v) for v in index]))
        assert np.allclose(source_point(reg, point), transform.TransformPoint(point), atol=1e-3)
    assert (
        reg.FrameOfReferenceUID == "1.2.3.2.2"
        and reg.DeformableRegistrationSequence[0].SourceFrameOfReferenceUID == "1.2.3.1.2"
    )


def test_other_contours_of_a_propagation(propagated, tmp_path, capfd):
    """The planning scan is not given, so there is no registration; then contours as Slicer saves them, cropped."""
    code, said = export(capfd, propagated, tmp_path / "dicom", "--structures", "propagated", "--what", "rtstruct", "ct")
    assert code == 0 and "deformed planning CT" in said, said
    assert [r.ROIName for r in pydicom.dcmread(tmp_path / "dicom" / "rtstruct.dcm").StructureSetROISequence] == [
        "Bladder",
        "Rectum",
        "PTV",
    ]
    code, said = export(capfd, propagated, tmp_path / "all")
    assert code == 0 and "--dicom-planning" in said and not (tmp_path / "all" / "registration.dcm").exists()
    cropped = structure_set.read(propagated / "result" / "propagated.seg.nrrd")["Bladder"]
    box = [(int(v.min()), int(v.max()) + 1) for v in np.nonzero(sitk.GetArrayFromImage(cropped.mask))[::-1]]
    cropped.mask = cropped.mask[tuple(slice(*b) for b in box)]
    sitk.WriteImage(structure_set.as_segmentation([cropped]), str(tmp_path / "accepted.seg.nrrd"))
    code, said = export(capfd, propagated, tmp_path / "accepted", "--structures", tmp_path / "accepted.seg.nrrd")
    assert code == 0, said
    back = dicom.read_structures(tmp_path / "accepted" / "rtstruct.dcm", dicom.read_series(propagated / "scan").grid)[
        "Bladder"
    ].mask
    assert np.array_equal(
        sitk.GetArrayFromImage(back), masks_of(propagated / "result" / "propagated.seg.nrrd")["Bladder"]
    )
    said = [
        pydicom.dcmread(tmp_path / name / "rtstruct.dcm").StructureSetROISequence[0].ROIGenerationAlgorithm
        for name in ("all", "accepted")
    ]
    assert said == ["AUTOMATIC", "SEMIAUTOMATIC"]
    # and as another program sends them back
    code, said = export(capfd, propagated, tmp_path / "back", "--structures", tmp_path / "accepted" / "rtstruct.dcm")
    assert code == 0 and masks_of(tmp_path / "back" / "rtstruct.dcm").keys() == {"Bladder"}, said


def test_a_prediction_that_found_nothing(predicted, tmp_path, capfd):
    shutil.copytree(predicted / "result", tmp_path / "result")
    empty = sitk.ReadImage(str(tmp_path / "result" / "structures.seg.nrrd"))
    empty[:, :, :] = 0
    sitk.WriteImage(empty, str(tmp_path / "result" / "structures.seg.nrrd"))
    code, said = export(capfd, predicted, tmp_path / "empty", result=tmp_path / "result")
    assert code == 0 and "bone: has no voxel" in said and "SEG was left out: no structure has a voxel" in said
    made = pydicom.dcmread(tmp_path / "empty" / "rtstruct.dcm")
    assert [r.ROIName for r in made.StructureSetROISequence] == ["bone", "gtv"] and not any(
        "ContourSequence" in r for r in made.ROIContourSequence
    )
    code, said = export(capfd, predicted, tmp_path / "dicom", "--what", "seg", result=tmp_path / "result")
    refused(tmp_path, code, said, "no structure has a voxel")


def test_the_same_seed_gives_the_same_uids(predicted, tmp_path, capfd):
    uids = []
    for name, seed in (("a", "x"), ("b", "x"), ("c", "y")):
        assert export(capfd, predicted, tmp_path / name, "--uid-seed", seed, "--uid-prefix", "1.2.3")[0] == 0
        uids.append(
            {str(e.value) for p in (tmp_path / name).rglob("*.dcm") for e in [pydicom.dcmread(p)["SOPInstanceUID"]]}
        )
    assert uids[0] == uids[1] and not uids[0] & uids[2] and all(u.startswith("1.2.3.") for u in uids[0])


def refused(place, code, said, words):
    told = [line for line in said.splitlines() if line and not line.startswith("note: ")]
    assert code == 2 and len(told) == 1 and words in told[0], said
    assert "Traceback" not in said and not any(v in said for v in (*PATIENT.values(), "Zweistein"))
    assert not (place / "dicom").exists() and not [p for p in place.iterdir() if p.name.endswith(".part")]


def test_what_is_refused(predicted, propagated, tmp_path, capfd):
    other = write_series(sitk.ReadImage(str(predicted / "result" / "body.nii.gz"))[2:], tmp_path / "other", "MR")
    (tmp_path / "empty").mkdir()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "summary.json").write_text('{"job": "predict"}', encoding="utf-8")
    for more, options, words in [
        ([], {"reference": other}, "is not the series that"),
        ([], {"reference": tmp_path / "empty"}, "holds no DICOM slices"),
        ([], {"result": tmp_path / "empty"}, "is no result folder"),
        ([], {"result": tmp_path / "old"}, "cannot be read as the summary"),
        (["--what", "rtplan"], {}, "--what is one or more of"),
        (["--what", "registration"], {}, "--dicom-planning"),
        (["--what", "registration", "--dicom-planning", predicted / "scan"], {}, "only results of 'propagate' do"),
        (["--structures", "segmented"], {}, "has no segmented structures"),
        (["--structures", tmp_path / "no.seg.nrrd"], {}, "there is no such file"),
        (["--uid-prefix", "x"], {}, "no prefix of UIDs"),
        (
            ["--what", "probability"],
            {"result": propagated / "result", "reference": propagated / "scan"},
            "no probabilities",
        ),
        (["--structures", propagated / "result" / "structures.seg.nrrd"], {}, "structures.seg.nrrd was made on"),
    ]:
        code, said = export(capfd, predicted, tmp_path / "dicom", *more, **options)
        refused(tmp_path, code, said, words)


def test_nothing_is_written_over_or_half(predicted, tmp_path, capfd, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "plan.dcm").write_bytes(b"mine")
    code, said = export(capfd, predicted, tmp_path / "full")
    refused(tmp_path, code, said, "not empty")
    monkeypatch.setattr(
        segmentation,
        "make_segmentation",
        lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device")),
    )
    code, said = export(capfd, predicted, tmp_path / "dicom")
    refused(tmp_path, code, said, "no space left")
    if os.geteuid():
        (tmp_path / "locked").mkdir(mode=0o500)
        code, said = export(capfd, predicted, tmp_path / "locked" / "dicom")
        refused(tmp_path, code, said, "no permission")


def test_without_highdicom(predicted, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(dicom.export.importlib.util, "find_spec", lambda name: None)
    code, said = export(capfd, predicted, tmp_path / "some")
    assert code == 0 and "SEG was left out" in said and not (tmp_path / "some" / "seg.dcm").exists()
    monkeypatch.setitem(__import__("sys").modules, "highdicom", None)
    code, said = export(capfd, predicted, tmp_path / "dicom", "--what", "seg")
    refused(tmp_path, code, said, "needs highdicom")


def test_the_patient_is_named_in_the_dicom_files_only(predicted, tmp_path, capfd, caplog, recwarn):
    """Even where the scanner wrote values that DICOM does not allow, which pydicom likes to quote."""
    folder = write_series(
        sitk.Cast(sitk.ReadImage(str(predicted / "result" / "synct.nii.gz")), sitk.sitkInt16),
        tmp_path / "scan",
        "MR",
        PatientID="GEHEIM-4711" + 80 * "x",
        PatientAge="Zweistein",
        PatientBirthDate="Zweistein 1954",
        PatientComments="Zweistein",
    )
    for name, (keyword, value) in enumerate({"PatientWeight": b"Zweistein", "PatientSize": b"GEHEIM-4711"}.items()):
        for path in sorted(folder.iterdir())[name::2]:
            raw = path.read_bytes()
            tag = pydicom.tag.Tag(keyword)
            dataset = pydicom.dcmread(path)
            dataset.add_new(tag, "DS", "1.0")
            dataset.save_as(path)
            raw = path.read_bytes()
            at = raw.index(tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little") + b"DS")
            value = value + b" " * (len(value) % 2)
            path.write_bytes(raw[: at + 6] + len(value).to_bytes(2, "little") + value + raw[at + 12 :])
    caplog.clear()
    recwarn.clear()
    code, said = export(capfd, predicted, tmp_path / "dicom", reference=folder)
    assert code == 0, said
    for text in (said, caplog.text, *(str(w.message) for w in recwarn.list)):
        assert not any(v in text for v in (*PATIENT.values(), "Zweistein", "GEHEIM"))
    assert pydicom.dcmread(tmp_path / "dicom" / "rtstruct.dcm").PatientName == "Zweistein^Änne"
    assert {p.suffix for p in secrets(tmp_path / "dicom")} == {".dcm"}

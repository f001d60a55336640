"""A hospital's own scans: found, checked, put in order, prepared as `predict` sees them, and carded."""

import csv
import json

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import yaml

from rtuncertainty.core import geometry, structure_set
from rtuncertainty.prediction import preprocess
from rtuncertainty.prediction.predict import bounding_box
from training import __main__ as command
from training.data import scan, scan_folders
from training.data.prepare import scans
from training.methods.hasan2021 import feed
from training.run import card as cards

SPACING = (2.0, 2.0, 3.0)


def image(seed, size=(28, 24, 10), hu=False):
    """A bright (or tissue-dense) cylinder in air with an organ in it, axes turned a little; (image, organ)."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[: size[2], : size[1], : size[0]]
    body = (y - 11) ** 2 + (x - 14) ** 2 < 90
    organ = (z - 5) ** 2 + (y - 10) ** 2 + (x - 14 - seed % 3) ** 2 < 12
    ct = np.where(body, 0, -1000) + 60 * organ + 15 * rng.standard_normal(body.shape)
    array = ct if hu else 100 * body + 80 * organ + 4 * rng.random(body.shape)
    out = sitk.GetImageFromArray(array.astype(np.float32))
    out.SetSpacing(SPACING)
    out.SetDirection(sitk.Euler3DTransform((0, 0, 0), 0.0, 0.0, 0.1).GetMatrix())
    out.SetOrigin((5.0 * seed, -20.0, 7.0))
    return out, geometry.like(organ, out, np.uint8)


def write(path, what):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(what, str(path))


@pytest.fixture
def hospital(tmp_path):
    """Six patients, four of them with an organ as value 2 of `labels`."""
    for k in range(6):
        mr, organ = image(k)
        write(tmp_path / "data" / f"P{k}" / "image.nii.gz", mr)
        if k < 4:
            write(tmp_path / "data" / f"P{k}" / "labels.nrrd", organ * 2)
    return tmp_path


def prepare(folder, *more, structure="organ=labels:2", spacing="keep", data="data"):
    arguments = [
        "scans",
        "--data",
        str(folder / data),
        "--out",
        str(folder / "prepared"),
        "--structure",
        structure,
        "--spacing",
        spacing,
    ]
    assert command.main([*arguments, "--bias-field", "off", *more]) == 0
    with open(folder / "prepared" / "prepare.csv", newline="", encoding="utf-8") as f:
        return {r["case"]: r for r in csv.DictReader(f)}


def test_scans_are_what_predict_will_show_the_network(hospital):
    rows = prepare(hospital, "--validation", "1")
    assert all(r["kept"] == "yes" for r in rows.values())
    assert [r["labelled"] for r in sorted(rows.values(), key=lambda r: int(r["order"]))] == ["yes"] * 4 + ["no"] * 2
    found = scan.load(hospital / "prepared" / "scans" / "P1.npz")
    mr, organ = image(1)
    ready = preprocess.for_card(
        mr, {"name": "x", "input": {"spacing_mm": [None] * 3, "normalisation": preprocess.IN_BODY}}, "off"
    )
    body = sitk.GetArrayFromImage(ready.body) > 0
    box = bounding_box(body)
    assert np.abs(found.image - sitk.GetArrayFromImage(ready.image)[box]).max() <= 0.5 / scan.STEPS + 1e-3
    assert np.array_equal(found.body, body[box]) and found.classes == {"background": 0, "organ": 1}
    assert np.array_equal(found.labels, sitk.GetArrayFromImage(geometry.to_axial(organ))[box])
    assert float(rows["P1"]["organ_ml"]) == pytest.approx(found.labels.sum() * 0.012, abs=0.01)
    assert scan.load(hospital / "prepared" / "scans" / "P5.npz").labels is None
    sides = feed.sides(hospital / "prepared" / "prepare.csv", 0)
    assert (len(sides.labelled), len(sides.validation)) == (3, 1) and set(sides.unlabelled) == {"P4", "P5"}
    assert feed.sides(hospital / "prepared" / "prepare.csv", 2).unlabelled[0] == sides.labelled[2]
    with pytest.raises(SystemExit, match="there are 3 beside the 1"):
        feed.sides(hospital / "prepared" / "prepare.csv", 8)


def test_a_scan_is_made_again_when_it_changes_and_only_then(hospital):
    prepare(hospital)
    made = {p.stem: p.stat().st_mtime_ns for p in (hospital / "prepared" / "scans").iterdir()}
    write(hospital / "data" / "P4" / "labels.nrrd", image(4)[1] * 2)  # somebody drew another one
    rows = prepare(hospital)
    now = {p.stem: p.stat().st_mtime_ns for p in (hospital / "prepared" / "scans").iterdir()}
    assert {n for n in made if made[n] != now[n]} == {"P4"} and rows["P4"]["labelled"] == "yes"


def test_what_cannot_be_used_is_left_out_with_its_reason(hospital):
    data = hospital / "data"
    mr, organ = image(20)
    array = sitk.GetArrayFromImage(mr)
    array[3, 4, 5] = np.nan
    write(data / "NAN" / "image.nrrd", geometry.like(array, mr))
    (data / "FLAT").mkdir()
    sitk.WriteImage(
        sitk.GetImageFromArray(np.random.default_rng(0).random((20, 20)).astype(np.float32)),
        str(data / "FLAT" / "image.mha"),
    )
    write(data / "EMPTY" / "image.nii.gz", image(21)[0])
    write(data / "EMPTY" / "labels.nii.gz", image(21)[1] * 0)
    write(data / "AWAY" / "image.nii.gz", image(22)[0])
    away = image(22)[1] * 2
    away.SetOrigin((900.0, 0.0, 0.0))
    write(data / "AWAY" / "labels.nii.gz", away)
    half = image(23)[1]
    half.SetOrigin([o + d for o, d in zip(half.GetOrigin(), (26.0, 0, 0))])
    write(data / "BEYOND" / "image.nii.gz", image(23)[0])
    write(data / "BEYOND" / "labels.nii.gz", half * 2)
    write(data / "TWICE" / "image.nii.gz", image(0)[0])
    write(data / "CT" / "image.nii.gz", image(24, hu=True)[0])
    (data / "CUT").mkdir()
    whole = (data / "P0" / "image.nii.gz").read_bytes()
    (data / "CUT" / "image.nii.gz").write_bytes(whole[: len(whole) // 2])
    write(data / "WHICH" / "a.nii.gz", mr)
    write(data / "WHICH" / "b.nii.gz", organ)
    write(data / "FLOAT" / "image.nii.gz", image(25)[0])
    write(data / "FLOAT" / "labels.nii.gz", sitk.Cast(image(25)[1], sitk.sitkFloat32) * 0.5)
    rows = prepare(hospital, "--modality", "MR")
    why = {n: r["why"] for n, r in rows.items() if r["kept"] == "no"}
    told = {
        "NAN": "NaN",
        "FLAT": "dimensions",
        "EMPTY": "is empty",
        "AWAY": "do not overlap",
        "BEYOND": "ml of organ lie in the body",
        "CT": "looks like a CT",
        "CUT": "cut short",
        "WHICH": "--image",
        "FLOAT": "no integers",
    }
    twin = "P0" if "P0" in why else "TWICE"
    assert set(why) == {*told, twin} and all(words in why[n] for n, words in told.items()), why
    assert "the same image" in why[twin]
    assert {p.stem for p in (hospital / "prepared" / "scans").iterdir()} >= {
        n for n, r in rows.items() if r["kept"] == "yes"
    }
    checks = (hospital / "prepared" / "checks.csv").read_text(encoding="utf-8")
    assert "AWAY,error" in checks


def test_no_patient_is_on_both_sides(tmp_path):
    for k in range(4):
        for visit in range(2):
            mr, organ = image(10 * k + visit)
            write(tmp_path / "data" / f"P{k}" / f"day{visit}" / "mr.nii.gz", mr)
            if visit == 0:
                write(tmp_path / "data" / f"P{k}" / f"day{visit}" / "organ.nii.gz", organ)
    rows = prepare(tmp_path, "--validation", "P2", structure="organ")
    assert {n for n, r in rows.items() if r["set"] == "validation"} == {"P2_day0"}
    assert rows["P2_day1"]["kept"] == "no" and "validates" in rows["P2_day1"]["why"]
    assert {n for n, r in rows.items() if r["set"] == "train"} == {f"P{k}_day{v}" for k in (0, 1, 3) for v in range(2)}
    with pytest.raises(SystemExit, match="P7 is no patient with labels; there are"):
        prepare(tmp_path, "--validation", "P7", "P2", structure="organ")
    with pytest.raises(SystemExit, match="4 patients have labels"):
        prepare(tmp_path, "--validation", "4", structure="organ")
    with pytest.raises(SystemExit, match="in 0 usable patients"):
        prepare(tmp_path, structure="liver=nothing")
    assert "'nothing' was not drawn; there are organ" in "".join(
        f.message for f in _findings(tmp_path, "liver=nothing")
    )


def _findings(folder, structure):
    source = scan_folders.find(folder / "data")[0]
    rule = scan_folders.parse(structure)
    return scans.prepared(
        source,
        rule,
        {"spacing_mm": [None] * 3, "normalisation": preprocess.IN_BODY, "modality": "MR", "bias_field": "off"},
    )[1]


def test_the_order_is_stated_or_no_ones_choice(hospital):
    sources = scan_folders.find(hospital / "data")
    assert [s.name for s in scans.in_order(sources, ["P3", "P0"])][:2] == ["P3", "P0"]
    chance = [s.name for s in scans.in_order(sources, [])]
    assert chance == [s.name for s in scans.in_order(sources[::-1], [])] != sorted(chance)
    (hospital / "data" / "train.list").write_text("P3\nP2\nP1\nP0\n", encoding="utf-8")
    rows = prepare(hospital, "--validation", "1")
    assert {n: int(r["order"]) for n, r in rows.items()} | {"P4": 0, "P5": 0} == {
        "P3": 1,
        "P2": 2,
        "P1": 3,
        "P0": 4,
        "P4": 0,
        "P5": 0,
    }
    assert rows["P0"]["set"] == "validation"


def test_ways_to_name_a_structure(tmp_path):
    mr, organ = image(3)
    drawn = [
        structure_set.Structure(n, m, (255, 0, 0))
        for n, m in (("Bladder", organ), ("GTV", sitk.Cast(mr > 150, sitk.sitkUInt8)))
    ]
    write(tmp_path / "P" / "image.nii.gz", mr)
    sitk.WriteImage(structure_set.as_segmentation(drawn), str(tmp_path / "P" / "drawn.seg.nrrd"))
    source, notes = scan_folders.find(tmp_path)[0], []

    def voxels(text):
        found = scan_folders.read_structure(source, scan_folders.parse(text), mr, notes.append)
        return None if found is None else int(sitk.GetArrayViewFromImage(found).sum())

    count = int(sitk.GetArrayViewFromImage(organ).sum())
    assert (
        voxels("bladder") == voxels("harnblase=Urinary Bladder") == voxels("b=bladder") == count and voxels("gtv") > 0
    )
    assert voxels("rectum") is None and "there are Bladder, GTV" in notes[-1]
    write(tmp_path / "P" / "two.mha", organ + sitk.Cast(mr > 60, sitk.sitkUInt8))
    source = scan_folders.find(tmp_path)[0]
    with pytest.raises(Exception, match="holds the labels 1, 2"):
        voxels("x=two")
    assert voxels("x=two:2") == count
    for text in ("", "background", "a:b", "x=two:2:3"):
        with pytest.raises(SystemExit, match="--structure|--label"):
            scan_folders.parse(text)


def test_dicom_with_a_structure_set(tmp_path):
    """A series and its RTSTRUCT; two folders with one patient's ID are one patient, whose ID is told to no one."""
    from rtuncertainty.dicom import Author, make_structure_set, read_series

    mr, organ = image(3)
    mr.SetDirection(np.eye(3).ravel().tolist())
    organ.CopyInformation(mr)
    series = tmp_path / "data" / "A" / "mr"
    series.mkdir(parents=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(mr.GetDepth()):
        piece = sitk.Cast(mr[:, :, k], sitk.sitkInt16)
        where = mr.TransformIndexToPhysicalPoint((0, 0, k))
        for tag, value in {
            "0008|0060": "MR",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
            "0020|000d": "1.2.3",
            "0020|000e": "1.2.3.4",
            "0020|0052": "1.2.3.5",
            "0010|0020": "SECRET",
            "0020|0032": "\\".join(f"{v}" for v in where),
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0018|0050": "3",
            "0008|0018": f"1.2.3.4.{k + 1}",
            "0020|0013": str(k + 1),
            "0008|0020": "20200101",
            "0008|0030": "120000",
            "0010|0010": "A^B",
        }.items():
            piece.SetMetaData(tag, value)
        writer.SetFileName(str(series / f"{k}.dcm"))
        writer.Execute(piece)
    made = make_structure_set(
        [structure_set.Structure("Blase", organ, (255, 0, 0))], read_series(series), Author("t", "0")
    )
    (tmp_path / "data" / "A" / "rs").mkdir()
    pydicom.dcmwrite(tmp_path / "data" / "A" / "rs" / "rs.dcm", made, enforce_file_format=True)
    import shutil

    shutil.copytree(tmp_path / "data" / "A", tmp_path / "data" / "B")
    found = scan_folders.find(tmp_path / "data")
    assert [(s.name, s.patient) for s in found] == [("A", "A"), ("B", "A")]
    read = scan_folders.read_image(found[0])
    mask = scan_folders.read_structure(found[0], scan_folders.parse("bladder"), read, print)
    a, b = (sitk.GetArrayFromImage(i) > 0 for i in (mask, organ))
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.9


def test_ct_keeps_its_hu(tmp_path):
    for k in range(3):
        ct, organ = image(k, hu=True)
        write(tmp_path / "data" / f"P{k}" / "ct.nii.gz", ct)
        write(tmp_path / "data" / f"P{k}" / "organ.nii.gz", organ)
    prepare(tmp_path, structure="organ")
    found = scan.load(tmp_path / "prepared" / "scans" / "P1.npz")
    known = json.loads((tmp_path / "prepared" / "scans.json").read_text(encoding="utf-8"))
    assert known["modality"] == "CT" and known["normalisation"] == preprocess.HOUNSFIELD
    assert 500 * found.image[found.labels > 0].mean() == pytest.approx(60, abs=8) and found.image.min() == -1.0
    with pytest.raises(SystemExit, match="different|of 2 × 2 × 3 to"):
        write(tmp_path / "data" / "P9" / "ct.nii.gz", _other_voxels(image(9, hu=True)[0]))
        prepare(tmp_path, structure="organ")


def _other_voxels(of):
    of.SetSpacing((3.0, 3.0, 3.0))
    return of


def test_a_card_is_written_once_and_read(hospital):
    prepare(hospital, structure="bladder=labels:2", spacing="3")
    assert command.main(["card", "--prepared", str(hospital / "prepared")]) == 0
    card = yaml.safe_load((hospital / "prepared" / "card.yaml").read_text(encoding="utf-8"))
    assert (
        card["name"] == "bladder-mr"
        and card["input"]["modality"] == "MR"
        and card["input"]["spacing_mm"] == [3.0, 3.0, 3.0]
    )
    assert card["outputs"]["structures"][0]["code"]["value"] == "89837001"  # known from other cards
    low, high = card["input"]["spacing_range_mm"]
    assert (
        all(a < s < b for a, s, b in zip(low, SPACING, high)) and card["input"]["normalisation"] == preprocess.IN_BODY
    )
    with pytest.raises(SystemExit, match="there already"):
        cards.write(hospital / "prepared")
    with pytest.raises(SystemExit, match="prepare first"):
        cards.write(hospital / "data")
    assert cards.known_structure("my_organ") == {}

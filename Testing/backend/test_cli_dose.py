"""`rtuncertainty dvh` and `rtuncertainty gamma`: tables, units, bands, and what is refused in one line."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk
from make_dose import ball, grid, linear_dose, places, result_folder

from rtuncertainty.cli import command_line
from rtuncertainty.core import geometry


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A dose of 30 + z Gy around the origin, and structures on a finer grid that reaches beyond it."""
    folder = tmp_path_factory.mktemp("dose")
    dose = linear_dose(grid((17, 17, 17), (2.5,) * 3, (-20, -20, -20)))
    sitk.WriteImage(dose, str(folder / "dose.nrrd"))
    sitk.WriteImage(dose * 100, str(folder / "cgy.nii.gz"))
    fine = grid((70, 50, 50), (1.0,) * 3, (-24.5, -24.5, -24.5))
    at = places(fine)
    labels = np.zeros(at.shape[:3], np.uint8)
    labels[(at**2).sum(-1) <= 100] = 1
    labels[(np.abs(at - [20, 0, 0]) <= [5, 4, 4]).all(-1)] = 2
    labels[(np.abs(at - [40, 0, 0]) <= [3, 4, 4]).all(-1)] = 3
    sitk.WriteImage(geometry.like(labels, fine, np.uint8), str(folder / "labels.nrrd"))
    (folder / "labels.json").write_text(json.dumps({"ball": 1, "edge": 2, "away": 3}), encoding="utf-8")
    return folder


def run(capsys, *arguments):
    """(exit code, lines on standard output, lines on standard error)"""
    code = command_line.main([str(a) for a in arguments])
    told = capsys.readouterr()
    return code, told.out.strip().splitlines(), told.err.strip().splitlines()


def refused(capsys, words, *arguments):
    code, out, err = run(capsys, *arguments)
    assert code == 2 and out == [] and len([line for line in err if line.startswith("rtuncertainty:")]) == 1, (
        code,
        out,
        err,
    )
    assert all(word in err[-1] for word in words), err


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return {row["structure"]: row for row in csv.DictReader(file)}


def dvh(place, **options):
    given = {
        "dose": place / "dose.nrrd",
        "structures": place / "labels.nrrd",
        "output": place / "out" / "dvh.csv",
    } | options
    return ["dvh", *[x for key, value in given.items() for x in ("--" + key.replace("_", "-"), value)]]


def gamma(place, **options):
    given = {"reference": place / "dose.nrrd", "evaluated": place / "dose.nrrd"} | options
    return ["gamma", *[x for key, value in given.items() for x in ("--" + key.replace("_", "-"), value)]]


# ------------------------------------------------------------------ dvh
def test_numbers_and_curves(place, capsys):
    code, out, err = run(capsys, *dvh(place, prescription=30))
    assert code == 0 and out == [str(place / "out" / "dvh.csv"), str(place / "out" / "dvh_curves.csv")]
    ball_, edge, away = (rows_of(place / "out" / "dvh.csv")[name] for name in ("ball", "edge", "away"))
    assert float(ball_["mean_gy"]) == pytest.approx(30, abs=0.01) and float(ball_["volume_ml"]) == pytest.approx(
        4.19, rel=0.02
    )
    assert float(ball_["d2_gy"]) == pytest.approx(30 + 8.3, abs=0.2) and float(ball_["v30gy_percent"]) == pytest.approx(
        50, abs=1
    )
    assert float(ball_["mean_rx_percent"]) == pytest.approx(100, abs=0.1) and float(ball_["v100rx_percent"]) == float(
        ball_["v30gy_percent"]
    )
    # 10 mm wide from x = 15; the dose ends at 21.25
    assert (
        float(edge["in_dose_grid_percent"]) == pytest.approx(62.5, abs=0.1)
        and "37.5% of it lie outside" in edge["note"]
    )
    assert away["mean_gy"] == "" and "does not overlap" in away["note"] and ball_["note"] == ""
    assert sum("away" in line for line in err) == 1 and sum("edge" in line for line in err) == 1
    with open(place / "out" / "dvh_curves.csv", newline="", encoding="utf-8") as file:
        curves = list(csv.DictReader(file))
    assert {c["structure"] for c in curves} == {"ball", "edge"} and set(curves[0]) == {
        "structure",
        "dose_gy",
        "volume_percent",
    }
    volumes = [float(c["volume_percent"]) for c in curves if c["structure"] == "ball"]
    assert volumes[0] == 100 and volumes[-1] == 0 and volumes == sorted(volumes, reverse=True)


def test_cgy_is_the_same_dose(place, capsys):
    assert run(capsys, *dvh(place))[0] == 0
    expected = (place / "out" / "dvh.csv").read_text(encoding="utf-8")
    code, _, err = run(
        capsys, *dvh(place, dose=place / "cgy.nii.gz", dose_unit="cGy", output=place / "cgy" / "dvh.csv")
    )
    first, second = rows_of(place / "out" / "dvh.csv"), rows_of(place / "cgy" / "dvh.csv")
    assert (
        code == 0
        and expected
        and float(second["ball"]["d98_gy"]) == pytest.approx(float(first["ball"]["d98_gy"]), abs=1e-3)
    )
    # and a wrong unit is not passed over in silence
    _, _, err = run(capsys, *dvh(place, dose=place / "cgy.nii.gz", output=place / "wrong" / "dvh.csv"))
    assert any("--dose-unit cGy" in line for line in err)
    # who says the unit, as RTReview does, has been asked already
    _, _, err = run(capsys, *dvh(place, dose=place / "cgy.nii.gz", dose_unit="Gy", output=place / "said" / "dvh.csv"))
    assert not any("--dose-unit" in line for line in err)


def test_bands_from_a_result_folder(place, capsys, tmp_path):
    folder = result_folder(tmp_path / "result")
    code, _, err = run(capsys, *dvh(place, bands=folder, output=tmp_path / "dvh.csv"))
    assert code == 0 and any("not calibrated" in line and "ball" in line for line in err)
    rows = rows_of(tmp_path / "dvh.csv")
    found = rows["ball"]
    assert (
        found["calibrated"] == "no"
        and found["level"] == "0.9"
        and "no band" in rows["edge"]["note"]
        and rows["edge"]["mean_gy_lower"] == ""
    )
    interval = [float(found[f"volume_ml_{end}"]) for end in ("lower", "upper")]
    assert interval == pytest.approx(list(ball([5, 95])), rel=0.06)
    # larger balls reach further into the low dose
    assert float(found["d98_gy_lower"]) < float(found["d98_gy"]) < float(found["d98_gy_upper"])
    with (tmp_path / "dvh_curves.csv").open(newline="", encoding="utf-8") as file:
        curves = [c for c in csv.DictReader(file) if c["structure"] == "ball"]
    assert all(float(c["lower_percent"]) <= float(c["upper_percent"]) for c in curves) and len(curves) > 300


def test_a_segmentation_of_slicer(place, capsys):
    """Overlapping segments, one of them empty."""
    from rtuncertainty.core.structure_set import Structure, as_segmentation, read

    ball_ = read(place / "labels.nrrd")["ball"].mask
    larger = sitk.BinaryDilate(ball_, (2, 2, 2))
    masks = {"ball": ball_, "margin": larger, "nothing": ball_ * 0}
    structures = [Structure(name, mask, (255, 0, 0)) for name, mask in masks.items()]
    sitk.WriteImage(as_segmentation(structures), str(place / "three.seg.nrrd"))
    code, _, err = run(capsys, *dvh(place, structures=place / "three.seg.nrrd", output=place / "three" / "dvh.csv"))
    rows = rows_of(place / "three" / "dvh.csv")
    assert code == 0 and list(rows) == ["ball", "margin", "nothing"] and rows["nothing"]["note"] == "has no voxel"
    assert float(rows["margin"]["volume_ml"]) > 1.4 * float(rows["ball"]["volume_ml"]) and err == [
        "note: nothing: has no voxel."
    ]


# ------------------------------------------------------------------ gamma
def test_gamma_prints_and_writes(place, capsys, tmp_path):
    more = sitk.ReadImage(str(place / "dose.nrrd")) * 1.01
    sitk.WriteImage(more[2:, :, :], str(tmp_path / "more.nii.gz"))
    code, out, err = run(
        capsys, *gamma(place, evaluated=tmp_path / "more.nii.gz", cutoff=50, output=tmp_path / "gamma.nrrd")
    )
    # of 17 planes two lie beyond the other dose
    assert (
        code == 0
        and out[0].startswith("100.00 % of ")
        and "2 %/2 mm (global, cut-off 50 %)" in out[0]
        and out[1] == str(tmp_path / "gamma.nrrd")
    )
    assert len(err) == 1 and "lie beyond the evaluated dose" in err[0]
    image = sitk.ReadImage(str(tmp_path / "gamma.nrrd"))
    values = sitk.GetArrayFromImage(image)
    dose = sitk.ReadImage(str(place / "dose.nrrd"))
    assert geometry.same_grid(image, dose) and values[:, :, 2:].max() <= 1
    below = sitk.GetArrayFromImage(dose) < 25
    assert (
        (values[below] == -1).all()
        and (values[:, :, :2] == -1).all()
        and (values[~below][values[~below] != -1] >= 0).all()
    )


def test_gamma_of_cgy_and_local(place, capsys):
    code, out, _ = run(
        capsys,
        *gamma(place, reference=place / "cgy.nii.gz", evaluated=place / "cgy.nii.gz", dose_unit="cGy"),
        "--local",
    )
    assert code == 0 and out == ["100.00 % of 4913 voxels pass 2 %/2 mm (local, cut-off 10 %); mean gamma 0.000"]


@pytest.mark.parametrize(
    "options,words",
    [
        ({"evaluated": "nowhere.nrrd"}, ["nowhere.nrrd", "does not exist"]),
        ({"dose_percent": 0}, ["dose percent", "positive"]),
        ({"distance_mm": "far"}, ["distance-mm"]),
        ({"cutoff": 120}, ["cut-off"]),
        ({"output": "gamma.png"}, ["gamma.png", ".nrrd"]),
        ({"device": "tpu"}, ["device 'tpu'"]),
    ],
)
def test_gamma_refuses(place, capsys, options, words):
    refused(capsys, words, *gamma(place, **options))


def test_gamma_of_doses_apart(place, capsys, tmp_path):
    dose = sitk.ReadImage(str(place / "dose.nrrd"))
    dose.SetOrigin((500, 0, 0))
    sitk.WriteImage(dose, str(tmp_path / "far.nrrd"))
    refused(capsys, ["far.nrrd", "do not overlap"], *gamma(place, evaluated=tmp_path / "far.nrrd"))
    # grids that touch, where the dose is below the cut-off
    dose.SetOrigin((-20, -20, -58))
    sitk.WriteImage(dose, str(tmp_path / "below.nrrd"))
    refused(capsys, ["below.nrrd", "nothing to compare"], *gamma(place, evaluated=tmp_path / "below.nrrd", cutoff=60))


# ------------------------------------------------------------------ what is refused
def with_value(value):
    def change(dose):
        array = sitk.GetArrayFromImage(dose)
        array[3, 3, 3] = value
        return geometry.like(array, dose)

    return change


@pytest.mark.parametrize(
    "name,make,words",
    [
        ("nan.nrrd", with_value(np.nan), ["nan.nrrd", "NaN"]),
        ("negative.nrrd", with_value(-0.5), ["negative.nrrd", "negative"]),
        ("stored.nrrd", with_value(3e8), ["stored.nrrd", "DoseGridScaling"]),
        ("flat.nrrd", lambda i: i[:, :, 3], ["flat.nrrd", "2 dimensions"]),
        ("zero.nrrd", lambda i: i * 0, ["zero.nrrd", "same value"]),
        ("series.nii.gz", lambda i: sitk.JoinSeries([i, i]), ["series.nii.gz", "4 dimensions"]),
    ],
)
def test_doses_that_are_none(place, capsys, tmp_path, name, make, words):
    sitk.WriteImage(make(sitk.ReadImage(str(place / "dose.nrrd"))), str(tmp_path / name))
    refused(capsys, words, *dvh(place, dose=tmp_path / name))
    refused(capsys, words, *gamma(place, evaluated=tmp_path / name))


def test_files_that_are_none(place, capsys, tmp_path):
    (tmp_path / "text.nrrd").write_text("no image", encoding="utf-8")
    refused(capsys, ["text.nrrd", "cannot be read"], *dvh(place, dose=tmp_path / "text.nrrd"))
    refused(capsys, ["text.nrrd"], *dvh(place, structures=tmp_path / "text.nrrd"))
    refused(capsys, ["dose.nrrd", "no segmentation"], *dvh(place, structures=place / "dose.nrrd"))
    refused(capsys, ["prescription"], *dvh(place, prescription=-2))
    refused(capsys, ["nothing to make a band of"], *dvh(place, bands=_folder(tmp_path, {"synct": "synct.nii.gz"})))
    refused(capsys, ["no result folder"], *dvh(place, bands=place))
    for files in ([], {"inside": "ball"}, {"inside": {"ball": 3}}):
        refused(
            capsys,
            ["summary.json", "outside" if files == {"inside": {"ball": 3}} else "cannot be read"],
            *dvh(place, bands=_folder(tmp_path, files)),
        )
    refused(capsys, ["--structures"], "dvh", "--dose", place / "dose.nrrd", "--output", tmp_path / "x.csv")


def _folder(tmp_path, files):
    (tmp_path / "summary.json").write_text(json.dumps({"files": files}), encoding="utf-8")
    return tmp_path


def test_no_structure_in_the_dose(place, capsys, tmp_path):
    dose = sitk.ReadImage(str(place / "dose.nrrd"))
    dose.SetOrigin((500, 0, 0))
    sitk.WriteImage(dose, str(tmp_path / "far.nrrd"))
    refused(capsys, ["none of the structures", "far.nrrd"], *dvh(place, dose=tmp_path / "far.nrrd"))


def test_an_input_is_not_replaced(place, capsys, tmp_path):
    before = {p: p.read_bytes() for p in place.iterdir() if p.is_file()}
    for name in ("dose.nrrd", "labels.nrrd"):
        refused(capsys, [name, "one of the inputs"], *dvh(place, output=place / name))
    refused(capsys, ["dose.nrrd", "one of the inputs"], *gamma(place, output=place / "dose.nrrd"))
    assert before == {p: p.read_bytes() for p in before}


def test_places_that_cannot_be_written(place, capsys, tmp_path):
    (tmp_path / "file").write_text("keep me", encoding="utf-8")
    refused(capsys, ["cannot be written"], *dvh(place, output=tmp_path / "file" / "dvh.csv"))
    (tmp_path / "folder.csv").mkdir()
    refused(capsys, ["folder.csv"], *dvh(place, output=tmp_path / "folder.csv"))
    refused(capsys, ["nowhere"], *gamma(place, output="/proc/nowhere/gamma.nrrd"))
    assert (tmp_path / "file").read_text(encoding="utf-8") == "keep me" and sorted(
        p.name for p in tmp_path.iterdir()
    ) == ["file", "folder.csv"]

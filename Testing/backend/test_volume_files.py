"""The files of a result that tell volumes, their intervals and quality: one with another, and with the segmentation
beside them.
"""

import csv
import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from make_bundle import make_bundle

from rtuncertainty import predict
from rtuncertainty.cli import demo
from rtuncertainty.dicom.export import volume_texts
from rtuncertainty.jobs import prediction as job
from rtuncertainty.report.build import write_report as report
from rtuncertainty.results import Result, tables
from rtuncertainty.results.result import file_names
from rtuncertainty.uncertainty import flags, volume_assessment, volumes
from rtuncertainty.uncertainty.volume_distribution import LEVELS, PERCENTILES

ML = 0.008


def limb(spacing=(2.0, 2.0, 4.0)) -> sitk.Image:
    z, y, x = np.indices((5, 36, 34)).astype(float)
    r = np.hypot(y - 18, x - 17)
    array = np.where(r < 14, 100.0, 0.0) + np.where(r < 5, 80.0, 0.0) + 4 * np.random.default_rng(0).random(r.shape)
    image = sitk.GetImageFromArray(array.astype(np.float32))
    image.SetSpacing(spacing)
    return image


def rows(path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def with_card(folder, **entries):
    card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    for key, value in entries.items():
        card[key] |= value
    (folder / "model.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture(scope="module")
def result(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("result")
    sitk.WriteImage(limb(), str(folder / "mr.nii.gz"))
    return job.predict_to_folder(str(folder / "mr.nii.gz"), model, folder / "out", samples=8)


def test_what_predict_writes(result):
    files = json.loads((result / "summary.json").read_text(encoding="utf-8"))["files"]
    assert (
        files["volume_distribution"] == "volume_distribution.csv"
        and files["volume_intervals"] == "volume_intervals.csv"
    )
    assert files["quality"] == "structure_quality.csv" and files["inside"] == {
        "bone": "inside_bone.nii.gz",
        "gtv": "inside_gtv.nii.gz",
    }
    distribution, intervals = rows(result / "volume_distribution.csv"), rows(result / "volume_intervals.csv")
    assert (
        tuple(distribution[0]) == tables.COLUMNS["volume_distribution"]
        and [float(r["percentile"]) for r in distribution] == [*PERCENTILES] * 2
    )
    assert (
        tuple(intervals[0]) == tables.COLUMNS["volume_intervals"]
        and [float(r["level"]) for r in intervals] == [*LEVELS] * 2
    )
    assert {r["calibrated_ml"] for r in distribution} == {""} and {r["calibrated"] for r in intervals} == {"no"}
    # volumes that were never calibrated have no interval
    for row in [*intervals, *rows(result / "volumes.csv")]:
        assert (row["lower_ml"], row["upper_ml"], row["calibrated"]) == ("", "", "no"), row
    assert all(r["note"].startswith("this model's volumes were never calibrated") for r in intervals)
    assert [r["structure"] for r in rows(result / "structure_quality.csv")] == ["bone", "gtv"]


def test_what_was_never_calibrated_is_shown_without_an_interval(result):
    text = report(result).read_text(encoding="utf-8").replace("&#39;", "'")
    assert "bone: no interval: this model's volumes were never calibrated" in text and text.count("not calibrated") >= 2
    assert ">nan<" not in text and 'stroke-dasharray="4 2"' not in text  # no bar
    summary_lines = volume_texts(Result.read(result))
    assert set(summary_lines) == {"bone", "gtv"} and all(
        t.endswith(" ml, no interval, not calibrated.") for t in summary_lines.values()
    )
    assert sum("ml   (no interval, not calibrated)" in line for line in demo.summary_lines(result)) == 2


def test_numbers_of_earlier_versions_are_read(result, tmp_path):
    shutil.copytree(result, tmp_path / "old")
    table = (tmp_path / "old" / "volumes.csv").read_text(encoding="utf-8").replace(",,,", ",0.5,0.7,")
    (tmp_path / "old" / "volumes.csv").write_text(table, encoding="utf-8")
    summary_lines = volume_texts(Result.read(tmp_path / "old"))
    assert all(t.endswith("90% interval 0.5 to 0.7 ml, not calibrated.") for t in summary_lines.values())


def test_a_small_volume_that_was_not_found_is_flagged_without_a_calibration():
    volume, nowhere = volumes.Volume("x", 0.0, np.nan, np.nan, 0.9, False), np.zeros((3, 3, 3), bool)
    (some,) = flags.of_structure(volume, nowhere, ~nowhere, sampled_ml=2.0)
    (none,) = flags.of_structure(volume, nowhere, ~nowhere)
    assert some.severity == "warning" and "2.0 ml" in some.reason and "uncalibrated" in some.reason
    assert none.severity == "info"
    assert flags.of_uncertainty(volumes.Volume("x", 2.0, np.nan, np.nan, 0.9, False)) == []


def test_files_agree_with_each_other_and_with_the_segmentation(result):
    summary_lines = {
        (r["structure"], float(r["percentile"])): float(r["volume_ml"])
        for r in rows(result / "volume_distribution.csv")
    }
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(result / "structures.seg.nrrd")))
    ml = 0.016
    spread = 0.0
    for label, row in enumerate(rows(result / "volumes.csv"), 1):
        name = row["structure"]
        inside = sitk.ReadImage(str(result / f"inside_{name}.nii.gz"))
        assert inside.GetPixelID() == sitk.sitkUInt8 and inside.GetSize() == (34, 36, 5)
        inside = sitk.GetArrayFromImage(inside)
        assert inside.max() <= 100 and np.array_equal(inside > 50, labels == label)
        for q in PERCENTILES:
            if q == int(q):
                assert summary_lines[name, q] == pytest.approx((inside > 100 - q).sum() * ml, abs=1e-3)
        assert (
            float(row["volume_ml"]) == summary_lines[name, 50] == pytest.approx((labels == label).sum() * ml, abs=1e-3)
        )
        spread += summary_lines[name, 95] - summary_lines[name, 5]
    assert spread > 0


def test_a_calibrated_card_widens_the_intervals(model, result, tmp_path):
    card = {
        "method": "conformal",
        "cases": 12,
        "patients": 12,
        "per": "pooled",
        "groups": {"pooled": {"cases": 12, "patients": 12, "margins": {"0.5": 0.05, "0.8": 0.1, "0.9": 0.3}}},
    }
    other = make_bundle(tmp_path / "m")
    with_card(other, calibration={"volumes": card})
    found = predict(limb(), other, samples=8)
    plain = {(r["structure"], r["percentile"]): r for r in rows(result / "volume_distribution.csv")}
    assert found.volumes[0].volume_ml > 0
    for v in found.volumes:
        if v.volume_ml == 0:  # what was not found has no interval
            assert not v.calibrated and np.isnan([v.lower_ml, v.upper_ml]).all()
            continue
        middle, upper = (float(plain[v.structure, q]["volume_ml"]) for q in ("50", "95"))
        assert v.calibrated and v.upper_ml > 1.2 * upper and v.volume_ml == pytest.approx(middle, abs=1e-3)
    known = tables.of_assessed(found.assessed, found.card)
    intervals = {(r["structure"], r["level"]): r for r in known["volume_intervals"]}
    distribution = {(r["structure"], r["percentile"]): r["calibrated_ml"] for r in known["volume_distribution"]}
    assert (
        intervals["bone", "0.9"]["calibrated"] == "yes"
        and intervals["bone", "0.9"]["cases"] == "12"
        and intervals["bone", "0.9"]["note"] == ""
    )
    assert intervals["bone", "0.95"]["calibrated"] == "no" and intervals["bone", "0.95"]["note"].startswith(
        "too few cases for 95 %"
    )
    assert intervals["bone", "0.95"]["lower_ml"] == intervals["bone", "0.95"]["upper_ml"] == ""
    assert distribution["bone", "99.5"] == "" and distribution["bone", "95"] == intervals["bone", "0.9"]["upper_ml"]


def test_no_spread_is_no_certainty(tmp_path):
    """One network without dropout: its distribution is a single number, and the table says why."""
    plain = make_bundle(
        tmp_path / "m",
        network="m3",
        arguments={"classes": 3, "width": 4, "features": 8, "branch_width": 4, "dropout": 0.0},
    )
    found = predict(limb(), plain, samples=2)
    assert all(len(set(f.distribution.ml)) == 1 for f in found.assessed)
    assert {r["note"] for r in tables.of_assessed(found.assessed, found.card)["volume_intervals"]} == {
        "this model's volumes were never calibrated; the samples have no spread"
    }


def test_an_image_unlike_the_training_data_is_flagged(tmp_path):
    usual = {
        "cases": 20,
        "quantiles": np.linspace(-1.5, 1.5, 19).tolist(),
        "measures": {
            "noise": {"mean": -6.0, "sd": 0.1, "range": [0.002, 0.003]},
            "sharpness": {"mean": -9.0, "sd": 0.1, "range": [0.0001, 0.0002]},
        },
    }
    model = make_bundle(tmp_path / "m")
    with_card(model, input={"statistics": usual})
    summary_lines = [f for f in predict(limb(), model, samples=2).flags if f.subject == "input" and "noise" in f.reason]
    assert (
        len(summary_lines) == 1
        and summary_lines[0].flag == "unlike the training data"
        and "0.2% to 0.3%" in summary_lines[0].reason
        and summary_lines[0].severity == "warning"
    )


def test_names_of_clinics_make_file_names():
    found = file_names("inside", ["PTV 50/60 Gy", "PTV_50_60_Gy", "ptv_50_60_gy", "Blase", "Œsophage"])
    assert found["PTV 50/60 Gy"] == "inside_PTV_50_60_Gy" and found["PTV_50_60_Gy"] == "inside_PTV_50_60_Gy_2"
    long = file_names("inside", ["ß" * 200, "ß" * 199 + "x"])
    assert len(set(long.values())) == 2 and all(len(name.encode("utf-8")) < 150 for name in long.values())
    assert (
        found["ptv_50_60_gy"].endswith("_3")
        and found["Œsophage"] == "inside_Œsophage"
        and len(set(found.values())) == 5
    )


def test_assessing_a_crop_changes_nothing():
    """A structure at the image's corner, and another far away that belongs to it by its rule or not."""
    p = np.zeros((6, 20, 20), np.float32)
    p[0:3, 0:5, 0:5], p[0:2, 0:4, 0:4], p[4:, 15:, 15:] = 0.3, 0.9, 0.2
    labelled = p > 0.5
    grid = sitk.GetImageFromArray(np.zeros(p.shape, np.uint8))
    grid.SetSpacing((2.0, 2.0, 2.0))
    card = {"calibration": {}}
    one, every = (
        volume_assessment.assess("x", p, p, labelled, None, grid, card, rule) for rule in ({"largest": 1}, None)
    )
    assert one.distribution.volume_ml == every.distribution.volume_ml == pytest.approx(labelled.sum() * ML)
    assert one.distribution.ml[-1] == pytest.approx(75 * ML) and every.distribution.ml[-1] == pytest.approx(
        (75 + 50) * ML
    )
    assert (
        sitk.GetArrayViewFromImage(one.inside)[5, 19, 19] == 0
        and sitk.GetArrayViewFromImage(every.inside)[5, 19, 19] == 20
    )
    assert one.quality.expected_dice > every.quality.expected_dice and one.inside.GetSpacing() == (2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="NaN"):
        volume_assessment.assess("x", np.where(p == 0.2, np.nan, p), p, labelled, None, grid, card)
    nothing = volume_assessment.assess("x", 0 * p, 0 * p, labelled & False, None, grid, card)
    assert set(nothing.distribution.ml) == {0.0} and np.isnan(nothing.quality.expected_dice)

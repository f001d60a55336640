"""Several daily scans at once: a result each, and a table and a page over the days."""

import csv
import json
import re

import pytest
import SimpleITK as sitk
from make_pair import make_patient

from rtuncertainty.cli import command_line
from rtuncertainty.report import course


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    for number, wave in ((1, 5.0), (2, -4.0)):
        planning, masks, daily, *_ = make_patient(shift=(3.0 * number, 0.0, 0.0), wave_mm=wave)
        sitk.WriteImage(daily, str(folder / f"monday{number}.nrrd"))
    sitk.WriteImage(planning, str(folder / "planning.nrrd"))
    labels = sum(sitk.Cast(m > 0, sitk.sitkUInt8) * k for k, m in enumerate(list(masks.values())[:2], 1))
    sitk.WriteImage(labels, str(folder / "labels.nrrd"))
    (folder / "labels.json").write_text(json.dumps({"Bladder": 1, "Rectum": 2}), encoding="utf-8")
    return folder


def arguments(files, output, *dailies):
    return [
        "propagate",
        *("--planning", str(files / "planning.nrrd"), "--structures", str(files / "labels.nrrd")),
        *(a for d in dailies for a in ("--daily", str(files / d))),
        *("--output", str(output), "--refine", "off", "--samples", "2", "--device", "cpu", "--progress", "json"),
    ]


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_course_of_daily_scans(files, tmp_path, capsys):
    """A scan that is missing is told at the end; the others are a result each, and together the course."""
    output = tmp_path / "course"
    assert command_line.main(arguments(files, output, "monday1.nrrd", "none.nrrd", "monday2.nrrd")) == 2
    said = capsys.readouterr()
    error = said.err.strip().splitlines()
    assert len(error) == 1 and "daily scan 2" in error[0] and "none.nrrd" in error[0] and "the other 2" in error[0]
    events = [json.loads(line) for line in said.out.splitlines()]
    overall = [e["overall"] for e in events if e["event"] == "progress"]
    assert overall == sorted(overall) and "Daily scan 3 of 3" in [e for e in events if "message" in e][-2]["message"]
    assert sorted(p.name for p in output.iterdir()) == ["course.csv", "course.html", "day_01", "day_03"]
    rows = read(output / "course.csv")
    assert tuple(rows[0]) == course.COLUMNS
    assert [(r["structure"], r["day"], r["daily"]) for r in rows] == [
        (name, day, scan) for name in ("Bladder", "Rectum") for day, scan in (("1", "monday1"), ("3", "monday2"))
    ]
    for row in rows:
        own = {r["structure"]: r for r in read(output / row["folder"] / "volumes.csv")}[row["structure"]]
        assert all(row[k] == own[k] for k in own) and float(row["sd_mm"]) > 0
        assert row["agreement"] in ("green", "amber", "red")
    text = (output / "course.html").read_text(encoding="utf-8")
    assert text.count("<svg") == 2 and "monday2" in text
    # the line has a point for the planning scan and one for each day
    lines = re.findall(r'<polyline points="([^"]*)" fill="none" stroke="#0072b2"', text)
    assert [len(points.split()) for points in lines] == [3, 3]


def test_a_scan_given_twice_is_refused_before_anything_is_done(files, tmp_path, capsys):
    assert command_line.main(arguments(files, tmp_path / "twice", "monday1.nrrd", "monday1.nrrd")) == 2
    assert "given twice" in capsys.readouterr().err and not (tmp_path / "twice").exists()


def test_names_of_structures_are_no_html_and_intervals_are_shaded():
    row = dict.fromkeys(course.COLUMNS, "") | {"structure": "<b>x</b>", "path": "propagated", "planning_ml": "10"}
    days = [
        row | {"day": "1", "volume_ml": "9", "lower_ml": "8", "upper_ml": "11", "agreement": "green"},
        row | {"day": "2", "volume_ml": "8", "lower_ml": "7", "upper_ml": "9", "agreement": "red"},
    ]
    text = course.page(days)
    assert "<b>x</b>" not in text and "&lt;b&gt;x&lt;/b&gt;" in text and "<polygon" in text
    assert "<polygon" not in course.page([days[0], row | {"day": "2", "volume_ml": "8"}])

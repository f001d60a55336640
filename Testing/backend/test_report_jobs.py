"""The report of every job: propagations and models that only segment; where a structure is least certain; what
tables tell.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from test_report import NASTY, Page, make_result, page_of

from rtuncertainty.cli import command_line
from rtuncertainty.report import build, context, data, pictures
from rtuncertainty.report.build import write_report
from rtuncertainty.report.structures import Part, Structure, around, least_certain

sys.path.append(str(Path(__file__).resolve().parents[1] / "slicer"))
import make_propagation
import make_review


def change(folder, **values) -> dict:
    """Change entries of a summary."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8")) | values
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return summary


def propagated(tmp_path, **options):
    """(result folder with all its files, planning CT, its structures file, daily CT)."""
    planning, structures, daily = make_propagation.case()
    folder = make_review.add_review_files(
        make_propagation.make_propagation(tmp_path / "r", planning, structures, daily, **options)
    )
    for name, image in (("planning", planning), ("daily", daily)):
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    sitk.WriteImage(make_propagation.structure_set.as_segmentation(structures), str(tmp_path / "s.seg.nrrd"))
    return folder, tmp_path / "planning.nii.gz", tmp_path / "s.seg.nrrd", tmp_path / "daily.nii.gz"


def test_a_propagation_has_its_sections(tmp_path):
    folder, planning, structures, daily = propagated(tmp_path)
    page = page_of(folder, daily, (structures, planning))
    assert page.titles == [
        "What to look at",
        "Structures and volumes",
        "Where to look: the flagged structures, where they are least certain",
        "Pictures",
        "The two scans and the deformation",
        "The model",
        "The run",
    ]
    for words in (
        "Propagated contours with uncertainty",
        "Planning CT planning to daily CT daily",
        "structures before you use them:",
        "correlation 0.81 as they lay; 0.90 after rigid alignment; 0.97 after deformation",
        "no tissue is turned inside out",
        "mean 1, SD 0.02, from 0.90 to 1.10",
        "Thin: planning contour",
        "dashed: the model's own contour",
        "Research use only",
    ):
        assert words in page.text, words
    # least agreement first
    rows = page.text[page.text.index("Structures and volumes") :]
    assert rows.index("Red") < rows.index("Amber") < rows.index("Green")
    assert page.overview == 5 * ["input", "input", "displacement_sd"] + [
        "warped_planning",
        "jacobian",
        "segmented_entropy",
    ]
    assert {"place-input", "place-displacement_sd"} < set(page.figures)
    assert all(image.std() > 3 for image in page.images)


def test_planning_contours_are_drawn_where_the_rigid_alignment_puts_them(tmp_path):
    folder, planning, structures, daily = propagated(tmp_path)
    plain = data.load(folder, daily, (structures, planning)).structures[0].contours["planning"]
    shift = (6.0, -3.0, 4.0)  # daily to planning points, mm, LPS: whole voxels
    change(folder, rigid={"angles_degrees": [0, 0, 0], "translation_mm": shift, "centre_mm": [0, 0, 200]})
    moved = data.load(folder, daily, (structures, planning)).structures[0].contours["planning"]
    step = [-s / mm for s, mm in zip(shift, make_propagation.SPACING)][::-1]
    assert [m.start - p.start for m, p in zip(moved.box, plain.box)] == step
    assert np.array_equal(moved.voxels, plain.voxels)
    # and without the files of the planning CT the result is whole all the same
    assert "planning" not in data.load(folder, daily, (tmp_path / "gone.seg.nrrd", None)).structures[0].contours


def test_a_propagation_without_samples_segmentation_or_daily_scan(tmp_path):
    folder = make_propagation.make_propagation(tmp_path / "r", segmented=False, samples=False)
    page = page_of(folder)
    assert (
        "input image was not given" in page.text
        and "displacement_sd" not in page.figures
        and "jacobian" in page.figures
    )
    assert "0.93" not in page.text and "SD (mm)" in page.text


def test_a_folding_deformation_is_said(tmp_path):
    folder = make_propagation.make_propagation(tmp_path / "r")
    change(folder, folding=0.0042)
    assert "0.42 % of the body: there the deformation is not possible" in page_of(folder).text


@pytest.fixture
def segmented(tmp_path):
    """A result of a model that only segments, and its MR."""
    mr = make_result(tmp_path, reference=False)
    summary = change(tmp_path)
    files = {k: v for k, v in summary["files"].items() if k in ("structures", "entropy", "body", "volumes", "flags")}
    model = summary["model"] | {"task": "segmentation", "outputs": {"structures": summary["structures"]}}
    change(tmp_path, job="predict", files=files, model=model)
    return tmp_path, mr


def test_a_model_that_only_segments_has_no_hounsfield_units(segmented):
    folder, mr = segmented
    page = page_of(folder, mr)
    assert "Structures with uncertainty" in page.text and "synthetic CT" not in page.text.replace("task", "")
    assert "Error bars in HU" not in page.text and "z-score" not in page.text
    assert page.overview == 5 * ["input", "input", "entropy"]
    assert {"place-input", "place-entropy"} <= set(page.figures)
    # without the image the maps lie on the body's outline, and the page says why
    page = page_of(folder)
    assert "not given" in page.text and "entropy" in page.figures and "input" not in page.figures


def test_a_model_without_any_uncertainty_has_a_report(tmp_path):
    mr = make_result(tmp_path)
    files = change(tmp_path)["files"]
    change(tmp_path, files={k: v for k, v in files.items() if not k.endswith("_sd") and k not in ("zscore", "entropy")})
    page = page_of(tmp_path, mr)
    assert {"synct", "reference", "error"} < set(page.figures) and "Uncertainty of the synthetic CT" not in page.text


def test_a_ct_is_shown_in_a_ct_window(segmented):
    folder, mr = segmented
    model = change(folder)["model"]
    model["input"]["modality"] = "CT"
    change(folder, model=model)
    page = page_of(folder, mr)
    assert "Input CT" in page.text and "CT window −160 to 240 HU" in page.text


def test_part_is_the_volume_that_it_was_made_of():
    random = np.random.default_rng(1)
    volume = np.zeros((9, 8, 7), np.uint8)
    volume[2:6, 3:7, 1:5] = random.integers(0, 3, (4, 4, 4))
    part = Part.of(volume)
    for where in (
        (3, slice(0, 8), slice(0, 7)),
        (slice(1, 9), 4, slice(2, 4)),
        (slice(0, 9), slice(5, 8), 3),
        (8, slice(0, 2), slice(0, 7)),
    ):
        assert np.array_equal(part[where], volume[where]), where
    assert np.array_equal(part.area(), np.count_nonzero(volume, (1, 2))) and not Part.of(np.zeros((2, 3, 4))).any()


def test_least_certain_is_where_the_contours_differ_then_where_the_volume_is_open_then_the_map():
    mask = np.zeros((20, 30, 30), bool)
    mask[5:15, 10:20, 10:20] = True
    other = mask.copy()
    other[12:15, 20:24, 12:18] = True
    inside = np.where(mask, 100, 0).astype(np.uint8)
    inside[6:9, 10:13, 10:13] = 50
    uncertainty = np.zeros(mask.shape, np.float32)
    uncertainty[10, 15, 19] = 5
    uncertainty[1, 1, 1] = 100  # far away from the contour, somebody else's
    contours = {"propagated": Part.of(mask), "segmented": Part.of(other)}
    s = Structure("a", (255, 0, 0), contours, "propagated", Part.of(inside))
    (z, y, x), reason = least_certain(s, (1, 1, 1), uncertainty)
    assert 12 <= z < 15 and 20 <= y < 24 and 12 <= x < 18 and "differ" in reason
    s.contours = {"propagated": contours["propagated"]}
    (z, y, x), reason = least_certain(s, (1, 1, 1), uncertainty)
    assert 6 <= z < 9 and 10 <= y < 13 and 10 <= x < 13 and "least certain" in reason
    s.inside = None
    assert least_certain(s, (1, 1, 1), uncertainty)[0] == (10, 15, 19)
    assert least_certain(s, (1, 1, 1))[0] == (9, 14, 14)
    assert least_certain(Structure("b", (0, 0, 0)), (1, 1, 1), uncertainty) is None


def test_the_field_of_a_place_holds_it_and_stays_in_the_volume():
    random = np.random.default_rng(2)
    for _ in range(50):
        shape, spacing = random.integers(5, 90, 3), random.uniform(0.8, 5, 3)
        low = [int(random.integers(0, n)) for n in shape]
        mask = np.zeros(shape, bool)
        mask[tuple(slice(a, a + int(random.integers(1, 40))) for a in low)] = True
        s = Structure("a", (255, 0, 0), {"structure": Part.of(mask)})
        place = tuple(int(v) for v in random.permutation(np.argwhere(mask))[0])
        box = pictures.field_of(s, place, mask.shape, spacing)
        for at, b, n, step in zip(place, box, mask.shape, reversed(spacing)):
            assert 0 <= b.start <= at < b.stop <= n
            assert b.stop - b.start == n or (b.stop - b.start) * step >= pictures.EDGES_MM[0] - 1e-9
        assert around(s, spacing, 0) is not None


def test_the_table_of_structures_says_levels_calibration_and_quality(tmp_path):
    make_result(tmp_path)
    change(tmp_path, files=change(tmp_path)["files"] | {"volume_intervals": "i.csv", "quality": "q.csv"})
    (tmp_path / "i.csv").write_text(
        "structure,level,lower_ml,upper_ml,calibrated,cases,note\nbone,0.8,125,138,yes,41,\n"
        "bone,0.9,120,142,yes,41,\ngtv,0.9,0,80,no,0,too few cases\n",
        encoding="utf-8",
    )
    (tmp_path / "q.csv").write_text(
        "structure,expected_dice,dice_lower,dice_upper,calibrated,surface_entropy\n"
        "bone,0.91,0.88,0.94,yes,0.31\ngtv,0.62,,,no,\n",
        encoding="utf-8",
    )
    result = data.load(tmp_path)
    assert (
        context.interval(result, "bone", 0.8)["lower_ml"] == 125
        and context.interval(result, "bone", 0.8)["cases"] == 41
    )
    assert context.interval(result, "gtv")["lower_ml"] == 0  # zero is a number
    fallback = context.interval(result, "gtv", 0.8)  # a level that it lacks: the one of volumes.csv
    assert (fallback["level"], fallback["lower_ml"]) == (0.9, 41)
    html = build.page(result, 0.8)
    text = Page(html).text
    assert (
        "80% interval (ml)" in text
        and "bone 131 125 to 138 0.91 (0.88 to 0.94) 0.31" in text
        and "gtv 53.2 41 to 70.5 (90%) * 0.62 *" in text
    )
    assert "(41 cases)" in text and "no intervals at 80%" in text
    # the interval as a bar about the volume; the one that is not calibrated is dashed
    assert 'aria-label="−4.87 % to 5.02 %"' in html and html.count('stroke-dasharray="4 2"') == 1


def test_how_limits_did_on_validation_is_said(tmp_path):
    rows = {"interval_width": {"threshold": 0.4, "cases": 51, "caught": 9, "missed": 2, "false_alarms": 5}}
    make_result(tmp_path)
    model = change(tmp_path)["model"]
    assert "not tested on validation" in page_of(tmp_path).text
    change(
        tmp_path, model=model | {"calibration": {"flags": rows, "lights": {"red": {"msd_mm": rows["interval_width"]}}}}
    )
    text = page_of(tmp_path).text
    assert (
        "width of the interval / volume 0.40 11 of 51 contours 9 2 5" in text
        and "red: distance of the contours (mm)" in text
        and "not tested" not in text
    )


def test_what_was_flagged_is_pictured_and_the_worst_stands_first(tmp_path):
    folder, _, _, daily = propagated(tmp_path)
    result = data.load(folder, daily)
    lights = {r["structure"]: r["light"] for r in result.tables["structure_table"]}
    pictured = [e["name"] for e in context.places(result, context.flagged(result))["entries"]]
    assert set(pictured) == {n for n, light in lights.items() if light != "green"} and lights[pictured[0]] == "red"
    result.tables["flags"] = []  # no agreement is enough
    assert [f["subject"] for f in context.flagged(result)] == pictured
    for row in result.tables["structure_table"]:
        row["light"] = "green"
    assert context.verdict(result, context.flagged(result))[0] == "warning"  # an untrained model expects little
    result.tables["quality"] = []
    assert context.verdict(result, context.flagged(result))[0] == "good"
    found = context.places(result, [])
    assert "least certain structure" in found["title"] and len(found["entries"]) == 1


def test_dose_curves_beside_a_result_are_drawn_with_their_bands(tmp_path):
    make_result(tmp_path)
    lines = [
        f"bone,{d / 2},{100 * math.exp(-d / 40):.3f},{90 * math.exp(-d / 40):.3f},{100 * math.exp(-d / 44):.3f}"
        for d in range(120)
    ]
    (tmp_path / data.DVH).write_text(
        "\n".join(["structure,dose_gy,volume_percent,lower_percent,upper_percent", *lines, ""]), encoding="utf-8"
    )
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert "dose (Gy)" in html and "<polygon" in html and "Dose" in Page(html).titles
    result = data.load(tmp_path)
    assert result.dvh[0]["dose"][-1] == 59.5 and result.dvh[0]["upper"][0] == 100
    assert "<polygon" in build.dvh_drawing(result.dvh)


def test_nothing_of_a_propagation_is_taken_for_html(tmp_path):
    folder, _, _, daily = propagated(tmp_path, names=("planning", NASTY))
    result = data.load(folder, daily)
    result.reviews = [{"structure": NASTY, "decision": NASTY, "comment": NASTY, "reviewer": NASTY, "time": NASTY}]
    result.patient = {NASTY: NASTY}
    for s in result.structures:
        s.name = s.description = NASTY
    for rows in result.tables.values():
        for row in rows:
            row.update(
                {
                    k: NASTY
                    for k, v in row.items()
                    if isinstance(v, str)
                    and k in ("structure", "subject", "flag", "reason", "note", "light", "default")
                }
            )
    html = build.page(result)
    assert "<script" not in html and Page(html).text.count("<script>") > 10


def test_both_jobs_take_the_option():
    for job in (
        ["predict", "--model", "m", "--input", "i"],
        ["propagate", "--model", "m", "--planning", "p", "--structures", "s", "--daily", "d"],
    ):
        assert command_line.parser().parse_args([*job, "--output", "o", "--report"]).report
        assert not command_line.parser().parse_args([*job, "--output", "o"]).report

"""The report of a prediction: every section and picture, names escaped, right aspect and orientation, with and
without a reference."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from rtuncertainty.core import geometry
from rtuncertainty.core.errors import InputError
from rtuncertainty.phantoms import limb as phantom
from rtuncertainty.report import context, details, figures, pictures
from rtuncertainty.report import data as report_data
from rtuncertainty.report.build import write_report
from rtuncertainty.report.structures import Part, Structure
from rtuncertainty.results import tables as result_tables
from rtuncertainty.uncertainty import metrics

ROW = ["input", "synct", "predictive_sd"]
FURTHER, COMPARED = ["intrinsic_sd", "parameter_sd", "entropy"], ["reference", "error", "zscore"]
NASTY = "<script>alert('x')</script>&\"mr\""


def make_result(folder, reference=True, direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), nasty=False, size=(40, 36, 12)):
    """A result folder as `predict` writes it, from a small digital limb; returns the MR."""
    limb = phantom.digital_limb(3, size=size, spacing=(3.2, 3.2, 8.0), direction=direction)
    grid, rng = limb.ct, np.random.default_rng(0)
    ct = sitk.GetArrayFromImage(limb.ct).astype(np.float32)
    labels = sitk.GetArrayFromImage(limb.labels)
    body = ct > -400
    intrinsic = np.where(body, 20 + 0.05 * np.abs(ct), 1).astype(np.float32)
    parameter = np.where(body, 8.0, 0.5).astype(np.float32)
    sd = np.hypot(intrinsic, parameter)
    synct = ct + rng.normal(0, sd)
    name = NASTY if nasty else "bone"
    images = {
        "synct": (synct, "synct", np.int16),
        "intrinsic_sd": (intrinsic, "synct_intrinsic_sd", np.float32),
        "parameter_sd": (parameter, "synct_parameter_sd", np.float32),
        "predictive_sd": (sd, "synct_predictive_sd", np.float32),
        "structures": (labels, "structures", np.uint8),
        "entropy": (0.5 * (labels > 0), "structures_entropy", np.float32),
        "body": (body, "body", np.uint8),
    }
    if reference:
        images |= {
            "reference": (ct, "reference_ct", np.int16),
            "error": (np.where(body, synct - ct, 0), "error", np.float32),
            "zscore": (np.where(body, (synct - ct) / sd, 0), "zscore", np.float32),
        }
    files = {"probabilities": {}, "volumes": "volumes.csv", "flags": "flags.csv"}
    folder.mkdir(parents=True, exist_ok=True)
    for key, (array, stem, dtype) in images.items():
        files[key] = f"{stem}.nii.gz"
        sitk.WriteImage(geometry.like(array, grid, dtype), str(folder / files[key]))
    if reference:
        files["metrics"] = "metrics.csv"
        rows = result_tables.of_metrics(metrics.evaluate(synct, sd, ct, body, spacing=grid.GetSpacing()))
        (folder / "metrics.csv").write_text(
            result_tables.text(result_tables.COLUMNS["metrics"], rows), encoding="utf-8"
        )
    (folder / "volumes.csv").write_text(
        "structure,volume_ml,lower_ml,upper_ml,level,calibrated\n"
        + ("" if nasty else "bone,131.4,124.2,139.9,0.9,yes\n")
        + "gtv,53.2,41,70.5,0.9,no\n",
        encoding="utf-8",
    )
    reason = NASTY.replace('"', '""')
    (folder / "flags.csv").write_text(
        "subject,severity,flag,reason\nbone,info,cut off,It reaches the edge.\n"
        f'gtv,serious,uncertain volume,"{reason if nasty else "The interval is wide."}"\n',
        encoding="utf-8",
    )
    summary = {
        "format": 1,
        "name": f"model on {NASTY if nasty else 'mr'}",
        "created": "2026-01-02T03:04:05+00:00",
        "input": {
            "path": "mr.nii.gz",
            "name": NASTY if nasty else "mr",
            "size": list(size),
            "spacing_mm": [3.2, 3.2, 8.0],
        },
        "model": {
            "name": "m",
            "version": "0.1.0",
            "title": NASTY if nasty else "A title",
            "task": "synthetic CT",
            "input": {"modality": "MR", "spacing_range_mm": [[0.5, 0.5, 1], [1.6, 1.6, 6]]},
            "training": {"cases": 22, "data": "Limbs", "phantom": False},
            "accuracy": {"cases": "validation patients", "n": 5, "table": {"MAE body (HU)": 43.25}},
            "calibration": {"synct": {"z_mean": 0.04, "z_sd": 1.3, "n": 5}, "volumes": None},
            "intended_use": "Research use only.",
            "weights": {"sha256": "ab12" * 16},
            "folder": "/secret/place",
        },
        "options": {"samples": 20, "seed": 77, "device": "auto", "bias_field": "auto"},
        "device_used": "cpu",
        "bias_field_corrected": False,
        "notes": [NASTY] if nasty else ["N4 was not needed."],
        "level": 0.9,
        "files": files,
        "structures": [
            {"name": name, "label": 1, "color": [241, 214, 145]},
            {"name": "gtv", "label": 2, "color": [230, 80, 60]},
        ],
        "seconds": {"read": 0.5, "network": 9.5},
        "versions": {"rtuncertainty": "0.1.0", "torch": "2.9.0"},
    }
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return limb.mr


class Page(HTMLParser):
    """Checks that tags are balanced, and collects pictures, tags and text."""

    VOID = {"meta", "img", "br", "line", "rect", "path", "polygon", "polyline", "circle"}

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.images, self.words, self.figures, self.titles = [], [], [], [], [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag == "figure":
            self.figures.append(attributes["data-image"])
        if tag == "img":
            kind, data = attributes["src"].split(",", 1)
            assert kind == "data:image/png;base64"
            self.images.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))))
        if tag == "h2":
            self.titles.append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] == "h2":
            self.titles[-1] += text
        if not self.open or self.open[-1] != "style":
            self.words.append(text)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    @property
    def overview(self):
        """What the pictures of whole slices show."""
        return [key for key in self.figures if not key.startswith("place-")]


def page_of(folder, *inputs) -> Page:
    return Page(write_report(folder, *inputs).read_text(encoding="utf-8"))


@pytest.mark.parametrize("reference", [True, False])
def test_every_section_and_picture_is_there_in_reading_order(tmp_path, reference):
    mr = make_result(tmp_path, reference)
    assert write_report(tmp_path, mr) == tmp_path / "report.html"
    page = page_of(tmp_path, mr)
    assert page.titles == [
        "What to look at",
        "Structures and volumes",
        "Where to look: the flagged structures, where they are least certain",
        "Pictures",
        "Uncertainty of the synthetic CT",
        *["Against the reference CT"] * reference,
        "The model",
        "The run",
    ]
    # three axial slices, a coronal and a sagittal cut; then the parts of the uncertainty, once
    assert page.overview == 5 * ROW + FURTHER + (COMPARED if reference else [])
    # before them the flagged structure, in three planes and with its uncertainty
    assert page.figures[:6] == 3 * ["place-synct"] + 3 * ["place-entropy"] and len(page.overview) + 6 == len(
        page.figures
    ) == len(page.images)
    assert all(image.std() > 5 for image in page.images)  # none is empty
    assert ("z-scores in the body" in page.text) == reference and (
        "Axial slice" in page.text and "Coronal cut" in page.text
    )


def test_the_verdict_stands_first_and_the_worst_flag_before_others(tmp_path):
    text = page_of(tmp_path, make_result(tmp_path)).text
    assert "Check 1 of 2 structures before you use them: gtv (serious)." in text
    assert (
        text.index("Not a medical device")
        < text.index("Check 1 of 2")
        < text.index("What to look at")
        < text.index("It reaches the edge")
    )
    assert text.index("The interval is wide.") < text.index("It reaches the edge.")  # serious before info
    (tmp_path / "flags.csv").write_text("subject,severity,flag,reason\n", encoding="utf-8")
    assert "None of the 2 structures was flagged as a warning; that is no proof" in page_of(tmp_path).text
    (tmp_path / "flags.csv").write_text(
        "subject,severity,flag,reason\nimage,warning,unlike the training data,Noise.\n", encoding="utf-8"
    )
    assert "also flagged: image (unlike the training data)." in page_of(tmp_path).text


def test_error_bars_that_miss_the_reference_are_not_green(tmp_path):
    """Where the SD images are a fifth of the errors, and where they are as large."""
    make_result(tmp_path)
    (tmp_path / "flags.csv").write_text("subject,severity,flag,reason\n", encoding="utf-8")
    data = report_data.load(tmp_path)
    for share, colour in (("89.1", "good"), ("80.5", "good"), ("31.4", "warning")):
        data.tables["metrics"] = [
            {"region": "body", "metric": "coverage of 90 % intervals", "value": share, "unit": "%"},
            {"region": "bone", "metric": "coverage of 50 % intervals", "value": "10", "unit": "%"},
        ]
        severity, words = context.verdict(data, [])
        assert severity == colour and ("too small" in words) == (colour == "warning")
    assert "cover 31 % in body" in words and "None of the 2 structures was flagged" in words


def test_a_contour_that_the_model_itself_does_not_expect_is_not_green(tmp_path):
    make_result(tmp_path)
    (tmp_path / "flags.csv").write_text("subject,severity,flag,reason\n", encoding="utf-8")
    data = report_data.load(tmp_path)
    name = data.shown()[0].name
    for dice, colour in (("", "good"), ("0.81", "good"), ("0.07", "warning")):
        data.tables["quality"] = [
            {"structure": name, "expected_dice": dice},
            {"structure": "no such", "expected_dice": 0},
        ]
        severity, words = context.verdict(data, [])
        assert severity == colour and ("expects a Dice of only" in words) == (colour == "warning")
    assert words.endswith(f" The model itself expects a Dice of only 0.07 for {name}.")


def test_a_review_is_part_of_the_verdict(tmp_path):
    make_result(tmp_path)
    data = report_data.load(tmp_path)
    data.reviews = [
        {
            "structure": "bone",
            "decision": "edited",
            "comment": "cut at the knee",
            "reviewer": "MZ",
            "time": "2026-01-02T03:04:05",
        },
        {"structure": "gtv", "decision": "open", "comment": "", "reviewer": "", "time": ""},
    ]
    flags = context.flagged(data)
    assert context.verdict(data, flags) == (
        "serious",
        "Check 1 of 2 structures before you use them: gtv (serious). "
        "1 of 2 structures were reviewed: 1 accepted after editing.",
    )
    data.reviews[1]["decision"] = "accepted"
    assert context.verdict(data, flags) == (
        "good",
        "Every flagged structure was reviewed. 2 of 2 structures were reviewed: 1 accepted, 1 accepted after editing.",
    )
    data.reviews[1]["decision"] = "rejected"
    assert (
        context.verdict(data, flags)[0] == "serious"
        and "1 accepted after editing, 1 rejected (gtv)." in context.verdict(data, flags)[1]
    )
    data.reviews[1]["decision"] = "open"
    accepted = np.zeros(data.body.shape, bool)
    accepted[2, 3:5, 4:9] = True
    data.structures[0].contours["accepted"] = Part.of(accepted)
    rows = context.reviews(data)["rows"]
    assert rows[0][2]["text"] == figures.number(
        10 * 3.2 * 3.2 * 8 / 1000
    )  # of the contour that was accepted, not the model's
    assert (
        rows[0][1:2] + rows[0][3:] == ["accepted after editing", "cut at the knee", "MZ", "2026-01-02 03:04"]
        and rows[1][1] == "not reviewed"
    )


def test_what_a_reader_must_be_told_is_told(tmp_path):
    page = page_of(tmp_path, make_result(tmp_path))
    for words in (
        "not for clinical decisions",
        "N4 was not needed.",
        "22 cases: Limbs",
        "MAE body (HU) 43.2",
        "too narrow; true errors were about 1.30 times",
        "ab12" * 16,
        "20, 77",
        "network 9.5 s (95 %)",
        "torch 2.9.0",
        "bone 131 124 to 140 cut off",
        "gtv 53.2 41 to 70.5 * uncertain volume",
        "* Not calibrated",
        "not tested on validation patients",
    ):
        assert words in page.text, words
    # the model and the versions stand at the end
    assert page.text.index("Against the reference CT") < page.text.index("SHA-256") < page.text.index("torch 2.9.0")
    assert "/secret/place" not in write_report(tmp_path).read_text(encoding="utf-8")


def test_names_are_escaped_and_nothing_is_fetched(tmp_path):
    mr = make_result(tmp_path, nasty=True)
    html = write_report(tmp_path, mr).read_text(encoding="utf-8")
    page = Page(html)
    assert "<script" not in html and "&lt;script&gt;" in html
    assert not [t for t, _ in page.tags if t in ("script", "link", "iframe", "object")]
    assert page.text.count("<script>alert('x')</script>") >= 4  # input, title, note, reason, structure: shown as text
    for _tag, attributes in page.tags:
        assert not [a for a in attributes if a.startswith("on") or a == "href"]
        assert attributes.get("src", "data:").startswith("data:")
    assert not re.search(r"https?://|@import|url\(", html)


def test_a_comma_in_a_name_stays_in_its_cell(tmp_path):
    make_result(tmp_path)
    table = (tmp_path / "volumes.csv").read_text(encoding="utf-8").replace("gtv,", '"GTV, left",')
    (tmp_path / "volumes.csv").write_text(table, encoding="utf-8")
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8").replace('"gtv"', '"GTV, left"'))
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    assert "GTV, left 53.2 41 to 70.5 *" in page_of(tmp_path).text


def test_without_the_input_it_says_so_and_finds_one_by_an_absolute_path(tmp_path):
    mr = make_result(tmp_path)
    page = page_of(tmp_path)
    assert "input" not in page.figures and "input image was not given" in page.text
    sitk.WriteImage(mr, str(tmp_path / "given.nii.gz"))
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    summary["input"]["path"] = str(tmp_path / "given.nii.gz")
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert Page(html).figures.count("input") == 5 and str(tmp_path) not in html


def test_pictures_have_square_pixels_on_an_anisotropic_oblique_grid(tmp_path):
    angle = np.deg2rad(20)
    direction = (1, 0, 0, 0, np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle))
    mr = make_result(tmp_path, direction=direction)
    page = page_of(tmp_path, mr)
    assert "tilted by 20°" in page.text
    box = pictures.box_of(report_data.load(tmp_path).body, (3.2, 3.2, 8.0))
    z, y, x = ((s.stop - s.start) * mm for s, mm in zip(box, (8.0, 3.2, 3.2)))
    wholes = [i.shape for key, i in zip(page.figures, page.images) if not key.startswith("place-")]
    for shape, wanted in zip(wholes, [(y, x)] * 9 + [(z, x)] * 3 + [(z, y)] * 3, strict=False):
        assert (shape[0] - figures.LEGEND) / shape[1] == pytest.approx(wanted[0] / wanted[1], rel=0.02)


def test_a_sagittal_acquisition_is_shown_in_patient_axes(tmp_path):
    mr = make_result(tmp_path / "axial")
    make_result(tmp_path / "sagittal")
    for path in (tmp_path / "sagittal").glob("*.nii.gz"):
        sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), "PIR"), str(path))
    first, second = page_of(tmp_path / "axial", mr), page_of(tmp_path / "sagittal", sitk.DICOMOrient(mr, "PIR"))
    assert first.figures == second.figures
    assert all(np.array_equal(a, b) for a, b in zip(first.images, second.images))


def test_views_put_the_right_at_the_left_and_the_head_at_the_top():
    volume = np.zeros((10, 12, 14), np.float32)
    volume[8:, :3, 11:] = 1  # towards the head, the front and the patient's left
    box = tuple(slice(0, n) for n in volume.shape)
    corners = {"axial": (9, (0, -1)), "coronal": (1, (0, -1)), "sagittal": (12, (0, 0))}
    for plane, (index, (row, column)) in corners.items():
        cut = figures.View(plane, index, box, (1, 1, 2)).cut(volume)
        assert cut[row, column] == 1 and cut.sum() < 0.2 * cut.size
        assert cut[-1 - row, column] == 0 and cut[row, -1 if column == 0 else 0] == 0


def test_an_outline_follows_the_border_and_is_the_same_of_a_part():
    z, y, x = np.mgrid[0:12, 0:30, 0:26]
    ball = (z - 6) ** 2 / 9 + (y - 12) ** 2 / 30 + (x - 14) ** 2 / 50 < 1
    for plane, index in (("axial", 6), ("coronal", 12), ("sagittal", 14)):
        view = figures.View(plane, index, tuple(slice(1, n - 1) for n in ball.shape), (1.0, 1.2, 3.0))
        line, inside = view.outline(ball), view.cut(ball) > 0.5
        assert np.array_equal(line, view.outline(Part.of(ball))) and (line & inside).any() and (line & ~inside).any()
        assert not (view.outline(ball, thin=True) & ~inside).any() and line.sum() < 0.1 * line.size
        assert 0.35 < (line & figures.dashes(line, 7.0)).sum() / line.sum() < 0.65
    assert not view.outline(np.zeros_like(ball)).any()


def test_contours_and_crosses_are_drawn_where_they_are():
    mask = np.zeros((10, 20, 30), bool)
    mask[7, 4:9, 20:26] = True
    structure = Structure("a", (10, 200, 30), {"structure": Part.of(mask)})
    for plane, index in (("axial", 7), ("coronal", 4), ("sagittal", 22)):
        view = figures.View(plane, index, (slice(2, 10), slice(0, 15), slice(10, 30)), (1.0, 1.0, 2.0))
        row, column = view.pixel((7, 6 if plane != "coronal" else 4, 22))
        assert view.cut(mask)[int(row), int(column)] > 0.5
        drawn = figures.draw(
            view,
            np.zeros((*view.shape, 3), np.uint8),
            figures.contour_lines(view, [structure]),
            "t",
            "k",
            cross=(7, 4, 22),
        )
        pixels = np.asarray(Image.open(io.BytesIO(drawn.png))).astype(int)
        assert (np.abs(pixels - (10, 200, 30)).sum(-1) == 0).any() and tuple(
            pixels[int(view.pixel((7, 4, 22))[0]), 1]
        ) == figures.LIGHT


def test_chosen_slices_are_the_uncertain_the_large_and_the_middle(tmp_path):
    make_result(tmp_path, size=(40, 36, 40))
    data = report_data.load(tmp_path)
    data.images["predictive_sd"] = data.images["predictive_sd"].copy()
    data.images["predictive_sd"][31] += 500

    def set_structure(*boxes):
        labels = np.zeros(data.body.shape, bool)
        for box in boxes:
            labels[box] = True
        data.structures = [Structure("gtv", (255, 0, 0), {"structure": Part.of(labels)})]

    set_structure((8, slice(5, 20), slice(5, 20)), (9, slice(5, 8), slice(5, 8)))
    chosen = pictures.chosen_slices(data)
    assert [index for index, _ in chosen] in ([31, 19, 8], [31, 20, 8])
    assert "uncertainty" in chosen[0][1] and "structures" in chosen[2][1]
    set_structure((31, slice(5, 20), slice(5, 20)), (15, slice(5, 10), slice(5, 10)))
    assert 15 in [index for index, _ in pictures.chosen_slices(data)]  # 31 is taken, so the next largest


def test_one_slice_and_no_structure_still_make_a_page(tmp_path):
    mr = make_result(tmp_path, size=(40, 36, 1))
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    summary["structures"] = []
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    page = page_of(tmp_path, mr)
    assert "none found" in page.text and "Axial slice 1 of 1" in page.text


def test_incomplete_folders_are_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="no summary.json"):
        write_report(tmp_path)
    make_result(tmp_path)
    (tmp_path / "body.nii.gz").write_bytes(b"not an image")
    with pytest.raises(InputError, match="body.nii.gz"):
        write_report(tmp_path)
    mr = make_result(tmp_path)
    mr.SetOrigin((50, 0, 0))
    with pytest.raises(InputError, match="'input'"):
        write_report(tmp_path, mr)


def test_without_jinja2_it_says_what_to_install(tmp_path, monkeypatch):
    import sys

    mr = make_result(tmp_path)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match=r"jinja2: install it .*pip_install"):
        write_report(tmp_path, mr)


def test_numbers_ticks_and_colours():
    assert [figures.number(v) for v in (0, 1234.4, 12345.6, -57.52, 0.4567, 0.0046, float("nan"))] == [
        "0",
        "1234",
        "12\u202f346",
        "−57.5",
        "0.46",
        "0.0046",
        "–",
    ]
    assert figures.ticks(0, 300, 4) == [0, 100, 200, 300] and figures.ticks(-250, 500, 4) == [-200, 0, 200, 400]
    assert [figures.round_up(v) for v in (0.93, 211, 300, 0)] == [1, 250, 300, 1]
    anchors = figures.COLORS["predictive"]
    shown = figures.colored(np.array([-5.0, 0, 50, 100, 1e9, np.nan]), figures.Scale("predictive", 0.0, 100.0))
    assert [tuple(c) for c in shown] == [anchors[i] for i in (0, 0, 3, 6, 6, 0)]
    for name in set(figures.COLORS) - {"signed"}:  # reads in grey and with any colour vision
        light = figures.colored(np.linspace(0, 1, 50), figures.Scale(name, 0.0, 1.0)) @ np.array(
            [0.2126, 0.7152, 0.0722]
        )
        assert (np.diff(light) > -0.6).all(), name


def test_calibration_in_words():
    assert "Never checked" in details.calibration({"synct": None})
    assert "about right" in details.calibration({"synct": {"z_sd": 1.05, "z_mean": 0.0, "n": 5}})
    assert "too wide" in details.calibration({"synct": {"z_sd": 0.6, "z_mean": 0.0, "n": 5}})

"""The report: every picture in it, names escaped, right aspect and orientation, with and without a reference."""

import base64
import json
import re
import struct
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest
import SimpleITK as sitk
from rtuncertainty.report import charts, colormaps, data as report_data, pictures, text as report_text
from rtuncertainty.core import geometry
from rtuncertainty.results import tables as result_tables
from rtuncertainty.uncertainty import metrics
from rtuncertainty.phantoms import limb as phantom
from rtuncertainty.core.errors import InputError
from rtuncertainty.report.build import write_report
from rtuncertainty.report.structures import Part, Structure

ALWAYS = {"input", "synct", "predictive_sd", "intrinsic_sd", "parameter_sd", "entropy"}
COMPARED = {"reference", "error", "zscore"}
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
        "synct": (synct, "synct", np.int16), "intrinsic_sd": (intrinsic, "synct_intrinsic_sd", np.float32),
        "parameter_sd": (parameter, "synct_parameter_sd", np.float32), "predictive_sd": (sd, "synct_predictive_sd", np.float32),
        "structures": (labels, "structures", np.uint8), "entropy": (0.5 * (labels > 0), "structures_entropy", np.float32),
        "body": (body, "body", np.uint8)}
    if reference:
        images |= {"reference": (ct, "reference_ct", np.int16), "error": (np.where(body, synct - ct, 0), "error", np.float32),
                   "zscore": (np.where(body, (synct - ct) / sd, 0), "zscore", np.float32)}
    files = {"probabilities": {}, "volumes": "volumes.csv", "flags": "flags.csv"}
    folder.mkdir(parents=True, exist_ok=True)
    for key, (array, stem, dtype) in images.items():
        files[key] = f"{stem}.nii.gz"
        sitk.WriteImage(geometry.like(array, grid, dtype), str(folder / files[key]))
    if reference:
        files["metrics"] = "metrics.csv"
        rows = result_tables.of_metrics(metrics.evaluate(synct, sd, ct, body, spacing=grid.GetSpacing()))
        (folder / "metrics.csv").write_text(result_tables.text(result_tables.COLUMNS["metrics"], rows), encoding="utf-8")
    (folder / "volumes.csv").write_text(
        "structure,volume_ml,lower_ml,upper_ml,level,calibrated\n"
        + ("" if nasty else "bone,131.4,124.2,139.9,0.9,yes\n") + "gtv,53.2,41,70.5,0.9,no\n", encoding="utf-8")
    reason = NASTY.replace('"', '""')
    (folder / "flags.csv").write_text(
        "subject,severity,flag,reason\nbone,info,cut off,It reaches the edge.\n"
        f'gtv,serious,uncertain volume,"{reason if nasty else "The interval is wide."}"\n', encoding="utf-8")
    summary = {
        "format": 1, "name": f"model on {NASTY if nasty else 'mr'}", "created": "2026-01-02T03:04:05+00:00",
        "input": {"path": "mr.nii.gz", "name": NASTY if nasty else "mr", "size": list(size), "spacing_mm": [3.2, 3.2, 8.0]},
        "model": {"name": "m", "version": "0.1.0", "title": NASTY if nasty else "A title", "task": "synthetic CT",
                  "input": {"modality": "MR", "spacing_range_mm": [[0.5, 0.5, 1], [1.6, 1.6, 6]]},
                  "training": {"cases": 22, "data": "Limbs", "phantom": False},
                  "accuracy": {"cases": "validation patients", "n": 5, "table": {"MAE body (HU)": 43.25}},
                  "calibration": {"synct": {"z_mean": 0.04, "z_sd": 1.3, "n": 5}, "volumes": None},
                  "intended_use": "Research use only.", "weights": {"sha256": "ab12" * 16}, "folder": "/secret/place"},
        "options": {"samples": 20, "seed": 77, "device": "auto", "bias_field": "auto"}, "device_used": "cpu",
        "bias_field_corrected": False, "notes": [NASTY] if nasty else ["N4 was not needed."], "level": 0.9, "files": files,
        "structures": [{"name": name, "label": 1, "color": [241, 214, 145]}, {"name": "gtv", "label": 2, "color": [230, 80, 60]}],
        "seconds": {"read": 0.5, "network": 9.5}, "versions": {"rtuncertainty": "0.1.0", "torch": "2.9.0"}}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return limb.mr


class Page(HTMLParser):
    """Checks that tags are balanced, and collects pictures, tags and text."""

    VOID = {"meta", "img", "br", "line", "rect", "stop", "polyline", "circle", "link"}

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.images, self.words, self.figures = [], [], [], [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag == "figure":
            self.figures.append(attributes["data-image"])
        if tag == "img":
            self.images.append(decode(attributes["src"]))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if not self.open or self.open[-1] != "style":
            self.words.append(text)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def decode(address):
    """The pixels of a data: address, decoded by hand."""
    kind, data = address.split(",", 1)
    assert kind == "data:image/png;base64"
    return decode_png(base64.b64decode(data))


def decode_png(file):
    assert file[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, depth, colour = struct.unpack(">IIBB", file[16:26])
    assert (depth, colour) == (8, 2)
    start = file.index(b"IDAT")
    length = struct.unpack(">I", file[start - 4:start])[0]
    assert struct.unpack(">I", file[start + 4 + length:start + 8 + length])[0] == zlib.crc32(file[start:start + 4 + length])
    raw = np.frombuffer(zlib.decompress(file[start + 4:start + 4 + length]), np.uint8).reshape(height, width * 3 + 1)
    assert (raw[:, 0] == 2).all()
    return np.cumsum(raw[:, 1:], axis=0, dtype=np.uint8).reshape(height, width, 3)


def test_png_is_read_back_by_another_reader(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (13, 7, 3), dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(pictures.png(rgb))
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.png"))), rgb)
    assert np.array_equal(decode_png(pictures.png(rgb)), rgb)


@pytest.mark.parametrize("reference", [True, False])
def test_every_picture_is_there(tmp_path, reference):
    mr = make_result(tmp_path, reference)
    path = write_report(tmp_path, mr)
    assert path == tmp_path / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    wanted = ALWAYS | (COMPARED if reference else set())
    overview = [key for key in page.figures if not key.startswith("place-")]
    axial = overview[:3 * len(wanted)]
    assert sorted(axial) == sorted(3 * list(wanted))
    assert overview[len(axial):] == 2 * ["synct", "predictive_sd", "error" if reference else "entropy"]
    # the flagged structure, in three planes and with its uncertainty
    assert page.figures[:6] == 3 * ["place-synct"] + 3 * ["place-entropy"] and len(overview) + 6 == len(page.figures)
    assert len(page.images) == len(page.figures)
    assert all(image.std() > 5 for image in page.images)  # none is empty
    assert ("Against the reference CT" in page.text) == reference == ("z-scores in the body" in page.text)
    assert "Axial slice" in page.text and "Coronal cut" in page.text and "Sagittal cut" in page.text


def test_what_a_reader_must_be_told_is_told(tmp_path):
    page = Page(write_report(tmp_path, make_result(tmp_path)).read_text(encoding="utf-8"))
    for told in ("not for clinical decisions", "N4 was not needed.", "22 cases: Limbs", "MAE body (HU) 43.2",
                 "too narrow; true errors were about 1.30 times", "ab12" * 16, "20, 77", "network 9.5 s (95 %)", "torch 2.9.0",
                 "bone 131 124 to 140 cut off", "gtv 53.2 41 to 70.5 * uncertain volume", "* Not calibrated.",
                 "not tested on validation patients"):
        assert told in page.text, told
    # the most severe flag stands first
    assert page.text.index("uncertain volume") < page.text.index("cut off")
    assert "/secret/place" not in write_report(tmp_path).read_text(encoding="utf-8")


def test_names_are_escaped_and_nothing_is_fetched(tmp_path):
    mr = make_result(tmp_path, nasty=True)
    html = write_report(tmp_path, mr).read_text(encoding="utf-8")
    page = Page(html)
    assert "<script" not in html and "&lt;script&gt;" in html
    assert not [t for t, _ in page.tags if t in ("script", "link", "iframe", "object")]
    assert page.text.count("<script>alert('x')</script>") >= 4  # input, title, note, reason, structure: shown as text
    for _, attributes in page.tags:
        assert not [a for a in attributes if a.startswith("on") or a == "href"]
        assert attributes.get("src", "data:").startswith("data:")
    assert not re.search(r"https?://|@import|url\((?!#)", html)


def test_without_the_input_it_says_so(tmp_path):
    make_result(tmp_path)
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "input" not in page.figures and "input image was not given" in page.text


def test_the_input_is_found_by_an_absolute_path_in_the_summary(tmp_path):
    mr = make_result(tmp_path)
    sitk.WriteImage(mr, str(tmp_path / "given.nii.gz"))
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    summary["input"]["path"] = str(tmp_path / "given.nii.gz")
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert Page(html).figures.count("input") == 3 and str(tmp_path) not in html


def test_pictures_have_square_pixels_on_an_anisotropic_oblique_grid(tmp_path):
    angle = np.deg2rad(20)
    direction = (1, 0, 0, 0, np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle))
    mr = make_result(tmp_path, direction=direction)
    page = Page(write_report(tmp_path, mr).read_text(encoding="utf-8"))
    assert "tilted by 20°" in page.text
    box = pictures.box_of(report_data.load(tmp_path).body, (3.2, 3.2, 8.0))
    z, y, x = ((s.stop - s.start) * mm for s, mm in zip(box, (8.0, 3.2, 3.2)))
    wholes = [(key, i.shape) for key, i in zip(page.figures, page.images) if not key.startswith("place-")]
    for (key, shape), wanted in zip(wholes, [(y, x)] * 27 + [(z, x)] * 3 + [(z, y)] * 3):
        assert shape[0] / shape[1] == pytest.approx(wanted[0] / wanted[1], rel=0.02), key


def test_a_sagittal_acquisition_is_shown_in_patient_axes(tmp_path):
    mr = make_result(tmp_path / "axial")
    make_result(tmp_path / "sagittal")
    for path in (tmp_path / "sagittal").glob("*.nii.gz"):
        sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), "PIR"), str(path))
    first = Page(write_report(tmp_path / "axial", mr).read_text(encoding="utf-8"))
    second = Page(write_report(tmp_path / "sagittal", sitk.DICOMOrient(mr, "PIR")).read_text(encoding="utf-8"))
    assert first.figures == second.figures
    assert all(np.array_equal(a, b) for a, b in zip(first.images, second.images))


def test_views_put_the_right_at_the_left_and_the_head_at_the_top():
    volume = np.zeros((10, 12, 14), np.float32)
    volume[8:, :3, 11:] = 1  # towards the head, the front and the patient's left
    box = tuple(slice(0, n) for n in volume.shape)
    corners = {"axial": (9, (0, -1)), "coronal": (1, (0, -1)), "sagittal": (12, (0, 0))}
    for plane, (index, (row, column)) in corners.items():
        cut = pictures.View(plane, box, (1, 1, 2)).cut(volume, index)
        assert cut[row, column] == 1 and cut.sum() < 0.2 * cut.size
        assert cut[-1 - row, column] == 0 and cut[row, -1 if column == 0 else 0] == 0


def test_outline_follows_the_border_only():
    mask = np.zeros((3, 30, 30), bool)
    mask[:, 10:20, 10:20] = True
    view = pictures.View("axial", (slice(0, 3), slice(0, 30), slice(0, 30)), (1, 1, 1), longest=300)
    line = view.outline(mask, 1)
    assert line[100 - 4:100 + 4, 150].any() and not line[140:160, 140:160].any() and not line[:90].any()
    assert 0.6 * 400 * 2 < line.sum() < 1.5 * 400 * 2
    assert not view.outline(np.zeros_like(mask), 1).any()


def test_chosen_slices_are_the_uncertain_the_large_and_the_middle(tmp_path):
    make_result(tmp_path, size=(40, 36, 40))
    result = report_data.load(tmp_path)
    result.images["predictive_sd"] = result.images["predictive_sd"].copy()
    result.images["predictive_sd"][31] += 500

    def set_structure(*boxes):
        labels = np.zeros(result.body.shape, bool)
        for box in boxes:
            labels[box] = True
        result.structures = [Structure("gtv", (255, 0, 0), {"structure": Part.of(labels)})]

    set_structure((8, slice(5, 20), slice(5, 20)), (9, slice(5, 8), slice(5, 8)))
    chosen = report_data.chosen_slices(result)
    assert [index for index, _ in chosen] == [31, 19, 8] or [index for index, _ in chosen] == [31, 20, 8]
    assert "uncertainty" in chosen[0][1] and "structures" in chosen[2][1]
    set_structure((31, slice(5, 20), slice(5, 20)), (15, slice(5, 10), slice(5, 10)))
    assert 15 in [index for index, _ in report_data.chosen_slices(result)]  # 31 is taken, so the next largest


def test_one_slice_and_no_structure_still_make_a_page(tmp_path):
    mr = make_result(tmp_path, size=(40, 36, 1))
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    summary["structures"] = []
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    page = Page(write_report(tmp_path, mr).read_text(encoding="utf-8"))
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


def test_numbers_and_ticks():
    assert [charts.number(v) for v in (0, 1234.4, 12345.6, -57.52, 0.4567, 0.0046, float("nan"))] == [
        "0", "1234", "12\u202f346", "−57.5", "0.46", "0.0046", "–"]
    assert charts.ticks(0, 300, 4) == [0, 100, 200, 300] and charts.ticks(-250, 500, 4) == [-200, 0, 200, 400]
    assert [pictures.nice_limit(v) for v in (0.93, 211, 300, 0)] == [1, 250, 300, 1]


def test_calibration_in_words():
    assert "Never checked" in report_text.calibration({"synct": None})
    assert "about right" in report_text.calibration({"synct": {"z_sd": 1.05, "z_mean": 0.0, "n": 5}})
    assert "too wide" in report_text.calibration({"synct": {"z_sd": 0.6, "z_mean": 0.0, "n": 5}})


@pytest.mark.parametrize("name", colormaps.names())
def test_colour_tables_rise_evenly_in_lightness(name):
    table = colormaps.table(name)
    assert table.shape == (256, 3) and table.dtype == np.uint8
    light = colormaps.rgb_to_lab(table.astype(float))[:, 0]
    if name == "signed":
        assert np.abs(light - light[::-1]).max() < 6 and light.argmax() in range(118, 138)
        light = light[:128]
    # rounding to 8 bits may undo a tenth; a smoothed step may be no more than 2.5 times another
    assert np.diff(light).min() > -0.6
    steps = np.diff(light[::16])
    assert steps.min() > 0 and steps.max() / steps.min() < 2.6


def test_colours_of_values():
    table = colormaps.table("predictive")
    shown = colormaps.apply(np.array([-5.0, 0, 50, 100, 1e9, np.nan]), "predictive", 0, 100)
    assert np.array_equal(shown, table[[0, 0, 128, 255, 255, 0]])
    lab = np.array([[50.0, 20, -30], [80, -10, 40]])
    assert colormaps.rgb_to_lab(colormaps.lab_to_rgb(lab)) == pytest.approx(lab, abs=1e-3)
    assert colormaps.rgb_to_lab(np.array([[255.0, 0, 0]]))[0] == pytest.approx([53.24, 80.09, 67.20], abs=0.05)

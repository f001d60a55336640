"""`commission` and `monitor` from folders to files: what is found of patients, what is written, resumed, refused; the
site's calibration in a prediction; drift of routine results.
"""

import json
import shutil

import make_dicom
import make_foreign
import make_site
import numpy as np
import pytest
import SimpleITK as sitk
from make_bundle import make_bundle
from make_pair import make_patient, make_propagation_bundle
from make_site import Site

from rtuncertainty.bundles import bundle
from rtuncertainty.cli import main
from rtuncertainty.commissioning import cases, monitor, run
from rtuncertainty.core import image_io
from rtuncertainty.core.errors import InputError
from rtuncertainty.core.scans import acquisition
from rtuncertainty.foreign.job import collect
from rtuncertainty.phantoms.limb import digital_limb
from rtuncertainty.results import Result, tables

CARDS = {
    "synct": {"input": {"modality": "MR"}, "outputs": {"synct": {}, "structures": []}},
    "organs": {"input": {"modality": "CT"}, "outputs": {"structures": []}},
    "propagation": {"input": {"modality": "CT"}, "outputs": {"deformation": {}, "structures": []}},
}


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"0" * 200)
    return folder


@pytest.mark.parametrize(
    "kind, names, found, missing, odd",
    [
        ("synct", ["mr.nii.gz", "ct.nii.gz"], {"image", "reference"}, [], 0),
        ("synct", ["T1.nrrd", "planCT.mha", "labels.nii.gz"], {"image", "reference", "structures"}, [], 0),
        ("synct", ["image.nii", "reference.nii"], {"image", "reference"}, [], 0),
        ("synct", ["mr.nii.gz", "ct.nii.gz", "gtv.nii.gz"], {"image", "reference"}, [], 0),
        ("synct", ["mr.nii.gz", "notes.txt"], {"image"}, ["reference"], 0),
        ("synct", ["mr.nii.gz", "t2.nii.gz", "ct.nii.gz"], {"reference"}, [], 1),
        ("organs", ["ct.nii.gz", "contours.seg.nrrd"], {"image", "structures"}, [], 0),
        ("organs", ["scan.nii.gz"], {"image"}, ["structures"], 0),
        (
            "propagation",
            ["planning_ct.nii.gz", "planning.seg.nrrd", "daily_ct.nii.gz", "daily.seg.nrrd"],
            {"planning", "planning structures", "daily", "daily structures"},
            [],
            0,
        ),
        (
            "propagation",
            ["planning/ct.nii.gz", "planning/labels.nii.gz", "day/ct.nii.gz", "day/labels.nii.gz"],
            {"planning", "planning structures", "daily", "daily structures"},
            [],
            0,
        ),
        ("propagation", ["ct1.nii.gz", "ct2.nii.gz"], set(), list("1234"), 0),
    ],
)
def test_what_is_found_of_a_patient(tmp_path, kind, names, found, missing, odd):
    touch(tmp_path / "all" / "one", *names)
    [case] = cases.find(tmp_path / "all", CARDS[kind])
    assert set(case.items) == found and len(case.missing) == len(missing) and len(case.odd) == odd
    assert case.usable == (not missing and not odd)


def test_folders_without_patients_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        cases.find(tmp_path / "none", CARDS["organs"])
    with pytest.raises(InputError, match="holds no folder"):
        cases.find(tmp_path, CARDS["organs"])


@pytest.fixture
def study(tmp_path):
    """(folder of patients, CT, MR): one patient with both series, of two frames of reference, and a structure set of
    the CT's in one folder."""
    home = tmp_path / "all" / "one"
    ct = make_dicom.ct()
    make_dicom.write_series(ct, tmp_path / "ct", Manufacturer="Maker", ManufacturerModelName="X1", KVP="120")
    mr = sitk.Cast(sitk.Abs(ct) + 1, sitk.sitkInt16)
    make_dicom.write_series(
        mr, tmp_path / "mr", "MR", root="1.2.826.0.1.3680043.10.999.3", MagneticFieldStrength="1.5", EchoTime="9"
    )
    home.mkdir(parents=True)
    for kind in ("ct", "mr"):
        for path in (tmp_path / kind).iterdir():
            shutil.copy(path, home / f"{kind}_{path.name}")
    middle = ct.TransformIndexToPhysicalPoint([n // 2 for n in ct.GetSize()])
    make_dicom.write_structure_set(home / "rs.dcm", [("bone", [make_dicom.circle(*middle, 8)])])
    return home.parent, ct, mr


def test_dicom_as_it_comes_mixed_in_one_folder(study, tmp_path):
    """Two series and a structure set in one folder are told apart, and each is read as if it were alone."""
    folder, ct, mr = study
    [case] = cases.find(folder, CARDS["synct"])
    assert case.usable and {r: i.kind for r, i in case.items.items()} == {
        "image": "MR",
        "reference": "CT",
        "structures": "structures",
    }
    for role, image in (("image", mr), ("reference", ct)):
        with case.items[role].place() as place:
            read = image_io.read(place)
            facts = acquisition.of(place)
        assert np.array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(image).astype(np.float32)), role
        assert not place.exists()
    assert facts == acquisition.of(tmp_path / "ct") and acquisition.scanner(facts) == "Maker X1"
    assert acquisition.of(tmp_path / "mr")["field_strength_t"] == 1.5
    other = facts | {"manufacturer": "Another", "kvp": 121.0}
    assert acquisition.differences(other, [facts]) == ["manufacturer Another (at commissioning Maker)"]


def test_structures_of_the_cts_frame_are_read_and_another_frame_is_said(study, monkeypatch):
    folder, ct, mr = study
    [case] = cases.find(folder, CARDS["synct"])
    made = Result({"job": "predict"}, {})
    monkeypatch.setattr("rtuncertainty.prediction.predict.predict", lambda given, *_, **__: image_io.read(given))
    monkeypatch.setattr("rtuncertainty.prediction.as_result.as_result", lambda _: made)
    result, reference, image = run._result(case, CARDS["synct"] | {"folder": ""}, {"samples": 2}, run.Progress())
    assert result is made and result.summary["acquisition"]["modality"] == "MR"
    assert sitk.GetArrayFromImage(image).min() >= 0 and reference.ct is not None
    assert sitk.GetArrayFromImage(reference.structures["bone"].mask).any()
    assert "different frames of reference" in reference.notes[0]


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    """(bundle of an untrained network, folder of three limbs, one that is broken and one without a CT, what a
    commissioning wrote)."""
    home = tmp_path_factory.mktemp("clinic")
    for seed in range(3):
        folder = home / "cases" / f"limb{seed}"
        digital_limb(seed, size=(32, 32, 6), spacing=(4.0, 4.0, 6.0)).write(folder)
        (folder / "labels.json").write_text('{"bone": 1, "gtv": 2}', encoding="utf-8")
    touch(home / "cases" / "broken", "mr.nii.gz", "ct.nii.gz")
    touch(home / "cases" / "lacks", "mr.nii.gz")
    model = make_bundle(home / "model")
    events = []
    options = {"samples": 2, "site_name": "Clinic", "person": "A. Physicist"}
    run.commission(model, home / "cases", home / "out", on_event=events.append, **options)
    left = [e["seconds_left"] for e in events if e["event"] == "progress" and e["stage"] == "network"]
    assert any(seconds is not None for seconds in left)
    return model, home / "cases", home / "out"


def test_what_a_commissioning_writes(clinic):
    _, _, output = clinic
    rows = {r["patient"]: r for r in tables.read(output / "cases.csv")}
    assert [n for n, r in rows.items() if r["used"] == "yes"] == ["limb0", "limb1", "limb2"]
    assert "mr.nii.gz" in rows["broken"]["odd"] and rows["lacks"]["missing"] == "reference"
    for name in ("site.json", "commissioning.html", "accuracy.csv", "coverage.csv", "limits.csv"):
        assert (output / name).is_file(), name
    assert not [p for p in output.rglob("*.part")]
    site = json.loads((output / "site.json").read_text(encoding="utf-8"))
    assert site["patients"] == 3 and "limb0" not in json.dumps(site) and "Clinic" in json.dumps(site)
    assert Result.read(output / "results" / "limb0").has("synct")
    html = (output / "commissioning.html").read_text(encoding="utf-8")
    assert html.count("<img") >= 3 and "broken" in html


def test_what_was_done_is_not_done_again(clinic, monkeypatch, capsys):
    model, folder, output = clinic
    site = json.loads((output / "site.json").read_text(encoding="utf-8"))

    def never(*_, **__):
        raise AssertionError("computed again")

    monkeypatch.setattr("rtuncertainty.prediction.predict.predict", never)
    monkeypatch.setattr("rtuncertainty.commissioning.constancy.test_case", lambda *_: site["constancy"]["test_case"])
    whole = output.parent / "whole"
    shutil.copytree(folder, whole, ignore=shutil.ignore_patterns("broken"), dirs_exist_ok=True)
    command = ["commission", "--model", str(model), "--cases", str(whole), "--output", str(output), "--samples", "2"]
    command += ["--site-name", "Clinic", "--person", "A. Physicist", "--progress", "none"]
    assert main(command) == 0, capsys.readouterr().err
    told = capsys.readouterr().out
    assert "lacks  LEFT OUT  no reference" in told and "too few for a recommendation" in told
    assert main([*command, "--list"]) == 0 and "limb2  used" in capsys.readouterr().out
    with pytest.raises(AssertionError):
        run.commission(model, whole, output, samples=3)  # another run of the model
    (whole / "limb0" / "labels.json").write_text('{"bone": 1}', encoding="utf-8")
    with pytest.raises(AssertionError):
        run.commission(model, whole, output, samples=2)  # another reference


def test_a_prediction_with_a_site(clinic, tmp_path, capsys):
    model, folder, output = clinic
    site = output / "site.json"
    made = ["predict", "--model", str(model), "--input", str(folder / "limb0" / "mr.nii.gz"), "--samples", "2"]
    made += ["--site", str(site), "--output", str(tmp_path / "r"), "--progress", "none", "--report"]
    assert main(made) == 0, capsys.readouterr().err
    summary = json.loads((tmp_path / "r" / "summary.json").read_text(encoding="utf-8"))
    known = json.loads(site.read_text(encoding="utf-8"))
    assert summary["site"]["site"] == "Clinic" and any("site Clinic (3 patients" in n for n in summary["notes"])
    stored = known["calibration"]["synct"]["recalibration"]["interval_factors"]["0.9"]
    assert summary["interval_factor"] == stored
    assert "site Clinic (3 patients" in (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    # another version of the model: one line, nothing is written
    file = tmp_path / "other.json"
    file.write_text(json.dumps(known | {"model": known["model"] | {"version": "9"}}), encoding="utf-8")
    made[made.index(str(site))] = str(file)
    made[made.index(str(tmp_path / "r"))] = str(tmp_path / "never")
    assert main(made) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1 and not (tmp_path / "never").exists()


def test_bad_places_are_one_line(clinic, tmp_path, capsys):
    model, folder, _ = clinic
    for output, place, said in (
        (folder / "inside", folder, "lies in the folder of the patients"),
        (tmp_path / "o", tmp_path / "none", "there is no such folder"),
        (tmp_path / "o", model, "holds no folder"),
    ):
        code = main(["commission", "--model", str(model), "--cases", str(place), "--output", str(output)])
        error = capsys.readouterr().err.strip()
        assert code == 2 and len(error.splitlines()) == 1 and said in error, error
    lacking = touch(tmp_path / "all" / "a", "mr.nii.gz").parent
    with pytest.raises(InputError, match="none of the 1 patients"):
        run.commission(model, lacking, tmp_path / "o")


def test_commissioning_of_a_propagation(tmp_path):
    model = make_propagation_bundle(tmp_path / "model")
    for seed in range(2):
        planning, given, daily, moved, _ = make_patient(seed=seed)
        folder = tmp_path / "cases" / f"pelvis{seed}"
        folder.mkdir(parents=True)
        names = {n: k for k, n in enumerate(given, 1)}
        for part, scan, masks in (("planning", planning, given), ("daily", daily, moved)):
            sitk.WriteImage(scan, str(folder / f"{part}.nii.gz"))
            # targets overlap organs: a label image holds the organs
            labels = sum(sitk.Cast(masks[n], sitk.sitkUInt8) * names[n] for n in ("Bladder", "Rectum"))
            sitk.WriteImage(labels, str(folder / f"{part}_labels.nii.gz"))
            table = json.dumps({n: names[n] for n in ("Bladder", "Rectum")})
            (folder / f"{part}_labels.json").write_text(table, encoding="utf-8")
    done = run.commission(model, tmp_path / "cases", tmp_path / "out", samples=2, site_name="Clinic")
    assert [e.patient for e in done.found] == ["pelvis0", "pelvis1"]
    e = done.found[0]
    assert set(e.structures) == {"bladder", "rectum"} and e.structures["bladder"]["dice"] > 0.7
    assert {a["structure"] for a in e.agreement} == {"bladder", "rectum"} and e.agreement[0]["true_msd_mm"] > 0
    assert "pelvis0" not in (tmp_path / "out" / "site.json").read_text(encoding="utf-8")
    assert 'class="pictures"' in (tmp_path / "out" / "commissioning.html").read_text(encoding="utf-8")


# -- routine


@pytest.fixture(scope="module")
def routine():
    """(site.json's content, card) of a site like the card."""
    card = make_site.card()
    found, charts = make_site.evidence(range(12), Site(), card)
    return run.conclude(found, charts, card, "Clinic").site, card


def results(folder, seeds, site: Site, card, **summary):
    for seed in seeds:
        result, _ = make_site.patient(seed, site, card)
        result.summary |= summary | {
            "site": {"site": "Clinic"},
            "created": f"2026-03-{seed % 28 + 1:02}T08:00:00+00:00",
        }
        result.write(folder / f"r{seed:03}")
    return folder


def watch(tmp_path, site, *folders, **options):
    file = tmp_path / "site.json"
    file.write_text(json.dumps(site), encoding="utf-8")
    return monitor(file, list(folders), tmp_path / "charts", **options)


# a recalibration once ran away to infinite scales
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_routine_like_the_commissioning_is_quiet(routine, tmp_path):
    site, card = routine
    found = watch(tmp_path, site, results(tmp_path / "all", range(200, 208), Site(), card))
    assert len(found.points) == 8 and [a for a in found.alarms if a[0] in ("serious", "warning")] == []
    html = (tmp_path / "charts" / "monitor.html").read_text(encoding="utf-8")
    assert "Nothing has drifted" in html and html.count("<svg") == len(site["constancy"]["measures"])
    assert len(tables.read(tmp_path / "charts" / "monitor.csv")) == 8


def test_drift_another_scanner_and_corrections_are_told(routine, tmp_path):
    site, card = routine
    maker = {"manufacturer": "Maker", "model": "X1", "field_strength_t": 1.5}
    site = site | {"constancy": site["constancy"] | {"acquisitions": [maker]}}
    folder = results(tmp_path / "all", range(210, 216), Site(noise=2), card, acquisition=maker | {"model": "X2"})
    for number, place in enumerate(sorted(folder.iterdir())):
        rows = [["bone", "edited" if number else "accepted", "", "", ""], ["gtv", "rejected", "", "", ""]]
        columns = ("structure", "decision", "comment", "reviewer", "time")
        (place / "review.csv").write_text(tables.text(columns, rows), encoding="utf-8")
    found = watch(tmp_path, site, folder)
    said = " ".join(text for severity, text in found.alarms if severity == "serious")
    assert "Drift of input: noise" in said and "model X2 (at commissioning X1)" in said
    assert "edited or rejected 92 % of 12 contours" in said
    assert found.points[0].created < found.points[-1].created


def test_results_of_another_model_are_no_points(routine, tmp_path):
    site, card = routine
    folder = results(tmp_path / "all", [220], Site(), card | {"version": "2.0.0"})
    with pytest.raises(InputError, match="other models"):
        watch(tmp_path, site, folder)
    with pytest.raises(InputError, match="no such folder"):
        watch(tmp_path, site, tmp_path / "none")


def test_the_test_case_is_the_same_and_a_changed_one_is_not(clinic):
    from rtuncertainty.commissioning import constancy

    card = bundle.read_card(clinic[0])
    first, again = constancy.test_case(card), constancy.test_case(card)
    assert constancy.compare_test(again, first)[0] == "good"
    numbers = {k: 1.001 * v for k, v in first["numbers"].items()}
    assert constancy.compare_test(again, first | {"sha256": "x", "numbers": numbers})[0] == "info"
    numbers = {k: 1.1 * v for k, v in first["numbers"].items()}
    severity, text = constancy.compare_test(again, first | {"sha256": "x", "numbers": numbers})
    assert severity == "serious" and "do not use the model" in text


def test_results_that_are_there_are_taken_as_they_are(tmp_path):
    """By any model: no bundle is asked for, no image needed, nothing is computed again."""
    card = make_site.card() | {"name": "elsewhere"}
    for seed in range(3):
        result, reference = make_site.patient(seed, Site(), card)
        home = tmp_path / "cases" / f"p{seed}"
        result.write(home / "result")
        sitk.WriteImage(reference.ct, str(home / "ct.nii.gz"))
    done = run.commission(None, tmp_path / "cases", tmp_path / "out", site_name="Clinic")
    assert [e.patient for e in done.found] == ["p0", "p1", "p2"] and done.site["model"]["name"] == "elsewhere"
    assert abs(done.fitted.coverage[0].before.mean - 0.9) < 0.02 and "test_case" not in done.site["constancy"]
    assert not (tmp_path / "out" / "results" / "p0" / "summary.json").exists()
    # another model's result, and a patient without a reference
    make_site.patient(5, Site(), card | {"version": "2"})[0].write(tmp_path / "cases" / "p3" / "result")
    sitk.WriteImage(reference.ct, str(tmp_path / "cases" / "p3" / "ct.nii.gz"))
    make_site.patient(6, Site(), card)[0].write(tmp_path / "cases" / "p4" / "result")
    done = run.commission(None, tmp_path / "cases", tmp_path / "out")
    odd = {c.name: c.odd for c in done.cases}
    assert "is of elsewhere 2, not of elsewhere 1.0.0" in odd["p3"][0] and len(done.found) == 3
    assert {c.name: c.missing for c in done.cases}["p4"] == ["reference"]


def another_tools(folder, number: int, members: int, **options):
    """(result that `collect` makes of synthetic CTs of one digital torso, its CT)."""
    for member in range(members):
        made = make_foreign.ct(noise=10.0, seed=100 * number + member)
        make_foreign.write(made, folder / "members" / f"member_{member}.nii.gz")
    image = make_foreign.write(make_foreign.ct(noise=5.0, seed=9), folder / "inputs" / f"mr{number}.nii.gz")
    said = {"tool": "ImpactSynth", "version": "1.2", "synct": [f"member_{k}.nii.gz" for k in range(members)]}
    (folder / "members" / "source.json").write_text(json.dumps(said), encoding="utf-8")
    return collect(image, folder / "members", modality="MR", **options), make_foreign.ct(10.0, seed=100 * number + 50)


@pytest.mark.parametrize("members", [4, 1])
def test_another_tools_synthetic_cts_are_commissioned(tmp_path, members):
    """From the files of an ensemble, or of a single synthetic CT, to the site's error bars and back into `collect`."""
    for number in range(3):
        home = tmp_path / "cases" / f"p{number}"
        made, truth = another_tools(tmp_path / f"work{number}", number, members)
        made.write(home / "result")
        make_foreign.write(truth, home / "ct.nii.gz")
    done = run.commission(None, tmp_path / "cases", tmp_path / "out", site_name="Clinic")
    assert done.site["model"]["name"] == "ImpactSynth" and len(done.found) == 3
    voxels = done.fitted.coverage[0]
    assert 0.85 < voxels.after.mean < 0.95
    # the SD of four members says nothing of what the truth differs by besides; one member has none
    assert voxels.before.mean < 0.85 if members > 1 else voxels.before.n == 0
    again, truth = another_tools(tmp_path / "new", 7, members, site=tmp_path / "out" / "site.json")
    inside = sitk.GetArrayFromImage(again.image("body")) > 0
    sd, synct = (sitk.GetArrayFromImage(again.image(k)).astype(float) for k in ("predictive_sd", "synct"))
    covered = np.abs(synct - truth) <= again.summary["interval_factor"] * sd
    assert 0.85 < covered[inside].mean() < 0.95
    assert again.summary["site"]["site"] == "Clinic" and any("site Clinic" in n for n in again.summary["notes"])
    with pytest.raises(InputError, match="other version"):
        file = tmp_path / "other.json"
        file.write_text(json.dumps(done.site | {"model": done.site["model"] | {"version": "9"}}), encoding="utf-8")
        another_tools(tmp_path / "never", 8, members, site=file)


def test_a_single_segmentation_of_another_tool_gets_the_sites_intervals(tmp_path):
    """One contour and nothing else: how far such volumes are off is what the site has learnt."""
    margins = {"cases": 12, "patients": 12, "margins": {"0.9": 0.1}}
    site = {
        "kind": "rtuncertainty site calibration",
        "format": 1,
        "site": "Clinic",
        "person": "A. Physicist",
        "created": "2026-03-01",
        "patients": 12,
        "model": {"name": "TotalSegmentator", "version": "2", "weights_sha256": None},
        "calibration": {"volumes": {"method": "conformal", "groups": {"pooled": margins}}},
    }
    (tmp_path / "site.json").write_text(json.dumps(site), encoding="utf-8")
    image = make_foreign.write(make_foreign.ct(), tmp_path / "inputs" / "ct.nii.gz")
    (tmp_path / "source.json").write_text('{"tool": "TotalSegmentator", "version": "2"}', encoding="utf-8")
    given = (image, make_foreign.total_folder(tmp_path / "made"))
    for options, calibrated in (({}, "no"), ({"site": tmp_path / "site.json"}, "yes")):
        made = collect(*given, source=tmp_path / "source.json", modality="CT", **options)
        rows = made.table("volumes")
        assert [r["calibrated"] for r in rows] == [calibrated] * 3
    for r in rows:  # a factor of e^0.1 either way
        ml, low, high = (float(r[k]) for k in ("volume_ml", "lower_ml", "upper_ml"))
        assert np.allclose([low, high], [ml * np.exp(-0.1), ml * np.exp(0.1)], rtol=0.02)

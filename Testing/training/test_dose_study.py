"""The study of doses on synthetic CTs: from cases and a bundle to records and tables, resumed, and never on a
patient who was trained on.
"""

import csv
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "backend"))

from make_bundle import make_bundle  # noqa: E402
from make_plan import patient  # noqa: E402

from training.calibration import dose as dose_calibration  # noqa: E402
from training.data.case import Case, save_case  # noqa: E402
from training.studies.dose import study  # noqa: E402


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """One prepared limb of water with a GTV, and a bundle of an untrained network that was validated on it."""
    folder = tmp_path_factory.mktemp("dose")
    p, target = patient(radius=36.0, slices=12, target_radius=12.0)
    labels = np.where(target.fraction(p.grid) > 0.5, 2, 0).astype(np.uint8)
    case = Case("A", np.where(p.body, 0.5, -2.0).astype(np.float32), p.ct, labels, p.body, p.measured, (3.0, 3.0, 3.0))
    (folder / "prepared" / "cases").mkdir(parents=True)
    save_case(case, folder / "prepared" / "cases" / "A.npz", {})
    (folder / "prepared" / "prepare.csv").write_text("case\nA\n", encoding="utf-8")
    for name, trained in (("good", ["B"]), ("bad", ["A"])):
        make_bundle(folder / name, name=name, training={"validation_names": ["A"], "case_names": trained})
    return folder


def test_a_study_goes_from_cases_to_tables_and_goes_on_where_it_was(place, monkeypatch):
    monkeypatch.setattr(study, "_models", lambda out, only: {study.SHIPPED: place / "good"})
    monkeypatch.setattr(study, "MODALITIES", ("photon",))
    monkeypatch.setattr(study, "MEMBERS", {"photon": 4})
    report = study.run(place / "prepared", place / "out")
    found = {r["title"]: r for r in dose_calibration.read(place / "out" / "dose")}
    water, network = found[study.WATER], found[study.SHIPPED]
    # the limb has 24 HU: water of 0 HU lets through a little more
    # the target is deeper than 15 mm everywhere
    assert network["inside"]["difference"] == network["difference"] and network["inside"]["bands"] == network["bands"]
    assert 0 < water["difference"]["davg"] < 2 and water["gamma"]["3%/3mm"] > 95 and water["bands"] == {}
    assert 95 < network["ct_percent"]["davg"] < 102 and set(network["bands"]) == {"measured", "10", "inf"}
    for band in network["bands"].values():
        assert all(low <= high for low, high in band.values())
    assert network["bands"]["inf"]["davg"][1] - network["bands"]["inf"]["davg"][0] > 0
    assert network["correlation"]["2 mm"] > network["correlation"]["20 mm"] - 0.5
    text = report.read_text(encoding="utf-8")
    assert (
        "## Photons" in text
        and "limb-t1-synct | 1 of 1" in text
        and "one error for all" in text
        and "as measured" in text
        and "| *drawn* |" in text
        and "0.166 ± 0.18" in text
    )
    with (place / "out" / "dose" / "dose.csv").open(newline="", encoding="utf-8") as file:
        assert {r["network"]: float(r["davg_difference"]) for r in csv.DictReader(file)}[study.WATER] == round(
            water["difference"]["davg"], 3
        )

    def never(*_):
        raise AssertionError("computed again")

    with monkeypatch.context() as again:
        again.setattr(study, "_planned", never)
        assert study.run(place / "prepared", place / "out").read_text(encoding="utf-8") == text
    # a band that an older record lacks is computed; the others are kept
    file = next((place / "out" / "dose" / "photon").glob("A limb*.json"))
    record = json.loads(file.read_text(encoding="utf-8"))
    for part in (record, record["inside"]):
        del part["bands"]["measured"]
        part["bands"]["10"]["davg"] = [-9.0, 9.0]
    file.write_text(json.dumps(record), encoding="utf-8")
    study.run(place / "prepared", place / "out")
    mended = json.loads(file.read_text(encoding="utf-8"))
    assert mended["bands"]["measured"] == network["bands"]["measured"] and mended["bands"]["10"]["davg"] == [-9.0, 9.0]
    assert mended["inside"]["bands"]["10"]["davg"] == [-9.0, 9.0] and mended["difference"] == network["difference"]


def test_no_time_and_nothing_done_is_said(place, monkeypatch):
    monkeypatch.setattr(study, "_models", lambda out, only: {study.SHIPPED: place / "good"})
    with pytest.raises(SystemExit, match="nothing has been computed yet"):
        study.run(place / "prepared", place / "none", minutes=0.0)


def test_a_patient_who_was_trained_on_is_refused(place, monkeypatch):
    monkeypatch.setattr(study, "_models", lambda out, only: {"one": place / "good", "two": place / "bad"})
    with pytest.raises(SystemExit, match="two was validated on other patients"):
        study.run(place / "prepared", place / "out")
    with pytest.raises(SystemExit, match="--data is missing"):
        study.run(None, place / "out")


def test_errors_that_go_together_are_seen_to():
    p, _ = patient(radius=36.0, slices=6)
    from rtuncertainty.dose.plan import smooth_field

    generator = np.random.default_rng(0)
    sd = np.full(p.ct.shape, 20.0, np.float32)
    smooth = study.correlation(p.ct + 20 * smooth_field(p.ct.shape, (3, 3, 3), 12.0, generator), sd, p, (3, 12))
    white = study.correlation(p.ct + 20 * smooth_field(p.ct.shape, (3, 3, 3), 0.0, generator), sd, p, (3, 12))
    assert smooth["3 mm"] == pytest.approx(math.exp(-1 / 16), abs=0.05) and abs(white["3 mm"]) < 0.1
    assert smooth["12 mm"] < smooth["3 mm"] - 0.3 and white["sd"] == pytest.approx(1, abs=0.05)


def test_records_are_json_without_images(place):
    path = next((place / "out" / "dose" / "photon").glob("A limb*.json"))
    assert set(json.loads(path.read_text(encoding="utf-8"))) >= {
        "difference",
        "gamma",
        "bands",
        "volume_ml",
        "plan_cpu_seconds",
    }

"""Margins of dose bands: they hold on the patients that they were fitted on, promise no level that so few allow, and
reach a card.
"""

import json
import math

import numpy as np
import pytest

from rtuncertainty.dose.plan import calibrated
from training.__main__ import main
from training.calibration import dose


def record(patient: str, low: float, high: float, modality: str = "photon", title: str = "net") -> dict:
    band = {"d98": [low - 1, high], "davg": [low, high], "d2": [-1.0, 1.0]}
    return {
        "patient": patient,
        "title": title,
        "modality": modality,
        "bands": {"measured": band, "10": {d: [9.0, 9.1] for d in band}},
    }


RECORDS = [record(f"p{k}", -0.5 + shift, 0.5 + shift) for k, shift in enumerate((0.0, 0.3, 0.8, -0.1, -0.2))]


def test_five_patients_reach_80_percent_and_no_more():
    entry = dose.fit(RECORDS)
    # ⌈6 · 0.8⌉ = 5: the furthest patient's band misses the CT by 0.3 %
    assert (entry["level"], entry["patients"]) == (0.8, 5) and entry["margins_percent"] == {
        "d98": -0.3,
        "davg": 0.3,
        "d2": -1.0,
    }
    assert dose.fit(RECORDS, 0.9) is None and dose.fit(RECORDS[:3])["level"] == 0.68 and dose.fit([]) is None
    held = dose.held(RECORDS, 0.8)
    assert held["davg"] == [True, True, False, True, True] and held["d2"] == [True] * 5


def test_the_promise_holds_for_new_patients():
    rng, inside = np.random.default_rng(0), []
    for _ in range(400):
        many = [record(f"p{k}", -0.3 + e, 0.3 + e) for k, e in enumerate(rng.normal(0, 1, 12))]
        entry, new = dose.fit(many[:11], 0.8), many[11]["bands"]["measured"]["davg"]
        found = calibrated.DoseCalibration(0.8, 11, entry["margins_percent"]).interval(
            {d: new[0] for d in ("d98", "davg", "d2")}, {d: new[1] for d in ("d98", "davg", "d2")}
        )
        inside.append(found["davg"][0] <= 0 <= found["davg"][1])
    assert np.mean(inside) == pytest.approx(10 / 12, abs=0.05)


def test_from_records_to_an_interval_in_a_card(tmp_path, monkeypatch):
    evaluation = tmp_path / "evaluation.json"
    evaluation.write_text(json.dumps({"calibration": {"synct": None, "volumes": None}}), encoding="utf-8")
    monkeypatch.setattr(
        "training.calibration.dose.read",
        lambda folder: RECORDS + [record("p0", 5, 6, title="other"), record("p0", 0, 1, "proton")],
    )
    assert main(["dose_calibrate", "--dose", str(tmp_path), "--network", "net", "--evaluation", str(evaluation)]) == 0
    card = json.loads(evaluation.read_text(encoding="utf-8"))
    assert {m: e["level"] for m, e in card["calibration"]["dose"].items()} == {"photon": 0.8}
    found = calibrated.of_card(card, "photon")
    ends = found.interval({"d98": -2.0, "davg": -0.4, "d2": 0.0}, {"d98": 0.0, "davg": 0.2, "d2": 0.5})
    assert ends["davg"] == pytest.approx((-0.7, 0.5)) and ends["d98"] == pytest.approx((-1.7, -0.3))
    # a band that is narrower than what it could spare becomes a number, not an interval turned inside out
    assert ends["d2"] == pytest.approx((0.25, 0.25)) and math.isclose(found.level, 0.8)
    assert (
        calibrated.of_card({"calibration": {"synct": None}}, "photon") is None
        and calibrated.of_card(None, "photon") is None
    )
    monkeypatch.setattr("training.calibration.dose.read", lambda folder: [])
    with pytest.raises(SystemExit, match="no bands of net"):
        main(["dose_calibrate", "--dose", str(tmp_path), "--network", "net", "--evaluation", str(evaluation)])

"""Two observers: what they differ by, by hand on boxes; and a model's intervals beside it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from test_cross_conformal import simulated

from rtuncertainty.propagation import agreement
from training import __main__ as command
from training.calibration.rows import write_rows
from training.evaluation import observers


def drawn(folder, patient, widths):
    (folder / "validation" / patient).mkdir(parents=True)
    for who, width in zip(observers.OBSERVERS, widths):
        labels = np.zeros((8, 20, 40), np.uint8)
        labels[2:6, 5:15, 5 : 5 + width] = 7
        image = sitk.GetImageFromArray(labels)
        image.SetSpacing((1.0, 1.0, 2.0))
        sitk.WriteImage(image, str(folder / "validation" / patient / f"{who}.nii.gz"))


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    drawn(folder, "a", (20, 20))
    drawn(folder, "b", (20, 30))
    drawn(folder, "c", (24, 20))
    (folder / "labels.json").write_text(json.dumps({"Parotid-Lt": 7, "Optic_Nerve_Lt": 8}), encoding="utf-8")
    return folder


def test_what_they_differ_by(data):
    found = observers.measured(data)["parotid_left"]
    # widths of 20 and 20, 20 and 30, 24 and 20: Dice 2·min / sum, relative difference 2(a − b) / (a + b)
    assert found["n"] == 3 and found["dice"] == pytest.approx(np.mean([1, 40 / 50, 40 / 44]), abs=1e-3)
    differences = [0, -20 / 50, 8 / 44]
    assert found["volume_sd"] == pytest.approx(np.std(differences, ddof=1), abs=1e-3)
    assert found["volume_mean"] == pytest.approx(np.mean(differences), abs=1e-3)
    with pytest.raises(SystemExit, match="give the folder"):
        observers.measured(data / "validation" / "a" / "nothing")


def test_a_models_intervals_beside_it(data, tmp_path):
    rows = [
        replace(r, dice=0.8) for r in simulated(np.random.default_rng(0), 60, bias=0.0, structures=("parotid_left",))
    ]
    file = write_rows(rows, tmp_path / "rows.json", weights_sha256="x")
    evaluation = tmp_path / "evaluation.json"
    evaluation.write_text(json.dumps({"accuracy": {"table": {}}, "calibration": {}}), encoding="utf-8")
    words = ["--data", str(data), "--rows", str(file), "--out", str(tmp_path / "out"), "--evaluation", str(evaluation)]
    assert command.main(["observers", *words]) == 0
    text = (tmp_path / "out" / "observers.md").read_text(encoding="utf-8")
    assert "| parotid left | 3 | 60 | 0.90 | 0.80 |" in text
    made = json.loads(evaluation.read_text(encoding="utf-8"))
    assert made["accuracy"]["table"]["Dice of two observers, parotid_left"] == pytest.approx(0.903, abs=1e-3)
    model = observers.of_model(rows)["parotid_left"]
    # errors of a gamma distribution with an SD of about 0.1·√3·1.1; intervals say about the same. 80 % of 60 patients
    # is 2.6 standard errors below 90 %
    assert 0.1 < model["volume_sd"] < 0.3 and 0.1 < model["interval_sd"] < 0.35 and model["within_90"] > 0.8
    # the lights take two and three times their disagreement
    card = {"calibration": made["calibration"], "outputs": {"deformation": {}}}
    limits = agreement.limits_of(card, "parotid_left")
    assert limits["amber"]["dice"] == pytest.approx(1 - 2 * (1 - 0.903), abs=1e-3)
    assert limits["red"]["dice"] == pytest.approx(1 - 3 * (1 - 0.903), abs=1e-3)
    assert limits["amber"]["msd_mm"] >= 1.5 and limits["amber"]["sd_mm"] == 1.5
    assert agreement.limits_of(card, "mandible") == agreement.LIMITS == agreement.limits_of(card)

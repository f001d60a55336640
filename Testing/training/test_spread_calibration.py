"""The spread of a deformation: fitted on some patients, checked on others."""

import numpy as np
import pytest

from rtuncertainty.propagation.spread import SpreadCalibration, of_card
from training.calibration import spread


def pair(seed: int, scale: float, residual: float) -> dict:
    """Errors that are N(0, scale²·v + residual²) for sampled variances v."""
    rng = np.random.default_rng(seed)
    variance = np.exp(rng.normal(-3, 1.5, (6, 8, 10, 12)))
    variance[3:] = 0
    error = rng.standard_normal((3, 8, 10, 12)) * np.sqrt(scale**2 * variance[:3] + residual**2)
    return spread.drawn(error, variance, np.ones((8, 10, 12), bool), seed)


def test_scale_and_residual_are_found_and_hold_for_patients_left_out():
    rows = {f"p{k}_day0": pair(k, 6.0, 0.8) for k in range(10)}
    fitted = spread.fit(list(rows.values()))
    assert fitted.scale == pytest.approx(6.0, rel=0.1) and fitted.residual_mm == pytest.approx(0.8, rel=0.1)
    assert fitted.factor_90 == pytest.approx(1.645, rel=0.05)  # these errors are Gaussian
    checked = spread.left_out(rows)
    assert (
        checked["z_sd"] == pytest.approx(1, abs=0.05)
        and checked["within_90"] == pytest.approx(0.9, abs=0.02)
        and checked["patients"] == 10
    )


def test_two_days_of_a_patient_are_left_out_together():
    rows = {f"p{k}_day{d}": pair(10 * k, 3.0, 0.5) for k in range(2) for d in range(2)}
    assert spread.left_out(rows)["patients"] == 2
    assert spread.for_card({"p0_day0": rows["p0_day0"], "p0_day1": rows["p0_day1"]}) == {}


def test_the_card_brings_it_back():
    made = spread.for_card({f"p{k}_day0": pair(k, 2.0, 1.0) for k in range(4)})
    found = of_card({"calibration": {"spread": {"spearman": 0.4, **made}}})
    assert found.scale == made["scale"] and 0.8 < made["left_out_within_90"] < 1
    assert of_card({"calibration": {"spread": {"spearman": 0.4}}}) is None and of_card({"calibration": {}}) is None


def test_the_residual_is_alike_in_all_directions():
    covariance = np.arange(6.0).reshape(6, 1, 1, 1) + np.zeros((6, 2, 2, 2))
    found = SpreadCalibration(2.0, 3.0, 1.6).apply(covariance)
    assert np.allclose(found[:, 0, 0, 0], [9, 13, 17, 12, 16, 20]) and np.allclose(covariance[0], 0)

"""Maps from expected to true Dice, and limits that must be earned."""

import json
import math

import numpy as np
import pytest
from scipy import optimize, stats

from rtuncertainty.propagation import agreement
from rtuncertainty.uncertainty import quality
from rtuncertainty.uncertainty.fit import flags
from rtuncertainty.uncertainty.fit import quality as quality_calibration
from rtuncertainty.uncertainty.fit.flags import choose, earn
from training.calibration.rows import agreement_rows


def contours(rng, count=60, noise=0.03):
    """An over-confident predictor of Dice, two contours a patient."""
    dice = rng.uniform(0.6, 0.97, count)
    return 1 - (1 - dice) / 2 + noise * rng.standard_normal(count), dice, np.arange(count) // 2


def test_isotonic_regression_is_that_of_scipy():
    rng = np.random.default_rng(0)
    x, weight = rng.permutation(40).astype(float), rng.uniform(0.5, 2, 40)
    y = x / 40 + 0.3 * rng.standard_normal(40)
    knots, values = quality_calibration.isotonic(x, y, weight)
    order = np.argsort(x)
    assert np.allclose(
        np.interp(np.sort(x), knots, values), optimize.isotonic_regression(y[order], weights=weight[order]).x
    )
    assert (np.diff(knots) > 0).all() and (np.diff(values) >= 0).all()
    # equal x have one value
    knots, values = quality_calibration.isotonic([1, 1, 2], [0.0, 1.0, 0.9], [1, 1, 1])
    assert knots.tolist() == [1, 2] and values.tolist() == [0.5, 0.9]


def test_auroc_and_rank_correlation():
    assert quality_calibration.auroc([0.1, 0.2, 0.8, 0.9], [True, True, False, False]) == 1.0
    assert quality_calibration.auroc([0.5, 0.5, 0.5], [True, False, False]) == 0.5
    assert math.isnan(quality_calibration.auroc([0.5], [True]))
    rng = np.random.default_rng(1)
    score, bad = rng.standard_normal(50), rng.random(50) < 0.3
    u = stats.mannwhitneyu(score[~bad], score[bad]).statistic / (bad.sum() * (~bad).sum())
    assert quality_calibration.auroc(score, bad) == pytest.approx(u)
    assert math.isnan(quality_calibration.spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]))


def test_the_map_corrects_and_its_interval_holds():
    rng = np.random.default_rng(2)
    predictor, dice, patients = contours(rng)
    found = quality_calibration.fit(predictor, dice, patients)
    new, truth, _ = contours(rng, 400)
    mapped = np.array([found.apply(v) for v in new])
    assert np.abs(mapped[:, 0] - truth).mean() < 0.6 * np.abs(new - truth).mean()
    assert 0.85 < np.mean((mapped[:, 1] <= truth) & (truth <= mapped[:, 2])) <= 0.99
    assert (
        found.cases == 60
        and found.patients == 30
        and found.scores["auroc"] > 0.9
        and found.scores["mae"] < found.scores["mae_of_mean"]
    )
    card = {"calibration": {"quality": json.loads(json.dumps(found.as_card(), allow_nan=False))}}
    assert quality.of_card(card).apply(0.9) == pytest.approx(found.apply(0.9), abs=1e-4)


def test_each_patient_is_mapped_by_the_others():
    rng = np.random.default_rng(3)
    predictor, dice, patients = contours(rng, 20)
    held = quality_calibration.held_out(predictor, dice, patients)
    changed = dice.copy()
    changed[patients == 4] = 0.0
    assert np.array_equal(
        quality_calibration.held_out(predictor, changed, patients)[patients == 4], held[patients == 4]
    )
    assert quality_calibration.fit(predictor[:6], dice[:6], patients[:6]) is None
    # 90 % with 5 % a side takes 19 patients
    assert (
        quality_calibration.fit(predictor, dice, patients) is None
        and quality_calibration.fit(predictor, dice, patients, 0.6) is not None
    )


def test_a_limit_catches_what_it_was_asked_to():
    score, bad = np.array([1.0, 2, 3, 4, 5, 6]), np.array([0, 0, 1, 0, 1, 1], bool)
    lax = {"risk": 1.0}
    assert choose(score, bad, 1.0, **lax) == 2.5 and choose(score, bad, 0.6, **lax) == 4.5
    assert choose(score, bad & False) == math.inf


def test_what_a_limit_lets_pass_bears_to_be_called_fine():
    """One more bad contour counted than was seen, their share stays within `RISK`: of the first 36 contours 4 are bad,
    (4 + 1) / (36 + 1) = 0.135; of the first 37 it is 5, (5 + 1) / (37 + 1) = 0.158.
    """
    score, bad = np.arange(1.0, 41), np.zeros(40, bool)
    bad[[10, 30, 32, 34, 36, 38, 39]] = True
    assert choose(score, bad, catch=0.1) == 36.5
    # the share that must be caught may ask for a stricter one
    assert choose(score, bad, catch=1.0) == 10.5
    # nothing bears the risk: the share that is caught alone decides
    assert choose(np.array([1.0, 2, 3]), np.array([1, 0, 1], bool), catch=0.5) == 2.5


@pytest.mark.parametrize("high", [True, False])
def test_limits_are_earned_or_not(high):
    rng = np.random.default_rng(4)
    dice, patients = rng.uniform(0.6, 1.0, 60), np.arange(60) // 3
    bad = dice < 0.85
    sign = -1 if high else 1
    good = earn(sign * (dice + 0.03 * rng.standard_normal(60)), bad, patients, high)
    assert (
        good.validated
        and good.caught + good.missed == bad.sum()
        and good.caught >= 0.75 * bad.sum()
        and good.false_alarms < 0.5 * (~bad).sum()
    )
    assert 0.8 < sign * good.threshold < 0.95
    useless = [earn(rng.standard_normal(60), bad, patients, high).validated for _ in range(60)]
    assert np.mean(useless) < 0.15
    assert earn(dice, dice < 0.0, patients) is None and earn(dice, bad, np.zeros(60)) is None


def test_no_patient_chooses_the_limit_for_himself():
    """A single patient whose bad contours look like no other's cannot be caught."""
    score = np.array([0.1] * 8 + [0.9, 0.9, 0.9, 0.05, 0.05, 0.05])
    bad = np.array([False] * 8 + [True] * 6)
    found = earn(score, bad, np.array([0, 1, 2, 3, 0, 1, 2, 3, 7, 7, 7, 8, 8, 8]))
    assert found.missed >= 3


def test_flags_and_lights_of_the_card():
    rng = np.random.default_rng(5)
    dice, patients = rng.uniform(0.6, 1.0, 60), np.arange(60) // 2
    scores = {
        "expected_dice": dice + 0.02 * rng.standard_normal(60),
        "surface_entropy": rng.standard_normal(60),
        "interval_width": np.full(60, np.nan),
    }
    found = flags.flags(scores, dice, patients)
    assert set(found) == {"expected_dice", "surface_entropy"}
    card = flags.flags_for_card(found)
    assert "expected_dice" in card and card["expected_dice"]["dice_limit"] == 0.85
    assert {"threshold", "caught", "missed", "false_alarms", "cases"} <= set(card["expected_dice"])

    true = rng.gamma(2, 1, 80)
    rows = [
        {
            "pair": f"pt_{k // 2}_day{k % 2}",
            "method": "network + fast",
            "msd_mm": t + 0.2 * rng.standard_normal(),
            "dice": None,
            "sd_mm": rng.random(),
            "true_msd_mm": t,
        }
        for k, t in enumerate(true)
    ]
    rows.append({**rows[0], "true_msd_mm": math.nan})
    found = agreement.lights(agreement_rows({"agreements": rows, "spreads": []}))
    card = agreement.lights_for_card(found)
    assert (
        1.0 < card["amber"]["msd_mm"]["threshold"] < card["red"]["msd_mm"]["threshold"] < 3.5
        and "dice" not in card["amber"]
    )
    old = agreement_rows({"spreads": [{"pair": "pt_1_day0", "path": "propagated", "sd_mm": 1.0, "msd_mm": 2.0}]})
    assert old[0]["patient"] == "pt_1" and old[0]["true_msd_mm"] == 2.0

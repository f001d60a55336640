"""Expected Dice against simulated truths, the entropy of a surface, and flags whose limits come from the card."""

import json
import math

import numpy as np
import pytest
from scipy import ndimage

from rtuncertainty.propagation.agreement import LIMITS, limits_of
from rtuncertainty.results import tables
from rtuncertainty.uncertainty import flags, volume_assessment, volume_distribution, volumes
from rtuncertainty.uncertainty import quality as structure_quality
from rtuncertainty.uncertainty.quality import Quality, QualityCalibration, assess, expected_dice, surface_entropy

BARE = {"calibration": {"quality": None, "flags": None}}


def ball(radius=5.0, softness=1.0, edge=17) -> np.ndarray:
    middle = (edge - 1) / 2
    return 1 / (1 + np.exp((np.linalg.norm(np.indices((edge,) * 3) - middle, axis=0) - radius) / softness))


def simulated(p, labelled, count=4000, seed=0) -> float:
    """The mean Dice with truths that hold every voxel with its probability."""
    rng, total = np.random.default_rng(seed), 0.0
    p = np.where(p > structure_quality.LEAST, p, 0)
    for _ in range(count):
        truth = rng.random(p.shape) < p
        total += 2 * (truth & labelled).sum() / (truth.sum() + labelled.sum())
    return total / count


@pytest.mark.parametrize("radius,softness,shift", [(5.0, 0.5, 0), (5.0, 1.5, 0), (4.0, 1.0, 2), (1.2, 0.4, 0)])
def test_expected_dice_is_that_of_simulated_truths(radius, softness, shift):
    p = ball(radius, softness)
    labelled = np.roll(p > 0.5, shift, 2)
    assert expected_dice(p, labelled) == pytest.approx(
        simulated(p, labelled), abs=0.002 if labelled.sum() > 50 else 0.005
    )


def test_a_few_voxels_need_the_second_order():
    """Two voxels: Dice is 2a / (2 + a + b); all outcomes can be counted."""
    p, labelled = np.array([0.9, 0.6, 0.3, 0.0]).reshape(1, 1, 4), np.array([1, 1, 0, 0], bool).reshape(1, 1, 4)
    exact = 0.0
    for outcome in np.ndindex(2, 2, 2):
        chance = np.prod([q if o else 1 - q for q, o in zip((0.9, 0.6, 0.3), outcome)])
        exact += chance * 2 * (outcome[0] + outcome[1]) / (2 + sum(outcome))
    first = 2 * 1.5 / (2 + 1.8)
    assert abs(expected_dice(p, labelled) - exact) < 0.5 * abs(first - exact)


def test_limits():
    p = ball()
    assert math.isnan(expected_dice(p, np.zeros(p.shape, bool)))
    assert expected_dice((p > 0.5) * 1.0, p > 0.5) == 1.0 and expected_dice((p < 0.1) * 1.0, p > 0.5) == 0.0
    with pytest.raises(ValueError, match="NaN"):
        expected_dice(np.full(p.shape, np.nan), p > 0.5)
    # another piece does not count where the rule keeps the largest one only
    two = p.copy()
    two[:2, :2, :2] = 0.49
    assert expected_dice(two, p > 0.5, {"largest": 1}) == pytest.approx(expected_dice(p, p > 0.5, {"largest": 1}))
    assert expected_dice(two, p > 0.5) < expected_dice(p, p > 0.5)


def test_a_blurred_contour_is_expected_to_be_worse():
    p = ball(softness=0.2)
    dice = [expected_dice(q, q > 0.5) for q in (ndimage.gaussian_filter(p, s) for s in (0.0, 0.7, 1.4, 2.1))]
    assert dice == sorted(dice, reverse=True) and dice[0] > 0.9 > 0.7 > dice[-1]


def test_entropy_of_the_surface():
    labelled = np.zeros((5, 5, 5), bool)
    labelled[1:4, 1:4, 1:4] = True
    entropy = np.full(labelled.shape, 9.0)
    entropy[labelled] = 0.3
    entropy[2, 2, 2] = 5.0  # the middle is no surface
    assert surface_entropy(entropy, labelled) == pytest.approx(0.3)
    assert math.isnan(surface_entropy(entropy, np.zeros_like(labelled)))
    p = np.array([0.0, 0.5, 1.0, 0.2])
    assert structure_quality.binary_entropy(p) == pytest.approx(
        [0, math.log(2), 0, -0.2 * math.log(0.2) - 0.8 * math.log(0.8)], abs=1e-9
    )


def test_calibrated_dice_comes_from_the_card():
    p = ball(softness=0.3)
    mapping = QualityCalibration((0.5, 0.8, 1.0), (0.4, 0.7, 0.9), -0.1, 0.05, 0.9, 40, 20)
    card = {"calibration": {"quality": json.loads(json.dumps(mapping.as_card()))}}
    raw, found = expected_dice(p, p > 0.5), assess("x", p, p > 0.5, None, card)
    assert (
        0.8 < raw < 1
        and found.expected_dice == pytest.approx(np.interp(raw, mapping.knots, mapping.dice))
        and found.calibrated
    )
    assert found.dice_lower == pytest.approx(found.expected_dice - 0.1) and found.dice_upper == pytest.approx(
        found.expected_dice + 0.05
    )
    assert mapping.apply(0.1) == (0.4, pytest.approx(0.3), pytest.approx(0.45)) and mapping.apply(2.0)[
        2
    ] == pytest.approx(0.95)
    plain = assess("x", p, p > 0.5, None, BARE)
    assert plain.expected_dice == raw and not plain.calibrated and math.isnan(plain.dice_lower)
    nothing = volume_distribution.of_membership("x", np.zeros((2, 2, 2), np.float32), 1.0)
    every = [volume_assessment.Assessed(nothing, None, q) for q in (found, plain, Quality("empty", math.nan))]
    rows = tables.of_assessed(every, BARE)["quality"]
    assert tuple(rows[0]) == tables.COLUMNS["quality"]
    assert (
        rows[1]["dice_lower"] == rows[2]["expected_dice"] == rows[2]["surface_entropy"] == ""
        and rows[0]["calibrated"] == "yes"
    )


def raised(volume, quality, card):
    return {f.flag: f.reason for f in flags.of_uncertainty(volume, quality, card)}


def test_only_limits_that_a_card_has_validated_raise_a_flag():
    volume, quality = volumes.Volume("x", 10.0, 8.0, 12.0, 0.9, True), Quality("x", 0.75, surface_entropy=0.5)
    assert raised(volume, quality, BARE) == {}
    assert raised(volumes.Volume("x", 10.0, 1.0, 40.0, 0.9, True), Quality("x", 0.3, surface_entropy=0.9), BARE) == {}
    entry = {"caught": 9, "missed": 2, "false_alarms": 1, "cases": 40}
    card = {
        "calibration": {
            "flags": {
                "interval_width": {"threshold": 0.3, **entry},
                "expected_dice": {"threshold": 0.8, **entry},
                "surface_entropy": {"threshold": 0.45, **entry},
            }
        }
    }
    found = raised(volume, quality, card)
    assert set(found) == {"uncertain volume", "low expected Dice", "uncertain surface"}
    assert all(
        "caught 9 of 11 bad ones, with 1 false alarm)" in r and "40 validation contours" in r for r in found.values()
    )
    assert raised(volume, Quality("x", math.nan), BARE) == {}


def test_lights_take_earned_limits_over_fixed_ones():
    card = {"outputs": {"deformation": {}}, "calibration": {}}
    assert limits_of(card) == LIMITS
    card["outputs"]["deformation"]["limits"] = {"amber": {"dice": 0.9}}
    card["calibration"]["lights"] = {"amber": {"sd_mm": {"threshold": 1.1, "caught": 3}}}
    found = limits_of(card)
    assert found["amber"] == {"msd_mm": 1.5, "dice": 0.9, "sd_mm": 1.1} and found["red"] == LIMITS["red"]

"""What a card's calibration of volumes does to an interval."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rtuncertainty.core.errors import InputError
from rtuncertainty.uncertainty import volume_calibration
from rtuncertainty.uncertainty.volume_calibration import Group, VolumeCalibration, of_card, patients_needed
from rtuncertainty.uncertainty.volume_distribution import LEVELS, PERCENTILES, VolumeDistribution

Z = stats.norm.ppf(np.array(PERCENTILES) / 100)


def lognormal(median=40.0, spread=0.1, structure="prostate") -> VolumeDistribution:
    return VolumeDistribution(structure, PERCENTILES, tuple(median * np.exp(spread * Z)))


def test_without_calibration_the_interval_is_the_networks_own_and_is_not_shown():
    found = of_card({"calibration": {"volumes": None}})
    d = lognormal()
    assert found.interval(d, 0.9) == (*d.interval(0.9), False, 0, "this model's volumes were never calibrated")
    assert np.isnan(found.interval(d, 0.9).shown).all()
    assert found.quantiles(d) == [None] * len(PERCENTILES) and found.as_card() is None


def test_affine_map_of_the_logarithm():
    d = lognormal(spread=0.1)
    found = VolumeCalibration("log_affine", {"pooled": Group(60, 60, math.log(1.1), 3.0)})
    lower, upper, calibrated, cases, note = found.interval(d, 0.9)
    wide = 40 * 1.1 * np.exp(0.3 * stats.norm.ppf([0.05, 0.95]))
    assert (lower, upper) == pytest.approx(tuple(wide), rel=1e-3) and calibrated and cases == 60 and note == ""
    assert found.quantiles(d)[PERCENTILES.index(50)] == pytest.approx(44.0, rel=1e-3)
    # 99 % takes 99 patients: the outermost percentiles stay empty
    assert found.quantiles(d)[0] is None and found.quantiles(d)[2] is not None


def test_conformal_margins_move_both_ends():
    d = lognormal(spread=0.1)
    found = VolumeCalibration("conformal", {"pooled": Group(20, 20, margins={0.9: math.log(1.2), 0.5: math.log(1.05)})})
    assert found.interval(d, 0.9)[:2] == pytest.approx((d.interval(0.9)[0] / 1.2, d.interval(0.9)[1] * 1.2), rel=1e-3)
    # a level between takes the next higher one; a network that is sure of everything gets an interval too
    assert found.interval(d, 0.85)[:2] == found.interval(d, 0.9)[:2]
    sure = VolumeDistribution("prostate", PERCENTILES, (40.0,) * len(PERCENTILES))
    assert found.interval(sure, 0.9)[:2] == pytest.approx((40 / 1.2, 40 * 1.2), rel=1e-3)


def test_scaled_margins_grow_with_the_networks_own_width():
    found = VolumeCalibration("conformal_scaled", {"pooled": Group(20, 20, margins={0.9: 0.5})})
    for spread in (0.1, 0.4):
        d = lognormal(spread=spread)
        low, high = d.interval(0.9)
        factor = (high / low) ** 0.5  # half of the width in the logarithm
        assert found.interval(d, 0.9)[:2] == pytest.approx((low / factor, high * factor), rel=2e-3)
    # a distribution without bounds does not stretch its margin without bounds
    vague = VolumeDistribution("prostate", PERCENTILES, (0.0,) * 8 + tuple(range(40, 49)))
    assert found.interval(vague, 0.9).upper == pytest.approx(vague.interval(0.9)[1] * math.exp(0.5 * 1.5), rel=1e-3)
    # nobody is surer than of a tenth
    sure = VolumeDistribution("prostate", PERCENTILES, (40.0,) * len(PERCENTILES))
    assert found.interval(sure, 0.9)[:2] == pytest.approx((40 * math.exp(-0.05), 40 * math.exp(0.05)), rel=1e-3)


def test_margins_about_the_shown_volume():
    """The distribution's own ends play no part but as a unit."""
    margins = {"pooled": Group(20, 20, margins={0.5: 0.05, 0.9: 0.1})}
    wide = lognormal(spread=0.4)
    found = VolumeCalibration("conformal_shown", margins).interval(wide, 0.9)
    m = wide.volume_ml
    assert found[:2] == pytest.approx((m * math.exp(-0.1), m * math.exp(0.1)), rel=2e-3) and found.calibrated
    low, high = wide.interval(0.9)
    scaled = VolumeCalibration("conformal_shown_scaled", margins).interval(wide, 0.9)
    assert scaled[:2] == pytest.approx((m * (low / high) ** 0.1, m * (high / low) ** 0.1), rel=2e-3)


@given(
    end=st.floats(-3, 3),
    margin=st.floats(-2, 9),
    more=st.floats(0, 2),
    limit=st.one_of(st.floats(-3, 3), st.just(math.inf)),
)
def test_an_end_moves_slower_beyond_what_patients_have(end, margin, more, limit):
    out, further = (float(volume_calibration.moved_out(end, m, limit)) for m in (margin, margin + more))
    assert further >= out and math.isclose(float(volume_calibration.margin_to(end, out, limit)), margin, abs_tol=1e-9)
    free = max(0.0, max(limit, end) - end)
    assert math.isclose(
        out - end, margin if margin <= free else free + volume_calibration.PACE * (margin - free), abs_tol=1e-9
    )


def test_usual_volumes_hold_margins_back_but_never_the_networks_own_interval():
    d, groups = lognormal(spread=0.1), {"pooled": Group(20, 20, margins={0.9: math.log(10)})}
    free, held = (
        VolumeCalibration("conformal", groups).interval(d, 0.9),
        VolumeCalibration("conformal", groups, {"prostate": (20.0, 80.0)}).interval(d, 0.9),
    )
    low, high = d.interval(0.9)
    assert (free.lower, free.upper) == pytest.approx((low / 10, high * 10), rel=1e-2)
    # to the limit as before, a fifth of the way beyond it
    assert held.upper == pytest.approx(80 * (10 * high / 80) ** 0.2, rel=1e-3) and held.lower == pytest.approx(
        20 * (low / 10 / 20) ** 0.2, rel=1e-2
    )
    small = VolumeCalibration("conformal", groups, {"prostate": (2.0, 8.0)}).interval(d, 0.9)
    assert small.lower < low and small.upper > high and small.upper < free.upper
    assert VolumeCalibration("conformal", groups, {"bladder": (20.0, 80.0)}).interval(d, 0.9) == free


def test_too_few_cases_is_said():
    assert [patients_needed(level) for level in (0.5, 0.8, 0.9, 0.95, 0.99)] == [1, 4, 9, 19, 99]
    found = VolumeCalibration("conformal", {"pooled": Group(24, 12, margins={0.5: 0.05, 0.9: 0.2})})
    i = found.interval(lognormal(), 0.95)
    assert not i.calibrated and i.note == "too few cases for 95 %: it takes 19 patients, there are 12" and i.cases == 24
    # all the same it is at least as wide as that of a lower level
    assert i.lower <= found.interval(lognormal(), 0.9).lower and i.upper >= found.interval(lognormal(), 0.9).upper
    assert np.isnan(i.shown).all()
    assert found.interval(lognormal(), 0.9).calibrated
    assert found.interval(lognormal(), 0.9).shown == found.interval(lognormal(), 0.9)[:2]


def test_a_structure_with_a_fit_of_its_own_uses_it():
    found = VolumeCalibration(
        "conformal", {"pooled": Group(80, 40, margins={0.9: 0.3}), "bladder": Group(40, 40, margins={0.9: 0.05})}
    )
    wide, narrow = (found.interval(lognormal(structure=s), 0.9) for s in ("prostate", "bladder"))
    assert wide.upper > narrow.upper and (wide.cases, narrow.cases) == (80, 40)
    assert found.interval(lognormal(), 0.9, "bladder") == narrow


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    method=st.sampled_from((*volume_calibration.METHODS, *volume_calibration.SHOWN)),
)
def test_intervals_are_nested_and_calibrated_volumes_rise(seed, method):
    rng = np.random.default_rng(seed)
    d = VolumeDistribution(
        "x", PERCENTILES, tuple(np.sort(np.maximum(0, rng.normal(5, rng.choice([0.0, 1, 5]), len(PERCENTILES)))))
    )
    levels = sorted({abs(2 * q - 100) / 100 for q in PERCENTILES} | set(LEVELS))
    margins = {level: float(rng.normal(0.1, 0.3)) for level in levels if level > 0}
    usual = {"x": (2.0, 6.0)} if rng.random() < 0.5 else {}
    found = VolumeCalibration(
        method, {"pooled": Group(200, 200, float(rng.normal(0, 0.2)), float(rng.uniform(0.1, 9)), margins)}, usual
    )
    ends = [found.interval(d, level)[:2] for level in np.linspace(0.01, 0.99, 40)]
    assert all(0 <= low <= high for low, high in ends)
    assert all(a[0] >= b[0] - 1e-9 and a[1] <= b[1] + 1e-9 for a, b in zip(ends, ends[1:]))
    q = found.quantiles(d)
    assert all(a <= b + 1e-9 for a, b in zip(q, q[1:]))
    if method != "log_affine":
        assert q[PERCENTILES.index(50)] == d.volume_ml


def test_a_structure_that_was_not_found_keeps_the_networks_interval():
    empty = VolumeDistribution("x", PERCENTILES, (0.0,) * (len(PERCENTILES) - 4) + (0.5,) * 4)
    for method in volume_calibration.METHODS:
        found = VolumeCalibration(method, {"pooled": Group(30, 30, 0.1, 4.0, {0.9: 0.4})}).interval(empty, 0.9)
        assert found == (0.0, 0.5, False, 0, "it was not found, so nothing is calibrated")
        # a core that vanishes in the lower percentiles is no trouble
        core = VolumeDistribution("x", PERCENTILES, (0.0,) * 8 + tuple(range(1, 10)))
        lower, upper, *_ = VolumeCalibration(method, {"pooled": Group(30, 30, 0.1, 4.0, {0.9: 0.4})}).interval(
            core, 0.9
        )
        assert 0 <= lower < 1 < upper < 1e5


def test_card_round_trip_is_json():
    groups = {"pooled": Group(80, 40, margins={0.9: 0.3, 0.95: 0.4}), "bladder": Group(40, 40, margins={0.9: 0.05})}
    for found in (
        VolumeCalibration("conformal", groups),
        VolumeCalibration("conformal_scaled", groups, {"bladder": (20.0, 300.5)}),
        VolumeCalibration("log_affine", {"pooled": Group(9, 9, -0.1, 2.5)}),
        VolumeCalibration("conformal_shown", {"pooled": Group(9, 9, margins={0.9: 0.1})}),
    ):
        stored = json.loads(json.dumps(found.as_card()))
        assert stored["method"] == found.method and stored["cases"] == found.groups["pooled"].cases
        again = of_card({"calibration": {"volumes": stored}})
        assert again == found
    assert VolumeCalibration("conformal", groups).as_card()["per"] == ["bladder"]
    with pytest.raises(InputError, match="magic"):
        of_card({"name": "m", "calibration": {"volumes": {"method": "magic", "groups": {}}}})
    assert volume_calibration.METHODS == ("log_affine", "conformal", "conformal_scaled")

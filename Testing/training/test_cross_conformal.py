"""CV+ intervals of volumes: MAPIE's on the same scores, the promise on simulated folds, and what scales them."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from rtuncertainty.uncertainty import cross_conformal, volume_calibration
from rtuncertainty.uncertainty.cross_conformal import MemberVolume
from rtuncertainty.uncertainty.fit import volume_card, volume_coverage, volumes
from rtuncertainty.uncertainty.fit.volumes import VolumeRow
from rtuncertainty.uncertainty.volume_distribution import PERCENTILES, VolumeDistribution

Z = stats.norm.ppf(np.array(PERCENTILES) / 100)


def member(log_volume, width=0.1, **more) -> MemberVolume:
    ml = tuple(float(v) for v in math.exp(log_volume) * np.exp(width * Z))
    return MemberVolume(VolumeDistribution("organ", PERCENTILES, ml), **more)


def test_the_interval_is_mapies():
    """Skewed residuals of four linear models; MAPIE 1.6, CrossConformalRegressor, method "plus", sym=False."""
    pytest.importorskip("mapie")
    from mapie.conformity_scores import AbsoluteConformityScore
    from mapie.regression import CrossConformalRegressor
    from sklearn.linear_model import LinearRegression
    from sklearn.model_selection import KFold

    rng = np.random.default_rng(0)
    x, new = rng.normal(size=(60, 2)), rng.normal(size=(15, 2))
    y = 3 + x @ [0.4, -0.2] + 0.3 * rng.gamma(2, 1, 60)
    folds = KFold(4, shuffle=True, random_state=1)
    models = [LinearRegression().fit(x[a], y[a]) for a, _ in folds.split(x)]
    scores = [[[float(s)] for s in y[b] - m.predict(x[b])] for m, (_, b) in zip(models, folds.split(x))]

    def of(log_volume):  # the constant inside the logarithm is none of MAPIE's
        return MemberVolume(VolumeDistribution("organ", (50,), (math.exp(log_volume) - cross_conformal.OFFSET_ML,)))

    for level in (0.5, 0.8, 0.9):
        theirs = CrossConformalRegressor(
            LinearRegression(),
            confidence_level=level,
            conformity_score=AbsoluteConformityScore(sym=False),
            method="plus",
            cv=folds,
        )
        theirs.fit_conformalize(x, y)
        expected = theirs.predict_interval(new)[1][:, :, 0]
        rows = cross_conformal.flattened(scores)
        ours = [cross_conformal.interval([of(m.predict(v[None])[0]) for m in models], rows, "none", level) for v in new]
        assert np.log(np.array(ours) + cross_conformal.OFFSET_ML) == pytest.approx(expected, abs=1e-9)


def simulated(rng, count, folds=4, bias=0.3, structures=("organ",), **more):
    """Rows of a network that draws exp(bias) too small, with skewed errors that differ by fold."""
    rows = []
    for k in range(count):
        for s in structures:
            log_volume, spread = rng.normal(3.5, 0.6), 0.1 * math.exp(0.4 * rng.standard_normal())
            error = spread * (rng.gamma(3, 1) - 3) + bias + 0.02 * (k % folds)
            mine = member(log_volume, spread / 3)
            made = VolumeRow("net", f"p{k:04}", s, mine.distribution.ml, math.exp(log_volume + error), **more)
            rows.append(replace(made, fold=k % folds))
    return rows


def test_it_holds_what_it_promises_on_new_patients():
    rng, held, widths = np.random.default_rng(1), [], []
    for _ in range(20):
        known, new = simulated(rng, 60), simulated(rng, 100)
        fitted = volumes.fit(known, volume_calibration.CV_PLUS)
        # a new patient is seen by all four, which differ as their patients did
        for r in new:
            members = [member(math.log(r.distribution.volume_ml) - 0.02 * (k - r.fold), 0.03) for k in range(4)]
            ends = fitted.interval(r.distribution, 0.9, members=members)
            held.append(ends.lower <= r.true_ml <= ends.upper)
            widths.append((ends.lower / r.distribution.volume_ml, ends.upper / r.distribution.volume_ml))
    # about 90 %, and far above what is promised at worst
    assert 0.87 < np.mean(held) < 0.95
    # each end has its own margin: all volumes are larger than they were drawn
    low, high = np.median(widths, 0)
    assert low == 1.0 and high > 1.4


def test_few_patients_reach_only_low_levels():
    fitted = volumes.fit(simulated(np.random.default_rng(2), 18), volume_calibration.CV_PLUS)
    row = simulated(np.random.default_rng(3), 1)[0]
    assert not fitted.interval(row.distribution, 0.9).calibrated and fitted.interval(row.distribution, 0.8).calibrated
    assert "it takes 19 patients, there are 18" in fitted.interval(row.distribution, 0.9).note
    assert math.isnan(fitted.interval(row.distribution, 0.9).shown[0])
    with pytest.raises(ValueError, match="several folds"):
        volumes.fit([replace(r, fold=-1) for r in simulated(np.random.default_rng(2), 18)], "cv_plus")


def test_intervals_are_nested_and_the_shown_volume_is_inside():
    fitted = volumes.fit(simulated(np.random.default_rng(4), 120), volume_calibration.CV_PLUS)
    d = member(3.0).distribution
    ends = [fitted.interval(d, level) for level in (0.1, 0.5, 0.8, 0.9, 0.95)]
    assert all(a.lower >= b.lower and a.upper <= b.upper for a, b in zip(ends, ends[1:]))
    assert all(e.lower <= d.volume_ml <= e.upper for e in ends)
    lost = replace(d, ml=(0.0,) * len(PERCENTILES))
    assert "not found" in fitted.interval(lost, 0.9).note
    # one checkpoint that found nothing does not make it 0
    some = fitted.interval(d, 0.9, members=[member(3.0), MemberVolume(lost), member(3.0), member(3.0)])
    assert some.lower > 0 and math.isfinite(some.upper)


def unequal(rng, count, by):
    """Patients whose spread follows what the contour tells (`by`), or nothing that it does."""
    rows = []
    for k in range(count):
        lacks = rng.uniform(0.03, 0.5)
        error = (lacks if by else 0.2) * rng.standard_normal()
        mine = member(3.5, 0.05)
        rows.append(
            VolumeRow(
                "net",
                f"p{k:03}",
                "organ",
                mine.distribution.ml,
                math.exp(3.5 + error),
                expected_dice=1 - lacks,
                dice=1 - lacks,
                fold=k % 4,
            )
        )
    return rows


def test_scores_are_scaled_where_that_helps_and_only_there():
    rng = np.random.default_rng(5)
    follows, not_ = unequal(rng, 120, True), unequal(rng, 120, False)
    assert volumes.chosen_unit(follows) == "dice" and volumes.chosen_unit(not_) == "none"
    fitted = volumes.fit(follows, "cv_plus")
    wide, narrow = (
        fitted.interval(member(3.5).distribution, 0.9, members=[member(3.5, 0.05, expected_dice=d)])
        for d in (0.6, 0.95)
    )
    assert wide.upper - wide.lower > 3 * (narrow.upper - narrow.lower)


def test_card_and_tables_say_it(tmp_path):
    rows = simulated(np.random.default_rng(6), 40, structures=("a", "b"), dice=0.8, expected_dice=0.8)
    card = volume_card.fit(rows).volumes
    assert card["method"] == "cv_plus" and "1 − 2α" in card["guarantee"] and 0.85 < card["within_90"] <= 1
    assert card["interval_score_90"] < card["interval_score_90_before"]
    assert set(card["patients_90"]) == {"mean", "sd", "sd_by_chance", "least"}
    again = volume_calibration.of_card({"name": "x", "calibration": {"volumes": json.loads(json.dumps(card))}})
    fitted = volumes.fit(rows, "cv_plus")
    d = member(3.2).distribution
    assert again.interval(d, 0.9)[:2] == pytest.approx(fitted.interval(d, 0.9)[:2], rel=1e-3)
    # a pooled patient has two rows, which share his weight: the promise counts patients
    assert fitted.groups["pooled"].patients == 40 and fitted.groups["pooled"].cases == 80
    assert [len(fold) for fold in fitted.groups["pooled"].scores] == [10] * 4
    found = volume_coverage.evaluate(rows)
    assert "cv_plus" in found and found["cv_plus"]["all"].coverage[0.9] > 0.85
    assert "cv_plus" not in volume_coverage.evaluate([replace(r, fold=-1) for r in rows])


def test_the_interval_score_by_hand():
    """Gneiting & Raftery 2007, Eq. 43, at α = 0.1, of a true volume of 2 ml: inside, 1 below and 1 above."""
    assert volumes.interval_score([1, 3, 0], [5, 5, 1], [2, 2, 2], 0.9) == pytest.approx([2.0, 11.0, 10.5])

"""Commissioning on a pretended clinic whose errors are known: what is found, what is recalibrated, what a few patients
bear; and its limits against other people's numbers.
"""

import json
import math

import make_site
import numpy as np
import pytest
from make_site import Site

from rtuncertainty.bundles import site as sites
from rtuncertainty.commissioning import Evidence, advice, conclude, constancy, document, recalibrate, statistics
from rtuncertainty.commissioning import evidence as evidence_of
from rtuncertainty.core.errors import InputError
from rtuncertainty.uncertainty import cross_conformal, hu_calibration, volume_calibration
from rtuncertainty.uncertainty.fit import flags as flag_limits
from rtuncertainty.uncertainty.fit import hu
from rtuncertainty.uncertainty.hu_calibration import Recalibration

PATIENTS = 12


@pytest.fixture(scope="module")
def model():
    return make_site.card()


@pytest.fixture(scope="module")
def commissioned(model):
    """What a site of a kind makes of the pretended model; each kind once."""
    made = {}

    def of(site: Site):
        key = repr(site)
        if key not in made:
            before, evidence_of.VOXELS = evidence_of.VOXELS, 400
            found, charts = make_site.evidence(range(PATIENTS), site, model)
            evidence_of.VOXELS = before
            made[key] = conclude(found, charts, model, "Clinic", "A. Physicist")
        return made[key]

    return of


def findings(done, severity=("serious", "warning")) -> str:
    return " ".join(text for s, text in done.advice.findings if s in severity)


def test_patients_like_the_card_get_what_the_card_says(commissioned):
    done = commissioned(Site())
    voxels = done.fitted.coverage[0]
    assert abs(voxels.before.mean - 0.9) < 0.02 and abs(voxels.after.mean - 0.9) < 0.02
    assert abs(voxels.width_after / voxels.width_before - 1) < 0.1
    assert findings(done) == ""
    assert done.advice.verdict == "use with review"


def test_doubled_noise_is_found_and_repaired(commissioned):
    done = commissioned(Site(noise=2.0))
    voxels, volumes = done.fitted.coverage[:2]
    # 90 % intervals of a Gaussian hold 58.9 % of errors of twice the SD
    assert abs(voxels.before.mean - 0.589) < 0.02 and abs(voxels.after.mean - 0.9) < 0.02
    assert volumes.before.mean < 0.75 and 0.86 <= volumes.after.mean <= 1
    assert "too narrow" in findings(done) and "The noise of the images is another one" in findings(done)
    assert done.advice.synct is not None and not done.advice.synct[0]  # twice the card's error


def test_denser_bone_is_found(commissioned):
    done = commissioned(Site(bone=1.1))
    assert "too low in the region bone" in findings(done) and "in the region body, by" not in findings(done)
    bias = advice.accuracy(done.found)["bone"]["ME"]
    # 10 % of the HU + 1000 of its bone
    true = np.mean([np.mean(e.voxels["synct"]) for e in done.found])
    assert bias.high < -100 < 0 < true + 1000


def test_changed_contrast_is_found(commissioned):
    assert "The contrast" in findings(commissioned(Site(contrast=-0.5)))


def test_a_site_file_makes_intervals_hold_on_new_patients(commissioned, model):
    """Through `bundles.site`, as `predict --site` does it."""
    done = commissioned(Site(noise=2.0))
    card = sites.applied(model, json.loads(json.dumps(done.site)))
    found, _ = make_site.evidence(range(100, 115), Site(noise=2.0), model)
    recalibration, before = hu_calibration.of_card(card), hu_calibration.of_card(model)
    inside = {k: [] for k in ("before", "after")}
    for e in found:
        synct, error, variance = (np.array(e.voxels[k]) for k in ("synct", "error", "variance"))
        for key, r in (("before", before), ("after", recalibration)):
            sd = np.sqrt(sum(r.apply(synct, variance, 0 * variance)))
            inside[key].append((np.abs(error) <= r.factor(0.9) * sd).mean())
    assert np.mean(inside["before"]) < 0.75 and 0.86 <= np.mean(inside["after"]) <= 0.94
    calibration, hits = volume_calibration.of_card(card), []
    for r in (r for e in found for r in e.volume_rows()):
        i = calibration.interval(r.distribution, 0.9)
        hits.append(i.calibrated and i.lower <= r.true_ml <= i.upper)
    assert np.mean(hits) >= 0.8  # 30 volumes: 90 % or more, less 2 of their SDs


def test_nothing_of_a_patient_is_in_a_site_file(commissioned):
    done = commissioned(Site())
    text = json.dumps(done.site)
    assert not any(e.patient in text for e in done.found) and "2026-01-" not in text


def test_a_site_belongs_to_one_model(commissioned, model, tmp_path):
    file = tmp_path / "site.json"
    file.write_text(json.dumps(commissioned(Site()).site), encoding="utf-8")
    card = sites.applied(model, file)
    assert card["site"]["site"] == "Clinic" and "Clinic (12 patients" in sites.sentence(card)
    for other, word in (
        (model | {"version": "1.0.1"}, "other version"),
        (model | {"weights": {"sha256": "1" * 64}}, "other weights"),
    ):
        with pytest.raises(InputError, match=word) as error:
            sites.applied(other, file)
        assert "\n" not in str(error.value)
    for bad in ("[]", "{", '{"kind": "x"}', json.dumps(commissioned(Site()).site | {"format": 9})):
        file.write_text(bad, encoding="utf-8")
        with pytest.raises(InputError, match="site.json"):
            sites.read(file)
    assert sites.applied(model, None) is model


def test_evidence_is_kept_whole(commissioned):
    e = commissioned(Site()).found[0]
    again, more = Evidence.of_json(e.as_json(digest="x"))
    assert again.as_json() == e.as_json() and more["digest"] == "x" and again.voxels == e.voxels
    with pytest.raises(ValueError):
        Evidence.of_json('{"format": 99}')


def test_the_document_says_what_was_found(commissioned):
    done = commissioned(Site(noise=2.0))
    html = document.page(done)
    for words in ("NOT A MEDICAL DEVICE", "Clinic", "A. Physicist", done.advice.sentence, "Signature", "12 used"):
        assert words.replace("'", "&#39;") in html, words
    made = document.files(done)
    assert set(made) == {"cases.csv", "accuracy.csv", "coverage.csv", "limits.csv", "commissioning.html"}
    assert "voxels in the body,card,0.9,0.5" in made["coverage.csv"]


def test_recalibrating_is_undone():
    """The network's own variance comes back from a recalibrated one."""
    r = Recalibration([-500.0, 0.0, 900.0], [0.5, 2.0, 1.5], [10.0, 5.0, 30.0])
    card = {"calibration": {"synct": {"recalibration": r.as_card()}}}
    synct, own = np.linspace(-900, 1500, 50), np.linspace(1, 400, 50)
    shown = sum(r.apply(synct, own, np.zeros(50)))
    assert np.allclose(evidence_of.uncalibrated(shown, synct, card), own)
    assert np.array_equal(evidence_of.uncalibrated(own, synct, {}), own)


# -- few patients


def test_confidence_intervals_are_those_of_textbooks():
    """Student: mean of 1, 2, 3, 4 is 2.5 ± 3.182·1.2910/2; Clopper and Pearson: 8 of 10 gives 44.4 to 97.5 %."""
    e = statistics.mean([1.0, 2.0, 3.0, 4.0, None, math.nan])
    assert e.n == 4 and np.allclose([e.mean, e.low, e.high], [2.5, 2.5 - 2.0543, 2.5 + 2.0543], atol=1e-3)
    share = statistics.share(8, 10)
    assert np.allclose([share.low, share.high], [0.4439, 0.9748], atol=1e-4)
    assert statistics.mean([]).n == 0 and statistics.mean([3.0]).high == math.inf


@pytest.mark.parametrize("n", [9, 10, 30])
def test_the_long_run_is_that_of_simulated_commissionings(n):
    """Coverage of conformal intervals on n scores: quantiles of 4000 simulations."""
    scores = np.sort(np.random.default_rng(n).random((4000, n)), axis=1)
    k = math.ceil(0.9 * (n + 1) - 1e-9)
    assert np.allclose(statistics.long_run(n), np.quantile(scores[:, k - 1], [0.05, 0.95]), atol=0.01)


def test_what_few_patients_bear_is_said():
    assert "up to 83 %" in statistics.bearing(5)[0] and "takes at least 9" in statistics.bearing(5)[0]
    assert "bear intervals of 90 %" in statistics.bearing(10)[0]
    assert "26 % of patients" in statistics.bearing(10)[1]  # 1 - 0.05^(1/10)
    assert statistics.long_run(8) is None and len(statistics.bearing(1)) == 1


def test_few_patients_get_no_recommendation_and_pooled_factors(commissioned, model):
    found = commissioned(Site()).found[:3]
    fitted = recalibrate.fit(found, model)
    assert advice.give(found, fitted, model).verdict == "too few patients"
    assert "the card's 10 patients counted in" in fitted.notes[0]
    # 10 patients of the card and 4 with errors of twice the SD: the 90 % point of the mixture of |N(0, 1)|, |N(0, 2)|
    rng, known = np.random.default_rng(0), hu_calibration.of_card(model)
    zero, one = np.zeros(4000), np.ones(4000)
    four = [hu.Patient(zero, 2 * rng.standard_normal(4000), one, zero) for _ in range(4)]
    draws = rng.standard_normal((14, 40000))
    draws[10:] *= 2
    assert abs(recalibrate._pooled(known, 10, four).factors[0.9] - np.quantile(np.abs(draws), 0.9)) < 0.05


def test_few_patients_unlike_the_cards_stand_alone(commissioned, model):
    fitted = recalibrate.fit(commissioned(Site(noise=2.0)).found[:4], model)
    factor = fitted.entries["synct"]["recalibration"]["interval_factors"]["0.9"]
    assert abs(factor - 2 * 1.645) < 0.15 and "alone" in fitted.notes[0]


def scored_card(scores) -> dict:
    group = {"cases": len(scores), "patients": len(scores), "scores": [[[s] for s in scores]]}
    return {
        "name": "m",
        "calibration": {
            "volumes": {"method": "cv_plus", "unit": "none", "groups": {"pooled": group}},
            "synct": None,
        },
    }


def rows_of(scores) -> list:
    from rtuncertainty.uncertainty.fit.volumes import VolumeRow
    from rtuncertainty.uncertainty.volume_distribution import PERCENTILES

    c = cross_conformal.OFFSET_ML
    return [
        VolumeRow("m", f"p{k}", "organ", (50.0,) * len(PERCENTILES), (50 + c) * math.exp(s) - c)
        for k, s in enumerate(scores)
    ]


def test_weighted_intervals_are_those_of_a_weighted_quantile():
    """Barber 2023, Eq. 9, counted by hand: the site's scores weigh 1, the card's less, a new patient 1."""
    rng = np.random.default_rng(3)
    own, theirs = rng.normal(0, 0.1, 6), rng.normal(0, 0.1, 40)
    found = recalibrate.weighted(rows_of(own), scored_card(theirs))
    group = found.groups["pooled"]
    weight = (2 * 19 - 6) / 40
    assert group.patients == 38 and np.allclose(group.weights[0], [1.0] * 6 + [weight] * 40)
    values, weights = np.concatenate([own, theirs]), np.array(group.weights[0])
    total = weights.sum() + 1
    high = min(v for v in values if weights[values <= v].sum() / total >= 0.95)
    interval = found.interval(rows_of([0.0])[0].distribution, 0.9)
    c = cross_conformal.OFFSET_ML
    assert interval.calibrated and math.isclose(interval.upper, (50 + c) * math.exp(high) - c, rel_tol=1e-9)
    again = volume_calibration.of_card({"calibration": {"volumes": found.as_card()}})
    assert math.isclose(again.interval(rows_of([0.0])[0].distribution, 0.9).upper, interval.upper, rel_tol=1e-3)


def test_cards_patients_are_taken_in_only_where_they_are_alike():
    rng = np.random.default_rng(4)
    card, alike, other = scored_card(rng.normal(0, 0.1, 40)), rows_of(rng.normal(0, 0.1, 6)), rows_of([0.6] * 6)
    for rows, pooled in ((alike, True), (other, False)):
        out = recalibrate.Recalibrated()
        assert (recalibrate._pooled_volumes(out, rows, card) is not None) == pooled
        assert ("weighted conformal" if pooled else "were not taken together") in out.notes[0]


# -- limits of flags


def test_a_promised_limit_is_mapies():
    """Conformal risk control of the share of a patient's bad contours that are missed, by MAPIE's upper bound."""
    pytest.importorskip("mapie")
    from mapie.risk_control.methods import get_r_hat_plus

    rng = np.random.default_rng(5)
    score, bad = rng.random(200), rng.random(200) < 0.4
    patients = np.repeat(np.arange(25), 8)
    limit = flag_limits.controlled(score, bad, patients, 0.9)
    candidates = np.sort(score[bad])
    risks = np.array(
        [[(score[bad & (patients == p)] < s).mean() for s in candidates] for p in np.unique(patients[bad])]
    )
    _, bound = get_r_hat_plus(risks, candidates, "crc", None, None, None)
    allowed = candidates[bound <= 0.1]
    # halfway from the lowest score that is flagged to the highest that is not
    assert allowed.size and limit == (allowed.max() + score[score < allowed.max()].max()) / 2


def test_the_promise_of_a_limit_holds_on_new_patients():
    """Over 300 draws of 15 patients the limit catches 90 % of a new patient's bad contours or more."""
    rng, caught = np.random.default_rng(6), []
    for _ in range(300):
        score, patients = rng.random(15), np.arange(15)
        limit = flag_limits.controlled(score, np.ones(15, bool), patients, 0.9)
        caught.append(rng.random() > limit)
    assert np.mean(caught) > 0.9 - 2 * math.sqrt(0.09 / 300)
    assert flag_limits.controlled(np.array([0.5]), np.array([True]), np.array([0]), 0.9) == -math.inf
    assert flag_limits.most_catch(4) == 0.8


# -- constancy


def test_control_limits_are_passed_as_often_as_they_say():
    """A chart of individuals from n values: a new one lies outside in 0.27 %, whatever n (Student)."""
    rng = np.random.default_rng(7)
    values, outside = rng.standard_normal((20000, 11)), 0
    for row in values:
        known = {"mean": row[:10].mean(), "sd": row[:10].std(ddof=1), "n": 10}
        low, high = constancy.limits(known)
        outside += not low <= row[10] <= high
    assert 0.0015 < outside / 20000 < 0.0042


def test_a_slow_drift_is_seen_and_none_where_there_is_none():
    rng = np.random.default_rng(8)
    known = {"mean": 0.0, "sd": 1.0, "n": 20}
    for drift, seen in ((0.0, False), (1.2, True)):
        means, allowed = constancy.ewma((rng.standard_normal(20) + drift).tolist(), known)
        assert any(abs(m) > a for m, a in zip(means, allowed)) == seen

"""Recalibration on errors whose true spread is known."""

import numpy as np
import pytest

from rtuncertainty.uncertainty.fit import hu as recalibration
from rtuncertainty.uncertainty.fit.hu import KNOTS, Patient
from rtuncertainty.uncertainty.hu_calibration import of_card


def true_scale(hu):
    """The network is too sure of bone and too unsure of soft tissue."""
    return np.interp(hu, [0, 300], [0.7, 1.6])


def patient(seed, n=20000, residual=0.0, heavy=False, known=True):
    rng = np.random.default_rng(seed)
    hu = rng.choice([-100.0, 50.0, 250.0, 700.0], n, p=[0.2, 0.5, 0.2, 0.1]) + rng.normal(0, 40, n)
    sd = rng.uniform(20, 120, n)
    noise = rng.standard_t(4, n) / np.sqrt(2) if heavy else rng.standard_normal(n)
    error = np.sqrt((true_scale(hu) * sd) ** 2 + residual**2) * noise
    share = rng.uniform(0.2, 0.8, n)
    return Patient(hu, error, share * sd**2 * known, (1 - share) * sd**2 * known)


def test_a_known_scale_is_found_at_every_hu():
    found = recalibration.fit([patient(k) for k in range(4)])
    hu = np.array([-100.0, 50.0, 250.0, 600.0])
    assert np.interp(hu, found.knots, found.scale) == pytest.approx(true_scale(hu), rel=0.12)
    for p in (patient(9), patient(10)):
        z = recalibration.z_scores(found, p)
        for low, high in ((-300, 0), (0, 150), (150, 400), (500, 900)):
            assert z[(p.synct > low) & (p.synct < high)].std() == pytest.approx(1, abs=0.06)
    assert found.factor(0.9) == pytest.approx(1.645, abs=0.05)


def test_a_residual_that_the_network_does_not_know_is_found():
    found = recalibration.fit([patient(k, residual=60.0) for k in range(4)])
    unseen = patient(11, residual=60.0)
    z = recalibration.z_scores(found, unseen)
    certain = unseen.intrinsic + unseen.parameter < 40**2
    assert z.std() == pytest.approx(1, abs=0.03) and z[certain].std() == pytest.approx(1, abs=0.08)


def test_heavy_tails_keep_their_coverage_where_a_gaussian_interval_would_not():
    patients = [patient(k, heavy=True) for k in range(5)]
    rows = recalibration.leave_one_out(patients)
    assert np.mean([r["coverage"][0.9] for r in rows]) == pytest.approx(0.9, abs=0.01)
    assert np.mean([r["coverage"][0.5] for r in rows]) == pytest.approx(0.5, abs=0.015)
    found = recalibration.fit(patients)
    assert found.factor(0.9) < 1.56  # Student's t with the same sd is narrower in the middle


def test_a_network_without_any_uncertainty_gets_the_spread_of_its_errors():
    found = recalibration.fit([patient(k, known=False) for k in range(3)])
    z = recalibration.z_scores(found, patient(7, known=False))
    assert z.std() == pytest.approx(1, abs=0.05)
    assert len(found.scale) == len(KNOTS) and np.isfinite(found.residual).all()


def test_leaving_one_out_never_uses_the_patient():
    patients = [patient(k) for k in range(3)]
    strange = Patient(patients[0].synct, 5 * patients[0].error, patients[0].intrinsic, patients[0].parameter)
    rows = recalibration.leave_one_out([strange, *patients[1:]])
    assert rows[0]["z sd"] == pytest.approx(5, rel=0.1)  # fitted on the others, this one stands out
    with pytest.raises(ValueError, match="two validation patients"):
        recalibration.leave_one_out(patients[:1])


def test_the_card_gives_back_what_was_fitted():
    found = recalibration.fit([patient(1), patient(2)])
    again = of_card({"calibration": {"synct": {"recalibration": found.as_card()}}})
    hu = np.linspace(-900, 1500, 50)
    assert np.interp(hu, again.knots, again.scale) == pytest.approx(np.interp(hu, found.knots, found.scale), abs=1e-3)
    assert again.factor(0.9) == pytest.approx(found.factor(0.9), abs=1e-3)


def test_voxels_are_drawn_inside_the_region():
    synct, ct = np.arange(60.0).reshape(3, 4, 5), np.zeros((3, 4, 5))
    region = np.zeros((3, 4, 5), bool)
    region[1] = True
    drawn = Patient.drawn(synct, ct, None, np.full((3, 4, 5), 3.0), region, count=10)
    assert len(drawn.error) == 10 and drawn.error.min() >= 20 and drawn.error.max() < 40
    assert not drawn.intrinsic.any() and (drawn.parameter == 9).all()


def test_the_card_gets_what_predict_will_show():
    import math

    from training.evaluation.slices import RECALIBRATED, for_card, recalibrated_row

    patients = [patient(k, heavy=True) for k in range(3)]
    rows = [
        {"case": f"p{k}", "MAE body, ours": 40.0 + k, "Dice gtv": math.nan, "z sd": 0.8, "within 90 %": 0.97}
        | recalibrated_row(r)
        for k, r in enumerate(recalibration.leave_one_out(patients))
    ]
    fitted = recalibration.fit(patients)
    found = for_card(rows, {"weights": {"sha256": "x"}}, fitted.as_card(), [50.0, 60.0])
    assert found["accuracy"]["table"] == {"MAE body (HU)": 41.0} and found["accuracy"]["n"] == 3
    known = found["calibration"]["synct"]
    assert known["z_sd"] == pytest.approx(1, abs=0.05) and known["within_90"] == pytest.approx(0.9, abs=0.02)
    assert known["z_sd_before"] == 0.8 and known["body_sd_range_hu"] == [50.0, 60.0]
    assert of_card({"calibration": found["calibration"]}).factor(0.9) == pytest.approx(fitted.factor(0.9), abs=1e-3)
    alone = [{**rows[0], **dict.fromkeys(RECALIBRATED, math.nan)}]
    assert for_card(alone, {"weights": {"sha256": "x"}}, fitted.as_card(), [1.0, 1.0])["calibration"]["synct"] is None

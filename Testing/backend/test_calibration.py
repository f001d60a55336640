"""Recalibration of the variances and of the intervals: known answers, and the way through `predict`."""

import numpy as np
import pytest
import SimpleITK as sitk
from make_bundle import make_bundle
from scipy import stats

from rtuncertainty.phantoms import limb as phantom
from rtuncertainty.prediction import predict
from rtuncertainty.uncertainty import edge, hu_calibration, metrics

STORED = {
    "knots_hu": [-200.0, 300.0],
    "scale": [1.0, 2.0],
    "residual_hu": [0.0, 10.0],
    "interval_factors": {"0.5": 0.5, "0.9": 1.2, "0.95": 1.5},
}


def card(stored):
    return {"calibration": {"synct": {"recalibration": stored}}}


def test_scale_and_residual_are_interpolated_by_hu_and_held_beyond_the_knots():
    found = hu_calibration.of_card(card(STORED))
    synct = np.array([-1000.0, -200.0, 50.0, 300.0, 2000.0])
    intrinsic, parameter = found.apply(synct, np.full(5, 400.0), np.full(5, 100.0))
    scale, residual = np.array([1, 1, 1.5, 2, 2]), np.array([0, 0, 5, 10, 10])
    assert np.allclose(intrinsic, 400 * scale**2 + residual**2) and np.allclose(parameter, 100 * scale**2)


def test_factors_are_the_cards_and_gaussian_where_it_has_none():
    known = hu_calibration.interval_factors(card(STORED), [0.5, 0.7, 0.9, 0.99])
    assert known[0.5] == 0.5 and known[0.9] == 1.2
    assert known[0.7] == pytest.approx(0.85)  # half way
    assert known[0.99] == pytest.approx(stats.norm.ppf(0.995))
    assert hu_calibration.interval_factors(card(None), [0.9])[0.9] == pytest.approx(1.6449, abs=1e-4)


def test_a_card_keeps_what_it_is_given():
    found = hu_calibration.Recalibration([-200.0, 300.0], [1.0, 2.0], [0.0, 10.0], {0.9: 1.2})
    assert hu_calibration.of_card(card(found.as_card())) == found


def test_coverage_uses_the_factors():
    z = np.array([0.1, 0.6, 1.1, 1.4, 3.0])
    assert metrics.coverage(z, (0.9,), {0.9: 1.2}) == {0.9: 0.6}
    assert metrics.coverage(z, (0.9,)) == {0.9: 0.8}


@pytest.fixture(scope="module")
def limb():
    return phantom.digital_limb(2, size=(48, 48, 6), spacing=(4.0, 4.0, 6.0))


def test_predict_applies_the_cards_recalibration(tmp_path, limb):
    plain = predict.predict(limb.mr, make_bundle(tmp_path / "plain"), samples=4, reference=limb.ct, device="cpu")
    known = {
        "synct": {
            "recalibration": {
                "knots_hu": [0.0, 1.0],
                "scale": [2.0, 2.0],
                "residual_hu": [30.0, 30.0],
                "interval_factors": {"0.5": 0.2, "0.9": 0.4},
            }
        },
        "volumes": None,
    }
    changed = predict.predict(
        limb.mr, make_bundle(tmp_path / "changed", calibration=known), samples=4, reference=limb.ct, device="cpu"
    )
    before, after = (sitk.GetArrayFromImage(p.predictive_sd) for p in (plain, changed))
    body = sitk.GetArrayFromImage(plain.body) > 0
    # what the edge of the body adds is no matter of the network, and not recalibrated
    added = edge.STEP_HU**2 * edge.probability(body, plain.measured, limb.mr.GetSpacing())[body]
    assert np.allclose(after[body] ** 2, 4 * (before[body] ** 2 - added) + 900 + added, rtol=1e-3)
    assert np.array_equal(sitk.GetArrayFromImage(plain.synct), sitk.GetArrayFromImage(changed.synct))
    scored = metrics.reference_body(sitk.GetArrayFromImage(limb.ct), limb.ct.GetSpacing()) & plain.measured
    error = (sitk.GetArrayFromImage(changed.synct) - sitk.GetArrayFromImage(limb.ct))[scored]
    z = np.abs(error / np.maximum(after[scored], 1e-6))[after[scored] > 0]
    row = next(r for r in changed.metrics if r.region == "body" and r.metric.startswith("coverage of 90"))
    assert row.value == pytest.approx(100 * (z <= 0.4).mean(), abs=0.1)


ATROUS = {
    "3tn": [
        {
            "name": "bone",
            "label": 1,
            "color": [241, 214, 145],
            "code": {"scheme": "SCT", "value": "272673000", "meaning": "Bone"},
        }
    ],
    "1tn-fl": [],
}


@pytest.mark.parametrize("name", ATROUS)
def test_aggregate_and_single_task_bundles_go_through_the_whole_job(tmp_path, limb, name):
    from rtuncertainty.jobs.prediction import predict_to_folder
    from rtuncertainty.report.data import load

    folder = make_bundle(
        tmp_path / "model",
        network=name,
        arguments={"filters": 4},
        outputs={"synct": {"unit": "HU", "scale": 1000.0, "offset": 0.0}, "structures": ATROUS[name]},
    )
    sitk.WriteImage(limb.mr, str(tmp_path / "mr.nii.gz"))
    out = predict_to_folder(tmp_path / "mr.nii.gz", folder, tmp_path / "out", samples=4, device="cpu", report=True)
    names = {p.name for p in out.iterdir()}
    assert {
        "synct.nii.gz",
        "synct_predictive_sd.nii.gz",
        "synct_parameter_sd.nii.gz",
        "report.html",
        "summary.json",
    } <= names
    assert "synct_intrinsic_sd.nii.gz" not in names  # it is not known, which is not the same as none
    assert ("structures.seg.nrrd" in names) == ("structures_entropy.nii.gz" in names) == bool(ATROUS[name])
    assert load(out).summary["model"]["architecture"]["name"] == name

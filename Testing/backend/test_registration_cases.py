"""The pairs by which Testing/benchmarks/registration.py measures: what it calls true is true."""

import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from make_pair import make_patient

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import registration as benchmark  # noqa: E402
import registration_cases as known  # noqa: E402

from training.data.prepare.patients import Patient  # noqa: E402

SPACING = (5.0, 5.0, 5.0)


@pytest.fixture(scope="module")
def patient():
    planning, masks, *_ = make_patient()
    return Patient("block", planning, masks)


@pytest.fixture
def bent(patient):
    return known.day(patient, "B-spline", SPACING, 3, sd_mm=5.0)


@pytest.mark.parametrize("shift", [None, (35.0, 0.0, -35.0)])
def test_the_true_displacement_has_no_error(bent, shift):
    """Nor have the masks that it moves, but for the voxels; without it both are off."""
    case = bent if shift is None else known.shifted(bent, shift)
    true, none = torch.from_numpy(case.displacement), torch.zeros((3, *case.where.shape))
    assert case.error_mm(true) < 1e-4 and case.msd_mm(true) < 0.8
    assert case.error_mm(none) > 1.5 and case.msd_mm(none) > case.msd_mm(true) + 0.3
    if shift is not None:  # what the rigid alignment has to bring back, with what is bent
        centre = np.array(case.pair.rigid.GetCenter())
        moved = np.array(case.pair.rigid.TransformPoint(centre.tolist())) - centre
        assert np.allclose(moved, np.negative(shift), atol=8)


def test_what_goes_wrong(bent):
    """A scan that is turned over has the same voxels in another order, and its masks with it."""
    before, mask = sitk.GetArrayFromImage(bent.daily), sitk.GetArrayFromImage(bent.truth["Bladder"])
    case = known.turned_over(bent, (1, 2))
    assert np.array_equal(sitk.GetArrayFromImage(case.daily), before[:, ::-1, ::-1])
    assert np.array_equal(sitk.GetArrayFromImage(case.truth["Bladder"]), mask[:, ::-1, ::-1])
    assert np.isnan(case.error_mm(torch.zeros((3, *case.where.shape))))
    ends = [known.elsewhere(case)]
    z = [
        i.GetOrigin()[2] + s * i.GetSpacing()[2]
        for c in ends
        for i, s in ((c.planning, 0), (c.daily, c.daily.GetSize()[2]))
    ]
    assert z[0] > z[1] and ends[0].truth == {}


def test_looks_change_the_scan_and_leave_it_a_ct(patient):
    for name, look in known.LOOKS.items():
        made = look(patient.ct, np.random.default_rng(0))
        array, size = sitk.GetArrayFromImage(made), made.GetSize()
        assert array.dtype == np.int16 and array.min() >= -1024 and array.max() <= 3071, name
        if name == "narrow":
            assert size[2] < patient.ct.GetSize()[2] and size[:2] == patient.ct.GetSize()[:2]
        else:
            assert size == patient.ct.GetSize() and not np.array_equal(array, sitk.GetArrayFromImage(patient.ct)), name


def row(error=1.0, msd=1.0, **values):
    return {
        "kind": "B-spline",
        "error_mm": error,
        "msd_mm": msd,
        "checks": dict.fromkeys(benchmark.checks.LIMITS, 1.0) | values,
    }


def test_limits_find_failures_without_false_alarms():
    right = [row(residual=v) for v in (0.5, 1.0, 2.0)]
    wrong = [row(9.0, residual=3.5), row(np.nan, np.inf, residual=9.0), {"kind": "narrow", "refused": "no patient"}]
    assert [benchmark.failed(r) for r in right + wrong] == [False] * 3 + [True] * 3
    assert benchmark.failed(row() | {"kind": "another patient"})
    limits = benchmark.chosen_limits(right, wrong)
    # between 2.0 and the next failure, 3.5; nothing fails by its body
    assert limits["residual"] == pytest.approx(7.0**0.5, abs=1e-3) and limits["bodies"] == pytest.approx(3.0)
    assert [benchmark.caught(r, limits) for r in right + wrong] == [False] * 3 + [True] * 3

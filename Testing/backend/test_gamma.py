"""The gamma index: pymedphys' numbers, what can be worked out by hand, brute force, any grid."""

import csv
import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from make_gamma_reference import TABLE, pairs

from rtuncertainty.core.errors import InputError
from rtuncertainty.dose import gamma_search
from rtuncertainty.dose.gamma import gamma

EXACT = gamma_search.EXACT


def image(array, spacing=(2.0, 2.0, 2.0), origin=(0.0, 0.0, 0.0), direction=None):
    out = sitk.GetImageFromArray(np.asarray(array, np.float32))
    out.SetSpacing([float(s) for s in spacing])
    out.SetOrigin([float(o) for o in origin])
    if direction is not None:
        out.SetDirection([float(d) for d in np.ravel(direction)])
    return out


def on_axes(dose, axes):
    return image(dose, [a[1] - a[0] for a in reversed(axes)], [a[0] for a in reversed(axes)])


def rough(seed=0, shape=(7, 8, 9)):
    return 40 + 20 * np.random.default_rng(seed).random(shape)


# ------------------------------------------------------------------ other people's numbers
def by_pymedphys():
    with TABLE.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", sorted({row["pair"] for row in by_pymedphys()}))
def test_against_pymedphys(name):
    """pymedphys tries shifts, which finds a γ that is too large; with finer ones it comes down to ours."""
    p = pairs()[name]
    found = gamma(
        on_axes(p.dose, p.axes),
        on_axes(p.evaluated, p.axes_evaluated),
        p.dose_percent,
        p.distance_mm,
        cutoff=p.cutoff,
        local=p.local,
        max_gamma=p.max_gamma,
    )
    values = found.values[~found.values.isnan()].numpy()
    rows = sorted((r for r in by_pymedphys() if r["pair"] == name), key=lambda r: int(r["interp_fraction"]))
    assert found.outside == 0 and all(int(r["evaluated"]) == found.evaluated for r in rows) and len(rows) == 3
    means, rates = [float(r["mean"]) for r in rows], [float(r["pass_rate"]) for r in rows]
    assert means == sorted(means, reverse=True) and rates == sorted(rates)
    assert abs(found.pass_rate() - rates[-1]) < 0.05
    assert -0.002 < means[-1] - found.mean() < 0.012
    # the error of shifts is linear in their length, so its limit can be told: half of the last step more
    assert found.mean() == pytest.approx(2 * means[-1] - means[-2], abs=0.01)
    assert np.percentile(values, [50, 95]) == pytest.approx([float(rows[-1][q]) for q in ("p50", "p95")], abs=0.006)


# ------------------------------------------------------------------ worked out by hand
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.booleans(), st.sampled_from([1.0, 3.0]))
def test_equal_doses_have_a_gamma_of_zero(seed, local, distance):
    dose = image(rough(seed))
    found = gamma(dose, dose, 2, distance, local=local)
    assert float(found.values.max()) == 0 and found.pass_rate() == 100 and found.evaluated == dose.GetNumberOfPixels()


@settings(max_examples=25, deadline=None)
@given(st.floats(0.9, 1.1), st.floats(0.5, 5.0), st.booleans())
def test_scaling_of_a_uniform_dose(factor, percent, local):
    """Without a gradient no distance helps: γ is the difference over the tolerance."""
    dose = np.full((5, 6, 7), 60.0)
    found = gamma(image(dose), image(factor * dose), percent, 2, local=local, max_gamma=2)
    expected = min(2.0, abs(factor - 1) * 100 / percent)
    assert np.allclose(found.values.numpy(), expected, atol=2e-3)
    # γ = 1 itself is a pass, rounding or not
    assert found.pass_rate() == (100 if expected <= 1.0 else 0) or abs(expected - 1) < 2e-4


@settings(max_examples=25, deadline=None)
@given(
    st.floats(-0.04, 0.04),
    st.floats(0.1, 4.0),
    st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1),
)
def test_scaling_of_a_linear_dose(change, gradient, towards):
    """γ = |Δ| / sqrt(tolerance² + (gradient · distance)²) where the nearest point lies inside of the grid."""
    slope = np.array(towards) / np.linalg.norm(towards) * gradient
    z, y, x = np.meshgrid(*[2.0 * np.arange(-4, 5)] * 3, indexing="ij")
    dose = 60 + slope[0] * z + slope[1] * y + slope[2] * x
    found = gamma(image(dose), image((1 + change) * dose), 2, 2, cutoff=0, normalisation=60, max_gamma=3)
    expected = abs(change) * 60 / math.hypot(0.02 * 60, (1 + change) * gradient * 2)
    assert float(found.values[4, 4, 4]) == pytest.approx(min(3, expected), abs=EXACT)


def test_a_shift_along_a_steep_edge_is_its_distance():
    """Where the dose is far steeper than its tolerance, γ is the shift over the distance to agreement."""
    x = 1.0 * np.arange(40)

    def edge(shift):
        return np.broadcast_to(np.clip(10 + 8 * (x - 10 - shift), 10, 200), (6, 6, 40))

    found = gamma(image(edge(0), (1, 1, 1)), image(edge(1.3), (1, 1, 1)), 2, 2)
    assert np.allclose(found.values[:, :, 18:28], 1.3 / math.hypot(2, 0.02 * 200 / 8), atol=EXACT)


def brute_force(reference, evaluated, percent, distance, local, step, largest):
    """γ by all shifts on a lattice of `step` mm; unit spacing."""
    from scipy.ndimage import map_coordinates

    tolerance = percent / 100 * (reference if local else reference.max())
    shifts = np.arange(-round(largest * distance / step), round(largest * distance / step) + 1) * step
    best = np.full(reference.shape, largest**2)
    where = np.indices(reference.shape).astype(float)
    for shift in np.stack(np.meshgrid(shifts, shifts, shifts, indexing="ij"), -1).reshape(-1, 3):
        far = (shift**2).sum() / distance**2
        if far < largest**2:
            at = where + shift.reshape(3, 1, 1, 1)
            inside = np.all((at >= -1e-9) & (at <= np.array(reference.shape).reshape(3, 1, 1, 1) - 1 + 1e-9), 0)
            value = map_coordinates(evaluated, at, order=1, mode="nearest")
            best = np.where(inside, np.minimum(best, far + ((value - reference) / tolerance) ** 2), best)
    return np.sqrt(best)


@pytest.mark.parametrize("local", [False, True])
def test_against_brute_force_on_noise(local):
    """Noise is the hardest case: nothing in it is linear. No shift may be better than what the search found."""
    a, b = rough(1, (5, 5, 6)), rough(2, (5, 5, 6))
    found = gamma(image(a, (1, 1, 1)), image(b, (1, 1, 1)), 3, 1.0, cutoff=0, local=local, max_gamma=1.5).values.numpy()
    tried = brute_force(a, b, 3, 1.0, local, 1 / 12, 1.5)
    assert (found <= tried + EXACT).all()
    # and what it found is there: shifts of a twelfth miss by little
    assert np.abs(found - tried).max() < 0.3 and (tried - found).mean() < 0.06


# ------------------------------------------------------------------ grids
def turned(angle):
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


@settings(max_examples=10, deadline=None)
@given(st.tuples(*[st.floats(-200, 200)] * 3), st.floats(-3, 3))
def test_both_grids_moved_together(origin, angle):
    p = image(rough(3)), image(rough(4))
    first = gamma(*p, 3, 2).values
    for i in p:
        i.SetOrigin([float(v) for v in turned(angle) @ i.GetOrigin() + origin])
        i.SetDirection(turned(angle).ravel())
    assert torch.allclose(gamma(*p, 3, 2).values, first, atol=2e-3, equal_nan=True)


@pytest.mark.parametrize("axes", [(2, 0, 1), (1, 0, 2)])
def test_the_same_dose_with_other_axes(axes):
    dose, other = image(rough(5)), image(rough(6))
    permuted = sitk.Flip(sitk.PermuteAxes(other, axes), (True, False, False))
    assert torch.allclose(gamma(dose, permuted, 3, 2).values, gamma(dose, other, 3, 2).values, atol=EXACT)


def test_a_linear_dose_on_another_grid_is_the_same_dose():
    z, y, x = np.meshgrid(2.0 * np.arange(12), 2.0 * np.arange(12), 2.0 * np.arange(12), indexing="ij")
    reference = image(30 + x + 0.5 * y - 0.2 * z)
    z, y, x = np.meshgrid(-3 + 3.1 * np.arange(12), -2 + 1.3 * np.arange(25), -2 + 1.7 * np.arange(20), indexing="ij")
    evaluated = image(30 + x + 0.5 * y - 0.2 * z, (1.7, 1.3, 3.1), (-2, -2, -3))
    found = gamma(reference, evaluated, 1, 1)
    assert float(found.values.max()) < 1e-3 and found.outside == 0


def test_voxels_beyond_the_evaluated_dose_are_left_out():
    dose = rough(7)
    found = gamma(image(dose), image(dose[:, :, 4:], origin=(8, 0, 0)), 2, 2, max_gamma=1.5)
    assert found.values[:, :, :4].isnan().all() and not found.values[:, :, 4:].isnan().any()
    assert found.outside == 7 * 8 * 4 and found.evaluated == 7 * 8 * 5 and float(found.values[:, :, 4:].max()) == 0


def test_one_slice_and_the_cut_off():
    dose = rough(8)[:1]
    dose[0, 0, :4] = 1.0
    found = gamma(image(dose), image(dose * 1.01), 2, 2, cutoff=10)
    assert found.evaluated == dose.size - 4 and found.values[0, 0, :4].isnan().all() and found.pass_rate() == 100


def test_little_memory_changes_nothing(monkeypatch):
    p = image(rough(9)), image(rough(10))
    first = gamma(*p, 3, 2).values
    monkeypatch.setattr(gamma_search, "BOXES", 64)
    monkeypatch.setattr("rtuncertainty.dose.gamma.POINTS", 100)
    assert torch.allclose(gamma(*p, 3, 2).values, first, atol=EXACT)


@pytest.mark.parametrize(
    "options,words",
    [
        ({"dose_percent": 0}, "dose percent"),
        ({"distance_mm": -1}, "distance"),
        ({"distance_mm": math.nan}, "distance"),
        ({"cutoff": 100}, "cut-off"),
        ({"max_gamma": math.inf}, "max gamma"),
        ({"max_gamma": 1.0}, "at least 1.01"),
    ],
)
def test_what_makes_no_sense_is_refused(options, words):
    dose = image(rough())
    with pytest.raises(InputError, match=words):
        gamma(dose, dose, **options)


def test_doses_elsewhere_or_without_dose():
    dose = image(rough())
    with pytest.raises(InputError, match="do not overlap"):
        gamma(dose, image(rough(), origin=(500, 0, 0)))
    with pytest.raises(InputError, match="zero everywhere"):
        gamma(dose * 0, dose)

"""Volume distributions: from moments against stored samples, nested contours, rules, and what cannot be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from rtuncertainty.core import structures
from rtuncertainty.uncertainty import volume_distribution, volumes
from rtuncertainty.uncertainty.volume_distribution import (
    PERCENTILES,
    VolumeDistribution,
    contour,
    from_surface,
    of_membership,
    of_sums,
    percent,
    restricted,
)

ML = 0.001
SHAPE = (20, 20, 20)
MIDDLE = special.expit(-(np.linalg.norm(np.indices(SHAPE) - 9.5, axis=0) - 6.5) / 0.8)  # a soft ball


def drawn(kind: str, count=400) -> np.ndarray:
    rng = np.random.default_rng(0)
    if kind == "beta":
        return rng.beta(12 * MIDDLE + 0.2, 12 * (1 - MIDDLE) + 0.2, (count, *SHAPE))
    if kind == "logistic normal":  # dropout in a last layer: Gaussian logits
        return special.expit(special.logit(MIDDLE) + 1.5 * rng.standard_normal((count, *SHAPE)))
    return np.where(rng.random((count, *SHAPE)) < MIDDLE, 0.9, 0.1)  # two minds: nothing in between


def from_samples(samples: np.ndarray) -> np.ndarray:
    """P(p > ½) of every voxel from stored samples [T, ...]: 1 less the percentile at which their quantiles cross one
    half.
    """
    samples = np.sort(samples, axis=0)
    steps, below = samples.shape[0] - 1, (samples <= 0.5).sum(0)
    last = np.clip(below - 1, 0, steps)
    low, high = (np.take_along_axis(samples, np.minimum(last + step, steps)[None], 0)[0] for step in (0, 1))
    crossing = (last + np.divide(0.5 - low, high - low, out=np.zeros(low.shape), where=high > low)) / steps
    return np.where(below == 0, 1.0, np.where(below > steps, 0.0, 1 - crossing))


def both(samples) -> tuple[VolumeDistribution, VolumeDistribution]:
    labelled = samples.mean(0) > 0.5
    fitted = volumes.probability_of_being_inside(samples.mean(0), samples.var(0, ddof=1))
    return tuple(of_membership("ball", restricted(p, labelled), ML) for p in (from_samples(samples), fitted))


def test_sums_of_probabilities_are_those_of_the_voxels_quantiles():
    samples = drawn("beta")
    found = of_sums("ball", samples.mean(0), samples.var(0, ddof=1), ML)
    wanted = np.quantile(samples, np.array(PERCENTILES) / 100, axis=0).sum((1, 2, 3)) * ML
    error = np.abs(np.array(found.ml) / wanted - 1)
    middle = np.array([5 <= q <= 95 for q in PERCENTILES])
    assert error[middle].max() < 0.01 and error.max() < 0.05  # few samples tell the last percentiles
    mean = samples.mean(0)
    sure = of_sums("ball", mean, 0 * mean, ML)  # without a spread every percentile is Σ p
    assert np.allclose(sure.ml, mean.sum() * ML)


# the largest relative error of the volumes from 5 to 95 %, and from 0.5 to 99.5 %
@pytest.mark.parametrize(
    "kind,inner,outer", [("beta", 0.03, 0.06), ("logistic normal", 0.04, 0.18), ("two minds", 0.2, 1.3)]
)
def test_error_of_the_beta_fit(kind, inner, outer):
    stored, fitted = both(drawn(kind))
    error = np.abs(np.array(fitted.ml) / np.array(stored.ml) - 1)
    middle = np.array([5 <= q <= 95 for q in PERCENTILES])
    assert error[middle].max() < inner and error.max() < outer
    assert fitted.volume_ml == stored.volume_ml == pytest.approx((drawn(kind).mean(0) > 0.5).sum() * ML)


def test_of_few_samples_the_fit_knows_more_than_the_samples_themselves():
    """20 samples cannot reach a 2.5th percentile; the Beta distribution of their moments can."""
    samples = drawn("logistic normal")
    true = np.array(both(samples)[0].ml)
    at = [PERCENTILES.index(q) for q in (2.5, 5, 95, 97.5)]
    errors = [
        [np.abs(np.array(d.ml) / true - 1)[at].mean() for d in both(samples[k : k + 20])] for k in range(0, 200, 20)
    ]
    stored, fitted = np.mean(errors, 0)
    assert fitted < 0.6 * stored


def test_stored_samples_are_quantiles_voxel_by_voxel():
    samples = drawn("logistic normal", 21)
    inside = from_samples(samples)
    for q in (0.025, 0.05, 0.31, 0.5, 0.77, 0.975):
        assert np.array_equal(inside > 1 - q, np.quantile(samples, q, axis=0) > 0.5)
    assert set(np.unique(from_samples(np.stack([np.zeros(3), np.zeros(3)])))) == {0.0}
    assert set(np.unique(from_samples(np.ones((2, 3))))) == {1.0}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), rule=st.sampled_from([None, {}, {"largest": 1}, {"smallest_ml": 0.002}]))
def test_contours_are_nested_and_volumes_rise(seed, rule):
    rng = np.random.default_rng(seed)
    inside = np.clip(rng.normal(0.4, 0.4, (3, 6, 7)), 0, 1).astype(np.float32)
    labelled = structures.tidy(inside > rng.uniform(0.3, 0.8), rule or {}, ML)
    membership = restricted(inside, labelled, rule)
    held = [contour(membership, q) for q in PERCENTILES]
    assert all((b | ~a).all() for a, b in zip(held, held[1:]))
    assert np.array_equal(contour(membership, 50), labelled)
    found = of_membership("x", membership, ML)
    assert np.allclose(found.ml, [h.sum() * ML for h in held])
    image = percent(membership)
    assert all(np.array_equal(image > 100 - q, contour(membership, q)) for q in range(1, 100))


def test_a_contour_holds_what_is_connected_at_its_own_level():
    inside = np.array([1, 1, 0.3, 0.4, 0.1, 0.45, 0.45], np.float32).reshape(1, 1, -1)
    labelled = inside > 0.5
    held = restricted(inside, labelled, {"largest": 1}).ravel()
    assert np.allclose(held, [1, 1, 0.3, 0.3, 0.1, 0.1, 0.1])
    assert np.allclose(restricted(inside, labelled, {"fill_holes": True}).ravel(), inside.ravel())
    # at every level the same as cutting first and asking for the connected pieces then
    rng = np.random.default_rng(3)
    inside = rng.random((5, 9, 9)).astype(np.float32)
    labelled = structures.tidy(inside > 0.6, {"largest": 1}, ML)
    membership = restricted(inside, labelled, {"largest": 1})
    for q in (60, 75, 90, 99):
        assert np.array_equal(
            contour(membership, q), structures.connected_to((inside > 1 - q / 100) | labelled, labelled)
        )


def test_edge_cases():
    nothing = np.zeros((2, 3, 3), bool)
    assert of_membership("x", restricted(np.zeros((2, 3, 3)), nothing, {"largest": 1}), ML).ml == (0.0,) * len(
        PERCENTILES
    )
    # nothing is shown, yet some of it is likely in the upper tail
    doubtful = of_membership("x", restricted(np.full((2, 3, 3), 0.2), nothing, {"largest": 1}), ML)
    assert (
        doubtful.volume_ml == 0
        and doubtful.interval(0.9) == (0.0, pytest.approx(0.018))
        and doubtful.interval(0.5)[1] == 0
    )
    sure = nothing.copy()
    sure[0, 1, 1] = True
    one = of_membership(
        "x", restricted(volumes.probability_of_being_inside(sure * 1.0, np.zeros(sure.shape)), sure), ML
    )
    assert set(one.ml) == {ML} and one.interval(0.99) == (ML, ML)
    with pytest.raises(ValueError, match="NaN"):
        restricted(np.full((2, 3, 3), np.nan), nothing)
    with pytest.raises(ValueError, match="fit"):
        restricted(np.zeros((2, 3, 4)), nothing)
    for ml in ((1.0, 0.5, 2.0), (1.0, np.nan, 2.0), (-1.0, 0.0, 2.0)):
        with pytest.raises(ValueError, match="liver"):
            VolumeDistribution("liver", (10, 50, 90), ml)


def test_volumes_are_linear_between_percentiles():
    d = VolumeDistribution("x", (10, 50, 90), (1.0, 2.0, 4.0))
    assert d.interval(0.8) == (1.0, 4.0) and d.quantile(70) == 3.0 and d.quantile(99) == 4.0


def test_a_moving_surface_against_samples_of_it():
    """A ball whose radius is Gaussian, on voxels that are not cubes: volumes of the nested contours are those of the
    balls.
    """
    spacing, radius, sd = (1.0, 1.0, 2.0), 12.0, 1.5
    z, y, x = np.indices((20, 40, 40))
    r = np.sqrt(((z - 9.5) * 2) ** 2 + (y - 19.5) ** 2 + (x - 19.5) ** 2)
    mask = r < radius
    inside = from_surface(mask, sd, spacing)
    found = of_membership("ball", restricted(inside, mask), 0.002)
    for q in (5, 20, 50, 80, 95):
        # to a third of a voxel, on the wide side
        moved = np.sign(q - 50) * 0.33
        near, far = (
            (r < radius + sd * stats.norm.ppf(q / 100) + shift).sum() * 0.002
            for shift in (-0.1 * np.sign(q - 50), moved)
        )
        assert min(near, far) * 0.98 <= found.quantile(q) <= max(near, far) * 1.02
    # an sd for each surface voxel: only the upper half moves
    from rtuncertainty.core.surfaces import surface

    edge = surface(mask)
    half = from_surface(mask, np.where(np.nonzero(edge)[0] > 9, sd, 0.0), spacing)
    assert np.array_equal(half[:8] > 0.5, mask[:8]) and set(np.unique(half[2:8].round(6))) <= {0.0, 1.0}
    assert np.allclose(half[12:], inside[12:])
    assert not from_surface(np.zeros((3, 3, 3), bool), 1.0, spacing).any()


def test_moments_without_spread_give_no_interval():
    p = MIDDLE
    found = of_membership("x", restricted(volumes.probability_of_being_inside(p, np.zeros(p.shape)), p > 0.5), ML)
    assert len(set(found.ml)) == 1 and found.volume_ml == pytest.approx((p > 0.5).sum() * ML)
    assert volume_distribution.LEVELS == (0.5, 0.68, 0.8, 0.9, 0.95)

"""Volume intervals against stored samples."""

import numpy as np
import pytest
from scipy import stats

from rtbackend import volumes


def test_beta_from_moments_is_the_beta_it_came_from():
    for a, b in ((2.0, 5.0), (0.4, 0.6), (30.0, 28.0), (1.0, 1.0)):
        d = stats.beta(a, b)
        assert volumes.probability_of_being_inside(np.array([d.mean()]), np.array([d.var()]))[0] == pytest.approx(d.sf(0.5), abs=1e-6)


def test_limits_of_the_moments():
    mean = np.array([0.0, 1.0, 0.7, 0.3, 0.2])
    variance = np.array([0.0, 0.0, 0.0, 0.0, 0.16])
    assert np.allclose(volumes.probability_of_being_inside(mean, variance), [0, 1, 1, 0, 0.2])


def test_interval_from_moments_agrees_with_quantiles_of_stored_samples():
    rng = np.random.default_rng(0)
    r = np.linalg.norm(np.indices((24, 24, 24)) - 11.5, axis=0)
    middle = 1 / (1 + np.exp((r - 8) / 0.8))
    samples = rng.beta(12 * middle + 0.2, 12 * (1 - middle) + 0.2, (400, 24, 24, 24))
    mean, variance = samples.mean(0), samples.var(0, ddof=1)
    found = volumes.volume_interval("ball", mean, variance, mean > 0.5, 0.001, 0.9)
    low, high = (np.quantile(samples, q, axis=0) > 0.5 for q in (0.05, 0.95))
    assert found.lower_ml == pytest.approx(low.sum() / 1000, rel=0.03)
    assert found.upper_ml == pytest.approx(high.sum() / 1000, rel=0.03)
    assert found.lower_ml < found.volume_ml < found.upper_ml
    wider = volumes.volume_interval("ball", mean, variance, mean > 0.5, 0.001, 0.99)
    assert wider.lower_ml < found.lower_ml and wider.upper_ml > found.upper_ml


def test_table_has_the_columns_of_the_design():
    text = volumes.table([volumes.Volume("bone", 10.0, 9.0, 12.5, 0.9, False)])
    assert text.splitlines() == ["structure,volume_ml,lower_ml,upper_ml,level,calibrated", "bone,10.000,9.000,12.500,0.9,no"]

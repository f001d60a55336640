"""Volume intervals against stored samples."""

import numpy as np
import pytest
from scipy import stats

from rtuncertainty.results import tables
from rtuncertainty.uncertainty import volumes


def test_beta_from_moments_is_the_beta_it_came_from():
    for a, b in ((2.0, 5.0), (0.4, 0.6), (30.0, 28.0), (1.0, 1.0)):
        d = stats.beta(a, b)
        assert volumes.probability_of_being_inside(np.array([d.mean()]), np.array([d.var()]))[0] == pytest.approx(
            d.sf(0.5), abs=1e-6
        )


def test_limits_of_the_moments():
    mean = np.array([0.0, 1.0, 0.7, 0.3, 0.2])
    variance = np.array([0.0, 0.0, 0.0, 0.0, 0.16])
    assert np.allclose(volumes.probability_of_being_inside(mean, variance), [0, 1, 1, 0, 0.2])


def test_what_is_surely_in_or_out_needs_no_beta():
    """Cantelli's bound must agree with the Beta distribution that it stands in for."""
    rng = np.random.default_rng(0)
    mean = rng.uniform(0.001, 0.999, 20000)
    variance = mean * (1 - mean) * rng.uniform(1e-4, 0.9, 20000)
    nu = mean * (1 - mean) / variance - 1
    exact = stats.beta.sf(0.5, mean * nu, (1 - mean) * nu)
    found = volumes.probability_of_being_inside(mean, variance)
    assert np.abs(found - exact).max() < volumes.SURE
    near = (exact > 0.005) & (exact < 0.995)
    assert near.sum() > 2000 and np.allclose(found[near], exact[near], atol=1e-9)


def test_nan_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        volumes.probability_of_being_inside(np.array([np.nan]), np.array([0.1]))


def test_table_has_the_columns_of_the_design():
    text = tables.text(
        tables.COLUMNS["volumes"], tables.of_volumes([volumes.Volume("bone", 10.0, 9.0, 12.5, 0.9, False)])
    )
    assert text.splitlines() == [
        "structure,volume_ml,lower_ml,upper_ml,level,calibrated",
        "bone,10.000,9.000,12.500,0.9,no",
    ]

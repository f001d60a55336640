"""Surface distances against MONAI, and the spread of a surface against cases that are known."""

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

from rtuncertainty.core import surfaces


def ball(centre, radius, shape=(24, 30, 28), spacing=(1.0, 1.0, 1.0)):
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    return ((z - centre[0]) * spacing[2]) ** 2 + ((y - centre[1]) * spacing[1]) ** 2 + (
        (x - centre[2]) * spacing[0]
    ) ** 2 <= radius**2


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.9, 1.3, 3.0)])
def test_distances_are_monais(spacing):
    a, b = ball((12, 14, 13), 8, spacing=spacing), ball((13, 16, 12), 7, spacing=spacing)
    one = [torch.from_numpy(np.stack([~m, m])[None].astype(np.float32)) for m in (a, b)]
    options = {"include_background": False, "spacing": tuple(spacing)[::-1]}
    found = surfaces.surface_distance(a, b, spacing)
    assert found.mean == pytest.approx(
        compute_average_surface_distance(*one, symmetric=True, **options).item(), rel=1e-5
    )
    assert found.hausdorff95 == pytest.approx(
        compute_hausdorff_distance(*one, percentile=95, **options).item(), rel=1e-5
    )
    # as Elmahdy prints them (Eqs. 10 and 11): each direction by itself
    means = [compute_average_surface_distance(*pair, **options).item() for pair in (one, one[::-1])]
    assert found.mean_of_means == pytest.approx(np.mean(means), rel=1e-5)
    assert found.mean_of_means != pytest.approx(found.mean, rel=1e-4)
    assert found.hausdorff == pytest.approx(compute_hausdorff_distance(*one, **options).item(), rel=1e-5)


def test_known_distances():
    a = np.zeros((10, 12, 14), bool)
    a[2:8, 3:9, 3:9] = True
    assert surfaces.surface_distance(a, a, (1, 1, 1)) == (0, 0, 0, 0) and surfaces.dice(a, a) == 1
    slab, moved = np.zeros((8, 20, 20), bool), np.zeros((8, 20, 20), bool)
    slab[:, 5, :], moved[:, 9, :] = True, True
    assert surfaces.surface_distance(slab, moved, (1, 2.5, 1)) == pytest.approx((10, 10, 10, 10))
    assert surfaces.dice(slab, moved) == 0
    nothing = surfaces.surface_distance(a, np.zeros_like(a), (1, 1, 1))
    assert np.isnan(nothing).all() and np.isnan(surfaces.dice(a & ~a, a & ~a))


def test_the_spread_of_a_shift_is_that_across_the_surface():
    """A plane x = const that shifts by N(0, s) along x only: s at its faces; a shift along y does not move it."""
    mask = np.zeros((12, 12, 20), bool)
    mask[:, :, 6:14] = True
    covariance = np.zeros((6, *mask.shape))
    covariance[0], covariance[1] = 4.0, 100.0
    sd = surfaces.normal_sd(covariance, mask, (2.0, 1.0, 1.0))
    z, y, x = np.nonzero(surfaces.surface(mask))
    inner = (z > 3) & (z < 8) & (y > 3) & (y < 8)
    assert sd[inner] == pytest.approx(2.0, rel=1e-3)


def test_the_spread_of_a_threshold_is_that_of_where_it_is_crossed():
    """p = ½ + (x − x0)·g with x0 ~ N(c, s): the variance of p is (g·s)², and the crossing has the sd s."""
    x = np.arange(20) * 2.0
    mean = np.broadcast_to(np.clip(0.5 + (x - 19) * 0.02, 0, 1), (6, 6, 20)).copy()
    sd = surfaces.threshold_sd(mean, np.full_like(mean, (0.02 * 3.0) ** 2), mean > 0.5, (2.0, 1.0, 1.0))
    assert np.median(sd) == pytest.approx(3.0, rel=1e-3)

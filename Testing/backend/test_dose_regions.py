"""The fraction of every voxel that a structure fills: masks on any grid, planar contours with holes."""

import math

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from make_dose import circle, grid, linear_dose, places, sphere_contours, square, turned

from rtuncertainty.core import geometry
from rtuncertainty.core.errors import InputError
from rtuncertainty.dose import dvh
from rtuncertainty.dose.contours import ContourRegion
from rtuncertainty.dose.structure_region import MaskRegion


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(*[st.floats(0.6, 4.0)] * 3),
    st.tuples(*[st.floats(-3, 3)] * 3),
    st.permutations([0, 1, 2]),
    st.integers(0, 100),
)
def test_no_volume_is_lost_between_grids(spacing, shift, order, seed):
    """Of a mask on any finer, coarser, permuted or flipped grid of parallel axes: exact, against sums over many
    points.
    """
    mask = np.random.default_rng(seed).random((4, 5, 6)) > 0.5
    source = geometry.like(mask, grid((6, 5, 4), spacing, shift), np.uint8)
    other = sitk.Flip(sitk.PermuteAxes(source, order), (True, False, True))
    target = grid((26, 24, 20), (1.9, 2.1, 2.3), (-12.3, -12.8, -11.9))
    region = MaskRegion(other)
    fraction = region.fraction(target)
    assert fraction.min() >= 0 and fraction.max() <= 1
    assert fraction.sum() * 1.9 * 2.1 * 2.3 / 1000 == pytest.approx(mask.sum() * np.prod(spacing) / 1000)
    fine = geometry.resampled_grid(target, [s / 5 for s in target.GetSpacing()])
    points = sitk.GetArrayFromImage(
        sitk.Resample(source, fine, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0)
    ).astype(float)
    expected = points.reshape(20, 5, 24, 5, 26, 5).mean((1, 3, 5))
    assert np.abs(fraction - expected).mean() < 0.01


def test_oblique_grids():
    fine = grid((50, 50, 50), (0.8,) * 3, (-19.6, -19.6, -19.6), turned(0.3))
    fine.SetOrigin([float(v) for v in turned(0.3) @ np.array([-19.6] * 3)])
    region = MaskRegion(geometry.like((places(fine) ** 2).sum(-1) <= 144, fine, np.uint8))
    fraction = region.fraction(grid((17, 17, 17), (2.5,) * 3, (-20, -20, -20)))
    assert fraction.sum() * 2.5**3 / 1000 == pytest.approx(region.volume_ml, rel=0.01)
    assert fraction[8, 8, 8] == 1 and 0 < fraction[8, 8, 3] < 1


def test_rounding_adds_no_voxel_beside_a_structure():
    """Turned about oblique axes a structure's faces lie on voxel faces but for rounding; the dose beyond them must
    not become its smallest.
    """
    image = grid((20, 20, 20), (3.0,) * 3, (-28.5, -28.5, -28.5))
    inside = np.zeros((20, 20, 20), np.uint8)
    inside[5:12, 6:13, 7:14] = 1
    dose, mask = linear_dose(image), geometry.like(inside, image, np.uint8)
    expected = dvh.of_region(dose, MaskRegion(mask))
    rotation = sitk.Euler3DTransform()
    rotation.SetRotation(0.2, 0.1, -0.26)
    matrix = np.array(rotation.GetMatrix()).reshape(3, 3)
    for turned_image in (dose, mask):
        turned_image.SetOrigin([float(v) for v in matrix @ np.array(turned_image.GetOrigin())])
        turned_image.SetDirection(rotation.GetMatrix())
    found = dvh.of_region(dose, MaskRegion(mask))
    assert len(found.dose) == len(expected.dose)
    assert [float(found.dose[k]) for k in (0, -1)] == pytest.approx(
        [float(expected.dose[k]) for k in (0, -1)], abs=1e-3
    )


def test_contours_of_squares_are_exact():
    region = ContourRegion([square(z, -3.3, 4.1) for z in (-2.0, 0.0, 2.0)])
    assert region.volume_ml == pytest.approx(7.4**2 * 6 / 1000)
    fraction = region.fraction(grid((12, 12, 9), (1, 1, 1), (-5, -5, -4)))
    along = np.clip(np.minimum(np.arange(12) - 4.5, 4.1) - np.maximum(np.arange(12) - 5.5, -3.3), 0, 1)
    through = np.clip(np.minimum(np.arange(9) - 3.5, 3) - np.maximum(np.arange(9) - 4.5, -3), 0, 1)
    # along x exact; along y by strips of a quarter of a mm
    assert np.allclose(fraction.sum((0, 1)) / 7.4 / 6, along, atol=0.02)
    assert np.abs(fraction - through[:, None, None] * along[:, None] * along).max() < 0.13


@settings(max_examples=30, deadline=None)
@given(st.floats(3, 9), st.floats(0.1, 0.8), st.booleans(), st.tuples(st.floats(-2, 2), st.floats(-2, 2)))
def test_a_contour_in_a_contour_is_a_hole_whatever_its_direction(radius, share, reverse, centre):
    inner = radius * share
    region = ContourRegion(
        [circle(z, r, centre, reverse=turn) for z in (0.0, 1.5, 3.0) for r, turn in ((radius, False), (inner, reverse))]
    )
    area = math.pi * (radius**2 - inner**2)
    assert region.volume_ml == pytest.approx(area * 4.5 / 1000, rel=5e-3)
    fraction = region.fraction(grid((30, 30, 8), (1, 1, 1), (-15, -15, -3)))
    assert fraction.sum() == pytest.approx(area * 4.5, rel=5e-3)
    # and an island in the hole is inside again
    island = ContourRegion([circle(z, r, centre) for z in (0.0, 1.5, 3.0) for r in (radius, inner, inner / 2)])
    assert island.volume_ml == pytest.approx((area + math.pi * inner**2 / 4) * 4.5 / 1000, rel=5e-3)


def test_a_keyhole_contour_is_a_ring():
    outer, inner = circle(0, 8, points=200), circle(0, 4, points=200, reverse=True)
    ring = np.concatenate([outer, outer[:1], inner, inner[:1]])
    region = ContourRegion([ring + [0, 0, z] for z in (0.0, 2.0)])
    assert region.volume_ml == pytest.approx(math.pi * 48 * 4 / 1000, rel=2e-3)


def test_gaps_ends_and_single_planes():
    stack = [square(z, 0, 10) for z in (0, 3, 6, 20, 23)]
    assert ContourRegion(stack).volume_ml == pytest.approx(100 * 15 / 1000)
    assert ContourRegion(stack, ends=0.5).volume_ml == pytest.approx(100 * 13.5 / 1000)
    assert ContourRegion([square(0, 0, 10)], thickness_mm=2).volume_ml == pytest.approx(0.2)
    with pytest.raises(InputError, match="one plane only"):
        ContourRegion([square(0, 0, 10)])
    assert ContourRegion([]).empty and ContourRegion([np.zeros((2, 3))]).empty
    with pytest.raises(InputError, match="parallel"):
        ContourRegion([square(0, 0, 10), square(3, 0, 10) @ turned(0.2, 0).T])


@pytest.mark.parametrize("turn", [turned(0.4, 0), turned(math.pi / 2, 0), turned(math.pi / 2, 1)])
def test_contours_oblique_to_the_dose(turn):
    """Sagittal, coronal and tilted planes."""
    region = ContourRegion([c @ turn.T for c in sphere_contours(12.0, 1.0)])
    dose = linear_dose(grid((17, 17, 17), (2.5,) * 3, (-20.3, -19.6, -20.1)))
    found = dvh.of_region(dose, region)
    assert region.volume_ml == pytest.approx(7.238, rel=0.003) and found.covered == 1
    assert float(found.mean()) == pytest.approx(30, abs=0.05) and float(found.dose_at_volume(2)) == pytest.approx(
        39.96, abs=0.3
    )

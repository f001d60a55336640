"""Composition and Jacobian of deformations against SimpleITK, and what is told where there is no answer."""

import time

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from make_field import OBLIQUE, between_centres, grids, index_in, make_grid, points_of, smooth_field, transform_of

from rtuncertainty import deformation as D
from rtuncertainty.core import geometry
from rtuncertainty.core.errors import InputError


@settings(max_examples=25, deadline=None)
@given(grids(), grids(), st.integers(0, 99))
def test_composition_is_simpleitks(grid, other, seed):
    first, second = smooth_field(grid, 5.0, seed), smooth_field(other, 5.0, seed + 100)
    found = sitk.GetArrayFromImage(D.compose_fields(first, second))
    both = sitk.CompositeTransform([transform_of(second), transform_of(first)])  # the last of the list moves first
    expected = sitk.GetArrayFromImage(
        sitk.TransformToDisplacementField(
            both, sitk.sitkVectorFloat64, grid.GetSize(), grid.GetOrigin(), grid.GetSpacing(), grid.GetDirection()
        )
    )
    index = index_in(other, points_of(grid) + sitk.GetArrayFromImage(first))
    inside = ((index > -0.499) & (index < np.array(other.GetSize()) - 0.501)).all(-1)
    assume(inside.sum() > 100)
    assert np.allclose(found[inside], expected[inside], atol=2e-4)


def test_beyond_its_grid_a_field_goes_on():
    grid = make_grid((8, 8, 8), (2, 2, 2), OBLIQUE, (0, 0, 0))
    larger = make_grid((12, 12, 12), (2, 2, 2), OBLIQUE, grid.TransformIndexToPhysicalPoint((-2, -2, -2)))
    field = smooth_field(grid, 5.0)
    found = sitk.GetArrayFromImage(D.resample_field(field, larger))
    assert np.allclose(found, np.pad(sitk.GetArrayFromImage(field), [(2, 2)] * 3 + [(0, 0)], mode="edge"), atol=1e-4)
    assert np.allclose(sitk.GetArrayFromImage(D.resample_field(field, grid)), sitk.GetArrayFromImage(field), atol=1e-5)


def test_composing_on_one_grid_is_composing_tensors():
    grid = make_grid(direction=OBLIQUE)
    first, second = smooth_field(grid, 5.0), smooth_field(grid, 5.0, 1)
    tensor = D.compose_tensor(D.to_voxels(first), D.to_voxels(second))
    assert np.allclose(
        sitk.GetArrayFromImage(D.from_voxels(tensor, grid)),
        sitk.GetArrayFromImage(D.compose_fields(first, second)),
        atol=1e-4,
    )


@settings(max_examples=25, deadline=None)
@given(grids(), st.integers(0, 99))
def test_a_rigid_step_comes_after_the_field(grid, seed):
    field = smooth_field(grid, 5.0, seed)
    rigid = sitk.Euler3DTransform((1.0, 2.0, -1.0), 0.2, -0.1, 0.3, (3.0, -2.0, 2.0))
    whole = D.after_rigid(field, rigid)
    assert geometry.same_grid(whole, field)
    for index in ((0, 0, 0), (3, 5, 2), tuple(n - 1 for n in grid.GetSize())):
        start = np.array(grid.TransformIndexToPhysicalPoint(index))
        assert np.allclose(start + whole[index], rigid.TransformPoint(start + field[index]), atol=1e-9)
    # warping once by both is warping the pre-aligned image
    moving = geometry.like(points_of(grid) @ [1.0, 2.0, 3.0], grid)  # linear in space, so that interpolation is exact
    aligned = sitk.GetArrayFromImage(sitk.Resample(moving, grid, rigid, sitk.sitkLinear, np.nan))
    # the outermost half voxel takes the nearest value, which is not linear
    aligned[~between_centres(grid, np.apply_along_axis(rigid.TransformPoint, -1, points_of(grid)))] = np.nan
    once, twice = (
        sitk.GetArrayFromImage(D.warp_image(i, f, np.nan))
        for i, f in ((moving, whole), (geometry.like(aligned, grid), field))
    )
    inner = np.isfinite(twice) & between_centres(grid, points_of(grid) + sitk.GetArrayFromImage(field))
    assume(inner.sum() > 30)
    assert np.allclose(once[inner], twice[inner], atol=0.01)


@settings(max_examples=30, deadline=None)
@given(grids(), st.lists(st.floats(-0.4, 0.4), min_size=9, max_size=9))
def test_the_jacobian_of_a_linear_map_is_its_determinant(grid, matrix):
    matrix = np.array(matrix).reshape(3, 3)
    determinant = D.jacobian_determinant(D.field_from_array(points_of(grid) @ matrix.T, grid))
    # at the faces too, where the differences are one-sided
    assert np.allclose(sitk.GetArrayFromImage(determinant), np.linalg.det(np.eye(3) + matrix), atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(grids(), st.integers(0, 99))
def test_the_jacobian_is_simpleitks_where_that_is_right(grid, seed):
    """SimpleITK differentiates along the grid's axes but takes vectors as they are: turned into the grid's frame
    they agree.
    """
    field = smooth_field(grid, 5.0, seed, width=2.0)
    direction = np.array(grid.GetDirection()).reshape(3, 3)
    turned = sitk.GetImageFromArray(sitk.GetArrayFromImage(field) @ direction, isVector=True)
    turned.SetSpacing(grid.GetSpacing())
    expected = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(turned))
    found = sitk.GetArrayFromImage(D.jacobian_determinant(field))
    inner = (slice(1, -1),) * 3  # at the faces SimpleITK halves the differences
    assert np.allclose(found[inner], expected[inner], atol=1e-4) and expected[inner].std() > 0.05


def test_the_jacobian_is_the_ratio_of_volumes():
    """What the warped mask holds, weighted with the determinant, is the volume of the mask before."""
    grid = make_grid((48, 44, 40), (2, 2, 2.5), OBLIQUE)
    field = smooth_field(grid, 14.0, width=7.0)
    centre = points_of(grid).reshape(-1, 3).mean(0)
    ball = geometry.like(np.linalg.norm(points_of(grid) - centre, axis=-1) < 24, grid, np.uint8)
    inside = sitk.GetArrayFromImage(D.warp_image(ball, field)) > 0.5
    before = sitk.GetArrayFromImage(ball).sum()
    statistics = D.jacobian_statistics(D.jacobian_determinant(field), inside)
    assert abs(inside.sum() / before - 1) > 0.05
    assert statistics.mean * statistics.voxels == pytest.approx(before, rel=0.01)


def test_jacobians_have_gradients_and_statistics():
    displacement = torch.rand(2, 3, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(D.jacobian_tensor, displacement)
    assert torch.equal(D.jacobian_tensor(torch.zeros(1, 3, 4, 5, 1)), torch.ones(1, 1, 4, 5, 1))
    grid = make_grid((2, 2, 2))
    determinant = geometry.like(np.array([[[1.0, 2], [3, 0]], [[-1, 1], [1, 1]]]), grid)
    mask = np.ones((2, 2, 2), bool)
    mask[0, 0, 1] = False
    found = D.jacobian_statistics(determinant, mask)
    values = [1.0, 3, 0, -1, 1, 1, 1]
    assert found == pytest.approx((np.mean(values), np.std(values), -1, 3, 2 / 7, 7))
    with pytest.raises(InputError, match="no voxel"):
        D.jacobian_statistics(determinant, 0 * mask)
    with pytest.raises(InputError, match=r"shape \(3, 2, 2\)"):
        D.jacobian_statistics(determinant, np.ones((3, 2, 2), bool))


def test_a_clinical_size_takes_seconds():
    grid = make_grid((128, 128, 128), (1.5, 1.5, 2))
    noise = torch.randn(1, 3, 9, 9, 9, generator=torch.Generator().manual_seed(0))
    displacement = 2 * torch.nn.functional.interpolate(
        noise, size=(128, 128, 128), mode="trilinear", align_corners=True
    )
    field = D.from_voxels(displacement, grid)
    begun = time.process_time()
    composed, determinant = D.compose_fields(field, field), D.jacobian_determinant(field)
    took = time.process_time() - begun
    assert D.jacobian_statistics(determinant).minimum > 0
    assert composed.GetSize() == grid.GetSize()
    assert took < 10, f"{took:.1f} s"

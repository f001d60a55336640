"""Grids and resampling: identity, known answers, SimpleITK as the reference, any orientation."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from rtuncertainty.core import geometry
from rtuncertainty.core.errors import InputError


def rotation(axis, angle):
    x, y, z = np.array(axis, float) / np.linalg.norm(axis)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


@st.composite
def grids(draw):
    """An image with any rotation (and a flip or not), spacing, origin and size; its values are x + 2y + 3z in mm."""
    size = draw(st.tuples(*[st.integers(4, 12)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.4, 5.0)] * 3))
    direction = rotation(
        draw(st.sampled_from([(1, 0, 0), (0, 1, 0), (1, 2, 3), (0, 1, -1)])),
        round(draw(st.floats(-3.1, 3.1)), 9),  # ITK gives zeros for directions of 1e-311
    )
    if draw(st.booleans()):
        direction[:, 2] *= -1
    image = sitk.Image(size, sitk.sitkFloat32)
    image.SetSpacing(spacing)
    image.SetDirection(direction.ravel())
    image.SetOrigin(draw(st.tuples(*[st.floats(-300, 300)] * 3)))
    return linear(image)


def linear(image):
    """The image with values that are linear in space, so that linear interpolation is exact."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in image.GetSize()], indexing="ij"), -1)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    points = np.array(image.GetOrigin()) + (index * image.GetSpacing()) @ direction.T
    return geometry.like((points @ [1.0, 2.0, 3.0]).transpose(2, 1, 0), image)


@settings(max_examples=40, deadline=None)
@given(grids())
def test_axial_keeps_every_voxel_where_it_was(image):
    axial = geometry.to_axial(image)
    assert sorted(axial.GetSize()) == sorted(image.GetSize())
    assert np.allclose(sitk.GetArrayFromImage(linear(axial)), sitk.GetArrayFromImage(axial), atol=1e-2)
    direction = np.array(axial.GetDirection()).reshape(3, 3)
    if np.abs(direction).max(0).min() > 0.75:  # beyond 41° from every axis "nearest" is a matter of taste
        assert np.all(np.abs(direction).argmax(0) == [0, 1, 2]) and np.all(direction.diagonal() > 0)


@settings(max_examples=40, deadline=None)
@given(grids(), st.tuples(*[st.one_of(st.none(), st.floats(0.5, 4.0))] * 3))
def test_new_grid_covers_the_same_box(image, spacing):
    grid = geometry.resampled_grid(image, spacing)
    for corner in np.ndindex(2, 2, 2):

        def outer(i):
            return i.TransformContinuousIndexToPhysicalPoint(
                [n - 0.5 if c else -0.5 for n, c in zip(i.GetSize(), corner)]
            )

        assert np.allclose(outer(image), outer(grid), atol=1e-4)
    for wanted, got, old, n in zip(spacing, grid.GetSpacing(), image.GetSpacing(), grid.GetSize()):
        if wanted is None:
            assert got == pytest.approx(old)
        elif n > 3:
            assert got == pytest.approx(wanted, rel=0.5 / (n - 1) + 1e-6)


@settings(max_examples=40, deadline=None)
@given(grids())
def test_finer_grids_are_exact_for_linear_images(image):
    grid = geometry.resampled_grid(image, [s / 2 for s in image.GetSpacing()])
    found = sitk.GetArrayFromImage(geometry.resample(image, grid))
    expected = sitk.GetArrayFromImage(linear(grid))
    inner = (slice(2, -2),) * 3  # the outermost half voxel takes the nearest value
    assert np.allclose(found[inner], expected[inner], atol=5e-2)


def test_resampling_to_itself_changes_nothing_and_sitk_agrees_elsewhere():
    image = linear(sitk.Image([9, 8, 7], sitk.sitkFloat32))
    assert geometry.resample(image, image) is image
    grid = sitk.Image([5, 5, 5], sitk.sitkFloat32)
    grid.SetOrigin((1.3, 0.7, 2.2))
    assert np.allclose(
        sitk.GetArrayFromImage(geometry.resample(image, grid)), sitk.GetArrayFromImage(sitk.Resample(image, grid))
    )


def test_coarser_grids_do_not_alias():
    """A checkerboard becomes grey, not a pattern."""
    array = np.indices((16, 32, 32)).sum(0) % 2 * 100.0
    image = geometry.like(array, sitk.Image([32, 32, 16], sitk.sitkFloat32))
    coarse = sitk.GetArrayFromImage(geometry.resample(image, geometry.resampled_grid(image, (4, 4, None))))
    assert coarse[2:-2, 1:-1, 1:-1].std() < 2 and coarse.mean() == pytest.approx(50, abs=2)


@pytest.mark.parametrize("order", ["PSL", "ASL", "LSP", "SLP", "IPR"])
def test_the_order_in_which_a_grid_is_stored_changes_nothing(order):
    """Sagittal and coronal scans: smoothing goes by the voxels' sizes in space, not by the order of the axes."""
    noise = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(10, 24, 20)).astype(np.float32))
    noise.SetSpacing((1.0, 1.0, 4.0))
    grid = geometry.resampled_grid(noise, (4.0, 2.0, 1.0))
    axial = sitk.GetArrayFromImage(geometry.resample(noise, grid))
    stored = geometry.resample(noise, sitk.DICOMOrient(grid, order))
    assert np.allclose(sitk.GetArrayFromImage(sitk.DICOMOrient(stored, "LPS")), axial, atol=1e-5)
    turned = geometry.resample(sitk.DICOMOrient(noise, order), grid)
    assert np.allclose(sitk.GetArrayFromImage(turned), axial, atol=1e-5)


def test_labels_are_never_mixed():
    array = np.zeros((6, 20, 20), np.uint8)
    array[:, 5:15, 5:15] = 7
    image = geometry.like(array, sitk.Image([20, 20, 6], sitk.sitkUInt8), np.uint8)
    out = sitk.GetArrayFromImage(geometry.resample(image, geometry.resampled_grid(image, (1.7, 0.6, None)), "nearest"))
    assert set(np.unique(out)) == {0, 7}


def test_images_that_do_not_overlap_are_refused():
    a, b = sitk.Image([5, 5, 5], sitk.sitkFloat32), sitk.Image([5, 5, 5], sitk.sitkFloat32)
    geometry.require_overlap(a, b, "a", "b")
    b.SetOrigin((100, 0, 0))
    with pytest.raises(InputError, match="a and b do not overlap"):
        geometry.require_overlap(a, b, "a", "b")


def test_the_box_around_a_mask_stays_in_the_image():
    mask = np.zeros((5, 6, 7), bool)
    mask[1:3, 2, 5:7] = True
    assert geometry.bounding_box(mask) == (slice(1, 3), slice(2, 3), slice(5, 7))
    assert geometry.bounding_box(mask, 2) == (slice(0, 5), slice(0, 5), slice(3, 7))
    assert geometry.bounding_box(mask, (0, 1, 9)) == (slice(1, 3), slice(1, 4), slice(0, 7))


def test_spacing_and_size_along_the_patient_are_those_of_the_axial_image():
    image = sitk.Image(5, 6, 7, sitk.sitkUInt8)
    image.SetSpacing((3.0, 1.0, 2.0))
    image.SetDirection((0, 1, 0, 0, 0, -1, 1, 0, 0))
    axial = geometry.to_axial(image)
    spacing, size = geometry.in_patient_axes(
        np.array(image.GetDirection()).reshape(3, 3), image.GetSpacing(), image.GetSize()
    )
    assert tuple(spacing) == axial.GetSpacing() and tuple(size) == axial.GetSize()

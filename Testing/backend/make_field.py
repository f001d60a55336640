"""Grids of any spacing and direction, smooth images and smooth deformations on them, for tests."""

import numpy as np
import SimpleITK as sitk
from hypothesis import strategies as st
from scipy import ndimage

from rtuncertainty import deformation as D
from rtuncertainty.core import geometry

IDENTITY = np.eye(3)


def rotation(axis, angle):
    x, y, z = np.array(axis, float) / np.linalg.norm(axis)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def make_grid(size=(14, 13, 12), spacing=(2.0, 1.5, 3.0), direction=IDENTITY, origin=(5.0, -40.0, 12.0)):
    grid = sitk.Image([int(n) for n in size], sitk.sitkFloat32)
    grid.SetSpacing([float(s) for s in spacing])
    grid.SetDirection(np.asarray(direction, float).ravel())
    grid.SetOrigin([float(o) for o in origin])
    return grid


OBLIQUE = rotation((1, 2, 3), 0.6) @ np.diag([1, 1, -1])


@st.composite
def grids(draw, smallest=8, largest=13):
    """Any rotation with a flip or not, spacing and origin; the middle of the grid lies near 0, so that two of them
    overlap.
    """
    size = draw(st.tuples(*[st.integers(smallest, largest)] * 3))
    spacing = draw(st.tuples(*[st.floats(1.0, 4.0)] * 3))
    direction = rotation(
        draw(st.sampled_from([(1, 0, 0), (0, 1, 0), (1, 2, 3), (0, 1, -1)])), round(draw(st.floats(-3.1, 3.1)), 3)
    )
    if draw(st.booleans()):
        direction[:, 2] *= -1
    middle = direction @ ((np.array(size) - 1) * spacing / 2)
    return make_grid(size, spacing, direction, np.array(draw(st.tuples(*[st.floats(-4, 4)] * 3))) - middle)


def points_of(grid):
    """Physical points [z, y, x, 3] of the voxels."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.GetSize()], indexing="ij"), -1)
    points = (index * grid.GetSpacing()) @ np.array(grid.GetDirection()).reshape(3, 3).T + grid.GetOrigin()
    return points.transpose(2, 1, 0, 3)


def index_in(grid, points):
    return ((points - grid.GetOrigin()) @ np.array(grid.GetDirection()).reshape(3, 3)) / grid.GetSpacing()


def smooth_field(grid, largest_mm, seed=0, width=3.0):
    rng = np.random.default_rng(seed)
    array = np.stack([ndimage.gaussian_filter(rng.normal(size=grid.GetSize()[::-1]), width) for _ in range(3)], -1)
    return D.field_from_array(array * largest_mm / np.abs(array).max(), grid)


def transform_of(field):
    return sitk.DisplacementFieldTransform(sitk.Image(field))


def blob(grid, seed=0):
    """A smooth image in HU."""
    noise = np.random.default_rng(seed).normal(size=grid.GetSize()[::-1])
    return geometry.like(300 * ndimage.gaussian_filter(noise, 1.0), grid)


def gap_to_face(grid, points):
    """How far (voxels) points are from the outer faces of the image's voxels, the rounding-prone places."""
    index = index_in(grid, points)
    return np.minimum(np.abs(index + 0.5), np.abs(index - (np.array(grid.GetSize()) - 0.5))).min(-1)


def between_centres(grid, points):
    """Whether points lie inside the box of the outermost voxels' centres."""
    index = index_in(grid, points)
    return ((index >= 0) & (index <= np.array(grid.GetSize()) - 1)).all(-1)

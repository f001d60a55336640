"""Image geometry: orientation, resampling between grids and comparison of grids.

Images are `SimpleITK.Image`, arrays are numpy in (slice, row, column) order, that is [z, y, x];
spacings, origins and sizes are in SimpleITK's (x, y, z) order and in mm.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from .errors import InputError


def same_grid(a: sitk.Image, b: sitk.Image, tolerance: float = 1e-3) -> bool:
    """Whether two images have voxels in the same places.

    Args:
        a: 3-D image.
        b: 3-D image.
        tolerance: of a voxel's edge.

    Returns:
        True or False.
    """
    if a.GetSize() != b.GetSize():
        return False
    edge = min(a.GetSpacing())
    corners = [(0,) * a.GetDimension(), tuple(n - 1 for n in a.GetSize())]
    corners += [tuple(n - 1 if i == k else 0 for i, n in enumerate(a.GetSize())) for k in range(a.GetDimension())]
    return all(
        np.allclose(a.TransformIndexToPhysicalPoint(c), b.TransformIndexToPhysicalPoint(c), atol=tolerance * edge)
        for c in corners
    )


def to_axial(image: sitk.Image) -> sitk.Image:
    """The same voxels, axes permuted and flipped to be nearest to LPS: slices are then as axial as they can be.

    No interpolation takes place; an oblique image keeps its oblique planes.

    Args:
        image: 3-D.

    Returns:
        The image at the same place in space.
    """
    return sitk.DICOMOrient(image, "LPS")


def in_patient_axes(directions: np.ndarray, spacing, size) -> tuple[np.ndarray, np.ndarray]:
    """Spacing and size along left-right, front-back and head-foot, by the nearest image axis.

    Args:
        directions: [3, 3], a column for each image axis (LPS or RAS).
        spacing: along the image's axes, mm.
        size: along the image's axes, voxels.

    Returns:
        (spacing in mm, number of voxels).
    """
    cosines, order = np.abs(directions), [0, 0, 0]
    for _pass in range(3):
        world, axis = np.unravel_index(np.argmax(cosines), (3, 3))
        order[world] = int(axis)
        cosines[world, :], cosines[:, axis] = -1, -1
    return np.asarray(spacing, float)[order], np.asarray(size)[order]


def bounding_box(mask: np.ndarray, margin=0) -> tuple[slice, ...]:
    """The box around a mask, within the image.

    Args:
        mask: bool with a voxel, any number of axes.
        margin: voxels by which it is widened, one number or one for each axis.

    Returns:
        A slice for each axis.
    """
    margins = np.broadcast_to(np.asarray(margin, int), mask.ndim)
    spans = [np.flatnonzero(mask.any(tuple(a for a in range(mask.ndim) if a != axis))) for axis in range(mask.ndim)]
    return tuple(
        slice(max(int(s[0]) - int(m), 0), min(int(s[-1]) + 1 + int(m), n))
        for s, m, n in zip(spans, margins, mask.shape)
    )


def like(array: np.ndarray, grid: sitk.Image, dtype=np.float32) -> sitk.Image:
    """An image of an array, in the geometry of another.

    Args:
        array: [z, y, x].
        grid: the image whose geometry it takes.
        dtype: of its voxels.

    Returns:
        The image; a copy.
    """
    image = sitk.GetImageFromArray(np.ascontiguousarray(array, dtype=dtype))
    image.CopyInformation(grid)
    return image


def resampled_grid(image: sitk.Image, spacing) -> sitk.Image:
    """An empty grid with the field of view and the directions of an image and other voxels.

    The number of voxels is rounded and the spacing then fitted to it, so that the outer faces of both grids coincide
    exactly.

    Args:
        image: 3-D.
        spacing: (x, y, z), mm, about; None keeps the image's own along that axis.

    Returns:
        An image to be used as `grid`.
    """
    old_size, old_spacing = np.array(image.GetSize()), np.array(image.GetSpacing())
    wanted = np.array([s if s is not None else o for s, o in zip(spacing, old_spacing)], float)
    size = np.maximum(1, np.rint(old_size * old_spacing / wanted)).astype(int)
    new_spacing = old_size * old_spacing / size
    grid = sitk.Image([int(n) for n in size], sitk.sitkUInt8)
    grid.SetSpacing([float(s) for s in new_spacing])
    grid.SetDirection(image.GetDirection())
    # the outer corner stays: half a voxel of each grid lies between it and the first voxel's centre
    shift = (new_spacing - old_spacing) / 2
    direction = np.array(image.GetDirection()).reshape(3, 3)
    grid.SetOrigin([float(o) for o in np.array(image.GetOrigin()) + direction @ shift])
    return grid


def resample(image: sitk.Image, grid: sitk.Image, interpolation="linear", background: float = 0.0) -> sitk.Image:
    """An image on other voxels, smoothed first where they become larger (`smoothed_for`).

    Args:
        image: 3-D scalar.
        grid: the image whose voxels are wanted.
        interpolation: "linear", or "nearest" for label images, which are never smoothed.
        background: outside of the image's field of view.

    Returns:
        On `grid`.
    """
    if same_grid(image, grid):
        return image
    if interpolation == "nearest":
        return sitk.Resample(image, grid, sitk.Transform(), sitk.sitkNearestNeighbor, background)
    image = smoothed_for(image, grid)
    # edges: a voxel centre within half a voxel outside of the old centres takes the nearest value
    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(grid)
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetDefaultPixelValue(background)
    resampler.SetOutputPixelType(sitk.sitkFloat32)
    return resampler.Execute(image)


def smoothed_for(image: sitk.Image, grid: sitk.Image) -> sitk.Image:
    """An image without what larger voxels could not show: the Gaussian that suppresses aliasing, SD = 0.5·sqrt(ratio² −
    1) voxels.

    Args:
        image: 3-D scalar.
        grid: the image with the voxels that are `ratio` times as large.

    Returns:
        float32 on the image's own voxels.
    """
    image = sitk.Cast(image, sitk.sitkFloat32)
    # the grid's voxels along the axes of the image, which may be stored in another order
    turned = np.array(image.GetDirection()).reshape(3, 3).T @ np.array(grid.GetDirection()).reshape(3, 3)
    ratio = in_patient_axes(turned, grid.GetSpacing(), grid.GetSize())[0] / np.array(image.GetSpacing())
    if ratio.max() <= 1.05:
        return image
    sd = [0.5 * np.sqrt(max(r * r - 1, 0.0)) * s for r, s in zip(ratio, image.GetSpacing())]
    # SimpleITK refuses a width of zero: a hundredth of a voxel changes nothing
    return sitk.DiscreteGaussian(image, [max(v, 0.01 * s) ** 2 for v, s in zip(sd, image.GetSpacing())])


def require_overlap(image: sitk.Image, other: sitk.Image, name: str, other_name: str) -> None:
    """Raises when two images share no volume in space.

    Args:
        image: 3-D.
        other: 3-D.
        name: what messages call the first.
        other_name: what messages call the other.

    Raises:
        InputError: they do not overlap.
    """

    def box(i):
        n = np.array(i.GetSize())
        corners = [[(m - 0.5) if b else -0.5 for m, b in zip(n, bits)] for bits in np.ndindex(2, 2, 2)]
        points = np.array([i.TransformContinuousIndexToPhysicalPoint(c) for c in corners])
        return points.min(0), points.max(0)

    (lo, hi), (lo2, hi2) = box(image), box(other)
    if np.any(np.minimum(hi, hi2) <= np.maximum(lo, lo2)):
        raise InputError(
            f"{name} and {other_name} do not overlap in space: give images of the same patient in the same frame."
        )

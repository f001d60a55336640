"""What another tool wrote, on the voxels of the input image: exactly, or not at all."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..core import geometry
from ..core.errors import InputError

# part of a voxel by which headers of one grid differ: NIfTI keeps seven digits
SAME = 0.02


def on(image: sitk.Image, grid: sitk.Image, file, part: bool = False) -> sitk.Image:
    """An image on a grid whose voxels it has, in whatever order of axes.

    Args:
        image: 3-D.
        grid: the input image.
        file: what messages call the image.
        part: whether a part of the grid's voxels will do, as 3D Slicer saves segmentations; the rest is 0.

    Returns:
        The same voxels, with the geometry of `grid`.

    Raises:
        InputError: it lies on other voxels.
    """
    if geometry.same_grid(image, grid, SAME):
        return _with_geometry(image, grid)
    if part and _inside(image, grid):
        return sitk.Resample(image, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    name = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(grid.GetDirection())
    turned = sitk.DICOMOrient(image, name)
    if geometry.same_grid(turned, grid, SAME):
        return _with_geometry(turned, grid)
    raise InputError(
        f"{file}: lies on other voxels ({described(image)}) than the input image ({described(grid)}); give the image "
        "that it was made from as --input, or resample it onto that image."
    )


def _with_geometry(image: sitk.Image, grid: sitk.Image) -> sitk.Image:
    image = sitk.Image(image)
    image.CopyInformation(grid)
    return image


def _inside(image: sitk.Image, grid: sitk.Image) -> bool:
    """Whether the voxels of an image are voxels of a grid."""
    if not np.allclose(image.GetDirection(), grid.GetDirection(), atol=1e-4) or not np.allclose(
        image.GetSpacing(), grid.GetSpacing(), rtol=1e-4
    ):
        return False
    first = np.array(grid.TransformPhysicalPointToContinuousIndex(image.GetOrigin()))
    last = np.rint(first) + image.GetSize() - 1
    return bool(
        np.abs(first - np.rint(first)).max() < SAME and (np.rint(first) >= 0).all() and (last < grid.GetSize()).all()
    )


def described(image: sitk.Image) -> str:
    """Voxels, their size and the place of the first, in words."""
    size = " × ".join(map(str, image.GetSize()))
    spacing, origin = (
        " × ".join(f"{v:.4g}" for v in image.GetSpacing()),
        ", ".join(f"{v:.1f}" for v in image.GetOrigin()),
    )
    return f"{size} of {spacing} mm from {origin}"

"""Displacement fields as images (mm, LPS) and as tensors (voxels along the grid's axes). See the package's
conventions.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..core.errors import InputError


def require_field(field: sitk.Image, name: str = "the deformation") -> sitk.Image:
    """A displacement field, checked.

    Args:
        field: any image.
        name: what messages call it.

    Returns:
        3-D, three 64-bit components.

    Raises:
        InputError: any other image, and values that are NaN or infinite.
    """
    field = _vectors(field, name)
    _require_finite(sitk.GetArrayViewFromImage(field), name)
    return field


def _vectors(field: sitk.Image, name: str = "the deformation") -> sitk.Image:
    if field.GetDimension() != 3 or field.GetNumberOfComponentsPerPixel() != 3:
        raise InputError(
            f"{name} has {field.GetDimension()} dimensions and {field.GetNumberOfComponentsPerPixel()} components a "
            "voxel; "
            "a displacement field has 3 of each."
        )
    return field if field.GetPixelID() == sitk.sitkVectorFloat64 else sitk.Cast(field, sitk.sitkVectorFloat64)


def _require_finite(array: np.ndarray, name: str = "the deformation") -> None:
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds displacements that are NaN or infinite.")


def field_from_array(array: np.ndarray, grid: sitk.Image) -> sitk.Image:
    """A displacement field from an array.

    Args:
        array: [z, y, x, 3] (mm, LPS; x, y, z).
        grid: the image whose voxels it is on.

    Returns:
        64-bit vectors on `grid`.
    """
    field = sitk.GetImageFromArray(np.ascontiguousarray(array, np.float64), isVector=True)
    field.CopyInformation(grid)
    return field


def zero_field(grid: sitk.Image) -> sitk.Image:
    """The deformation that moves nothing, on the voxels of `grid`."""
    return field_from_array(np.zeros((*grid.GetSize()[::-1], 3)), grid)


def axes(grid: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
    """The affine of a grid: physical point = A·index + o, each (x, y, z).

    Args:
        grid: any 3-D image.

    Returns:
        (A [3, 3], o [3]), mm.
    """
    return np.array(grid.GetDirection()).reshape(3, 3) * np.array(grid.GetSpacing()), np.array(grid.GetOrigin())


def between(grid: sitk.Image, other: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
    """Indices of one grid in another, for the same physical point: M·index + t.

    Args:
        grid: 3-D image.
        other: 3-D image.

    Returns:
        (M [3, 3], t [3]), voxels of `other`.
    """
    (a, o), (b, p) = axes(grid), axes(other)
    return np.linalg.solve(b, a), np.linalg.solve(b, o - p)


def to_voxels(field: sitk.Image, along: sitk.Image | None = None, device="cpu", slices: slice = slice(None)):
    """Displacements in voxels, of a field in mm.

    Args:
        field: mm.
        along: the image along whose axes they are; None: the field's own grid.
        device: of torch.
        slices: of the field's z.

    Returns:
        float32 [1, 3, z, y, x] at the field's own voxels.

    Raises:
        InputError: no field, or values that are NaN or infinite.
    """
    import torch

    field = _vectors(field)
    matrix = np.linalg.inv(axes(field if along is None else along)[0])
    array = sitk.GetArrayViewFromImage(field)[slices]
    # one component after the other: a product of the whole array would take it twice in memory, in 64 bits
    rows = np.stack([sum(array[..., c] * matrix[r, c] for c in range(3)).astype(np.float32) for r in range(3)])
    _require_finite(rows)
    return torch.from_numpy(rows)[None].to(device)


def from_voxels(displacement, grid: sitk.Image, along: sitk.Image | None = None) -> sitk.Image:
    """A displacement field in mm, of displacements in voxels.

    Args:
        displacement: tensor [3, z, y, x] or [1, 3, z, y, x].
        grid: the image whose voxels it is on.
        along: the image along whose axes they are; None: `grid`.

    Returns:
        mm, on `grid`.

    Raises:
        ValueError: a tensor of another shape.
    """
    shape = (3, *grid.GetSize()[::-1])
    if tuple(displacement.shape[-4:]) != shape or displacement.numel() != np.prod(shape):
        raise ValueError(
            f"a displacement of shape {tuple(displacement.shape)} does not fit a grid of {shape[1:]} voxels"
        )
    array = np.moveaxis(displacement.detach().reshape(shape).cpu().double().numpy(), 0, -1)
    return field_from_array(array @ axes(grid if along is None else along)[0].T, grid)


def after_rigid(field: sitk.Image, rigid: sitk.Transform) -> sitk.Image:
    """One field for a field that was found after a rigid (or any other) pre-alignment.

    The planning CT had been resampled by `rigid` before `field` was found: a point x of the daily CT is rigid(x +
    field(x)) in the original planning CT.

    Args:
        field: mm.
        rigid: maps points of the daily to the planning CT, as SimpleITK and elastix give it.

    Returns:
        mm, on the grid of `field`.

    Raises:
        InputError: no field.
    """
    # a copy, because the transform takes the image's memory
    steps = sitk.CompositeTransform([rigid, sitk.DisplacementFieldTransform(sitk.Image(require_field(field)))])
    return sitk.TransformToDisplacementField(
        steps, sitk.sitkVectorFloat64, field.GetSize(), field.GetOrigin(), field.GetSpacing(), field.GetDirection()
    )


def within(array: np.ndarray, mask: np.ndarray | None, name: str) -> np.ndarray:
    """The values of an array inside a mask.

    Args:
        array: [z, y, x] or [z, y, x, 3].
        mask: bool [z, y, x]; None: everywhere.
        name: what messages call the array.

    Returns:
        [n] or [n, 3].

    Raises:
        InputError: a mask that is empty or does not fit.
    """
    if mask is None:
        mask = np.ones(array.shape[:3], bool)
    if mask.shape != array.shape[:3]:
        raise InputError(f"the mask has the shape {mask.shape}, {name} {array.shape[:3]}; resample it first.")
    if not mask.any():
        raise InputError(f"the mask for {name} holds no voxel.")
    return array[mask.astype(bool)]

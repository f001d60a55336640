"""One deformation after another."""

from __future__ import annotations

import SimpleITK as sitk
import torch

from .field import from_voxels, to_voxels, zero_field
from .warp import positions_in, sample_tensor, warp_tensor


def compose_tensor(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """One deformation after another: first(i) + second(i + first(i)).

    Args:
        first: displacement [n, 3, z, y, x], voxels.
        second: displacement on the same grid.

    Returns:
        The same shape and unit.
    """
    return first + warp_tensor(second, first)


def compose_fields(first: sitk.Image, second: sitk.Image, device="cpu") -> sitk.Image:
    """The field that moves a point by `first` and then, from there, by `second`: d(x) = first(x) + second(x +
    first(x)).

    It warps an image as warping by `second` and then by `first` does, with one interpolation less. As everywhere here,
    `second` goes on beyond its grid with its outermost values.

    Args:
        first: field in mm.
        second: field in mm, on its own grid.
        device: of torch.

    Returns:
        mm, on the grid of `first`.
    """
    own = to_voxels(first, device=device)
    return from_voxels(
        own + sample_tensor(to_voxels(second, first, device), positions_in(second, first, device)), first
    )


def resample_field(field: sitk.Image, grid: sitk.Image, device="cpu") -> sitk.Image:
    """The same deformation on other voxels: linearly interpolated, and beyond its own grid its outermost values.

    Args:
        field: mm.
        grid: the image whose voxels are wanted.
        device: of torch.

    Returns:
        mm, on `grid`.
    """
    return compose_fields(zero_field(grid), field, device)

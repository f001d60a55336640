"""The inverse of a deformation, with what is left of the displacement after going there and back."""

from __future__ import annotations

from typing import NamedTuple

import SimpleITK as sitk
import torch

from ..core import geometry
from .field import axes, between, from_voxels, to_voxels
from .warp import affine_tensor, index_tensor, sample_tensor

# a voxel whose steps have been halved so often is at a fold and does not get better
SMALLEST_DAMPING = 2.0 ** -12


class Inverse(NamedTuple):
    """field: from the moving to the fixed image, a displacement field in mm; residual: an image (float32, mm) of how far a
    voxel lands from where it started after the inverse and then the field. Where the field folds its inverse is one of several,
    and the search may end without any, which a large residual tells."""

    field: sitk.Image
    residual: sitk.Image


def invert_field(field: sitk.Image, grid: sitk.Image | None = None, tolerance: float = 0.01, iterations: int = 100, device="cpu") -> Inverse:
    """v with v(y) + d(y + v(y)) = 0 for `field` d, on the voxels of `grid` (by default the field's own; the planning CT's, say).

    `tolerance` (voxels of the field) is the residual at which a voxel is done, `iterations` the most that are made; see
    `invert_tensor`.
    """
    displacement = to_voxels(field, device=device)
    grid = field if grid is None else grid
    start = affine_tensor(*between(grid, field), index_tensor(grid.GetSize()[::-1], displacement))
    found, rest = invert_tensor(displacement, start, tolerance, iterations)
    matrix = torch.as_tensor(axes(field)[0], dtype=rest.dtype, device=rest.device)
    length = _squared(torch.einsum("ij,njzyx->nizyx", matrix, rest)).sqrt()[0, 0]
    return Inverse(from_voxels(found, grid, along=field), geometry.like(length.cpu().numpy(), grid))


@torch.no_grad()
def invert_tensor(displacement: torch.Tensor, start: torch.Tensor | None = None, tolerance: float = 0.01, iterations: int = 100):
    """(v, residual), both [1, 3, z', y', x'] in voxels of the displacement's grid, with residual(y) = v(y) + d(y + v(y)).

    `displacement` d [1, 3, z, y, x]; `start` are the places y (voxels, [1, 3, z', y', x']), by default d's own voxels.
    The fixed-point iteration v ← v − a·residual (Chen 2008), in which every voxel has a damping a of its own: a step that
    does not make its residual smaller is taken back and a halved; a is halved too where the residual swings to the other side. So
    it also converges where d stretches by a factor of two and more, for which a = 1 swings for ever. Only voxels whose residual still exceeds `tolerance` go on.
    """
    if start is None:
        start = index_tensor(displacement.shape[2:], displacement)
    places = start.reshape(1, 3, 1, 1, -1)
    v = -sample_tensor(displacement, places)
    residual = v + sample_tensor(displacement, places + v)
    damping = torch.ones_like(v[:, :1])
    # the voxels that go on, and what belongs to them
    which = torch.arange(places.shape[-1], device=v.device)
    at, now, rest = places, v, residual
    for _ in range(iterations):
        going = ((_squared(rest) > tolerance ** 2) & (damping > SMALLEST_DAMPING)).ravel().nonzero().ravel()
        if going.numel() < which.numel():
            which, at, now, rest, damping = (x[..., going] for x in (which, at, now, rest, damping))
        if going.numel() == 0:
            break
        trial = now - damping * rest
        new = trial + sample_tensor(displacement, at + trial)
        before = _squared(rest)
        better = _squared(new) < before
        # a step that lands nearly as far on the other side gains little: half of it gains more
        swings = (new * rest).sum(1, keepdim=True) < -0.5 * before
        damping = torch.where(better & ~swings, damping, damping / 2)
        now, rest = torch.where(better, trial, now), torch.where(better, new, rest)
        v[..., which], residual[..., which] = now, rest
    return v.reshape(start.shape), residual.reshape(start.shape)


def _squared(vectors: torch.Tensor) -> torch.Tensor:
    """|x|² of [1, 3, ...], [1, 1, ...]. Several times as fast as torch's norm along that axis."""
    x, y, z = vectors.split(1, 1)
    return x * x + y * y + z * z

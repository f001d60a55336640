"""Warping: images, tensors and points, sampled linearly at displaced places."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch
from torch.nn import functional as F

from ..core import geometry
from .field import axes, between, require_field, to_voxels

# voxels by which a place may miss the outer face of an image and still count as inside: rounding, nothing else
ROUNDING = 1e-3
# voxels that are sampled at once where the result is an image
SLAB = 1 << 22


def index_tensor(shape, like: torch.Tensor) -> torch.Tensor:
    """The voxel indices of a grid.

    Args:
        shape: (z, y, x).
        like: whose type and device they have.

    Returns:
        [1, 3, z, y, x] (x, y, z).
    """
    axes = [torch.arange(n, dtype=like.dtype, device=like.device) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1])[None]


def affine_tensor(matrix: np.ndarray, shift: np.ndarray, positions: torch.Tensor) -> torch.Tensor:
    """M·p + t of positions.

    Args:
        matrix: M [3, 3].
        shift: t [3].
        positions: [n, 3, z, y, x].

    Returns:
        The same shape.
    """
    m = torch.as_tensor(matrix, dtype=positions.dtype, device=positions.device)
    t = torch.as_tensor(shift, dtype=positions.dtype, device=positions.device)
    return torch.einsum("ij,nj...->ni...", m, positions) + t.view(1, 3, 1, 1, 1)


def sample_tensor(image: torch.Tensor, positions: torch.Tensor, outside: float | None = None) -> torch.Tensor:
    """An image linearly interpolated at positions.

    One image serves many positions and the other way round. As in ITK, the half voxel around the outermost centres
    takes the nearest values.

    Args:
        image: [n, c, z, y, x].
        positions: [n, 3, z', y', x'] (voxels; x, y, z).
        outside: value beyond the image; None: the nearest value goes on.

    Returns:
        [n, c, z', y', x'], of the wider type of the two.
    """
    size = torch.as_tensor(image.shape[:1:-1], dtype=positions.dtype, device=positions.device).view(1, 3, 1, 1, 1)
    grid = ((2 * positions + 1) / size - 1).movedim(1, -1)
    count, dtype = max(len(image), len(grid)), torch.promote_types(image.dtype, positions.dtype)
    image, grid = (x.to(dtype).expand(count, -1, -1, -1, -1) for x in (image, grid))
    sampled = F.grid_sample(image, grid, "bilinear", "border", align_corners=False)
    if outside is None:
        return sampled
    inside = ((positions >= -0.5 - ROUNDING) & (positions <= size - 0.5 + ROUNDING)).all(1, keepdim=True)
    return torch.where(inside, sampled, torch.as_tensor(outside, dtype=image.dtype, device=image.device))


def warp_tensor(
    image: torch.Tensor, displacement: torch.Tensor, outside: float | None = None, crop: int = 0, stride: int = 1
) -> torch.Tensor:
    """An image pulled by a displacement: out[i] = image[crop + stride·(i + displacement[i])]. Differentiable in both.

    With the defaults both are on one grid. With a level's crop and stride (`networks.elmahdy2021.LEVELS`) the image may
    be the whole input of a joint network, so that what the displacement points at outside of the cropped output is
    there too.

    Args:
        image: [n, c, z, y, x].
        displacement: [n, 3, z', y', x'], voxels.
        outside: as of `sample_tensor`.
        crop: of the displacement's grid in the image, voxels.
        stride: of the displacement's grid in the image, voxels.

    Returns:
        [n, c, z', y', x'].
    """
    # places in 16 bits would be off by tenths of a voxel
    displacement = displacement.to(torch.promote_types(displacement.dtype, torch.float32))
    return sample_tensor(
        image, crop + stride * (index_tensor(displacement.shape[2:], displacement) + displacement), outside
    )


def positions_in(moving: sitk.Image, field: sitk.Image, device="cpu", slices: slice = slice(None)) -> torch.Tensor:
    """Where in an image the voxels of a field's grid point at.

    Args:
        moving: the image.
        field: mm.
        device: of torch.
        slices: of the field's z.

    Returns:
        [1, 3, z, y, x], voxels of `moving`.
    """
    displacement = to_voxels(field, device=device, slices=slices)
    matrix, shift = between(field, moving)
    shift = shift + matrix[:, 2] * (slices.start or 0)
    return affine_tensor(matrix, shift, index_tensor(displacement.shape[2:], displacement) + displacement)


def _slabs(moving: sitk.Image, field: sitk.Image, device):
    """Yields (slices, positions) over the field's grid, few enough slices at a time that memory does not matter."""
    columns, rows, depth = field.GetSize()
    step = max(1, SLAB // (columns * rows))
    for start in range(0, depth, step):
        slices = slice(start, min(start + step, depth))
        yield slices, positions_in(moving, field, device, slices)


@torch.no_grad()
def warp_image(moving: sitk.Image, field: sitk.Image, outside: float = -1000.0, device="cpu") -> sitk.Image:
    """An image warped onto the grid of a field by linear interpolation.

    Args:
        moving: scalar image on any grid.
        field: mm, from its grid to points of `moving`.
        outside: value of voxels that come from beyond the moving image; the default is air in HU.
        device: of torch.

    Returns:
        float32 on the grid of `field`.

    Raises:
        InputError: no field.
    """
    array, field = np.array(sitk.GetArrayViewFromImage(moving), np.float32, order="C"), require_field(field)
    image = torch.from_numpy(array)[None, None].to(device)
    found = np.empty(field.GetSize()[::-1], np.float32)
    for slices, positions in _slabs(moving, field, device):
        found[slices] = sample_tensor(image, positions, outside)[0, 0].cpu().numpy()
    return geometry.like(found, field)


def transform_points(field: sitk.Image, points) -> np.ndarray:
    """Points of the fixed image carried to the moving image: x + d(x), with d interpolated linearly.

    Args:
        field: mm.
        points: [n, 3], mm, LPS.

    Returns:
        [n, 3], mm, LPS.
    """
    points = np.asarray(points, np.float64).reshape(-1, 3)
    matrix, origin = axes(field)
    index = np.linalg.solve(matrix, (points - origin).T)
    array = np.ascontiguousarray(np.moveaxis(sitk.GetArrayFromImage(require_field(field)), -1, 0))
    sampled = sample_tensor(torch.from_numpy(array)[None], torch.from_numpy(index).reshape(1, 3, 1, 1, -1))
    return points + sampled.reshape(3, -1).T.numpy()

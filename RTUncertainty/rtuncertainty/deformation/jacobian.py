"""The determinant of the Jacobian of x + d(x): how volumes change from the fixed to the moving image, and where it
folds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
import torch

from ..core import geometry
from .field import to_voxels, within


def jacobian_tensor(displacement: torch.Tensor) -> torch.Tensor:
    """det(I + ∂d/∂i) of a displacement: central differences, one-sided at the faces. Differentiable.

    In voxels along the grid's axes it is the determinant in physical space too, whatever spacing and direction: a
    change of axes does not change a determinant.

    Args:
        displacement: [n, 3, z, y, x], voxels.

    Returns:
        [n, 1, z, y, x].
    """
    displacement = displacement.to(torch.promote_types(displacement.dtype, torch.float32))
    # ∂d_c/∂i_a for the axes a = x, y, z, which are the dimensions 4, 3, 2
    gradient = [_difference(displacement, dim) for dim in (4, 3, 2)]
    (a, b, c), (d, e, f), (g, h, i) = [
        [gradient[axis][:, row] + float(row == axis) for axis in range(3)] for row in range(3)
    ]
    return (a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))[:, None]


def _difference(x, dim):
    if x.shape[dim] == 1:
        return torch.zeros_like(x)
    return torch.gradient(x, dim=dim)[0]


def jacobian_determinant(field: sitk.Image, device="cpu") -> sitk.Image:
    """The determinant: a small volume V of the fixed image was det·V in the moving one, and where it is 0 or less the
    deformation folds.

    Right for any direction of the grid; SimpleITK's `DisplacementFieldJacobianDeterminant` takes no account of it and
    is right for the identity only.

    Args:
        field: mm.
        device: of torch.

    Returns:
        float32 on the grid of `field`.
    """
    return geometry.like(jacobian_tensor(to_voxels(field, device=device))[0, 0].cpu().numpy(), field)


class JacobianStatistics(NamedTuple):
    """What is known of a determinant.

    Attributes:
        mean, sd, minimum, maximum: over the voxels.
        folding_fraction: the share of voxels that fold (determinant ≤ 0).
        voxels: how many count.
    """

    mean: float
    sd: float
    minimum: float
    maximum: float
    folding_fraction: float
    voxels: int


def jacobian_statistics(determinant: sitk.Image, mask: np.ndarray | None = None) -> JacobianStatistics:
    """SD, folding fraction and more of a determinant (Elmahdy 2021, Table 5).

    Args:
        determinant: as `jacobian_determinant` gives it.
        mask: voxels that count, bool [z, y, x]; None: all.

    Returns:
        See `JacobianStatistics`.

    Raises:
        InputError: a mask without a voxel or of another shape.
    """
    values = within(sitk.GetArrayViewFromImage(determinant), mask, "the Jacobian determinant").astype(np.float64)
    return JacobianStatistics(
        float(values.mean()),
        float(values.std()),
        float(values.min()),
        float(values.max()),
        float((values <= 0).mean()),
        int(values.size),
    )

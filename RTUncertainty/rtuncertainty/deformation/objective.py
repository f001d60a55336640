"""What a deformation is judged by (Elmahdy 2021, Eqs. 1 to 3): similarity, smoothness, overlap of the warped
structures.

All are differentiable. MONAI has the last two; the tests compare with it.
"""

from __future__ import annotations

import torch


def correlation(fixed: torch.Tensor, warped: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """The normalised cross-correlation of two images (Elmahdy 2021, Eq. 2, with the 1/N that it lacks in print).

    An image that is constant, or of which no voxel counts, has a correlation of 0.

    Args:
        fixed: [n, 1, z, y, x].
        warped: [n, 1, z, y, x].
        valid: 1 for voxels that count, else 0, of that shape.

    Returns:
        [n], −1 to 1.
    """
    axes = (1, 2, 3, 4)
    n = valid.sum(axes).clamp_min(1.0)

    def centred(x):
        return (x - ((x * valid).sum(axes) / n).view(-1, 1, 1, 1, 1)) * valid

    a, b = centred(fixed), centred(warped)
    power = (a * a).sum(axes) * (b * b).sum(axes)
    return (a * b).sum(axes) / (power + 1e-12 * n * n).sqrt()


def bending_energy(displacement: torch.Tensor) -> torch.Tensor:
    """Mean over the voxels of d_xx² + d_yy² + d_zz² + 2·(d_xy² + d_xz² + d_yz²), summed over the components (Elmahdy
    2021, Eq. 3; Rueckert 1999).

    The outermost voxels have no second difference. 0 for every affine deformation.

    Args:
        displacement: [n, 3, z, y, x], voxels.

    Returns:
        A scalar, voxels⁻².
    """
    d = displacement

    def shifted(z=0, y=0, x=0):
        return d[(..., *(slice(1 + step, n - 1 + step) for step, n in zip((z, y, x), d.shape[2:])))]

    here, steps, energy = shifted(), ({"z": 1}, {"y": 1}, {"x": 1}), 0.0
    for number, first in enumerate(steps):
        back = {k: -v for k, v in first.items()}
        energy = energy + (shifted(**first) - 2 * here + shifted(**back)) ** 2
        for second in steps[number + 1 :]:
            other = {k: -v for k, v in second.items()}
            mixed = (
                shifted(**first, **second)
                - shifted(**first, **other)
                - shifted(**back, **second)
                + shifted(**back, **other)
            ) / 4
            energy = energy + 2 * mixed**2
    return energy.sum(1).mean()


def soft_dice(found: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor, printed: bool = False) -> torch.Tensor:
    """2·Σpt / (Σp² + Σt²) of each class (Elmahdy 2021, Eq. 1 has plain sums below).

    Args:
        found: probabilities [n, K, z, y, x].
        truth: of the same shape, 0 to 1.
        valid: 1 for voxels that count, else 0, [n, 1, z, y, x].
        printed: with the plain sums of Eq. 1 below, 2·Σpt / (Σp + Σt).

    Returns:
        [n, K], 0 to 1.
    """
    axes = (2, 3, 4)
    p, t = found * valid, truth * valid
    if printed:
        return 2 * (p * t).sum(axes) / (p + t).sum(axes).clamp_min(1e-6)
    return 2 * (p * t).sum(axes) / ((p * p).sum(axes) + (t * t).sum(axes)).clamp_min(1e-6)

"""The losses of the joint networks (Elmahdy 2021, Eqs. 1 to 3), over the batches of all processes."""

from __future__ import annotations

import torch

from rtuncertainty.deformation import objective

from ...core.distributed import total

bending_energy = objective.bending_energy
# voxels (of the finest level): a structure that is found to this extent in a patch without it costs half of a Dice of 0
ABSENT = 50.0


def one_hot(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Labels as one channel each, without the background.

    Args:
        labels: [n, z, y, x].
        classes: K, background included.

    Returns:
        float32 [n, K − 1, z, y, x].
    """
    return torch.stack([(labels == k).float() for k in range(1, classes)], 1)


def ncc_loss(fixed, warped, valid):
    """1 − the correlation of each pair, mean over the batch (Elmahdy 2021, Eq. 2); see
    `deformation.objective.correlation`.

    Args:
        fixed: [n, 1, z, y, x].
        warped: [n, 1, z, y, x].
        valid: [n, 1, z, y, x].

    Returns:
        A scalar.
    """
    correlation = objective.correlation(fixed, warped, valid)
    return total((1 - correlation).sum()) / total(correlation.new_tensor(float(len(correlation))))


def overlap_loss(found, truth, present, valid, absent: float = 0.0, printed: bool = False):
    """1 − Dice of each structure that was drawn, mean over them (Elmahdy 2021, Eq. 1, with squared denominators).

    Args:
        found: probabilities or one-hot labels without the background, [n, K, z, y, x].
        truth: the same, true ones.
        present: 1 where the structure was drawn in this patient, [n, K].
        valid: 1 where a voxel counts, [n, 1, z, y, x].
        absent: 0: a structure that is drawn but lies in no part of a patch has nothing to overlap with, and is left
            out; above 0 (voxels) its loss is Σp² / (Σp² + absent) instead, so that what is found where nothing is costs
            something.
        printed: Eq. 1 as it stands in the paper, see `rtuncertainty.deformation.objective.soft_dice`.

    Returns:
        A scalar.
    """
    there = ((truth * valid).sum((2, 3, 4)) > 0).to(found.dtype)
    loss, counted = 1 - objective.soft_dice(found, truth, valid, printed), present * there
    if absent:
        size = ((found * valid) ** 2).sum((2, 3, 4))
        loss, counted = there * loss + (1 - there) * size / (size + absent), present
    return total((loss * counted).sum()) / total(counted.sum()).clamp_min(1.0)

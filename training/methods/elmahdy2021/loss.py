"""The losses of the joint networks (Elmahdy 2021, Eqs. 1 to 3), over the batches of all processes."""

from __future__ import annotations

import torch

from rtuncertainty.deformation import objective

from ...core.distributed import total

bending_energy = objective.bending_energy
# voxels (of the finest level): a structure that is found to this extent in a patch without it costs half of a Dice of 0
ABSENT = 50.0


def one_hot(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Labels [n, z, y, x] as [n, classes − 1, z, y, x] without the background."""
    return torch.stack([(labels == k).float() for k in range(1, classes)], 1)


def ncc_loss(fixed, warped, valid):
    """1 − the correlation of each pair, mean over the batch; see `rtuncertainty.deformation.objective.correlation`."""
    correlation = objective.correlation(fixed, warped, valid)
    return total((1 - correlation).sum()) / total(correlation.new_tensor(float(len(correlation))))


def overlap_loss(found, truth, present, valid, absent: float = 0.0, printed: bool = False):
    """1 − Dice of each structure that was drawn, mean over them.

    found, truth [n, K, z, y, x]: probabilities or one-hot labels without the background; present [n, K]: 1 where the
    structure was drawn in this patient; valid [n, 1, z, y, x]. A structure that is drawn but lies in no part of a patch
    has nothing to overlap with, and is left out; with `absent` > 0 (voxels) its loss is Σp² / (Σp² + absent) instead,
    so that what is found where nothing is costs something. `printed`: Eq. 1 as it stands in the paper, see
    `rtuncertainty.deformation.objective.soft_dice`.
    """
    there = ((truth * valid).sum((2, 3, 4)) > 0).to(found.dtype)
    loss, counted = 1 - objective.soft_dice(found, truth, valid, printed), present * there
    if absent:
        size = ((found * valid) ** 2).sum((2, 3, 4))
        loss, counted = there * loss + (1 - there) * size / (size + absent), present
    return total((loss * counted).sum()) / total(counted.sum()).clamp_min(1.0)

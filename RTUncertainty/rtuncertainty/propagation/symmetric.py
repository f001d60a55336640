"""A deformation that is the same whichever scan comes first.

The network is asked twice, daily → planning (u) and planning → daily (w). For a stationary velocity v with exp(v) as
the deformation, u ≈ v + ½(v·∇)v and w ≈ −v + ½(v·∇)v, so (u − w)/2 is v but for terms of third order. Its exponential
(scaling and squaring, Arsigny 2006) is a deformation of which swapping the scans gives the inverse, and for a scan and
itself it is the identity: what the network errs in both directions alike cancels.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ..deformation import compose_tensor, warp_tensor

# the velocity is halved until no voxel moves farther than this (voxels) in one step
SMALL = 0.25
MOST_HALVINGS = 10


def exponential(velocity: torch.Tensor) -> torch.Tensor:
    """The deformation that a stationary velocity makes, by scaling and squaring (Arsigny 2006, Sec. 3).

    Args:
        velocity: [n, 3, z, y, x], voxels.

    Returns:
        exp(v) as a displacement of the same shape and unit.
    """
    largest = float(velocity.abs().max())
    halvings = 0
    while largest > SMALL and halvings < MOST_HALVINGS:
        largest, halvings = largest / 2, halvings + 1
    found = velocity / 2**halvings
    for _ in range(halvings):
        found = compose_tensor(found, found)
    return found


def mean(there: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
    """The symmetric deformation of two that should be each other's inverse.

    Args:
        there: displacement [n, 3, z, y, x], voxels.
        back: of the same shape and unit.

    Returns:
        exp((there − back) / 2), of the same shape and unit.
    """
    return exponential((there - back) / 2)


def swapped(volume: torch.Tensor, there: torch.Tensor, organs: int) -> torch.Tensor:
    """The network's input with the scans exchanged: planning first, then daily.

    The third channel, where there is one, holds the structures of the moving scan as label / organs. Those of the daily
    scan are not known; the planning ones moved by `there` stand for them.

    Args:
        volume: [1, c, z, y, x].
        there: displacement [1, 3, z, y, x], voxels.
        organs: how many the labels count.

    Returns:
        [1, c, z, y, x].
    """
    exchanged = volume[:, [1, 0]]
    if volume.shape[1] < 3:
        return exchanged
    labels = (volume[:, 2] * max(1, organs)).round().long()
    masks = F.one_hot(labels, organs + 1).movedim(-1, 1).to(volume.dtype)
    moved = warp_tensor(masks, there, 0.0)
    moved[:, 0] = 0.5  # background wherever no structure has the larger half
    return torch.cat([exchanged, moved.argmax(1, keepdim=True).to(volume.dtype) / max(1, organs)], 1)

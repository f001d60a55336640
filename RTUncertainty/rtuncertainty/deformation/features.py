"""What two scans are compared by where grey values cannot be trusted: MIND-SSC (Heinrich 2013, MICCAI, Eqs. 2 to 4)."""

from __future__ import annotations

import torch
from torch.nn import functional as F

# the six neighbours of a voxel (z, y, x); pairs of those that are not opposite are compared with one another
_NEIGHBOURS = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
_PAIRS = [
    (a, b)
    for k, a in enumerate(_NEIGHBOURS)
    for b in _NEIGHBOURS[k + 1 :]
    if sum((i - j) ** 2 for i, j in zip(a, b)) == 2
]

# of images whose unit is 500 HU: twice the variance of a noise of 15 HU
NOISE = 2 * (15 / 500) ** 2


def box(x: torch.Tensor, radius: int) -> torch.Tensor:
    """The mean over a cube of 2·radius + 1 voxels of `x` [n, c, z, y, x]; beyond the faces the outermost values go on.

    One axis after the other, by running sums of shifted copies: a cube costs what three lines cost.
    """
    for dim in (2, 3, 4):
        length = x.shape[dim]
        pad = [0, 0, 0, 0, 0, 0]
        pad[2 * (4 - dim)] = pad[2 * (4 - dim) + 1] = radius
        padded = F.pad(x, pad, mode="replicate")
        total = padded.narrow(dim, 0, length).clone()
        for step in range(1, 2 * radius + 1):
            total = total + padded.narrow(dim, step, length)
        x = total / (2 * radius + 1)
    return x


@torch.no_grad()
def mind(image: torch.Tensor, radius: int = 1, dilation: int = 2, noise: float = NOISE) -> torch.Tensor:
    """The 12 self-similarities of an image, MIND-SSC (Heinrich 2013).

    Args:
        image: [1, 1, z, y, x].
        radius: of the cubes (voxels) that are compared.
        dilation: how far (voxels) the six neighbours lie away.
        noise: a mean squared difference that is no contrast yet.

    Returns:
        [1, 12, z, y, x], each from 0 to 1.

    exp(−D/V): D the mean squared difference of two neighbouring cubes less the least of the twelve, V its mean over the
    twelve, which is the local contrast. What an intensity means, and how a scan's grey values drift, does not matter.
    """
    shape = image.shape[2:]
    padded = F.pad(image, [dilation] * 6, mode="replicate")

    def shifted(offset):
        out = padded
        for dim, o in enumerate(offset):
            out = out.narrow(2 + dim, dilation * (1 + o), shape[dim])
        return out

    found = image.new_empty((1, len(_PAIRS), *shape))
    for k, (a, b) in enumerate(_PAIRS):
        found[:, k : k + 1] = box((shifted(a) - shifted(b)) ** 2, radius)
    found -= found.amin(1, keepdim=True)
    contrast = found.mean(1, keepdim=True) + noise
    return found.div_(contrast).neg_().exp_()

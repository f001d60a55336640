"""M4's branches for sampling: batch normalisation folded into the convolutions, the four branches as groups of one.

The same function as the branches in evaluation mode, in about half of the time on a CPU, where most of the branches'
time goes into the passes over memory of normalisation rather than into arithmetic.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .highresnet import M4, DualTaskOutput


def scale_and_shift(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """a and c of a·x + c, which is what batch normalisation does in evaluation mode; per channel."""
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def fold(weight: torch.Tensor, norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of a convolution that does what one with `weight` and then `norm` do."""
    scale, shift = scale_and_shift(norm)
    return weight * scale[:, None, None, None], shift


class FoldedHeads:
    """The branches of an M4 in two steps: `first` (features → pre-activations) and `finish` (→ outputs)."""

    def __init__(self, network: M4):
        branches = network.branches
        self.classes = network.classes
        # rest: BN, PReLU, [conv, BN, PReLU] × 3, conv, BN
        first = [fold(b.first.weight, b.rest[0]) for b in branches]
        self.first_weight, self.first_bias = (torch.cat(p) for p in zip(*first))
        self.slopes = [torch.cat([b.rest[1].weight for b in branches])]
        self.layers = []
        for k in (2, 3, 4):
            parts = [fold(b.rest[k][0].weight, b.rest[k][1]) for b in branches]
            weight, bias = (torch.cat(p) for p in zip(*parts))
            self.layers.append((_channels_last(weight), bias, weight.shape[-1] // 2))
            self.slopes.append(torch.cat([b.rest[k][2].weight for b in branches]))
        # the outputs have different numbers of channels: one matrix with a block for each branch
        last = [fold(b.rest[5].weight, b.rest[6]) for b in branches]
        self.last_weight = _channels_last(torch.block_diag(*(w[:, :, 0, 0] for w, _ in last))[:, :, None, None])
        self.last_bias = torch.cat([b for _, b in last])
        self.first_weight = _channels_last(self.first_weight)

    def pair_sum(self, features: torch.Tensor) -> torch.Tensor:
        """first(2mh) + first(2(1 − m)h) for any mask m: 2·conv(h) + 2·bias."""
        return F.conv2d(features, 2 * self.first_weight, 2 * self.first_bias, padding=1)

    def first(self, features: torch.Tensor) -> torch.Tensor:
        """Pre-activations [n, 4·branch_width, y, x] of features that were multiplied by 2m."""
        return F.conv2d(features, self.first_weight, self.first_bias, padding=1)

    def finish(self, z: torch.Tensor) -> DualTaskOutput:
        """Outputs behind the pre-activations of `first`."""
        z = F.prelu(z, self.slopes[0])
        for (weight, bias, padding), slope in zip(self.layers, self.slopes[1:]):
            z = F.prelu(F.conv2d(z, weight, bias, padding=padding, groups=4), slope)
        z = F.conv2d(z, self.last_weight, self.last_bias)
        return DualTaskOutput(*z.split([1, 1, self.classes, 1], 1))


def _channels_last(weight: torch.Tensor) -> torch.Tensor:
    return weight.detach().contiguous(memory_format=torch.channels_last)

"""M4: a 2-D HighResNet trunk with four branches, for synthetic CT and segmentation (Bragman et al. 2018, Fig. 1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F


class DualTaskOutput(NamedTuple):
    """What M4 gives for a batch [n, 1, y, x]; all are in the normalised units of the loss.

    mean [n, 1, y, x]; log_variance [n, 1, y, x] (s of σ² = exp(s) + floor); logits [n, K, y, x];
    log_variance_seg [n, 1, y, x].
    """

    mean: torch.Tensor
    log_variance: torch.Tensor
    logits: torch.Tensor
    log_variance_seg: torch.Tensor


def conv(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size, without bias: batch normalisation stands on at least one side of it."""
    return nn.Conv2d(inputs, outputs, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=False)


def conv_bn_prelu(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(conv(inputs, outputs, kernel), nn.BatchNorm2d(outputs), nn.PReLU(outputs))


class ResidualBlock(nn.Module):
    """Twice [BN, PReLU, conv 3×3], with the input added; missing channels of the skip are zeros on both sides."""

    def __init__(self, inputs: int, outputs: int, dilation: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.PReLU(inputs), conv(inputs, outputs, 3, dilation),
            nn.BatchNorm2d(outputs), nn.PReLU(outputs), conv(outputs, outputs, 3, dilation),
        )
        missing = outputs - inputs
        self.padding = (missing // 2, missing - missing // 2)

    def forward(self, x):
        skip = F.pad(x, (0, 0, 0, 0, *self.padding)) if any(self.padding) else x
        return skip + self.body(x)


class Trunk(nn.Sequential):
    """HighResNet (Li 2017) as in Bragman 2018: conv → w; residual blocks 2×w d1, 2×2w d2, 2×4w d4; conv → features.

    7,458,240 parameters at width 64 and 2048 features. Every output sees 61 × 61 pixels of the input.
    """

    def __init__(self, in_channels: int, width: int, features: int):
        super().__init__(
            conv_bn_prelu(in_channels, width, 3),
            ResidualBlock(width, width, 1), ResidualBlock(width, width, 1),
            ResidualBlock(width, 2 * width, 2), ResidualBlock(2 * width, 2 * width, 2),
            ResidualBlock(2 * width, 4 * width, 4), ResidualBlock(4 * width, 4 * width, 4),
            conv_bn_prelu(4 * width, features, 3),
        )


class Branch(nn.Module):
    """Two 3×3 and two 1×1 layers of `width` (BN + PReLU), then 1×1 to `outputs` with BN and no activation."""

    def __init__(self, features: int, width: int, outputs: int):
        super().__init__()
        self.first = conv(features, width, 3)
        self.rest = nn.Sequential(
            nn.BatchNorm2d(width), nn.PReLU(width),
            conv_bn_prelu(width, width, 3), conv_bn_prelu(width, width, 1), conv_bn_prelu(width, width, 1),
            conv(width, outputs, 1), nn.BatchNorm2d(outputs),
        )

    def forward(self, features):
        return self.rest(self.first(features))


class M4(nn.Module):
    """The dual-task network with heteroscedastic variances and dropout after the trunk (Bragman 2018).

    29,230,802 parameters with one input channel, 6 classes and the paper's widths. `width` is that of the first
    trunk layer, `features` that of the last, `branch_width` that of the branches; `dropout` is the probability of an
    element of the features to be dropped.
    """

    # half the window that a voxel of the output sees: trunk 30, branches 2
    margin = 32

    def __init__(self, in_channels=1, classes=6, width=64, features=2048, branch_width=256, dropout=0.5):
        super().__init__()
        self.in_channels, self.classes, self.dropout = in_channels, classes, dropout
        self.trunk = Trunk(in_channels, width, features)
        self.branches = nn.ModuleList(Branch(features, branch_width, n) for n in (1, 1, classes, 1))

    def forward(self, x) -> DualTaskOutput:
        features = F.dropout(self.trunk(x), self.dropout, self.training)
        return DualTaskOutput(*(branch(features) for branch in self.branches))

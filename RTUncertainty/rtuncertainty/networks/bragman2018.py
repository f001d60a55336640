"""The networks M1 to M4: a 2-D HighResNet trunk with one to four branches (Bragman et al. 2018, Fig. 1 and Sec. 3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from .sample import Sample
from .uncertainty import REGRESSION_FLOOR, class_probabilities, variance


class HighResOutput(NamedTuple):
    """What M1 to M4 give for a batch [n, c, y, x], in the normalised units of the loss; None what a network has not.

    Attributes:
        mean: [n, 1, y, x], of the synthetic CT.
        log_variance: [n, 1, y, x], s of σ² = exp(s) + floor.
        logits: [n, K, y, x].
        log_variance_seg: [n, 1, y, x], s of the logits' σ².
    """

    mean: torch.Tensor | None = None
    log_variance: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    log_variance_seg: torch.Tensor | None = None


# by the number of dimensions
CONVOLUTION, NORM = {2: nn.Conv2d, 3: nn.Conv3d}, {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def conv(inputs: int, outputs: int, kernel: int, dilation: int = 1, dimensions: int = 2) -> nn.Conv2d | nn.Conv3d:
    """A convolution that keeps the size, without bias: batch normalisation stands on at least one side of it.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        kernel: edge, odd.
        dilation: of the kernel.
        dimensions: 2 or 3.

    Returns:
        Not initialised otherwise than torch does.
    """
    return CONVOLUTION[dimensions](
        inputs, outputs, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=False
    )


def conv_bn_prelu(inputs: int, outputs: int, kernel: int, dimensions: int = 2) -> nn.Sequential:
    """A convolution that keeps the size, batch normalisation and PReLU.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        kernel: edge, odd.
        dimensions: 2 or 3.

    Returns:
        The three in a row.
    """
    return nn.Sequential(
        conv(inputs, outputs, kernel, dimensions=dimensions), NORM[dimensions](outputs), nn.PReLU(outputs)
    )


class ResidualBlock(nn.Module):
    """Twice [BN, PReLU, conv 3×3(×3)], with the input added (Bragman 2018, Sec. 2).

    Missing channels of the skip are zeros on both sides.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        dilation: of both convolutions.
        dimensions: 2 or 3.
    """

    def __init__(self, inputs: int, outputs: int, dilation: int, dimensions: int = 2):
        super().__init__()
        norm = NORM[dimensions]
        self.body = nn.Sequential(
            norm(inputs),
            nn.PReLU(inputs),
            conv(inputs, outputs, 3, dilation, dimensions),
            norm(outputs),
            nn.PReLU(outputs),
            conv(outputs, outputs, 3, dilation, dimensions),
        )
        missing = outputs - inputs
        self.padding = (*(0, 0) * dimensions, missing // 2, missing - missing // 2)

    def forward(self, x):
        """x + body(x).

        Args:
            x: [n, inputs, …].

        Returns:
            [n, outputs, …], of the same size.
        """
        skip = F.pad(x, self.padding) if any(self.padding) else x
        return skip + self.body(x)


class Trunk(nn.Sequential):
    """HighResNet (Li 2017) as in Bragman 2018, Sec. 2: conv → w; residual blocks 2×w d1, 2×2w d2, 2×4w d4; conv →
    features.

    [n, in_channels, y, x] → [n, features, y, x]. 7,458,240 parameters at width 64 and 2048 features. Every output sees
    61 × 61 pixels of the input.

    Args:
        in_channels: of the input.
        width: w, channels of the first layer.
        features: channels of the last layer.
    """

    def __init__(self, in_channels: int, width: int, features: int):
        super().__init__(
            conv_bn_prelu(in_channels, width, 3),
            ResidualBlock(width, width, 1),
            ResidualBlock(width, width, 1),
            ResidualBlock(width, 2 * width, 2),
            ResidualBlock(2 * width, 2 * width, 2),
            ResidualBlock(2 * width, 4 * width, 4),
            ResidualBlock(4 * width, 4 * width, 4),
            conv_bn_prelu(4 * width, features, 3),
        )


class Branch(nn.Module):
    """Two 3×3 and two 1×1 layers (BN + PReLU), then 1×1 with BN and no activation (Bragman 2018, Fig. 1).

    Args:
        features: channels of the trunk.
        width: channels of the four layers.
        outputs: channels of the last.
    """

    def __init__(self, features: int, width: int, outputs: int):
        super().__init__()
        self.first = conv(features, width, 3)
        self.rest = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.PReLU(width),
            conv_bn_prelu(width, width, 3),
            conv_bn_prelu(width, width, 1),
            conv_bn_prelu(width, width, 1),
            conv(width, outputs, 1),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, features):
        """The branch's output.

        Args:
            features: [n, features, y, x].

        Returns:
            [n, outputs, y, x].
        """
        return self.rest(self.first(features))


class Head(nn.Sequential):
    """The fully connected layer of the single-task networks: 1×1, with the BN that the branches have.

    Args:
        features: channels of the trunk.
        outputs: channels that it gives.
    """

    def __init__(self, features: int, outputs: int):
        super().__init__(conv(features, outputs, 1), nn.BatchNorm2d(outputs))


class HighRes(nn.Module):
    """A trunk, dropout on its features, and a branch for each of `outputs` (fields of `HighResOutput`).

    Args:
        in_channels: of the input.
        width: of the `Trunk`.
        features: of the `Trunk`.
        dropout: probability of an element of the features to be dropped.
    """

    # half the window that a voxel of the output sees: trunk 30, branches 2
    margin = 32
    border = 32
    outputs: tuple[str, ...] = ()

    def __init__(self, in_channels: int, width: int, features: int, dropout: float):
        super().__init__()
        self.in_channels, self.dropout = in_channels, dropout
        self.trunk = Trunk(in_channels, width, features)

    def channels(self) -> list[int]:
        """Channels of each of `outputs`."""
        return [self.classes if name == "logits" else 1 for name in self.outputs]

    def forward(self, x) -> HighResOutput:
        """One stochastic pass in training mode; in evaluation mode one without dropout.

        Args:
            x: [n, in_channels, y, x], z-scores.

        Returns:
            Each output [n, c, y, x].
        """
        features = F.dropout(self.trunk(x), self.dropout, self.training)
        return HighResOutput(**{name: branch(features) for name, branch in zip(self.outputs, self.branches)})

    def interpret(self, out: HighResOutput) -> Sample:
        """Synthetic CT and class probabilities of an output.

        Args:
            out: of `forward`.

        Returns:
            In the units of the loss. Without a variance branch nothing is known of the intrinsic variance.
        """
        noise = None if out.log_variance is None else variance(out.log_variance, REGRESSION_FLOOR)
        if out.logits is None or out.log_variance_seg is not None:
            probabilities = None if out.logits is None else class_probabilities(out.logits, out.log_variance_seg)
        else:
            probabilities = out.logits.softmax(1)
        return Sample(out.mean, noise, probabilities)


class SingleTask(HighRes):
    """M1, M2a, M2b: a trunk of half the width and one fully connected layer, for one task (Bragman 2018, Sec. 3).

    Args:
        in_channels: of the input.
        classes: 0 for the regression of HU; more for the segmentation into so many classes.
        width: of the `Trunk`.
        features: of the `Trunk`.
        dropout: probability of an element of the features to be dropped.
    """

    heteroscedastic = False

    def __init__(self, in_channels=1, classes=0, width=32, features=1024, dropout=0.5):
        super().__init__(in_channels, width, features, dropout)
        self.classes = classes
        self.outputs = ("logits",) if classes else ("mean",)
        if self.heteroscedastic:
            self.outputs += ("log_variance_seg",) if classes else ("log_variance",)
        self.branches = nn.ModuleList(Head(features, n) for n in self.channels())


class M1(SingleTask):
    """The baseline: no dropout, no variance, so one sample says all it knows (Bragman 2018, Sec. 3).

    Its trunk has 1,867,488 parameters. Arguments as of `SingleTask`.
    """

    def __init__(self, in_channels=1, classes=0, width=32, features=1024):
        super().__init__(in_channels, classes, width, features, dropout=0.0)


class M2a(SingleTask):
    """M1 with dropout on the features of the trunk (Bragman 2018, Sec. 3). Arguments as of `SingleTask`."""


class M2b(SingleTask):
    """M2a with a variance for every voxel (Bragman 2018, Sec. 3). Arguments as of `SingleTask`."""

    heteroscedastic = True


class DualTask(HighRes):
    """M3 and M4: synthetic CT and segmentation, each output with a branch of its own (Bragman 2018, Fig. 1).

    Args:
        in_channels: of the input.
        classes: K, background first.
        width: of the `Trunk`.
        features: of the `Trunk`.
        branch_width: of each `Branch`.
        dropout: probability of an element of the features to be dropped.
    """

    def __init__(self, in_channels=1, classes=6, width=64, features=2048, branch_width=256, dropout=0.5):
        super().__init__(in_channels, width, features, dropout)
        self.classes = classes
        self.branches = nn.ModuleList(Branch(features, branch_width, n) for n in self.channels())


class M3(DualTask):
    """Two branches (Bragman 2018, Sec. 3); the tasks' weights, one learnt variance each (Kendall 2018), belong to the
    loss.

    Arguments as of `DualTask`.
    """

    outputs = ("mean", "logits")


class M4(DualTask):
    """Four branches: each task has a variance for every voxel (Bragman 2018, Fig. 1).

    29,230,802 parameters with 6 classes, paper's widths. Arguments as of `DualTask`.
    """

    outputs = ("mean", "log_variance", "logits", "log_variance_seg")

"""1TN, 2TN and 3TN: a 2-D U-Net of dilated convolutions without pooling, one to three tasks (Kaushik et al. 2022,
Fig. 1).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from .sample import Sample

# HU from which a voxel is bone in the paper, in the units of the network's outputs (1000 HU)
BONE = 0.25


class AtrousOutput(NamedTuple):
    """What the networks give for a batch; None what a network has not.

    Attributes:
        body: [n, 1, y, x], HU/1000 everywhere.
        bone: [n, 1, y, x], HU/1000, meant inside bone only.
        bone_logit: [n, 1, y, x]; its sigmoid is the probability of bone.
    """

    body: torch.Tensor
    bone: torch.Tensor | None = None
    bone_logit: torch.Tensor | None = None


class SpatialDropout(nn.Module):
    """Drops whole channels while training, and afterwards while `sampling` is True (Monte Carlo dropout).

    Args:
        p: probability of a channel to be dropped.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p, self.sampling = p, False

    def forward(self, x):
        """The input with some channels dropped; the same shape."""
        return F.dropout2d(x, self.p, self.training or self.sampling)


class Level(nn.Sequential):
    """Conv 5×5 and conv 3×3 of one dilation, each followed by BN, ELU and spatial dropout (Kaushik 2022, Sec. II-B a).

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        dilation: of both convolutions.
        dropout: probability of a channel to be dropped.
    """

    def __init__(self, inputs: int, outputs: int, dilation: int, dropout: float):
        layers = []
        for kernel, channels in ((5, inputs), (3, outputs)):
            padding = dilation * (kernel // 2)
            layers += [
                nn.Conv2d(channels, outputs, kernel, padding=padding, dilation=dilation),
                nn.BatchNorm2d(outputs),
                nn.ELU(),
                SpatialDropout(dropout),
            ]
        super().__init__(*layers)


class OutputNorm(nn.BatchNorm2d):
    """The batch normalisation of an output in Fig. 1, with its learnt scale and shift only: mean 0 and variance 1 are
    fixed.

    With the batch's own mean and variance the HU of a patch would depend on how much air and bone the other patches of
    the batch happen to hold, which differs from batch to batch and is another thing at prediction time: with four
    patches of 96² a batch the networks did not learn. The number of parameters is the same.
    """

    def forward(self, x):
        """Scale and shift of each channel; the same shape."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


class AtrousUNet(nn.Module):
    """The U-Net of dilated convolutions without pooling, with one to three tasks (Kaushik 2022, Fig. 1, Sec. II-B a).

    With three tasks 210,569, 623,625 or 2,125,577 parameters at `filters` = 16, 32 or 64; every output sees 181 × 181
    pixels.

    Args:
        in_channels: of the input.
        tasks: 1 (body HU), 2 (and bone HU) or 3 (and bone probability).
        filters: f of the first level; the others have f + 4, f + 8, f + 16.
        dropout: of channels; the paper does not say how much, 0.1 is this project's choice.
        printed: the outputs are normalised over the batch, as in the paper, and not as `OutputNorm` does.
    """

    # half of the receptive field of 181
    margin = 90
    # beyond the image there is only air: fewer columns of it say the same
    border = 32

    def __init__(self, in_channels=1, tasks=3, filters=32, dropout=0.1, printed=False):
        super().__init__()
        self.in_channels, self.tasks, self.dropout = in_channels, tasks, dropout
        self.classes = 2 if tasks == 3 else 0
        f1, f2, f3, f4 = filters, filters + 4, filters + 8, filters + 16
        self.c1 = Level(in_channels, f1, 1, dropout)
        self.c2 = Level(f1, f2, 2, dropout)
        self.c3 = Level(f2, f3, 4, dropout)
        self.c4 = Level(f3, f4, 8, dropout)
        self.c5 = Level(f4, f4, 8, dropout)
        self.c6 = Level(f4 + f3, f3, 4, dropout)
        self.c7 = Level(f3 + f2, f2, 2, dropout)
        self.heads = nn.ModuleList(
            nn.Sequential(
                Level(f2 + f1, f1, 1, dropout), nn.Conv2d(f1, 1, 1), (nn.BatchNorm2d if printed else OutputNorm)(1)
            )
            for _ in range(tasks)
        )
        if tasks > 1:
            # begin inside the range of bone, where the ReLU lets gradients through
            nn.init.constant_(self.heads[1][-1].bias, 0.5)

    def forward(self, x) -> AtrousOutput:
        """The maps of all tasks.

        Args:
            x: [n, in_channels, y, x], z-scores.

        Returns:
            See `AtrousOutput`.
        """
        c1 = self.c1(x)
        c2 = self.c2(c1)
        c3 = self.c3(c2)
        c5 = self.c5(self.c4(c3))
        c6 = self.c6(torch.cat([c5, c3], 1))
        c7 = self.c7(torch.cat([c6, c2], 1))
        last = torch.cat([c7, c1], 1)
        outputs = [head(last) for head in self.heads]
        if self.tasks > 1:
            outputs[1] = F.relu(outputs[1])
        return AtrousOutput(*outputs)

    def interpret(self, out: AtrousOutput) -> Sample:
        """The aggregate: inside the predicted bone the bone map replaces the body map (Kaushik 2022, Sec. II-B b).

        With three tasks bone is where its probability exceeds one half. Two tasks have no such map; there it is where
        the body map itself says bone (above 250 HU), as the paper does not define it.

        Args:
            out: of `forward`.

        Returns:
            mean in HU/1000; probabilities of other and bone with three tasks.
        """
        if out.bone is None:
            return Sample(out.body)
        if out.bone_logit is None:
            return Sample(torch.where(out.body > BONE, out.bone, out.body))
        p = out.bone_logit.sigmoid()
        return Sample(torch.where(p > 0.5, out.bone, out.body), None, torch.cat([1 - p, p], 1))

    def set_sampling(self, on: bool) -> None:
        """Switches Monte Carlo dropout on or off in evaluation mode."""
        for module in self.modules():
            if isinstance(module, SpatialDropout):
                module.sampling = on


class OneTask(AtrousUNet):
    """1TN-GL and 1TN-FL, which differ in their loss only (Kaushik 2022, Sec. III-C). Arguments as of `AtrousUNet`."""

    def __init__(self, in_channels=1, filters=32, dropout=0.1, printed=False):
        super().__init__(in_channels, 1, filters, dropout, printed)


class TwoTask(AtrousUNet):
    """2TN: body and bone HU (Kaushik 2022, Sec. III-C). Arguments as of `AtrousUNet`."""

    def __init__(self, in_channels=1, filters=32, dropout=0.1, printed=False):
        super().__init__(in_channels, 2, filters, dropout, printed)


class ThreeTask(AtrousUNet):
    """3TN: body HU, bone HU and bone probability (Kaushik 2022, Fig. 1). Arguments as of `AtrousUNet`."""

    def __init__(self, in_channels=1, filters=32, dropout=0.1, printed=False):
        super().__init__(in_channels, 3, filters, dropout, printed)

"""HR-default, HR-drop-last, HR-drop-all and HR-hetero: 3-D HighResNets that segment (Eaton-Rosen et al. 2018, Sec. 2).

Trunk: conv 3³ → w; residual blocks, three each of w dilation 1, 2w dilation 2, 4w dilation 4; conv 1³ → features. Head:
conv 1³ → classes. Convolutions without bias, each with batch normalisation and PReLU as in M1 to M4; the head with the
normalisation and without the PReLU. That convention gives 1,819,400 parameters for 4 inputs and 4 classes.

All four keep the size of the input. They offer what `rtuncertainty.sampling.volumes` asks of a 3-D network that
segments.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from .bragman2018 import ResidualBlock, conv, conv_bn_prelu
from .dropout import dropped
from .kaushik2022 import OutputNorm

# "a low value is chosen to allow low-level image features into the network"
INPUT_DROPOUT = 0.05


class HighRes3DOutput(NamedTuple):
    """What the networks give for a batch.

    Attributes:
        logits: [n, K, z, y, x].
        sd: [n, 1, z, y, x], the SD of their noise; None in a network that has none.
    """

    logits: torch.Tensor
    sd: torch.Tensor | None = None


def head(inputs: int, outputs: int, printed: bool) -> nn.Sequential:
    """1³ with a normalisation and no activation.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        printed: see `HighRes3D`.

    Returns:
        Both layers.
    """
    return nn.Sequential(conv(inputs, outputs, 1, dimensions=3), (nn.BatchNorm3d if printed else OutputNorm)(outputs))


class Trunk3D(nn.Sequential):
    """All but the head (Eaton-Rosen 2018, Sec. 2): [n, in_channels, z, y, x] → [n, features, z, y, x].

    Every output sees 87 × 87 × 87 voxels of the input.

    Args:
        in_channels: of the input.
        width: channels of the first layer.
        features: channels of the last.
    """

    def __init__(self, in_channels: int, width: int, features: int):
        widths = [width, *(width * d for d in (1, 2, 4) for _ in range(3))]
        dilations = [d for d in (1, 2, 4) for _ in range(3)]
        blocks = [ResidualBlock(i, o, d, dimensions=3) for i, o, d in zip(widths, widths[1:], dilations)]
        super().__init__(
            conv_bn_prelu(in_channels, width, 3, dimensions=3),
            *blocks,
            conv_bn_prelu(widths[-1], features, 1, dimensions=3),
        )


class HighRes3D(nn.Module):
    """The common part of the four networks, which is HR-drop-last (Eaton-Rosen 2018, Sec. 2).

    By default the normalisation of the head keeps its learnt scale and shift alone (`OutputNorm`): with the batch's own
    mean and variance the logits of an organ would vary alike in patches with and without it. The number of
    parameters is the same.

    Args:
        in_channels: of the input.
        classes: K, background first.
        width: of the `Trunk3D`.
        features: of the `Trunk3D`.
        dropout: probability of an element to be dropped.
        printed: the logits are normalised over the batch.
    """

    dimensions = 3
    # half of what an output sees: 1 + 6·1 + 6·2 + 6·4
    margin = 43
    multiple = 1
    # whether a sample has noise besides its mask
    noisy = False
    dropped_at = "last layer"

    def __init__(self, in_channels=4, classes=4, width=24, features=96, dropout=0.5, printed=False):
        super().__init__()
        self.in_channels, self.classes, self.dropout = in_channels, classes, dropout
        self.trunk = Trunk3D(in_channels, width, features)
        self.make_head(features, printed)

    def make_head(self, features: int, printed: bool) -> None:
        """Builds what stands behind the trunk.

        Args:
            features: channels of the trunk.
            printed: see the class.
        """
        self.head = head(features, self.classes, printed)

    def forward(self, x) -> HighRes3DOutput:
        """The output, in training mode with masks from torch's own generator, in evaluation mode without any.

        Args:
            x: [n, in_channels, z, y, x].

        Returns:
            Each output [n, c, z, y, x].
        """
        return self.finish(self.features(x), partial(F.dropout, training=self.training))

    def features(self, x) -> torch.Tensor:
        """All that comes before the first dropout, which is computed once for all samples.

        Args:
            x: [n, in_channels, z, y, x].

        Returns:
            [n, features, z, y, x].
        """
        return self.trunk(x)

    def finish(self, features, drop) -> HighRes3DOutput:
        """All that comes behind `features`.

        Args:
            features: what `features` gave.
            drop: `drop(x, p)` drops.

        Returns:
            Each output [n, c, z, y, x].
        """
        return HighRes3DOutput(self.head(drop(features, self.dropout)))

    def draw(self, features, generator: torch.Generator | None = None) -> torch.Tensor:
        """Class probabilities of one sample: its masks, and then its noise.

        Noise is drawn in the logits, so the moments of these samples are those of the probabilities, of the noise and
        of the masks together; a variance of logits is never added to one of probabilities.

        Args:
            features: what `features` gave.
            generator: on their device; None: neither masks nor noise.

        Returns:
            [n, K, z, y, x].
        """
        if generator is None:
            return self.finish(features, lambda x, p: x).logits.float().softmax(1)
        out = self.finish(features, partial(dropped, generator=generator))
        logits = out.logits.float()  # a trunk in half precision would make probabilities that do not add up to 1
        if out.sd is not None:
            noise = torch.empty_like(logits).normal_(generator=generator)
            logits = torch.addcmul(logits, out.sd.float(), noise)
        return logits.softmax(1)


class HRDefault(HighRes3D):
    """HR-default, the baseline, without dropout: one sample says all it knows (Eaton-Rosen 2018, Sec. 2).

    1,819,400 parameters for 4 inputs and 4 classes. Arguments as of `HighRes3D`.
    """

    dropped_at = "none"

    def __init__(self, in_channels=4, classes=4, width=24, features=96, printed=False):
        super().__init__(in_channels, classes, width, features, 0.0, printed)


class HRDropLast(HighRes3D):
    """HR-drop-last: dropout on the features that the head sees (Eaton-Rosen 2018, Sec. 2).

    They are computed once, each sample is one 1³ convolution. Arguments as of `HighRes3D`.
    """


class HRDropAll(HighRes3D):
    """HR-drop-all: dropout on the input (p = 0.05), behind each of the nine residual blocks and before the head
    (Eaton-Rosen 2018, Sec. 2).

    The paper has it "after each residual block", "in every layer", and with the low p "in the input layer". A sample is
    a pass of the whole network. Arguments as of `HighRes3D`.
    """

    dropped_at = "input, every residual block and last layer"

    def features(self, x) -> torch.Tensor:
        """x itself: there is nothing before the first dropout."""
        return x

    def finish(self, features, drop) -> HighRes3DOutput:
        """The whole network.

        Args:
            features: the input, [n, in_channels, z, y, x].
            drop: `drop(x, p)` drops.

        Returns:
            logits [n, K, z, y, x].
        """
        x = drop(features, min(INPUT_DROPOUT, self.dropout))
        for layer in self.trunk:
            x = layer(x)
            if isinstance(layer, ResidualBlock):
                x = drop(x, self.dropout)
        return HighRes3DOutput(self.head(drop(x, self.dropout)))


class HRHetero(HighRes3D):
    """HR-hetero: HR-drop-last with an SD of the logits' noise for every voxel (Eaton-Rosen 2018, Sec. 2).

    f + σ·ε, ε ~ N(0, 1) for each class. Two branches, each conv 3³ with BN and PReLU, then 1³: to the logits, and by a
    softplus to σ. 2,338,578 parameters for 4 inputs and 4 classes, 519,178 more than the others. The paper does not say
    whether this network drops; it speaks of its predictive uncertainty beside the aleatoric one, so it does, behind the
    trunk.

    Args:
        in_channels: of the input.
        classes: K, background first.
        width: of the `Trunk3D`.
        features: of the `Trunk3D`.
        dropout: probability of an element to be dropped.
        printed: see `HighRes3D`.
        branches: filters of the two branches.
    """

    margin = 44
    noisy = True

    def __init__(self, in_channels=4, classes=4, width=24, features=96, dropout=0.5, printed=False, branches=(120, 80)):
        self._branches = tuple(branches)
        super().__init__(in_channels, classes, width, features, dropout, printed)

    def make_head(self, features: int, printed: bool) -> None:
        """Builds the two branches.

        Args:
            features: channels of the trunk.
            printed: see `HighRes3D`.
        """
        self.branches = nn.ModuleList(
            nn.Sequential(conv_bn_prelu(features, width, 3, dimensions=3), *head(width, outputs, printed))
            for width, outputs in zip(self._branches, (self.classes, 1))
        )

    def finish(self, features, drop) -> HighRes3DOutput:
        """Logits and the SD of their noise.

        Args:
            features: what `features` gave.
            drop: `drop(x, p)` drops.

        Returns:
            logits [n, K, z, y, x] and sd [n, 1, z, y, x].
        """
        x = drop(features, self.dropout)
        logits, s = (branch(x) for branch in self.branches)
        return HighRes3DOutput(logits, F.softplus(s))

"""V-Net as the semi-supervised literature of the left atrium uses it (Milletari 2016; Yu 2019; Hasan 2021).

Levels of 16, 32, 64, 128, 256 channels with 1, 2, 3, 3, 3 convolutions 3³ (bias, BN, ReLU), strides by 2³ convolutions
both ways, skips that are added, dropout on the deepest features and before the 1³ head. Dropout takes whole channels:
one sample is then one function of the whole volume, whatever the tiles.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from .dropout import dropped

CONVOLUTIONS = (1, 2, 3, 3, 3)


class VNetOutput(NamedTuple):
    """What a V-Net gives for a batch [n, c, z, y, x]; None what a network has not.

    Attributes:
        logits: [n, K, z, y, x].
        distance: [n, 1, z, y, x], the signed distance map in −1 … 1, negative inside.
        uncertainty, auxiliary: [n, K, z, y, x], logits of the decoders of those names (see `mt_ctl`).
    """

    logits: torch.Tensor
    distance: torch.Tensor | None = None
    uncertainty: torch.Tensor | None = None
    auxiliary: torch.Tensor | None = None


class Unit(nn.Sequential):
    """A convolution with bias, BN, ReLU."""

    def __init__(self, convolution: nn.Module):
        super().__init__(convolution, nn.BatchNorm3d(convolution.out_channels), nn.ReLU(inplace=True))


def block(inputs: int, outputs: int, count: int) -> nn.Sequential:
    """Convolutions 3³ that keep the size.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        count: how many.

    Returns:
        `count` units in a row.
    """
    return nn.Sequential(*[Unit(nn.Conv3d(inputs if i == 0 else outputs, outputs, 3, padding=1)) for i in range(count)])


class Encoder(nn.Module):
    """The way down: convolutions of each level, 2³ strided ones between them.

    Args:
        in_channels: of the input.
        widths: channels of the levels, finest first.
    """

    def __init__(self, in_channels: int, widths: list[int]):
        super().__init__()
        self.blocks = nn.ModuleList(
            block(in_channels if i == 0 else w, w, CONVOLUTIONS[i]) for i, w in enumerate(widths)
        )
        self.downs = nn.ModuleList(Unit(nn.Conv3d(a, b, 2, stride=2)) for a, b in zip(widths, widths[1:]))

    def forward(self, x) -> tuple[torch.Tensor, ...]:
        """The features of all levels, finest first, before any dropout.

        Args:
            x: [n, in_channels, z, y, x].

        Returns:
            [n, width, z, y, x] of each level, each half the size of the one before.
        """
        found = [self.blocks[0](x)]
        for down, convolutions in zip(self.downs, self.blocks[1:]):
            found.append(convolutions(down(found[-1])))
        return tuple(found)


class Decoder(nn.Module):
    """The way up: 2³ transposed convolutions, skips that are added, convolutions.

    Args:
        widths: channels of the levels, finest first.
    """

    def __init__(self, widths: list[int]):
        super().__init__()
        levels = range(len(widths) - 2, -1, -1)
        self.ups = nn.ModuleList(Unit(nn.ConvTranspose3d(widths[i + 1], widths[i], 2, stride=2)) for i in levels)
        self.blocks = nn.ModuleList(block(widths[i], widths[i], CONVOLUTIONS[i]) for i in levels)

    def forward(self, features, drop):
        """From the features of all levels to those of the finest.

        Args:
            features: as `Encoder` gives them.
            drop: `drop(x)` acts on the deepest and on the result.

        Returns:
            [n, width, z, y, x].
        """
        x = drop(features[-1])
        for up, convolutions, skip in zip(self.ups, self.blocks, features[-2::-1]):
            x = convolutions(up(x) + skip)
        return drop(x)


def drop_channels(x: torch.Tensor, p: float, generator: torch.Generator) -> torch.Tensor:
    """A batch without some of its channels, the same for all of it.

    Args:
        x: [n, c, z, y, x].
        p: probability of a channel to be dropped.
        generator: on the device of `x`.

    Returns:
        The shape of `x`; what stays is divided by 1 − p.
    """
    return x * dropped(x.new_ones(1, x.shape[1], 1, 1, 1), p, generator)


class VNet(nn.Module):
    """V-Net (Milletari 2016) as Yu 2019 and Hasan 2021 use it; 9,448,866 parameters with one input and two classes.

    Args:
        in_channels: of the input.
        classes: K, background first.
        width: channels of the finest level; each next has twice as many.
        levels: 2 to 5.
        dropout: probability of a channel to be dropped.
        distance: adds a second head on the same features, a signed distance map behind tanh (Li 2020, SASSNet).

    Raises:
        ValueError: a number of levels or a dropout that there cannot be.
    """

    dimensions = 3
    dropped_at = "whole channels of the deepest level and before the head"

    def __init__(self, in_channels=1, classes=2, width=16, levels=5, dropout=0.5, distance=False):
        super().__init__()
        if not 2 <= levels <= len(CONVOLUTIONS) or not 0 <= dropout < 1:
            raise ValueError(
                f"a V-Net of {levels} levels with a dropout of {dropout} does not exist: 2 to 5 levels, dropout 0 to 1"
            )
        self.in_channels, self.classes, self.dropout, self.levels = in_channels, classes, dropout, levels
        self.multiple, self.margin = 2 ** (levels - 1), reach(levels)
        self.widths = [width * 2**i for i in range(levels)]
        self.encoder, self.decoder = Encoder(in_channels, self.widths), Decoder(self.widths)
        self.head = nn.Conv3d(width, classes, 1)
        self.distance_head = nn.Conv3d(width, 1, 1) if distance else None

    def features(self, x) -> tuple[torch.Tensor, ...]:
        """All that comes before dropout: the encoder.

        Args:
            x: [n, in_channels, z, y, x].

        Returns:
            The features of all levels, finest first.

        Raises:
            ValueError: edges that are no multiple of `multiple`.
        """
        if any(n % self.multiple for n in x.shape[2:]):
            raise ValueError(
                f"an input of {'×'.join(str(int(n)) for n in x.shape[2:])} voxels (z, y, x) does not fit: every edge "
                "must be a "
                f"multiple of {self.multiple}."
            )
        return self.encoder(x)

    def drop(self, x):
        """Dropout as in training; nothing in evaluation mode."""
        return F.dropout3d(x, self.dropout, self.training)

    def forward(self, x) -> VNetOutput:
        """Logits, and the distance map where it has one.

        Args:
            x: [n, in_channels, z, y, x]; every edge a multiple of `multiple`.

        Returns:
            See `VNetOutput`.

        Raises:
            ValueError: edges that do not fit.
        """
        last = self.decoder(self.features(x), self.drop)
        return VNetOutput(self.head(last), None if self.distance_head is None else self.distance_head(last).tanh())

    def draw(self, features, generator: torch.Generator | None = None) -> torch.Tensor:
        """Class probabilities of one sample.

        Args:
            features: what `features` gave.
            generator: its masks are drawn from it; None: no dropout.

        Returns:
            [n, K, z, y, x].
        """
        drops = generator is not None and self.dropout > 0
        made = self.decoder(features, (lambda x: drop_channels(x, self.dropout, generator)) if drops else lambda x: x)
        return self.head(made).float().softmax(1)  # in single precision, or they do not add up to 1


def reach(levels: int) -> int:
    """Voxels on each side that an output of a V-Net depends on: 145 for five levels, 65 for four.

    The convolutions of a level reach over whole cells of 2^level voxels, so it depends on where in its cell an output
    lies; this is the most.

    Args:
        levels: of the V-Net.

    Returns:
        Voxels.
    """
    most = 0
    for start in range(2 ** (levels - 1)):
        low = high = start
        for level in range(levels - 1):  # back through the decoder; the skips see less than what lies below them
            low, high = (low - CONVOLUTIONS[level]) // 2, (high + CONVOLUTIONS[level]) // 2
        low, high = low - CONVOLUTIONS[levels - 1], high + CONVOLUTIONS[levels - 1]
        for level in range(levels - 2, -1, -1):  # and through the encoder
            low, high = 2 * low - CONVOLUTIONS[level], 2 * high + 1 + CONVOLUTIONS[level]
        most = max(most, start - low, high - start)
    return most

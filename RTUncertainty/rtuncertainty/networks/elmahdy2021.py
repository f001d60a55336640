"""Seg, Reg, JRS-reg, Dense, SEDD and Cross-stitch: 3-D networks of a daily and a planning CT (Elmahdy et al. 2021, Fig.
1).

Input [n, c, z, y, x]: channel 0 is the daily CT (fixed image), 1 the planning CT (moving image, on the same grid), 2
the planning labels. A network takes the first `in_channels` of what it is given, or what `inputs` names (Table 1), so
that one batch serves all of them.
Every edge of the input is a multiple of 4 and at least 44 voxels.

Convolutions are valid, so the outputs are smaller than the input: for an edge of n voxels n − 40, n/2 − 18 and n/4 − 7
at the high, middle and low level. All are centred on the input: voxel i of a level lies on input voxel crop + stride·i,
with `LEVELS` (crop, stride) = (20, 1), (18, 2), (14, 4), and `crop_to_level` brings truth there.
The published code pads strided layers on one side and upsamples by nearest neighbours, which is off by up to 3 voxels
at the low level; this one is not.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from .joint_blocks import DROPOUT_KINDS, CrossStitch, HeadDropout, Heads, Unit, crop, upsample

# of each level, high to low: voxels of the input lost at every face, and input voxels from one output voxel to the next
LEVELS = ((20, 1), (18, 2), (14, 4))
SMALLEST = 44
# what a network may see (Table 1), as channels of the input; I_f, I_m, S_m are daily CT, planning CT and its labels
INPUTS = {
    "daily": (0,),
    "daily+planning": (0, 1),
    "daily+labels": (0, 2),
    "daily+planning+labels": (0, 1, 2),
}


class JointOutput(NamedTuple):
    """Of each path a list of three levels, high to low; None where a network has no such path.

    Attributes:
        logits: [n, K, z, y, x] each, of the classes (0 is background) on the daily CT.
        displacement: [n, 3, z, y, x] each, components in the order x, y, z (x is the last axis), in voxels of its own
            level (1, 2, 4 input voxels), pulling: daily voxel i corresponds to the planning voxel at i +
            displacement[i], as `rtuncertainty.deformation.warp_tensor` takes it.
    """

    logits: list[torch.Tensor] | None = None
    displacement: list[torch.Tensor] | None = None


class Features(NamedTuple):
    """What the heads of each path see, high to low; None where a network has no such path.

    Attributes:
        segmentation, registration: three tensors [n, c, z, y, x].
    """

    segmentation: tuple[torch.Tensor, ...] | None = None
    registration: tuple[torch.Tensor, ...] | None = None


def crop_to_level(truth: torch.Tensor, level: int) -> torch.Tensor:
    """A truth at the voxels of an output's level.

    Without interpolation, so it does for labels, images and masks alike. Displacements in input voxels are to be
    divided by the level's stride besides.

    Args:
        truth: [..., z, y, x], on the grid of the input.
        level: 0 high, 1 middle, 2 low.

    Returns:
        [..., z', y', x'] of the level's size.
    """
    voxels, stride = LEVELS[level]
    inner = slice(voxels, -voxels, stride)
    return truth[..., inner, inner, inner]


def check_size(shape) -> None:
    """Raises unless every edge is a multiple of 4 and at least 44: of other sizes the skips do not fit what is
    upsampled, or a level has no voxel left.

    Args:
        shape: (z, y, x), voxels.

    Raises:
        ValueError: names the size that does not fit.
    """
    if any(n % 4 or n < SMALLEST for n in shape):
        raise ValueError(
            f"an input of {'×'.join(str(int(n)) for n in shape)} voxels (z, y, x) does not fit: every edge must be a "
            f"multiple of 4 and at least {SMALLEST}."
        )


class Encoder(nn.Module):
    """x0 to x4 (Elmahdy 2021, Fig. 1a): two valid units, a strided one, two valid ones.

    Args:
        in_channels: of the input.
        widths: feature maps of the high, middle and low level.
    """

    def __init__(self, in_channels: int, widths):
        super().__init__()
        first, second, _ = widths
        self.high = nn.Sequential(Unit(in_channels, first), Unit(first, first))
        self.down = Unit(first, first, stride=2)
        self.middle = nn.Sequential(Unit(first, second), Unit(second, second))

    def forward(self, x):
        """The skips of the high level (x1) and of the middle one (x4).

        Args:
            x: [n, in_channels, z, y, x], edge n.

        Returns:
            (high [n, F0, …] of edge n − 4, middle [n, F1, …] of edge n/2 − 6).
        """
        high = self.high(x)
        return high, self.middle(self.down(high))


class Decoder(nn.Module):
    """x5 to x15 (Elmahdy 2021, Fig. 1a): a strided unit, two valid ones, then two levels up, each of two valid units.

    Args:
        widths: feature maps of the high, middle and low level.
    """

    def __init__(self, widths):
        super().__init__()
        first, second, third = widths
        self.down = Unit(second, second, stride=2)
        self.low = nn.Sequential(Unit(second, third), Unit(third, third))
        self.middle = nn.Sequential(Unit(third + second, second), Unit(second, second))
        self.high = nn.Sequential(Unit(second + first, first), Unit(first, first))

    def forward(self, high, middle):
        """The features of the three levels, high to low, from the two skips.

        Args:
            high: as `Encoder` gives it.
            middle: as `Encoder` gives it.

        Returns:
            [n, F0, …], [n, F1, …], [n, F2, …] of the edges n − 40, n/2 − 18, n/4 − 7.
        """
        low = self.low(self.down(middle))
        middle = self.to_middle(upsample(low), middle)
        return self.to_high(upsample(middle), high), middle, low

    def to_middle(self, upsampled, skip):
        """x10 and x11: the features of the middle level.

        Args:
            upsampled: the low level's, at twice the size.
            skip: x4.

        Returns:
            [n, F1, z, y, x].
        """
        return self.middle(torch.cat([upsampled, crop(skip, 4)], 1))

    def to_high(self, upsampled, skip):
        """x14 and x15: the features of the high level.

        Args:
            upsampled: the middle level's, at twice the size.
            skip: x1.

        Returns:
            [n, F0, z, y, x].
        """
        return self.high(torch.cat([upsampled, crop(skip, 16)], 1))


class JointNetwork(nn.Module):
    """The common part: heads of both paths, their dropout, and the check of the input (Elmahdy 2021, Fig. 1).

    The paper has no dropout: 0, the default, is the paper; anything else is for this project's uncertainty of contours
    and deformation. Whole channels give smooth samples of a deformation; single elements give samples that are torn
    from voxel to voxel. As dropout is the last thing before the heads, `features` is run once and `heads` as often as
    samples are wanted.

    Args:
        in_channels: how many of daily CT, planning CT and planning labels it takes.
        classes: K, background first.
        widths: feature maps of the high, middle and low level.
        dropout: probability that is dropped of what the heads see, in both paths and at every level.
        dropout_kind: what is dropped, a "channel" or an "element".
        segments: whether it segments.
        registers: whether it registers.

    Raises:
        ValueError: a dropout outside [0, 1) or of an unknown kind.
    """

    # voxels around a tile that valid convolutions take; and with the outermost 4 of the output, which see padding
    margin = 20
    border = 24

    def __init__(self, in_channels, classes, widths, dropout, dropout_kind, inputs="", segments=True, registers=True):
        super().__init__()
        if inputs and inputs not in INPUTS:
            raise ValueError(f"inputs '{inputs}' are not one of {', '.join(INPUTS)}")
        self.channels = list(INPUTS[inputs] if inputs else range(in_channels))
        if not 0 <= dropout < 1 or dropout_kind not in DROPOUT_KINDS:
            raise ValueError(
                f"a dropout of {dropout} of kind '{dropout_kind}' does not exist: give 0 to 1 and one of "
                f"{', '.join(DROPOUT_KINDS)}"
            )
        # of what it is given, the part up to the last channel that it sees
        self.in_channels, self.classes, self.dropout = max(self.channels) + 1, classes, dropout
        self.segmentation_heads = Heads(widths, classes, dropout, dropout_kind) if segments else None
        self.registration_heads = Heads(widths, 3, dropout, dropout_kind) if registers else None

    def forward(self, x) -> JointOutput:
        """Logits and displacements at three levels.

        Args:
            x: [n, c, z, y, x], c ≥ `in_channels`; every edge a multiple of 4 and at least 44.

        Returns:
            See `JointOutput`.

        Raises:
            ValueError: a size or number of channels that does not fit.
        """
        return self.heads(self.features(x))

    def features(self, x) -> Features:
        """All that comes before dropout and heads.

        Args:
            x: as of `forward`.

        Returns:
            See `Features`.

        Raises:
            ValueError: a size or number of channels that does not fit.
        """
        check_size(x.shape[2:])
        if x.shape[1] < self.in_channels:
            raise ValueError(f"an input of {x.shape[1]} channels is too few: this network takes {self.in_channels}.")
        return self.paths(x[:, self.channels])

    def paths(self, x) -> Features:
        """The features of both paths, of an input that fits; each network has its own."""
        raise NotImplementedError

    def heads(self, features: Features) -> JointOutput:
        """Dropout, where it is on, and the heads.

        Args:
            features: what `features` gave.

        Returns:
            See `JointOutput`.
        """
        return JointOutput(
            None if self.segmentation_heads is None else self.segmentation_heads(features.segmentation),
            None if self.registration_heads is None else self.registration_heads(features.registration),
        )

    def set_sampling(self, on: bool, seed: int | None = None) -> None:
        """Switches Monte Carlo dropout on or off in evaluation mode.

        Args:
            on: whether samples are drawn.
            seed: every call until the next `set_sampling` is the same sample, with the same channels dropped in every
                tile and batch entry; None: each call draws its own masks from torch's generator.
        """
        for number, module in enumerate(m for m in self.modules() if isinstance(m, HeadDropout)):
            module.sampling = on
            module.seed = None if seed is None else seed * 1_000_003 + 7919 * number


class BaseNetwork(JointNetwork):
    """One encoder and one decoder, whose features all heads share (Elmahdy 2021, Fig. 1a).

    Args:
        in_channels: as of `JointNetwork`.
        classes: as of `JointNetwork`.
        widths: as of `JointNetwork`.
        dropout: as of `JointNetwork`.
        dropout_kind: as of `JointNetwork`.
        **which: as of `JointNetwork`.
    """

    def __init__(self, in_channels, classes, widths, dropout, dropout_kind, inputs, **which):
        super().__init__(in_channels, classes, widths, dropout, dropout_kind, inputs, **which)
        self.encoder, self.decoder = Encoder(len(self.channels), widths), Decoder(widths)

    def paths(self, x) -> Features:
        """The shared features, for each path that it has."""
        features = self.decoder(*self.encoder(x))
        return Features(
            None if self.segmentation_heads is None else features, None if self.registration_heads is None else features
        )


class Seg(BaseNetwork):
    """Segmentation of the daily CT alone (Elmahdy 2021, Sec. II-B1). 779,436 parameters.

    Arguments as of `JointNetwork`.
    """

    def __init__(self, in_channels=1, classes=5, widths=(23, 45, 91), dropout=0.0, dropout_kind="channel", inputs=""):
        super().__init__(in_channels, classes, widths, dropout, dropout_kind, inputs, registers=False)


class Reg(BaseNetwork):
    """Registration of planning to daily CT (Elmahdy 2021, Sec. II-B2). 779,733 parameters.

    JRS-reg is this network, trained with the joint loss: the Dice of the warped structures is added. (Sec. II-C1 gives
    it the same input as Reg, Sec. IV-B the planning labels too; `in_channels` = 3 is the latter.) It gives no classes;
    `classes` only keeps their number beside it for that loss. Arguments as of `JointNetwork`.
    """

    def __init__(self, in_channels=2, classes=5, widths=(23, 45, 91), dropout=0.0, dropout_kind="channel", inputs=""):
        super().__init__(in_channels, classes, widths, dropout, dropout_kind, inputs, segments=False)


class Dense(BaseNetwork):
    """Both tasks on one encoder and decoder (Elmahdy 2021, Sec. II-C2, Fig. 1a). 781,164 parameters.

    Arguments as of `JointNetwork`.
    """

    def __init__(self, in_channels=3, classes=5, widths=(23, 45, 91), dropout=0.0, dropout_kind="channel", inputs=""):
        super().__init__(in_channels, classes, widths, dropout, dropout_kind, inputs)


class Sedd(JointNetwork):
    """Shared encoder (x0 to x4), double decoder (Elmahdy 2021, Sec. II-C3, Fig. 1b). 722,936 parameters.

    Arguments as of `JointNetwork`.
    """

    def __init__(self, in_channels=3, classes=5, widths=(16, 32, 64), dropout=0.0, dropout_kind="channel", inputs=""):
        super().__init__(in_channels, classes, widths, dropout, dropout_kind, inputs)
        self.encoder = Encoder(len(self.channels), widths)
        self.decoders = nn.ModuleList(Decoder(widths) for _ in range(2))

    def paths(self, x) -> Features:
        """One decoder's features for each path."""
        skips = self.encoder(x)
        return Features(*[decoder(*skips) for decoder in self.decoders])


class CrossStitchNetwork(JointNetwork):
    """Two whole networks that exchange features (Elmahdy 2021, Fig. 1c). 779,000 parameters and 576 of the cross-stitch
    units.

    Path 1, segmentation, sees the daily CT only; path 2, registration, sees all `in_channels`. Units stand behind x2,
    behind x5 and at both upsamplings before their skips are added. The latter mix before they upsample, which gives the
    same, since both are linear and act on each channel alone, at an eighth of the cost. Arguments as of `JointNetwork`.
    """

    def __init__(self, in_channels=3, classes=5, widths=(16, 32, 64), dropout=0.0, dropout_kind="channel", inputs=""):
        super().__init__(in_channels, classes, widths, dropout, dropout_kind, inputs)
        first, second, third = widths
        self.encoders = nn.ModuleList(Encoder(channels, widths) for channels in (1, len(self.channels)))
        self.decoders = nn.ModuleList(Decoder(widths) for _ in range(2))
        self.stitches = nn.ModuleList(CrossStitch(channels) for channels in (first, second, third, second))

    def paths(self, x) -> Features:
        """Both paths, mixed by the four units."""
        first, second, third, fourth = self.stitches
        high = [encoder.high(seen) for encoder, seen in zip(self.encoders, (x[:, :1], x))]
        down = first(*[encoder.down(features) for encoder, features in zip(self.encoders, high)])
        skip = [encoder.middle(features) for encoder, features in zip(self.encoders, down)]
        down = second(*[decoder.down(features) for decoder, features in zip(self.decoders, skip)])
        low = [decoder.low(features) for decoder, features in zip(self.decoders, down)]
        middle = [d.to_middle(upsample(features), s) for d, features, s in zip(self.decoders, third(*low), skip)]
        top = [d.to_high(upsample(features), s) for d, features, s in zip(self.decoders, fourth(*middle), high)]
        return Features(*zip(top, middle, low))

"""What the joint networks are made of: units, resampling that stays centred, cross-stitch units, dropout before
heads.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

# the kinds of dropout: single elements, or whole 3-D channels
DROPOUT_KINDS = ("channel", "element")


class Unit(nn.Sequential):
    """Conv 3³ with bias, LeakyReLU 0.2, BN (eps 1e-3); valid, or strided with a symmetric zero padding of 1 (Elmahdy
    2021, Sec. II).

    With that padding, output voxel i of the strided unit is centred on input voxel 2i. (TensorFlow's "same" pads an
    even edge on one side only, which would centre it on 2i + 1.) Weights are N(0, 0.02) as in the paper, biases 0.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        stride: 1 or 2.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        convolution = nn.Conv3d(inputs, outputs, 3, stride, padding=0 if stride == 1 else 1)
        initialise(convolution)
        super().__init__(convolution, nn.LeakyReLU(0.2, inplace=True), nn.BatchNorm3d(outputs, eps=1e-3))


def initialise(convolution: nn.Conv3d) -> None:
    """Sets weights to N(0, 0.02) and the bias to 0 (Elmahdy 2021, Sec. III-B)."""
    nn.init.normal_(convolution.weight, 0.0, 0.02)
    nn.init.zeros_(convolution.bias)


def upsample(x: torch.Tensor) -> torch.Tensor:
    """Twice the size: out[2i] = x[i], out[2i+1] = (x[i] + x[i+1]) / 2 along every axis.

    Output voxel 2i lies where input voxel i lies, which "half-pixel" linear interpolation does not do. The last voxel
    of an axis has no right neighbour and repeats the last value. Written as sums, whose gradient is deterministic on
    GPUs too.

    Args:
        x: [n, c, z, y, x].

    Returns:
        [n, c, 2z, 2y, 2x].
    """
    for axis in (4, 3, 2):
        last = x.narrow(axis, x.shape[axis] - 1, 1)
        following = torch.cat([x.narrow(axis, 1, x.shape[axis] - 1), last], axis)
        x = torch.stack([x, (x + following) / 2], axis + 1).flatten(axis, axis + 1)
    return x


def crop(x: torch.Tensor, voxels: int) -> torch.Tensor:
    """A volume without its outermost voxels.

    Args:
        x: [..., z, y, x].
        voxels: left out at each of the six faces.

    Returns:
        Each edge is 2·`voxels` shorter.
    """
    inner = slice(voxels, -voxels)
    return x[..., inner, inner, inner]


class CrossStitch(nn.Module):
    """A learnt 2×2 mixture of two paths for every channel (Elmahdy 2021, Eq. 5; Misra 2016).

    Its `weight` [channels, 2, 2] is drawn from a normal distribution of mean 0.5 and SD 0.25 that is cut at two SDs.

    Args:
        channels: of each path.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 2, 2))
        nn.init.trunc_normal_(self.weight, 0.5, 0.25, 0.0, 1.0)

    def forward(self, first, second):
        """Both paths, mixed.

        Args:
            first: [n, channels, z, y, x].
            second: [n, channels, z, y, x].

        Returns:
            Two tensors of that shape.
        """
        a = self.weight.reshape(-1, 4, 1, 1, 1).unbind(1)
        return a[0] * first + a[1] * second, a[2] * first + a[3] * second


class HeadDropout(nn.Module):
    """Dropout while training, and afterwards while `sampling` is True (Monte Carlo dropout); see `JointNetwork`.

    With a `seed` the mask of a sample is the same at every call: of a channel dropout [1, c, 1, 1, 1], so that one
    sample is one function of the whole volume, whatever the tiles and the device. Without one, masks come from torch's
    own generator and differ within a batch and between calls.

    Args:
        p: probability to be dropped.
        kind: "channel" or "element".
    """

    def __init__(self, p: float, kind: str):
        super().__init__()
        self.p, self.kind, self.sampling, self.seed = p, kind, False, None

    def forward(self, x):
        """The input with some of it dropped, the rest divided by 1 − p; the same shape."""
        if self.p == 0 or not (self.training or self.sampling):
            return x
        if self.training or self.seed is None:
            return (F.dropout3d if self.kind == "channel" else F.dropout)(x, self.p, True)
        if self.kind == "channel":
            kept = torch.rand(1, x.shape[1], 1, 1, 1, generator=torch.Generator().manual_seed(self.seed)) >= self.p
        else:
            generator = torch.Generator(device=x.device).manual_seed(self.seed)
            kept = torch.rand(x.shape, generator=generator, device=x.device) >= self.p
        return x * (kept.to(x.device, x.dtype) / (1 - self.p))


class Heads(nn.ModuleList):
    """For each level a 1³ convolution with bias, no BN and no activation, with dropout on what it sees.

    Args:
        widths: channels of the levels, high to low.
        outputs: channels that each gives.
        dropout: as of `HeadDropout`.
        kind: as of `HeadDropout`.
    """

    def __init__(self, widths, outputs: int, dropout: float, kind: str):
        super().__init__(nn.Sequential(HeadDropout(dropout, kind), nn.Conv3d(width, outputs, 1)) for width in widths)
        for head in self:
            initialise(head[1])

    def forward(self, features):
        """The outputs of all levels.

        Args:
            features: a tensor [n, c, z, y, x] for each level.

        Returns:
            A list of [n, outputs, z, y, x].
        """
        return [head(x) for head, x in zip(self, features)]

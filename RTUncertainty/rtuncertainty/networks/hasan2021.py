"""MT-CTL: V-Net's encoder with up to four decoders (Hasan & Linte 2021, Fig. 1)."""

from __future__ import annotations

import torch
from torch import nn

from .uncertainty import entropy
from .vnet import Decoder, VNet, VNetOutput, drop_channels

# what decoders there are beside that of the segmentation
DECODERS = ("distance", "uncertainty", "auxiliary")


class Branch(nn.Module):
    """A decoder with a 1³ head of its own.

    Args:
        widths: channels of the levels, finest first.
        outputs: channels that it gives.
    """

    def __init__(self, widths: list[int], outputs: int):
        super().__init__()
        self.decoder, self.head = Decoder(widths), nn.Conv3d(widths[0], outputs, 1)

    def forward(self, features, drop):
        """The branch's output.

        Args:
            features: of all levels, as `VNet.features` gives them.
            drop: `drop(x)` drops.

        Returns:
            [n, outputs, z, y, x].
        """
        return self.head(self.decoder(features, drop))


class MTCTL(VNet):
    """MT-CTL: a V-Net, which segments, and further decoders on the same encoder (Hasan & Linte 2021, Fig. 1).

    "distance": the signed distance map, behind tanh. "uncertainty": class logits, sampled with dropout for the map that
    guides the training. "auxiliary": class logits; the paper draws four decoders and names three, so what the fourth
    does is this project's reading (see `training.methods.hasan2021.mt_ctl`). The contour is the V-Net's: `features`,
    `draw` and the weights of that part are a `vnet`'s. `further` is what the paper's network gives beside its mask.
    15,664,759 parameters with all of them.

    Args:
        in_channels: as of `VNet`.
        classes: as of `VNet`.
        width: as of `VNet`.
        levels: as of `VNet`.
        dropout: as of `VNet`.
        decoders: which of "distance", "uncertainty", "auxiliary" it has.
    """

    def __init__(self, in_channels=1, classes=2, width=16, levels=5, dropout=0.5, decoders=DECODERS):
        super().__init__(in_channels, classes, width, levels, dropout)
        unknown = set(decoders) - set(DECODERS)
        if unknown:
            raise ValueError(f"decoder {', '.join(sorted(unknown))} is not one of {', '.join(DECODERS)}")
        self.branches = nn.ModuleDict(
            {name: Branch(self.widths, 1 if name == "distance" else classes) for name in decoders}
        )

    def forward(self, x) -> VNetOutput:
        """What all decoders give.

        Args:
            x: [n, in_channels, z, y, x]; every edge a multiple of `multiple`.

        Returns:
            See `VNetOutput`.

        Raises:
            ValueError: edges that do not fit.
        """
        return self.decode(self.features(x))

    def decode(self, features) -> VNetOutput:
        """What all decoders make of the encoder's features.

        Args:
            features: of all levels.

        Returns:
            See `VNetOutput`.
        """
        found = {name: branch(features, self.drop) for name, branch in self.branches.items()}
        if "distance" in found:
            found["distance"] = found["distance"].tanh()
        return VNetOutput(self.head(self.decoder(features, self.drop)), **found)

    @property
    def gives(self) -> list[str]:
        """The channels of `further`, as far as the network has their decoders."""
        decoders = {"distance": "distance", "decoder_entropy": "uncertainty"}
        return [name for name, decoder in decoders.items() if decoder in self.branches]

    def further(self, features, generator: torch.Generator | None, samples: int) -> torch.Tensor:
        """[n, m, z, y, x], the channels `gives`: the signed distance map without dropout, and the uncertainty decoder's
        map, the mean entropy (nats) of so many dropout samples of it (Sec. 2, U(x)); of one pass without a generator.
        """
        found = []
        if "distance" in self.branches:
            found.append(self.branches["distance"](features, lambda x: x).tanh())
        if "uncertainty" in self.branches:
            drawn = samples if generator is not None and self.dropout else 1

            def drop(x):
                return x if generator is None else drop_channels(x, self.dropout, generator)

            maps = [entropy(self.branches["uncertainty"](features, drop).softmax(1)) for _ in range(drawn)]
            found.append(sum(maps) / drawn)
        return torch.cat(found, 1)

    def sample(self, features) -> torch.Tensor:
        """Class probabilities of one pass of the uncertainty decoder, with dropout in training mode.

        Args:
            features: of all levels.

        Returns:
            [n, K, z, y, x].
        """
        return self.branches["uncertainty"](features, self.drop).softmax(1)

"""The discriminator of SASSNet and MT-CTL, which parts labelled from unlabelled scans by image and distance map."""

from __future__ import annotations

import torch
from torch import nn

from . import loss as few_labels

KINDS = ("cross-entropy", "geman-mcclure")


class Discriminator(nn.Module):
    """What scores an image with its distance map (Li 2020, with the mean in place of a pooling that fits one size of
    crop).

    Image and map each go through a strided convolution and are added; three more such convolutions of `width`·2, 4, 8
    channels follow, with LeakyReLU 0.2 and dropout 0.5 of channels, the mean over all voxels and a linear layer.

    Args:
        in_channels: of the image.
        width: channels of the first convolutions.
    """

    def __init__(self, in_channels: int = 1, width: int = 64):
        super().__init__()

        def down(a, b):
            return nn.Conv3d(a, b, 4, stride=2, padding=1)

        self.image, self.distance = down(in_channels, width), down(1, width)
        layers = [nn.LeakyReLU(0.2), nn.Dropout3d(0.5)]
        for factor in (1, 2, 4):
            layers += [down(factor * width, 2 * factor * width), nn.LeakyReLU(0.2), nn.Dropout3d(0.5)]
        self.body, self.score = nn.Sequential(*layers), nn.Linear(8 * width, 1)

    def forward(self, image, distance):
        """One score an image.

        Args:
            image: [n, c, z, y, x].
            distance: its distance map, [n, 1, z, y, x].

        Returns:
            [n].
        """
        return self.score(self.body(self.image(image) + self.distance(distance)).mean((2, 3, 4)))[:, 0]


class Adversary(nn.Module):
    """The discriminator with its loss and its optimiser (Adam 1e-4), whose state `optimiser_state` carries into
    checkpoints.

    Args:
        kind: "cross-entropy" (SASSNet) or "geman-mcclure" (MT-CTL, Eq. 1).
        in_channels: of the `Discriminator`.
        width: of the `Discriminator`.
    """

    def __init__(self, kind: str, in_channels: int, width: int):
        super().__init__()
        if kind not in KINDS:
            raise SystemExit(f"adversary '{kind}' is not one of {', '.join(KINDS)}.")
        self.kind, self.discriminator = kind, Discriminator(in_channels, width)
        self._optimiser = None
        self.optimiser_state: dict | None = None

    def fooling(self, image, distance, labelled) -> torch.Tensor:
        """The loss by which the network that segments makes unlabelled scans look like labelled ones.

        The discriminator's own weights get no gradient.

        Args:
            image: of a whole batch, [n, c, z, y, x].
            distance: what the network made of it, [n, 1, z, y, x].
            labelled: bool [n].

        Returns:
            A scalar.
        """
        self.discriminator.requires_grad_(False)
        score = self._score(image, distance)
        self.discriminator.requires_grad_(True)
        if self.kind == "cross-entropy":
            return few_labels.real_or_not(score[~labelled], True)
        return few_labels.geman_mcclure(score[labelled], score[~labelled])

    def step(self, image, distance, labelled) -> torch.Tensor:
        """One step of the discriminator on what the network made of a batch.

        Args:
            image: as of `fooling`.
            distance: as of `fooling`.
            labelled: as of `fooling`.

        Returns:
            Its loss, detached.
        """
        with torch.enable_grad():
            score = self._score(image, distance.detach())
            if self.kind == "cross-entropy":
                loss = (
                    few_labels.real_or_not(score[labelled], True) + few_labels.real_or_not(score[~labelled], False)
                ) / 2
            else:
                loss = few_labels.geman_mcclure(score[labelled], score[~labelled] - 1)
            optimiser = self._ready()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        self.optimiser_state = optimiser.state_dict()
        return loss.detach()

    def _score(self, image, distance):
        # a loss scale of 16-bit training is the other optimiser's business
        with torch.autocast(image.device.type, enabled=False):
            return self.discriminator(image.float(), distance.float())

    def _ready(self) -> torch.optim.Optimizer:
        """The optimiser, made where the weights now lie, with the state of a checkpoint if one was read."""
        if self._optimiser is None:
            self._optimiser = torch.optim.Adam(self.discriminator.parameters(), lr=1e-4, betas=(0.9, 0.99))
            if self.optimiser_state is not None:
                self._optimiser.load_state_dict(self.optimiser_state)
        return self._optimiser

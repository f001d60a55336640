"""SASSNet: shape-aware learning by a signed distance map and a discriminator (Li 2020)."""

from __future__ import annotations

from rtuncertainty import networks

from . import loss as few_labels
from .adversary import Adversary
from .task import FewLabels


class Adversarial(FewLabels):
    """What a method with a distance map and a discriminator does in a step: the network's, then the discriminator's.

    Args:
        config: `Hasan2021`.
    """

    def __init__(self, config):
        super().__init__(config)
        self.adversary: Adversary | None = None

    def add_adversary(self, kind: str) -> None:
        """Builds the discriminator; for `kind` see `Adversary`."""
        self.adversary = Adversary(kind, self.network.in_channels, self.config.discriminator_width)

    def fooling(self, out, batch) -> tuple[dict, object]:
        """The adversarial term; what the discriminator is to see afterwards is kept.

        Args:
            out: of the network.
            batch: of `Crops`.

        Returns:
            ({"adversarial": scalar}, its weighted value).
        """
        self.judged = (batch["image"], out.distance.detach(), batch["labelled"])
        loss = self.adversary.fooling(batch["image"], out.distance, batch["labelled"])
        return {"adversarial": loss}, self.config.adversarial_weight * few_labels.ramp(self.progress_made) * loss

    def after_step(self, step):
        """The discriminator's step, behind the network's; see `FewLabels.after_step`."""
        if self.adversary is not None:
            self.judgement = self.adversary.step(*self.judged)

    def on_train_batch_end(self, outputs, batch, index):
        """Lightning's; logs the discriminator's loss."""
        if self.adversary is not None:
            self.log("train/discriminator", self.judgement)

    def on_save_checkpoint(self, checkpoint):
        """Lightning's; keeps the discriminator's optimiser."""
        if self.adversary is not None:
            checkpoint["discriminator_optimiser"] = self.adversary.optimiser_state

    def on_load_checkpoint(self, checkpoint):
        """Lightning's; goes on with the discriminator's optimiser."""
        if self.adversary is not None:
            self.adversary.optimiser_state = checkpoint["discriminator_optimiser"]


class SASSNet(Adversarial):
    """A V-Net with a second head for the distance map, which a discriminator must not be able to distinguish from that
    of labelled scans (Li 2020).

    Args:
        config: `Hasan2021`.
    """

    def __init__(self, config):
        super().__init__(config)
        self.add_adversary("cross-entropy")

    def build_network(self):
        """The `vnet` with a distance map."""
        return networks.build("vnet", **self.config.arguments, distance=True)

    def further(self, out, batch):
        """The adversarial term, see `FewLabels.further`."""
        return self.fooling(out, batch)

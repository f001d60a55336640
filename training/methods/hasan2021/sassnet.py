"""SASSNet: shape-aware learning by a signed distance map and a discriminator (Li 2020)."""

from __future__ import annotations

from rtuncertainty import networks

from . import loss as few_labels
from .adversary import Adversary
from .task import FewLabels


class Adversarial(FewLabels):
    """What a method with a distance map and a discriminator does in a step: the network's, then the discriminator's."""

    def __init__(self, config):
        super().__init__(config)
        self.adversary: Adversary | None = None

    def add_adversary(self, kind: str) -> None:
        self.adversary = Adversary(kind, self.network.in_channels, self.config.discriminator_width)

    def fooling(self, out, batch) -> tuple[dict, object]:
        """The adversarial term and its weighted value; what the discriminator is to see afterwards is kept."""
        self.judged = (batch["image"], out.distance.detach(), batch["labelled"])
        loss = self.adversary.fooling(batch["image"], out.distance, batch["labelled"])
        return {"adversarial": loss}, self.config.adversarial_weight * few_labels.ramp(self.progress_made) * loss

    def after_step(self, step):
        if self.adversary is not None:
            self.judgement = self.adversary.step(*self.judged)

    def on_train_batch_end(self, outputs, batch, index):
        if self.adversary is not None:
            self.log("train/discriminator", self.judgement)

    def on_save_checkpoint(self, checkpoint):
        if self.adversary is not None:
            checkpoint["discriminator_optimiser"] = self.adversary.optimiser_state

    def on_load_checkpoint(self, checkpoint):
        if self.adversary is not None:
            self.adversary.optimiser_state = checkpoint["discriminator_optimiser"]


class SASSNet(Adversarial):
    """A V-Net with a second head for the distance map, which a discriminator must not be able to tell from that of
    labelled scans.
    """

    def __init__(self, config):
        super().__init__(config)
        self.add_adversary("cross-entropy")

    def build_network(self):
        return networks.build("vnet", **self.config.arguments, distance=True)

    def further(self, out, batch):
        return self.fooling(out, batch)

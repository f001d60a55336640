"""The training that all methods share; by itself it is the V-Net, which learns from labelled crops alone."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from rtuncertainty import networks
from rtuncertainty.networks.vnet import VNetOutput

from ...core import schedule
from ...core.config import Config
from ...core.task import Task
from . import loss as few_labels


class FewLabels(Task):
    """SGD with momentum on the supervised loss and on what a method adds to it (`further`).

    `network` is what is exported: a V-Net, or one that holds a V-Net. What else a method trains or keeps (teacher,
    discriminator) is part of this module, so that a checkpoint resumes all of it.

    Args:
        config: `Hasan2021`.
    """

    def __init__(self, config: Config):
        super().__init__(config)
        self.classes = self.network.classes

    def build_network(self):
        """The `vnet` with the config's arguments."""
        return networks.build("vnet", **self.config.arguments)

    @property
    def printed(self) -> bool:
        """Whether the losses are those that Hasan & Linte print; V-Net, UA-MT and SASSNet have papers of their own."""
        return self.config.printed and self.config.network == "mt_ctl"

    @property
    def progress_made(self) -> float:
        """0 at the first step, 1 at the last: what the ramps go by."""
        return self.global_step / max(1, self.config.steps)

    def run_network(self, batch) -> VNetOutput:
        """The network's output for a batch of `Crops`."""
        return self.network(batch["image"])

    def losses(self, batch) -> dict:
        """The terms and their weighted sum "loss".

        Args:
            batch: of `Crops`.

        Returns:
            {term: scalar}.
        """
        out = self.run_network(batch)
        known = batch["labelled"]
        terms = {"supervised": few_labels.supervised(out.logits[known], batch["labels"][known], self.printed)}
        if out.distance is not None:
            terms["distance"] = few_labels.distance_loss(out.distance[known], batch["distance"][known])
        added, weighted = self.further(out, batch)
        loss = terms["supervised"] + self.config.distance_weight * terms.get("distance", 0.0) + weighted
        return {**terms, **added, "loss": loss}

    def further(self, out: VNetOutput, batch) -> tuple[dict, torch.Tensor | float]:
        """What a method adds to the supervised loss.

        Args:
            out: of the network.
            batch: of `Crops`.

        Returns:
            ({term: scalar}, their weighted sum).
        """
        return {}, 0.0

    def on_fit_start(self):
        """Lightning's.

        Raises:
            SystemExit: the run has several processes.
        """
        if self.trainer.world_size > 1:
            raise SystemExit("learning from few labels runs in one process; set devices and num_nodes to 1.")

    def optimizer_step(self, epoch, batch_index, optimiser, closure=None):
        """Lightning's; what a method does behind it is `after_step`."""
        super().optimizer_step(epoch, batch_index, optimiser, closure)
        # not in on_train_batch_end: a checkpoint is written before that
        self.after_step(self.global_step)

    def after_step(self, step: int) -> None:
        """What a method does when the weights have made the step number `step` (from 0)."""

    def on_validation_epoch_start(self):
        """Lightning's; empties what was found."""
        self.found = []

    def validation_step(self, batch, index):
        """Dice of the foreground in a whole scan, without dropout."""
        image, truth = batch["image"], batch["labels"] > 0
        size = image.shape[2:]
        missing = [-n % self.network.multiple for n in size]
        padded = F.pad(image - image.min(), [v for m in reversed(missing) for v in (0, m)]) + image.min()
        foreground = (self.network(padded).logits.argmax(1) > 0)[(..., *map(slice, size))]
        self.show(batch["labels"][0], image=(image[0, 0], -1, 2), truth=(truth[0], 0, 1), found=(foreground[0], 0, 1))
        self.found.append(2 * (foreground & truth).sum() / (foreground.sum() + truth.sum()).clamp_min(1))

    def on_validation_epoch_end(self):
        """Lightning's; logs the Dice and the score, 1 − Dice."""
        dice = torch.stack(self.found).float().mean()
        self.log("val/dice", dice)
        self.log("val/score", 1 - dice)

    def configure_optimizers(self):
        """SGD (Yu 2019) with the config's schedule."""
        c = self.config
        optimiser = torch.optim.SGD(
            self.network.parameters(), c.learning_rate, momentum=c.momentum, weight_decay=c.weight_decay
        )
        return schedule.configured(optimiser, c)

"""What the training of every network shares: optimiser, schedule, seeds, and the validation over whole slices."""

from __future__ import annotations

import lightning
import torch

from rtbackend import networks

from ..distributed import is_distributed, total, use_global_batch_norm
from . import schedule

BONE_HU = 250.0
OPTIMISERS = {"adam": torch.optim.Adam, "nadam": torch.optim.NAdam}


class Synthesis(lightning.LightningModule):
    """A network under the config `hyper` (see training/train.py: DEFAULTS). Subclasses say what the losses are."""

    def __init__(self, hyper: dict):
        super().__init__()
        self.save_hyperparameters()
        self.hyper = hyper
        self.network = networks.build(hyper["network"], **hyper["arguments"]).to(memory_format=torch.channels_last)

    def losses(self, batch) -> dict:
        """The terms of the loss and their sum "loss" for a batch of `PatchDataset`."""
        raise NotImplementedError

    def truth(self, batch) -> torch.Tensor:
        """The labels [n, y, x] that the network's classes mean."""
        return batch["labels"]

    def run_network(self, batch):
        return self.network(batch["mr"].contiguous(memory_format=torch.channels_last))

    def on_fit_start(self):
        use_global_batch_norm(self.network, is_distributed())

    def on_fit_end(self):
        use_global_batch_norm(self.network, False)

    def on_train_batch_start(self, batch, index):
        # dropout's masks belong to the step, so a run that was cut and resumed sees the same ones
        torch.manual_seed((self.hyper["seed"] * 1_000_003 + self.global_step) * 1_009 + self.global_rank)

    def training_step(self, batch, index):
        losses = self.losses(batch)
        self.log_dict({f"train/{k}": v.detach() for k, v in losses.items()}, prog_bar=True, sync_dist=True)
        if not torch.isfinite(losses["loss"]):
            raise RuntimeError(f"step {self.global_step}: the loss is {losses['loss'].item()}; lower learning_rate and resume.")
        return losses["loss"]

    def validation_step(self, batch, index):
        """MAE (HU) in the region and in bone, and Dice of the classes, without dropout, over whole slices."""
        found = self.network.interpret(self.run_network(batch))
        inside = batch["weight"] > 0
        sums = []
        if found.mean is not None:
            error = (found.mean.float() * self.hyper["hu_scale"] - batch["ct"]).abs()[:, 0]
            bone = inside & (batch["ct"][:, 0] > BONE_HU)
            sums = [error[inside].sum(), inside.sum(), error[bone].sum(), bone.sum()]
        truth = self.truth(batch)
        for k in range(1, self.network.classes):
            a, b = (found.probabilities.argmax(1) == k) & inside, (truth == k) & inside
            sums += [2 * (a & b).sum(), a.sum() + b.sum()]
        sums = torch.stack([s.double() for s in sums])
        self.sums = sums if self.sums is None else self.sums + sums

    def on_validation_epoch_start(self):
        self.sums = None

    def on_validation_epoch_end(self):
        sums = total(self.sums)
        ratios = (sums[0::2] / sums[1::2].clamp_min(1)).float()
        names = [f"dice_{k}" for k in range(1, self.network.classes)]
        regression = len(ratios) > len(names)
        if regression:
            names = ["mae_body", "mae_bone", *names]
        self.log_dict({f"val/{n}": r for n, r in zip(names, ratios)})
        # what early stopping and the best checkpoint look at: smaller is better
        self.log("val/score", ratios[0] + 0.2 * ratios[1] if regression else 1 - ratios.mean())

    def configure_optimizers(self):
        optimiser = OPTIMISERS[self.hyper["optimiser"]](self.parameters(), lr=self.hyper["learning_rate"])
        return schedule.configured(optimiser, self.hyper)

"""What the training of every network shares, whatever it is trained on: seeds, steps, statistics over all processes."""

from __future__ import annotations

import lightning
import torch

from .distributed import is_distributed, use_global_batch_norm


class Task(lightning.LightningModule):
    """A `network` under the config `hyper` (see training/run/train.py: DEFAULTS). Subclasses build the network and say what the losses are."""

    def __init__(self, hyper: dict):
        super().__init__()
        self.save_hyperparameters()
        self.hyper = hyper

    def losses(self, batch) -> dict:
        """The terms of the loss and their sum "loss" for a batch of patches."""
        raise NotImplementedError

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

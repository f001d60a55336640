"""The training task of M4: synthetic CT and segmentation with heteroscedastic likelihoods (Bragman 2018)."""

from __future__ import annotations

import lightning
import torch

from rtbackend import networks
from rtbackend.uncertainty import class_probabilities

from ..losses import heteroscedastic


class DualTask(lightning.LightningModule):
    """M4 under Adam with a one-cycle learning rate; `hyper` is the config of the run (see configs/)."""

    def __init__(self, hyper: dict):
        super().__init__()
        self.save_hyperparameters()
        self.hyper = hyper
        self.network = networks.build(hyper["network"], **hyper["arguments"])
        self.network = self.network.to(memory_format=torch.channels_last)

    def losses(self, batch) -> dict:
        """The two task losses and their sum for a batch of `PatchDataset`."""
        out = self.network(batch["mr"].contiguous(memory_format=torch.channels_last))
        target = batch["ct"] / self.hyper["hu_scale"]
        weight = batch["weight"]
        regression = heteroscedastic.regression_nll(
            out.mean, out.log_variance, target, weight[:, None], self.hyper["printed"], self.hyper["beta"])
        segmentation = heteroscedastic.segmentation_nll(
            out.logits, out.log_variance_seg, batch["labels"], weight, self.hyper["printed"])
        return {"regression": regression, "segmentation": segmentation, "loss": regression + segmentation}

    def on_train_batch_start(self, batch, index):
        # dropout's masks belong to the step, so a run that was cut and resumed sees the same ones
        torch.manual_seed((self.hyper["seed"] * 1_000_003 + self.global_step) * 1_009 + self.global_rank)

    def training_step(self, batch, index):
        losses = self.losses(batch)
        self.log_dict({f"train/{k}": v for k, v in losses.items()})
        if not torch.isfinite(losses["loss"]):
            raise RuntimeError(f"step {self.global_step}: the loss is {losses['loss'].item()}; lower learning_rate and resume.")
        return losses["loss"]

    def validation_step(self, batch, index):
        """MAE (HU) in the region and in bone, and Dice of the classes, without dropout, over whole slices."""
        out = self.network(batch["mr"].contiguous(memory_format=torch.channels_last))
        error = (out.mean * self.hyper["hu_scale"] - batch["ct"]).abs()[:, 0]
        inside = batch["weight"] > 0
        bone = inside & (batch["ct"][:, 0] > 200)
        found = class_probabilities(out.logits, out.log_variance_seg).argmax(1)
        sums = [error[inside].sum(), inside.sum(), error[bone].sum(), bone.sum()]
        for k in range(1, out.logits.shape[1]):
            a, b = (found == k) & inside, (batch["labels"] == k) & inside
            sums += [2 * (a & b).sum(), a.sum() + b.sum()]
        self.sums = self.sums + torch.stack([s.double() for s in sums])

    def on_validation_epoch_start(self):
        self.sums = torch.zeros(4 + 2 * (self.network.classes - 1), dtype=torch.float64, device=self.device)

    def on_validation_epoch_end(self):
        ratios = self.sums[0::2] / self.sums[1::2].clamp_min(1)
        names = ["mae_body", "mae_bone"] + [f"dice_{k}" for k in range(1, self.network.classes)]
        self.log_dict({f"val/{n}": r for n, r in zip(names, ratios.float())}, sync_dist=True)
        self.log("val/score", (ratios[0] + 0.2 * ratios[1]).float(), sync_dist=True)

    def configure_optimizers(self):
        optimiser = torch.optim.Adam(self.parameters(), lr=self.hyper["learning_rate"])
        warm, total = self.hyper["warm_up"], self.hyper["steps"]

        def rate(step):
            # linear warm-up, then a cosine to 1 % of the peak
            if step < warm:
                return (step + 1) / warm
            done = min(1.0, (step - warm) / max(1, total - warm))
            return 0.01 + 0.99 * 0.5 * (1 + torch.cos(torch.tensor(done * torch.pi)).item())

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

"""The training of HR-default, HR-drop-last, HR-drop-all and HR-hetero on CTs with organs (Eaton-Rosen 2018), and of
a V-Net in their place.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ...core import schedule
from ...core.distributed import total
from ...core.task import Task
from . import loss

# of pictures, what is black and white: z-scores, or HU in units of 500
SHOWN = -1.0, 2.0


class OrganTask(Task):
    """The training on CTs with organs, some of which were not drawn: those count as unknown (Eaton-Rosen 2018, Sec. 2).

    Cross-entropy, of HR-hetero the likelihood under noisy logits, plus `dice` times the Dice loss, which the paper has
    not: small organs are learnt in a tenth of the steps with it.
    """

    def on_train_start(self):
        """Lightning's; puts frozen normalisations back into evaluation mode."""
        self.train()  # Lightning leaves modules in the mode they are in, and new ones have their normalisation on

    def train(self, mode: bool = True):
        """As of torch, but that frozen normalisations stay in evaluation mode.

        Args:
            mode: training or evaluation.

        Returns:
            The module.
        """
        super().train(mode)
        if self.config.freeze_norm:
            for module in self.network.modules():
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    @property
    def settle_batches(self):
        """See `Task.settle_batches`; 0 with `freeze_norm`."""
        return 0 if self.config.freeze_norm else self.config.settle_batches

    def losses(self, batch) -> dict:
        """The terms and their weighted sum "loss".

        Args:
            batch: of `VolumePatches`.

        Returns:
            {term: scalar}.
        """
        out = self.run_network(batch)
        labels, known = batch["labels"].long(), batch["known"]
        # what helps to find organs ends together: the last steps see the paper's likelihood alone
        finding = self.global_step < self.config.dice_until * self.config.steps
        weight = known * torch.where(labels > 0, self.config.organ_weight if finding else 1.0, 1.0)
        if getattr(out, "sd", None) is None:
            likelihood, p = loss.cross_entropy(out.logits, labels, batch["present"], weight)
        else:
            likelihood, p = loss.heteroscedastic(
                out.logits, out.sd, labels, batch["present"], weight, self.config.noise_samples
            )
        dice = loss.dice(p, labels, batch["present"], known)
        return {
            "likelihood": likelihood,
            "dice": dice,
            "loss": likelihood + (self.config.dice if finding else 0.0) * dice,
        }

    def on_validation_epoch_start(self):
        """Lightning's; empties the sums."""
        self.sums = torch.zeros(2, self.network.classes - 1, dtype=torch.float64, device=self.device)

    def validation_step(self, batch, index):
        """Dice of each organ over whole scans, without dropout, mean over the patients in whom it was drawn."""
        image, size = batch["image"], batch["image"].shape[2:]
        missing = [-n % self.network.multiple for n in size]
        padded = F.pad(image - image.min(), [v for m in reversed(missing) for v in (0, m)]) + image.min()
        found = self.run_network({"image": padded}).logits.argmax(1)[(..., *map(slice, size))]
        last = self.network.classes - 1
        self.show(
            batch["labels"][0],
            image=(image[0, 0], *SHOWN),
            truth=(batch["labels"][0], 0, last),
            found=(found[0], 0, last),
        )
        for k in range(1, self.network.classes):
            a, b = found == k, batch["labels"] == k
            there = batch["present"][:, k - 1] * b.flatten(1).any(1)
            dice = 2 * (a & b).sum((1, 2, 3)) / (a.sum((1, 2, 3)) + b.sum((1, 2, 3))).clamp_min(1)
            self.sums[0, k - 1] += (dice * there).sum()
            self.sums[1, k - 1] += there.sum()

    def on_validation_epoch_end(self):
        """Lightning's; logs the Dice of each organ and the score, 1 − their mean."""
        sums = total(self.sums)
        drawn = sums[1] > 0
        dice = sums[0] / sums[1].clamp_min(1)
        self.log_dict({f"val/dice_{k + 1}": dice[k].float() for k in range(len(dice)) if drawn[k]})
        # what early stopping and the best checkpoint look at: smaller is better
        self.log("val/score", (1 - dice[drawn].mean()).float())

    def configure_optimizers(self):
        """Adam (Eaton-Rosen 2018, Sec. 2) with the config's schedule."""
        return schedule.configured(torch.optim.Adam(self.parameters(), lr=self.config.learning_rate), self.config)

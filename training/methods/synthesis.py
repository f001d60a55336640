"""What the training of the networks of axial slices shares: optimiser, schedule, and the validation over whole
slices.
"""

from __future__ import annotations

import torch

from ..core import schedule
from ..core.distributed import total
from ..core.task import Task

BONE_HU = 250.0
# of pictures, HU that are black and white
SHOWN_HU = -300.0, 900.0
OPTIMISERS = {"adam": torch.optim.Adam, "nadam": torch.optim.NAdam}


class Synthesis(Task):
    """A network of axial slices. Subclasses say what the losses are."""

    INPUT, LAYOUT = "mr", torch.channels_last

    def truth(self, batch) -> torch.Tensor:
        """The labels that the network's classes mean.

        Args:
            batch: of `PatchDataset`.

        Returns:
            [n, y, x].
        """
        return batch["labels"]

    def validation_step(self, batch, index):
        """MAE (HU) in the region and in bone, and Dice of the classes, without dropout, over whole slices."""
        found = self.network.interpret(self.run_network(batch))
        inside = batch["weight"] > 0
        shown = {"mr": (batch["mr"][0], -2, 2.5)}
        if "ct" in batch:
            shown["ct"] = batch["ct"][0], *SHOWN_HU
        sums = []
        if found.mean is not None:
            shown["synct"] = found.mean[0] * self.config.hu_scale, *SHOWN_HU
            error = (found.mean.float() * self.config.hu_scale - batch["ct"]).abs()[:, 0]
            bone = inside & (batch["ct"][:, 0] > BONE_HU)
            sums = [error[inside].sum(), inside.sum(), error[bone].sum(), bone.sum()]
        truth = self.truth(batch)
        if self.network.classes > 1:
            last = self.network.classes - 1
            shown |= {"truth": (truth, 0, last), "found": (found.probabilities.argmax(1), 0, last)}
        self.show(truth, **shown)
        for k in range(1, self.network.classes):
            a, b = (found.probabilities.argmax(1) == k) & inside, (truth == k) & inside
            sums += [2 * (a & b).sum(), a.sum() + b.sum()]
        sums = torch.stack([s.double() for s in sums])
        self.sums = sums if self.sums is None else self.sums + sums

    def on_validation_epoch_start(self):
        """Lightning's; empties the sums."""
        self.sums = None

    def on_validation_epoch_end(self):
        """Lightning's; logs MAE and Dice, and the score that early stopping looks at."""
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
        """The config's optimiser and schedule."""
        optimiser = OPTIMISERS[self.config.optimiser](self.parameters(), lr=self.config.learning_rate)
        return schedule.configured(optimiser, self.config)

"""The training of Seg, Reg, JRS-reg, Dense, SEDD and Cross-stitch (Elmahdy 2021)."""

from __future__ import annotations

import torch

from rtuncertainty import networks
from rtuncertainty.deformation import warp_tensor
from rtuncertainty.networks.elmahdy2021 import LEVELS, crop_to_level
from rtuncertainty.sampling.joint_tiling import run_tiled

from ...core import schedule
from ...core.config import Config
from ...core.distributed import total
from ...core.task import Task
from ..eatonrosen2018 import loss as organs
from . import loss as registration
from . import weighting
from .feed import outside
from .loss import ABSENT, one_hot


def network_input(batch: dict, classes: int) -> torch.Tensor:
    """Daily CT, planning CT, planning labels scaled to 0 … 1.

    Args:
        batch: of `PairPatches`.
        classes: K, background included.

    Returns:
        [n, 3, z, y, x].
    """
    labels = batch["moving_labels"][:, None].float() / (classes - 1)
    return torch.cat([batch["fixed"], batch["moving"], labels], 1)


def swapped(batch: dict) -> dict:
    """The batch and behind it the same with daily and planning scan exchanged (Elmahdy 2021, Sec. III-B).

    Args:
        batch: of `PairPatches`.

    Returns:
        Of twice the size.
    """
    other = {"fixed": "moving", "moving": "fixed", "fixed_labels": "moving_labels", "moving_labels": "fixed_labels"}
    return {k: torch.cat([v, batch[other.get(k, k)]]) for k, v in batch.items()}


class JointTask(Task):
    """L = w0·NCC + w1·DSC(warped) + w2·DSC(segmented) + `bending`·bending energy, mean over the three levels (Elmahdy
    2021, Eq. 6).

    Seg has the third term only, Reg the first and the last; JRS-reg is Reg with the second. The weights are those of
    `weighting`; that of the bending energy is fixed.

    The Dice loss counts no background: once an organ is found, it hardly asks how sure the network is of what is none,
    and probabilities of ½ stay in all of the body. `cross_entropy` > 0 adds, with that weight, the likelihood to the
    third term, which the paper has not; a model that shows entropy needs it. Voxels of organs weigh `organ_weight`
    times as much in it: background is fifty times as large, and small organs that are not found yet become background
    without.

    Args:
        config: `Elmahdy2021`.
    """

    LAYOUT = torch.contiguous_format

    def __init__(self, config: Config):
        super().__init__(config)
        self.name, self.outside = config.network, outside(config.hu_window)
        self.classes = self.network.classes
        terms = {"seg": 1, "reg": 1, "jrs_reg": 2}.get(self.name, 3)
        self.weights = weighting.build(config.weighting, terms)

    def build_network(self):
        """With what it sees."""
        return networks.build(self.config.network, **self.config.built_arguments)

    def run_network(self, batch):
        """The network's output for a batch of `PairPatches`, see `JointOutput`."""
        return self.network(network_input(batch, self.classes))

    def losses(self, batch) -> dict:
        """The terms and their weighted sum "loss".

        Args:
            batch: of `PairPatches`.

        Returns:
            {term: scalar}.
        """
        out = self.run_network(batch)
        terms: dict = {}
        for level in range(len(LEVELS)):
            for name, value in self._level(out, batch, level).items():
                terms[name] = terms.get(name, 0.0) + value / len(LEVELS)
        names = [n for n in ("ncc", "dice_warped", "dice_segmented") if n in terms]
        loss = self.weights([terms[n] for n in names]) + self.config.bending * terms.get("bending", 0.0)
        return {**terms, "loss": loss}

    def _level(self, out, batch, level) -> dict:
        crop, stride = LEVELS[level]
        known = crop_to_level(batch["known"], level)
        truth = one_hot(crop_to_level(batch["fixed_labels"], level), self.classes)
        found = {}
        if out.displacement is not None:
            d = out.displacement[level]
            where = {"crop": crop, "stride": stride}
            seen = known * warp_tensor(batch["known"], d.detach(), 0.0, **where).round()
            warped = warp_tensor(batch["moving"], d, self.outside["moving"], **where)
            found["ncc"] = registration.ncc_loss(crop_to_level(batch["fixed"], level), warped, seen)
            found["bending"] = registration.bending_energy(d)
            if self.name != "reg":
                labels = warp_tensor(one_hot(batch["moving_labels"], self.classes), d, 0.0, **where)
                found["dice_warped"] = registration.overlap_loss(
                    labels, truth, batch["present"], seen, printed=self.config.printed
                )
        if out.logits is not None:
            # a structure that was not drawn may be there all the same: its voxels are not background for sure
            p = out.logits[level].softmax(1)[:, 1:]
            absent = 0.0 if self.config.printed else ABSENT / stride**3
            found["dice_segmented"] = registration.overlap_loss(
                p, truth, batch["present"], known, absent, self.config.printed
            )
            if self.config.cross_entropy:
                labels = crop_to_level(batch["fixed_labels"], level).long()
                weight = known[:, 0] * torch.where(labels > 0, self.config.organ_weight, 1.0)
                likelihood = organs.cross_entropy(out.logits[level], labels, batch["present"], weight)[0]
                found["dice_segmented"] = found["dice_segmented"] + self.config.cross_entropy * likelihood
        return found

    def training_step(self, batch, index):
        """Lightning's; the scans of every batch are exchanged too."""
        self.log_dict(self.watched())
        return super().training_step(swapped(batch), index)

    def watched(self) -> dict[str, float]:
        """What is logged besides the losses: the weight of each (Fig. 3), and of each cross-stitch unit the mean over
        its channels of the four factors, "12" what the first path takes of the second (Fig. 4).
        """
        names = {"seg": ["dice_segmented"], "reg": ["ncc"], "jrs_reg": ["ncc", "dice_warped"]}
        found = dict(
            zip(names.get(self.name, ["ncc", "dice_warped", "dice_segmented"]), self.weights.weights().tolist())
        )
        found = {f"weight/{name}": value for name, value in found.items()}
        for number, unit in enumerate(getattr(self.network, "stitches", ()), 1):
            mean = unit.weight.detach().mean(0).flatten().tolist()
            found |= {f"stitch/{number}_{which}": value for which, value in zip(("11", "12", "21", "22"), mean)}
        return found

    def on_validation_epoch_start(self):
        """Lightning's; empties the sums."""
        self.sums = torch.zeros(4, dtype=torch.float64, device=self.device)

    def validation_step(self, batch, index):
        """Dice of warped and of segmented organs over whole pairs, mean over those that were drawn."""
        x = network_input(batch, self.classes)
        logits, displacement = run_tiled(
            self.network, x, [self.outside["fixed"], self.outside["moving"], 0.0][: x.shape[1]], edge=64
        )
        truth, known = one_hot(batch["fixed_labels"], self.classes), batch["known"]
        found = [None, None]
        if displacement is not None:
            found[0] = warp_tensor(one_hot(batch["moving_labels"], self.classes), displacement, 0.0) > 0.5
        if logits is not None:
            found[1] = one_hot(logits.argmax(1), self.classes) > 0
        shown = {"daily": (batch["fixed"][0, 0], -1, 2), "planning": (batch["moving"][0, 0], -1, 2)}
        shown["truth"] = batch["fixed_labels"][0], 0, self.classes - 1
        for name, labels in zip(("warped", "segmented"), found):
            if labels is not None:
                values = torch.arange(1, self.classes, device=labels.device).view(-1, 1, 1, 1)
                shown[name] = (labels[0] * values).amax(0), 0, self.classes - 1
        self.show(batch["fixed_labels"][0], **shown)
        for path, labels in enumerate(found):
            if labels is not None:
                a, b = labels.float() * known, truth * known
                there = batch["present"] * (b.sum((2, 3, 4)) > 0)
                dice = 2 * (a * b).sum((2, 3, 4)) / (a.sum((2, 3, 4)) + b.sum((2, 3, 4))).clamp_min(1)
                self.sums[2 * path] += (dice * there).sum()
                self.sums[2 * path + 1] += there.sum()

    def on_validation_epoch_end(self):
        """Lightning's; logs the Dice of each path and the score, 1 − their mean."""
        sums = total(self.sums)
        dice = {
            n: (sums[2 * i] / sums[2 * i + 1]).float()
            for i, n in enumerate(("warped", "segmented"))
            if sums[2 * i + 1] > 0
        }
        self.log_dict({f"val/dice_{n}": v for n, v in dice.items()})
        self.log("val/score", 1 - sum(dice.values()) / len(dice))

    def configure_optimizers(self):
        """RAdam (Elmahdy 2021, Sec. III-B) with the config's schedule."""
        # the homoscedastic weights are parameters of this module, and so in the optimiser
        return schedule.configured(torch.optim.RAdam(self.parameters(), lr=self.config.learning_rate), self.config)

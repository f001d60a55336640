"""The training of 1TN-GL, 1TN-FL, 2TN and 3TN (Kaushik 2022)."""

from __future__ import annotations

import torch

from ..synthesis import BONE_HU, Synthesis
from . import loss

AIR_HU = -1000.0


class RoiFocusedTask(Synthesis):
    """1TN-GL: the global MAE. 1TN-FL, 2TN, 3TN: the body-weighted MAE, with a bone regression and a bone class."""

    def losses(self, batch) -> dict:
        """The terms and their weighted sum "loss" (Kaushik 2022, Eq. 4).

        Args:
            batch: of `PatchDataset`: mr, ct (HU) [n, 1, y, x]; body, valid [n, y, x].

        Returns:
            {term: scalar}.
        """
        out = self.run_network(batch)
        body = batch["body"][:, None]
        # Couch and clothes are no part of the patient: outside there is air, measured or not. Were only the measured
        # voxels to count, MRs that are masked to the body would have no outside, and Eq. 2 would give the body no
        # weight.
        valid = 1 - body * (1 - batch["valid"][:, None])
        ct = torch.where(body > 0, batch["ct"], torch.full_like(batch["ct"], AIR_HU))
        target = ct / self.config.hu_scale
        if self.config.network == "1tn-gl":
            return {"loss": loss.global_mae(out.body, target, valid)}
        return loss.three_task_loss(out, target, body, (ct >= BONE_HU).float(), valid, self.config.loss_weights)

    def truth(self, batch):
        """Bone in the CT, which the network's one class means."""
        return (batch["ct"][:, 0] >= BONE_HU).long()

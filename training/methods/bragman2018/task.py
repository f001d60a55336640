"""The training of M1 to M4 (Bragman 2018)."""

from __future__ import annotations

from torch.nn import functional as F

from ...core.config import Config
from ..synthesis import Synthesis
from . import loss


class HighResTask(Synthesis):
    """The training of M1 to M4 (Bragman 2018, Sec. 2).

    M1, M2a: half the squared error, or cross-entropy. M2b: the likelihood with a variance for every voxel. M3: both
    tasks, weighed by one learnt variance each. M4: both likelihoods.

    Args:
        config: `Bragman2018`.
    """

    def __init__(self, config: Config):
        super().__init__(config)
        self.weights = loss.HomoscedasticWeights(1, 1, config.printed) if config.network == "m3" else None

    def losses(self, batch) -> dict:
        """The terms and their sum "loss" (L = L₁ + L₂).

        Args:
            batch: of `PatchDataset`: mr, ct (HU) [n, 1, y, x]; labels, weight [n, y, x].

        Returns:
            {term: scalar}.
        """
        out = self.run_network(batch)
        terms = {}
        if out.mean is not None:
            terms["regression"] = self._regression(out, batch)
        if out.logits is not None:
            terms["segmentation"] = self._segmentation(out, batch)
        total = (
            sum(terms.values()) if self.weights is None else self.weights([terms["regression"], terms["segmentation"]])
        )
        return {**terms, "loss": total}

    def _regression(self, out, batch):
        target, weight = batch["ct"] / self.config.hu_scale, batch["weight"][:, None]
        if out.log_variance is not None:
            return loss.regression_nll(
                out.mean, out.log_variance, target, weight, self.config.printed, self.config.beta
            )
        squared = loss.weighted_mean((out.mean - target) ** 2, weight)
        # the homoscedastic weights bring the half themselves
        return squared if self.weights is not None else squared / 2

    def _segmentation(self, out, batch):
        if out.log_variance_seg is not None:
            return loss.segmentation_nll(
                out.logits, out.log_variance_seg, batch["labels"], batch["weight"], self.config.printed
            )
        return loss.weighted_mean(F.cross_entropy(out.logits, batch["labels"], reduction="none"), batch["weight"])

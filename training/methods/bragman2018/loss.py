"""The losses of M1 to M4 (Bragman 2018): likelihoods with a variance for every voxel (L1 and L2 of Sec. 2, corrected as
said below), and one learnt variance a task.

M1 and M2a take the errors alone, M2b one of `regression_nll` and `segmentation_nll`, M3 weighs its tasks by
`HomoscedasticWeights`, M4 is the sum of both likelihoods; `task.py` puts them together.

All tensors are in the normalised units of the loss; `weight` is 1 where a voxel counts and 0 elsewhere.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from rtuncertainty.networks.uncertainty import REGRESSION_FLOOR, SEGMENTATION_FLOOR, variance

from ...core.distributed import total


def weighted_mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean over voxels by weight. In a run of several processes it is the mean over the voxels of all of them.

    Args:
        values: any shape.
        weight: of the same shape.

    Returns:
        A scalar; 0 where no voxel counts, so that no NaN arises.
    """
    return total((values * weight).sum()) / total(weight.sum()).clamp_min(1.0)


def regression_nll(mean, log_variance, target, weight, printed=False, beta=0.0, floor=REGRESSION_FLOOR):
    """r²/(2σ²) + ½·log σ² (Bragman 2018, Sec. 2, L₁ corrected), mean over the voxels that count.

    Args:
        mean: [n, 1, y, x].
        log_variance: s of σ² = exp(s) + floor, [n, 1, y, x].
        target: [n, 1, y, x].
        weight: [n, 1, y, x].
        printed: the paper's log σ² without the half, under which σ² becomes half of the true variance.
        beta: 0 to 1; multiplies each voxel's loss by its (detached) σ^(2·beta), which lets the mean go on learning
            where the variance is large, at bone say (Seitzer et al. 2022, "On the pitfalls of heteroscedastic
            uncertainty estimation", Eq. 5); the optimal σ² of a voxel is the same for every beta.
        floor: of σ².

    Returns:
        A scalar.
    """
    sigma2 = variance(log_variance, floor)
    loss = (target - mean) ** 2 / (2 * sigma2) + (1.0 if printed else 0.5) * sigma2.log()
    if beta:
        loss = loss * sigma2.detach() ** beta
    return weighted_mean(loss, weight)


def segmentation_nll(logits, log_variance, labels, weight, printed=False, floor=SEGMENTATION_FLOOR):
    """Cross-entropy of softmax(f / (2σ²)) (Bragman 2018, Sec. 2, L₂ without its approximation), mean over the voxels
    that count.

    Args:
        logits: f, [n, K, y, x].
        log_variance: s of σ² = exp(s) + floor, [n, 1, y, x].
        labels: int64 [n, y, x].
        weight: [n, y, x].
        printed: the paper's approximation CE(f)/(2σ²) + log σ².
        floor: of σ².

    Returns:
        A scalar.
    """
    sigma2 = variance(log_variance, floor)
    if printed:
        loss = F.cross_entropy(logits, labels, reduction="none") / (2 * sigma2[:, 0]) + sigma2[:, 0].log()
    else:
        loss = F.cross_entropy(logits / (2 * sigma2), labels, reduction="none")
    return weighted_mean(loss, weight)


class HomoscedasticWeights(nn.Module):
    """Task weights that are learnt as one noise level a task (Kendall et al. 2018, "Multi-task learning using
    uncertainty"; Bragman 2018, M3; Elmahdy 2021, Eq. 7).

    L = Σ_regression [l/(2σ²) + ½·log σ²] + Σ_classification [l/σ² + ½·log σ²], with l the plain MSE or cross-entropy.

    For regression σ² converges to the MSE, which is the noise's variance. The parameters are log σ², and must be given
    to the optimiser.

    Args:
        regressions: how many losses of that kind.
        classifications: how many losses of that kind.
        printed: log σ² in place of ½·log σ² (Bragman 2018).
    """

    def __init__(self, regressions: int, classifications: int, printed: bool = False):
        super().__init__()
        self.regressions, self.printed = regressions, printed
        self.log_variance = nn.Parameter(torch.zeros(regressions + classifications))

    def weights(self) -> torch.Tensor:
        """What the losses are multiplied by [K], regressions first: 1/(2σ²) and 1/σ²."""
        halves = torch.tensor(
            [0.5] * self.regressions + [1.0] * (len(self.log_variance) - self.regressions),
            device=self.log_variance.device,
        )
        return halves * torch.exp(-self.log_variance)

    def forward(self, losses) -> torch.Tensor:
        """The weighted sum.

        Args:
            losses: scalars, regressions first.

        Returns:
            A scalar.
        """
        stacked = torch.stack(list(losses))
        return (stacked * self.weights() + (1.0 if self.printed else 0.5) * self.log_variance).sum()

"""Task weights that are learnt as one noise level a task (Kendall et al. 2018, "Multi-task learning using uncertainty")."""

from __future__ import annotations

import torch
from torch import nn


class HomoscedasticWeights(nn.Module):
    """L = Σ_regression [l/(2σ²) + ½·log σ²] + Σ_classification [l/σ² + ½·log σ²], with l the plain MSE or cross-entropy.

    For regression σ² converges to the MSE, which is the noise's variance. The parameters are log σ², and must be given to
    the optimiser. `printed=True` takes log σ² in place of ½·log σ² (Bragman 2018).
    """

    def __init__(self, regressions: int, classifications: int, printed: bool = False):
        super().__init__()
        self.regressions, self.printed = regressions, printed
        self.log_variance = nn.Parameter(torch.zeros(regressions + classifications))

    def forward(self, losses) -> torch.Tensor:
        """The weighted sum of scalar losses, regressions first."""
        halves = torch.tensor([0.5] * self.regressions + [1.0] * (len(self.log_variance) - self.regressions),
                              device=self.log_variance.device)
        stacked = torch.stack(list(losses))
        return (halves * stacked * torch.exp(-self.log_variance) + (1.0 if self.printed else 0.5) * self.log_variance).sum()

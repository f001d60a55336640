"""How the losses of several tasks become one: equally, by learnt noise, or by their rates of change (Elmahdy 2021,
Sec. II-D).
"""

from __future__ import annotations

import torch
from torch import nn

from ..bragman2018.loss import HomoscedasticWeights


class EqualWeights(nn.Module):
    """The sum of the losses."""

    def __init__(self, losses: int):
        super().__init__()
        self.losses = losses

    def weights(self) -> torch.Tensor:
        """The weights [K]: all 1."""
        return torch.ones(self.losses)

    def forward(self, losses):
        """The sum of scalar losses."""
        return torch.stack(list(losses)).sum()


class DynamicWeightAverage(nn.Module):
    """Σ w_k·L_k with w_k = K·exp(r_k/tmp) / Σ exp(r_i/tmp), r_k the ratio of the loss to the one before (Elmahdy 2021,
    Eq. 8; Liu 2019).

    In the first two steps every r_k is 1. What was seen is part of the state, so a resumed run goes on with it.

    Args:
        losses: K.
        temperature: tmp.
    """

    def __init__(self, losses: int, temperature: float = 1.0):
        super().__init__()
        self.temperature = temperature
        # of the last step and of the one before; NaN: not seen yet
        self.register_buffer("seen", torch.full((2, losses), float("nan")))

    def weights(self) -> torch.Tensor:
        """The weights [K] of the next step; their sum is K."""
        ratio = torch.nan_to_num(self.seen[0] / self.seen[1].clamp_min(1e-8), nan=1.0)
        return len(ratio) * torch.softmax(ratio / self.temperature, 0)

    def forward(self, losses):
        """The weighted sum of scalar losses; in training they are remembered."""
        stacked = torch.stack(list(losses))
        result = (self.weights() * stacked).sum()
        if self.training:
            with torch.no_grad():
                self.seen.copy_(torch.stack([stacked.detach(), self.seen[0]]))
        return result


def build(kind: str, losses: int) -> nn.Module:
    """A weighting of several losses (Elmahdy 2021, Sec. II-D).

    Args:
        kind: "equal", "homoscedastic" (L/σ² + log σ for every loss, Eq. 7; Kendall 2018; σ is a parameter, to be given
            to the optimiser) or "dwa" (Eq. 8).
        losses: how many.

    Returns:
        A module that makes one loss of them.
    """
    if kind == "equal":
        return EqualWeights(losses)
    if kind == "homoscedastic":
        return HomoscedasticWeights(0, losses)
    return DynamicWeightAverage(losses)

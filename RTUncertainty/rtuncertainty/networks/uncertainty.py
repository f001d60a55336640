"""From samples of a network to means and uncertainties (Bragman 2018; Kendall & Gal 2017)."""

from __future__ import annotations

import torch

# the smallest variances a network may claim, in the normalised units of the loss
REGRESSION_FLOOR = 0.005
SEGMENTATION_FLOOR = 0.05


def variance(log_variance: torch.Tensor, floor: float) -> torch.Tensor:
    """σ² = exp(s) + floor of a variance head's output s; s is limited to ±20 so that exp stays finite."""
    return log_variance.clamp(-20, 20).exp() + floor


def class_probabilities(logits: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """softmax(f / (2σ²)) over the classes; logits [n, K, ...], log_variance [n, 1, ...]."""
    return (logits / (2 * variance(log_variance, SEGMENTATION_FLOOR))).softmax(1)


def entropy(probabilities: torch.Tensor, dim: int = 1) -> torch.Tensor:
    """−Σ p log p over the classes, in nats, keeping the dimension."""
    return -(probabilities * probabilities.clamp_min(1e-12).log()).sum(dim, keepdim=True)

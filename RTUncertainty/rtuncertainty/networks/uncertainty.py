"""From samples of a network to means and uncertainties (Bragman 2018; Kendall & Gal 2017)."""

from __future__ import annotations

import torch

# the smallest variances a network may claim, in the normalised units of the loss
REGRESSION_FLOOR = 0.005
SEGMENTATION_FLOOR = 0.05


def variance(log_variance: torch.Tensor, floor: float) -> torch.Tensor:
    """σ² = exp(s) + floor of a variance head's output s (Bragman 2018, Sec. 2; the floor is this project's).

    Args:
        log_variance: s, any shape; limited to ±20 so that exp stays finite.
        floor: in the normalised units of the loss, squared.

    Returns:
        The shape of `log_variance`.
    """
    return log_variance.clamp(-20, 20).exp() + floor


def class_probabilities(logits: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """softmax(f / (2σ²)) over the classes (Bragman 2018, Sec. 2).

    Args:
        logits: f, [n, K, ...].
        log_variance: s of σ², [n, 1, ...].

    Returns:
        [n, K, ...].
    """
    return (logits / (2 * variance(log_variance, SEGMENTATION_FLOOR))).softmax(1)


def entropy(probabilities: torch.Tensor, dim: int = 1) -> torch.Tensor:
    """−Σ p log p over the classes.

    Args:
        probabilities: [n, K, ...].
        dim: of the classes.

    Returns:
        [n, 1, ...], nats.
    """
    return -(probabilities * probabilities.clamp_min(1e-12).log()).sum(dim, keepdim=True)

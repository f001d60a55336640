"""What one stochastic forward pass says, the same for every network: the currency of sampling."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Sample(NamedTuple):
    """mean [n, 1, y, x] and intrinsic variance [n, 1, y, x] of HU in the normalised units of the loss; class
    probabilities [n, K, y, x]. None where a network has no such output."""

    mean: torch.Tensor | None
    variance: torch.Tensor | None = None
    probabilities: torch.Tensor | None = None

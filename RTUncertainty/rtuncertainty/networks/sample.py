"""What one stochastic forward pass says, the same for every network: the currency of sampling."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Sample(NamedTuple):
    """What one pass says, in the normalised units of the loss; None where a network has no such output.

    Attributes:
        mean: [n, 1, y, x], of HU.
        variance: [n, 1, y, x], the intrinsic one.
        probabilities: [n, K, y, x].
    """

    mean: torch.Tensor | None
    variance: torch.Tensor | None = None
    probabilities: torch.Tensor | None = None

"""Moments of samples, accumulated as the samples come: memory does not depend on their number."""

from __future__ import annotations

from typing import Any

import torch


class Moments:
    """Running mean and unbiased variance (Welford 1962) of independent samples or of antithetic pairs.

    Pairs (a, b) have a covariance, so the variance of one sample is not the plain variance of all of them. With
    m = (a + b)/2, the between-pair part B = var(m) = σ²(1 + ρ)/2 and the within-pair part W = mean((a − b)²)/4
    = σ²(1 − ρ)/2 add up to σ² for every ρ; both are estimated without bias. Tensors of any one shape.
    """

    def __init__(self):
        self.count = 0  # of pairs, or of single samples
        self.samples = 0
        self.mean: Any = None  # a tensor, once something was added; so the others
        self._square: Any = None
        self._within: Any = None

    def add(self, a: torch.Tensor, b: torch.Tensor | None = None) -> None:
        """Takes in a pair or a single sample.

        Args:
            a: of any shape, the same at every call.
            b: the other of an antithetic pair; None for a single sample.

        Raises:
            ValueError: pairs and single samples in one accumulator.
        """
        if self.mean is not None and (b is None) != (self._within is None):
            raise ValueError("pairs and single samples cannot be mixed in one accumulator")
        value = a if b is None else (a + b) / 2
        self.count += 1
        self.samples += 1 if b is None else 2
        if self.mean is None:
            self.mean, self._square = value.clone(), torch.zeros_like(value)
            self._within = None if b is None else torch.zeros_like(value)
        else:
            delta = value - self.mean
            self.mean += delta / self.count
            self._square += delta * (value - self.mean)
        if b is not None:
            self._within += ((a - b) ** 2 / 4 - self._within) / self.count

    def variance(self) -> torch.Tensor:
        """Unbiased estimate of the variance of one sample.

        Returns:
            The shape of the samples, in their unit squared.

        Raises:
            ValueError: fewer than two samples.
        """
        if self.samples < 2:
            raise ValueError("the variance needs two samples")
        if self.count == 1:
            # one pair: half of (a − b)²/2 is all that is known; exact where the pair is uncorrelated
            return 2 * self._within
        between = self._square / (self.count - 1)
        return between if self._within is None else between + self._within

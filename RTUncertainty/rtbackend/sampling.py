"""T dropout samples of M4 with the trunk computed once and antithetic masks (Bragman 2018; METHODS, sampling cost).

The features h behind the trunk are fixed; a mask m multiplies them by 2(1 − m) or 2m. As the first convolution of the
branches is linear, conv(2(1 − m)h) = 2·conv(h) − conv(2mh): one convolution serves a mask and its complement.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .moments import Moments
from .networks.folded import FoldedHeads
from .uncertainty import REGRESSION_FLOOR, class_probabilities, entropy, variance


@dataclass
class Statistics:
    """What T samples say about a batch of slices; tensors [n, c, y, x] in the normalised units of the loss.

    mean, intrinsic (mean of σ²), parameter (variance of the sampled means); probability and probability_variance
    (per class), expected_entropy (nats).
    """

    mean: torch.Tensor
    intrinsic: torch.Tensor
    parameter: torch.Tensor
    probability: torch.Tensor
    probability_variance: torch.Tensor
    expected_entropy: torch.Tensor

    def stacked(self) -> torch.Tensor:
        """All in one tensor [n, 4 + 2K, y, x], in the order of the fields."""
        return torch.cat([self.mean, self.intrinsic, self.parameter, self.expected_entropy, self.probability,
                          self.probability_variance], 1)

    @staticmethod
    def unstacked(tensor: torch.Tensor) -> "Statistics":
        """The inverse of `stacked`, for any tensor with the channels at axis 1."""
        k = (tensor.shape[1] - 4) // 2
        return Statistics(tensor[:, 0:1], tensor[:, 1:2], tensor[:, 2:3], tensor[:, 4:4 + k], tensor[:, 4 + k:], tensor[:, 3:4])


def bernoulli_mask(shape, generator: torch.Generator, device) -> torch.Tensor:
    """A float mask [n, c, y, x] of 0 and 1 with p = 0.5, channels last in memory as the features are.

    Eight elements are unpacked from every random byte: drawing one number an element would cost as much as the branches.
    """
    n, c, y, x = shape
    count = n * c * y * x
    words = torch.empty((count + 7) // 8, dtype=torch.uint8, device=device).random_(0, 256, generator=generator)
    bits = (words[:, None] & torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=device)).ne(0)
    return bits.flatten()[:count].view(n, y, x, c).permute(0, 3, 1, 2).float()


def masks(shape, samples: int, seed: int, device):
    """The masks of a run, one for every pair that `samples` (rounded up) needs; the other of a pair is its complement.

    They depend on the seed, the device's kind and the shape only.
    """
    generator = torch.Generator(device=device).manual_seed(seed)
    for _ in range((samples + 1) // 2):
        yield bernoulli_mask(shape, generator, device)


@torch.inference_mode()
def sample(networks, x: torch.Tensor, samples: int, seed: int, on_sample=None) -> Statistics:
    """Statistics of `samples` dropout samples over one or several checkpoints of M4.

    `x` [n, 1, y, x]. With several checkpoints the samples are dealt to them as evenly as whole pairs allow; the
    number is rounded up to whole pairs each. `on_sample(done, total)` is called after every pair.
    Raises `ValueError` for fewer than two samples or a dropout other than 0.5, for which no complement exists.
    """
    networks = list(networks)
    if samples < 2:
        raise ValueError("at least two samples are needed to tell a spread")
    if any(n.dropout != 0.5 for n in networks):
        raise ValueError("antithetic masks need a dropout of 0.5")
    pairs = -(-samples // 2)
    shares = [pairs // len(networks) + (i < pairs % len(networks)) for i in range(len(networks))]
    regression, intrinsic, probability, doubt = Moments(), Moments(), Moments(), Moments()
    done = 0
    for number, (network, share) in enumerate(zip(networks, shares)):
        if share == 0:
            continue
        features = network.trunk(x)
        heads = FoldedHeads(network)
        both = heads.pair_sum(features)
        features = 2 * features
        for mask in masks(features.shape, 2 * share, seed + 7919 * number, x.device):
            half = heads.first(mask * features)
            # the complement's first convolution comes for free
            outputs = [heads.finish(half), heads.finish(both - half)]
            means = [o.mean for o in outputs]
            probabilities = [class_probabilities(o.logits, o.log_variance_seg) for o in outputs]
            regression.add(*means)
            intrinsic.add(*(variance(o.log_variance, REGRESSION_FLOOR) for o in outputs))
            probability.add(*probabilities)
            doubt.add(*(entropy(p) for p in probabilities))
            done += 1
            if on_sample is not None:
                on_sample(done, pairs)
    return Statistics(regression.mean, intrinsic.mean, regression.variance(), probability.mean, probability.variance(), doubt.mean)

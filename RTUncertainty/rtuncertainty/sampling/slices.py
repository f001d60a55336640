"""T dropout samples of a network (Bragman 2018, Sec. 2).

M2 to M4 drop behind the trunk, which is computed once, with antithetic masks: the features h behind the trunk are
fixed; a mask m multiplies them by 2(1 − m) or 2m. As the first convolution of the branches is linear, conv(2(1 − m)h) =
2·conv(h) − conv(2mh): one convolution serves a mask and its complement. Networks with dropout in every layer (1TN to
3TN) are run as a whole T times; M1, without any, once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from ..networks.folded import folded_heads
from ..networks.sample import Sample
from ..networks.uncertainty import entropy
from .moments import Moments


@dataclass
class Statistics:
    """What T samples say about a batch of slices (Bragman 2018, Sec. 2), in the normalised units of the loss.

    Tensors [n, c, y, x], or [n, c, z, y, x] of volumes; None of networks that give no image.

    Attributes:
        mean: of the sampled means, c = 1.
        intrinsic: mean of σ², c = 1.
        parameter: variance of the sampled means, c = 1.
        probability, probability_variance: of each class, c = K.
        expected_entropy: mean of the samples' entropies, nats, c = 1.
        further: by name what a network gives beside, see `sampling.volumes`.
    """

    mean: Any
    intrinsic: Any
    parameter: Any
    probability: torch.Tensor
    probability_variance: torch.Tensor
    expected_entropy: torch.Tensor
    further: dict[str, torch.Tensor] = field(default_factory=dict)

    def stacked(self) -> torch.Tensor:
        """All in one tensor [n, 4 + 2K, y, x]: mean, intrinsic, parameter, expected entropy, probability and its
        variance.
        """
        return torch.cat(
            [
                self.mean,
                self.intrinsic,
                self.parameter,
                self.expected_entropy,
                self.probability,
                self.probability_variance,
            ],
            1,
        )

    @staticmethod
    def unstacked(tensor: torch.Tensor) -> Statistics:
        """The inverse of `stacked`.

        Args:
            tensor: any, with the 4 + 2K channels at axis 1.

        Returns:
            Views of it.
        """
        k = (tensor.shape[1] - 4) // 2
        return Statistics(
            tensor[:, 0:1], tensor[:, 1:2], tensor[:, 2:3], tensor[:, 4 : 4 + k], tensor[:, 4 + k :], tensor[:, 3:4]
        )


def bernoulli_mask(shape, generator: torch.Generator, device) -> torch.Tensor:
    """A mask of 0 and 1 with p = 0.5, channels last in memory as the features are.

    Eight elements are unpacked from every random byte: drawing one number an element would cost as much as the
    branches.

    Args:
        shape: (n, c, y, x).
        generator: on `device`.
        device: of torch.

    Returns:
        float32 [n, c, y, x].
    """
    n, c, y, x = shape
    count = n * c * y * x
    words = torch.empty((count + 7) // 8, dtype=torch.uint8, device=device).random_(0, 256, generator=generator)
    bits = (words[:, None] & torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=device)).ne(0)
    return bits.flatten()[:count].view(n, y, x, c).permute(0, 3, 1, 2).float()


def masks(shape, samples: int, seed: int, device):
    """The masks of a run; the other of an antithetic pair is a mask's complement.

    They depend on the seed, the device's kind and the shape only.

    Args:
        shape: (n, c, y, x).
        samples: T, rounded up to pairs.
        seed: of the generator.
        device: of torch.

    Yields:
        A mask [n, c, y, x] for each pair.
    """
    generator = torch.Generator(device=device).manual_seed(seed)
    for _ in range((samples + 1) // 2):
        yield bernoulli_mask(shape, generator, device)


@torch.inference_mode()
def sample(networks, x: torch.Tensor, samples: int, seed: int, on_sample=None) -> Statistics:
    """Statistics of dropout samples over one or several checkpoints of a 2-D network (Bragman 2018, Sec. 2).

    What a network does not give (intrinsic variance, classes) is 0 or has no channels.

    Args:
        networks: the checkpoints, in evaluation mode. Samples are dealt to them as evenly as whole pairs allow. One
            without dropout is one sample, and several of them an ensemble.
        x: [n, 1, y, x], z-scores.
        samples: T ≥ 2, rounded up to whole pairs of each checkpoint; 1: every checkpoint without dropout (the one pass
            of Kaushik 2022).
        seed: of the masks.
        on_sample: `on_sample(done, total)` is called after every pair.

    Returns:
        Tensors [n, c, y, x] on the device of `x`.

    Raises:
        ValueError: no sample, or a dropout behind a trunk other than 0.5, for which no complement exists.
    """
    networks = list(networks)
    if samples < 1:
        raise ValueError("at least one sample is needed")
    if samples > 1 and any(hasattr(n, "trunk") and n.dropout not in (0.0, 0.5) for n in networks):
        raise ValueError("antithetic masks need a dropout of 0.5")
    pairs = len(networks) if samples == 1 else -(-samples // 2)
    shares = [pairs // len(networks) + (i < pairs % len(networks)) for i in range(len(networks))]
    collected = _Collected()
    done = 0
    for number, (network, share) in enumerate(zip(networks, shares)):
        if share == 0:
            continue
        for drawn in _draw(network, x, 0 if samples == 1 else share, seed + 7919 * number):
            collected.add(drawn)
            done += 1
            if on_sample is not None:
                on_sample(min(done, pairs), pairs)
    return collected.statistics(x)


def _draw(network, x, pairs: int, seed: int):
    """Yields the samples of one network, as antithetic pairs or as lists of independent ones; of no pairs, the one pass
    without dropout.
    """
    if network.dropout == 0.0 or not pairs:
        yield False, [network.interpret(network(x))]
    elif hasattr(network, "trunk"):
        features = network.trunk(x)
        heads = folded_heads(network)
        both = heads.pair_sum(features)
        features = 2 * features
        for mask in masks(features.shape, 2 * pairs, seed, x.device):
            half = heads.first(mask * features)
            # the complement's first convolution comes for free
            yield True, [network.interpret(heads.finish(half)), network.interpret(heads.finish(both - half))]
    else:
        with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
            torch.manual_seed(seed)
            network.set_sampling(True)
            try:
                for _ in range(pairs):
                    yield False, [network.interpret(network(x)) for _ in range(2)]
            finally:
                network.set_sampling(False)


class _Collected:
    """Running moments of all that the samples give."""

    def __init__(self):
        self.mean, self.intrinsic, self.probability, self.sample_entropy = Moments(), Moments(), Moments(), Moments()

    def add(self, drawn: tuple[bool, list[Sample]]) -> None:
        paired, found = drawn
        self._put(self.mean, paired, [s.mean for s in found])
        self._put(self.intrinsic, paired, [s.variance for s in found])
        self._put(self.probability, paired, [s.probabilities for s in found])
        self._put(
            self.sample_entropy, paired, [None if s.probabilities is None else entropy(s.probabilities) for s in found]
        )

    @staticmethod
    def _put(moments: Moments, paired: bool, values: list) -> None:
        if values[0] is None:
            return
        if paired:
            moments.add(*values)
        else:
            for value in values:
                moments.add(value)

    def statistics(self, x: torch.Tensor) -> Statistics:
        def zeros(channels):
            return x.new_zeros(x.shape[0], channels, *x.shape[2:])

        def mean(moments, channels):
            return zeros(channels) if moments.mean is None else moments.mean

        def variance(moments, channels):
            # one deterministic network: no SD is known
            return (
                moments.variance()
                if moments.samples > 1
                else zeros(channels if moments.mean is None else moments.mean.shape[1])
            )

        return Statistics(
            mean(self.mean, 1),
            mean(self.intrinsic, 1),
            variance(self.mean, 1),
            mean(self.probability, 0),
            variance(self.probability, 0),
            mean(self.sample_entropy, 1),
        )

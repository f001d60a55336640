"""The joint network on a pair of scans: deformation and organs with their SD over dropout samples.

Everything before dropout runs once, in tiles; what the heads see is kept, and each sample is one 1³ convolution of it.
The moments are accumulated as samples come, so memory does not depend on their number.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..core.events import Progress
from ..sampling.joint_tiling import padded, tiles
from ..sampling.moments import Moments
from . import symmetric

EDGE = 64  # voxels of a tile along an axis
# of a covariance: xx, yy, zz, xy, xz, yz
PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


@dataclass
class Sampled:
    """Moments over T samples, on the working grid [z, y, x]; None where the network has no such path, or no dropout.

    Attributes:
        displacement: [3, ...] (x, y, z; voxels), of the network without dropout, which is the mean over all masks, made
            symmetric (see `symmetric`) where that was asked for.
        covariance: [6, ...] in the order of `PAIRS`, voxels².
        probability, probability_variance: [K, ...], background first.
    """

    displacement: torch.Tensor | None = None
    covariance: torch.Tensor | None = None
    probability: torch.Tensor | None = None
    probability_variance: torch.Tensor | None = None


class Covariance:
    """Covariance [6, ...] (see `PAIRS`) of displacements [3, ...] as they come (Welford 1962)."""

    def __init__(self):
        self.count, self.mean, self.products = 0, None, None

    def add(self, value: torch.Tensor) -> None:
        """Takes one more sample (Welford)."""
        if self.mean is None:
            self.mean, self.products = torch.zeros_like(value), value.new_zeros((len(PAIRS), *value.shape[1:]))
        self.count += 1
        before = value - self.mean
        self.mean += before / self.count
        after = value - self.mean
        for row, (a, b) in enumerate(PAIRS):
            self.products[row] += before[a] * after[b]

    def covariance(self) -> torch.Tensor:
        """Unbiased."""
        return self.products / (self.count - 1)


@torch.no_grad()
def run(
    network, volume: torch.Tensor, outside, samples: int, seed: int, progress: Progress, both_ways: bool = False
) -> Sampled:
    """Samples a joint network on a pair of scans.

    Args:
        network: of `networks.elmahdy2021`, in evaluation mode.
        volume: [1, c, z, y, x], the network's input, on its device.
        outside: the value of each channel beyond the volume.
        samples: T ≥ 2; 0 for no sample, which is all that a network without dropout can give.
        seed: of the dropout masks.
        progress: takes the stages; its token cancels.
        both_ways: look from the planning to the daily scan too, for a symmetric displacement; the covariance stays that
            of one direction.

    Returns:
        Moments, on the network's device.
    """
    both_ways = both_ways and network.registration_heads is not None
    segmentation, registration = _features(network, volume, outside, progress, (0.0, 0.25 if both_ways else 0.5))
    network.set_sampling(False)
    found = Sampled()
    if registration is not None:
        there = network.registration_heads[0](registration)
        if both_ways:
            exchanged = symmetric.swapped(volume, there, network.classes - 1)
            back = network.registration_heads[0](_features(network, exchanged, outside, progress, (0.25, 0.5))[1])
            there = symmetric.mean(there, back)
        found.displacement = there[0]
    if not network.dropout or not samples:
        if segmentation is not None:
            found.probability = network.segmentation_heads[0](segmentation)[0].softmax(0)
        return found
    classes, motion = Moments(), Covariance()
    for number in range(samples):
        progress.stage("network", 0.5 + 0.5 * number / samples, f"Sample {number + 1} of {samples}")
        network.set_sampling(True, seed * 100_003 + number)
        if segmentation is not None:
            classes.add(network.segmentation_heads[0](segmentation)[0].softmax(0))
        if registration is not None:
            motion.add(network.registration_heads[0](registration)[0])
    network.set_sampling(False)
    if segmentation is not None:
        found.probability, found.probability_variance = classes.mean, classes.variance()
    if registration is not None:
        found.covariance = motion.covariance()
    return found


def _features(network, volume, outside, progress, part: tuple[float, float]):
    """What the heads of the high level see in each path, [1, f, z, y, x] on the whole volume; None for a path that is
    not there.

    `part`: from where to where in the stage this is.
    """
    field = padded(volume, outside)
    places = tiles(volume.shape[2:], EDGE)
    found = [None, None]
    for number, tile in enumerate(places):
        progress.stage(
            "network", part[0] + (part[1] - part[0]) * number / len(places), f"Part {number + 1} of {len(places)}"
        )
        for path, levels in enumerate(network.features(field[(..., *tile.cut)])):
            if levels is None:
                continue
            if found[path] is None:
                found[path] = volume.new_empty((1, levels[0].shape[1], *volume.shape[2:]))
            found[path][(..., *tile.place)] = levels[0][(..., *tile.core)]
    return found

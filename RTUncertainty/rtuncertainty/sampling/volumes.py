"""A whole volume through a 3-D network that segments: cubes, dropout samples behind what is computed once, running
moments.

Such a network has `dimensions` = 3; `classes`, with background; `dropout`, 0 where there is nothing to sample;
`margin`, voxels of context that an output sees on each side; `multiple`, of which an input's edges must be;
`features(x)`, all up to the first dropout; `draw(features, generator)`, the class probabilities [n, K, z, y, x] of one
sample.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch

from ..networks.uncertainty import entropy
from .moments import Moments
from .slices import Statistics
from .tiling import ramp, tile_starts, window

OVERLAP = 16


@torch.inference_mode()
def sample(networks, x: torch.Tensor, samples: int, seed: int, on_sample=None) -> torch.Tensor:
    """Moments of dropout samples over one or several checkpoints of a 3-D network.

    Args:
        networks: the checkpoints, in evaluation mode. Samples are dealt to them evenly; one without dropout gives one.
        x: [n, c, z, y, x].
        samples: T ≥ 2.
        seed: of the masks.
        on_sample: `on_sample(done, total)` is called after each.

    Returns:
        [n, 1 + 2K, z, y, x]: expected entropy (nats), mean and variance of the class probabilities. Without a second
        sample the variance is 0.

    Raises:
        ValueError: fewer than two samples.
    """
    if samples < 2:
        raise ValueError("at least two samples are needed to tell a spread")
    networks = list(networks)
    shares = [samples // len(networks) + (i < samples % len(networks)) for i in range(len(networks))]
    shares = [
        min(share, 1) if n.dropout == 0 and not getattr(n, "noisy", False) else share
        for n, share in zip(networks, shares)
    ]
    probability, sample_entropy, done = Moments(), Moments(), 0
    for number, (network, share) in enumerate(zip(networks, shares)):
        if share == 0:
            continue
        features = network.features(x)
        generator = torch.Generator(device=x.device).manual_seed(seed + 7919 * number)
        for _ in range(share):
            drawn = network.draw(features, generator)
            probability.add(drawn)
            sample_entropy.add(entropy(drawn))
            done += 1
            if on_sample is not None:
                on_sample(done, sum(shares))
    variance = probability.variance() if probability.samples > 1 else torch.zeros_like(probability.mean)
    return torch.cat([sample_entropy.mean, probability.mean, variance], 1)


def statistics(
    networks, volume: np.ndarray, samples: int, seed: int, device: torch.device, tile: int, progress
) -> Statistics:
    """Moments of a whole volume, in cubes that fade into each other.

    Masks are seeded by the cube, so the result depends on seed, device and tile only.

    Args:
        networks: the checkpoints, in evaluation mode on `device`.
        volume: [z, y, x], in the networks' normalisation.
        samples: T ≥ 2.
        seed: of the masks.
        device: of torch.
        tile: edge of the cubes, voxels.
        progress: takes the stages; its token cancels.

    Returns:
        Class probabilities only, tensors [z, c, y, x] on the CPU.
    """
    margin, multiple = max(n.margin for n in networks), int(np.lcm.reduce([n.multiple for n in networks]))
    overlap = min(OVERLAP, tile // 3)
    size = [min(tile, n) for n in volume.shape]
    corners = list(itertools.product(*[tile_starts(n, tile, overlap) for n in volume.shape]))
    out = np.zeros((1 + 2 * networks[0].classes, *volume.shape), np.float32)
    total = np.zeros(volume.shape, np.float32)
    air = float(volume.min())
    for number, corner in enumerate(corners):
        cuts = [window(start, edge, length, margin, 0) for start, edge, length in zip(corner, size, volume.shape)]
        block = volume[tuple(cut for cut, _ in cuts)]
        missing = [(0, -n % multiple) for n in block.shape]
        image = torch.from_numpy(np.pad(block, missing, constant_values=air))[None, None].to(device)

        def tell(done, of, number=number):
            progress.stage(
                "network", (number + done / of) / len(corners), f"Sampling part {number + 1} of {len(corners)}"
            )

        found = sample(networks, image, samples, seed * 1_000_003 + number * 7_919_017, tell)[0]
        inner = found[(slice(None), *[own for _, own in cuts])].float().cpu().numpy()
        weight = np.ones(size, np.float32)
        for axis, (start, edge, length) in enumerate(zip(corner, size, volume.shape)):
            weight *= ramp(length, start, edge, overlap).reshape([-1 if a == axis else 1 for a in range(3)])
        at = tuple(slice(start, start + edge) for start, edge in zip(corner, size))
        out[(slice(None), *at)] += inner * weight
        total[at] += weight
    if len(corners) > 1:
        out /= total
    k = networks[0].classes
    moments = torch.from_numpy(out).transpose(0, 1)
    return Statistics(None, None, None, moments[:, 1 : 1 + k], moments[:, 1 + k :], moments[:, :1])

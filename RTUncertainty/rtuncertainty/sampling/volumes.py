"""A whole volume through a 3-D network that segments: cubes, dropout samples behind what is computed once, running
moments.

Such a network has `dimensions` = 3; `classes`, with background; `dropout`, 0 where there is nothing to sample;
`margin`, voxels of context that an output sees on each side; `multiple`, of which an input's edges must be;
`features(x)`, all up to the first dropout; `draw(features, generator)`, the class probabilities [n, K, z, y, x] of one
sample, without a generator those of no dropout and no noise. One that gives more has `gives`, the names of it, and
`further(features, generator, samples)`, a channel for each [n, m, z, y, x].
"""

from __future__ import annotations

import numpy as np
import torch

from ..networks.uncertainty import entropy
from .moments import Moments
from .slices import Statistics
from .tiling import cube_blocks

OVERLAP = 16


@torch.inference_mode()
def sample(networks, x: torch.Tensor, samples: int, seed: int, on_sample=None) -> torch.Tensor:
    """Moments of dropout samples over one or several checkpoints of a 3-D network.

    Args:
        networks: the checkpoints, in evaluation mode. Samples are dealt to them evenly; one without dropout gives one.
        x: [n, c, z, y, x].
        samples: T ≥ 2; 1: a single pass of each checkpoint, without dropout and noise.
        seed: of the masks.
        on_sample: `on_sample(done, total)` is called after each.

    Returns:
        [n, 1 + 2K + m, z, y, x]: expected entropy (nats), mean and variance of the class probabilities, and the mean of
        what networks give besides. Without a second sample the variance is 0.

    Raises:
        ValueError: no sample.
    """
    if samples < 1:
        raise ValueError("at least one sample is needed")
    networks, single = list(networks), samples == 1
    samples = len(networks) if single else samples
    shares = [samples // len(networks) + (i < samples % len(networks)) for i in range(len(networks))]
    shares = [
        min(share, 1) if n.dropout == 0 and not getattr(n, "noisy", False) else share
        for n, share in zip(networks, shares)
    ]
    probability, sample_entropy, more, done = Moments(), Moments(), Moments(), 0
    for number, (network, share) in enumerate(zip(networks, shares)):
        if share == 0:
            continue
        features = network.features(x)
        generator = torch.Generator(device=x.device).manual_seed(seed + 7919 * number)
        for _ in range(share):
            drawn = network.draw(features, None if single else generator)
            sample_entropy.add(entropy(drawn))
            unions = getattr(network, "unions", None)
            if unions is not None:  # moments are those of the structures, which hold one another
                drawn = torch.einsum("ij,njzyx->nizyx", torch.from_numpy(unions).to(drawn), drawn)
            probability.add(drawn)
            done += 1
            if on_sample is not None:
                on_sample(done, sum(shares))
        if getattr(network, "gives", ()):
            more.add(network.further(features, None if single else generator, share))
    variance = probability.variance() if probability.samples > 1 else torch.zeros_like(probability.mean)
    return torch.cat([sample_entropy.mean, probability.mean, variance, *([] if more.mean is None else [more.mean])], 1)


def statistics(
    networks, volume: np.ndarray, samples: int, seed: int, device: torch.device, tile: int, progress
) -> Statistics:
    """Moments of a whole volume, in cubes that fade into each other.

    Masks are seeded by the cube, so the result depends on seed, device and tile only.

    Args:
        networks: the checkpoints, in evaluation mode on `device`.
        volume: [z, y, x], or [c, z, y, x] of several images, in the networks' normalisation.
        samples: T ≥ 2; 1: a single pass.
        seed: of the masks.
        device: of torch.
        tile: edge of the cubes, voxels.
        progress: takes the stages; its token cancels.

    Returns:
        Class probabilities and what networks give `further`, tensors [z, c, y, x] on the CPU.
    """
    shape = volume.shape[-3:]
    names = list(getattr(networks[0], "gives", ()))
    out = np.zeros((1 + 2 * networks[0].classes + len(names), *shape), np.float32)
    total = np.zeros(shape, np.float32)
    for block in blocks(networks, volume, tile):
        image = torch.from_numpy(block.cut)[None].to(device)

        def tell(done, of, block=block):
            progress.stage(
                "network", (block.number + done / of) / block.of, f"Sampling part {block.number + 1} of {block.of}"
            )

        found = sample(networks, image, samples, seed * 1_000_003 + block.number * 7_919_017, tell)[0]
        inner = found[(slice(None), *block.inner)].float().cpu().numpy()
        out[(slice(None), *block.place)] += inner * block.weight
        total[block.place] += block.weight
    if block.of > 1:
        out /= total
    k = networks[0].classes
    moments = torch.from_numpy(out).transpose(0, 1)
    further = {name: moments[:, i : i + 1] for i, name in enumerate(names, 1 + 2 * k)}
    return Statistics(
        None, None, None, moments[:, 1 : 1 + k], moments[:, 1 + k : 1 + 2 * k], moments[:, :1], further=further
    )


def blocks(networks, volume: np.ndarray, tile: int):
    """The cubes of a volume that such networks see, `tiling.cube_blocks`."""
    margin, multiple = max(n.margin for n in networks), int(np.lcm.reduce([n.multiple for n in networks]))
    return cube_blocks(volume, tile, margin, multiple, min(OVERLAP, tile // 3))

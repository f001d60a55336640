"""Whole samples of a volume, to be kept: each has one mask for the whole volume.

The moments of `slices` and `volumes` draw masks for every batch and tile anew, so no sample of theirs exists as a
volume. Here the mask of a sample belongs to places of the volume (`networks.dropout.PlacedDropout`), or to channels
where a network drops whole ones: it is the same wherever tiles meet, and in networks of slices the same for all of
them. In every single voxel these samples are distributed as those of the moments are. They are no antithetic pairs.
"""

from __future__ import annotations

import numpy as np
import torch

from ..networks.dropout import PlacedDropout
from ..networks.folded import folded_heads
from ..networks.sample import Sample
from . import volumes
from .inference import PIXELS
from .tiling import slice_blocks


@torch.inference_mode()
def draw(networks, volume: np.ndarray, out: np.ndarray, seed: int, device: torch.device, tile: int, progress) -> None:
    """Draw a sample for each entry of `out` [n, 1 + K, z, y, x] float32: the mean of HU in the units of the loss, 0
    where a network has none, and the probabilities of its K classes.

    Args:
        networks: the checkpoints, on `device`; the samples are dealt to them in turn.
        volume: [z, y, x], or [c, z, y, x] of several images, in the network's normalisation.
        out: an array, or one on disk (`numpy.memmap`), of zeros.
        seed: of the samples; with the same tile it gives the same ones.
        device: of the checkpoints.
        tile: edge of the parts that are computed at once, voxels.
        progress: `core.events.Progress`.
    """
    cubes = getattr(networks[0], "dimensions", 2) == 3
    if cubes:
        blocks = volumes.blocks(networks, volume, tile)
        border, total = 0, np.zeros(volume.shape[-3:], np.float32)
    else:
        margin, border = max(n.margin for n in networks), max(n.border for n in networks)
        blocks = slice_blocks(volume, tile, margin, border, PIXELS[device.type])
        total = np.zeros((1, *volume.shape[1:]), np.float32)
    extent = tuple(n + 2 * border + 64 * cubes for n in volume.shape[-2 - cubes :])  # cubes may reach beyond the volume
    for block in blocks:
        image = torch.from_numpy(block.cut)
        image = image[None].to(device) if cubes else image[:, None].to(device)
        if cubes or block.place[0].start == 0:
            total[block.place if cubes else (slice(None), *block.place[1:])] += block.weight
        for number, network in enumerate(networks):
            mine = range(number, len(out), len(networks))
            if not mine:
                continue
            sampler = (_cube if cubes else _slices)(network, image)
            for n in mine:
                progress.stage("network", (block.number + n / len(out)) / block.of, f"Drawing sample {n + 1} to keep")
                found = sampler(seed * 1_000_003 + n * 15_485_863 + 1, block.origin[1 - cubes :], extent)
                _put(out[n], found, block, cubes)
    if (total != 1).any():
        out /= total


def _put(out: np.ndarray, found: Sample, block, cubes: bool) -> None:
    """Add what a sample says of a block, [n, c, y, x] or [1, c, z, y, x], to its volume [1 + K, z, y, x]."""
    for channels, values in ((slice(0, 1), found.mean), (slice(1, None), found.probabilities)):
        if values is not None:
            inner = values[(..., *block.inner)].float().cpu().numpy()
            out[(channels, *block.place)] += (inner[0] if cubes else inner.transpose(1, 0, 2, 3)) * block.weight


def _slices(network, image: torch.Tensor):
    """`sample(seed, origin, extent)` of a batch of slices; what does not depend on the mask is computed once."""
    if network.dropout == 0.0:
        found = network.interpret(network(image))
        return lambda seed, origin, extent: found
    if hasattr(network, "trunk"):
        features, heads = network.trunk(image.contiguous(memory_format=torch.channels_last)), folded_heads(network)

        def behind_the_trunk(seed, origin, extent):
            dropped = PlacedDropout(seed, origin, extent)(features, network.dropout)
            return network.interpret(heads.finish(heads.first(dropped)))

        return behind_the_trunk

    def whole_channels(seed, origin, extent):
        # the masks are torch's own: one slice after the other, so that all get the same
        network.set_sampling(True)
        try:
            with torch.random.fork_rng(devices=[image.device] if image.device.type == "cuda" else []):
                drawn = [(torch.manual_seed(seed), network.interpret(network(one[None])))[1] for one in image]
        finally:
            network.set_sampling(False)
        return Sample(*(None if parts[0] is None else torch.cat(parts) for parts in zip(*drawn)))

    return whole_channels


def _cube(network, image: torch.Tensor):
    """The same of a cube. Noise in logits is left out: it is no property of the network, and has no place here."""
    features = network.features(image)
    if hasattr(network, "finish"):
        return lambda seed, origin, extent: Sample(
            None, None, network.finish(features, PlacedDropout(seed, origin, extent)).logits.softmax(1)
        )
    return lambda seed, origin, extent: Sample(
        None, None, network.draw(features, torch.Generator(device=image.device).manual_seed(seed))
    )

"""From a pair of scans to a deformation and probabilities: the network, its samples, and the refinement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..core.ct import AIR_HU, WINDOW, normalised
from ..deformation import warp_tensor
from ..deformation.objective import correlation
from . import refine as refining
from . import sampling
from .pair import Pair, label_array


@dataclass
class Found:
    """On the working grid: `sampled` (see `sampling.Sampled`), the refined `displacement` [3, z, y, x] in voxels, and
    the correlation of the scans before any alignment is left to `before`, after the rigid one and after the
    deformation."""

    sampled: sampling.Sampled
    displacement: torch.Tensor
    similarity: dict


def run(
    network,
    pair: Pair,
    known: dict,
    organs: dict,
    samples: int,
    seed: int,
    device,
    mode: str,
    progress,
    bending: float,
    both_ways: bool = True,
) -> Found:
    """`known`: {planning name: organ}; `organs`: {name: entry of the card} in the order of the network's classes.

    `both_ways`: see `sampling.run`.
    """
    masks_of = {organ: pair.labels[name] for name, organ in known.items()}
    channel = (label_array(masks_of, organs, pair.daily.shape) / max(1, len(organs))).astype(np.float32)
    window = getattr(network, "window", WINDOW)
    air = float(normalised(np.array(AIR_HU, np.float32), window))
    scans = [normalised(hu, window) for hu in (pair.daily, pair.planning)]
    volume = torch.from_numpy(np.stack([*scans, channel]))[None].to(device)
    found = sampling.run(
        network,
        volume[:, : network.in_channels],
        [air, air, 0.0][: network.in_channels],
        samples,
        seed,
        progress,
        both_ways,
    )
    fixed, moving = volume[:, :1], volume[:, 1:2]
    inside = torch.from_numpy((pair.body & pair.known).astype(np.float32))[None, None].to(device)
    displacement = (
        torch.zeros((1, 3, *pair.daily.shape), device=device)
        if found.displacement is None
        else found.displacement[None]
    )
    if mode != "off":
        labels = segmented = None
        # a segmentation pulls only where it was the better path on the validation pairs
        pulling = {
            k: masks_of[organ]
            for k, organ in enumerate(organs, 1)
            if organ in masks_of and organs[organ].get("path") == "segmented"
        }
        if found.probability is not None and pulling:
            labels = torch.from_numpy(np.stack(list(pulling.values())))[None].to(device)
            likeliest = found.probability.argmax(0)
            segmented = torch.stack([(likeliest == k).float() for k in pulling])[None]
        displacement = refining.refined(displacement, fixed, moving, inside, mode, progress, labels, segmented, bending)
    with torch.no_grad():
        similarity = {
            "rigid": correlation(fixed, moving, inside).item(),
            "after": correlation(fixed, warp_tensor(moving, displacement), inside).item(),
        }
    return Found(found, displacement[0].detach(), similarity)

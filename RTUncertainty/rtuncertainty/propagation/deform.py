"""From a pair of scans to a deformation and probabilities: the network, its samples, and the refinement; or, without a
network, registration alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..core.ct import AIR_HU, WINDOW, normalised
from ..deformation import warp_tensor
from ..deformation.objective import correlation
from . import refine as refining
from . import registration, sampling
from .pair import Pair, label_array

# of the features, beyond which the network's deformation is taken for wrong
UNLIKE = 0.06


@dataclass
class Found:
    """What the network and the refinement found, on the working grid.

    Attributes:
        sampled: moments over the samples, `sampling.Sampled`.
        displacement: refined, [3, z, y, x] (x, y, z; voxels).
        similarity: correlation of the scans, "rigid" and "after" the deformation; "before" any alignment is added
            later.
        there_and_back: [z, y, x], voxels, what the two directions missed each other by; None where they were not taken.
        residual: mean squared difference of the features, or None.
    """

    sampled: sampling.Sampled
    displacement: torch.Tensor
    similarity: dict
    there_and_back: torch.Tensor | None = None
    residual: float | None = None


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
    """Samples the network on a pair and refines its deformation.

    Args:
        network: of `networks.elmahdy2021`, in evaluation mode on `device`; None: registration alone.
        pair: both scans and the structures on the working grid.
        known: {planning name: organ of the model}.
        organs: {organ: its entry in the card} in the order of the network's classes.
        samples: T; see `sampling.run`.
        seed: of the dropout masks.
        device: of torch.
        mode: "off", "fast" or "full", see `refine.ITERATIONS`.
        progress: takes the stages; its token cancels.
        bending: weight of the bending energy in the refinement.
        both_ways: see `sampling.run`.

    Returns:
        On the working grid; tensors on `device`.
    """
    if network is None:
        return _registered(pair, samples, seed, device, mode, progress, both_ways)
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
    displacement, residual = displacement.detach(), None
    if mode != "off":
        residual = registration.residual(pair, displacement)
        if residual > UNLIKE:
            # what a network that learnt other motion, or another region, leaves: begin again without it
            alone = registration.run(pair, mode, 0, seed, device, progress, both_ways)
            if alone.residual < residual:
                progress.note(
                    "The network's deformation does not fit these scans; registration alone was taken instead (the "
                    "uncertainty is still that of the network, and too small)."
                )
                displacement, residual = alone.displacement.detach(), alone.residual
    similarity = _similarity(fixed, moving, inside, displacement)
    return Found(found, displacement[0], similarity, residual=residual)


@torch.no_grad()
def _similarity(fixed, moving, inside, displacement) -> dict:
    return {
        "rigid": correlation(fixed, moving, inside).item(),
        "after": correlation(fixed, warp_tensor(moving, displacement), inside).item(),
    }


def _registered(pair: Pair, samples: int, seed: int, device, mode: str, progress, both_ways: bool) -> Found:
    found = registration.run(pair, mode, samples, seed, device, progress, both_ways)
    fixed, moving = registration.images(pair, device)
    inside = torch.from_numpy((pair.body & pair.known).astype(np.float32))[None, None].to(device)
    displacement = found.displacement.detach()
    return Found(
        sampling.Sampled(displacement=displacement[0], covariance=found.covariance),
        displacement[0],
        _similarity(fixed, moving, inside, displacement),
        found.there_and_back,
        found.residual,
    )

"""Registration without a network: for two scans of any region.

A global search in both directions (`deformation.discrete`), instance optimisation from there (`deformation.instance`),
each direction the other's inverse. What it is unsure of is what the disagreement shows: of the two directions, of the
features, and of samples that begin elsewhere and see only some of the features. Disagreement is no error: a
calibration in the card (`calibration.spread`) turns one into the other, and without one it is shown as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from ..core.events import Progress
from ..deformation import compose_tensor, discrete, instance
from ..deformation.discrete import Side
from ..deformation.features import box, mind
from .pair import Pair
from .sampling import Covariance

# HU that are told apart: unlike the networks' window it holds the lungs
WINDOW, UNIT = (-1000.0, 500.0), 500.0
JITTER = 1.5  # voxels, sd of what a sample's start is off by
JITTER_NODES = 8  # voxels between the nodes of that
LARGE = 400_000  # voxels above which samples are taken on voxels of three times the size, else of twice
CONSISTENT = 8  # iterations that make the directions each other's inverse


@dataclass
class Registered:
    """On the working grid: `displacement` [1, 3, z, y, x] (voxels, daily to planning), `covariance` [6, z, y, x]
    (voxels²; None without samples), `there_and_back` [z, y, x] (voxels) before the directions were made each other's
    inverse, and `residual`, the mean squared difference of the features in the body."""

    displacement: torch.Tensor
    covariance: torch.Tensor | None
    there_and_back: torch.Tensor
    residual: float


def images(pair: Pair, device) -> tuple[torch.Tensor, torch.Tensor]:
    """The daily and the planning scan as they are compared, [1, 1, z, y, x]."""
    return tuple(
        torch.from_numpy((np.clip(a, *WINDOW) / UNIT).astype(np.float32))[None, None].to(device)
        for a in (pair.daily, pair.planning)
    )  # type: ignore[return-value]


def _mask(array: np.ndarray, device) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float32))[None, None].to(device)


@torch.no_grad()
def residual_of(displacement: torch.Tensor, fixed: Side, moving: Side) -> float:
    """The mean squared difference of the features in the body, on voxels of twice the size."""
    a, b = fixed.pooled(2), moving.pooled(2)
    d = F.avg_pool3d(displacement, 2, ceil_mode=True, count_include_pad=False) / 2
    moved = b.moved(d)
    weight = a.inside * moved.seen
    apart = (moved.features - a.features).square().mean(1, keepdim=True)
    return float((apart * weight).sum() / weight.sum().clamp_min(1.0))


def sides(pair: Pair, fixed: torch.Tensor, moving: torch.Tensor) -> tuple[Side, Side]:
    """What is searched: features and masks of the daily and the planning scan."""
    device = fixed.device
    known = _mask(pair.known, device)
    return (
        Side(mind(fixed), _mask(pair.body & pair.known, device), torch.ones_like(known)),
        Side(mind(moving), _mask(pair.planning_body, device), known),
    )


def residual(pair: Pair, displacement: torch.Tensor) -> float:
    """`residual_of` a displacement [1, 3, z, y, x] of this pair."""
    fixed, moving = images(pair, displacement.device)
    return residual_of(displacement, *sides(pair, fixed, moving))


def run(pair: Pair, mode: str, samples: int, seed: int, device, progress: Progress, both_ways: bool) -> Registered:
    """Register `pair`; `mode`: off (the global search alone), fast or full; `samples`: 0, or how many.

    `both_ways`: optimise both directions and make them each other's inverse; else the one only.
    """
    fixed, moving = images(pair, device)
    a, b = sides(pair, fixed, moving)
    there, back, apart = discrete.start(
        a, b, report=lambda part: progress.stage("search", part, "Searching for the tissue of the planning scan")
    )
    apart, first = apart[0, 0], there
    levels = instance.LEVELS.get(mode, ())
    if levels:
        ways, half = [], 0.5 if both_ways else 1.0
        for number, (d, (f, p), (m, q)) in enumerate(
            ((there, (fixed, a), (moving, b)), (back, (moving, b), (fixed, a)))[: 1 + both_ways]
        ):
            ways.append(
                instance.optimised(
                    d,
                    f,
                    m,
                    p.inside,
                    levels,
                    (p.features, q.features),
                    report=lambda part, n=number: progress.stage("refine", half * (n + part), "Refining"),
                )
            )
        with torch.no_grad():
            first, there = there, ways[0]
            if both_ways:
                way, home = ways
                apart = compose_tensor(way, home).norm(dim=1)[0]
                there = discrete.inverse_consistent(way, home, CONSISTENT)[0]
    covariance = None
    if samples:
        covariance = _covariance(there, first, apart, fixed, moving, a, b, samples, seed, progress)
    return Registered(there, covariance, apart, residual_of(there, a, b))


def _covariance(there, first, apart, fixed, moving, a: Side, b: Side, samples, seed, progress):
    """Covariance [6, z, y, x] (voxels²) of samples, with what directions and stages of the optimisation differ by."""
    shape = there.shape[2:]
    factor = 3 if there[0, 0].numel() > LARGE else 2
    p, q = a.pooled(factor), b.pooled(factor)
    centre = F.avg_pool3d(there, factor, ceil_mode=True, count_include_pad=False) / factor
    small, generator = centre.shape[2:], torch.Generator().manual_seed(seed)
    level = (instance.Level(1, 8, rate=0.3),)
    found = Covariance()
    images = (fixed.new_zeros((1, 1, *small)),) * 2  # the features alone count
    for number in range(samples):
        progress.stage("sample", number / samples, f"Sample {number + 1} of {samples}")
        nodes = [max(2, round(n * factor / JITTER_NODES)) for n in small]
        noise = torch.randn((1, 3, *nodes), generator=generator).to(there.device) * (JITTER / factor)
        chosen = torch.randperm(p.features.shape[1], generator=generator)[: p.features.shape[1] // 2]
        begun = centre + F.interpolate(noise, size=small, mode="trilinear", align_corners=True)
        d = instance.optimised(
            begun, *images, p.inside, level, (p.features[:, chosen].contiguous(), q.features[:, chosen].contiguous())
        )
        found.add(d[0])
    with torch.no_grad():
        covariance = found.covariance() * factor**2
        covariance = F.interpolate(covariance[None], size=shape, mode="trilinear", align_corners=False)[0]
        stages = box((there - first).square(), 2)[0] / 4
        directions = box((apart[None, None] ** 2), 2)[0] / 12
        covariance[:3] += stages + directions
    return covariance

"""Instance optimisation: the deformation of one pair, from a start, by gradient descent from coarse to fine.

After Siebert 2021 and 2024 (Adam on self-similarities, smooth lattice, diffusion), with correlation within a window
beside the self-similarities: together they see vessels in a lung as well as soft tissue, and survive gas, contrast
agent and the grey values of a cone beam.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from .features import NOISE, box, mind
from .warp import warp_tensor

SLOWER = 0.5  # of the usual gradient: nodes with less of it move less than Adam's rate


@dataclass(frozen=True)
class Level:
    """`factor`: voxels that become one; `steps` of Adam of `rate` voxels (of this level); weights of the terms; what is
    optimised is a lattice of every `lattice`-th voxel after `smooth` means over 3³ of its nodes."""

    factor: int
    steps: int
    rate: float = 0.5
    similarity: float = 12.0
    correlation: float = 0.0
    diffusion: float = 1.0
    lattice: int = 1
    smooth: int = 3


def fine(steps: int) -> Level:
    """On voxels as they are: correlation alone, which costs a twelfth of the self-similarities."""
    return Level(1, steps, rate=0.3, similarity=0.0, correlation=1.0, diffusion=2.0, lattice=2, smooth=1)


LEVELS = {
    "fast": (Level(2, 20, correlation=1.0), fine(6)),
    "full": (Level(2, 40, correlation=1.0), fine(24)),
}


def optimised(
    displacement: torch.Tensor,
    fixed: torch.Tensor,
    moving: torch.Tensor,
    valid: torch.Tensor,
    levels: tuple[Level, ...],
    features: tuple[torch.Tensor, torch.Tensor] | None = None,
    report=None,
) -> torch.Tensor:
    """Instance optimisation, coarse to fine.

    Args:
        displacement: the start, [1, 3, z, y, x].
        fixed: image [1, 1, z, y, x].
        moving: the other image, on the same grid.
        valid: [1, 1, z, y, x], 1 where both scans count.
        levels: one after the other.
        features: the images' self-similarities (see `mind`), taken here if they are not given.
        report: called with 0 to 1.

    Returns:
        The displacement [1, 3, z, y, x] (voxels) after all levels.
    """
    if features is None and any(level.similarity for level in levels):
        features = mind(fixed), mind(moving)
    total, done = sum(level.steps for level in levels), 0
    for level in levels:
        displacement = _level(
            displacement,
            (fixed, moving, valid, *(features or (None, None))),
            level,
            None if report is None else (lambda step, d=done: report((d + step) / total)),
        )
        done += level.steps
    return displacement


def _level(displacement, given, level: Level, report):
    shape = displacement.shape[2:]

    def shrunk(x):
        if x is None or level.factor == 1:
            return x
        return F.avg_pool3d(x, level.factor, ceil_mode=True, count_include_pad=False)

    wanted = list(given)
    if not level.similarity:
        wanted[3] = wanted[4] = None
    if not level.correlation:
        wanted[0] = wanted[1] = None
    fixed, moving, valid, features, moving_features = [shrunk(x) for x in wanted]
    start = shrunk(displacement) / level.factor
    small = start.shape[2:]
    lattice = torch.zeros((1, 3, *(-(-n // level.lattice) for n in small)), device=start.device, requires_grad=True)
    optimiser = torch.optim.Adam([lattice], level.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, level.steps, 0.1 * level.rate)
    count = valid.sum().clamp_min(1.0)
    windowed = None if fixed is None else _Windowed(fixed, valid)

    def current():
        d = lattice
        for _ in range(level.smooth):
            d = box(d, 1)
        if level.lattice > 1:
            d = F.interpolate(d, size=small, mode="trilinear", align_corners=False)
        return start + d

    for step in range(level.steps):
        if report is not None:
            report(step)
        d = current()
        loss = level.diffusion * sum(
            (d.narrow(k, 1, d.shape[k] - 1) - d.narrow(k, 0, d.shape[k] - 1)).square().mean() for k in (2, 3, 4)
        )
        if features is not None:
            apart = (warp_tensor(moving_features, d) - features).square().mean(1, keepdim=True)
            loss = loss + level.similarity * (apart * valid).sum() / count
        if windowed is not None:
            loss = loss + level.correlation * windowed(warp_tensor(moving, d))
        optimiser.zero_grad()
        loss.backward()
        if not step:
            # Adam would move nodes that hardly matter as far as those that do: noise would move flat tissue
            assert lattice.grad is not None
            usual = float(lattice.grad.square().mean().sqrt())
            optimiser.param_groups[0]["eps"] = max(SLOWER * usual, 1e-3 / lattice.numel())
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        correction = current() - start
        if level.factor > 1:
            finer = F.interpolate(correction, scale_factor=level.factor, mode="trilinear", align_corners=False)
            z, y, x = shape
            correction = finer[..., :z, :y, :x]
    return displacement + level.factor * correction


class _Windowed:
    """How unlike a fixed image and another are in overlapping cubes of 4 voxels, every second voxel: (variance +
    variance − 2·covariance) / (variance + variance), from 0 for the same to 2 for the opposite; mean over the valid
    ones.

    Unlike 1 − correlation it keeps its least value, and no gradient, where the two are the same although noise is added
    to the variances: a scan and itself stand still. What is known of the fixed image is taken once.
    """

    def __init__(self, fixed: torch.Tensor, valid: torch.Tensor):
        self._fixed, self._mean = fixed, _cubes(fixed)
        self._variance = (_cubes(fixed * fixed) - self._mean**2).clamp_min(0)
        self._valid = _cubes(valid)
        self._total = self._valid.sum().clamp_min(1.0)

    def __call__(self, other: torch.Tensor) -> torch.Tensor:
        difference = self._fixed - other
        mean = _cubes(other)
        variance = (_cubes(other * other) - mean**2).clamp_min(0)
        apart = (_cubes(difference * difference) - (self._mean - mean) ** 2).clamp_min(0)
        unlike = apart / (self._variance + variance + 2 * NOISE)
        return (unlike * self._valid).sum() / self._total


def _cubes(x: torch.Tensor) -> torch.Tensor:
    return F.avg_pool3d(x, 4, stride=2, ceil_mode=True, count_include_pad=False)

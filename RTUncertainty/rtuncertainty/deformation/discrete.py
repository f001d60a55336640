"""A global start for a deformation: every node of a coarse lattice looks everywhere within reach, and all agree.

Displacements are searched on a discrete lattice (Heinrich 2014, IPMI): the squared difference of features at every
node for every displacement, then a coupled convex optimisation, which takes turns in choosing the best displacement of
each node (exact, exhaustive) and in smoothing, with a coupling that grows. Both directions are searched and made each
other's inverse (Siebert 2021). A second search on a finer lattice begins where the first ended.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from .compose import compose_tensor
from .features import box
from .warp import index_tensor, sample_tensor, warp_tensor

COUPLINGS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
# what a displacement costs that points at where nothing was scanned
UNSEEN = 0.06
# (voxels between displacements, displacements to each side, displacements between nodes), coarse to fine
SEARCHES = ((4, 4, 1), (2, 3, 2))


@dataclass(frozen=True)
class Side:
    """One of two scans on a common grid: `features` [1, c, z, y, x], `inside` [1, 1, z, y, x], 1 in the patient, and
    `seen`, 1 where the scan was taken."""

    features: torch.Tensor
    inside: torch.Tensor
    seen: torch.Tensor

    def pooled(self, factor: int) -> Side:
        """On voxels `factor` times as large."""
        return Side(
            *(
                F.avg_pool3d(x, factor, ceil_mode=True, count_include_pad=False)
                for x in (self.features, self.inside, self.seen)
            )
        )

    def moved(self, displacement: torch.Tensor) -> Side:
        """Pulled by a displacement (voxels of its own)."""
        return Side(
            warp_tensor(self.features, displacement),
            warp_tensor(self.inside, displacement, 0.0),
            warp_tensor(self.seen, displacement, 0.0),
        )


@torch.no_grad()
def start(fixed: Side, moving: Side, searches=SEARCHES, report=None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Searches both ways between two scans: coupled convex optimisation, coarse to fine (Heinrich 2014, Siebert 2021).

    Args:
        fixed: features and mask of the one scan.
        moving: those of the other, on the same grid.
        searches: as `SEARCHES`.
        report: called with 0 to 1 as it goes on.

    Returns:
        (there, back, apart): two displacements [1, 3, z, y, x] (voxels) that are each other's inverse, fixed → moving
        and moving → fixed, and how far (voxels) the two last searches had been from that [1, 1, z, y, x].
    """
    shape = fixed.features.shape[2:]
    there = back = apart = fixed.features.new_zeros(())  # of no search yet
    for level, (step, radius, stride) in enumerate(searches):
        one, other = fixed.pooled(step), moving.pooled(step)
        small, found = one.features.shape[2:], []
        begun = [_coarse(x, step, small) if level else None for x in (there, back)]
        for number, (a, b, before) in enumerate(((one, other, begun[0]), (other, one, begun[1]))):
            tell = None
            if report is not None:
                tell = lambda part, n=2 * level + number: report((n + part) / (2 * len(searches)))  # noqa: E731
            chosen = coupled_convex(
                cost_volume(a, b if before is None else b.moved(before), radius, stride, tell), radius
            )
            chosen = _on_voxels(chosen, small, stride)  # in steps, on the lattice of steps
            found.append(chosen if before is None else compose_tensor(chosen, before))
        way, home = found
        apart = _fine(compose_tensor(way, home).norm(dim=1, keepdim=True), step, shape)
        there, back = (_fine(x, step, shape) for x in inverse_consistent(way, home))
    return there, back, apart


def cost_volume(fixed: Side, moving: Side, radius: int, stride: int, report=None) -> torch.Tensor:
    """[(2·radius + 1)³, z, y, x]: the mean squared difference of the features at each node for each displacement,
    averaged with the neighbouring nodes.

    Both sides on a lattice of displacement steps, of which every `stride`-th is a node. Displacements in the order z,
    y, x (x fastest).
    """
    width, pads = 2 * radius + 1, [radius] * 6
    nodes = tuple(slice(None, None, stride) for _ in range(3))
    mine = fixed.features[0][(slice(None), *nodes)].contiguous()
    weight = fixed.inside[0, 0][nodes]
    around, known = F.pad(moving.features, pads, mode="replicate")[0], F.pad(moving.seen, pads)[0, 0]
    # every stride-th voxel beside each other: what a displacement looks up is then one block of memory
    phases = {}
    for o in itertools.product(range(stride), repeat=3):
        cut = tuple(slice(k, None, stride) for k in o)
        phases[o] = around[(slice(None), *cut)].contiguous(), known[cut].contiguous()
    costs = mine.new_empty((width**3, *mine.shape[1:]))
    difference = torch.empty_like(mine)
    for number, offset in enumerate(itertools.product(range(width), repeat=3)):
        if report is not None and number % width**2 == 0:
            report(number / width**3)
        features, seen = phases[tuple(o % stride for o in offset)]
        cut = tuple(slice(o // stride, o // stride + n) for o, n in zip(offset, mine.shape[1:]))
        torch.sub(mine, features[(slice(None), *cut)], out=difference)
        share = seen[cut]
        costs[number] = weight * (share * difference.square_().mean(0) + (1 - share) * UNSEEN)
    flat = costs[:, None]
    for begin in range(0, len(flat), 128):  # part by part, so that memory stays that of one volume
        flat[begin : begin + 128] = box(flat[begin : begin + 128], 1)
    return costs


def coupled_convex(costs: torch.Tensor, radius: int) -> torch.Tensor:
    """The displacement [1, 3, z, y, x] (steps; x, y, z) that the nodes settle on."""
    steps = torch.arange(-radius, radius + 1, dtype=costs.dtype, device=costs.device)
    mesh = torch.cartesian_prod(steps, steps, steps)  # z, y, x
    shape = costs.shape[1:]
    flat = costs.reshape(len(mesh), -1)
    # of equally good ones the smallest
    chosen = (flat + 1e-6 * mesh.square().sum(1)[:, None]).argmin(0)
    for coupling in COUPLINGS:
        smooth = box(mesh[chosen].T.reshape(1, 3, *shape), 1).reshape(3, -1)
        # the couplings are for sums over twelve features
        chosen = _nearest(flat, mesh, smooth, coupling / 12)
    return box(box(mesh[chosen].T.reshape(1, 3, *shape), 1), 1).flip(1)


def _nearest(flat, mesh, smooth, weight):
    """argmin over the displacements of cost + weight·|displacement − smooth|², some nodes at a time."""
    out = torch.empty(flat.shape[1], dtype=torch.long, device=flat.device)
    size = max(1, (1 << 23) // len(mesh))
    squares = weight * mesh.square().sum(1)[:, None]
    for begin in range(0, flat.shape[1], size):
        part = slice(begin, begin + size)
        # |d − s|² without |s|², which is the same for every d
        out[part] = torch.addmm(flat[:, part] + squares, mesh, smooth[:, part], alpha=-2 * weight).argmin(0)
    return out


def inverse_consistent(there: torch.Tensor, back: torch.Tensor, iterations: int = 15):
    """Two displacements [1, 3, z, y, x] (voxels) as each other's inverse: each becomes the mean of itself and of the
    inverse of the other (Siebert 2021)."""
    for _ in range(iterations):
        there, back = (there - warp_tensor(back, there)) / 2, (back - warp_tensor(there, back)) / 2
    return there, back


def _on_voxels(nodes: torch.Tensor, shape, stride: int) -> torch.Tensor:
    """From every `stride`-th place to all: linear, its outermost values beyond."""
    return nodes if stride == 1 else sample_tensor(nodes, index_tensor(shape, nodes) / stride)


def _fine(x: torch.Tensor, step: int, shape) -> torch.Tensor:
    """From blocks of `step` voxels to voxels, displacements in voxels."""
    return step * sample_tensor(x, (index_tensor(shape, x) - (step - 1) / 2) / step)


def _coarse(x: torch.Tensor, step: int, shape) -> torch.Tensor:
    """The other way round."""
    return sample_tensor(x, step * index_tensor(shape, x) + (step - 1) / 2) / step

"""The search for the smallest γ by branch and bound, see `gamma`."""

from __future__ import annotations

import math

import numpy as np
import torch

# how well γ is known in the end, where the step allows it
EXACT = 0.005
# boxes that are halved at a time: some 50 MB
BOXES = 1 << 18
# voxels by which a point may lie beyond the last one and still on it; squared γ that passes
ON_EDGE, PASSES = 1e-3, 1.0002


class Search:
    """Branch and bound in one evaluated dose. Inside, all lengths are in distances to agreement, doses in tolerances
    and γ is squared.

    Args:
        evaluated: dose [z, y, x], Gy.
        spacing: of its voxels, (z, y, x), mm.
        distance: to agreement, mm.
        largest: γ where the search ends.
        step: boxes are not halved below this edge, mm.
        device: of torch.
        cut: at which lower and upper ends (z, y, x) the dose was cut off: points lie beyond. Elsewhere it ends where
            the points do, and nothing is missed.
    """

    def __init__(self, evaluated, spacing, distance, largest, step, device, cut=((False,) * 3,) * 2):
        # a grid of one slice has no voxel to interpolate with in that direction
        self.cut = [torch.tensor(c, device=device)[:, None] for c in cut]
        self.last = torch.tensor([n - 1 for n in evaluated.shape], device=device)[:, None]
        evaluated = np.pad(evaluated, [(0, 1 if n == 1 else 0) for n in evaluated.shape], mode="edge")
        self.size = torch.tensor(evaluated.shape, device=device)[:, None]
        self.spacing = torch.tensor(spacing, dtype=torch.float32, device=device)[:, None] / distance
        self.largest, self.step, self.device = largest, step / distance, device
        # all around infinite doses, so that no cell in reach has to be looked up twice
        self.reach = [math.ceil(largest * distance / s) + 1 for s in spacing]
        around = [(r, r) for r in self.reach]
        dose = torch.from_numpy(np.pad(evaluated, around, constant_values=np.inf)).to(device)
        self.dose = dose.flatten()
        self.strides = torch.tensor(dose.stride(), device=device)[:, None]
        self.beside = (torch.tensor(list(np.ndindex(2, 2, 2)), device=device) * self.strides.T).sum(1, keepdim=True)
        # the range of doses in every cell between eight voxels, at the place of its first
        pool = torch.nn.functional.max_pool3d
        high, low = (sign * pool(sign * dose[None, None], 2, 1)[0, 0] for sign in (1, -1))
        low[high.isinf()] = math.inf
        self.low, self.high = (
            torch.nn.functional.pad(r, (0, 1, 0, 1, 0, 1), value=math.inf).flatten() for r in (low, high)
        )

    def __call__(self, points: np.ndarray, dose, tolerance):
        """The smallest γ of some points.

        Args:
            points: indices [n, 3] in the evaluated dose.
            dose: of the reference there, Gy [n].
            tolerance: of the dose, Gy [n].

        Returns:
            γ [n].
        """
        at = torch.from_numpy(points).to(self.device).T
        # doubles until here: a coordinate's fraction is to keep float32's digits
        first = torch.minimum(at.floor().clamp(min=0).long(), self.size - 2)
        within = (at - first).float()
        index = ((first + torch.tensor(self.reach, device=self.device)[:, None]) * self.strides).sum(0)
        best = torch.full_like(dose, self.largest**2)
        inside = ((within >= 0) & (within <= 1)).all(0)
        own = _trilinear(self._difference(index, dose, tolerance), within)
        best = torch.where(inside, torch.minimum(best, own**2), best)
        beyond = torch.maximum(-at, at - (self.size - 1)).clamp(min=0).float() * self.spacing
        reached = (beyond**2).sum(0) < self.largest**2
        active, waiting, boxes = torch.nonzero(reached)[:, 0], [], 0
        for least, offset in self._cells(within[:, active]):
            active = active[best[active] > max(least, EXACT**2)]
            if len(active) == 0:
                break
            waiting.append(self._cell(offset, active, index, within, dose, tolerance, best))
            boxes += len(waiting[-1][0])
            if boxes > BOXES:
                self._halve(*_joined(waiting), self.spacing, best)
                waiting, boxes = [], 0
        # boxes are halved when all cells have had their say: most are not worth it any more
        if waiting:
            self._halve(*_joined(waiting), self.spacing, best)
        # what lies beyond the grid is not known: neither of a voxel out there, nor of one that does not pass inside
        # where the distance to agreement leads out. `max_gamma` has no say in it
        low, high = (torch.where(c, e.float() * self.spacing, math.inf) for c, e in zip(self.cut, (at, self.last - at)))
        inside = (at >= -ON_EDGE).all(0) & (at <= self.last + ON_EDGE).all(0)
        known = (best <= PASSES) | (torch.minimum(low, high).amin(0) >= 1 - ON_EDGE)
        return torch.where(inside & known, best.sqrt(), math.nan)

    def _cells(self, within):
        """(least squared distance of any point to the cell, offset of the cell [3]) of the cells in reach, from near
        to far.
        """
        if within.shape[1] == 0:
            return []
        spacing, low, high = (v.flatten().tolist() for v in (self.spacing, within.amin(1), within.amax(1)))
        found = []
        for offset in np.ndindex(*[2 * r + 1 for r in self.reach]):
            offset = [o - r for o, r in zip(offset, self.reach)]
            apart = [max(0.0, o - b, a - o - 1) * s for o, a, b, s in zip(offset, low, high, spacing)]
            middle = sum((o * s) ** 2 for o, s in zip(offset, spacing))
            found.append((sum(v * v for v in apart), middle, offset))
        return [
            (least, torch.tensor(offset, device=self.device)[:, None])
            for least, _, offset in sorted(found)
            if least < self.largest**2
        ]

    def _cell(self, offset, active, index, within, dose, tolerance, best):
        """(owner, lower, corners) of the cells at `offset` of every active point's own that may hold something
        better.
        """
        worth = _threshold(best[active])
        lower = (offset - within[:, active]) * self.spacing
        apart = _outside(lower, self.spacing)
        keep = torch.nonzero(apart < worth)[:, 0]
        active, worth, apart = active[keep], worth[keep], apart[keep]
        place, mine = index[active] + int((offset * self.strides).sum()), dose[active]
        gap = torch.maximum(self.low[place] - mine, mine - self.high[place]).clamp(min=0) / tolerance[active]
        found = torch.nonzero(apart + gap**2 < worth)[:, 0]
        active, lower, place = active[found], lower[:, keep[found]], place[found]
        return _worth(active, lower, self._difference(place, dose[active], tolerance[active]), self.spacing, best)

    def _difference(self, index, dose, tolerance):
        """[2, 2, 2, n]: the doses at the corners of cells less the points' own, in tolerances."""
        return ((self.dose[index + self.beside] - dose) / tolerance).view(2, 2, 2, -1)

    def _halve(self, owner, lower, corners, edges, best):
        """Halve boxes along their longest edge until nothing better can be in them; depth first where they become many.

        owner [n]: the point that a box belongs to; lower [3, n]: its lower corner from there; corners [2, 2, 2, n]: its
        dose differences; edges [3, 1]. Lengths are in distances to agreement, doses in tolerances.
        """
        while float(edges.max()) > self.step:
            keep = _outside(lower, edges) < _threshold(best[owner])
            owner, lower, corners = owner[keep], lower[:, keep], corners[..., keep]
            if len(owner) == 0:
                return
            if len(owner) > BOXES:
                half = len(owner) // 2
                for part in (slice(0, half), slice(half, None)):
                    self._halve(owner[part], lower[:, part], corners[..., part], edges, best)
                return
            axis = int(edges.argmax())
            edges = edges.clone()
            edges[axis] /= 2
            near, far = corners.unbind(axis)
            middle = (near + far) / 2
            shifted = lower.clone()
            shifted[axis] += edges[axis]
            corners = torch.cat([torch.stack([near, middle], axis), torch.stack([middle, far], axis)], 3)
            owner, lower, corners = _worth(
                torch.cat([owner, owner]), torch.cat([lower, shifted], 1), corners, edges, best
            )


def _worth(owner, lower, corners, edges, best):
    """Put a good point of every box into `best`; returns the boxes that may hold a better one.

    A box's dose is linear, d + g·x, but for a deviation that is nowhere larger than at a corner. For a linear dose the
    best x in a box is clamp(−λg) with λ = d + g·x; and x² + (d + g·x)² ≥ x² + 2λ(d + g·x) − λ² makes a lower bound of
    every λ, settled or not.
    """
    mean = corners.mean((0, 1, 2))
    rise = [(corners.select(a, 1) - corners.select(a, 0)).mean((0, 1)) for a in range(3)]
    deviation = corners - mean
    for a in range(3):
        deviation = (
            deviation
            - torch.tensor([-0.5, 0.5], device=mean.device).view(*[2 if a == k else 1 for k in range(3)], 1) * rise[a]
        )
    deviation = deviation.abs().amax((0, 1, 2))
    slope = torch.stack(rise) / edges
    here = mean - (slope * (lower + edges / 2)).sum(0)
    upper = lower + edges
    # Newton's method on a piecewise linear function; first for the better point, then, with the deviation, for the
    # bound
    multiplier, place = _settled(here, slope, lower, upper)
    best.scatter_reduce_(0, owner, (place**2).sum(0) + _trilinear(corners, (place - lower) / edges) ** 2, "amin")
    # the deviation may bring the dose nearer by so much; the bound then holds for every λ of this sign
    sign = multiplier.sign()
    least = here - sign * deviation
    multiplier, _ = _settled(least, slope, lower, upper)
    multiplier = sign * (sign * multiplier).clamp(min=0)
    place = torch.clamp(-multiplier * slope, min=lower, max=upper)
    bound = (place**2).sum(0) + multiplier * (2 * (least + (slope * place).sum(0)) - multiplier)
    bound = torch.maximum(bound, _outside(lower, edges) + _gap(corners.amin((0, 1, 2)), corners.amax((0, 1, 2))))
    keep = bound < _threshold(best[owner])
    return owner[keep], lower[:, keep], corners[..., keep]


def _settled(here, slope, lower, upper, steps: int = 2):
    """(λ [n], x [3, n]): x = clamp(−λ·slope) in the box, and λ after some steps towards here + slope·x."""
    squares = slope**2
    multiplier = here / (1 + squares.sum(0))
    for _ in range(steps):
        free = -multiplier * slope
        place = torch.clamp(free, min=lower, max=upper)
        excess = multiplier - here - (slope * place).sum(0)
        multiplier = multiplier - excess / (1 + torch.where(place == free, squares, 0).sum(0))
    return multiplier, torch.clamp(-multiplier * slope, min=lower, max=upper)


def _trilinear(corners, share):
    """[n]: the dose at `share` (0 to 1, [3, n]) of boxes with these corners [2, 2, 2, n]."""
    for f in share:
        corners = corners[0] * (1 - f) + corners[1] * f
    return corners


def _joined(waiting):
    return (
        torch.cat([w[0] for w in waiting]),
        torch.cat([w[1] for w in waiting], 1),
        torch.cat([w[2] for w in waiting], 3),
    )


def _outside(lower, edges):
    """Squared distance [n] from the origin to boxes with these lower corners [3, n] and edges [3, 1]."""
    return (torch.maximum(lower, -lower - edges).clamp(min=0) ** 2).sum(0)


def _gap(low, high):
    """Squared distance of zero to the range [low, high]."""
    return torch.maximum(low, -high).clamp(min=0) ** 2


def _threshold(best):
    """What a squared γ must fall below to be worth looking for."""
    return (best.sqrt() - EXACT).clamp(min=0) ** 2

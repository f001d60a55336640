"""All of a day's changes put together to one deformation of the planning anatomy, and its inverse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from ...deformation.compose import compose_tensor
from ...deformation.field import to_voxels
from ...deformation.jacobian import jacobian_tensor
from . import changes
from .amounts import generator
from .anatomy import Anatomy
from .field import Lattice, flow, follow

LEAST_JACOBIAN = 0.25  # of the deformation and of its inverse: tissue is not pressed further
ROUNDS = 6  # in which the organs' growth is fitted to the volumes asked for
MOST_POINTS = 4000  # of a structure, to fit its volume
ITERATIONS, DAMPING, TOLERANCE_MM = (
    40,
    0.6,
    0.01,
)  # of the inverse; damped, it converges where tissue grows up to threefold along an axis


@dataclass(frozen=True)
class Couch:
    """A rigid motion of the whole patient: p -> matrix (p - middle) + middle + shift.

    Attributes:
        matrix: rotation [3, 3].
        middle, shift: (x, y, z), mm.
    """

    matrix: np.ndarray
    middle: np.ndarray
    shift: np.ndarray

    @classmethod
    def of(cls, amount: dict | None, middle: np.ndarray) -> Couch | None:
        """The motion of an amount.

        Args:
            amount: {"shift_mm", "turn_degrees"}, or None.
            middle: (x, y, z) about which it turns, mm.

        Returns:
            The motion; None for none.
        """
        if amount is None or not np.any([*amount["shift_mm"], *amount["turn_degrees"]]):
            return None
        matrix = np.eye(3)
        for axis, angle in enumerate(np.deg2rad(amount["turn_degrees"])):
            a, b = (axis + 1) % 3, (axis + 2) % 3
            turn = np.eye(3)
            turn[a, a] = turn[b, b] = np.cos(angle)
            turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
            matrix = turn @ matrix
        return cls(matrix, middle.astype(float), np.array(amount["shift_mm"], float))

    def forth(self, points: np.ndarray) -> np.ndarray:
        """Where the couch takes points [..., 3] (mm)."""
        return ((points - self.middle) @ self.matrix.T + self.middle + self.shift).astype(np.float32)

    def back(self, points: np.ndarray) -> np.ndarray:
        """The inverse of `forth`, points [..., 3] (mm)."""
        return ((points - self.middle - self.shift) @ self.matrix + self.middle).astype(np.float32)


class Motion:
    """The deformation without the couch: soft tissue's, then the neck's. Its fields lie on the anatomy's lattice, in
    voxels.

    `volumes_ml` {name: [before, after]}, `shifts_mm` {name: (x, y, z)} of the structures that were changed on purpose,
    the latter against the bones, `skin_mm` how far free skin moved inwards on average, `tempered` the factor by which
    all of soft tissue had to move less.

    Args:
        anatomy: of the planning scan.
        asked: {change: amount}.
        seed: of the day.
    """

    def __init__(self, anatomy: Anatomy, asked: dict, seed: int):
        self.anatomy, self.lattice = anatomy, anatomy.lattice
        self.volumes_ml: dict = {}
        self.shifts_mm: dict = {}
        self.skin_mm: float | None = None
        self.tempered = 1.0
        growths, others, stiff = _soft_changes(anatomy, asked, seed)
        bend = torch.zeros(1, 3, *self.lattice.shape)
        if np.any(asked.get("neck", 0)):
            bend = self.lattice.voxels(changes.neck(anatomy, asked["neck"]))
        velocity = self._fitted(growths, others, stiff, bend)
        there, back = flow(bend), flow(-bend)
        while True:
            soft = flow(velocity)
            self.forward, self.backward = compose_tensor(soft, there), compose_tensor(back, flow(-velocity))
            least = min(float(jacobian_tensor(d).min()) for d in (self.forward, self.backward))
            if least > LEAST_JACOBIAN or self.tempered < 0.05:
                break
            # the logarithm of the determinant is about proportional to the velocity
            factor = 0.95 * np.log(LEAST_JACOBIAN) / np.log(max(least, 0.02))
            self.tempered *= factor
            velocity = velocity * factor
        self._measure(growths, velocity, bend, asked, self.lattice.millimetres(soft))

    def _fitted(self, growths: dict, others: np.ndarray, stiff, bend: torch.Tensor) -> torch.Tensor:
        """Soft tissue's velocity with which every growing structure gets the volume asked for."""
        soft = self.anatomy.soft()[..., None]

        def total(rates):
            v = soft * sum((np.float32(r) * growths[n][1] for n, r in rates.items()), others)
            for part in stiff:
                v = part(v)
            return self.lattice.voxels(v)

        rates = {n: float(np.log(ratio)) for n, (ratio, _) in growths.items()}
        if not others.any() and not bend.any() and not any(rates.values()):
            return total(rates)
        for _ in range(ROUNDS if growths else 0):
            v = total(rates)
            found = self._ratios(growths, v, bend)
            misses = {n: float(np.log(ratio / found[n])) for n, (ratio, _) in growths.items()}
            if max(abs(m) for m in misses.values()) < 0.003:
                return v
            # a structure that bones hold may not reach its volume: it is not pushed without limit
            rates = {n: float(np.clip(rates[n] + m, -3, 3)) for n, m in misses.items()}
        return total(rates)

    def _ratios(self, names, velocity: torch.Tensor, bend: torch.Tensor) -> dict:
        """Volume after over volume before, of every structure in `names`."""
        inside = [np.argwhere(self.anatomy.mask(n))[:, ::-1] for n in names]
        inside = [p[:: max(1, len(p) // MOST_POINTS)] for p in inside]
        moved, growth = follow(velocity, torch.from_numpy(np.concatenate(inside).astype(np.float32)))
        if bend.any():
            growth = growth * follow(bend, moved)[1]
        return {n: float(part.mean()) for n, part in zip(names, growth.split([len(p) for p in inside]))}

    def _measure(
        self, growths: dict, velocity: torch.Tensor, bend: torch.Tensor, asked: dict, soft: np.ndarray
    ) -> None:
        anatomy = self.anatomy
        for name, ratio in (self._ratios(growths, velocity, bend) if growths else {}).items():
            before = anatomy.ml(name)
            self.volumes_ml[name] = [before, before * ratio]
        moved = [role for change, role in (("prostate", "prostate"), ("parotids", "parotid")) if change in asked]
        for name in anatomy.names(*moved):
            self.shifts_mm[name] = [float(v) for v in soft[anatomy.mask(name)].mean(0)]
        free = changes.free_skin(anatomy) if "weight" in asked else np.zeros(1, bool)
        if free.any():
            self.skin_mm = float((soft[free] * anatomy.inward[free]).sum(-1).mean())

    def to_planning(self, daily: sitk.Image, couch: Couch | None) -> sitk.Image:
        """The displacement from daily to planning points.

        Args:
            daily: the image whose grid it is on.
            couch: the patient's rigid motion, or None.

        Returns:
            mm, on the grid of `daily`.
        """
        lattice = Lattice.of(daily)
        points = lattice.points()
        if couch is None:
            return lattice.image(self.lattice.at(self.backward, points))
        back = couch.back(points)
        return lattice.image((back - points) + self.lattice.at(self.backward, back))

    def to_daily(self, couch: Couch | None, displacement: sitk.Image) -> sitk.Image:
        """The displacement from planning to daily points, the inverse of the other.

        The inverse flows give it up to errors of interpolation. Where the daily grid has voxels it is then refined to
        be the inverse of just that field, linear between the voxels, by damped fixed-point iteration.

        Args:
            couch: the patient's rigid motion, or None.
            displacement: from daily to planning points, mm.

        Returns:
            mm, on the planning grid.
        """
        grid, daily = self.anatomy.grid, Lattice.of(displacement)
        points = grid.points().reshape(-1, 3)
        found = points + self.lattice.at(self.forward, points)
        if couch is not None:
            found = couch.forth(found)
        field = to_voxels(displacement)
        left = np.flatnonzero(daily.inside(found))
        for _ in range(ITERATIONS):
            missed = found[left] + daily.at(field, found[left]) - points[left]
            found[left] -= np.float32(DAMPING) * missed
            left = left[np.abs(missed).max(1) > TOLERANCE_MM]
            if not len(left):
                break
        return grid.image((found - points).reshape(*grid.shape, 3))


def _soft_changes(anatomy: Anatomy, asked: dict, seed: int):
    """Growing structures {name: (ratio, velocity for e)}, the velocity of all else, and the structures that stay
    stiff.
    """
    growths, others = {}, np.zeros_like(anatomy.points)
    for change in ("bladder", "rectum"):
        if change in asked:
            name, rng = anatomy.names(change)[0], generator(seed, change + " shape")
            made = (
                changes.bladder(anatomy, name, rng.uniform(1.0, 1.35))
                if change == "bladder"
                else changes.rectum(anatomy, name, rng)
            )
            growths[name] = (asked[change], made)
    for name, amount in asked.get("parotids", {}).items():
        growths[name] = (amount["ratio"], changes.gland(anatomy, name))
        middle = anatomy.points[anatomy.body].mean(0)[0]
        side = np.sign(anatomy.points[anatomy.mask(name)].mean(0)[0] - middle)
        others += changes.shift(anatomy, name, (-side * amount["medial_mm"], 0, 0), 15.0)
    if np.any(asked.get("weight", 0)):
        others += changes.weight(anatomy, asked["weight"], generator(seed, "weight shape"))
    if np.any(asked.get("residual", 0)):
        others += changes.residual(anatomy, asked["residual"], generator(seed, "residual shape"))
    if "prostate" in asked:
        others += changes.shift(anatomy, anatomy.names("prostate")[0], asked["prostate"], 20.0)
    stiff = [changes.Stiff(anatomy, n) for n in anatomy.names("prostate")]
    return growths, others, stiff

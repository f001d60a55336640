"""Random patches of axial slices, drawn per tissue class, with augmentation."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional as F

from .numbered import NumberedPatches
from .prepare.synthesis import Case


class PatchDataset(NumberedPatches):
    """Endless patches: dict of `mr` [1, s, s], `ct` [1, s, s] (HU; not of patients without one), `labels` [s, s], and
    as floats `body` [s, s] (the MR's or the CT's), `valid` [s, s] (where MR and CT were measured) and `weight` [s, s],
    which is both.

    The patches are centred on bone, on another structure or anywhere in the body, so that small structures are seen
    often (`centres` gives the three shares); or each is a `whole` slice, in its middle. Batches are
    numbered: see `NumberedPatches`.
    """

    def __init__(
        self,
        cases: list[Case],
        size: int,
        seed: int,
        start: int = 0,
        batch: int = 1,
        rank: int = 0,
        world: int = 1,
        centres=(0.45, 0.2, 0.35),
        augment=True,
        whole=False,
    ):
        super().__init__(start, batch, rank, world)
        self.cases, self.size, self.seed, self.augment, self.whole = cases, size, seed, augment, whole
        self.centres = np.array(centres) / sum(centres)
        self.mirrored = [_mirrored(c.classes) for c in cases]
        self.patients = [c.patient for c in cases]
        seen = [p & c.valid for p, c in zip(self.patients, cases)]
        self.points = [
            [np.argwhere(of(c.labels) & s) for c, s in zip(cases, seen)]
            for of in (lambda v: v == 1, lambda v: v > 1, lambda v: v >= 0)
        ]
        self.having = [[i for i, p in enumerate(points) if len(p)] for points in self.points]

    def patch(self, index: int) -> dict:
        """The patch number `index` of this run."""
        rng = np.random.default_rng((self.seed, index))
        kind = rng.choice(3, p=self.centres)
        if not self.having[kind]:
            kind = 2
        which = self.having[kind][rng.integers(len(self.having[kind]))]
        case, points = self.cases[which], self.points[kind][which]
        z, y, x = points[rng.integers(len(points))]
        if self.whole:
            y, x = ((n - 1) / 2 for n in case.mr.shape[1:])
        return self._sample(case, which, z, y, x, rng, self.mirrored[which])

    def _sample(self, case: Case, which: int, z, y, x, rng, mirrored) -> dict:
        s = self.size
        jitter = np.zeros(2) if self.whole else rng.uniform(-s / 4, s / 4, 2)
        angle, scale, flip = 0.0, 1.0, 1.0
        if self.augment:
            angle, scale = rng.uniform(-math.pi / 6, math.pi / 6), rng.uniform(0.85, 1.18)
            # limbs come from the left and from the right, and lie on either side
            flip = rng.choice([-1.0, 1.0])
        h, w = case.mr.shape[1:]
        ys, xs = np.mgrid[0:s, 0:s] - (s - 1) / 2
        rows = (math.cos(angle) * ys - math.sin(angle) * xs) * scale + y + jitter[0]
        cols = (math.sin(angle) * ys + math.cos(angle) * xs) * scale * flip + x + jitter[1]
        # grid_sample's coordinates: -1 and 1 are the outer edges of the first and last pixel
        grid = np.stack([(2 * cols + 1) / w - 1, (2 * rows + 1) / h - 1], -1)
        grid = torch.from_numpy(grid[None].astype(np.float32))
        given = [case.mr[z]] if case.ct is None else [case.mr[z], case.ct[z] + 1000.0]
        images = torch.from_numpy(np.stack(given)[None])
        flat = torch.from_numpy(
            np.stack([a[z].astype(np.float32) for a in (case.labels, self.patients[which], case.valid)])[None]
        )
        images = F.grid_sample(images, grid, "bilinear", "zeros", align_corners=False)[0]
        flat = F.grid_sample(flat, grid, "nearest", "zeros", align_corners=False)[0]
        inside = ((grid.abs() < 1).all(-1))[0]
        # outside of the slice the MR is air, as the padding at prediction time
        mr = torch.where(inside, images[0], torch.tensor(float(case.mr[z].min())))
        if self.augment:
            mr = self._contrast(mr, rng)
        labels = flat[0].long()
        if flip < 0:
            labels = mirrored[labels]
        return {
            "mr": mr[None],
            **({} if case.ct is None else {"ct": images[1:2] - 1000.0}),
            "labels": labels,
            "body": flat[1],
            "valid": flat[2],
            "weight": flat[1] * flat[2],
        }

    def _contrast(self, mr: torch.Tensor, rng) -> torch.Tensor:
        """Bias field, gamma, offset, gain and noise, as another scanner would make them."""
        s = mr.shape[-1]
        low = mr.min()
        ramp = torch.linspace(-1, 1, s)
        a, b, c = rng.normal(0, 0.12, 3)
        field = torch.exp(
            float(a) * ramp[None, :] + float(b) * ramp[:, None] + float(c) * ramp[None, :] * ramp[:, None]
        )
        mr = (mr - low) * field
        top = mr.max().clamp_min(1e-3)
        mr = top * (mr / top) ** float(rng.uniform(0.8, 1.25)) + low
        mr = mr * float(rng.uniform(0.9, 1.1)) + float(rng.normal(0, 0.08))
        noise = torch.from_numpy(rng.standard_normal((s, s)).astype(np.float32))
        return mr + noise * float(rng.uniform(0, 0.12))


def _mirrored(classes: dict[str, int]) -> torch.Tensor:
    """What each label is in the mirror: that of the other side where a class is named _left or _right, else itself."""
    table = torch.arange(max(255, *classes.values()) + 1)
    for name, value in classes.items():
        for side, other in (("_left", "_right"), ("_right", "_left")):
            if name.endswith(side):
                table[value] = classes.get(name.removesuffix(side) + other, value)
    return table

"""What 3-D networks that segment CT or MR are trained and validated on: patches of scans with organs, and whole
scans.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from rtuncertainty.core.ct import AIR_HU, UNIT, normalised

from ...data import organ_case
from ...data.numbered import NumberedPatches, WholeCases
from ...data.organ_case import OrganCase
from ..elmahdy2021.feed import PairFeed

AIR = float(normalised(np.float32(AIR_HU)))
# share of the patches that are centred near an organ
ON_ORGANS = 0.75
# augmentation: SD of the three angles (degrees), of log(scale), of the HU's gain and offset; the most SD of added noise
# (HU)
ANGLE, SCALE, GAIN, OFFSET_HU, NOISE_HU = 5.0, 0.06, 0.02, 5.0, 25.0
# the last three for MR, whose scale is less certain, in SDs of the body; see data.patches
OF_MR = 0.1, 0.08, 0.12
# voxels may differ so much from case to case
UNEVEN = 1.15


class VolumeFeed(PairFeed):
    """The scans of a run: `training` and `validation` are their names; no patient is on both sides."""

    command, unit, classes = "organs", "scans", 4
    read_case = staticmethod(organ_case.load)

    def load(self, config):
        """As `PairFeed.load`.

        Args:
            config: the file, for messages.

        Raises:
            SystemExit: besides, a network of another number of images than the cases have, and voxels that differ.
        """
        super().load(config)
        asked = (self.config.network_arguments() | self.config.arguments)["in_channels"]
        has = len(next(iter(self.cases.values())).seen)
        if asked != has:
            raise SystemExit(
                f"{config}: arguments: the network takes {asked} images, and a case is {has}: set in_channels to {has}."
            )
        spacings = np.array([c.spacing for c in self.cases.values()])
        if (spacings.max(0) > UNEVEN * spacings.min(0)).any():
            middle = " ".join(f"{v:.3g}" for v in np.median(spacings, 0))
            raise SystemExit(
                f"{self.prepared}: the voxels differ from case to case, and the network sees one size; prepare again "
                f"with --spacing {middle}, their median."
            )

    def patches(self, seed: int, start: int = 0, rank: int = 0, world: int = 1) -> VolumePatches:
        """Random patches of the training scans.

        Args:
            seed: of the patches.
            start: the first batch.
            rank: this process, from 0; each has its part.
            world: how many there are.

        Returns:
            Endless.
        """
        c = self.config
        return VolumePatches([self.cases[n] for n in self.training], c.patch, seed, start, c.batch, rank, world)

    def whole(self, rank: int = 0, world: int = 1) -> WholeCases:
        """What a validation looks at: whole scans, of several processes as many for each.

        Args:
            rank: this process, from 0.
            world: how many there are.

        Returns:
            One scan at a time.
        """
        names = self.validation[rank::world][: max(1, len(self.validation) // world)]
        return WholeCases([self.cases[n] for n in names], tensors)


def tensors(case: OrganCase) -> dict:
    """All of a scan.

    Args:
        case: with its organs.

    Returns:
        image [c, z, y, x] (normalised), labels [z, y, x] (uint8), known [z, y, x] (float), present [K].
    """
    return {
        "image": torch.from_numpy(case.seen),
        "labels": torch.from_numpy(case.labels),
        "known": torch.ones(case.labels.shape) if case.known is None else torch.from_numpy(case.known).float(),
        "present": torch.tensor([float(c in case.drawn_ml) for c in case.classes]),
    }


def mirrored(classes: list[str]) -> list[int]:
    """What each organ is in the mirror: left and right exchanged.

    Args:
        classes: names of the organs.

    Returns:
        For each its place in `classes`.
    """
    swap = {"left": "right", "right": "left"}
    names = ["_".join(swap.get(w, w) for w in c.split("_")) for c in classes]
    return [classes.index(n) if n in classes else k for k, n in enumerate(names)]


class VolumePatches(NumberedPatches):
    """Endless cubic patches as `tensors` gives them; `known` is 0 where a patch reaches beyond the scan.

    Three quarters are centred near an organ, each organ as often as any other: the organ is drawn first, then a patient
    who has it, so that one that few have is seen as often. The rest lie anywhere in the body. Every patch is turned and
    scaled a little, mirrored (left and right organs change places) every second time, and its HU are moved and made
    noisy. An organ with a side whose counterpart is not among the classes is never mirrored. Batches are numbered: see
    `NumberedPatches`.

    Args:
        cases: the training scans.
        size: voxels along an edge.
        seed: of the patches.
        start: as of `NumberedPatches`.
        batch: as of `NumberedPatches`.
        rank: as of `NumberedPatches`.
        world: as of `NumberedPatches`.
    """

    def __init__(
        self,
        cases: list[OrganCase],
        size: int,
        seed: int,
        start: int = 0,
        batch: int = 1,
        rank: int = 0,
        world: int = 1,
    ):
        super().__init__(start, batch, rank, world)
        self.cases, self.size, self.seed = cases, size, seed
        self.images = [c.seen for c in cases]
        # beyond the scan there is air: in an MR what is darkest
        self.air = [np.full(len(i), AIR, np.float32) if c.ct else i.min((1, 2, 3)) for c, i in zip(cases, self.images)]
        # labels + 1; 0 stands for "not known"
        self.labels = [
            c.labels + np.uint8(1) if c.known is None else np.where(c.known, c.labels + np.uint8(1), np.uint8(0))
            for c in cases
        ]
        self.body = [np.flatnonzero(c.body) for c in cases]
        count = len(cases[0].classes)
        # (case, places) by organ, of the patients who have it
        self.organs = [
            [(n, np.flatnonzero(c.labels == k)) for n, c in enumerate(cases) if (c.labels == k).any()]
            for k in range(1, count + 1)
        ]
        self.organs = [o for o in self.organs if o]
        self.partner = np.array(mirrored(cases[0].classes))
        sided = [any(w in ("left", "right") for w in c.split("_")) for c in cases[0].classes]
        self.can_mirror = not any(s and self.partner[k] == k for k, s in enumerate(sided))

    def patch(self, index: int) -> dict:
        """One patch of this run.

        Args:
            index: its number.

        Returns:
            As of `tensors`.
        """
        rng = np.random.default_rng((self.seed, index))
        which = int(rng.integers(len(self.cases)))
        places = self.body[which]
        if self.organs and rng.random() < ON_ORGANS:
            having = self.organs[rng.integers(len(self.organs))]
            which, places = having[rng.integers(len(having))]
        case = self.cases[which]
        centre = np.array(np.unravel_index(places[rng.integers(len(places))], case.labels.shape), float)
        centre += rng.integers(-self.size // 4, self.size // 4 + 1, 3)
        turn, mirror = self._turn(case.spacing, rng), self.can_mirror and rng.random() < 0.5
        if mirror:
            turn[:, 2] *= -1
        half = (self.size - 1) / 2
        where = {
            "matrix": turn,
            "offset": centre - turn @ np.full(3, half),
            "output_shape": (self.size,) * 3,
            "mode": "constant",
        }
        low = self.air[which]
        image = np.stack(
            [ndimage.affine_transform(i, order=1, cval=v, **where) for i, v in zip(self.images[which], low)]
        )
        low = low[:, None, None, None]
        labels = ndimage.affine_transform(self.labels[which], order=0, cval=0, **where)
        known = (labels > 0).astype(np.float32)
        labels = np.maximum(labels, 1) - np.uint8(1)
        present = np.array([float(c in case.drawn_ml) for c in case.classes], np.float32)
        if mirror:
            labels, present = np.concatenate([[0], self.partner + 1]).astype(np.uint8)[labels], present[self.partner]
        *amounts, unit = (GAIN, OFFSET_HU, NOISE_HU, UNIT) if case.ct else (*OF_MR, 1.0)
        gain, offset, sd = (
            rng.normal(1, amounts[0]),
            rng.normal(0, amounts[1]) / unit,
            rng.uniform(0, amounts[2]) / unit,
        )
        image = (image - low) * gain + low + offset + sd * rng.standard_normal(image.shape, np.float32)
        return {
            "image": torch.from_numpy(image.astype(np.float32)),
            "labels": torch.from_numpy(labels),
            "known": torch.from_numpy(known),
            "present": torch.from_numpy(present),
        }

    @staticmethod
    def _turn(spacing, rng) -> np.ndarray:
        """A matrix [3, 3] (z, y, x; voxels) that turns and scales in mm."""
        matrix = np.exp(rng.normal(0, SCALE)) * np.eye(3)
        for axis, angle in enumerate(np.radians(rng.normal(0, ANGLE, 3))):
            a, b = [k for k in range(3) if k != axis]
            rotation = np.eye(3)
            rotation[a, a] = rotation[b, b] = np.cos(angle)
            rotation[a, b], rotation[b, a] = -np.sin(angle), np.sin(angle)
            matrix = matrix @ rotation
        mm = np.array(spacing)[::-1]
        return matrix * mm / mm[:, None]

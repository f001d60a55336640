"""What learning from few labels is trained and validated on: crops of labelled and unlabelled scans in every batch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from ...core import provenance
from ...core.config import Config
from ...core.distance import signed_distance
from ...data import scan
from ...data.numbered import NumberedPatches
from ...data.prepare.scans import rows_in_order
from .config import AUGMENTATIONS

# of the first 48 scans in the customary order the last 8 validate; any behind them are unlabelled
FIRST, VALIDATION = 48, 8
# of "turns and contrast": the largest angle (radians) and scaling, SD of log gain and of the offset (SD of the image),
# range of gamma
ANGLE, SCALE, GAIN, OFFSET, GAMMA = math.pi / 12, 0.1, 0.15, 0.15, (0.75, 1.33)


class Sides(NamedTuple):
    """Names of scans, in the customary order.

    Attributes:
        labelled: whose labels are used.
        unlabelled: the others that are trained on.
        validation: held back.
    """

    labelled: list[str]
    unlabelled: list[str]
    validation: list[str]


def sides(table: Path, labelled: int) -> Sides:
    """Who is labelled, unlabelled and held back for validation.

    Those validate of whom the table says so (`set`, see `scans`). In a table that does not say it, the challenge's, the
    last 8 of the first 48 do, of fewer scans the last sixth, at least one.

    Args:
        table: prepare.csv.
        labelled: the first so many are; 0: all that have labels.

    Returns:
        The three sides.

    Raises:
        SystemExit: the table is missing, or a scan of which the labels are asked for has none.
    """
    rows = rows_in_order(table)
    if any(r.get("set") for r in rows):
        held_back, others = ([r for r in rows if (r["set"] == "validation") == side] for side in (True, False))
        drawn = [r for r in others if r["labelled"] == "yes"]
        if labelled > len(drawn) or not drawn or not held_back:
            raise SystemExit(
                f"{table}: {labelled or 'some'} labelled scans are asked for; there are {len(drawn)} beside the "
                f"{len(held_back)} for "
                f"validation: set labelled to {len(drawn)} or less, or to 0 for all."
            )
        names = [r["case"] for r in (drawn[:labelled] if labelled else drawn)]
        return Sides(names, [r["case"] for r in others if r["case"] not in names], [r["case"] for r in held_back])
    # by their places in the order: who cannot be used leaves a gap there, and moves nobody to the other side
    last = min(FIRST, max((int(r["order"]) for r in rows), default=0))
    held = max(1, round(last * VALIDATION / FIRST)) if last < FIRST else VALIDATION
    late = [last - held < int(r["order"]) <= last for r in rows]
    validation, rest = ([r for r, v in zip(rows, late) if v == side] for side in (True, False))
    if labelled > len(rest):
        raise SystemExit(
            f"{table}: {labelled} labelled scans are asked for; there are {len(rest)} beside the {held} for validation."
        )
    chosen = rest[:labelled] if labelled else [r for r in rest if r["labelled"] == "yes"]
    names = {id(r) for r in chosen}
    bare = [r["case"] for r in (*chosen, *validation) if r["labelled"] != "yes"]
    if bare or not chosen or not validation:
        raise SystemExit(
            f"{table}: {', '.join(bare) or 'every scan'} has no labels, which training and validation need."
        )
    return Sides(
        [r["case"] for r in chosen], [r["case"] for r in rest if id(r) not in names], [r["case"] for r in validation]
    )


def cross_fitted(table: Path, labelled: int, folds: int, fold: int) -> Sides:
    """The sides where all patients who have a label are dealt to folds (`provenance.deal`), and the labelled scans of
    one validate. No scan of theirs is trained on.

    Args:
        table: prepare.csv.
        labelled: of the others the first so many are labelled; 0: all.
        folds: how many parts.
        fold: the one that validates, from 0.

    Returns:
        The three sides.

    Raises:
        SystemExit: the table is missing, or there are too few.
    """
    rows = rows_in_order(table)
    patient = {r["case"]: r.get("patient") or r["case"] for r in rows}
    drawn = [r["case"] for r in rows if r["labelled"] == "yes"]
    held = set(provenance.dealt(table.parent, {patient[c] for c in drawn}, folds, fold)[1])
    known = [c for c in drawn if patient[c] not in held]
    if labelled > len(known) or not known or not held:
        raise SystemExit(
            f"{table}: {labelled or 'some'} labelled scans are asked for; there are {len(known)} beside the "
            f"{len(held)} patients of fold {fold} "
            f"of {folds}: set labelled to {len(known)} or less, or to 0 for all."
        )
    names = known[:labelled] if labelled else known
    return Sides(
        names,
        [r["case"] for r in rows if r["case"] not in names and patient[r["case"]] not in held],
        [c for c in drawn if patient[c] in held],
    )


class FewLabelsFeed:
    """The scans of a run. `training` are those that it sees, labelled ones first; `validation` those that it does not.

    Args:
        prepared: the prepared folder.
        config: of the run.

    Raises:
        SystemExit: as of `sides`.
    """

    def __init__(self, prepared: Path, config: Config):
        self.prepared, self.config = prepared, config
        table, crossed = prepared / "prepare.csv", config.cross_fit
        if config.fold and not crossed:
            raise SystemExit(
                f"{table} says itself who validates, so there is no fold {config.fold}; set cross_fit: true to deal "
                f"all patients to {config.folds} folds."
            )
        self.sides = (
            cross_fitted(table, config.labelled, config.folds, config.fold)
            if crossed
            else sides(table, config.labelled)
        )
        if not config.unlabelled_batch:
            self.sides = self.sides._replace(unlabelled=[])
        self.training, self.validation = self.sides.labelled + self.sides.unlabelled, self.sides.validation
        self.scans: dict[str, scan.Scan] = {}
        self.stacks: tuple[list, list] = ([], [])  # of labelled and of unlabelled scans

    def load(self, config: Path) -> None:
        """Reads all scans.

        Args:
            config: the file, for messages.

        Raises:
            SystemExit: it does not fit the scans.
        """
        c = self.config
        if not c.unlabelled_batch < c.batch:
            raise SystemExit(f"{config}: of a batch of {c.batch} crops {c.unlabelled_batch} cannot be unlabelled.")
        if c.unlabelled_batch and not self.sides.unlabelled:
            raise SystemExit(f"{config}: all scans are labelled, so none is left for unlabelled_batch; take the V-Net.")
        self.scans = {n: scan.load(self.prepared / "scans" / f"{n}.npz") for n in self.training + self.validation}
        classes = next(iter(self.scans.values())).classes
        asked = c.arguments.get("classes", 2)
        if asked != len(classes):
            raise SystemExit(f"{config}: the network has {asked} classes; the scans have {', '.join(classes)}.")
        sides_ = (self.sides.labelled, True), (self.sides.unlabelled, False)
        self.stacks = tuple([stacked(self.scans[n], known) for n in names] for names, known in sides_)

    def patches(self, seed: int, start: int = 0, rank: int = 0, world: int = 1) -> Crops:
        """Random crops.

        Args:
            seed: of the crops.
            start: the first batch.
            rank: this process, from 0; each has its part.
            world: how many there are.

        Returns:
            Endless.
        """
        c = self.config
        return Crops(
            *self.stacks, c.patch, seed, start, c.batch, c.unlabelled_batch, c.augmentation, rank, world, c.on_structure
        )

    def whole(self, rank: int = 0, world: int = 1) -> _Whole:
        """What a validation looks at: whole scans.

        Args:
            rank: this process, from 0.
            world: how many there are.

        Returns:
            One scan at a time.
        """
        names = self.validation[rank::world][: max(1, len(self.validation) // world)]
        return _Whole([self.scans[n] for n in names])


class Crops(NumberedPatches):
    """Endless crops: image [1, z, y, x], labels [z, y, x] (int64), distance [1, z, y, x] and labelled (bool).

    The last `unlabelled_batch` crops of each batch are of unlabelled scans, and carry no trace of labels that might be
    known all the same. Batches are numbered: see `NumberedPatches`.

    Args:
        labelled: scans as `stacked` gives them.
        unlabelled: scans as `stacked` gives them.
        size: (x, y, z) voxels; it may exceed the scan, beyond which there is what is darkest in it.
        seed: of the crops.
        start: as of `NumberedPatches`.
        batch: as of `NumberedPatches`.
        rank: as of `NumberedPatches`.
        world: as of `NumberedPatches`.
        unlabelled_batch: crops of a batch that are of unlabelled scans.
        augmentation: "quarter turns" in the axial plane and flips, as the published methods do; or "turns and
            contrast", turns of up to 15°, scaling, flips between left and right alone, and another scanner's gain,
            offset and gamma: where time is too short to learn eight poses.
        on_structure: the part of the labelled crops that is centred on a voxel of the structure, as far as the scan
            allows; in scans of a whole body most crops would miss it.
    """

    def __init__(
        self,
        labelled,
        unlabelled,
        size,
        seed,
        start=0,
        batch=4,
        unlabelled_batch=2,
        augmentation=AUGMENTATIONS[0],
        rank=0,
        world=1,
        on_structure=0.0,
    ):
        super().__init__(start, batch, rank, world)
        self.size, self.seed, self.unlabelled_batch, self.augmentation = (
            tuple(size)[::-1],
            seed,
            unlabelled_batch,
            augmentation,
        )
        self.labelled, self.unlabelled, self.on_structure = labelled, unlabelled, on_structure

    def patch(self, index: int) -> dict:
        """One crop of this run.

        Args:
            index: its number.

        Returns:
            See the class.
        """
        rng = np.random.default_rng((self.seed, index))
        labelled = index % self.batch < self.batch - self.unlabelled_batch
        scans = self.labelled if labelled else self.unlabelled
        whole = scans[rng.integers(len(scans))]
        cut = self._turned(whole, rng) if self.augmentation == AUGMENTATIONS[1] else self._quarters(whole, rng)
        return {
            "image": cut[:1].contiguous(),
            "labels": (cut[1] > 0.5).long() if labelled else torch.zeros(self.size, dtype=torch.long),
            "distance": cut[2:] if labelled else torch.zeros(1, *self.size),
            "labelled": torch.tensor(labelled),
        }

    def _corner(self, whole: torch.Tensor, size, rng):
        """Where a crop of `size` begins: anywhere inside, or before the scan where it is the larger of the two."""
        free = np.array(whole.shape[1:]) - np.array(size)
        if (
            self.on_structure and rng.random() < self.on_structure
        ):  # no number is drawn where nobody asks, so that older runs resume as they were
            where = torch.nonzero(whole[1] > 0)
            if len(where):
                centre = where[rng.integers(len(where))].tolist()
                return [int(np.clip(c - s // 2, min(0, f), max(0, f))) for c, s, f in zip(centre, size, free)]
        return [int(rng.integers(min(0, f), max(0, f) + 1)) for f in free]

    def _quarters(self, whole: torch.Tensor, rng) -> torch.Tensor:
        turns = int(rng.integers(4))
        size = (self.size[0], *(self.size[:0:-1] if turns % 2 else self.size[1:]))
        corner = self._corner(whole, size, rng)
        cut = whole.new_empty(3, *size)
        cut[0], cut[1], cut[2] = whole[0].min(), 0.0, 1.0
        low, high = [max(0, c) for c in corner], [min(n, c + s) for n, c, s in zip(whole.shape[1:], corner, size)]
        target = tuple(slice(a - c, b - c) for a, b, c in zip(low, high, corner))
        cut[(slice(None), *target)] = whole[(slice(None), *map(slice, low, high))]
        cut = torch.rot90(cut, turns, (2, 3))
        return cut.flip(int(rng.integers(2, 4))) if rng.random() < 0.5 else cut

    def _turned(self, whole: torch.Tensor, rng) -> torch.Tensor:
        corner = self._corner(whole, self.size, rng)
        angle, scale, flip = rng.uniform(-ANGLE, ANGLE), rng.uniform(1 - SCALE, 1 + SCALE), rng.choice([-1.0, 1.0])
        z, y, x = torch.meshgrid(
            *[(torch.arange(n, dtype=torch.float32) - (n - 1) / 2) for n in self.size], indexing="ij"
        )
        centre = [c + (s - 1) / 2 for c, s in zip(corner, self.size)]
        x = flip * x
        places = (
            centre[2] + scale * (math.cos(angle) * x - math.sin(angle) * y),
            centre[1] + scale * (math.sin(angle) * x + math.cos(angle) * y),
            centre[0] + scale * z,
        )
        grid = torch.stack([(2 * p + 1) / n - 1 for p, n in zip(places, whole.shape[:0:-1])], -1)[None]
        # zeros beyond the scan stand for what is darkest in it, for no structure and for the largest distance
        beyond = torch.stack([whole[0].min(), torch.tensor(0.0), torch.tensor(1.0)]).reshape(1, 3, 1, 1, 1)
        cut = (F.grid_sample(whole[None] - beyond, grid, "bilinear", "zeros", align_corners=False) + beyond)[0]
        low, high = whole[0].min(), whole[0].max()
        range_ = (high - low).clamp_min(1e-3)
        bent = ((cut[0] - low) / range_).clamp(0, 1) ** float(rng.uniform(*GAMMA)) * range_ + low
        cut[0] = bent * float(np.exp(rng.normal(0, GAIN))) + float(rng.normal(0, OFFSET))
        return cut


def stacked(case: scan.Scan, labelled: bool) -> torch.Tensor:
    """Image, foreground and signed distance map of a scan.

    Args:
        case: the scan.
        labelled: whether it counts so; otherwise the latter two are empty.

    Returns:
        float32 [3, z, y, x].
    """
    image = torch.from_numpy(case.image)
    if not labelled:
        return torch.stack([image, torch.zeros_like(image), torch.ones_like(image)])
    mask = case.labels > 0
    return torch.stack(
        [image, torch.from_numpy(mask.astype(np.float32)), torch.from_numpy(signed_distance(mask, case.spacing))]
    )


class _Whole(torch.utils.data.Dataset):
    def __init__(self, scans):
        self.scans = scans

    def __len__(self):
        return len(self.scans)

    def __getitem__(self, index):
        return {
            "image": torch.from_numpy(self.scans[index].image)[None],
            "labels": torch.from_numpy(self.scans[index].labels.astype(np.int64)),
        }

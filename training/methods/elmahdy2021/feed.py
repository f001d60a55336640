"""What the joint networks are trained and validated on: patches of pairs of scans, and whole pairs."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import numpy as np
import torch

from rtuncertainty.core.ct import AIR_HU, WINDOW, normalised

from ...core import provenance
from ...core.config import Config
from ...data import pair_case
from ...data.numbered import NumberedPatches, WholeCases
from ...data.pair_case import PairCase


def sides(
    table: Path, folds: int, fold: int, command: str = "pairs", unit: str = "pairs", cross_fit: bool = False
) -> tuple[list[str], list[str]]:
    """The cases of prepare.csv on either side, by patient: as the data say; or where they do not, or with `cross_fit`
    in any case, the patients of one fold validate (`provenance.deal`).

    Args:
        table: prepare.csv.
        folds: how many parts.
        fold: the one that validates, from 0.
        command: what writes that table.
        unit: what it calls its cases.
        cross_fit: deal all patients even where the data say who validates.

    Returns:
        (training, validation).

    Raises:
        SystemExit: the table is missing, one side is empty, or there is no such fold.
    """
    if not table.exists():
        raise SystemExit(f"{table} is missing: run 'python -m training {command}' first.")
    with open(table, newline="", encoding="utf-8") as f:
        rows = [r for r in csv.DictReader(f) if r["kept"] == "yes"]
    if rows and all(r.get("set") for r in rows) and not cross_fit:
        if fold:
            raise SystemExit(
                f"{table} says itself who validates, so there is no fold {fold}; set cross_fit: true to deal all "
                f"patients to {folds} folds."
            )
        found = tuple(sorted(r["case"] for r in rows if (r["set"] == "validation") == late) for late in (False, True))
    else:
        patient = {r["case"]: r.get("patient") or r["case"] for r in rows}
        patients = provenance.dealt(table.parent, set(patient.values()), folds, fold)
        found = tuple(sorted(c for c, p in patient.items() if p in side) for side in patients)
    if not all(found):
        raise SystemExit(
            f"{table}: {len(found[0])} {unit} to train on and {len(found[1])} to validate; both are needed."
        )
    return found


class PairFeed:
    """The pairs of a run: `training` and `validation` are their names; no patient is on both sides.

    Args:
        prepared: the prepared folder.
        config: of the run.

    Raises:
        SystemExit: as of `sides`.
    """

    # what prepared them, what they are called, and how many classes a network has where nothing is said
    command, unit, classes = "pairs", "pairs", 5
    read_case = staticmethod(pair_case.load)

    def __init__(self, prepared: Path, config: Config):
        self.prepared, self.config = prepared, config
        self.training, self.validation = sides(
            prepared / "prepare.csv", config.folds, config.fold, self.command, self.unit, config.cross_fit
        )
        self.cases: dict[str, PairCase] = {}

    def load(self, config: Path) -> None:
        """Reads all of them.

        Args:
            config: the file, for messages.

        Raises:
            SystemExit: the network's classes are not theirs, or one occurs in none to train on.
        """
        self.cases = {n: self.read_case(self.prepared / "cases" / f"{n}.npz") for n in self.training + self.validation}
        classes = next(iter(self.cases.values())).classes
        asked = self.config.arguments.get("classes", self.classes)
        if asked != len(classes) + 1:
            raise SystemExit(
                f"{config}: the network has {asked} classes; the {self.unit} need {len(classes) + 1}: background, "
                f"{', '.join(classes)}."
            )
        missing = [c for c in classes if not any(c in self.cases[n].present for n in self.training)]
        if missing:
            raise SystemExit(
                f"{config}: {', '.join(missing)} was drawn in no training patient, so it cannot be learnt; prepare "
                "without it."
            )

    def patches(self, seed: int, start: int = 0, rank: int = 0, world: int = 1) -> PairPatches:
        """Random patches of the training pairs.

        Args:
            seed: of the patches.
            start: the first batch.
            rank: this process, from 0; each has its part.
            world: how many there are.

        Returns:
            Endless.
        """
        c = self.config
        return PairPatches(
            [self.cases[n] for n in self.training],
            c.patch,
            seed,
            start,
            c.batch,
            rank,
            world,
            c.rare_organs,
            c.hu_window,
        )

    def whole(self, rank: int = 0, world: int = 1) -> WholeCases:
        """What a validation looks at: whole pairs, of several processes as many for each.

        Args:
            rank: this process, from 0.
            world: how many there are.

        Returns:
            One pair at a time.
        """
        names = self.validation[rank::world][: max(1, len(self.validation) // world)]
        return WholeCases([self.cases[n] for n in names], partial(tensors, window=self.config.hu_window))


def tensors(case: PairCase, window=WINDOW) -> dict:
    """All of a pair.

    Args:
        case: with its scans and labels.
        window: that HU are clipped to.

    Returns:
        fixed, moving [1, z, y, x] (normalised); fixed_labels, moving_labels [z, y, x] (uint8); known, body [1, z, y, x]
        (float); present [K].
    """
    present = torch.tensor([float(c in case.present) for c in case.classes])
    return {
        "fixed": torch.from_numpy(normalised(case.daily, window))[None],
        "moving": torch.from_numpy(normalised(case.planning, window))[None],
        "fixed_labels": torch.from_numpy(case.daily_labels),
        "moving_labels": torch.from_numpy(case.planning_labels),
        "known": torch.from_numpy(case.known.astype(np.float32))[None],
        "body": torch.from_numpy(case.body.astype(np.float32))[None],
        "present": present,
    }


def outside(window=WINDOW) -> dict[str, float]:
    """What stands beyond a pair's edges: air."""
    return dict.fromkeys(("fixed", "moving"), float(normalised(np.float32(AIR_HU), window)))


class PairPatches(NumberedPatches):
    """Endless cubic patches as `tensors` gives them.

    Two thirds are centred near an organ of a patient, each organ as often as any other that he has, the rest anywhere
    in the body. Batches are numbered: see `NumberedPatches`.

    Args:
        cases: the training pairs.
        size: voxels along an edge, a multiple of 4, at least 44.
        seed: of the patches.
        start: as of `NumberedPatches`.
        batch: as of `NumberedPatches`.
        rank: as of `NumberedPatches`.
        world: as of `NumberedPatches`.
        rare: each organ as often as any other at all, by drawing the organ before the patient.
    """

    def __init__(
        self,
        cases: list[PairCase],
        size: int,
        seed: int,
        start: int = 0,
        batch: int = 1,
        rank: int = 0,
        world: int = 1,
        rare: bool = False,
        window=WINDOW,
    ):
        super().__init__(start, batch, rank, world)
        self.cases, self.size, self.seed, self.outside = cases, size, seed, outside(window)
        self.tensors = [tensors(c, window) for c in cases]
        self.body = [np.argwhere(c.body & c.known) for c in cases]
        self.organs = [
            {k: np.argwhere((c.daily_labels == k) & c.known) for k in range(1, len(c.classes) + 1)} for c in cases
        ]
        # of each organ, where one is to be found: (pair, places)
        found = (
            [[(n, organs[k]) for n, organs in enumerate(self.organs) if len(organs[k])] for k in self.organs[0]]
            if rare
            else []
        )
        self.having = [places for places in found if places]

    def patch(self, index: int) -> dict:
        """One patch of this run.

        Args:
            index: its number.

        Returns:
            As of `tensors`.
        """
        rng = np.random.default_rng((self.seed, index))
        which = rng.integers(len(self.cases))
        points, organs = self.body[which], [p for p in self.organs[which].values() if len(p)]
        if self.having and rng.random() < 2 / 3:
            having = self.having[rng.integers(len(self.having))]
            which, points = having[rng.integers(len(having))]
        elif organs and not self.having and rng.random() < 2 / 3:
            points = organs[rng.integers(len(organs))]
        centre = points[rng.integers(len(points))]
        corner = centre - self.size // 2 + rng.integers(-self.size // 8, self.size // 8 + 1, 3)
        cut = {
            k: v if k == "present" else self._cut(v, corner, self.outside.get(k, 0))
            for k, v in self.tensors[which].items()
        }
        # another scanner: the HU of the two scans are not the same
        for name in ("fixed", "moving"):
            gain, offset = rng.normal(1, 0.02), rng.normal(0, 0.01)
            air = self.outside[name]
            cut[name] = (cut[name] - air) * float(gain) + air + float(offset)
        return cut

    def _cut(self, tensor: torch.Tensor, corner, outside) -> torch.Tensor:
        """A cube of `tensor` [..., z, y, x] that may reach beyond it."""
        cube = torch.full((*tensor.shape[:-3], *[self.size] * 3), outside, dtype=tensor.dtype)
        low = [max(0, int(c)) for c in corner]
        high = [min(n, int(c) + self.size) for n, c in zip(tensor.shape[-3:], corner)]
        source = tuple(slice(a, b) for a, b in zip(low, high))
        target = tuple(slice(a - int(c), b - int(c)) for a, b, c in zip(low, high, corner))
        cube[(..., *target)] = tensor[(..., *source)]
        return cube

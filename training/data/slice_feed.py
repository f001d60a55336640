"""What the networks of axial slices are trained and validated on: the cases that `prepare` wrote."""

from __future__ import annotations

import csv
from pathlib import Path

import torch

from ..core import provenance
from ..core.config import Config
from .case import Case, load_case
from .checks import fold_warnings, present
from .patches import PatchDataset


def kept_cases(prepared: Path) -> list[str]:
    """Names of the cases that prepare kept; raises `SystemExit` when there are fewer than two."""
    table = prepared / "prepare.csv"
    if not table.exists():
        raise SystemExit(f"{table} is missing: run 'python -m training prepare' first.")
    with open(table, newline="", encoding="utf-8") as f:
        names = [row["case"] for row in csv.DictReader(f) if row["kept"] == "yes"]
    if len(names) < 2:
        raise SystemExit(f"{table}: {len(names)} case was kept; at least two are needed to train and to validate.")
    return names


class SliceFeed:
    """The cases of a run: `training` and `validation` are their names on either side of its split. Every case is a
    patient.
    """

    def __init__(self, prepared: Path, config: Config):
        self.prepared, self.config = prepared, config
        self.training, self.validation = provenance.dealt(prepared, kept_cases(prepared), config.folds, config.fold)
        self.cases: dict[str, Case] = {}

    def load(self, config: Path) -> None:
        """Read all cases. Raises `SystemExit` where one has no CT or a class is missing in all training cases; says
        what else is missing."""
        self.cases = {n: load_case(self.prepared / "cases" / f"{n}.npz") for n in self.training + self.validation}
        without = [n for n, c in self.cases.items() if c.ct is None]
        if without and not self._only_segments():
            raise SystemExit(
                f"{', '.join(without)}: prepared without a CT, from which no synthetic CT can be learnt; prepare again "
                "with one, take a network that segments (hr_drop_last, or vnet with method: eatonrosen2018), or train "
                "m1, m2a or m2b with arguments.classes, which then only segment."
            )
        widest = max(n for name in self.training for n in self.cases[name].mr.shape[1:])
        if getattr(self.config, "whole_slices", False) and self.config.patch < widest:
            raise SystemExit(
                f"{config}: patch is {self.config.patch}, and the widest slice has {widest} pixels: set patch to "
                f"{widest} or more, or whole_slices to false."
            )
        classes = next(iter(self.cases.values())).classes
        for line in fold_warnings(
            {n: present(c) for n, c in self.cases.items()}, self.training, self.validation, classes
        ):
            if "cannot be learnt" in line:
                raise SystemExit(f"{config}: {line}")
            print(line, flush=True)

    def _only_segments(self) -> bool:
        """Whether the network has classes in place of a synthetic CT: M1, M2a and M2b where they are given some."""
        return self.config.network in ("m1", "m2a", "m2b") and self.config.arguments.get("classes", 0) > 0

    def patches(self, seed: int, start: int = 0, rank: int = 0, world: int = 1) -> PatchDataset:
        """Random patches of the training cases from batch `start` on; of several processes each has its part."""
        c = self.config
        return PatchDataset(
            [self.cases[n] for n in self.training],
            c.patch,
            seed,
            start,
            c.batch,
            rank,
            world,
            c.centres,
            whole=getattr(c, "whole_slices", False),
        )

    def whole(self, rank: int = 0, world: int = 1) -> _Slices:
        """What a validation looks at."""
        return _Slices([self.cases[n] for n in self.validation], rank, world)


class _Slices:
    """Every `step`-th slice of each validation case, whole, one at a time; of several processes each has its part."""

    def __init__(self, cases: list[Case], rank=0, world=1, step=3):
        items = [(c, z) for c in cases for z in range(step // 2, c.mr.shape[0], step) if c.region[z].any()]
        # all processes must have as many, or one would wait for the others for ever
        self.items = items[rank::world][: len(items) // world]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        case, z = self.items[index]
        as_tensor = torch.from_numpy
        return {
            "mr": as_tensor(case.mr[z][None]),
            **({} if case.ct is None else {"ct": as_tensor(case.ct[z][None])}),
            "labels": as_tensor(case.labels[z].astype("int64")),
            "weight": as_tensor(case.region[z].astype("float32")),
        }

"""Patches that are told by their numbers: what a run sees does not depend on how it was cut, shared out or hurried."""

from __future__ import annotations

import torch
from torch.utils.data import IterableDataset


class NumberedPatches(IterableDataset):
    """Endless `patch(index)`. Batch k of a run holds the patches k·`batch` to (k + 1)·`batch` − 1, whatever ran before
    and
    however many workers draw them: `start` is the first batch, so that a resumed run goes on with what the interrupted
    one would have seen. With `world` processes each takes its part of every batch.
    """

    def __init__(self, start: int = 0, batch: int = 1, rank: int = 0, world: int = 1):
        self.start, self.batch, self.rank, self.world = start, batch, rank, world

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        workers, number = (info.num_workers, self.start + info.id) if info else (1, self.start)
        while True:
            for index in range(number * self.batch + self.rank, (number + 1) * self.batch, self.world):
                yield self.patch(index)
            number += workers

    def patch(self, index: int) -> dict:
        """The patch number `index` of this run."""
        raise NotImplementedError


class WholeCases(torch.utils.data.Dataset):
    """Whole cases, one at a time, as `tensors(case)` gives them: what a validation looks at."""

    def __init__(self, cases, tensors):
        self.cases, self.tensors = cases, tensors

    def __len__(self):
        return len(self.cases)

    def __getitem__(self, index):
        return self.tensors(self.cases[index])

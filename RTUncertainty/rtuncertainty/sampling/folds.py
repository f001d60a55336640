"""The checkpoints of several folds as one ensemble: samples are dealt to them, and what each says by itself is known.

What comes before dropout is computed once for each checkpoint, and what comes behind it once for each sample: K trunks
cost what K − 1 of them cost more than a single checkpoint, the samples cost the same. On processors that compute with
bfloat16 the trunks do (their features change by less than 1 %; all behind dropout stays in single precision), so that
four of them take little longer than one does in single precision. A network without a trunk, a V-Net, does so as a
whole (its probabilities change by less than 1 %, which is a small part of what one sample differs from the next).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import numpy as np
import torch

from ..core.events import Progress
from . import inference
from .moments import Moments
from .slices import Statistics


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether a CPU computes with bfloat16; elsewhere a trunk is not what takes the time."""
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, lambda: False)() for name in asked)


@contextmanager
def in_bfloat16(network, device: torch.device) -> Iterator[None]:
    """Within this what takes a network's time computes with bfloat16 and gives single precision: its trunk, or all of a
    volumetric network, which has none. Other networks stay as they are.
    """
    owner, names = network, ["features", "draw"] if getattr(network, "dimensions", 2) == 3 else []
    if hasattr(network, "trunk"):
        owner, names = network.trunk, ["forward"]

    def single(found):
        return tuple(map(single, found)) if isinstance(found, tuple) else found.float()

    def wrapped(called):
        def call(*given):
            with torch.autocast(device.type, torch.bfloat16):
                found = called(*given)
            return single(found)

        return call

    own = {name: owner.__dict__.get(name) for name in names}
    for name in names:
        setattr(owner, name, wrapped(getattr(owner, name)))
    try:
        yield
    finally:
        for name, called in own.items():
            delattr(owner, name) if called is None else setattr(owner, name, called)


def quickly(network, device: torch.device):
    """The context in which a checkpoint of several folds computes: `in_bfloat16` where that is fast."""
    return in_bfloat16(network, device) if bfloat16_is_fast(device) else nullcontext()


def shares(networks, samples: int) -> list[int]:
    """How many of `samples` each network draws, as evenly as whole pairs allow for those that draw antithetic pairs;
    two at the least, or nothing would be known of its spread. `samples` 1: one pass without dropout of each.
    """
    if samples == 1:
        return [1] * len(networks)
    paired = getattr(networks[0], "dimensions", 2) == 2
    units = -(-samples // 2) if paired else samples
    each = [units // len(networks) + (k < units % len(networks)) for k in range(len(networks))]
    return [max(2, (2 if paired else 1) * n) for n in each]


class Pooled:
    """Statistics of all checkpoints from those of each, which need not be kept.

    Means are the checkpoints' mean. A variance is that of one sample of one checkpoint, both drawn at random: the mean
    of the variances within, and the variance between the checkpoints' means without what the few samples of each add to
    it (analysis of variance, random effects).
    """

    def __init__(self) -> None:
        self.found: dict[str, Moments] = {}
        self.further: dict[str, Moments] = {}

    def add(self, found: Statistics, samples: int) -> None:
        """Take in the statistics of one checkpoint, of so many samples."""
        for name in ("mean", "intrinsic", "probability", "expected_entropy"):
            self._put(name, getattr(found, name))
        for name, image in found.further.items():
            self.further.setdefault(name, Moments()).add(image)
        for name in ("parameter", "probability_variance"):
            within = getattr(found, name)
            # what the noise of the samples adds to the variance between is taken off here; where that is more than
            # there is between, it stays: a variance is never below what is left within
            self._put(name, None if within is None else within * (1 - 1 / samples))

    def _put(self, name: str, value) -> None:
        if value is not None:
            self.found.setdefault(name, Moments()).add(value)

    def statistics(self) -> Statistics:
        """Of all that was taken in."""

        def mean(name: str) -> Any:
            return self.found[name].mean if name in self.found else None

        def variance(name: str, of: str) -> Any:
            return mean(name) + self.found[of].variance() if name in self.found else None

        return Statistics(
            mean("mean"),
            mean("intrinsic"),
            variance("parameter", "mean"),
            mean("probability"),
            variance("probability_variance", "probability"),
            mean("expected_entropy"),
            {name: moments.mean for name, moments in self.further.items()},
        )


class _Part:
    """The progress of one checkpoint as that of all."""

    def __init__(self, progress, number: int, count: int):
        self.progress, self.number, self.count = progress, number, count

    def stage(self, name: str, fraction: float = 0.0, message: str = "") -> None:
        """As `Progress.stage`."""
        self.progress.stage(
            name, (self.number + fraction) / self.count, f"{message}, checkpoint {self.number + 1} of {self.count}"
        )

    def __getattr__(self, name: str):
        return getattr(self.progress, name)


def run(
    networks,
    volume: np.ndarray,
    samples: int,
    seed: int,
    device: torch.device,
    progress,
    each: Callable[[Statistics], Any] | None = None,
):
    """(statistics, device used, tile edge, [each(statistics)] of every checkpoint) for a volume; see `inference.run`.

    One network is run as ever, and `each` not asked.
    """
    if len(networks) == 1:
        return *inference.run(networks, volume, samples, seed, device, progress), []
    pooled, told, tile = Pooled(), [], 0
    for number, (network, count) in enumerate(zip(networks, shares(networks, samples))):
        part = _Part(progress, number, len(networks))
        with quickly(network, device):
            # where memory ran out for the first it would run out for the others
            found, device, tile = inference.run(
                [network],
                volume,
                count,
                seed + 104_729 * number,
                device,
                cast(Progress, part),
                (tile,) if tile else None,
            )
        pooled.add(found, count)
        if each is not None:
            told.append(each(found))
    return pooled.statistics(), device, tile, told

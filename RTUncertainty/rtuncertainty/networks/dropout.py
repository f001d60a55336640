"""Dropout whose masks come from a generator: a sample is known by its seed, and the global state of torch is left
alone.
"""

from __future__ import annotations

import functools

import torch

# values of a 16-bit word
WORDS = 1 << 16


@functools.lru_cache(maxsize=4)
def _factors(device: torch.device) -> torch.Tensor:
    """[256, 8]: the bits of every byte, as factors 0 and 2."""
    bytes_ = torch.arange(256, device=device)[:, None]
    return 2.0 * ((bytes_ >> torch.arange(8, device=device)) & 1)


def random_bytes(count: int, generator: torch.Generator, device) -> torch.Tensor:
    """Random bytes for whole words of eight; one number is drawn for each word.

    Args:
        count: how many.
        generator: on `device`.
        device: of torch.

    Returns:
        uint8 [count].
    """
    return (
        torch.empty(-(-count // 8), dtype=torch.int64, device=device)
        .random_(-(1 << 63), None, generator=generator)
        .view(torch.uint8)[:count]
    )


def dropped(x: torch.Tensor, p: float, generator: torch.Generator) -> torch.Tensor:
    """Drops elements at random, the others divided by 1 − p.

    The mask depends on the generator's state and device and on the shape only. Random bits serve eight elements a byte
    where p = ½, as drawing a number for each would cost as much as the layers behind it.

    Args:
        x: any shape, float.
        p: probability of an element to be dropped, to 1/65536.
        generator: on the device of `x`.

    Returns:
        The shape and type of `x`.
    """
    if p == 0:
        return x
    count = x.numel()
    if p == 0.5:
        rows = random_bytes(-(-count // 8), generator, x.device)
        mask = torch.nn.functional.embedding(rows.int(), _factors(x.device)).view(-1)[:count].to(x.dtype)
    else:
        words = random_bytes(2 * count, generator, x.device).view(torch.int16)
        mask = (words >= round(p * WORDS) - WORDS // 2).to(x.dtype) / (1 - p)
    return x * mask.view(x.shape)


class PlacedDropout:
    """`drop(x, p)` of one sample of a whole volume: the mask belongs to places, whatever tile they are seen in.

    For x [n, c, y, x], where all of n slices share one mask, or [1, c, z, y, x]. The layers of a network are told apart
    by the order of the calls. The same seed, device and `extent` give the same masks.

    Args:
        seed: of the sample.
        origin: of x in the volume, (y, x) or (z, y, x), voxels.
        extent: of the volume with whatever lies around it, in the same order.
    """

    def __init__(self, seed: int, origin: tuple[int, ...], extent: tuple[int, ...]):
        self._seed, self._origin, self._extent, self._layer = seed, origin, extent, 0

    def __call__(self, x: torch.Tensor, p: float) -> torch.Tensor:
        """Drops channels or voxels of x, by the mask of the next layer.

        Args:
            x: [n, c, (z,) y, x], a part of the volume.
            p: the rate.

        Returns:
            x with what was dropped set to 0 and the rest scaled.
        """
        if p == 0:
            return x
        self._layer += 1
        *planes, _, _ = self._origin
        (top, left), (rows, columns) = self._origin[-2:], x.shape[-2:]
        masks = []
        for plane in range(planes[0], planes[0] + x.shape[2]) if planes else [0]:
            kept = self._plane(plane, x.shape[1], p, x.device)[top : top + rows, left : left + columns]
            masks.append(kept.permute(2, 0, 1))
        mask = torch.stack(masks, 1) if planes else masks[0]
        return x * (mask.to(x.dtype) / (1 - p))[None]

    def _plane(self, plane: int, channels: int, p: float, device) -> torch.Tensor:
        """What is kept of a whole plane, bool [y, x, c]."""
        seed = (self._seed * 1_000_003 + self._layer * 7_919_017 + plane * 104_729) % (1 << 63)
        generator = torch.Generator(device=device).manual_seed(seed)
        shape = tuple(self._extent[-2:])
        if p != 0.5:
            return torch.rand((*shape, channels), generator=generator, device=device) >= p
        drawn = torch.empty((*shape, -(-channels // 8)), dtype=torch.uint8, device=device)
        bits = 2 ** torch.arange(8, dtype=torch.uint8, device=device)
        return (drawn.random_(0, 256, generator=generator)[..., None] & bits).ne(0).flatten(2)[..., :channels]

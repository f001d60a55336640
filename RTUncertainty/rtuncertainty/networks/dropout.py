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

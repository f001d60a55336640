"""Tiles along an axis: where they begin, how they see beyond themselves, how they fade into each other."""

from __future__ import annotations

import numpy as np


def tile_starts(length: int, tile: int, margin: int) -> list[int]:
    """Where tiles of `tile` pixels begin that cover `length` pixels and overlap by `margin`."""
    if length <= tile:
        return [0]
    count = -(-(length - margin) // (tile - margin))
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def ramp(length: int, start: int, size: int, overlap: int) -> np.ndarray:
    """The weight of a tile along one axis: 1 inside, a linear ramp over `overlap` pixels at edges that have a
    neighbour.
    """
    weight = np.ones(size, np.float32)
    slope = (np.arange(overlap, dtype=np.float32) + 0.5) / overlap
    if start > 0:
        weight[:overlap] = slope
    if start + size < length:
        weight[-overlap:] = np.minimum(weight[-overlap:], slope[::-1])
    return weight


def window(start: int, size: int, length: int, margin: int, border: int) -> tuple[slice, slice]:
    """(what to cut from an axis padded by `border`, where in that cut the tile itself lies).

    A tile is seen with `margin` pixels around it, as far as the padded axis of `length` + 2·`border` goes.
    """
    first, last = max(0, start + border - margin), min(length + 2 * border, start + size + border + margin)
    return slice(first, last), slice(start + border - first, start + border - first + size)

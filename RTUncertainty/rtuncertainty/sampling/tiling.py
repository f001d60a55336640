"""Tiles along an axis: where they begin, how they see beyond themselves, how they fade into each other."""

from __future__ import annotations

import numpy as np


def tile_starts(length: int, tile: int, margin: int) -> list[int]:
    """Where tiles that cover an axis begin.

    Args:
        length: of the axis, pixels.
        tile: edge.
        margin: what neighbours overlap by, at least.

    Returns:
        First pixels, rising.
    """
    if length <= tile:
        return [0]
    count = -(-(length - margin) // (tile - margin))
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def ramp(length: int, start: int, size: int, overlap: int) -> np.ndarray:
    """The weight of a tile along one axis: 1 inside, a linear ramp at edges that have a neighbour.

    Args:
        length: of the axis, pixels.
        start: of the tile, pixels.
        size: of the tile, pixels.
        overlap: pixels of the ramp.

    Returns:
        float32 [size].
    """
    weight = np.ones(size, np.float32)
    slope = (np.arange(overlap, dtype=np.float32) + 0.5) / overlap
    if start > 0:
        weight[:overlap] = slope
    if start + size < length:
        weight[-overlap:] = np.minimum(weight[-overlap:], slope[::-1])
    return weight


def window(start: int, size: int, length: int, margin: int, border: int) -> tuple[slice, slice]:
    """What a tile sees: `margin` pixels around it, as far as the padded axis goes.

    Args:
        start: of the tile, pixels.
        size: of the tile, pixels.
        length: of the axis.
        margin: of context on each side.
        border: by which the axis was padded on each side.

    Returns:
        (what to cut from the padded axis, where in that cut the tile itself lies).
    """
    first, last = max(0, start + border - margin), min(length + 2 * border, start + size + border + margin)
    return slice(first, last), slice(start + border - first, start + border - first + size)

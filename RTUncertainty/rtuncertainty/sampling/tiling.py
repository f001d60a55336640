"""Tiles along an axis: where they begin, how they see beyond themselves, how they fade into each other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Block(NamedTuple):
    """What a network sees at once: `cut` of a volume (of a batch of slices, or a cube), whose first voxel lies at
    `origin` of the volume with its border; of its output, `inner` belongs at `place` of the volume, with `weight`.
    `number` of `of` such blocks.
    """

    cut: np.ndarray
    origin: tuple[int, ...]
    inner: tuple[slice, ...]
    place: tuple[slice, ...]
    weight: np.ndarray
    number: int
    of: int


def slice_blocks(volume: np.ndarray, tile: int, margin: int, border: int, pixels: int) -> Iterator[Block]:
    """Batches of tiles of the slices of a volume [z, y, x], of about `pixels` each; `inner` and `weight` are those of a
    slice.
    """
    depth, height, width = volume.shape
    overlap = min(16, tile // 3)
    # air around the image, as the network saw at the edges of its training slices
    padded = np.pad(volume, ((0, 0), (border, border), (border, border)), constant_values=float(volume.min()))
    rows, columns = tile_starts(height, tile, overlap), tile_starts(width, tile, overlap)
    size = (min(tile, height), min(tile, width))
    batch = max(1, pixels // ((size[0] + 2 * margin) * (size[1] + 2 * margin)))
    jobs = [(y, x, z) for y in rows for x in columns for z in range(0, depth, batch)]
    for number, (y, x, z) in enumerate(jobs):
        across, own_rows = window(y, size[0], height, margin, border)
        along, own_columns = window(x, size[1], width, margin, border)
        yield Block(
            np.ascontiguousarray(padded[z : z + batch, across, along]),
            (z, across.start, along.start),
            (own_rows, own_columns),
            (slice(z, min(z + batch, depth)), slice(y, y + size[0]), slice(x, x + size[1])),
            np.outer(ramp(height, y, size[0], overlap), ramp(width, x, size[1], overlap)),
            number,
            len(jobs),
        )


def cube_blocks(volume: np.ndarray, tile: int, margin: int, multiple: int, overlap: int) -> Iterator[Block]:
    """Cubes [c, z, y, x] of a volume [z, y, x], or [c, z, y, x] of several images, with air behind them up to a
    `multiple` of voxels: the least value of each image.
    """
    seen = volume if volume.ndim == 4 else volume[None]
    shape = seen.shape[1:]
    size = [min(tile, n) for n in shape]
    corners = list(itertools.product(*[tile_starts(n, tile, overlap) for n in shape]))
    air = [float(image.min()) for image in seen]
    for number, corner in enumerate(corners):
        cuts = [window(start, edge, length, margin, 0) for start, edge, length in zip(corner, size, shape)]
        block = seen[(slice(None), *[cut for cut, _ in cuts])]
        missing = [(0, -n % multiple) for n in block.shape[1:]]
        weight = np.ones(size, np.float32)
        for axis, (start, edge, length) in enumerate(zip(corner, size, shape)):
            weight *= ramp(length, start, edge, overlap).reshape([-1 if a == axis else 1 for a in range(3)])
        yield Block(
            np.stack([np.pad(part, missing, constant_values=value) for part, value in zip(block, air)]),
            tuple(cut.start for cut, _ in cuts),
            tuple(own for _, own in cuts),
            tuple(slice(start, start + edge) for start, edge in zip(corner, size)),
            weight,
            number,
            len(corners),
        )


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

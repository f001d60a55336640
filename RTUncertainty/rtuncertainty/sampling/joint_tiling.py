"""A whole 3-D volume through a joint network, in tiles that do not overlap and leave no seam.

The convolutions are valid, so what a tile gives inside does not depend on where it was cut, provided that
- it begins at a multiple of 4 voxels: the networks' strided layers move in such steps, and
- the outermost 4 voxels of its output are left out: those depend on the padding of the strided layers and on the voxel
  that upsampling lacks at its end.
Each tile is therefore cut with `BORDER` = 24 voxels around it (20 that valid convolutions take and these 4), and the
result is that of the whole volume in one piece, to rounding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..networks.elmahdy2021 import JointNetwork

BORDER = JointNetwork.border
# voxels at each face of the high level's output that are left out
TRIMMED = BORDER - JointNetwork.margin


class Tile(NamedTuple):
    """A part of a volume, as slices (z, y, x).

    Attributes:
        cut: of the padded volume, the network's input.
        core: of its high level's output, what is kept.
        place: in the volume, where that belongs.
    """

    cut: tuple[slice, slice, slice]
    core: tuple[slice, slice, slice]
    place: tuple[slice, slice, slice]


def padded(volume: torch.Tensor, fill=None) -> torch.Tensor:
    """A volume with 24 voxels before, and after it 24 and what makes every edge a multiple of 4.

    Args:
        volume: [n, c, z, y, x].
        fill: one value for each channel (of air, say, and of no structure); None repeats the outermost voxels.

    Returns:
        [n, c, z', y', x'].
    """
    padding = []
    for n in reversed(volume.shape[2:]):
        padding += [BORDER, BORDER + -n % 4]
    if fill is None:
        return torch.nn.functional.pad(volume, padding, "replicate")
    values = torch.as_tensor(fill, dtype=volume.dtype, device=volume.device).reshape(1, -1, 1, 1, 1)
    out = torch.nn.functional.pad(torch.zeros_like(volume), padding) + values
    out[(..., *[slice(BORDER, BORDER + n) for n in volume.shape[2:]])] = volume
    return out


def tiles(shape, edge: int = 96) -> list[Tile]:
    """Tiles that fill a volume; axes are shared out evenly.

    Args:
        shape: of the volume, (z, y, x).
        edge: the most voxels an axis, rounded down to a multiple of 4; the network's input has 48 more.

    Returns:
        The tiles, none of which overlaps another.

    Raises:
        ValueError: an edge below 4.
    """
    if edge < 4:
        raise ValueError(f"tiles of {edge} voxels are too small; at least 4 are needed")
    axes = []
    for length in shape:
        count = -(-length // (edge - edge % 4))
        step = -(-length // (4 * count)) * 4
        axes.append([(start, min(step, length + -length % 4 - start)) for start in range(0, length, step)])
    found = []
    for corner in [(z, y, x) for z in axes[0] for y in axes[1] for x in axes[2]]:
        ends = [min(start + size, n) for (start, size), n in zip(corner, shape)]
        found.append(
            Tile(
                tuple(slice(start, start + size + 2 * BORDER) for start, size in corner),
                tuple(slice(TRIMMED, TRIMMED + end - start) for (start, _), end in zip(corner, ends)),
                tuple(slice(start, end) for (start, _), end in zip(corner, ends)),
            )
        )
    return found


def run_tiled(network: JointNetwork, volume: torch.Tensor, fill=None, edge: int = 96, on_tile=None):
    """The high level of a joint network for a whole volume; gradients are not kept.

    Args:
        network: in evaluation mode. With dropout on, give `set_sampling` a seed and channel dropout, else every tile is
            another sample.
        volume: [n, c, z, y, x]; tiles are moved to the network's device.
        fill: as of `padded`.
        edge: as of `tiles`.
        on_tile: `on_tile(done, total)` is called after every tile.

    Returns:
        (logits [n, K, z, y, x], displacement [n, 3, z, y, x] in voxels) on the volume's device; None where it has no
        such path.
    """
    field = padded(volume, fill)
    device = next(network.parameters()).device
    positions = tiles(volume.shape[2:], edge)
    results: list = [None, None]
    for number, tile in enumerate(positions):
        with torch.inference_mode():
            out = network(field[(..., *tile.cut)].to(device))
        for index, levels in enumerate(out):
            if levels is None:
                continue
            if results[index] is None:
                results[index] = volume.new_empty((*levels[0].shape[:2], *volume.shape[2:]), dtype=levels[0].dtype)
            results[index][(..., *tile.place)] = levels[0][(..., *tile.core)].to(volume.device)
        if on_tile is not None:
            on_tile(number + 1, len(positions))
    return tuple(results)

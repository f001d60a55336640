"""A whole volume through the sampler, slice by slice or in cubes, with smooth stitching, and what to do out of
memory.
"""

from __future__ import annotations

import numpy as np
import torch

from ..core.errors import InputError, OutOfMemoryError
from ..core.events import Progress
from . import slices, volumes
from .tiling import slice_blocks

# tile edges (voxels, without the margin) that are tried one after the other when memory runs out: of slices, of cubes
TILES = (384, 192, 96, 48)
CUBES = (160, 96, 64, 32)
# pixels of one batch: enough to keep the device busy, little enough for 16 GB with the paper's widths
PIXELS = {"cpu": 1 << 16, "cuda": 1 << 20}


def choose_device(name: str) -> torch.device:
    """A device of torch by its name.

    Args:
        name: "auto", "cpu", "cuda" or "cuda:n".

    Returns:
        The device; of "auto" the GPU where there is one.

    Raises:
        InputError: an unknown name, or a GPU that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device '{name}' is unknown; use auto, cpu, cuda or cuda:0.") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device '{name}' is not supported; use auto, cpu, cuda or cuda:0.")
    if device.type == "cuda" and not (torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise InputError(f"device '{name}' was asked for, but {count} CUDA GPUs are usable here; choose auto or cpu.")
    return device


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # torch on a GPU and on the CPU, then ITK ("Failed to allocate memory for image")
    said = ("out of memory", "not enough memory", "allocate memory")
    return isinstance(error, RuntimeError) and any(words in str(error) for words in said)


def run(networks, volume: np.ndarray, samples: int, seed: int, device: torch.device, progress: Progress, tiles=None):
    """A whole volume through the sampler.

    Networks with `dimensions` = 3 see cubes (`volumes.statistics`), all others slices. When memory runs out the whole
    volume is begun again with smaller tiles, at last on the CPU, and a note says so. Masks are seeded by tile and
    batch, so the result depends on seed, device and tile edge only.

    Args:
        networks: one or several checkpoints, in evaluation mode on `device`.
        volume: [z, y, x], in the networks' normalisation; cubes also of several images, [c, z, y, x].
        samples: T ≥ 2; 1: a single pass without dropout.
        seed: of the dropout masks.
        device: to begin on.
        progress: takes stages and notes; its token cancels.
        tiles: edges in pixels to be tried, largest first; None: the usual ones.

    Returns:
        (`slices.Statistics` with tensors [z, c, y, x] on the CPU, the device used, the tile edge).

    Raises:
        OutOfMemoryError: the smallest tile on the CPU does not fit either.
    """
    cubes = getattr(networks[0], "dimensions", 2) == 3
    through = volumes.statistics if cubes else _volume
    tiles = tiles or (CUBES if cubes else TILES)
    attempts = [(device, t) for t in tiles]
    if device.type != "cpu":
        attempts += [(torch.device("cpu"), t) for t in tiles[1:]]
    for number, (where, tile) in enumerate(attempts):
        try:
            moved = [n.to(where) for n in networks]
            return through(moved, volume, samples, seed, where, tile, progress), where, tile
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if where.type == "cuda":
            torch.cuda.empty_cache()
        if number + 1 < len(attempts):
            following, edge = attempts[number + 1]
            progress.note(
                f"Out of memory on {where} with tiles of {tile} voxels; trying again on {following} with {edge}."
            )
    raise OutOfMemoryError(
        f"Out of memory on {where} even with tiles of {tiles[-1]} voxels; close other programs or use "
        "an image with fewer voxels."
    )


def _volume(networks, volume, samples, seed, device, tile, progress):
    depth, height, width = volume.shape
    out = np.zeros((depth, 4 + 2 * networks[0].classes, height, width), np.float32)
    total = np.zeros((height, width), np.float32)
    margin, border = max(n.margin for n in networks), max(n.border for n in networks)
    for block in slice_blocks(volume, tile, margin, border, PIXELS[device.type]):
        z, y, x = block.place
        if z.start == 0:
            total[y, x] += block.weight
        message = f"Sampling slice {z.stop} of {depth}"

        def tell(done, pairs, block=block, message=message):
            progress.stage("network", (block.number + done / pairs) / block.of, message)

        image = torch.from_numpy(block.cut)[:, None].to(device, memory_format=torch.channels_last)
        # a large odd step keeps the seeds of neighbouring batches and of neighbouring runs apart
        found = slices.sample(networks, image, samples, seed * 1_000_003 + block.number * 7_919_017, tell).stacked()
        found = found[(..., *block.inner)].float().cpu().numpy()
        out[z, :, y, x] += found * block.weight
    if (total != 1).any():
        out /= total
    return slices.Statistics.unstacked(torch.from_numpy(out))

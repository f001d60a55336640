"""Maps of many structures, kept as what they hold: of a hundred whole images only one is in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import SimpleITK as sitk

from ..core import geometry


class Boxed(Mapping):
    """{structure: image}; each image is made when it is asked for.

    Args:
        grid: of all images.
        dtype: of their voxels.
    """

    def __init__(self, grid: sitk.Image, dtype):
        self.grid, self.dtype = grid, dtype
        self.parts: dict[str, tuple[tuple[slice, ...], np.ndarray]] = {}

    def put(self, name: str, box: tuple[slice, ...], voxels: np.ndarray) -> None:
        """Keep the voxels [z, y, x] of a box; outside of it an image is 0."""
        self.parts[name] = (box, np.asarray(voxels, self.dtype))

    def __getitem__(self, name: str) -> sitk.Image:
        box, voxels = self.parts[name]
        whole = np.zeros(self.grid.GetSize()[::-1], self.dtype)
        whole[box] = voxels
        return geometry.like(whole, self.grid, self.dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

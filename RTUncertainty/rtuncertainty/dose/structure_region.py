"""Where a structure lies, and which fraction of every voxel of a dose grid it fills.

A region offers `empty`, `reason` (why it is), `volume_ml`, `box()` (its corners in space) and `fraction(grid)`: float64
[z, y, x] in 0 to 1, on any grid whose axes are near to LPS (`geometry.to_axial`). `MaskRegion` is a structure on
another grid; planar contours are in `contours.py`.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..core import geometry

# the largest sub-voxel, as a part of the mask's smallest spacing, when grids are oblique to each other, and the most
# per edge
STEP, MOST = 0.5, 8
# fraction of a voxel that is none
ROUNDING = 1e-6


class NoRegion:
    """A structure that has no place.

    Args:
        reason: why.
    """

    empty, volume_ml = True, 0.0

    def __init__(self, reason: str):
        self.reason = reason


class MaskRegion:
    """A structure given as an image.

    Args:
        mask: 1 inside, 0 outside, or the fraction of each voxel that is inside.
    """

    reason = "has no voxel"

    def __init__(self, mask: sitk.Image):
        self.mask = geometry.to_axial(sitk.Cast(mask, sitk.sitkFloat32))
        filled = np.nonzero(sitk.GetArrayViewFromImage(self.mask) > 0)
        self.empty = len(filled[0]) == 0
        if not self.empty:
            # what lies around the structure costs time only
            lowest = [int(axis.min()) for axis in reversed(filled)]
            highest = [int(axis.max()) + 1 for axis in reversed(filled)]
            self.mask = self.mask[tuple(slice(a, b) for a, b in zip(lowest, highest))]
        self.volume_ml = float(
            sitk.GetArrayViewFromImage(self.mask).sum(dtype=np.float64) * np.prod(self.mask.GetSpacing()) / 1000
        )

    def box(self) -> np.ndarray:
        """The corners of the structure's bounding box, [8, 3], LPS in mm."""
        size = self.mask.GetSize()
        corners = [[n - 0.5 if b else -0.5 for n, b in zip(size, bits)] for bits in np.ndindex(2, 2, 2)]
        return np.array([self.mask.TransformContinuousIndexToPhysicalPoint(c) for c in corners])

    def fraction(self, grid: sitk.Image) -> np.ndarray:
        """The filled fraction of every voxel of a grid.

        Exact (overlap of boxes) where the axes of both grids are parallel, else by sub-voxels of at most half the
        mask's spacing.

        Args:
            grid: any 3-D image.

        Returns:
            float64 [z, y, x], 0 to 1.
        """
        if self.empty:
            return np.zeros(grid.GetSize()[::-1])
        if np.allclose(self.mask.GetDirection(), grid.GetDirection(), atol=1e-4):
            return self._overlap(grid)
        return self._sampled(grid)

    def _overlap(self, grid):
        first = np.array(grid.TransformPhysicalPointToContinuousIndex(self.mask.GetOrigin()))
        step = np.array(self.mask.GetSpacing()) / np.array(grid.GetSpacing())
        out = sitk.GetArrayFromImage(self.mask).astype(np.float64)
        for axis in range(3):
            n = self.mask.GetSize()[axis]
            edges = first[axis] + step[axis] * (np.arange(n + 1) - 0.5)
            weights = overlap(edges[:-1], edges[1:], grid.GetSize()[axis])
            out = np.moveaxis(np.tensordot(weights, out, (1, 2 - axis)), 0, 2 - axis)
        # what rounding leaves of a touching neighbour would count for the smallest and the largest dose
        return np.where(out < ROUNDING, 0.0, np.clip(out, 0.0, 1.0))

    def _sampled(self, grid):
        wanted = STEP * min(self.mask.GetSpacing())
        parts = [int(np.clip(np.ceil(s / wanted), 2, MOST)) for s in grid.GetSpacing()]
        out = np.empty(grid.GetSize()[::-1])
        for z in range(grid.GetSize()[2]):  # slice by slice: the sub-voxels of a whole grid may not fit into memory
            one = grid[:, :, z : z + 1]
            fine = geometry.resampled_grid(one, [s / p for s, p in zip(one.GetSpacing(), parts)])
            values = sitk.GetArrayFromImage(
                sitk.Resample(self.mask, fine, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0)
            )
            shape = (1, parts[2], grid.GetSize()[1], parts[1], grid.GetSize()[0], parts[0])
            out[z] = values.reshape(shape).mean((1, 3, 5), dtype=np.float64)[0]
        return out


def overlap(lower: np.ndarray, upper: np.ndarray, cells: int) -> np.ndarray:
    """How much of each cell some intervals cover; cell i reaches from i − ½ to i + ½.

    Args:
        lower: ends of the intervals, [n].
        upper: ends of the intervals, [n].
        cells: how many.

    Returns:
        [cells, n].
    """
    left = np.arange(cells)[:, None] - 0.5
    return np.clip(np.minimum(upper[None], left + 1) - np.maximum(lower[None], left), 0.0, None)

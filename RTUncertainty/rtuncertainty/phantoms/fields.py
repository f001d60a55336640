"""Random smooth fields for the digital limb: seeded, cheap, with a stated correlation length."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


class Fields:
    """Random fields on a grid.

    Args:
        rng: random numbers.
        shape: (z, y, x).
        spacing: (x, y, z), mm.
    """

    def __init__(self, rng: np.random.Generator, shape, spacing):
        self.rng = rng
        self.shape = tuple(int(n) for n in shape)
        self.spacing = np.array(spacing, float)[::-1]

    def smooth(self, in_plane: float, along: float) -> np.ndarray:
        """A field of mean 0 and SD about 1.

        White noise on a coarse grid, interpolated by cubic B-splines: no voxel-wise random numbers are drawn, so the
        cost is that of one interpolation.

        Args:
            in_plane: mm over which it varies in a slice.
            along: mm over which it varies across.

        Returns:
            float32 [z, y, x].
        """
        steps = np.maximum(np.array([along, in_plane, in_plane]), self.spacing)
        extent = np.array(self.shape) * self.spacing
        coarse = np.ceil(extent / steps).astype(int) + 4
        values = self.rng.standard_normal(coarse).astype(np.float32)
        # the random offset keeps the grid's nodes of one field from lying on those of the next
        offset = 1.0 + self.rng.random(3)
        for axis in range(3):
            at = offset[axis] + np.arange(self.shape[axis]) * self.spacing[axis] / steps[axis]
            values = np.moveaxis(
                _spline_matrix(at, values.shape[axis]) @ np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1),
                0,
                0,
            ).reshape((len(at),) + tuple(np.delete(values.shape, axis)))
            values = np.moveaxis(values, 0, axis)
        # the sd of the field is that of the infinite one: a draw that happens to be flat stays flat
        return values * np.float32(_SPLINE_GAIN)

    def ridges(self, in_plane: float, along: float, width: float) -> np.ndarray:
        """Thin winding sheets, 0 to 1: where a smooth field crosses zero.

        Args:
            in_plane: of the smooth field, mm.
            along: of the smooth field, mm.
            width: of the sheets, about, mm.

        Returns:
            float32 [z, y, x].
        """
        field = self.smooth(in_plane, along)
        return np.exp(-0.5 * (field * np.float32(in_plane / max(width, 0.3 * min(self.spacing)) * 0.9)) ** 2)

    def grain(self, sd_voxels: float) -> np.ndarray:
        """Voxel-wise noise of SD 1, smoothed in the slice.

        Args:
            sd_voxels: of the Gaussian.

        Returns:
            float32 [z, y, x].
        """
        noise = self.rng.standard_normal(self.shape, dtype=np.float32)
        if sd_voxels > 0:
            noise = ndimage.gaussian_filter(noise, (0, sd_voxels, sd_voxels), mode="wrap")
            noise /= max(float(noise.std()), 1e-6)
        return noise


def _spline_matrix(at: np.ndarray, count: int) -> np.ndarray:
    """Uniform cubic B-spline weights, (positions, coefficients)."""
    base = np.floor(at).astype(int)
    t = (at - base).astype(np.float32)
    weights = [(1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6]
    matrix = np.zeros((len(at), count), np.float32)
    for k, weight in enumerate(weights):
        matrix[np.arange(len(at)), np.clip(base - 1 + k, 0, count - 1)] += weight
    return matrix


# one over the root mean square of the B-spline's weights, averaged over the cell, for three axes: (151/315)^(-3/2)
_SPLINE_GAIN = (151 / 315) ** -1.5

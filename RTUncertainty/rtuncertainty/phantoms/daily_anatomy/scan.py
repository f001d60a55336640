"""The daily scanner: its field of view, how its HU drift, and its noise."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..fields import Fields

AIR_HU = -1024.0


def daily_grid(planning: sitk.Image, spacing_ratio, lower_mm, upper_mm) -> sitk.Image:
    """An empty grid along the planning scan's axes.

    Args:
        planning: the image.
        spacing_ratio: how many times as large its voxels are, (x, y, z).
        lower_mm: (x, y, z) by which the faces at the first voxel move outwards (inwards if negative).
        upper_mm: the same at the last voxel.

    Returns:
        An image to be used as a grid.
    """
    old_size, old_spacing = np.array(planning.GetSize()), np.array(planning.GetSpacing())
    spacing = old_spacing * np.asarray(spacing_ratio)
    extent = old_size * old_spacing + np.asarray(lower_mm) + np.asarray(upper_mm)
    size = np.maximum(1, np.rint(extent / spacing)).astype(int)
    grid = sitk.Image([int(n) for n in size], sitk.sitkUInt8)
    grid.SetSpacing([float(s) for s in spacing])
    grid.SetDirection(planning.GetDirection())
    # half a voxel of each grid lies between the face and the first voxel's centre
    first = (spacing - old_spacing) / 2 - np.asarray(lower_mm)
    matrix = np.array(planning.GetDirection()).reshape(3, 3)
    grid.SetOrigin([float(v) for v in np.array(planning.GetOrigin()) + matrix @ first])
    return grid


def drifted(hu: np.ndarray, spacing, drift: float, rng) -> np.ndarray:
    """HU of which the attenuation (HU + 1000) is off by a common factor and by one that varies over 12 cm.

    Args:
        hu: [z, y, x].
        spacing: (x, y, z), mm.
        drift: SD of each factor.
        rng: random numbers.

    Returns:
        HU [z, y, x].
    """
    if not drift > 0:
        return hu
    uneven = Fields(rng, hu.shape, spacing).smooth(120, 120)
    return hu + (hu + 1000) * np.float32(drift) * (np.float32(rng.normal()) + uneven)


def noisy(hu: np.ndarray, spacing, sd: float, rng) -> np.ndarray:
    """HU with noise, correlated over about a voxel, half as much in air, where more photons arrive.

    Args:
        hu: [z, y, x].
        spacing: (x, y, z), mm.
        sd: of the noise, HU; 0 for none.
        rng: random numbers.

    Returns:
        HU [z, y, x].
    """
    if not sd > 0:
        return hu
    return hu + np.float32(sd) * Fields(rng, hu.shape, spacing).grain(0.6) * np.where(
        hu > -900, np.float32(1), np.float32(0.5)
    )

"""What every phantom's images share: the grid they lie on, the coil's bias field, the noise of both modalities."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..core.errors import InputError
from .fields import Fields


def empty_grid(size, spacing, direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), origin=None, name: str = "phantom") -> sitk.Image:
    """A grid without anything on it.

    Args:
        size: voxels (x, y, z).
        spacing: mm (x, y, z).
        direction: nine direction cosines, row by row.
        origin: of the first voxel, mm; None: the middle lies at (0, 0, 0).
        name: what messages call the phantom.

    Returns:
        An image to be used as a grid.

    Raises:
        InputError: a direction that is not nine cosines of a rotation.
    """
    grid = sitk.Image([int(n) for n in size], sitk.sitkUInt8)
    grid.SetSpacing([float(s) for s in spacing])
    try:
        grid.SetDirection([float(d) for d in direction])
    except RuntimeError as error:
        raise InputError(f"{name}: the direction is not nine cosines of a rotation.") from error
    middle = np.array(grid.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in size]))
    grid.SetOrigin([float(v) for v in (-middle if origin is None else origin)])
    return grid


def as_image(array: np.ndarray, grid: sitk.Image, dtype) -> sitk.Image:
    """An array on a grid.

    Args:
        array: [z, y, x].
        grid: the image whose geometry it takes.
        dtype: of the voxels; rounded for an integer type.

    Returns:
        The image.
    """
    if np.issubdtype(dtype, np.integer):
        array = np.rint(array)
    made = sitk.GetImageFromArray(np.ascontiguousarray(array, dtype=dtype))
    made.CopyInformation(grid)
    return made


def log_bias(fields: Fields, size, strength: float) -> np.ndarray:
    """Logarithm of a bias field: a coil's smooth fall-off, of second order across the image.

    Args:
        fields: of random numbers, on the grid.
        size: voxels (x, y, z).
        strength: the largest absolute value.

    Returns:
        float32 [z, y, x].
    """
    z, y, x = (np.linspace(-1, 1, n, dtype=np.float32) if n > 1 else np.zeros(1, np.float32) for n in size[::-1])
    z, y, x = z[:, None, None], y[None, :, None], x[None, None]
    c = fields.rng.normal(size=9).astype(np.float32) * np.array([1, 1, 0.7, 0.5, 0.5, 0.5, 0.5, 0.3, 0.3], np.float32)
    log_field = (
        c[0] * x
        + c[1] * y
        + c[2] * z
        + c[3] * x * x
        + c[4] * y * y
        + c[5] * z * z
        + c[6] * x * y
        + c[7] * x * z
        + c[8] * y * z
    )
    log_field -= log_field.mean()
    peak = float(np.abs(log_field).max())
    return log_field * np.float32(strength / peak if peak > 0 else 0)


def rician(signal: np.ndarray, fields: Fields, sd: float) -> np.ndarray:
    """Magnitude of a signal with Gaussian noise in the real and in the imaginary channel.

    Args:
        signal: [z, y, x].
        fields: of random numbers, on the grid.
        sd: of the noise, in the unit of the signal; 0 for none.

    Returns:
        [z, y, x].
    """
    sd = np.float32(sd)
    if not sd > 0:
        return signal
    return np.hypot(signal + sd * fields.grain(0.4), sd * fields.grain(0.4))


def with_ct_noise(ct: np.ndarray, fields: Fields, sd: float) -> np.ndarray:
    """A CT with noise, correlated over about a voxel as in a reconstructed CT, and never below -1024.

    Args:
        ct: HU [z, y, x].
        fields: of random numbers, on the grid.
        sd: HU; 0 for none.

    Returns:
        HU [z, y, x].
    """
    if sd > 0:
        # photons are fewer behind more tissue, so air is quieter than the middle of the body
        ct = ct + np.float32(sd) * fields.grain(0.6) * np.where(ct > -900, 1, 0.5)
    return np.maximum(ct, -1024)

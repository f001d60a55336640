"""Images as the layouts name them: a file, a DICOM series or an array in an HDF5 file."""

from __future__ import annotations

import gzip
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rtuncertainty.core import image_io
from rtuncertainty.core.errors import InputError

LEFT_ATRIUM_SPACING = 0.625  # mm, isotropic: the challenge's, which its files do not state (Xiong 2021)


@dataclass(frozen=True)
class HDF5:
    """One array [x, y, z] of an HDF5 file, as UA-MT (Yu 2019) and its successors store the left-atrium scans."""

    path: Path
    key: str
    spacing: float = LEFT_ATRIUM_SPACING

    def __str__(self) -> str:
        return f"{self.path}[{self.key}]"

    def read(self) -> sitk.Image:
        """The array as an image, axes taken as left, posterior, superior. Raises `InputError`."""
        try:
            import h5py
        except ImportError as error:
            raise InputError(
                f"{self.path}: reading .h5 files needs h5py, which is not installed: pip install h5py."
            ) from error
        try:
            with h5py.File(self.path, "r") as f:
                array = f[self.key][()]
        except (OSError, KeyError) as error:
            raise InputError(f"{self} cannot be read ({error}); copy the file again.") from error
        if array.ndim != 3:
            raise InputError(f"{self} has {array.ndim} dimensions; a single 3-D volume is needed.")
        image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0).astype(np.float32)))
        image.SetSpacing([self.spacing] * 3)
        return image


def read(place) -> sitk.Image:
    """A 3-D image, float32, that holds no NaN, is not constant and has voxels of some size. Raises `InputError`."""
    if isinstance(place, Path):
        _check_nifti_geometry(place)
        return image_io.read(place)
    found = place.read()
    image = image_io.check(found, str(place))
    if found.HasMetaDataKey("modality"):  # which casting forgets
        image.SetMetaData("modality", found.GetMetaData("modality"))
    return image


def read_label(place) -> sitk.Image:
    """Like `read`, for a label image or a mask: it may be the same everywhere, but holds integers only."""
    try:
        image = read(place)
    except InputError as error:
        if "same value" not in str(error):
            raise
        image = sitk.Cast(sitk.ReadImage(str(place)) if isinstance(place, Path) else place.read(), sitk.sitkFloat32)
    array = sitk.GetArrayViewFromImage(image)
    if not np.array_equal(array, np.rint(array)):
        raise InputError(f"{place} holds values that are no integers, so it is no label image; was it interpolated?")
    return image


def nifti_header(path: Path) -> tuple[tuple, bool] | None:
    """Voxel size (x, y, z) as a NIfTI-1 file states it, and whether it states where the image lies; None for others."""
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return None
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opened(path, "rb") as f:
            header = f.read(348)
    except (OSError, EOFError):
        return None  # reading the image will say so
    order = next((o for o in "<>" if len(header) == 348 and struct.unpack(o + "i", header[:4])[0] == 348), None)
    if order is None:
        return None
    return struct.unpack(order + "3f", header[80:92]), any(struct.unpack(order + "2h", header[252:256]))


def _check_nifti_geometry(path: Path) -> None:
    # ITK takes a voxel size of zero for 1 mm without a word
    header = nifti_header(path) if path.exists() else None
    if header and not all(math.isfinite(s) and s != 0 for s in header[0]):
        raise InputError(
            f"{path} states a voxel size of {header[0]} mm; every one must be positive: repair the header."
        )

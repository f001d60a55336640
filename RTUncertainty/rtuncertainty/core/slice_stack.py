"""Do the slices of a DICOM series make a volume? Their places in space, put in order, or the reason why they do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import InputError

# part of the slices' distance by which one may lie off its place, along the normal and across
UNEVEN = 0.05
# mm, mm per voxel and cosines that count as the same
SAME_PLACE, SAME = 0.01, 1e-3
MODALITY, FRAME, POSITION, ORIENTATION, ROWS, COLUMNS, SPACING = TAGS = (
    "0008|0060",
    "0020|0052",
    "0020|0032",
    "0020|0037",
    "0028|0010",
    "0028|0011",
    "0028|0030",
)


def ordered(orientations, positions, pixels, shapes) -> tuple[np.ndarray, np.ndarray, float]:
    """(order, axes, step) of slices: their numbers from one end to the other, the unit vectors of row, column and
    normal as the columns of a matrix [3, 3], and the distance of slices in mm.

    Of each slice, as DICOM has them: orientation (6 cosines), position (LPS, mm), pixel spacing (2 numbers, mm), shape
    (rows, columns). Raises `ValueError`, whose text tells in a few words why they make no volume.
    """
    turned, at, pixel, shape = (np.array(column, float) for column in (orientations, positions, pixels, shapes))
    if np.ptp(turned, 0).max() > SAME or np.ptp(pixel, 0).max() > SAME or np.ptp(shape, 0).any():
        raise ValueError("they differ in size, pixel spacing or orientation")
    if len(at) < 2:
        raise ValueError("there is only one")
    row, column = turned[0].reshape(2, 3)
    if not np.allclose([row @ row, column @ column, row @ column], [1, 1, 0], atol=0.01):
        raise ValueError("their orientation is not two directions at a right angle")
    row, column = row / np.linalg.norm(row), column / np.linalg.norm(column)
    normal = np.cross(row, column)
    order = np.argsort(at @ normal, kind="stable")
    steps = np.diff(at[order], axis=0)
    along = steps @ normal
    if along.min() < SAME_PLACE:
        raise ValueError("several lie at one position")
    step = float(along.mean())
    if np.abs(along - step).max() > UNEVEN * step:
        raise ValueError(
            f"their distances are {along.min():.2f} to {along.max():.2f} mm; slices are missing or lie unevenly"
        )
    if np.linalg.norm(steps - along[:, None] * normal, axis=1).max() > UNEVEN * step:
        raise ValueError("they are sheared by a tilted gantry")
    return order, np.stack([row, column, normal], 1), step


def require(folder: Path, files) -> dict[str, str]:
    """What the first of a series' files says of itself, by tag (`TAGS`). Raises `InputError` for slices in `folder`
    that make no volume.

    ITK closes gaps, and takes copies and other echoes for slices of their own, with hardly a word. A single file is not
    looked at: it may be a multi-frame image.
    """
    headers = [_header(file) for file in files]
    if len(headers) > 1:
        try:
            ordered(*zip(*map(_place, headers)))
        except ValueError as why:
            raise InputError(
                f"{folder}: its {len(headers)} slices make no volume: {why}; give a folder with all slices of one "
                "series, each once."
            ) from None
    return headers[0]


def _header(file: str) -> dict[str, str]:
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    reader.SetImageIO("GDCMImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(f"{file} cannot be read as a DICOM slice; it is damaged, copy it again.") from error
    return {tag: reader.GetMetaData(tag).strip().rstrip("\0") for tag in TAGS if reader.HasMetaDataKey(tag)}


def _place(header: dict[str, str]) -> tuple:
    """Orientation, position, pixel spacing and shape of a slice."""

    def numbers(tag, count):
        found = [float(v) for v in header.get(tag, "").split("\\") if v.strip()]
        if len(found) != count:
            raise ValueError("position, orientation or pixel spacing is missing")
        return found

    return numbers(ORIENTATION, 6), numbers(POSITION, 3), numbers(SPACING, 2), numbers(ROWS, 1) + numbers(COLUMNS, 1)

"""Synthetic CTs of another tool: their mean, and their SD where there are several or a map of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..bundles.compatibility import FAT_HU
from ..core import ct, geometry, image_io
from ..core.errors import InputError
from ..uncertainty.hu_calibration import Recalibration
from . import place

RANGE = (-1024, 3071)
# from here on numbers are no HU of a patient
MOST_HU = 32768


def content(
    files: list[Path], sds: list[Path], grid: sitk.Image, progress, recalibration: Recalibration | None = None
) -> dict[str, sitk.Image]:
    """The images of a result.

    Args:
        files: one a member.
        sds: none, one (of the mean), or one for each member.
        grid: the input image.
        progress: takes the stages.
        recalibration: of a site, which gives an SD where the tool gave none; None: the SDs are the tool's.

    Returns:
        synct (int16, HU), body, and of parameter_sd (over the members), intrinsic_sd (of each member's own map) and
        predictive_sd (both together; a single map is that) those that are known.

    Raises:
        InputError: a file that is no CT in HU or no map of an SD, other voxels, or two members that are the same.
    """
    mean = square = np.zeros(())
    for number, file in enumerate(files, 1):
        progress.stage("read", number / len(files), f"Synthetic CT {number} of {len(files)}")
        value = read(file, grid)
        if np.array_equal(value, sitk.GetArrayViewFromImage(grid)):
            raise InputError(f"{file}: is the input image itself; move it away, or name the members in a source.json.")
        if number == 1:
            mean, square = value.copy(), np.zeros_like(value)
            continue
        delta = value - mean
        mean += delta / number
        square += delta * (value - mean)
    out = {"synct": geometry.like(np.rint(mean).clip(*RANGE), grid, np.int16)}
    out["body"] = body_of(out["synct"], "CT")
    parts = {}
    if len(files) > 1:
        if not square.any():
            raise InputError(
                f"{files[0]} and the other synthetic CTs are the same in every voxel; give members that differ, or one."
            )
        parts["parameter_sd"] = square / (len(files) - 1)
    own = [_sd(file, grid) for file in sds]
    if len(own) == len(files) > 1:
        parts["intrinsic_sd"] = np.mean([sd**2 for sd in own], axis=0)
    predictive = sum(parts.values()) if parts else None
    if len(own) == 1:
        predictive = own[0] ** 2
    if recalibration is not None:
        inside, nothing = sitk.GetArrayViewFromImage(out["body"]) > 0, np.zeros_like(mean)
        stated = nothing if predictive is None else np.asarray(predictive)
        predictive = np.where(inside, recalibration.apply(mean, stated, nothing)[0], stated)
        # of parts of it that the site has not looked at nothing is known
        parts = {}
    for key, variance in (parts | {"predictive_sd": predictive}).items():
        if variance is not None:
            out[key] = geometry.like(np.sqrt(variance), grid)
    return out


def read(file: Path, grid: sitk.Image) -> np.ndarray:
    """A synthetic CT, float32 HU [z, y, x] on the voxels of `grid`. Raises `InputError` for what is none."""
    image = image_io.read(file)
    array = sitk.GetArrayFromImage(place.on(image, grid, file))
    if not image_io.looks_like_ct(image) and array.min() > FAT_HU or np.abs(array).max() >= MOST_HU or array.max() < 2:
        raise InputError(
            f"{file}: is no CT in HU, its values go from {array.min():.4g} to {array.max():.4g}; write it in HU (air "
            "-1000, water 0), or say in a source.json what it is."
        )
    return array


def _sd(file: Path, grid: sitk.Image) -> np.ndarray:
    array = sitk.GetArrayFromImage(place.on(image_io.read(file), grid, file))
    if array.min() < 0:
        raise InputError(f"{file}: is no map of an SD, it holds {array.min():.4g}; an SD is at least 0 HU.")
    return array


def body_of(image: sitk.Image, modality: str) -> sitk.Image:
    """The patient in an image; all of it where none is found.

    Args:
        image: the input or a synthetic CT, with the geometry of the result.
        modality: CT or MR.

    Returns:
        uint8.
    """
    try:
        if modality == "CT":
            return ct.body_mask(image)
        from ..prediction.preprocess import body_mask

        return place.on(body_mask(geometry.to_axial(image)), image, "the body")
    except InputError:
        return geometry.like(np.ones(image.GetSize()[::-1]), image, np.uint8)

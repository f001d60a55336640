"""One segmentation of another tool: names and masks on the voxels of the input, each mask read when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..core import image_io, structure_set
from ..core.errors import InputError
from . import naming, place

MASK_SUFFIXES = (".nii.gz", ".nii")


@dataclass
class Segmentation:
    """What one member drew.

    Attributes:
        file: for messages.
        masks: {name: gives the voxels, bool [z, y, x] on the input's grid}.
        styles: {name: color and code}, where the file has them.
    """

    file: str
    masks: Mapping[str, Callable[[], np.ndarray]]
    styles: dict[str, dict] = field(default_factory=dict)


def read(path: Path, grid: sitk.Image, structures: dict[str, dict]) -> Segmentation:
    """A segmentation.

    Args:
        path: `.seg.nrrd`, a label image, or a folder with a mask for each structure.
        grid: the input image.
        structures: of source.json.

    Returns:
        Names and masks.

    Raises:
        InputError: other voxels, labels without names, or a file that is none of these.
    """
    if path.is_dir():
        files = mask_files(path)
        if not files:
            raise InputError(f"{path}: holds no mask (.nii.gz); give a folder with a mask for each structure.")
        return Segmentation(str(path), {name: partial(_mask, file, grid) for name, file in files.items()})
    if path.name.lower().endswith(".seg.nrrd"):
        found = structure_set.read(path, empty=True)
        masks = {n: partial(_of_image, s.mask, grid, str(path)) for n, s in found.items()}
        for name in list(masks)[:1]:  # other voxels are found out now
            masks[name]()
        return Segmentation(str(path), masks, {n: {"color": s.color, "code": s.code} for n, s in found.items()})
    return _labels(path, grid, structures)


def mask_files(folder: Path) -> dict[str, Path]:
    """{name of a structure: its file} of a folder with a mask for each."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name.lower().endswith(MASK_SUFFIXES))
    found: dict[str, Path] = {}
    for path in files:
        if image_io.stem(path) in found:
            raise InputError(f"{path}: is there as {found[image_io.stem(path)].name}, too; keep one of the two.")
        found[image_io.stem(path)] = path
    return found


def stored(path: Path) -> sitk.Image:
    """An image file, 3-D; see `image_io.read_stored`."""
    image = image_io.read_stored(path, f"{path}: cannot be read as an image; it is damaged or no image file.")
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3:
        raise InputError(f"{path}: has {image.GetDimension()} dimensions; write each volume to a file of its own.")
    return image


def _of_image(mask: sitk.Image, grid: sitk.Image, file: str) -> np.ndarray:
    return sitk.GetArrayFromImage(place.on(mask, grid, file, part=True)) > 0


def _mask(file: Path, grid: sitk.Image) -> np.ndarray:
    array = sitk.GetArrayFromImage(place.on(stored(file), grid, file))
    values = np.unique(array)
    if not set(values.tolist()) <= {0, 1}:
        raise InputError(
            f"{file}: is no mask of one structure, it holds values from {values[0]:g} to {values[-1]:g}; a mask holds "
            "0 and 1. Name what it is in a source.json, or move it away."
        )
    return array > 0


def _labels(path: Path, grid: sitk.Image, structures: dict[str, dict]) -> Segmentation:
    array = sitk.GetArrayFromImage(place.on(stored(path), grid, path))
    if array.ndim != 3:
        raise InputError(f"{path}: has several values a voxel; give a label image or a .seg.nrrd.")
    found = np.unique(array)
    if found[0] < 0 or found[-1] > 65535 or not np.array_equal(found, np.rint(found)):
        raise InputError(
            f"{path}: is no label image, it holds values from {found[0]:g} to {found[-1]:g}; labels are whole numbers "
            "from 0."
        )
    names = naming.of_labels(path, structures)
    if names is None:
        raise InputError(
            f"{path}: nothing says what its labels are called; write them into {image_io.stem(path)}.json beside it, "
            'such as {"liver": 1}, or into "structures" of a source.json.'
        )
    known = {v for values in names.values.values() for v in values}
    unknown = [int(v) for v in found if v and int(v) not in known]
    if unknown:
        raise InputError(
            f"{path}: holds the label {', '.join(map(str, unknown[:5]))}, which {names.by} does not name; add its name "
            "there."
        )
    array = array.astype(np.uint8 if found[-1] < 256 else np.uint16)
    return Segmentation(str(path), {name: partial(np.isin, array, values) for name, values in names.values.items()})

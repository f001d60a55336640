"""Structures of a patient: read from a segmentation (`.seg.nrrd`) or a label image, and written as Slicer reads
them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from . import geometry, image_io
from .errors import InputError
from .segmentation_file import HEADER, segment_header, with_segments
from .structures import mask_of

# of the structures of one segmentation: labels of 8 bits
MOST = 255
# for structures that come without a colour: Slicer's generic colours are no better known than these
COLORS = (
    (128, 174, 128),
    (241, 214, 145),
    (177, 122, 101),
    (111, 184, 210),
    (216, 101, 79),
    (221, 130, 101),
    (144, 238, 144),
    (192, 104, 88),
    (220, 245, 20),
    (78, 63, 0),
    (255, 250, 220),
    (230, 220, 70),
    (200, 200, 235),
    (250, 250, 210),
)


@dataclass
class Structure:
    """One structure.

    Attributes:
        name: shown.
        mask: uint8, 0 or 1.
        color: 0 to 255 each.
        code: as in a card, or None.
        role: DICOM's RT ROI interpreted type; empty when not known.
    """

    name: str
    mask: sitk.Image
    color: tuple[int, int, int]
    code: dict | None = None
    role: str = ""


def read(given, name: str = "the structures", empty: bool = False, tell=None) -> dict[str, Structure]:
    """Structures of a patient, by name. An RTSTRUCT is read by `rtuncertainty.dicom.structure_input`.

    Names of a label image are in FILE.json beside it ({name: value}, for FILE.nii.gz), else "label 1", "label 2", …
    Structures may overlap (layers of a `.seg.nrrd`).

    Args:
        given: a `.seg.nrrd` file, a label image (path or `SimpleITK.Image`), or a dict {name: mask}.
        name: what messages call it.
        empty: whether structures without a voxel will do.
        tell: called with notes on what the file leaves open.

    Returns:
        {name: structure}, masks on one grid.

    Raises:
        InputError: a file that cannot be read, holds no label image, or no structure with a voxel (unless `empty`).
    """
    if isinstance(given, dict):
        found = {n: Structure(n, _binary(m), COLORS[i % len(COLORS)]) for i, (n, m) in enumerate(given.items())}
    else:
        image, name = (given, name) if isinstance(given, sitk.Image) else (_open(given, tell), str(given))
        if image.GetDimension() != 3 or "float" in image.GetPixelIDTypeAsString():
            raise InputError(
                f"{name}: is no segmentation: it has {image.GetDimension()} dimensions of "
                f"{image.GetPixelIDTypeAsString()}; "
                "give a .seg.nrrd file or a label image of whole numbers."
            )
        image_io.require_geometry(image, name)
        found = _segments(image, name) if image.HasMetaDataKey("Segment0_ID") else _labels(image, given)
    return checked(found, name, empty)


def checked(found: dict[str, Structure], name: str, empty: bool = False) -> dict[str, Structure]:
    """Structures, unless they are too many or none has a voxel.

    Args:
        found: {name: structure}.
        name: what messages call them.
        empty: whether structures without a voxel will do.

    Returns:
        `found`.

    Raises:
        InputError: too many, or none with a voxel (unless `empty`).
    """
    _require_so_few(len(found), name)
    if not empty and not any(sitk.GetArrayViewFromImage(s.mask).any() for s in found.values()):
        raise InputError(f"{name}: holds no structure with a voxel in it; give one with structures.")
    return found


def _require_so_few(count: int, name: str) -> None:
    if count > MOST:
        raise InputError(
            f"{name}: holds {count} different labels, more than the {MOST} that a segmentation has room for; give a "
            "segmentation, not a scan."
        )


def _binary(mask: sitk.Image) -> sitk.Image:
    return sitk.NotEqual(mask, 0)


def _open(path, tell=None) -> sitk.Image:
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; give a .seg.nrrd file, a label image or an RTSTRUCT.")
    wrong = f"{path}: cannot be read as a segmentation; it is damaged or no image file."
    return image_io.read_stored(path, wrong, tell)


def _segments(image: sitk.Image, file: str) -> dict[str, Structure]:
    """The segments of Slicer's header. Raises `InputError` for one that is damaged."""
    layers = (
        [sitk.VectorIndexSelectionCast(image, i) for i in range(image.GetNumberOfComponentsPerPixel())]
        if image.GetNumberOfComponentsPerPixel() > 1
        else [image]
    )
    found, number = {}, 0
    while image.HasMetaDataKey(f"Segment{number}_ID"):

        def of(key, default="", number=number):
            key = f"Segment{number}_{key}"
            return image.GetMetaData(key) if image.HasMetaDataKey(key) else default

        title = unused(of("Name") or of("ID") or f"segment {number + 1}", found)
        try:
            color = tuple(round(255 * min(max(float(c), 0.0), 1.0)) for c in of("Color", "0.5 0.5 0.5").split())
            mask = sitk.Equal(
                layers[range(len(layers))[int(of("Layer", "0"))]], float(of("LabelValue", str(number + 1)))
            )
        except (ValueError, IndexError) as error:
            raise InputError(
                f"{file}: colour, layer or label of the segment '{title}' is damaged in its header; save the "
                "segmentation again."
            ) from error
        found[title] = Structure(title, mask, color if len(color) == 3 else (128, 128, 128), _code(of("Tags")))
        number += 1
    return found


def unused(name: str, taken) -> str:
    """A name that is not taken yet, with a number behind it where it is.

    Args:
        name: wanted.
        taken: names.

    Returns:
        The name.
    """
    number, result = 2, name
    while result in taken:
        result, number = f"{name} {number}", number + 1
    return result


def _code(tags: str) -> dict | None:
    """The code in the terminology entry of a segment's tags."""
    entry = re.search(r"TerminologyEntry:([^|]*)", tags)
    parts = entry.group(1).split("~") if entry else []
    if len(parts) < 4 or len(parts[2].split("^")) != 3 or not parts[2].split("^")[1]:
        return None

    def triple(text):
        return dict(zip(("scheme", "value", "meaning"), text.split("^")))

    code = triple(parts[2]) | {"category": triple(parts[1])}
    return code | {"modifier": triple(parts[3])} if parts[3].strip("^") else code


def _labels(image: sitk.Image, given) -> dict[str, Structure]:
    """Each value of a label image, with the names beside it."""
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{given}: is a colour or vector image without Slicer's segment names; give a label image.")
    names = {}
    if not isinstance(given, sitk.Image):
        beside = Path(given).with_name(image_io.stem(given) + ".json")
        if beside.is_file():
            try:
                table = json.loads(beside.read_text(encoding="utf-8-sig"))
                names = {int(value): str(n) for n, value in table.items() if int(value) == float(value)}
            except (OSError, ValueError, TypeError, AttributeError) as error:
                raise InputError(f'{beside}: is no table of names and values, such as {{"bladder": 1}}.') from error
            if len(names) < len(table):
                raise InputError(
                    f"{beside}: gives two names one value, or one a value that is no whole number; give each structure "
                    "its own."
                )
    values = [int(v) for v in np.unique(sitk.GetArrayViewFromImage(image)) if v]
    _require_so_few(len(values), str(given) if not isinstance(given, sitk.Image) else "the label image")
    titles = {v: names.get(v, f"label {v}") for v in values}
    return {
        titles[v]: Structure(titles[v], sitk.Equal(image, v), COLORS[i % len(COLORS)]) for i, v in enumerate(values)
    }


def as_segmentation(structures: list[Structure]) -> sitk.Image:
    """One image with Slicer's header: structures that do not overlap share a layer, others get one of their own.

    Args:
        structures: masks on one grid.

    Returns:
        uint8, with a component for each layer.

    Raises:
        ValueError: none or more than 255.
    """
    if not 0 < len(structures) <= MOST:
        raise ValueError(f"{len(structures)} structures: 1 to {MOST} fit into a segmentation")
    layers: list[np.ndarray] = []
    used: list[int] = []  # labels of each layer
    header = dict(HEADER)
    for number, s in enumerate(structures):
        mask = sitk.GetArrayViewFromImage(s.mask) > 0
        at = next((i for i, layer in enumerate(layers) if not (layer.astype(bool) & mask).any()), None)
        if at is None:
            at = len(layers)
            layers.append(np.zeros(mask.shape, np.uint8))
            used.append(0)
        used[at] += 1
        label = used[at]
        layers[at][mask] = label
        header |= segment_header(number, s.name, s.color, s.code, label, at, mask)
    grid = structures[0].mask
    images = [sitk.GetImageFromArray(layer) for layer in layers]
    image = sitk.Compose(images) if len(images) > 1 else images[0]
    image.CopyInformation(grid)
    for key, value in header.items():
        image.SetMetaData(key, value)
    return image


def of_labels(labels: sitk.Image, structures: list[dict]) -> sitk.Image:
    """A model's labels as a segmentation. Structures that hold one another lie in layers of their own; others exclude
    each other.

    Args:
        labels: uint8.
        structures: of a card.

    Returns:
        With the header of a .seg.nrrd.
    """
    if not any(s.get("holds") for s in structures):
        return with_segments(labels, structures)
    array = sitk.GetArrayViewFromImage(labels)
    masks = [geometry.like(mask_of(array, s), labels, np.uint8) for s in structures]
    return as_segmentation(
        [Structure(s["name"], mask, tuple(s["color"]), s.get("code")) for s, mask in zip(structures, masks)]
    )

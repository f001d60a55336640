"""The images of a model that sees several, such as two MR sequences: by name, in the order of its card, on one grid."""

from __future__ import annotations

import re
from pathlib import Path

import SimpleITK as sitk

from ..core import geometry, image_io
from ..core.errors import InputError


def of_card(card: dict) -> list[str]:
    """The names of what a model sees; one without a name where its card has no `input.channels`."""
    return list(card["input"].get("channels") or [""])


def in_order(given, card: dict) -> list:
    """What was given (images or paths), in the order of the card's channels.

    Args:
        given: an image or path, several of them in that order, texts NAME=FILE or {name: image} in any; or one image
            of four dimensions, or of several values a voxel, which holds them in that order.
        card: the model's.
    Raises:
        InputError: one is missing, unknown, named twice, or a file is named as another channel is.
    """
    names = of_card(card)
    if isinstance(given, dict):
        named = list(given.items())
    else:
        listed = list(given) if isinstance(given, (list, tuple)) else [given]
        if len(listed) == 1 and len(names) > 1:
            listed = _parts(listed[0])
        named = [_name_of(item, names) for item in listed]
    if len(names) == 1:
        if len(named) > 1:
            raise InputError(f"model '{card['name']}' sees one image, {len(named)} were given; give one.")
        return [named[0][1]]
    asked = f"model '{card['name']}' sees {len(names)} images, {', '.join(names)}"
    if len(named) != len(names):
        raise InputError(f"{asked}; {len(named)} given; give each as NAME=FILE.")
    told = [n for n, _ in named if n]
    for name in told:
        if name not in names or told.count(name) > 1:
            what = "none of them" if name not in names else "given twice"
            raise InputError(f"{asked}; '{name}' is {what}; give each as NAME=FILE.")
    if told and len(told) < len(names):
        raise InputError(f"{asked}; some were given by name and some without; give each as NAME=FILE.")
    if told:
        by_name = dict(named)
        return [by_name[n] for n in names]
    for own, (_, item) in zip(names, named):
        other = _called(item, names)
        if other and own not in other:
            raise InputError(f"{asked}; {item} stands for {own}, and is named as {other[0]}; give each as NAME=FILE.")
    return [item for _, item in named]


def require_one_grid(images: list[tuple[sitk.Image, str]]) -> None:
    """Raise `InputError` where an image does not lie on the grid of the first."""
    (first, name), *others = images
    for image, other in others:
        if not geometry.same_grid(first, image):
            raise InputError(
                f"{other} has {'×'.join(map(str, image.GetSize()))} voxels and does not lie as {name} "
                f"({'×'.join(map(str, first.GetSize()))}); register it to that, and resample it onto its grid."
            )


def _name_of(item, names: list[str]) -> tuple[str, object]:
    """(name, file) of a text NAME=FILE; ("", item) of anything else, a file whose own name has a "=" too."""
    if isinstance(item, str) and len(names) > 1 and not Path(item).exists():
        name, equals, file = item.partition("=")
        if equals:
            return name, file
    return "", item


def _called(item, names: list[str]) -> list[str]:
    """The channels that a file's name holds as a word."""
    if isinstance(item, sitk.Image):
        return []
    words = re.split(r"[^a-z0-9]+", image_io.stem(str(item)).lower())
    return [n for n in names if n.lower() in words]


def _parts(item) -> list:
    """The volumes that one image holds: along a fourth dimension, or as values of a voxel."""
    if not isinstance(item, sitk.Image):
        path = Path(str(item))
        if not path.is_file():
            return [item]
        image = image_io.read_stored(path, f"{path}: cannot be read as an image; it is damaged or no image file.")
    else:
        image = item
    if image.GetDimension() == 4:
        return [image[:, :, :, k] for k in range(image.GetSize()[3])]
    if image.GetNumberOfComponentsPerPixel() > 1:
        return [sitk.VectorIndexSelectionCast(image, k) for k in range(image.GetNumberOfComponentsPerPixel())]
    return [item]

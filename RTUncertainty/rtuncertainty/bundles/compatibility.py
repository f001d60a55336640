"""Does an input suit a model? What its card says against what the image is. Needs no torch."""

from __future__ import annotations

import SimpleITK as sitk

from ..core import geometry, image_io
from ..core.errors import InputError

# a CT has something darker in it
FAT_HU = -50.0


def require(card: dict, image: sitk.Image, name: str) -> None:
    """Raise `InputError` when the image cannot be what the model was trained for."""
    wanted = card["input"].get("modality", "MR")
    if wanted == "MR" and image_io.looks_like_ct(image):
        raise InputError(f"{name} is a CT (tagged so, or with air at -1000), but the model '{card['name']}' needs "
                         f"{card['input'].get('sequence', '')} MR; choose the MR.".replace("  ", " "))
    if wanted == "CT" and not image_io.looks_like_ct(image):
        raise InputError(f"{name} is no CT in HU, which the model '{card['name']}' needs; choose the CT.")
    minimum = card["input"].get("minimum_size") or [1, 1, 1]
    size = geometry.to_axial(image).GetSize()
    if any(n < m for n, m in zip(size, minimum)):
        raise InputError(f"{name} has {'×'.join(map(str, size))} voxels; the model '{card['name']}' needs at least "
                         f"{'×'.join(map(str, minimum))}.")


def require_reference(image: sitk.Image, name: str) -> None:
    """Raise `InputError` when an image cannot be a CT in HU: not tagged or looking like one, and without air and fat. It may lack either."""
    if not image_io.looks_like_ct(image) and (image.HasMetaDataKey("modality") or sitk.GetArrayViewFromImage(image).min() > FAT_HU):
        raise InputError(f"{name} is no CT in HU (it holds neither air nor fat), so nothing can be compared with it; give the patient's CT, in HU.")


def warnings(card: dict, image: sitk.Image) -> list[str]:
    """What does not match the card but need not stop a run: spacing and field of view, in words."""
    out = []
    image = geometry.to_axial(image)
    spacing, size = image.GetSpacing(), image.GetSize()
    limits = card["input"].get("spacing_range_mm")
    if limits:
        for axis, s, low, high in zip("xyz", spacing, *limits):
            if not low <= s <= high:
                out.append(f"The spacing along {axis} is {s:.2f} mm; the model was trained for {low:g} to {high:g} mm.")
    limits = card["input"].get("field_of_view_mm")
    if limits:
        for axis, s, n, low, high in zip("xyz", spacing, size, *limits):
            if not low <= s * n <= high:
                out.append(f"The field of view along {axis} is {s * n:.0f} mm; the model was trained for {low:g} to {high:g} mm.")
    return out

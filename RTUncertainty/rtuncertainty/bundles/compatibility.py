"""Does an input suit a model? What its card says against what the image is. Asked before a run, in Slicer too; needs
no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..core import geometry, image_io
from ..core.errors import InputError
from . import background

# a CT has something darker in it
FAT_HU = -50.0
# of a limit of the card: headers are rounded
TOLERANCE = 1e-3
AXES = ("left-right", "front-back", "head-foot")


@dataclass(frozen=True)
class Scan:
    """What a card is compared with.

    Attributes:
        array: voxels, any order of axes.
        spacing: mm, along `AXES`.
        size: voxels, along `AXES`.
        modality: of DICOM; empty when it is not known.
    """

    array: np.ndarray
    spacing: np.ndarray
    size: np.ndarray
    modality: str = ""

    @classmethod
    def of(cls, image: sitk.Image) -> Scan:
        """A scan of a 3-D image; the voxels are not copied."""
        spacing, size = geometry.in_patient_axes(
            np.array(image.GetDirection()).reshape(3, 3), image.GetSpacing(), image.GetSize()
        )
        return cls(sitk.GetArrayViewFromImage(image), spacing, size, image_io.modality(image))


def require(card: dict, scan: Scan, name: str) -> None:
    """Raises when a scan cannot be what the model was trained for. A card whose modality is null takes any.

    Args:
        card: of the model.
        scan: of the image.
        name: what messages call it.

    Raises:
        InputError: a CT for an MR model or the other way round, or too few voxels.
    """
    wanted, is_ct = card["input"].get("modality", "MR"), image_io.is_ct(scan.array, scan.modality)
    if wanted == "MR" and background.negated(scan.array) == "yes":
        raise InputError(
            f"{name} has a background that is brighter than the body, as the negative of an MR has; give the image "
            "with dark air."
        )
    if wanted == "MR" and is_ct:
        raise InputError(
            f"{name} is a CT ({'by its DICOM tag' if scan.modality else 'with air at -1000 HU'}), but the model "
            f"'{card['name']}' needs {card['input'].get('sequence', '')} MR; choose the MR.".replace("  ", " ")
        )
    if wanted == "CT" and not is_ct:
        why = f"it is {scan.modality} by its DICOM tag" if scan.modality else "there is no air near -1000 HU"
        raise InputError(f"{name} is no CT in HU ({why}), which the model '{card['name']}' needs; choose the CT.")
    minimum = card["input"].get("minimum_size") or [1, 1, 1]
    if any(n < m for n, m in zip(scan.size, minimum)):
        raise InputError(
            f"{name} has {'×'.join(map(str, scan.size))} voxels ({', '.join(AXES)}); the model '{card['name']}' needs "
            "at "
            f"least {'×'.join(map(str, minimum))}."
        )


def require_reference(image: sitk.Image, name: str) -> None:
    """Raises when an image cannot be a CT in HU: not tagged or looking like one, and without air and fat. It may lack
    either.

    Args:
        image: 3-D.
        name: what messages call it.

    Raises:
        InputError: it is no CT in HU.
    """
    if not image_io.looks_like_ct(image) and (
        image_io.modality(image) or sitk.GetArrayViewFromImage(image).min() > FAT_HU
    ):
        raise InputError(
            f"{name} is no CT in HU (it holds neither air nor fat), so nothing can be compared with it; give the "
            "patient's CT, in HU."
        )


def warnings(card: dict, scan: Scan) -> list[str]:
    """What does not match the card but need not stop a run: modality, spacing and field of view.

    Args:
        card: of the model.
        scan: of the image.

    Returns:
        Whole sentences; none where all matches.
    """
    wanted, out = card["input"], []
    asked = str(wanted.get("modality") or "").upper()
    if scan.modality and asked and scan.modality != asked:
        out.append(f"It is {scan.modality} by its DICOM tag; the model was trained on {asked}.")
    if asked == "MR" and background.negated(scan.array) == "perhaps":
        out.append("The border is among the brightest of it, as in the negative of an MR; air must be dark.")
    for key, words, values, digits in (
        ("spacing_range_mm", "voxel spacing", scan.spacing, ".4g"),
        ("field_of_view_mm", "field of view", scan.spacing * scan.size, ".0f"),
    ):
        for axis, value, low, high in zip(AXES, values, *(wanted.get(key) or ((), ()))):
            if not low * (1 - TOLERANCE) <= value <= high * (1 + TOLERANCE):
                out.append(
                    f"The {words} {axis} is {value:{digits}} mm; the model was trained for {low:g} to {high:g} mm."
                )
    return out

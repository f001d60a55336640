"""CT: the window in HU in which networks see it, and where the patient is in it."""

from __future__ import annotations

import re

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from . import geometry
from .errors import InputError

TISSUE_HU = -300.0
AIR_HU = -1000.0
# HU that the networks distinguish, and the HU of one unit
WINDOW = (-500.0, 1000.0)
UNIT = 500.0


def normalised(hu: np.ndarray, window=WINDOW) -> np.ndarray:
    """HU in the scale of the networks: from -500 to 1000 as -1 to 2.

    Args:
        hu: any shape.
        window: (lowest, highest), HU; another one keeps the unit.

    Returns:
        float32, the same shape.
    """
    return (np.clip(hu, *window) / UNIT).astype(np.float32)


def window_of(normalisation) -> tuple[float, float]:
    """The window of a card's `input.normalisation`, "HU from LOW to HIGH"; else the usual one."""
    found = re.fullmatch(r"HU from (-?\d+) to (-?\d+)", str(normalisation))
    return (float(found[1]), float(found[2])) if found else WINDOW


def body_mask(ct: sitk.Image, name: str = "the CT") -> sitk.Image:
    """Patient against air, couch and mask: the largest piece above -300 HU after an opening of 4 mm, filled slice by
    slice.

    Args:
        ct: HU.
        name: what messages call it.

    Returns:
        uint8 on the grid of the CT.

    Raises:
        InputError: there is no patient.
    """
    tissue = sitk.GetArrayViewFromImage(ct) > TISSUE_HU
    reach = [max(1, round(4.0 / s)) for s in ct.GetSpacing()[:2]][::-1]
    y, x = np.ogrid[-reach[0] : reach[0] + 1, -reach[1] : reach[1] + 1]
    disc = ((y / reach[0]) ** 2 + (x / reach[1]) ** 2 <= 1)[None]
    wide = [(0, 0), (reach[0],) * 2, (reach[1],) * 2]
    # at the border of the scan the patient goes on
    opened = ndimage.binary_opening(np.pad(tissue, wide, mode="edge"), disc)[
        :, reach[0] : -reach[0], reach[1] : -reach[1]
    ]
    pieces, count = ndimage.label(opened)
    if count == 0:
        raise InputError(f"{name}: no patient is in it (nothing wider than 8 mm above -300 HU); give a CT in HU.")
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    body = pieces == sizes.argmax()
    return geometry.like(np.stack([ndimage.binary_fill_holes(s) for s in body]), ct, np.uint8)

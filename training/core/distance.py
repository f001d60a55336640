"""Signed distance maps of masks."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def signed_distance(mask: np.ndarray, spacing) -> np.ndarray:
    """π(y): the signed distance of every voxel of a mask to its surface, negative inside (Hasan 2021, Sec. 2).

    Distances run from a voxel's centre to the nearest centre on the other side, less half a voxel's mean edge: the
    surface runs between them. Inside and outside are each divided by their largest distance, as in SASSNet.

    Args:
        mask: bool [z, y, x].
        spacing: (x, y, z), mm.

    Returns:
        float32 [z, y, x] in −1 … 1; 1 everywhere without a structure, −1 without anything else.
    """
    if not mask.any() or mask.all():
        return np.full(mask.shape, -1.0 if mask.any() else 1.0, np.float32)
    sampling, half = tuple(spacing)[::-1], 0.5 * float(np.mean(spacing))
    outside, inside = (np.maximum(ndimage.distance_transform_edt(side, sampling) - half, 0) for side in (~mask, mask))
    # a structure one voxel thick has no depth to divide by
    return (outside / max(outside.max(), half) - inside / max(inside.max(), half)).astype(np.float32)

"""Beam's eye views: what of a target a field sees, and the leaves and jaws around it."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from rtuncertainty.core.errors import InputError

# mm: edge of a pixel of the fluence map, of the largest field at the isocentre, and from source to isocentre
PIXEL_MM, FIELD_MM, SOURCE_MM = 1.0, 400, 1000.0


def projected(points: np.ndarray, isocentre: np.ndarray, gantry: float, source_mm: float = SOURCE_MM) -> np.ndarray:
    """Points in a beam's eye view, at the isocentre's plane.

    The beam runs along (−sin, cos) in (x, y) at the gantry angle, as pydosert turns it; across is (cos, sin).

    Args:
        points: [n, 3], LPS, mm.
        isocentre: LPS, mm.
        gantry: degrees.
        source_mm: distance of the source from the isocentre.

    Returns:
        [n, 2] (across the gantry's axis, along it), mm.
    """
    a = math.radians(gantry)
    x, y, z = (np.asarray(points, float) - isocentre).T
    scale = source_mm / (source_mm + y * math.cos(a) - x * math.sin(a))
    return np.stack([(x * math.cos(a) + y * math.sin(a)) * scale, z * scale], 1)


def shaped(
    points: np.ndarray, isocentre, gantry: float, voxel_mm: float, margin_mm: float, leaf_widths
) -> tuple[np.ndarray, np.ndarray]:
    """Leaves and jaws around a target and a margin.

    Each pair of leaves opens to the widest place of the target and margin in its band; pairs that the target does not
    reach are shut.

    Args:
        points: middles of the target's voxels, [n, 3], LPS, mm.
        isocentre: LPS, mm.
        gantry: degrees.
        voxel_mm: edge of a voxel.
        margin_mm: around the target.
        leaf_widths: of the pairs, mm.

    Returns:
        (leaves [n, 2], across; jaws [2], along), mm.

    Raises:
        InputError: a target beyond the largest field.
    """
    places = projected(points, isocentre, gantry)
    half = FIELD_MM / 2
    if np.abs(places).max() + margin_mm > half:
        raise InputError(
            f"the target and its margin reach {np.abs(places).max() + margin_mm:.0f} mm from the isocentre at gantry "
            f"angle {gantry:g}, "
            f"beyond the largest field ({half:g} mm); choose an isocentre in the middle of the target."
        )
    count = int(FIELD_MM / PIXEL_MM)
    seen = np.zeros((count, count), bool)
    column, row = np.floor((places + half) / PIXEL_MM).astype(int).T.clip(0, count - 1)
    seen[row, column] = True
    # a voxel's middle stands for all of it
    opened = ndimage.distance_transform_edt(~seen) * PIXEL_MM <= margin_mm + voxel_mm / 2
    edges = np.concatenate([[0.0], np.cumsum(leaf_widths)]) - np.sum(leaf_widths) / 2
    leaves = np.zeros((len(leaf_widths), 2))
    for number, (low, high) in enumerate(zip(edges[:-1], edges[1:])):
        band = opened[max(0, int(np.floor((low + half) / PIXEL_MM))) : max(0, int(np.ceil((high + half) / PIXEL_MM)))]
        columns = np.flatnonzero(band.any(0))
        if len(columns):
            leaves[number] = columns[0] * PIXEL_MM - half, (columns[-1] + 1) * PIXEL_MM - half
    rows = np.flatnonzero(opened.any(1))
    return leaves, np.array([rows[0] * PIXEL_MM - half, (rows[-1] + 1) * PIXEL_MM - half])

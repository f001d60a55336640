"""From closed polygons to voxels: those whose centre lies inside, and slices between two that are known."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from . import combine

# slices by which a contour may miss a slice and still lie on it
ON_SLICE = 0.1


def rasterised(groups, shape) -> np.ndarray:
    """The voxels whose centres lie inside of groups of polygons, see `combine.grouped`.

    A line there and back, as in a keyhole contour, leaves nothing. Of two polygons with a common edge each centre on it
    belongs to one. Exact for vertices anywhere between centres.

    Args:
        groups: of polygons [n, 2] (column, row; voxels).
        shape: (rows, columns).

    Returns:
        bool [row, column].
    """
    height, width = shape
    row, x, _ = combine.crossings(groups, np.arange(height, dtype=float))
    # everything from a crossing on changes sides
    column = np.clip(np.ceil(x), 0, width).astype(int)
    flips = np.bincount(row * (width + 1) + column, minlength=height * (width + 1)).reshape(height, width + 1)
    return (np.cumsum(flips, 1)[:, :-1] & 1).astype(bool)


def between(first: np.ndarray, second: np.ndarray, weight: float, spacing) -> np.ndarray:
    """The shape on the way from one slice to another, by their signed distances (Raya and Udupa 1990, IEEE Trans Med
    Imaging 9:32).

    Args:
        first: bool [row, column].
        second: bool [row, column].
        weight: of the second, 0 to 1.
        spacing: of rows and columns, mm.

    Returns:
        bool [row, column].
    """
    rows, columns = (np.flatnonzero((first | second).any(axis)) for axis in (1, 0))
    if not rows.size:
        return np.zeros_like(first)
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    out = np.zeros_like(first)
    out[box] = (1 - weight) * _distance(first[box], spacing) + weight * _distance(second[box], spacing) > 0
    return out


def _distance(mask: np.ndarray, spacing) -> np.ndarray:
    """Distance to the outline, mm: positive inside, and beyond the array is outside."""
    padded = np.pad(mask, 1)
    inside, outside = (ndimage.distance_transform_edt(m, sampling=spacing)[1:-1, 1:-1] for m in (padded, ~padded))
    return inside - outside


def stacked(planes: dict[float, np.ndarray], count: int, spacing) -> tuple[np.ndarray, int, list[float]]:
    """A mask of shapes in planes.

    A slice takes the shape that lies on it. Between two shapes further apart than the slices it is interpolated, where
    they overlap and the distance is about the structure's usual one (to 1.5 times it); a larger gap stays open.
    Otherwise the nearest shape within half a slice counts. Beyond the first and the last nothing is added.

    Args:
        planes: {position in slices: bool [row, column]}.
        count: of slices.
        spacing: of rows and columns, mm.

    Returns:
        (mask [slice, row, column], slices filled between contours, gaps left open, in slices).
    """
    at = np.array(sorted(planes))
    steps = np.diff(at)
    limit = max(1.5 * combine.levels(at)[1], 1.0) if steps.size else 0.0
    shape = next(iter(planes.values())).shape
    mask, filled = np.zeros((count, *shape), np.uint8), 0
    for k in range(max(0, int(np.floor(at[0] - 0.5))), min(count, int(np.ceil(at[-1] + 0.5)) + 1)):
        nearest = at[np.abs(at - k).argmin()]
        below, above = at[at <= k], at[at > k]
        if abs(nearest - k) > ON_SLICE and below.size and above.size and above[0] - below[-1] <= limit:
            low, high = below[-1], above[0]
            if (planes[low] & planes[high]).any():
                mask[k] = between(planes[low], planes[high], (k - low) / (high - low), spacing)
                filled += abs(nearest - k) > 0.5
                continue
        # midway between two slices a contour belongs to one of them
        if -0.5 + 1e-6 < nearest - k <= 0.5 + 1e-6:
            mask[k] = planes[nearest]
    return mask, filled, [float(s) for s in steps if s > max(limit, 1.5)]

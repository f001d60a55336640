"""From the voxels of a slice to closed polygons: marching squares at one half, holes joined to their outline by a
channel.

Polygons run midway between voxel centres inside and outside, so that a reader that asks which centres lie inside gets
back every voxel, of thin and small structures too. What is cut off the corners is half a voxel's area per outline.

Holes: DICOM's CLOSED_PLANAR contours have none. A hole is reached from its outline by a channel of no width, there and
back (the "keyhole" of PS3.3, C.8.8.6.3), which readers that combine polygons by even-odd, by winding or by union all
understand; a second contour inside the first they do not. Channels run at a quarter of a voxel off the centres, where
no centre can lie on them.
"""

from __future__ import annotations

import numpy as np

# corners of a cell of four voxel centres: 1 upper left, 2 upper right, 4 lower right, 8 lower left; its edges, as twice
# their midpoint
_TOP, _RIGHT, _BOTTOM, _LEFT = (1, 0), (2, 1), (1, 2), (0, 1)
# which corners are inside -> pieces of outline, the inside on their right; voxels that touch by a corner belong
# together
_PIECES = {
    1: [(_TOP, _LEFT)],
    2: [(_RIGHT, _TOP)],
    4: [(_BOTTOM, _RIGHT)],
    8: [(_LEFT, _BOTTOM)],
    3: [(_RIGHT, _LEFT)],
    6: [(_BOTTOM, _TOP)],
    12: [(_LEFT, _RIGHT)],
    9: [(_TOP, _BOTTOM)],
    7: [(_BOTTOM, _LEFT)],
    11: [(_RIGHT, _BOTTOM)],
    13: [(_TOP, _RIGHT)],
    14: [(_LEFT, _TOP)],
    5: [(_TOP, _RIGHT), (_BOTTOM, _LEFT)],
    10: [(_LEFT, _TOP), (_RIGHT, _BOTTOM)],
}


def polygons(mask: np.ndarray) -> list[np.ndarray]:
    """The polygons around the voxels of a slice: one for every piece that hangs together, its holes joined to it.

    Args:
        mask: bool [row, column].

    Returns:
        [n, 2] each (column, row; in voxels, centres at whole numbers); in none does the last point repeat the first.
    """
    outer, holes = [], []
    for loop in _loops(mask):
        (outer if _area(loop) > 0 else holes).append(loop)
    # from the right: the channel of a hole, to its right, then ends at an outline or at a hole that has been joined
    for hole in sorted(holes, key=lambda h: -h[:, 0].max()):
        _join(hole, outer)
    return outer


def _loops(mask: np.ndarray) -> list[np.ndarray]:
    """All closed lines between inside and outside: outlines clockwise on the screen, holes the other way."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return []
    top, left = rows[0], columns[0]
    inside = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1).astype(np.uint8)
    kind = inside[:-1, :-1] + 2 * inside[:-1, 1:] + 4 * inside[1:, 1:] + 8 * inside[1:, :-1]
    width = 2 * inside.shape[1] + 2  # points are numbered by twice their row and column
    following: dict[int, int] = {}
    for corners, pieces in _PIECES.items():
        row, column = np.nonzero(kind == corners)
        for start, end in pieces:
            first, last = ((2 * row + y) * width + 2 * column + x for x, y in (start, end))
            following.update(zip(first.tolist(), last.tolist()))
    found = []
    while following:
        point, loop = next(iter(following)), []
        while point in following:
            loop.append(point)
            point = following.pop(point)
        at = np.array(loop)
        # the pad is one voxel
        found.append(_straightened(np.stack([at % width / 2 - 1 + left, at // width / 2 - 1 + top], 1)))
    return found


def _straightened(loop: np.ndarray) -> np.ndarray:
    """Without the points at which the line goes straight on."""
    before, after = loop - np.roll(loop, 1, 0), np.roll(loop, -1, 0) - loop
    return loop[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]


def _area(loop: np.ndarray) -> float:
    x, y = loop.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _join(hole: np.ndarray, outer: list[np.ndarray]) -> None:
    """Join a hole to the polygon on its right, in place."""
    rightmost = hole[hole[:, 0].argmax()]
    level = rightmost[1] + 0.25
    x, edge = _crossings(hole, level)
    start, from_edge = x.max(), edge[x.argmax()]
    end, to, to_edge = np.inf, -1, -1
    for number, polygon in enumerate(outer):
        x, edge = _crossings(polygon, level)
        right = np.where(x > start, x, np.inf)
        if right.size and right.min() < end:
            end, to, to_edge = right.min(), number, edge[right.argmin()]
    here, there = [[end, level]], [[start, level]]
    polygon, ring = outer[to], np.roll(hole, -(from_edge + 1), 0)
    outer[to] = np.concatenate([polygon[: to_edge + 1], here, there, ring, there, here, polygon[to_edge + 1 :]])


def _crossings(polygon: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """(columns, edges) at which a polygon crosses the row `level`; edge i goes from point i to the next."""
    after = np.roll(polygon, -1, 0)
    edge = np.flatnonzero((polygon[:, 1] < level) != (after[:, 1] < level))
    (x0, y0), (x1, y1) = polygon[edge].T, after[edge].T
    return x0 + (level - y0) * (x1 - x0) / (y1 - y0), edge

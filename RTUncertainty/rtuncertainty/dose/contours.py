"""Structures given as closed planar contours, as in an RTSTRUCT: areas and volumes without voxels in between.

Even-odd rule in every plane: what lies inside of an odd number of its contours is inside, so that a contour in a
contour is a hole (the XOR of CLOSEDPLANAR_XOR; keyhole contours work as well). A plane stands for the slab that reaches
half-way to its neighbours; a gap of more than 1.5 of the usual distances stays a gap. How far a structure goes on
beyond its end planes no contour tells, and
systems differ in it: here by default half of a distance, which makes the volume that of Cavalieri's estimator (without
bias) and that of a mask with a slice for each plane. Eclipse's volumes are those of a quarter (`ends=0.5`).
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..core.errors import InputError
from .structure_region import MaskRegion, overlap

# scan lines run through the middle of strips of at most this width in mm, and at least this many per voxel
STRIP_MM, LEAST_STRIPS = 0.1, 4
# two points of one plane differ by less than this along the normal, mm
FLAT_MM = 0.05
GAP = 1.5


class ContourRegion:
    """A structure of closed polygons.

    Args:
        polygons: arrays [n, 3] of points in LPS (mm), first point repeated or not; fewer than three points are left
        out.
        thickness_mm: of the slab of a structure with a single plane.
        ends: how far the end slabs reach beyond their planes, in halves of the planes' distance: 1 as far as inwards, 0
        not at all.

    All polygons lie in parallel planes, which are those of the patient's axes (axial, sagittal or coronal) or oblique.
    Raises `InputError` for polygons that are not planar and parallel, and a single plane without `thickness_mm`.
    """

    reason = "has no closed contour with an area"

    def __init__(self, polygons, thickness_mm: float | None = None, name: str = "a structure", ends: float = 1.0):
        polygons = [np.asarray(p, np.float64) for p in polygons]
        polygons = [p for p in polygons if len(p) >= 3]
        self.empty = not polygons
        self.volume_ml = 0.0
        if self.empty:
            return
        self.axes = _axes(polygons)
        local = [p @ self.axes.T for p in polygons]
        heights = np.array([p[:, 2].mean() for p in local])
        if any(np.ptp(p[:, 2]) > FLAT_MM for p in local):
            raise InputError(
                f"the contours of {name} do not lie in parallel planes; export them as closed planar contours."
            )
        levels = _levels(heights)
        lower, upper = _slabs(levels, thickness_mm, name, ends)
        nearest = np.abs(heights[:, None] - levels[None]).argmin(1)
        self.planes = [
            (a, b, _edges([p[:, :2] for p, k in zip(local, nearest) if k == i]))
            for i, (a, b) in enumerate(zip(lower, upper))
        ]
        self.volume_ml = sum((b - a) * _area(edges) for a, b, edges in self.planes) / 1000
        self.empty = self.volume_ml == 0

    def box(self) -> np.ndarray:
        """The corners [8, 3] of the structure's bounding box, LPS in mm."""
        ends = np.concatenate([e.reshape(-1, 2) for _, _, e in self.planes])
        low = [*ends.min(0), min(a for a, _, _ in self.planes)]
        high = [*ends.max(0), max(b for _, b, _ in self.planes)]
        corners = np.array([[b if last else a for a, b, last in zip(low, high, bits)] for bits in np.ndindex(2, 2, 2)])
        return corners @ self.axes

    def fraction(self, grid: sitk.Image) -> np.ndarray:
        """The filled fraction of every voxel of a grid; on one oblique to the planes by way of a fine mask in the
        planes.

        Args:
            grid: any 3-D image.

        Returns:
            float64 [z, y, x], 0 to 1.
        """
        if self.empty:
            return np.zeros(grid.GetSize()[::-1])
        turn = self.axes @ np.array(grid.GetDirection()).reshape(3, 3)
        if not np.allclose(turn, np.eye(3), atol=1e-4):
            return MaskRegion(self._as_mask(min(grid.GetSpacing()))).fraction(grid)
        origin, spacing = self.axes @ np.array(grid.GetOrigin()), np.array(grid.GetSpacing())
        nx, ny, nz = grid.GetSize()
        inside = np.stack([_coverage((e - origin[:2]) / spacing[:2], nx, ny, spacing[1]) for _, _, e in self.planes])
        lower, upper = (np.array([p[i] for p in self.planes]) for i in (0, 1))
        through = overlap((lower - origin[2]) / spacing[2], (upper - origin[2]) / spacing[2], nz)
        return np.clip(np.tensordot(through, inside, (1, 0)), 0.0, 1.0)

    def _as_mask(self, spacing: float) -> sitk.Image:
        """The structure on a grid of its own, in its planes, with voxels of less than half of `spacing`."""
        corners = self.box() @ self.axes.T
        low, high = corners.min(0), corners.max(0)
        step = np.minimum(spacing / 2, (high - low) / 2)
        size = np.ceil((high - low) / step).astype(int) + 1
        grid = sitk.Image([int(n) for n in size], sitk.sitkUInt8)
        grid.SetSpacing([float(s) for s in step])
        grid.SetDirection([float(v) for v in self.axes.T.ravel()])
        grid.SetOrigin([float(v) for v in low @ self.axes])
        mask = sitk.GetImageFromArray(self.fraction(grid))
        mask.CopyInformation(grid)
        return mask


def _axes(polygons) -> np.ndarray:
    """Rows: two directions in the planes and their normal; LPS axes where the planes are axial."""
    widest = max(polygons, key=lambda p: np.linalg.norm(np.ptp(p, axis=0)))
    normal = np.linalg.svd(widest - widest.mean(0))[2][2]
    if np.abs(normal).max() > 1 - 1e-6:
        normal = np.round(normal)
    normal = normal * np.sign(normal[np.abs(normal).argmax()])
    along = np.eye(3)[0] if np.abs(normal).argmax() != 0 else np.eye(3)[1]
    first = along - normal * (along @ normal)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(normal, first), normal])


def _levels(heights) -> np.ndarray:
    """The heights of the planes: those that differ by less than twice the flatness are one."""
    ordered = np.sort(heights)
    groups = np.split(ordered, np.flatnonzero(np.diff(ordered) > 2 * FLAT_MM) + 1)
    return np.array([g.mean() for g in groups])


def _slabs(levels, thickness, name, ends):
    """(lower, upper) faces of the slab of every plane."""
    if len(levels) == 1:
        if thickness is None:
            raise InputError(f"{name} has contours in one plane only, and nothing tells how thick that is.")
        return levels - thickness / 2, levels + thickness / 2
    steps = np.diff(levels)
    usual = float(np.median(steps))
    half = np.where(steps > GAP * usual, usual / 2, steps / 2)
    return levels - np.concatenate([ends * half[:1], half]), levels + np.concatenate([half, ends * half[-1:]])


def _edges(polygons) -> np.ndarray:
    """[n, 2, 2]: start and end of every side of closed polygons in one plane."""
    return np.concatenate([np.stack([p, np.roll(p, -1, 0)], 1) for p in polygons])


def _crossings(edges, lines):
    """(line, x, sign) of every crossing of the sides with the lines y = `lines`; by line and x, signs −1, +1 in
    turn.
    """
    (x0, y0), (x1, y1) = edges[:, 0].T, edges[:, 1].T
    # half-open, so that a line through a vertex is crossed once, or not at all at a tip; lines rise
    start, end = (np.searchsorted(lines, np.sort([y0, y1], 0)[i], "left") for i in (0, 1))
    side = np.repeat(np.arange(len(y0)), end - start)
    line = np.arange(len(side)) - np.repeat(np.cumsum(end - start) - (end - start), end - start) + start[side]
    x = x0[side] + (lines[line] - y0[side]) * (x1[side] - x0[side]) / (y1[side] - y0[side])
    order = np.lexsort((x, line))
    line, x = line[order], x[order]
    rank = np.arange(len(line)) - np.searchsorted(line, line)
    return line, x, np.where(rank % 2 == 0, -1.0, 1.0)


def _area(edges) -> float:
    """The area in mm² by strips."""
    low, high = edges[..., 1].min(), edges[..., 1].max()
    strips = max(1, int(np.ceil((high - low) / STRIP_MM)))
    width = (high - low) / strips
    _, x, sign = _crossings(edges, low + (np.arange(strips) + 0.5) * width)
    return float((x * sign).sum() * width)


def _coverage(edges, nx: int, ny: int, row_mm: float) -> np.ndarray:
    """[ny, nx]: the covered area fraction of every pixel, of polygon sides in pixels. Exact along x, strips along y."""
    strips = max(LEAST_STRIPS, int(np.ceil(row_mm / STRIP_MM)))
    lines = (np.arange(ny * strips) + 0.5) / strips - 0.5
    line, x, sign = _crossings(edges, lines)
    # a crossing at x adds `sign` times the length of each pixel that lies to its left: its own pixel in part, earlier
    # ones whole
    x = np.clip(x + 0.5, 0.0, nx)
    pixel = np.minimum(x.astype(int), nx - 1)
    row = (line // strips) * nx
    part = np.bincount(row + pixel, sign * (x - pixel), nx * ny).reshape(ny, nx)
    whole = np.bincount(row + pixel, sign, nx * ny).reshape(ny, nx)
    left = np.cumsum(whole[:, ::-1], 1)[:, ::-1] - whole
    return np.clip((part + left) / strips, 0.0, 1.0)

"""Structures given as closed planar contours, as in an RTSTRUCT: areas and volumes without voxels in between.

What several contours in a plane mean together says `dicom.combine`. A plane stands for the slab that reaches half-way
to its neighbours; a gap of more than 1.5 of the usual distances stays a gap. How far a structure goes on beyond its end
planes no contour tells, and systems differ in it: here by default half of a distance, which makes the volume that of
Cavalieri's estimator (without bias) and that of a mask with a slice for each plane. Eclipse's volumes are those of a
quarter (`ends=0.5`).
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..core.errors import InputError
from ..dicom import combine
from .structure_region import MaskRegion, overlap

# scan lines run through the middle of strips of at most this width in mm, and at least this many per voxel
STRIP_MM, LEAST_STRIPS = 0.1, 4
# scan lines across a structure, however small, and the most per voxel
FINEST, MOST_STRIPS = 40, 200
# by how much the points of one contour may differ along the normal, mm and part of the planes' usual distance:
# coordinates of oblique planes are rounded
FLAT_MM, FLAT = (0.05, 0.5), 0.3
GAP = 1.5


class ContourRegion:
    """A structure of closed polygons in parallel planes, which are those of the patient's axes (axial, sagittal or
    coronal) or oblique. `notes` are lines of text on what was decided.

    Args:
        polygons: arrays [n, 3] of points in LPS (mm), first point repeated or not; fewer than three points are left
            out.
        thickness_mm: of the slab of a structure with a single plane.
        name: what messages call it.
        ends: how far the end slabs reach beyond their planes, in halves of the planes' distance: 1 as far as inwards, 0
            not at all.
        xor: the contours are CLOSEDPLANAR_XOR.

    Raises:
        InputError: polygons that are not planar and parallel, or a single plane without `thickness_mm`.
    """

    reason = "has no closed contour with an area"

    def __init__(
        self,
        polygons,
        thickness_mm: float | None = None,
        name: str = "a structure",
        ends: float = 1.0,
        xor: bool = False,
    ):
        self.notes: list[str] = []
        polygons = [np.asarray(p, np.float64) for p in polygons]
        polygons = [p for p in polygons if len(p) >= 3]
        self.empty = not polygons
        self.volume_ml = 0.0
        if self.empty:
            return
        self.axes = _axes(polygons)
        local = [p @ self.axes.T for p in polygons]
        heights = np.array([p[:, 2].mean() for p in local])
        levels, usual = combine.levels(heights)
        if any(np.ptp(p[:, 2]) > np.clip(FLAT * (usual or 1.0), *FLAT_MM) for p in local):
            raise InputError(
                f"the contours of {name} do not lie in parallel planes; export them as closed planar contours."
            )
        lower, upper = _slabs(levels, usual, thickness_mm, name, ends)
        nearest = np.abs(heights[:, None] - levels[None]).argmin(1)
        self.planes: list[tuple] = []
        told: dict[str, int] = {}
        for i, (a, b) in enumerate(zip(lower, upper)):
            groups, kinds = combine.grouped([p[:, :2] for p, k in zip(local, nearest) if k == i], xor=xor)
            self.planes.append((a, b, groups))
            for kind in sorted(kinds):
                told[kind] = told.get(kind, 0) + 1
        self.notes += combine.notes(name, told)
        steps = np.diff(levels)
        gaps = steps[steps > GAP * usual] if usual else steps
        if len(gaps):
            self.notes.append(
                f"{name}: has no contours in {len(gaps)} {'gap' if len(gaps) == 1 else 'gaps'} of up to "
                f"{max(gaps):.3g} mm, left open."
            )
        self.volume_ml = sum((b - a) * combine.area(g, width=STRIP_MM) for a, b, g in self.planes) / 1000
        self.empty = self.volume_ml == 0

    def box(self) -> np.ndarray:
        """The corners [8, 3] of the structure's bounding box, LPS in mm."""
        ends = np.concatenate([p for _, _, groups in self.planes for group in groups for p in group])
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
        inside = np.stack(
            [
                _coverage([[(p - origin[:2]) / spacing[:2] for p in g] for g in groups], nx, ny, spacing[1])
                for _, _, groups in self.planes
            ]
        )
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
    # of all together: the coordinates of each are rounded
    spread = sum((p - p.mean(0)).T @ (p - p.mean(0)) for p in polygons)
    normal = np.linalg.eigh(spread)[1][:, 0]
    if np.abs(normal).max() > 1 - 1e-6:
        normal = np.round(normal)
    normal = normal * np.sign(normal[np.abs(normal).argmax()])
    along = np.eye(3)[0] if np.abs(normal).argmax() != 0 else np.eye(3)[1]
    first = along - normal * (along @ normal)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(normal, first), normal])


def _slabs(levels, usual, thickness, name, ends):
    """(lower, upper) faces of the slab of every plane."""
    if len(levels) == 1:
        if thickness is None:
            raise InputError(
                f"{name} has contours in one plane only, and nothing tells how thick that is; give the scan that it "
                "was drawn on with --scan."
            )
        return levels - thickness / 2, levels + thickness / 2
    steps = np.diff(levels)
    half = np.where(steps > GAP * usual, usual / 2, steps / 2)
    # planes drawn close together at an end do not make it thinner
    first, last = (ends * np.maximum(half[i], usual / 2) for i in (0, -1))
    return levels - np.insert(half, 0, first), levels + np.append(half, last)


def _coverage(groups, nx: int, ny: int, row_mm: float) -> np.ndarray:
    """[ny, nx]: the covered area fraction of every pixel, of polygons in pixels. Exact along x, strips along y."""
    height = max(np.ptp([v for g in groups for p in g for v in (p[:, 1].min(), p[:, 1].max())]), 1e-6)
    finest = min(MOST_STRIPS, FINEST / height)
    strips = int(np.ceil(max(LEAST_STRIPS, row_mm / STRIP_MM, finest)))
    lines = (np.arange(ny * strips) + 0.5) / strips - 0.5
    line, x, sign = combine.crossings(groups, lines)
    # a crossing at x adds `sign` times the length of each pixel that lies to its left: its own pixel in part, earlier
    # ones whole
    x = np.clip(x + 0.5, 0.0, nx)
    pixel = np.minimum(x.astype(int), nx - 1)
    row = (line // strips) * nx
    part = np.bincount(row + pixel, sign * (x - pixel), nx * ny).reshape(ny, nx)
    whole = np.bincount(row + pixel, sign, nx * ny).reshape(ny, nx)
    left = np.cumsum(whole[:, ::-1], 1)[:, ::-1] - whole
    return np.clip((part + left) / strips, 0.0, 1.0)

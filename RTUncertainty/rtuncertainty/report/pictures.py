"""Pictures for the report: slices to RGB with a window or colour table, outlines, and PNG files as data addresses."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from . import colormaps

CT_WINDOW = (-250.0, 500.0)
Z_RANGE = (-4.0, 4.0)


@dataclass
class Scale:
    """How values become colours: a table of `colormaps`, its ends, and the unit written at the legend."""

    table: str
    low: float
    high: float
    unit: str


def png(rgb: np.ndarray) -> bytes:
    """A PNG file of a uint8 array (rows, columns, 3)."""
    height, width, _ = rgb.shape
    # the "up" filter (2): each row minus the one above; smooth pictures then compress well
    rows = np.concatenate([rgb[:1], rgb[1:] - rgb[:-1]]).reshape(height, width * 3)
    raw = np.concatenate([np.full((height, 1), 2, np.uint8), rows], axis=1).tobytes()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 5)) + chunk(b"IEND", b"")


def data_address(rgb: np.ndarray) -> str:
    """The picture as a data: address for an <img>."""
    return "data:image/png;base64," + base64.b64encode(png(rgb)).decode("ascii")


def nice_limit(value: float) -> float:
    """The next round number at or above `value`: 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8 times a power of ten."""
    if not value > 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if m * power >= value * (1 - 1e-9))


class View:
    """A way to cut a volume and to draw it with square pixels: one plane, the box of interest, the magnification.

    plane: "axial", "coronal" or "sagittal". box: slices (z, y, x) of the voxels to show. spacing: (x, y, z) in mm.
    Axial pictures have the patient's right at the left, coronal ones too, sagittal ones the front at the left; the head
    is at the top.
    """

    AXES = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}
    LETTERS = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}  # left, right, top, bottom

    def __init__(self, plane: str, box, spacing, longest: int = 420):
        """`longest`: pixels of the longer edge."""
        self.plane, self.box = plane, box
        self.across, self.rows, self.columns = self.AXES[plane]
        steps = tuple(reversed([float(s) for s in spacing]))
        self.millimetres = tuple(
            (box[axis].stop - box[axis].start) * steps[axis] for axis in (self.rows, self.columns))
        per_mm = longest / max(self.millimetres)
        self.shape = tuple(max(1, round(m * per_mm)) for m in self.millimetres)

    def pixel(self, voxel) -> tuple[float, float]:
        """Row and column in the picture of a voxel (z, y, x)."""
        row, column = ((voxel[axis] + 0.5 - self.box[axis].start) / (self.box[axis].stop - self.box[axis].start) * size
                       for axis, size in zip((self.rows, self.columns), self.shape))
        return (row if self.plane == "axial" else self.shape[0] - row), column

    def plane_of(self, volume, index: int) -> np.ndarray:
        """The voxels of the slice `index` inside the box, the first row at the top of the picture."""
        where = list(self.box)
        where[self.across] = index
        plane = np.asarray(volume[tuple(where)], np.float32)
        return plane if self.plane == "axial" else plane[::-1]

    def cut(self, volume: np.ndarray, index: int, order: int = 1) -> np.ndarray:
        """The slice `index` of `volume` inside the box, interpolated to the picture's pixels, float32."""
        return _resized(self.plane_of(volume, index), self.shape, order)

    def outline(self, mask, index: int, width: float = 2.0, level: float = 0.5) -> np.ndarray:
        """Where the border of a mask (or of another volume's values above `level`) runs in the picture, boolean, about
        `width` pixels thick. `mask` is an array or a `report_structures.Part`."""
        out = np.zeros(self.shape, bool)
        plane = self.plane_of(mask, index)
        window = [slice(0, n) for n in self.shape]
        for axis in (0, 1):
            # only the part of the picture in which there is something: distances are dear
            found = np.flatnonzero((plane > level).any(1 - axis))
            if not found.size:
                return out
            per_voxel = self.shape[axis] / plane.shape[axis]
            reach = per_voxel + width + 2
            window[axis] = slice(max(0, int(found[0] * per_voxel - reach)), min(self.shape[axis], int((found[-1] + 1) * per_voxel + reach) + 1))
        inside = _resized(plane, self.shape, 1, window) > level
        if inside.any() and not inside.all():
            distance = np.where(inside, ndimage.distance_transform_edt(inside), -ndimage.distance_transform_edt(~inside) + 1)
            out[tuple(window)] = np.abs(distance - 0.5) <= width / 2
        return out


def _resized(plane: np.ndarray, shape, order: int, window=(slice(None), slice(None))) -> np.ndarray:
    """`plane` on `shape` pixels over the same extent (outer faces coincide); of them only those in `window`."""
    at = [np.clip((np.arange(n)[w] + 0.5) * m / n - 0.5, 0, m - 1) for n, m, w in zip(shape, plane.shape, window)]
    if order == 1:
        return _linear(plane, *at)
    return ndimage.map_coordinates(plane, np.meshgrid(*at, indexing="ij"), order=order, mode="nearest")


def _linear(plane: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """`plane` between its voxels at rows and columns, first along one axis and then along the other."""
    for axis, at in enumerate((rows, columns)):
        low = np.minimum(np.floor(at).astype(int), plane.shape[axis] - 1)
        share = (at - low).astype(np.float32)
        share = share[:, None] if axis == 0 else share[None]
        plane = np.take(plane, low, axis) * (1 - share) + np.take(plane, np.minimum(low + 1, plane.shape[axis] - 1), axis) * share
    return plane


def box_of(body: np.ndarray, spacing, margin_mm: float = 8.0):
    """The slices (z, y, x) of the body with a margin in the plane; all of them when there is no body."""
    box = []
    for axis, step in enumerate(reversed([float(s) for s in spacing])):
        present = np.flatnonzero(body.any(tuple(a for a in range(3) if a != axis)))
        margin = int(round(margin_mm / step)) if axis else 0
        low, high = (present[0], present[-1] + 1) if len(present) else (0, body.shape[axis])
        box.append(slice(int(max(0, low - margin)), int(min(body.shape[axis], high + margin))))
    return tuple(box)


def coloured(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Values to RGB, uint8."""
    return colormaps.apply(values, scale.table, scale.low, scale.high)


def laid_over(grey: np.ndarray, values: np.ndarray, scale: Scale, shown: np.ndarray) -> np.ndarray:
    """RGB with the colours of `values` in place of it where `shown`: opaque, so that they are those of the legend."""
    return np.where(shown[..., None], coloured(values, scale), grey)


def with_lines(rgb: np.ndarray, lines: list[tuple[np.ndarray, tuple]], rim: list[np.ndarray] = ()) -> np.ndarray:
    """RGB with (pixels, colour) drawn one after the other, over pixels `rim` that are darkened first."""
    rgb = rgb.copy()
    for pixels in rim:
        rgb[pixels] = (0.45 * rgb[pixels]).astype(np.uint8)
    for pixels, colour in lines:
        rgb[pixels] = np.array(colour, np.uint8)
    return rgb


def with_cross(rgb: np.ndarray, row: float, column: float) -> np.ndarray:
    """RGB with four short ticks at the edges that point at a pixel, so that nothing near it is covered."""
    rgb = rgb.copy()
    height, width, _ = rgb.shape
    row, column, size = int(np.clip(row, 1, height - 2)), int(np.clip(column, 1, width - 2)), max(8, min(height, width) // 18)
    for part in (rgb[row - 1:row + 1, :size], rgb[row - 1:row + 1, -size:], rgb[:size, column - 1:column + 1], rgb[-size:, column - 1:column + 1]):
        part[...] = (255, 233, 168)
    return rgb


def squared(rgb: np.ndarray, size: int) -> np.ndarray:
    """RGB in the middle of a black square."""
    out = np.zeros((size, size, 3), np.uint8)
    height, width = (min(n, size) for n in rgb.shape[:2])
    top, left = (size - height) // 2, (size - width) // 2
    out[top:top + height, left:left + width] = rgb[:height, :width]
    return out


def with_outlines(rgb: np.ndarray, view: View, index: int, structures: list[tuple]) -> np.ndarray:
    """RGB with the border of each (mask, colour) over a thin dark rim, so that it shows on light and dark alike."""
    return with_lines(rgb, [(view.outline(mask, index, 2.0), colour) for mask, colour in structures],
                      [view.outline(mask, index, 4.0) for mask, _ in structures])

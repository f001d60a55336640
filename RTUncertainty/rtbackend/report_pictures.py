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
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 7)) + chunk(b"IEND", b"")


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
        self.plane, self.box = plane, box
        self.across, self.rows, self.columns = self.AXES[plane]
        steps = tuple(reversed([float(s) for s in spacing]))
        self.millimetres = tuple(
            (box[axis].stop - box[axis].start) * steps[axis] for axis in (self.rows, self.columns))
        per_mm = longest / max(self.millimetres)
        self.shape = tuple(max(1, round(m * per_mm)) for m in self.millimetres)

    def cut(self, volume: np.ndarray, index: int, order: int = 1) -> np.ndarray:
        """The slice `index` of `volume` inside the box, interpolated to the picture's pixels, float32."""
        where = list(self.box)
        where[self.across] = index
        plane = np.asarray(volume[tuple(where)], np.float32)
        if self.plane != "axial":
            plane = plane[::-1]
        return _resized(plane, self.shape, order)

    def outline(self, mask: np.ndarray, index: int, width: float = 2.0) -> np.ndarray:
        """Where the border of a mask runs in the picture, boolean, about `width` pixels thick."""
        inside = self.cut(mask.astype(np.float32), index) > 0.5
        if not inside.any() or inside.all():
            return np.zeros(inside.shape, bool)
        distance = np.where(inside, ndimage.distance_transform_edt(inside), -ndimage.distance_transform_edt(~inside) + 1)
        return np.abs(distance - 0.5) <= width / 2


def _resized(plane: np.ndarray, shape, order: int) -> np.ndarray:
    """`plane` on `shape` pixels over the same extent (outer faces coincide)."""
    at = [np.clip((np.arange(n) + 0.5) * m / n - 0.5, 0, m - 1) for n, m in zip(shape, plane.shape)]
    return ndimage.map_coordinates(plane, np.meshgrid(*at, indexing="ij"), order=order, mode="nearest")


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


def with_outlines(rgb: np.ndarray, view: View, index: int, structures: list[tuple[np.ndarray, tuple]]) -> np.ndarray:
    """RGB with the border of each (mask, colour) over a thin dark rim, so that it shows on light and dark alike."""
    rgb = rgb.copy()
    drawn = [(view.outline(mask, index, 2.0), view.outline(mask, index, 4.0), colour) for mask, colour in structures]
    for _, rim, _ in drawn:
        rgb[rim] = (0.45 * rgb[rim]).astype(np.uint8)
    for line, _, colour in drawn:
        rgb[line] = np.array(colour, np.uint8)
    return rgb

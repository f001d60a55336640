"""Shapes of the phantoms: signed distances in mm (negative inside) and a canvas that paints tissues by them; the
muscles of the digital limb.

Coordinates: x to the patient's left, y to the back, both in mm from the middle of the slice; u runs from 0 at the
lowest slice (towards the knee) to 1 at the highest (towards the hip). Arrays are [z, y, x], float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# (T1-weighted signal with fat near 950, HU); signals as in 1.5 T spin-echo limb MRs, HU as in their 120 kV CTs
TISSUES = {
    "air": (8.0, -1000.0),
    "skin": (430.0, 10.0),
    "fat": (945.0, -104.0),
    "fascia": (300.0, 35.0),
    "muscle": (335.0, 58.0),
    "cortex": (42.0, 1380.0),
    "marrow": (890.0, -25.0),
    "tumour": (318.0, 40.0),
    "artery": (90.0, 45.0),
    "vein": (560.0, 42.0),
    "nerve": (420.0, 32.0),
}


class Canvas:
    """MR signal and CT number painted together, so that both share every edge and its partial volume.

    Args:
        shape: (z, y, x).
        tissues: {tissue: (MR signal, HU)}.
    """

    def __init__(self, shape, tissues=TISSUES):
        self.tissues = tissues
        self.mr = np.full(shape, tissues["air"][0], np.float32)
        self.ct = np.full(shape, tissues["air"][1], np.float32)

    def __getitem__(self, box) -> Canvas:
        """The part of the canvas in `box`, a tuple of slices; painting on it paints on the whole."""
        part = object.__new__(Canvas)
        part.tissues, part.mr, part.ct = self.tissues, self.mr[box], self.ct[box]
        return part

    def paint(self, share, tissue=None, mr=None, ct=None):
        """Replaces a share of every voxel by a tissue, or by the signal and HU given.

        Args:
            share: 0 to 1.
            tissue: a key of the canvas's tissues, or None.
            mr: signal in place of the tissue's, number or array.
            ct: HU in place of the tissue's, number or array.
        """
        mr = self.tissues[tissue][0] if mr is None else mr
        ct = self.tissues[tissue][1] if ct is None else ct
        self.mr += share * (np.asarray(mr, np.float32) - self.mr)
        self.ct += share * (np.asarray(ct, np.float32) - self.ct)


def inside(distance: np.ndarray, edge: float = 1.0) -> np.ndarray:
    """The share of a voxel that lies inside a surface.

    Args:
        distance: signed, mm, negative inside.
        edge: width of a voxel, mm.

    Returns:
        0 to 1.
    """
    return np.clip(np.float32(0.5) - distance / np.float32(edge), 0, 1)


def sheet(distance: np.ndarray, width, edge: float = 1.0) -> np.ndarray:
    """The share of a voxel filled by a sheet about a surface; thin sheets fill a part of their voxels.

    Args:
        distance: signed, mm.
        width: of the sheet, mm.
        edge: width of a voxel, mm.

    Returns:
        0 to 1.
    """
    half = np.asarray(width, np.float32) / 2
    return (
        np.clip((np.minimum(distance, half - edge / 2) + half + edge / 2) / edge, 0, 1)
        * np.clip((half + np.float32(edge / 2) - distance) / edge, 0, 1)
        * np.minimum(1, 2 * half / edge)
    )


@dataclass
class Muscle:
    """A muscle's belly.

    Attributes:
        x, y: its middle in units of the compartment's radius.
        size: of the belly.
        group: it belongs to.
        drift: of the middle along the axis.
    """

    x: float
    y: float
    size: float
    group: int
    drift: tuple = (0.0, 0.0)


# Mid-thigh of a right leg seen from below: medial is +x. Groups: 0 extensors, 1 adductors, 2 flexors.
MUSCLES = (
    Muscle(-0.22, -0.18, 0.25, 0, (0.00, 0.00)),  # vastus intermedius, around the femur
    Muscle(0.05, -0.80, 0.16, 0, (0.02, 0.03)),  # rectus femoris
    Muscle(-0.72, -0.15, 0.30, 0, (0.00, -0.05)),  # vastus lateralis
    Muscle(0.47, -0.47, 0.25, 0, (0.05, 0.10)),  # vastus medialis
    Muscle(0.84, -0.14, 0.07, 1, (-0.10, -0.18)),  # sartorius
    Muscle(0.88, 0.28, 0.07, 1, (-0.05, -0.05)),  # gracilis
    Muscle(0.42, 0.22, 0.30, 1, (-0.08, 0.00)),  # adductors
    Muscle(0.50, 0.70, 0.20, 2, (0.02, -0.02)),  # semimembranosus
    Muscle(0.08, 0.84, 0.14, 2, (0.02, 0.03)),  # semitendinosus
    Muscle(-0.40, 0.66, 0.22, 2, (-0.04, 0.04)),  # biceps femoris, long head
    Muscle(-0.30, 0.34, 0.12, 2, (-0.06, 0.04)),  # biceps femoris, short head
)


def septa(x, y, u, radius: float, muscles=MUSCLES):
    """The boundaries between muscles: a power diagram about the bellies' middles, which drift along the axis.

    Args:
        x: see the module.
        y: see the module.
        u: see the module.
        radius: of the compartment, mm.
        muscles: the bellies.

    Returns:
        (distance to the nearest boundary in mm, float32; whether it parts two groups; index of the muscle, uint8).
    """
    best = np.full(x.shape, np.inf, np.float32)
    second = np.full(x.shape, np.inf, np.float32)
    first_index = np.zeros(x.shape, np.uint8)
    second_index = np.zeros(x.shape, np.uint8)
    for i, m in enumerate(muscles):
        cx = np.float32(radius) * (m.x + m.drift[0] * (2 * u - 1))
        cy = np.float32(radius) * (m.y + m.drift[1] * (2 * u - 1))
        power = (x - cx) ** 2 + (y - cy) ** 2 - np.float32((m.size * radius) ** 2)
        nearer = power < best
        next_nearest = ~nearer & (power < second)
        second = np.where(nearer, best, np.where(next_nearest, power, second))
        second_index = np.where(nearer, first_index, np.where(next_nearest, np.uint8(i), second_index))
        best = np.where(nearer, power, best)
        first_index = np.where(nearer, np.uint8(i), first_index)
    middles = np.array([[m.x, m.y] for m in muscles]) * radius
    apart = np.linalg.norm(middles[:, None] - middles[None], axis=-1).astype(np.float32) + 1e-3
    groups = np.array([m.group for m in muscles])
    different = groups[:, None] != groups[None]
    return (second - best) / (2 * apart[first_index, second_index]), different[first_index, second_index], first_index


def capsule(x, y, z, start, end, start_radius: float, end_radius: float) -> np.ndarray:
    """Distance to a rod with round ends whose radius changes evenly along it.

    Args:
        x: of the voxels, mm.
        y: of the voxels, mm.
        z: of the voxels, mm.
        start: (x, y, z), mm.
        end: (x, y, z), mm.
        start_radius: mm.
        end_radius: mm.

    Returns:
        mm, negative inside.
    """
    a, b = np.asarray(start, np.float32), np.asarray(end, np.float32)
    d = b - a
    x, y, z = x - a[0], y - a[1], z - a[2]
    t = np.clip((x * d[0] + y * d[1] + z * d[2]) / max(float(d @ d), 1e-3), 0, 1)
    return np.sqrt((x - t * d[0]) ** 2 + (y - t * d[1]) ** 2 + (z - t * d[2]) ** 2) - (
        np.float32(start_radius) + t * np.float32(end_radius - start_radius)
    )


def ellipsoid(x, y, z, middle, axes) -> np.ndarray:
    """About the distance to an ellipsoid; exact on its surface and on its axes.

    Args:
        x: of the voxels, mm.
        y: of the voxels, mm.
        z: of the voxels, mm.
        middle: (x, y, z), mm.
        axes: half axes (x, y, z), mm.

    Returns:
        mm, negative inside.
    """
    x, y, z = x - np.float32(middle[0]), y - np.float32(middle[1]), z - np.float32(middle[2])
    gauge = np.sqrt((x / axes[0]) ** 2 + (y / axes[1]) ** 2 + (z / axes[2]) ** 2)
    r = np.sqrt(x * x + y * y + z * z)
    return r - (r + np.float32(1e-3 * min(axes))) / (gauge + np.float32(1e-3))  # finite in the middle


def smooth_minimum(distances, blend: float):
    """Union of shapes with rounded creases (polynomial smooth minimum).

    Args:
        distances: of the shapes, mm.
        blend: width of the creases, mm.

    Returns:
        mm, negative inside.
    """
    result = distances[0]
    for d in distances[1:]:
        h = np.clip(0.5 + 0.5 * (d - result) / blend, 0, 1)
        result = d + (result - d) * h - np.float32(blend) * h * (1 - h)
    return result

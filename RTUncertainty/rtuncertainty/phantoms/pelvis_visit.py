"""The second visit of the digital pelvis: how the patient of the CT lies with respect to the patient of the MR.

A point x of the MR lies at R(x + u(x)) in the CT as scanned: u fills or empties bladder and rectum, moves soft tissue
by some mm and leaves bones as they are; R is a rigid offset of the whole patient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from .pelvis_organs import Organs
from .pelvis_patient import Patient, Space


@dataclass
class Visit:
    """What changed since the MR.

    Attributes:
        bladder_ml: volume of the bladder.
        rectum: its radius as a factor.
        shift: of the whole patient, mm on the scanner's axes.
        turn: of the whole patient about the middle of the image, radians.
        soft: SD of soft tissue's movement with position, mm.
    """

    bladder_ml: float
    rectum: float
    shift: tuple
    turn: tuple
    soft: float

    @classmethod
    def draw(cls, patient: Patient) -> Visit:
        """Another day: fillings and position drawn anew, the bladder's volume by a factor of 0.6 to 1.6."""
        rng = patient.rng
        ml = float(np.clip(patient.bladder_ml * np.exp(rng.uniform(-0.5, 0.47)), 70, 480))
        return cls(
            ml,
            rng.uniform(0.82, 1.2),
            tuple(np.clip(rng.normal(0, (4, 4, 3)), -8, 8)),
            tuple(np.deg2rad(np.clip(rng.normal(0, (1.0, 0.7, 1.2)), -2.5, 2.5))),
            1.2,
        )


def movement(patient: Patient, visit: Visit, space: Space, organs: Organs, bones: np.ndarray, fields) -> np.ndarray:
    """How soft tissue moved; bones are at rest.

    Args:
        patient: who lies there.
        visit: what changed.
        space: coordinates of the grid.
        organs: of the MR.
        bones: distance to them, mm [z, y, x].
        fields: of random numbers.

    Returns:
        u on the grid of `space`, mm on the scanner's axes, float32 [z, y, x, 3].
    """
    u = np.stack([np.float32(visit.soft) * fields.smooth(70, 70) for _ in range(3)], axis=-1)
    p = space[organs.box]
    local = np.zeros(p.x.shape + (3,), np.float32)

    # the bladder grows away from where it is held, and pushes what is above it
    k = (visit.bladder_ml / patient.bladder_ml) ** (1 / 3) - 1
    reach = np.exp(-((np.maximum(organs.bladder, 0) / 28) ** 2))
    for axis, (v, held) in enumerate(zip((p.x, p.y, p.z), organs.bladder_base)):
        local[..., axis] += np.float32(k) * reach * (v - np.float32(held))
    # the rectum widens about its middle; what is behind it is the sacrum, so that it gives way to the front
    cx, cy, radius = organs.course
    dx, dy = p.x - cx, p.y - (cy + 0.6 * radius)
    reach = (visit.rectum - 1) * np.exp(-((np.maximum(organs.rectum, 0) / 16) ** 2))
    reach = reach * np.exp(-((np.maximum(np.abs(p.z - 5) - 45, 0) / 14) ** 2))
    local[..., 0] += reach * dx
    local[..., 1] += reach * dy
    # at its edges, the box's movement fades
    fade = np.ones(p.x.shape, np.float32)
    for axis, n in enumerate(p.x.shape):
        ramp = np.clip((np.arange(n) + 0.5) / 6, 0, 1) * np.clip((n - 0.5 - np.arange(n)) / 6, 0, 1)
        if axis:  # above and below there is only the edge of the image
            fade *= ramp.reshape([-1 if a == axis else 1 for a in range(3)]).astype(np.float32)
    u[organs.box] += local * fade[..., None]
    # bones keep their shape and place
    soft = ndimage.gaussian_filter(np.clip((bones - 5) / 14, 0, 1), 2.5 / space.edge)
    u *= soft[..., None]
    return u


def rigid(visit: Visit, middle) -> sitk.Euler3DTransform:
    """The rigid part of the movement (R), from the MR's frame to that of the CT as scanned.

    Args:
        visit: what changed.
        middle: (x, y, z) about which it turns, mm.

    Returns:
        A transform of points, mm.
    """
    transform = sitk.Euler3DTransform()
    transform.SetCenter([float(v) for v in middle])
    transform.SetRotation(*[float(v) for v in visit.turn])
    transform.SetTranslation([float(v) for v in visit.shift])
    return transform


def inverse(u: np.ndarray, steps, iterations: int = 10) -> np.ndarray:
    """The movement back: v with x = y + v(y) for y = x + u(x), by fixed-point iteration v = -u(y + v).

    Converges where the movement changes by less than its own step; u is interpolated linearly.

    Args:
        u: [z, y, x, 3], mm (x, y, z).
        steps: of the grid, mm (z, y, x).
        iterations: how many.

    Returns:
        v on the same grid, mm.
    """
    at = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in u.shape[:3]), indexing="ij"))
    scale = np.array(steps, np.float32)[:, None, None, None]
    v = -u
    for _ in range(iterations):
        places = at + np.moveaxis(v[..., ::-1], -1, 0) / scale
        v = -np.stack([ndimage.map_coordinates(u[..., c], places, order=1, mode="nearest") for c in range(3)], axis=-1)
    return v

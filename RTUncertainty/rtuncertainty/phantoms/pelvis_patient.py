"""Who lies in the digital pelvis: size, fat, bone, fillings drawn from a seed, and the space that he fills.

Anatomical coordinates: x to the patient's left, y to the back, z to the head, mm from the middle between the femoral
heads of a pelvis of mean size. Arrays are [z, y, x], float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# (T2-weighted signal with fat near 800, HU); signals as in turbo spin-echo MR of the male pelvis, HU as in 120 kV CT
TISSUES = {
    "air": (8.0, -1000.0),
    "skin": (330.0, 15.0),
    "fat": (800.0, -100.0),
    "fascia": (190.0, 25.0),
    "muscle": (170.0, 55.0),
    "tendon": (70.0, 70.0),
    "cortex": (35.0, 1100.0),
    "cartilage": (330.0, 95.0),
    "disc": (400.0, 85.0),
    "fluid": (1120.0, 12.0),
    "nerve": (330.0, 35.0),
    "vessel": (50.0, 45.0),
    "urine": (1180.0, 5.0),
    "bladder_wall": (230.0, 34.0),
    "gland": (350.0, 42.0),
    "peripheral_zone": (680.0, 36.0),
    "vesicle": (760.0, 24.0),
    "bowel_wall": (300.0, 38.0),
    "bowel": (600.0, 25.0),
    "stool": (400.0, 30.0),
    "gas": (10.0, -960.0),
    "calcification": (70.0, 420.0),
}
UNVARIED = ("air", "gas", "cortex", "calcification")


@dataclass
class Patient:
    """One man. Lengths in mm, angles in radians, volumes in ml, `build` from 0 (lean) to 1 (stout)."""

    rng: np.random.Generator
    size: float
    width: float
    build: float
    fat: tuple  # under the skin: in front, at the side, behind
    angles: tuple  # turned about z (yaw), about x (tilt), about y (roll)
    head_radius: float
    leg_rotation: tuple  # right, left; outwards
    marrow_fat: float  # share of fat in red marrow
    density: float  # HU of spongy bone at a mean place
    cortex: tuple  # HU and thickness as a factor
    prostate_ml: float
    bladder_ml: float
    rectum_radius: float
    gas: float  # share of the rectum's lumen
    tissues: dict

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Patient:
        """A man of whom every property is drawn on its own, but for fat and build, which are correlated."""
        build = rng.uniform(0, 1)
        size, width = rng.uniform(0.95, 1.03), rng.uniform(0.96, 1.03)
        fat = tuple(
            max(6.0, base + gain * build + rng.normal(0, sd))
            for base, gain, sd in ((12, 24, 3), (9, 20, 2), (14, 24, 3))
        )
        angles = tuple(np.deg2rad(np.clip(rng.normal(0, sd), -2 * sd, 2 * sd)) for sd in (1.6, 2.5, 0.9))
        tissues = {}
        for name, (mr, ct) in TISSUES.items():
            varied = name not in UNVARIED
            tissues[name] = (mr * float(np.exp(rng.normal(0, 0.06 * varied))), ct + float(rng.normal(0, 3.5 * varied)))
        return cls(
            rng=rng,
            size=size,
            width=width,
            build=build,
            fat=fat,
            angles=angles,
            head_radius=rng.uniform(22.5, 26.0),
            leg_rotation=tuple(np.deg2rad(rng.uniform(-10, 14, 2))),
            marrow_fat=rng.uniform(0.15, 0.75),
            density=rng.uniform(150, 270),
            cortex=(rng.uniform(950, 1300), rng.uniform(0.8, 1.2)),
            prostate_ml=25 + 65 * rng.beta(1.2, 1.7),
            bladder_ml=80 + 370 * rng.beta(1.1, 1.5),
            rectum_radius=rng.uniform(12.5, 19.5),
            gas=rng.uniform(0.05, 0.6),
            tissues=tissues,
        )


class Space:
    """Anatomical coordinates of every voxel of a grid, or of a part of it: bent, turned and scaled as the patient is.

    Args:
        x: anatomical, mm.
        y: anatomical, mm.
        z: anatomical, mm.
        edge: the voxels' width in mm, which sets how wide partial volume reaches.
        nominal: the same coordinates without bending and turning, three 1-D arrays.
    """

    def __init__(self, x, y, z, edge: float, nominal):
        self.x, self.y, self.z, self.edge, self.nominal = x, y, z, edge, nominal

    @classmethod
    def of(cls, patient: Patient, fields, x, y, z) -> Space:
        """The coordinates from mm on the scanner's axes.

        Args:
            patient: who lies there.
            fields: of random numbers.
            x: 1-D, mm, 0 between the femoral heads.
            y: 1-D, mm, 0 between the femoral heads.
            z: 1-D, mm, 0 between the femoral heads.

        Returns:
            Of the whole grid.
        """
        edge = float(max(x[1] - x[0], y[1] - y[0], z[1] - z[0]))
        turned = [
            x.astype(np.float32)[None, None],
            y.astype(np.float32)[None, :, None],
            z.astype(np.float32)[:, None, None],
        ]
        for a, b, angle in zip((0, 1, 0), (1, 2, 2), patient.angles):
            c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
            turned[a], turned[b] = c * turned[a] + s * turned[b], c * turned[b] - s * turned[a]
        scale = (patient.size * patient.width, patient.size, patient.size)
        # two people's bones differ by more than size: everything is bent by some mm
        bent = [v / np.float32(s) + np.float32(2.2) * fields.smooth(75, 75) for v, s in zip(turned, scale)]
        return cls(*bent, edge, [axis / s for axis, s in zip((x, y, z), scale)])

    def box(self, low, high, margin: float = 18.0) -> tuple:
        """The voxels between two corners.

        Args:
            low: corner (x, y, z), mm.
            high: corner (x, y, z), mm.
            margin: mm, room for how much the patient is turned and bent.

        Returns:
            Slices (z, y, x).
        """
        found = []
        for axis, a, b in zip(self.nominal, low, high):
            start, stop = np.searchsorted(axis, [min(a, b) - margin, max(a, b) + margin])
            found.append(slice(int(start), int(stop)))
        return tuple(found[::-1])

    def __getitem__(self, box) -> Space:
        """The part in `box`, a tuple of slices (z, y, x)."""
        return Space(
            self.x[box], self.y[box], self.z[box], self.edge, [axis[s] for axis, s in zip(self.nominal, box[::-1])]
        )

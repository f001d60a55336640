"""Bones of the digital pelvis: hip bones, sacrum, femurs and a lumbar vertebra, with their cortex, marrow and joints.

Sizes and places are those of an adult man's pelvis in CT, to a few mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .limb_anatomy import Canvas, capsule, ellipsoid, inside, smooth_minimum
from .pelvis_patient import Patient, Space

HEAD = (86.0, 0.0, 0.0)
JOINT = 3.5  # mm of cartilage between head and socket

# The ilium seen from the side: (y, z) around its rim, from the front spine over the crest to the notch and the socket.
ILIUM = (
    (-52, 84),
    (-42, 104),
    (-18, 122),
    (15, 130),
    (45, 124),
    (70, 104),
    (84, 80),
    (82, 66),
    (72, 52),
    (56, 46),
    (42, 36),
    (34, 18),
    (26, 2),
    (-22, 4),
    (-34, 20),
    (-42, 36),
    (-38, 48),
    (-46, 64),
)
# Rods of one hip bone: start, end, radii.
ROOF = ((94, 0, 46), (92, 2, 26), 7, 15)
RODS = (
    ((98, -30, 42), (86, -22, 24), 7, 11),
    ((66, -25, 14), (40, -44, 3), 11, 8),
    ((40, -44, 3), (13, -51, -9), 8, 9),
    ((9, -51, -10), (9, -43, -34), 8, 7.5),
    ((12, -48, -18), (30, -38, -21), 8.5, 6.5),
    ((12, -45, -30), (24, -34, -36), 8, 5.5),
    ((14, -41, -38), (36, -14, -55), 7, 5.5),
    ((36, -14, -55), (52, 20, -72), 5.5, 10),
    ((80, 28, 14), (68, 34, -20), 13, 13),
    ((72, 24, -14), (64, 22, -44), 10, 10),
    ((68, 34, -20), (60, 34, -62), 13, 14.5),
    ((60, 34, -62), (55, 22, -84), 14.5, 12),
    ((66, 38, -4), (50, 50, -8), 7, 3),
)
# The sacrum's front in the midline (z, y), its thickness and its half width; z falls to the coccyx.
SACRUM_Z = (-22, -8, 8, 25, 45, 62, 80, 98, 112)
SACRUM_FRONT = (50, 57, 63, 67, 66, 60, 48, 32, 16)
SACRUM_THICK = (5, 7, 10, 14, 18, 23, 30, 40, 46)
SACRUM_WIDTH = (3, 6, 10, 22, 35, 46, 53, 57, 56)


@dataclass
class Bone:
    """One bone in its box.

    Attributes:
        name: of the bone.
        box: slices (z, y, x).
        distance: signed, mm.
        cortex: its thickness, mm.
        density: of its spongiosa, as a factor.
        fat: share in its marrow beyond the patient's.
        head: distance beyond which it counts as a femoral head, or None.
    """

    name: str
    box: tuple
    distance: np.ndarray
    cortex: float | np.ndarray
    density: float | np.ndarray
    fat: float
    head: np.ndarray | None = None


def build(patient: Patient, space: Space) -> list[Bone]:
    """All bones, none of which overlaps another.

    Args:
        patient: whose bones.
        space: coordinates of the grid.

    Returns:
        Hip bones, sacrum, vertebra and femurs.
    """
    bones = [_hip(patient, space, side) for side in (-1, 1)]
    femurs = [_femur(patient, space, side) for side in (-1, 1)]
    return bones + [_sacrum(space, bones), _lumbar(space)] + femurs


def distance_to(bones: list[Bone], shape, far: float = 30.0) -> np.ndarray:
    """Distance to the nearest of some bones on the whole grid.

    Args:
        bones: each in its box.
        shape: (z, y, x).
        far: the most, mm.

    Returns:
        float32 [z, y, x], mm.
    """
    nearest = np.full(shape, far, np.float32)
    for bone in bones:
        np.minimum(nearest[bone.box], bone.distance, out=nearest[bone.box])
    return nearest


def _polygon(y, z, corners) -> np.ndarray:
    """Signed distance (mm) in the y-z plane to a closed polygon, from a table in steps of 1 mm."""
    corners = np.array(corners, float)
    low = corners.min(0) - 40
    v, w = np.meshgrid(*(np.arange(a, b + 40) for a, b in zip(low, corners.max(0))), indexing="ij")
    nearest, crossings = np.full(v.shape, np.inf), np.zeros(v.shape, int)
    for (ay, az), (by, bz) in zip(corners, np.roll(corners, -1, axis=0)):
        dy, dz = by - ay, bz - az
        t = np.clip(((v - ay) * dy + (w - az) * dz) / (dy * dy + dz * dz), 0, 1)
        nearest = np.minimum(nearest, np.hypot(v - ay - t * dy, w - az - t * dz))
        crosses = (az > w) != (bz > w)
        crossings += crosses & (v < ay + (w - az) * dy / (dz if dz else 1.0))
    table = np.where(crossings % 2 == 1, -nearest, nearest).astype(np.float32)
    return ndimage.map_coordinates(table, [y - np.float32(low[0]), z - np.float32(low[1])], order=1, mode="nearest")


def _wing(x, y, z) -> np.ndarray:
    """The iliac wing: a bent blade from the front spine to the sacrum, thin in its fossa, thick at its rim."""
    up = np.clip(z / 100, 0, 1.3)
    front, back = 94 + 26 * up, 66 - 20 * up
    t = np.clip((y + 50) / 130, 0, 1.05)
    bulge = (10 + 14 * up) * np.maximum(np.sin(np.pi * np.clip(t, 0, 1)), 0) ** 1.5
    middle = front + (back - front) * np.maximum(t, 0) ** 1.35 + bulge
    slope = (back - front) / 130
    rim = _polygon(y, z, ILIUM)
    # the blade is thick along its rim, at the sacrum and above the socket
    half = (
        3.0
        + 3.4 * np.exp(np.minimum(rim, 0) / 7)
        + 4.5 * np.clip((y - 42) / 25, 0, 1)
        + 2.5 * np.clip((48 - z) / 40, 0, 1)
    )
    across = np.abs(x - middle) / np.sqrt(1 + slope**2) - half
    return -smooth_minimum([-across, -rim], 9.0)


def _hip(patient: Patient, space: Space, side: int) -> Bone:
    box = space.box((side * 2, -70, -100), (side * 140, 95, 140))
    p = space[box]
    x, y, z = side * p.x, p.y, p.z
    to_head = np.sqrt((x - HEAD[0]) ** 2 + y**2 + z**2)
    socket = patient.head_radius + JOINT
    # the socket opens outwards, forwards and down
    depth = (x - HEAD[0]) * 0.80 - y * 0.33 - z * 0.50
    cup = np.maximum(np.maximum(to_head - (socket + 7), socket - to_head), depth - 0.12 * socket)
    parts = [_wing(x, y, z), capsule(x, y, z, *ROOF), cup] + [capsule(x, y, z, *rod) for rod in RODS]
    distance = smooth_minimum(parts, 6.0)
    distance = np.maximum(distance, socket - to_head)
    distance = np.maximum(distance, 2.4 - x)  # the symphysis
    cortex = 1.7 + 1.2 * np.exp(-(((to_head - socket - 2) / 5) ** 2)) + 0.8 * np.clip(-z / 60, 0, 1)
    density = 0.78 + 0.40 * np.exp(-(((to_head - socket) / 14) ** 2)) * (z > -10)
    return Bone("hip", box, distance, cortex * np.float32(patient.cortex[1]), density, 0.0)


def _sacrum(space: Space, hips: list[Bone]) -> Bone:
    box = space.box((-60, 5, -35), (60, 95, 122))
    p = space[box]
    ax = np.abs(p.x)
    front, thick, width = (
        np.interp(p.z, SACRUM_Z, v).astype(np.float32) for v in (SACRUM_FRONT, SACRUM_THICK, SACRUM_WIDTH)
    )
    upper = np.clip((p.z - 55) / 40, 0, 1)
    # wings sweep back beside the body; the back is ridged by the spinous processes
    near = front + upper * 0.30 * np.maximum(ax - 24, 0) + 0.004 * (1 - upper) * ax**2
    far = (
        front + thick - upper * 0.10 * ax + 7 * np.exp(-((ax / 6) ** 2)) * (p.z > 22) - 3 * (1 - upper) * (ax / 30) ** 2
    )
    across = np.maximum(near - p.y, p.y - far)
    ends = np.maximum(np.maximum(ax - width, SACRUM_Z[0] - p.z), p.z - SACRUM_Z[-1] - 0.25 * (p.y - 30))
    distance = -smooth_minimum([-across, -ends], 5.0)
    canal = np.hypot(p.x / 1.5, p.y - (front + 0.72 * thick)) - np.clip((p.z - 22) / 9, -1, 7)
    distance = np.maximum(distance, -canal)
    for hole_z, hole_x in ((92, 27), (72, 24), (54, 21), (39, 18)):
        distance = np.maximum(distance, 4.6 - np.hypot(ax - hole_x, p.z - hole_z - 0.25 * (p.y - front)))
    apart = np.full(space.x.shape, 30, np.float32)
    for hip in hips:
        apart[hip.box] = np.minimum(apart[hip.box], hip.distance)
    return Bone("sacrum", box, np.maximum(distance, 2.6 - apart[box]), 1.5, 0.72, -0.05)


def _lumbar(space: Space) -> Bone:
    """The fifth lumbar vertebra, as far as it is in view."""
    box = space.box((-50, -35, 112), (50, 75, 170))
    p = space[box]
    floor = 121.0 - 0.42 * (p.y - 20)
    body = np.maximum(np.hypot(p.x / 1.35, p.y - 4) - 19, floor - p.z)
    arch = np.maximum(np.abs(np.hypot(p.x, p.y - 34) - 14) - 4, 118 - p.z)
    spine = np.maximum(np.maximum(np.abs(p.x) - 4, np.abs(p.y - 58) - 12), 120 - p.z)
    return Bone("lumbar", box, np.minimum(np.minimum(body, arch), spine), 1.4, 0.75, 0.0)


def _femur(patient: Patient, space: Space, side: int) -> Bone:
    box = space.box((side * 50, -45, -130), (side * 165, 60, 35))
    p = space[box]
    x, y, z = side * p.x - np.float32(HEAD[0]), p.y, p.z
    # turned about the middle of the head, outwards for a foot that points outwards
    angle = patient.leg_rotation[0 if side < 0 else 1]
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    x, y = c * x + s * y, c * y - s * x
    radius = patient.head_radius
    head = np.sqrt(x * x + y * y + z * z) - np.float32(radius)
    neck = capsule(x, y, z, (8, 1, -4), (40, 6, -25), 0.66 * radius, 0.72 * radius)
    trochanter = smooth_minimum(
        [
            ellipsoid(x, y, z, (51, 13, -16), (13, 17, 20)),
            capsule(x, y, z, (41, 8, -27), (42, 9, -56), 18, 17),
            capsule(x, y, z, (42, 9, -52), (43, 7, -140), 17, 14.5),
            capsule(x, y, z, (32, 21, -50), (27, 22, -55), 8, 7),
        ],
        9.0,
    )
    distance = smooth_minimum([head, neck, trochanter], 5.0)
    # dense where load runs from the head to the inner side of the neck, sparse between there and the trochanter
    load = capsule(x, y, z, (-4, -1, radius), (24, 4, -26), 6, 4)
    ward = ellipsoid(x, y, z, (33, 5, -20), (12, 14, 14))
    shaft = np.clip((-z - 48) / 16, 0, 1)
    density = (1.05 + 0.55 * np.exp(-np.maximum(load, 0) / 6) - 0.45 * np.exp(-np.maximum(ward, 0) / 5)) * (
        1 - 0.8 * shaft
    )
    cortex = np.where(head < 2, 1.3, 2.4) + 4.0 * shaft + 1.5 * np.clip((-z - 25) / 20, 0, 1)
    # a femoral head as contoured: the ball and the neck down to its base
    cut = x * 0.80 + y * 0.15 - z * 0.58 - 33
    return Bone("femur", box, distance, (cortex * patient.cortex[1]).astype(np.float32), density, 0.35, cut)


def paint(patient: Patient, space: Space, canvas: Canvas, bones: list[Bone], textures: dict) -> dict:
    """Paints joints and bones.

    Spongy bone's HU and its marrow's MR signal share the part of the marrow that is fat; the density of the trabeculae
    and the fine structure of each modality are its own, so neither image gives the other exactly.

    Args:
        patient: whose bones.
        space: coordinates of the grid.
        canvas: painted on.
        bones: of `build`.
        textures: {name: random field}.

    Returns:
        The share of every voxel that is {bone, femoral_head_left, femoral_head_right}.
    """
    shape = space.x.shape
    shares = {name: np.zeros(shape, np.float32) for name in ("bone", "femoral_head_left", "femoral_head_right")}
    _joints(patient, space, canvas, bones)
    hu = patient.cortex[0]
    for bone in bones:
        view, t = canvas[bone.box], {k: v[bone.box] for k, v in textures.items()}
        outer = bone.distance + 0.5 * t["shape"]
        share = inside(outer, space.edge)
        view.paint(0.6 * inside(outer - 0.8, space.edge), "fascia")  # periosteum, capsule and insertions
        view.paint(share, mr=patient.tissues["cortex"][0], ct=hu + 70 * t["ct_coarse"] + 40 * t["ct_fine"])
        marrow = inside(outer + bone.cortex * np.exp(0.18 * t["shape"]), max(space.edge, 1.6))
        fat = np.clip(patient.marrow_fat + bone.fat + 0.13 * t["coarse"] + 0.07 * t["middle"], 0, 1)
        density = (
            patient.density * bone.density * np.exp(0.15 * t["ct_coarse"] + 0.13 * t["ct_fine"] - 0.5 * (fat - 0.5))
        )
        # trabeculae condense towards the cortex
        density = density * (0.8 + 0.6 * np.exp(np.minimum(outer, 0) / 5))
        view.paint(
            marrow, mr=330 + 340 * fat - 0.22 * density + 22 * t["fine"], ct=density - 60 * fat + 12 * t["ct_fine"]
        )
        if bone.head is None:
            shares["bone"][bone.box] = np.maximum(shares["bone"][bone.box], share)
            continue
        side = "left" if bone is bones[-1] else "right"
        head = share * inside(bone.head, space.edge)
        shares[f"femoral_head_{side}"][bone.box] = head
        shares["bone"][bone.box] = np.maximum(shares["bone"][bone.box], share - head)
    return shares


def _joints(patient: Patient, space: Space, canvas: Canvas, bones: list[Bone]) -> None:
    """Cartilage of hips, symphysis and sacroiliac joints, the last disc, and what runs in the sacrum's canal."""
    for side in (-1, 1):
        box = space.box((side * 50, -40, -40), (side * 125, 40, 40))
        p = space[box]
        ball = np.sqrt((side * p.x - HEAD[0]) ** 2 + p.y**2 + p.z**2) - patient.head_radius - JOINT
        depth = (side * p.x - HEAD[0]) * 0.80 - p.y * 0.33 - p.z * 0.50
        canvas[box].paint(inside(np.maximum(ball, depth - 10), space.edge), "cartilage")
        canvas[box].paint(
            0.8 * inside(np.maximum(np.abs(ball - 2.5) - 2, 6 - depth), space.edge) * inside(depth - 26, space.edge),
            "tendon",
        )  # the capsule
    box = space.box((-12, -62, -45), (12, -32, 6))
    p = space[box]
    canvas[box].paint(inside(ellipsoid(p.x, p.y, p.z, (0, -46.5, -22), (6, 10, 19)), space.edge), "cartilage")
    sacrum = bones[2]
    p, view = space[sacrum.box], canvas[sacrum.box]
    apart = np.full(space.x.shape, 30, np.float32)
    for hip in bones[:2]:
        apart[hip.box] = np.minimum(apart[hip.box], hip.distance)
    view.paint(inside(np.maximum(sacrum.distance - 3.5, apart[sacrum.box] - 3.5), space.edge) * (p.y < 70), "cartilage")
    front, thick = (np.interp(p.z, SACRUM_Z, v).astype(np.float32) for v in (SACRUM_FRONT, SACRUM_THICK))
    canal = np.hypot(p.x / 1.5, p.y - (front + 0.72 * thick)) - np.clip((p.z - 22) / 9, -1, 7)
    view.paint(0.8 * inside(canal + 1.5, space.edge), "fluid")
    box = space.box((-35, -25, 100), (35, 35, 135))
    p = space[box]
    floor = 121.0 - 0.42 * (p.y - 20)
    disc = np.maximum(np.hypot(p.x / 1.35, p.y - 7) - 19, np.abs(p.z - floor + 5) - 5)
    canvas[box].paint(inside(disc, space.edge), "disc")

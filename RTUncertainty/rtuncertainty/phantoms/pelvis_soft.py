"""Soft parts of the digital pelvis that are no organs: skin, fat, fasciae, muscles, vessels and bowel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .limb_anatomy import Canvas, capsule, inside, sheet, smooth_minimum
from .pelvis_patient import Patient, Space

# Every muscle of one side: its course as (x, y, z, radius), one rod between two neighbours; several courses, one belly.
MUSCLES = {
    "gluteus maximus": (
        ((44, 86, 78, 14), (92, 70, 22, 19), (132, 44, -30, 17)),
        ((30, 84, 34, 14), (72, 76, -8, 21), (120, 48, -58, 18)),
        ((24, 78, 4, 12), (60, 70, -36, 21), (104, 58, -85, 19)),
    ),
    "gluteus medius": (
        ((124, -14, 104, 13), (128, 0, 55, 18), (147, 2, 2, 11)),
        ((104, 36, 98, 14), (116, 30, 50, 19), (143, 14, 4, 10)),
    ),
    "gluteus minimus": (((116, -14, 66, 10), (118, -12, 34, 13), (142, -8, -8, 8)),),
    "tensor fasciae latae": (((126, -50, 70, 8), (141, -42, 5, 11), (148, -26, -70, 8)),),
    "sartorius": (((116, -58, 74, 6), (104, -64, 15, 8), (86, -70, -50, 8), (76, -70, -100, 8)),),
    "rectus femoris": (((98, -46, 34, 6), (110, -54, -10, 12), (116, -54, -100, 15)),),
    "vastus lateralis": (((150, 0, -34, 8), (146, -8, -70, 18), (146, -8, -110, 20)),),
    "vastus intermedius": (((122, -22, -40, 10), (122, -25, -75, 16), (120, -25, -110, 18)),),
    "iliacus": (
        ((108, -18, 104, 11), (98, -20, 62, 14), (86, -36, 22, 14), (90, -36, -10, 11), (112, 6, -54, 8)),
        ((84, 22, 96, 11), (84, -6, 52, 12)),
    ),
    "psoas": (((40, 6, 150, 18), (50, -4, 110, 19), (62, -22, 65, 16), (76, -40, 20, 11), (80, -38, -5, 8)),),
    "obturator internus": (
        ((50, -14, 12, 8), (48, 22, 10, 9), (58, 42, -8, 8), (128, 22, -4, 6)),
        ((48, -22, -10, 8), (46, 24, -12, 10)),
        ((44, -20, -30, 7), (46, 22, -34, 9)),
    ),
    "obturator externus": (((38, -38, -32, 10), (64, -14, -38, 12), (112, 22, -24, 6)),),
    "pectineus": (((34, -56, -4, 8), (72, -46, -28, 13), (108, -8, -66, 10)),),
    "adductor longus": (((18, -58, -36, 8), (46, -58, -66, 15), (80, -44, -115, 16)),),
    "adductor brevis": (((26, -46, -48, 9), (60, -28, -78, 16), (84, -10, -115, 16)),),
    "adductor magnus": (((44, 4, -66, 10), (66, 10, -92, 20), (80, 12, -120, 24)),),
    "gracilis": (((12, -44, -50, 6), (24, -42, -80, 9), (30, -40, -115, 10)),),
    "quadratus femoris": (((70, 28, -48, 8), (114, 26, -44, 10)), ((70, 28, -60, 8), (112, 26, -58, 9))),
    "hamstrings": (((64, 42, -66, 9), (78, 44, -95, 16), (84, 46, -120, 18)),),
    "piriformis": (((24, 62, 60, 9), (62, 54, 36, 12), (136, 16, 2, 6)),),
    "gemelli": (((62, 36, -20, 6), (124, 22, -14, 6)),),
    "erector spinae": (((18, 90, 66, 8), (26, 84, 110, 17), (30, 80, 150, 22)),),
    "quadratus lumborum": (((72, 40, 118, 12), (66, 36, 150, 14)),),
}
# mm by which a belly swells until it meets its neighbours; those in the pelvic cavity stay slim
SWELLING = {
    "iliacus": 2.0,
    "psoas": 2.0,
    "obturator internus": 0.5,
    "piriformis": 1.5,
    "sartorius": 1.5,
    "quadratus lumborum": 2.0,
}
# (x, y, z) along the artery; the vein runs beside and behind it
EXTERNAL_ILIAC = ((24, 4, 140), (40, -2, 100), (56, -28, 50), (70, -50, 8), (76, -58, -40), (82, -48, -110))
INTERNAL_ILIAC = ((34, 14, 100), (46, 40, 66), (50, 30, 30))
SCIATIC = ((52, 58, 45), (78, 44, -10), (88, 40, -60), (90, 40, -120))


@dataclass
class Outline:
    """Signed distances (mm) to the skin and to the deep fascia."""

    skin: np.ndarray
    fascia: np.ndarray


def _ramp(z, low: float, high: float):
    """From 0 at `low` to 1 at `high`, smoothly."""
    t = np.clip((z - np.float32(low)) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)


def extent(patient: Patient) -> tuple:
    """The body's foremost and rearmost y, anatomical mm."""
    front, _, back = patient.fat
    return -(72 + 0.8 * front + 8 + 14 * patient.build), 90 + 0.7 * back


def outline(patient: Patient, space: Space, fields) -> Outline:
    """The body: an oval, wide at the hips, with the cleft of the buttocks and a back pressed flat by the couch.

    Args:
        patient: whose body.
        space: coordinates of the grid.
        fields: of random numbers.

    Returns:
        Skin and deep fascia.
    """
    x, y, z = space.x, space.y, space.z
    fat_front, fat_side, fat_back = patient.fat
    belly, back = extent(patient)
    half = np.float32(min(158 + fat_side, 186 / (patient.size * patient.width)))
    half = half - (14 - 10 * patient.build) * _ramp(z, 5, 75) - 4 * _ramp(-z, 30, 90)
    front = -(72 + 0.8 * fat_front + (8 + 14 * patient.build) * _ramp(z, -25, 85)) + 5 * _ramp(-z, 35, 90)
    behind = back - 5 * _ramp(z, 30, 110)
    middle, depth = (front + behind) / 2, (behind - front) / 2
    v = y - middle
    # an oval between an ellipse and a box: exponent 2.5
    a, b = np.square(x / half), np.square(v / depth)
    gauge = (a * np.sqrt(np.sqrt(a)) + b * np.sqrt(np.sqrt(b)) + np.float32(1e-9)) ** np.float32(0.4)
    r = np.hypot(x, v)
    skin = r - (r + np.float32(0.1)) / (gauge + np.float32(0.001)) + 2.0 * fields.smooth(45, 60)
    # the cleft, and the couch
    bottom = back - 24 * _ramp(-z, -45, 10) - 4
    skin = np.maximum(skin, np.minimum(1 + 0.22 * np.maximum(y - bottom, 0) - np.abs(x), y - bottom))
    couch = (space.nominal[1][None, :, None] - np.float32(back - 0.30 * fat_back - 3)).astype(np.float32)
    direction = np.arctan2(v, np.abs(x))
    side = np.cos(direction) ** 2
    fat = fat_side * side + np.where(v < 0, fat_front, fat_back) * (1 - side)
    fat = fat * (1 + 0.15 * fields.smooth(50, 60)) * (1 + 0.25 * _ramp(z, 40, 120) * side)
    fascia = skin + np.maximum(fat, 4)
    return Outline(-smooth_minimum([-skin, -couch], 14.0), np.maximum(fascia, couch + 4))


def _tube(patient, space, canvas, points, radius, tissue, side, edge_share=1.0, offset=(0, 0, 0)):
    points = [tuple(np.add(p, offset)) for p in points]
    for a, b in zip(points, points[1:]):
        a, b = ((side * p[0], p[1], p[2]) for p in (a, b))
        box = space.box(np.minimum(a, b) - radius, np.maximum(a, b) + radius)
        p = space[box]
        canvas[box].paint(edge_share * inside(capsule(p.x, p.y, p.z, a, b, radius, radius), space.edge), tissue)


def muscles(space: Space, textures: dict):
    """Where the muscles are.

    Args:
        space: coordinates of the grid.
        textures: {name: random field}.

    Returns:
        (distance to the nearest muscle in mm, to the nearest face between two of them in mm, which one it is, uint8).
    """
    shape = space.x.shape
    nearest, second = np.full(shape, 20, np.float32), np.full(shape, 20, np.float32)
    which = np.zeros(shape, np.uint8)
    number = 0
    for side in (-1, 1):
        for name, courses in MUSCLES.items():
            swelling = SWELLING.get(name, 6.0)
            number += 1
            points = np.array([p for course in courses for p in course], float) * (side, 1, 1, 1)
            reach = points[:, 3:] + swelling + 5
            box = space.box((points[:, :3] - reach).min(0), (points[:, :3] + reach).max(0))
            p = space[box]
            own = np.full(p.x.shape, 20, np.float32)
            for course in courses:
                for a, b in zip(course, course[1:]):
                    a, b = ((side * v[0],) + tuple(v[1:]) for v in (a, b))
                    thick = max(a[3], b[3]) + swelling + 5
                    inner = p.box(np.minimum(a[:3], b[:3]) - thick, np.maximum(a[:3], b[:3]) + thick)
                    q = p[inner]
                    rod = capsule(q.x, q.y, q.z, a[:3], b[:3], a[3] + swelling, b[3] + swelling)
                    np.minimum(own[inner], rod, out=own[inner])
            first, other, mine = nearest[box], second[box], own < nearest[box]
            other[...] = np.where(mine, first, np.minimum(other, own))
            first[...] = np.where(mine, own, first)
            which[box][mine] = number
    noise = 1.3 * textures["shape"]
    return nearest + noise, (second - nearest) / 2, which


def paint(patient: Patient, space: Space, canvas: Canvas, body: Outline, muscle: tuple, textures: dict, fields) -> None:
    """Paints skin, fat, fasciae, muscles, nerves and vessels.

    Args:
        patient: whose they are.
        space: coordinates of the grid.
        canvas: painted on.
        body: of `outline`.
        muscle: of `muscles`.
        textures: {name: random field}.
        fields: of random numbers.
    """
    edge, t = space.edge, textures
    mr, ct = patient.tissues["fat"]
    canvas.paint(inside(body.skin, edge), "skin")
    under = inside(body.skin + 2.0, edge)
    canvas.paint(under, mr=mr + 30 * t["coarse"] + 18 * t["fine"], ct=ct + 3 * t["ct_coarse"] + 3 * t["ct_fine"])
    strands = fields.ridges(14, 45, 0.8) * np.clip(t["middle"] + 0.3, 0, 1)
    canvas.paint(0.30 * under * strands, "fascia")
    within = inside(body.fascia, edge)
    canvas.paint(0.55 * sheet(np.abs(body.fascia), 1.0, edge) * (np.abs(space.x) > 4), "fascia")
    nearest, between, which = muscle
    wall = _abdominal_wall(space, body)
    mr, ct = patient.tissues["muscle"]
    own = patient.rng.normal(0, 1, 256).astype(np.float32)[which]
    fibres = t["fine"]
    signal, hu = mr + 9 * own + 9 * fibres + 8 * t["coarse"], ct + 2.5 * own + 2.5 * t["ct_fine"]
    bellies = inside(nearest, edge) * within
    canvas.paint(np.maximum(bellies, wall * within), mr=signal, ct=hu)
    # fat between the bellies and streaks of it in them, more in the stout and the old
    septum = sheet(between, patient.rng.uniform(0.8, 1.8), edge) * bellies
    canvas.paint(0.9 * septum, "fat")
    streaks = fields.ridges(9, 40, 0.7) * np.clip(1.2 * t["middle"] - 0.3, 0, 1)
    canvas.paint(bellies * (0.35 + 0.35 * patient.build) * streaks, "fat")
    canvas.paint(bellies * 0.25 * fields.ridges(13, 50, 0.7) * np.clip(1.3 * t["shape"] - 0.4, 0, 1), "tendon")
    for side in (-1, 1):
        _tube(patient, space, canvas, SCIATIC, 5.0, "nerve", side, 0.8)
        _tube(patient, space, canvas, INTERNAL_ILIAC, 3.2, "vessel", side, 0.9)
        _tube(patient, space, canvas, EXTERNAL_ILIAC, 8.5, "fat", side, 0.7, (-3, 3, 0))
        _tube(patient, space, canvas, EXTERNAL_ILIAC, 5.5, "vessel", side, 1.0, (-7, 7, 0))
        _tube(patient, space, canvas, EXTERNAL_ILIAC, 4.5, "fascia", side)
        _tube(patient, space, canvas, EXTERNAL_ILIAC, 3.6, "vessel", side)


def _abdominal_wall(space: Space, body: Outline) -> np.ndarray:
    """Share of the straight muscles beside the midline and of the flat ones at the sides."""
    ax, y, z = np.abs(space.x), space.y, space.z
    straight = (np.hypot((body.fascia + 8) / 6, (ax - 32) / 27) - 1) * 6
    straight = np.maximum(straight, np.maximum(y + 20, -18 - z))
    flat = np.maximum(np.abs(body.fascia + 9) - 7.5, 64 - ax)
    flat = np.maximum(flat, np.maximum(70 - z + 0.35 * (ax - 64), y - 45))
    return inside(np.minimum(straight, flat), space.edge)


def bowel(space: Space, canvas: Canvas, free: np.ndarray, fields) -> np.ndarray:
    """Paints loops of empty bowel.

    Args:
        space: coordinates of the grid.
        canvas: painted on.
        free: share of every voxel where it may lie.
        fields: of random numbers.

    Returns:
        The share of the loops' lumen.
    """
    depth = np.abs(fields.smooth(22, 24))
    blur = 0.10 * space.edge / 2
    canvas.paint(free * np.clip((depth - 0.24) / blur, 0, 1), "bowel_wall")
    return free * np.clip((depth - 0.46) / blur, 0, 1)


def fill_bowel(patient: Patient, canvas: Canvas, lumen: np.ndarray, fields) -> np.ndarray:
    """Paints one day's content of the bowel, here and there gas.

    Args:
        patient: whose bowel.
        canvas: painted on.
        lumen: of `bowel`.
        fields: of random numbers.

    Returns:
        The share of gas.
    """
    kind, lumps = fields.smooth(24, 24), fields.smooth(7, 8)
    mr, ct = patient.tissues["bowel"]
    canvas.paint(lumen, mr=mr + 200 * kind + 60 * lumps, ct=ct + 14 * kind + 5 * lumps)
    gas = lumen * np.clip((kind - 1.0) / 0.15, 0, 1)
    canvas.paint(gas, "gas")
    return gas

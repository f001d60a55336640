"""Organs of the digital pelvis: rectum with stool and gas, prostate, seminal vesicles, bladder and what holds them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .limb_anatomy import Canvas, capsule, ellipsoid, inside, sheet, smooth_minimum
from .pelvis_patient import Patient, Space

# The rectum's course by z: middle (x, y) and radius as a share of the patient's.
COURSE_Z = (-85, -58, -38, -12, 14, 36, 56, 76, 98, 120)
COURSE_X = (0, 0, 0, 0, 1, 3, 6, 16, 34, 52)
COURSE_Y = (34, 29, 27, 33, 41, 44, 38, 24, 10, 4)
COURSE_R = (0.50, 0.52, 0.66, 1.0, 1.06, 0.95, 0.85, 0.75, 0.70, 0.7)
RECTUM_ENDS = (-50.0, 64.0)  # z of the anus' upper part and of the turn to the sigmoid
BOX = ((-80, -90, -90), (80, 80, 132))


@dataclass
class Organs:
    """The organs in their box; signed distances in mm.

    Attributes:
        box: slices (z, y, x).
        rectum, prostate, vesicles, bladder: distance to each.
        course: the rectum's middle (x, y) and radius for the box's z.
        bladder_base: (x, y, z) where it is held.
        prostate_middle, prostate_axes: (x, y, z), mm.
    """

    box: tuple
    rectum: np.ndarray
    prostate: np.ndarray
    vesicles: np.ndarray
    bladder: np.ndarray
    course: tuple
    bladder_base: tuple
    prostate_middle: tuple
    prostate_axes: tuple


def _grown(gauge: np.ndarray, allowed: np.ndarray, voxels: float) -> float:
    """The level of `gauge` below which `voxels` of the allowed voxels lie."""
    values = gauge[allowed]
    count = int(min(max(voxels, 1), values.size - 1))
    return float(np.partition(values, count)[count])


def build(
    patient: Patient,
    space: Space,
    textures: dict,
    bones: np.ndarray,
    muscles: np.ndarray,
    fascia: np.ndarray,
    voxel_ml: float,
) -> Organs:
    """Organs that touch each other and nothing else, with the volumes that the patient has.

    Args:
        patient: whose organs.
        space: coordinates of the grid.
        textures: {name: random field}.
        bones: distance to them, mm [z, y, x].
        muscles: distance to them, mm [z, y, x].
        fascia: distance to it, mm [z, y, x].
        voxel_ml: volume of a voxel.

    Returns:
        The organs.
    """
    box = space.box(*BOX)
    p = space[box]
    x, y, z = p.x, p.y, p.z
    rough = textures["shape"][box]
    room = (bones[box] > 2.5) & (fascia[box] < -14)
    cx, cy, radius = (np.interp(z, COURSE_Z, v).astype(np.float32) for v in (COURSE_X, COURSE_Y, COURSE_R))
    sway = patient.rng.uniform(-5, 5)
    cx = cx + sway * np.exp(-(((z - 15) / 25) ** 2))
    swell = [patient.rng.normal(0, 0.09) * np.sin(z / w + patient.rng.uniform(0, 6)) for w in (9.0, 16.0)]
    radius = radius * patient.rectum_radius * (1 + sum(swell))
    tube = np.hypot((x - cx) / 1.12, y - cy) - radius + 0.8 * rough
    rectum = np.maximum(tube, np.maximum(2.0 - bones[box], -100 - z))

    ml = patient.prostate_ml
    unit = (ml * 1000 / (4 / 3 * np.pi)) ** (1 / 3) / patient.size
    axes = (1.16 * unit, 0.86 * unit, 1.00 * unit)
    zc = -36 + 0.95 * axes[2]
    at = float(np.interp(zc - 4, COURSE_Z, COURSE_Y) - patient.rectum_radius * np.interp(zc - 4, COURSE_Z, COURSE_R))
    middle = (patient.rng.uniform(-2, 2), at - 3.0 - 0.92 * axes[1], zc)
    # narrower towards the apex
    narrow = 1 - 0.22 * np.clip((zc - z) / axes[2], -0.5, 1)
    gauge = ellipsoid(middle[0] + (x - middle[0]) / narrow, middle[1] + (y - middle[1]) / narrow, z, middle, axes)
    gauge = gauge + 0.9 * rough
    allowed = room & (rectum > 1.5)
    prostate = np.maximum(gauge - _grown(gauge, allowed, ml / voxel_ml), np.maximum(1.5 - rectum, 2.5 - bones[box]))

    top = zc + 0.85 * axes[2]
    ax = np.abs(x - middle[0])
    back = at - 4
    vesicles = ellipsoid(ax, y + 0.10 * ax, z - 0.28 * ax, (17, back, top + 1), (17, 6.0, 8.5)) + 1.6 * rough
    vesicles = np.maximum(np.maximum(vesicles, 1.0 - rectum), 0.5 - prostate)

    ml = patient.bladder_ml
    unit = (ml * 1000 / (4 / 3 * np.pi)) ** (1 / 3) / patient.size
    flat = np.interp(ml, (80, 300), (0.78, 0.96))  # an emptier bladder is flatter
    axes_b = (unit * 1.15 / np.sqrt(flat), unit / np.sqrt(flat) * 0.90, unit * flat)
    base = (middle[0], min(-8.0, back - 14.0), top)
    centre = (middle[0] + patient.rng.uniform(-4, 4), min(-10.0, back - 6.0 - axes_b[1]), top + 0.76 * axes_b[2])
    gauge = ellipsoid(x, y, z, centre, axes_b) + 1.2 * rough + 2.0 * textures["coarse"][box]
    gauge = gauge + 0.8 * np.maximum(fascia[box] + 30, 0)  # the abdominal wall flattens it
    others = np.minimum(np.minimum(rectum, prostate), vesicles)
    allowed = room & (others > 1.0) & (muscles[box] > 1.0)
    bladder = gauge - _grown(gauge, allowed, ml / voxel_ml)
    bladder = np.maximum(bladder, np.maximum(1.0 - others, np.maximum(2.5 - bones[box], 1.0 - muscles[box])))
    bladder = np.maximum(bladder, fascia[box] + 14)
    return Organs(box, rectum, prostate, vesicles, bladder, (cx, cy, radius), base, middle, axes)


def paint(patient: Patient, space: Space, canvas: Canvas, organs: Organs, textures: dict) -> dict:
    """Paints the pelvic floor and the organs, the rectum empty.

    Args:
        patient: whose organs.
        space: coordinates of the grid.
        canvas: painted on.
        organs: of `build`.
        textures: {name: random field}.

    Returns:
        The shares of {prostate, rectum, bladder}.
    """
    p, view, edge = space[organs.box], canvas[organs.box], space.edge
    t = {k: v[organs.box] for k, v in textures.items()}
    _floor(p, view, organs)
    _glands(patient, p, view, organs, t)
    view.paint(inside(organs.bladder, edge), "bladder_wall")
    mr, ct = patient.tissues["urine"]
    wall = 3.0 + 2.5 * (1 - min(patient.bladder_ml, 300) / 300)
    view.paint(inside(organs.bladder + wall, edge), mr=mr + 14 * t["coarse"], ct=ct + 1.5 * t["ct_coarse"])
    view.paint(inside(organs.rectum, edge), "bowel_wall")
    ends = np.maximum(RECTUM_ENDS[0] - p.z, p.z - RECTUM_ENDS[1])
    shares = {}
    for name, distance in (
        ("prostate", organs.prostate),
        ("rectum", np.maximum(organs.rectum, ends)),
        ("bladder", organs.bladder),
    ):
        shares[name] = np.zeros(space.x.shape, np.float32)
        shares[name][organs.box] = inside(distance, edge)
    return shares


def fill_rectum(patient: Patient, space: Space, canvas: Canvas, organs: Organs, fields) -> np.ndarray:
    """Paints one day's stool, and gas above it as the patient lies on his back.

    Args:
        patient: whose rectum.
        space: coordinates of the grid.
        canvas: painted on.
        organs: of `build`.
        fields: of random numbers.

    Returns:
        The share of gas on the grid.
    """
    rng, p, view = patient.rng, space[organs.box], canvas[organs.box]
    _, cy, radius = organs.course
    lumps = fields.smooth(7, 9)[organs.box]
    # the anal canal is shut
    lumen = inside(organs.rectum + 3.0, space.edge) * np.clip((p.z + 44) / 8, 0, 1)
    mr, ct = patient.tissues["stool"]
    view.paint(lumen, mr=mr + rng.uniform(-160, 160) + 80 * lumps, ct=ct + rng.uniform(-15, 25) + 10 * lumps)
    # stool holds small bubbles, some more than other
    bubbles = lumen * np.clip(lumps - rng.uniform(1.0, 2.6), 0, 0.7)
    level = patient.gas * np.exp(rng.normal(0, 0.35)) + sum(
        rng.normal(0, 0.16) * np.sin(p.z / w + rng.uniform(0, 6)) for w in (8.0, 13.0, 22.0)
    )
    above = (cy - radius * (1 - 2 * np.clip(level, 0, 0.92))) - p.y
    gas = np.maximum(lumen * inside(-above, space.edge), bubbles)
    view.paint(gas, "gas")
    whole = np.zeros(space.x.shape, np.float32)
    whole[organs.box] = gas
    return whole


def _floor(p: Space, view: Canvas, organs: Organs) -> None:
    """Levator ani about rectum and prostate, the bulb and the roots of the penis."""
    edge = p.edge
    around = smooth_minimum([organs.prostate, organs.rectum], 22.0) - 4
    flare = 9 * np.clip((p.z + 30) / 25, 0, 1)  # upwards it spreads to the walls
    sling = sheet(np.abs(around - flare), 3.6, edge)
    view.paint(0.85 * sling * inside(np.maximum(np.abs(p.z + 34) - 27, -20 - p.y), edge), "muscle")
    sphincter = np.hypot(p.x - organs.course[0], p.y - organs.course[1]) - organs.course[2] - 5
    view.paint(inside(np.maximum(sphincter, p.z + 42), edge), "muscle")
    diaphragm = ellipsoid(p.x, p.y, p.z, (0, -10, -47), (24, 15, 7))
    view.paint(0.7 * inside(np.maximum(diaphragm, 1 - organs.prostate), edge), "muscle")
    bulb = capsule(p.x, p.y, p.z, (0, -2, -60), (0, -44, -72), 10, 8)
    view.paint(inside(bulb, edge), mr=620, ct=48)
    roots = capsule(np.abs(p.x), p.y, p.z, (30, -12, -62), (7, -55, -52), 6, 7.5)
    view.paint(inside(roots, edge), mr=700, ct=50)
    shaft = capsule(np.abs(p.x), p.y, p.z, (7, -55, -52), (6, -64, -57), 7.5, 7)
    view.paint(inside(shaft, edge), mr=720, ct=50)


def _glands(patient: Patient, p: Space, view: Canvas, organs: Organs, t: dict) -> None:
    """Prostate with its zones, nodules, perhaps a tumour and calcifications; vesicles; the dark septa about them."""
    edge, rng = p.edge, patient.rng
    (mx, my, mz), (a, b, c) = organs.prostate_middle, organs.prostate_axes
    view.paint(0.7 * sheet(np.abs(organs.prostate - 0.5), 1.6, edge), "fascia")
    mr, ct = patient.tissues["vesicle"]
    view.paint(inside(organs.vesicles, edge), mr=mr + 170 * t["fine"], ct=ct + 3 * t["ct_fine"])
    share = inside(organs.prostate, edge)
    mr, ct = patient.tissues["peripheral_zone"]
    view.paint(share, mr=mr + 70 * t["middle"] + 35 * t["fine"], ct=ct + 2 * t["ct_coarse"])
    # the large gland's transition zone presses the peripheral zone thin
    grown = np.interp(patient.prostate_ml, (25, 90), (0.64, 0.84))
    inner = ellipsoid(p.x, p.y, p.z, (mx, my - 0.22 * b, mz + 0.18 * c), (a * grown, b * (grown + 0.02), c * grown))
    mr, ct = patient.tissues["gland"]
    core = share * inside(inner + 1.2 * t["shape"], edge)
    view.paint(0.6 * share * sheet(np.abs(inner + 1.2 * t["shape"]), 1.0, edge), "fascia")
    view.paint(core * 0.97, mr=mr + 95 * t["middle"] + 45 * t["fine"], ct=ct + 3 * t["ct_coarse"] + 2 * t["ct_fine"])
    front = share * inside(
        ellipsoid(p.x, p.y, p.z, (mx, my - 0.95 * b, mz + 0.1 * c), (0.55 * a, 0.32 * b, 0.8 * c)), edge
    )
    view.paint(0.8 * front, "fascia")
    urethra = capsule(p.x, p.y, p.z, (mx, my, mz + c), (mx, my + 0.15 * b, mz - 1.2 * c), 2.0, 2.0)
    view.paint(0.6 * inside(urethra, edge), mr=560, ct=30)
    if rng.random() < 0.8:
        angle, size = rng.uniform(0.2, np.pi - 0.2), rng.uniform(4, 8)
        place = (mx + 0.78 * a * np.cos(angle), my + 0.72 * b * np.sin(angle), mz + c * rng.uniform(-0.5, 0.3))
        view.paint(
            share
            * 0.85
            * inside(ellipsoid(p.x, p.y, p.z, place, (size, 0.7 * size, 1.2 * size)) + 0.8 * t["shape"], edge),
            mr=290,
            ct=ct + 3,
        )
    for _ in range(rng.integers(0, 6)):
        place = (mx + rng.normal(0, 0.22) * a, my + rng.normal(0.1, 0.2) * b, mz + rng.normal(0, 0.3) * c)
        size = rng.uniform(1.0, 2.2)
        view.paint(share * inside(ellipsoid(p.x, p.y, p.z, place, (size, size, 1.3 * size)), edge), "calcification")

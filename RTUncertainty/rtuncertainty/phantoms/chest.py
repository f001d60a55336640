"""A digital chest that breathes, with landmarks that are known: the scan of one patient at two depths of breath.

Lungs with branching vessels, diaphragm, liver, heart, ribs and spine. Breathing moves what lies within the pleura
(lungs, and the abdomen below the diaphragm) head- and feetwards along the ribs, which hardly move: the true deformation
slides there, as no smooth field can.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..core import geometry

LUNG_HU, VESSEL_HU, SOFT_HU, LIVER_HU, FAT_HU, BONE_HU = -840.0, 20.0, 35.0, 65.0, -100.0, 450.0
LUNGS = (-72.0, 72.0)  # x of their middles, mm
HALF = (52.0, 78.0)  # half axes of a lung across the body, mm
APEX, LENGTH = 130.0, 210.0  # z of the lungs' top, and from there to the dome of the diaphragm, mm


@dataclass
class Chest:
    """`planning` (breathed in) and `daily` (breathed out) CT in HU, structures {name: mask} on each, and landmarks
    [n, 3] (mm, LPS) of vessels' forks on both scans, in one order."""

    planning: sitk.Image
    daily: sitk.Image
    planning_structures: dict[str, sitk.Image]
    daily_structures: dict[str, sitk.Image]
    planning_points: np.ndarray
    daily_points: np.ndarray


def digital_chest(
    seed: int = 0, breath_mm: float = 25.0, spacing=(3.0, 3.0, 3.0), shift=(0.0, 0.0, 0.0), noise_hu: float = 15.0
) -> Chest:
    """Two scans of the patient `seed`: the dome of the diaphragm lies `breath_mm` higher on the daily one, which is
    moved by `shift` (mm, LPS) as a whole."""
    rng = np.random.default_rng(seed)
    size = [int(round(e / s)) for e, s in zip((360.0, 264.0, 330.0), spacing)]
    grid = sitk.Image(size, sitk.sitkUInt8)
    grid.SetSpacing([float(s) for s in spacing])
    grid.SetOrigin([-180.0 + spacing[0] / 2, -132.0 + spacing[1] / 2, -190.0 + spacing[2] / 2])
    points = [np.arange(n, dtype=np.float32) * s + o for n, s, o in zip(size, grid.GetSpacing(), grid.GetOrigin())]
    z, y, x = np.meshgrid(*points[::-1], indexing="ij")
    tree = [_vessels(rng, middle) for middle in LUNGS]
    textures = {name: _texture(rng, z.shape, width) for name, width in (("liver", 3.0), ("soft", 2.0), ("lung", 1.2))}
    drawn = _vessel_image(tree, x, y, z)
    planning, structures = _render(x, y, z, drawn, textures)
    # daily: each voxel looks up what was there on the planning scan, within the pleura and outside by other rules
    inside = _displaced(x, y, z, breath_mm)
    outside = np.stack([0 * x, 0.012 * breath_mm * np.clip(-y / 60, -1, 1), 0.06 * breath_mm * np.clip(-y / 90, 0, 1)])
    pleura = _within(x, y, z)
    where = np.where(pleura, inside, outside)
    index = [(c + d - o) / s for c, d, o, s in zip((x, y, z), where, grid.GetOrigin(), grid.GetSpacing())][::-1]
    daily = ndimage.map_coordinates(planning, index, order=1, mode="nearest")
    # breathed out, the same tissue holds less air
    squeezed = 1 / np.clip(1 + np.gradient(inside[2], spacing[2], axis=0), 0.6, 1.6)
    lung = pleura & (daily < -400)
    daily = np.where(lung, -1000 + (daily + 1000) * squeezed, daily)
    moved = {
        name: ndimage.map_coordinates(mask.astype(np.float32), index, order=1, mode="nearest") > 0.5
        for name, mask in structures.items()
    }
    moved["body"] = structures["body"]
    at = np.array([fork for lung_tree in tree for fork in lung_tree[1]])
    kept = at[_visible(at, grid)]
    found = _inverse(kept, breath_mm)
    good = np.abs(found[:, 2]) < 150
    kept, found = kept[good], found[good]

    def scan(array, moved_by=(0.0, 0.0, 0.0)):
        blurred = ndimage.gaussian_filter(rng.standard_normal(array.shape), 0.5)
        image = geometry.like(np.rint(array + noise_hu * blurred / blurred.std()).clip(-1024, 3000), grid, np.int16)
        image.SetOrigin(np.add(grid.GetOrigin(), moved_by).tolist())
        return image

    def masks(given, moved_by=(0.0, 0.0, 0.0)):
        out = {n: geometry.like(m, grid, np.uint8) for n, m in given.items()}
        for image in out.values():
            image.SetOrigin(np.add(grid.GetOrigin(), moved_by).tolist())
        return out

    return Chest(
        scan(planning), scan(daily, shift), masks(structures), masks(moved, shift), kept, found + np.asarray(shift)
    )


def _dome(x, y):
    """z of the diaphragm of the planning scan."""
    side = np.where(x < 0, LUNGS[0], LUNGS[1])
    away = ((x - side) / HALF[0]) ** 2 + (y / HALF[1]) ** 2
    return APEX - LENGTH + 8.0 * (x < 0) - 42.0 * np.clip(away, 0, 1.3) ** 1.5


def _within(x, y, z):
    """The space within the ribs, in which lungs and abdomen move: the same on both scans."""
    return (np.abs(x) / 134) ** 2.4 + (np.abs(y) / 88) ** 2.4 < np.clip((APEX + 14 - z) / 90, 0, 1) ** 0.8


def _displaced(x, y, z, breath):
    """[3, …] mm from a daily to its planning point, within the pleura: breathed out, tissue lies higher by `breath` at
    the dome, less above and behind the sternum, and the lung is wider by little."""
    down = np.clip((APEX - z) / LENGTH, 0, 1.05)
    amount = breath * (0.15 * down + 0.85 * down**2)
    uneven = 1 - 0.25 * np.clip(-y / 80, -1, 1) + 0.12 * np.sin(x / 38) * np.cos(y / 30 + 0.4)
    moves = -amount * uneven
    return np.stack(
        [
            0.06 * amount * np.sin(np.pi * np.clip(x / 140, -1, 1)),
            0.10 * amount * np.cos(y / 50) * np.cos(x / 90),
            moves,
        ]
    ).astype(np.float32)


def _inverse(points, breath):
    """Daily points of planning points: fixed-point iterations of what `_displaced` says."""
    found = points.astype(float).copy()
    for _ in range(200):
        x, y, z = found.T
        found = points - np.moveaxis(_displaced(x, y, z, breath), 0, -1)
    return found


def _vessels(rng, middle: float):
    """(tubes [(start, end, radius)], forks [n][3]) of one lung: a tree that grows from the hilum."""
    tubes, forks = [], []
    hilum = np.array([middle - np.sign(middle) * 30, 8.0, APEX - 0.5 * LENGTH])
    ends = [(hilum, d / np.linalg.norm(d), 5.0) for d in rng.standard_normal((9, 3)) * (0.8, 0.9, 1.3)]
    for _generation in range(7):
        grown = []
        for start, direction, radius in ends:
            length = rng.uniform(26, 44) * (radius / 5) ** 0.35
            end = start + length * direction
            across = ((end[0] - middle) / (HALF[0] - 5)) ** 2 + (end[1] / (HALF[1] - 6)) ** 2
            if across > 1 or not _dome(end[0], end[1]) + 8 < end[2] < APEX - 16:
                continue
            tubes.append((start, end, radius))
            if radius > 1.3:
                forks.append(end)
            for _branch in range(2):
                turned = direction + 0.75 * rng.standard_normal(3)
                grown.append((end, turned / np.linalg.norm(turned), radius * rng.uniform(0.7, 0.85)))
        ends = grown
    return tubes, forks


def _vessel_image(tree, x, y, z):
    """Share of vessel in each voxel, 0 to 1."""
    out = np.zeros(x.shape, np.float32)
    low, step = (
        np.array([a.flat[0] for a in (x, y, z)]),
        np.array([x[0, 0, 1] - x[0, 0, 0], y[0, 1, 0] - y[0, 0, 0], z[1, 0, 0] - z[0, 0, 0]]),
    )
    for tubes, _ in tree:
        for start, end, radius in tubes:
            a = np.floor((np.minimum(start, end) - radius - 3 - low) / step).astype(int).clip(0)
            b = np.ceil((np.maximum(start, end) + radius + 3 - low) / step).astype(int) + 1
            box = tuple(slice(i, j) for i, j in zip(a[::-1], b[::-1]))
            p = np.stack([x[box], y[box], z[box]], -1) - start
            along = end - start
            t = np.clip(p @ along / (along @ along), 0, 1)[..., None]
            distance = np.linalg.norm(p - t * along, axis=-1)
            out[box] = np.maximum(out[box], np.clip((radius - distance) / step.mean() + 0.5, 0, 1))
    return out


def _texture(rng, shape, width):
    noise = ndimage.gaussian_filter(rng.standard_normal(shape).astype(np.float32), width)
    return noise / noise.std()


def _render(x, y, z, vessels, textures):
    """(HU, structures) of the planning scan."""
    body = (np.abs(x) / 165) ** 2.6 + (np.abs(y) / 112) ** 2.6 < np.clip((APEX + 45 - z) / 60, 0.25, 1)
    within = _within(x, y, z)
    above = z > _dome(x, y)
    lung = np.zeros(x.shape, bool)
    for middle in LUNGS:
        lung |= ((x - middle) / HALF[0]) ** 2 + (y / HALF[1]) ** 2 < np.clip((APEX - z) / 70, 0, 1)
    lung &= above
    heart = ((x - 22) / 48) ** 2 + ((y + 25) / 42) ** 2 + ((z + 42) / 48) ** 2 < 1
    lung &= ~heart
    liver = within & ~above & (x < 40) & (z > -165) & (((x + 60) / 95) ** 2 + ((y + 5) / 72) ** 2 < 1)
    hu = np.where(body, FAT_HU + 12 * textures["soft"], -1000.0)
    muscle = body & ((np.abs(x) / 152) ** 2.6 + (np.abs(y) / 100) ** 2.6 < 1)
    hu = np.where(muscle, SOFT_HU + 15 * textures["soft"], hu)
    hu = np.where(within & ~lung, 10 + 22 * textures["soft"], hu)
    hu = np.where(liver, LIVER_HU + 14 * textures["liver"], hu)
    hu = np.where(heart, 45.0 + 6 * textures["liver"], hu)
    hu = np.where(lung, LUNG_HU + 22 * textures["lung"], hu)
    hu = np.where(lung, hu + vessels * (VESSEL_HU - hu), hu)
    # ribs: hoops that slope down towards the front, between the pleura and the muscle
    ring = ((np.abs(x) / 144) ** 2.4 + (np.abs(y) / 96) ** 2.4 < 1) & ~(
        (np.abs(x) / 135) ** 2.4 + (np.abs(y) / 88) ** 2.4 < 1
    )
    rib = ring & (np.mod(z - 0.45 * y + 5, 28.0) < 11) & (z < APEX) & (z > -110) & (y > -80)
    spine = ((x / 19) ** 2 + ((y - 72) / 18) ** 2 < 1) & (np.mod(z, 27.0) < 21)
    cord = (x / 7) ** 2 + ((y - 98) / 6) ** 2 < 1
    hu = np.where(rib & body, BONE_HU, hu)
    hu = np.where(spine, BONE_HU - 150, hu)
    hu = np.where(cord, 20.0, hu)
    hu = ndimage.gaussian_filter(hu, 0.5).astype(np.float32)
    left, right = lung & (x > 0), lung & (x < 0)
    names = ("lung_left", "lung_right", "heart", "liver", "spinal_cord", "body")
    return hu, dict(zip(names, (left, right, heart, liver, cord & body, body)))


def _visible(points, grid):
    size = np.array(grid.GetSize())
    index = (points - np.array(grid.GetOrigin())) / np.array(grid.GetSpacing())
    return ((index > 2) & (index < size - 3)).all(1)

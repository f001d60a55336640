"""A digital limb: a T1-like MR of a thigh with a tumour, its true CT and its true structures, without any download.

Not a patient and not a copy of one: shapes are drawn from a seed, tissues have the signal and the HU that are usual
in 1.5 T T1-weighted spin-echo MR and 120 kV CT of limbs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..core.errors import InputError
from . import limb_anatomy as anatomy
from .fields import Fields
from .images import as_image, empty_grid, log_bias, rician, with_ct_noise
from .limb_anatomy import inside, sheet

LABELS = {"background": 0, "bone": 1, "gtv": 2}


@dataclass
class DigitalLimb:
    """Images of a digital limb, on one grid.

    Attributes:
        mr: int16, noise and bias field in it.
        ct: int16, HU.
        labels: uint8, see `LABELS`; bone includes its marrow.
        mr_noise_free: float32, neither noise nor bias field.
        bias_field: float32, factor.
        seed: of the limb.
    """

    mr: sitk.Image
    ct: sitk.Image
    labels: sitk.Image
    mr_noise_free: sitk.Image
    bias_field: sitk.Image
    seed: int

    def write(self, folder) -> Path:
        """Writes mr.nii.gz, ct.nii.gz and labels.nii.gz.

        Args:
            folder: made if absent.

        Returns:
            The folder.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("mr", "ct", "labels"):
            sitk.WriteImage(getattr(self, name), str(folder / f"{name}.nii.gz"), useCompression=True)
        return folder


def write_limb(folder, seed: int = 0, **options) -> DigitalLimb:
    """Makes a digital limb and writes it.

    Args:
        folder: made if absent.
        seed: of the limb.
        **options: of `digital_limb`.

    Returns:
        The limb.

    Raises:
        InputError: as of `digital_limb`.
    """
    limb = digital_limb(seed, **options)
    limb.write(folder)
    return limb


def digital_limb(
    seed: int = 0,
    size=(160, 160, 60),
    spacing=(1.0, 1.0, 3.0),
    noise: float = 0.008,
    bias: float = 0.25,
    ct_noise: float = 14.0,
    tumour: bool = True,
    direction=(1, 0, 0, 0, 1, 0, 0, 0, 1),
    origin=None,
) -> DigitalLimb:
    """A thigh from the shaft of the femur (above) to its metaphysis (below) with an irregular tumour in a muscle.

    Args:
        seed: the same seed gives the same limb, and other seeds other sizes, shapes, fat, bones and tumours.
        size: voxels, (x, y, z). The limb is scaled to the field of view, up to 1.3 times.
        spacing: mm, (x, y, z).
        noise: SD of the Gaussian noise in the real and in the imaginary channel (the magnitude is Rician), as a share
            of the signal of fat. 0 for none.
        bias: largest absolute logarithm of the smooth multiplicative field; 0.25 is about ±25 %. 0 for none.
        ct_noise: SD of the CT's noise in HU, correlated over about a voxel as in a reconstructed CT. 0 for none.
        tumour: whether there is one.
        direction: the nine direction cosines of the grid, row by row. They place the voxels in space (an oblique grid
            holds an obliquely lying limb); the voxels' values do not depend on them.
        origin: of the first voxel in mm; None: the middle of the image lies at (0, 0, 0).

    Returns:
        MR, CT and labels on one grid.

    Raises:
        InputError: a grid that is too small (under 32 mm or 16 voxels across, or no slice) or not a grid.
    """
    size, spacing = [int(n) for n in size], [float(s) for s in spacing]
    field_of_view = [n * s for n, s in zip(size, spacing)]
    if (
        len(size) != 3
        or len(spacing) != 3
        or min(size[:2]) < 16
        or size[2] < 1
        or min(spacing) <= 0
        or min(field_of_view[:2]) < 32
    ):
        raise InputError(
            f"digital limb: a grid of {size} voxels of {spacing} mm is too small; "
            "give at least 16 x 16 x 1 voxels and 32 mm across."
        )
    rng = np.random.default_rng(seed)
    fields = Fields(rng, size[::-1], spacing)
    canvas, labels = _draw(rng, fields, size, spacing, min(1.3, min(field_of_view[:2]) / 160), tumour)

    # the scanner's in-plane point spread and the slice profile; both modalities alike
    for image in (canvas.mr, canvas.ct):
        ndimage.gaussian_filter(image, (min(0.35, 1.0 / spacing[2]), 0.45, 0.45), output=image, mode="nearest")
    clean = np.maximum(canvas.mr, 0)
    log_field = log_bias(fields, size, bias)
    signal = rician(clean * np.exp(log_field), fields, noise * anatomy.TISSUES["fat"][0])
    ct = with_ct_noise(canvas.ct, fields, ct_noise)
    grid = empty_grid(size, spacing, direction, origin, name="digital limb")
    return DigitalLimb(
        mr=as_image(signal, grid, np.int16),
        ct=as_image(ct, grid, np.int16),
        labels=as_image(labels, grid, np.uint8),
        mr_noise_free=as_image(clean, grid, np.float32),
        bias_field=as_image(np.exp(log_field), grid, np.float32),
        seed=int(seed),
    )


def _draw(rng, fields: Fields, size, spacing, scale: float, tumour: bool):
    """Paint the limb; returns (canvas, labels uint8)."""
    nx, ny, nz = size
    edge = float(max(spacing[0], spacing[1]))
    x = ((np.arange(nx) - (nx - 1) / 2) * spacing[0]).astype(np.float32)[None, None]
    y = ((np.arange(ny) - (ny - 1) / 2) * spacing[1]).astype(np.float32)[None, :, None]
    u = ((np.arange(nz) + 0.5) / nz).astype(np.float32)[:, None, None]
    z = (u - 0.5) * np.float32(nz * spacing[2])
    side = rng.choice([-1.0, 1.0])  # right or left leg

    # the limb's axis and outline
    radius = scale * rng.uniform(64, 74)
    x = side * (x - scale * (rng.uniform(-2, 2) + rng.uniform(-4, 4) * (u - 0.5)))
    y = y - scale * (rng.uniform(-2, 2) + rng.uniform(-4, 4) * (u - 0.5))
    eccentricity, phase = rng.uniform(0.02, 0.07), rng.uniform(0, np.pi)
    taper = 1 + rng.uniform(0.04, 0.10) * (2 * u - 1)
    fat_mean, fat_swing, fat_phase = scale * rng.uniform(6, 15), rng.uniform(0.2, 0.5), rng.uniform(0.2, 1.2)
    compartment = radius - fat_mean

    # femur: lateral and somewhat forward; the shaft's wall thins towards the wide metaphysis at the lower end
    fx = -compartment * rng.uniform(0.16, 0.26) + scale * 5 * (0.5 - u)
    fy = -compartment * rng.uniform(0.08, 0.18) + scale * rng.uniform(3, 8) * (u - 0.5) ** 2
    shaft = np.exp(-((u / rng.uniform(0.16, 0.26)) ** 2))  # 1 at the lower end, 0 in the shaft
    femur_radius = scale * (rng.uniform(12.5, 14.5) + rng.uniform(6, 10) * shaft)
    wall = scale * (rng.uniform(6.5, 8.5) * (1 - shaft) ** 1.5 + 2.2)
    wall = np.minimum(wall, 0.66 * femur_radius)

    shape = (
        _tumour_shape(
            rng,
            fields,
            x,
            y,
            z,
            compartment,
            (float(fx.mean()), float(fy.mean())),
            float(femur_radius.min()),
            nz * spacing[2],
        )
        if tumour
        else None
    )
    # soft tissue gives way: what lies around the tumour is seen through a map that keeps areas in each slice
    px, py = (x, y) if shape is None else shape.displaced(x, y, z)
    r, angle = np.hypot(px, py), np.arctan2(py, px)
    outline = radius * taper * (1 + eccentricity * np.cos(2 * (angle - phase))) + scale * 1.6 * fields.smooth(
        40 * scale, 90
    )
    px = px + scale * (3.5 * fields.smooth(30 * scale, 70) + 1.3 * fields.smooth(12 * scale, 50))
    py = py + scale * (3.5 * fields.smooth(30 * scale, 70) + 1.3 * fields.smooth(12 * scale, 50))
    fat = fat_mean * (1 + fat_swing * np.cos(angle - fat_phase)) * (1 + 0.12 * (2 * u - 1))
    skin_distance = r - outline
    fascia_distance = r - (outline - fat)

    canvas = anatomy.Canvas((nz, ny, nx))
    texture = fields.smooth(9 * scale, 25)
    canvas.paint(inside(skin_distance, edge), "skin")
    _subcutaneous(rng, fields, canvas, skin_distance, fascia_distance, texture, edge, scale)
    _muscles(rng, fields, canvas, px, py, u, r, fascia_distance, compartment, texture, edge, scale)
    _bundles(rng, fields, canvas, px, py, u, compartment, fascia_distance, skin_distance, edge, scale)

    labels = np.zeros((nz, ny, nx), np.uint8)
    if shape is not None:
        share = _tumour(rng, fields, canvas, shape, fascia_distance, edge, scale)
        labels[share > 0.5] = LABELS["gtv"]
    bone = _femur(rng, fields, canvas, x - fx, y - fy, femur_radius, wall, shaft, edge, scale)
    labels[bone > 0.5] = LABELS["bone"]
    return canvas, labels


def _subcutaneous(rng, fields, canvas, skin_distance, fascia_distance, texture, edge, scale):
    """Fat under the skin with its fibrous strands, the superficial fascia and a few veins, and the deep fascia."""
    fat = inside(skin_distance + 1.6 * scale, edge)
    strands = fields.ridges(11 * scale, 40, 0.8) * np.clip(fields.smooth(18 * scale, 50) + 0.2, 0, 1)
    mr, ct = anatomy.TISSUES["fat"]
    canvas.paint(fat, mr=mr + 28 * texture, ct=ct + 3 * texture)
    canvas.paint(fat * 0.30 * strands, "fascia")
    middle = np.abs(skin_distance - fascia_distance)
    canvas.paint(
        fat
        * 0.35
        * sheet(np.abs(skin_distance + 0.45 * middle), 0.6, edge)
        * np.clip(fields.smooth(20 * scale, 60), 0, 1),
        "fascia",
    )
    canvas.paint(sheet(np.abs(fascia_distance), 0.8 * scale, edge) * 0.6, "fascia")


def _muscles(rng, fields, canvas, x, y, u, r, fascia_distance, compartment, texture, edge, scale):
    """Muscles parted by fatty septa, thicker between the groups and where they meet the fat under the skin."""
    distance, between, muscle = anatomy.septa(x, y, u, compartment)
    count = len(anatomy.MUSCLES)
    mr, ct = anatomy.TISSUES["muscle"]
    own = rng.normal(0, 1, count).astype(np.float32)[muscle]
    fibres = fields.smooth(3.5 * scale, 30)
    muscle_share = inside(fascia_distance + 0.4 * scale, edge)
    canvas.paint(muscle_share, mr=mr + 9 * own + 7 * fibres + 7 * texture, ct=ct + 3 * own + 2 * fibres)
    # streaks of fat between the bundles of fibres
    streaks = fields.ridges(8 * scale, 45, 0.7) * np.clip(1.3 * fields.smooth(14 * scale, 40) - 0.5, 0, 1)
    fine = fields.ridges(3.5 * scale, 22, 0.6) * np.clip(fields.smooth(10 * scale, 40) - 0.3, 0, 1)
    dark = fields.ridges(13 * scale, 60, 0.7) * np.clip(1.3 * fields.smooth(16 * scale, 50) - 0.4, 0, 1)
    deep = np.clip(-fascia_distance / 3, 0, 1) * muscle_share
    canvas.paint(deep * np.minimum(1, 0.45 * streaks + rng.uniform(0.10, 0.35) * fine), "fat")
    canvas.paint(deep * 0.30 * dark, "cortex", ct=ct + 5)  # tendinous sheets are dark, and like muscle in CT
    varying = np.exp(0.6 * fields.smooth(12 * scale, 40))
    surface = 1 + 3.0 * np.exp(np.minimum(fascia_distance, 0) / (5 * scale))
    width = np.where(between, rng.uniform(0.9, 2.4), rng.uniform(0.3, 0.6)).astype(np.float32) * varying * surface
    width = width * np.float32(scale)
    septum = sheet(distance, width, edge) * inside(fascia_distance, edge)
    canvas.paint(septum, "fat")
    canvas.paint(septum * fields.ridges(6 * scale, 30, 0.8) * 0.5, "fascia")


def _bundles(rng, fields, canvas, x, y, u, compartment, fascia_distance, skin_distance, edge, scale):
    """The femoral vessels in their canal, the sciatic nerve between the flexors, and veins under the skin."""

    def tube(cx, cy, radius, stretch=1.0):
        return np.hypot((x - cx) / stretch, y - cy) - radius

    cx = compartment * (rng.uniform(0.50, 0.58) - 0.14 * (1 - u))
    cy = compartment * (rng.uniform(-0.14, -0.06) + 0.24 * (1 - u))
    bed = fields.smooth(8 * scale, 40)
    deep = inside(fascia_distance, edge)
    canvas.paint(0.8 * deep * inside(tube(cx, cy, rng.uniform(4.5, 7.0) * scale, 1.3) + 3 * scale * bed, edge), "fat")
    flow = rng.random() < 0.3  # inflow now and then makes the artery bright
    canvas.paint(inside(tube(cx - 3 * scale, cy - 1.5 * scale, 3.2 * scale), edge), "vein" if flow else "artery")
    canvas.paint(inside(tube(cx + 4 * scale, cy + 2 * scale, 4.2 * scale), edge), "vein")
    nx, ny = compartment * rng.uniform(-0.12, -0.02), compartment * rng.uniform(0.46, 0.54)
    canvas.paint(0.7 * deep * inside(tube(nx, ny, rng.uniform(3.5, 5.5) * scale, 1.6) - 2.5 * scale * bed, edge), "fat")
    canvas.paint(0.7 * deep * inside(tube(nx, ny, 2.8 * scale, 1.6), edge), "nerve")
    for _ in range(rng.integers(2, 5)):
        angle = rng.uniform(0, 2 * np.pi)
        under_skin = rng.uniform(0.35, 0.75)
        wind = angle + 0.15 * np.sin(3 * u + rng.uniform(0, 6))
        size = scale * rng.uniform(1.2, 2.2)
        # at a share of the fat's depth, so that the vein stays in it where it is thick and leaves the slice where not
        depth = under_skin * fascia_distance + (1 - under_skin) * skin_distance
        across = -x * np.sin(wind) + y * np.cos(wind)
        ahead = x * np.cos(wind) + y * np.sin(wind) > 0
        in_fat = (fascia_distance > size) & (skin_distance < -size - 1.5 * scale) & ahead
        canvas.paint(0.85 * inside(np.hypot(depth, across) - size, edge) * in_fat, "artery")


@dataclass
class _TumourShape:
    """Where the tumour lies: signed distance in mm and the middle, radius and half length of its mass effect."""

    distance: np.ndarray
    x: float
    y: float
    z: float
    radius: float
    half_length: float

    def displaced(self, x, y, z, share: float = 0.5):
        """Where the tissue at (x, y) of slice z came from before the tumour pushed it aside."""
        grown = share * self.radius**2 * np.clip(1 - ((z - self.z) / (1.15 * self.half_length)) ** 2, 0, 1)
        dx, dy = x - self.x, y - self.y
        squared = dx**2 + dy**2
        factor = np.sqrt(np.clip(1 - grown / np.maximum(squared, 1e-3), 0, 1)).astype(np.float32)
        return self.x + dx * factor, self.y + dy * factor


def _tumour_shape(rng, fields, x, y, z, compartment, femur, femur_radius, length) -> _TumourShape:
    """Overlapping lobes, longer along the limb than across, in a muscle beside the femur."""
    angle = np.deg2rad(rng.choice([rng.uniform(-170, -20), rng.uniform(-60, 30)], p=[0.75, 0.25]))
    direction = np.array([np.cos(angle), np.sin(angle)])
    # the room between the femur's wall and the fascia in that direction
    along = float(np.dot(femur, direction))
    room = compartment - along - femur_radius
    radius = float(min(rng.uniform(0.36, 0.50) * compartment, 0.70 * room))
    middle = np.array(femur) + direction * (femur_radius + room * 0.55)
    cz = length * rng.uniform(-0.06, 0.14)
    half = min(radius * rng.uniform(1.2, 1.7), 0.42 * length)
    lobes = []
    for i in range(int(rng.integers(4, 7))):
        offset = rng.normal(0, 1, 3)
        offset *= (0.0 if i == 0 else rng.uniform(0.4, 0.75)) / max(np.linalg.norm(offset), 1e-6)
        size = radius * (0.78 if i == 0 else rng.uniform(0.42, 0.62))
        stretch = half / radius
        dx, dy = x - (middle[0] + radius * offset[0]), y - (middle[1] + radius * offset[1])
        dz = (z - cz - half * offset[2]) / stretch
        lobes.append(np.sqrt(dx * dx + dy * dy + dz * dz, dtype=np.float32) - np.float32(size))
    distance = anatomy.smooth_minimum(lobes, 0.35 * radius)
    distance = distance + np.float32(0.05 * radius) * fields.smooth(0.55 * radius, 1.1 * radius)
    return _TumourShape(distance, float(middle[0]), float(middle[1]), float(cz), radius, half)


def _tumour(rng, fields, canvas, shape, fascia_distance, edge, scale):
    """Paint the tumour, at T1 near muscle, with brighter and darker parts and a broken rim of fat; returns its
    share.
    """
    distance = np.maximum(shape.distance, fascia_distance + 1.0 * scale)
    share = inside(distance, edge)
    mr, ct = anatomy.TISSUES["tumour"]
    coarse = fields.smooth(0.5 * shape.radius, 0.8 * shape.radius)
    fine = fields.smooth(4 * scale, 10)
    rim = sheet(np.abs(distance - 0.8 * scale), 0.8 * scale, edge) * np.clip(fields.smooth(10 * scale, 25), 0, 1)
    canvas.paint(0.55 * rim * (fascia_distance < 0), "fat")
    bright = rng.uniform(0, 45)
    canvas.paint(
        share,
        mr=mr + rng.uniform(-20, 35) + bright * np.maximum(coarse, 0) + 14 * coarse + 9 * fine,
        ct=ct + rng.uniform(-5, 5) + 4 * coarse + 3 * fine,
    )
    vessels = fields.ridges(9 * scale, 14, 0.7) * np.clip(fields.smooth(14 * scale, 20) - 0.5, 0, 1)
    canvas.paint(share * 0.35 * vessels, "artery", ct=ct)
    return share


def _femur(rng, fields, canvas, x, y, radius, wall, shaft, edge, scale):
    """Paint the femur: cortex with the linea aspera, fatty marrow, trabeculae near the end; returns the bone's
    share.
    """
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    aspera = np.exp(-0.5 * ((angle - np.pi / 2 + rng.uniform(-0.25, 0.25)) / 0.28) ** 2)
    outline = radius * (
        1
        + rng.uniform(0.01, 0.05) * np.cos(2 * (angle - rng.uniform(0, np.pi)))
        + 0.13 * (1 - shaft) * aspera
        + 0.10 * shaft * np.cos(2 * angle)
    )
    roughness = fields.smooth(7 * scale, 18)
    outer = r - outline + 0.25 * scale * roughness
    inner = r - (outline - wall * (1 + 0.10 * fields.smooth(9 * scale, 40) + 0.15 * (1 - shaft) * aspera))
    share = inside(outer, edge)
    mr, ct = anatomy.TISSUES["cortex"]
    canvas.paint(inside(outer - 0.7 * scale, edge) * 0.5, "fascia")  # periosteum and tendinous insertions
    canvas.paint(share, mr=mr, ct=ct - 160 * shaft + 25 * roughness)
    # the inner face of the cortex is spongy over a millimetre or two
    marrow = inside(inner, max(edge, 1.6 * scale))
    trabeculae = fields.smooth(2.5 * scale, 6)
    mr, ct = anatomy.TISSUES["marrow"]
    near_wall = np.exp(np.minimum(inner, 0) / (3.0 * scale))
    spongy = np.clip(1.1 * shaft + 0.35 * near_wall, 0, 1.2)
    canvas.paint(
        marrow,
        mr=mr + 18 * fields.smooth(5 * scale, 25) - spongy * (70 + 25 * trabeculae),
        ct=ct + spongy * (130 + 30 * trabeculae),
    )
    return share

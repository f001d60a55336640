"""Pairs of scans whose deformation is known, for Testing/benchmarks/registration.py.

From several generators, so that nothing is tuned to one: digital chests that breathe (sliding ribs, landmarks), necks
and digital pelves with a simulated day (`phantoms.daily_anatomy`), necks bent by random B-splines (SimpleITK); the
daily scan as it comes, or as a cone beam has it, with gas, metal or a narrow field of view.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage

from rtuncertainty.core import geometry, structure_names, surfaces
from rtuncertainty.deformation import from_voxels, transform_points, warp_tensor
from rtuncertainty.phantoms.chest import digital_chest
from rtuncertainty.phantoms.daily_anatomy import DailyOptions, daily_scan
from rtuncertainty.phantoms.pelvis import LABELS, digital_pelvis
from rtuncertainty.propagation.pair import Pair, make_pair
from training.data.prepare import pairs as prepared
from training.data.prepare import patients

AIR = -1000.0
SPACING = (3.0, 3.0, 3.0)
COARSE = (4.0, 4.0, 3.0)  # of scans whose own voxels are that large
PELVIS = (4.0, 4.0, 4.0)
LEAST_VOXELS = 20  # of less no surface is scored


@dataclass
class Case:
    """A planning scan with its masks, a daily scan with the true ones, each {name: image}, `spacing` (mm) of the grid
    on which they are compared. Known is the displacement (mm, daily to planning points, on the daily grid), or are
    landmarks (daily, planning) in mm; neither of two patients, or where nothing corresponds (`truth` is empty)."""

    name: str
    kind: str
    patient: str
    planning: sitk.Image
    masks: dict[str, sitk.Image]
    daily: sitk.Image
    truth: dict[str, sitk.Image]
    spacing: tuple[float, float, float]
    field: sitk.Image | None = None
    known: sitk.Image | None = None
    points: tuple[np.ndarray, np.ndarray] | None = None
    rigid: bool = True

    @cached_property
    def pair(self) -> Pair:
        """Both on the working grid, rigidly aligned."""
        made = make_pair(self.planning, self.masks, self.daily, self.spacing, self.rigid)
        if self.known is not None:
            made.known &= prepared.pair_array(self.known, made) > 0.5
        return made

    @cached_property
    def displacement(self) -> np.ndarray:
        """The true one [3, z, y, x], voxels of the working grid."""
        return prepared.residual(self.field, self.pair)

    @cached_property
    def masks_there(self) -> dict[str, np.ndarray]:
        """The true masks on the working grid."""
        return {n: prepared.pair_array(m, self.pair) > 0.5 for n, m in self.truth.items() if n != "body"}

    @property
    def where(self) -> np.ndarray:
        """Voxels that count."""
        return self.pair.body & self.pair.known

    def error_mm(self, displacement: torch.Tensor) -> float:
        """Mean distance from the truth: at the landmarks, or in the body; NaN where none is known."""
        if self.points is not None:
            field = from_voxels(displacement, self.pair.grid)
            reached = transform_points(field, self.points[0])
            moved = np.array([self.pair.rigid.TransformPoint(p) for p in reached.tolist()])
            return float(np.linalg.norm(moved - self.points[1], axis=1).mean())
        if self.field is None:
            return float("nan")
        return float(np.linalg.norm(self.errors(displacement), axis=0)[self.where].mean())

    def errors(self, displacement: torch.Tensor) -> np.ndarray:
        """[3, z, y, x] in mm."""
        apart = displacement.reshape(3, *self.where.shape).numpy() - self.displacement
        return apart * np.reshape(self.pair.grid.GetSpacing(), (3, 1, 1, 1))

    def msd_mm(self, displacement: torch.Tensor) -> float:
        """Mean surface distance on the working grid, mean of the structures; infinite where none has a counterpart."""
        found = []
        for name, truth in self.masks_there.items():
            truth = truth & self.pair.known
            if min(truth.sum(), (self.pair.labels[name] > 0.5).sum()) < LEAST_VOXELS:
                continue
            mask = torch.from_numpy(self.pair.labels[name])[None, None]
            moved = warp_tensor(mask, displacement.reshape(1, 3, *truth.shape), 0.0)[0, 0].numpy() > 0.5
            moved &= self.pair.known
            if not moved.any():
                found.append(float("inf"))
                continue
            found.append(surfaces.surface_distance(moved, truth, self.pair.grid.GetSpacing()).mean)
        return float(np.mean(found)) if found else float("inf")


# ------------------------------------------------------------------ patients
@lru_cache(2)
def neck(data: Path, name: str) -> patients.Patient:
    """A patient of OpenKBP with the structures that `training pairs` takes."""
    return _axial(patients.read(patients.find(data, 0, [name])[0], prepared.HEADNECK)[0], prepared.HEADNECK)


@lru_cache(2)
def pelvis(number: int) -> patients.Patient:
    """A digital pelvis, on voxels of 3 × 3 × 4 mm."""
    made = digital_pelvis(number, size=(128, 84, 48), spacing=(3.0, 3.0, 4.0))
    masks = {n: sitk.Equal(made.labels, v) for n, v in LABELS.items() if n in prepared.PELVIS}
    return patients.Patient(f"PELVIS_{number:03d}", made.ct, masks)


def _axial(given: patients.Patient, organs) -> patients.Patient:
    named = structure_names.match(given.structures, organs)
    masks = {o: geometry.to_axial(given.structures[n]) for n, o in named.items()}
    return patients.Patient(given.name, geometry.to_axial(given.ct), masks)


# ------------------------------------------------------------------ days
def chest(seed: int, breath_mm: float, shift=(0.0, 0.0, 0.0), spacing=SPACING) -> Case:
    """A digital chest, breathed in and out."""
    made = digital_chest(seed, breath_mm, spacing, shift)
    return Case(
        f"chest {seed}, {breath_mm:g} mm",
        "chest",
        f"CHEST_{seed:03d}",
        made.planning,
        made.planning_structures,
        made.daily,
        made.daily_structures,
        tuple(spacing),
        points=(made.daily_points, made.planning_points),
    )


def bent(ct: sitk.Image, masks: dict, seed: int, sd_mm: float = 7.0):
    """(daily CT, {name: mask}, displacement): bent by a random cubic B-spline, with noise."""
    rng = np.random.default_rng(seed)
    spline = sitk.BSplineTransformInitializer(ct, [6, 6, 6])
    spline.SetParameters((rng.standard_normal(len(spline.GetParameters())) * sd_mm).tolist())
    turn = sitk.Euler3DTransform(
        ct.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in ct.GetSize()]),
        *np.radians(np.clip(rng.normal(0, 1.5, 3), -4, 4)).tolist(),
    )
    both = sitk.CompositeTransform([turn, spline])
    field = sitk.TransformToDisplacementField(
        both, sitk.sitkVectorFloat64, ct.GetSize(), ct.GetOrigin(), ct.GetSpacing(), ct.GetDirection()
    )
    day = sitk.Resample(ct, ct, both, sitk.sitkLinear, AIR, sitk.sitkFloat32)
    day = sitk.Cast(day + geometry.like(12 * rng.standard_normal(ct.GetSize()[::-1]), ct), sitk.sitkInt16)
    moved = {
        n: sitk.Resample(sitk.Cast(m, sitk.sitkFloat32), ct, both, sitk.sitkLinear, 0.0) > 0.5 for n, m in masks.items()
    }
    return day, moved, field


def day(given: patients.Patient, kind: str, spacing, seed: int, severity: float = 1.0, sd_mm: float = 7.0) -> Case:
    """A planning scan and a day of it: "B-spline", or simulated, and what `LOOKS` has of that name."""
    known = None
    if kind == "B-spline":
        ct, moved, field = bent(given.ct, given.structures, seed, sd_mm)
    else:
        made = daily_scan(given.ct, given.structures, seed, DailyOptions(severity=severity))
        ct, moved, field, known = made.ct, made.structures, made.displacement, made.known
    if kind in LOOKS:
        ct = LOOKS[kind](ct, np.random.default_rng([seed, zlib.crc32(kind.encode())]))
    return Case(
        f"{given.name}, {kind}, {seed}",
        kind,
        given.name,
        given.ct,
        given.structures,
        ct,
        moved,
        tuple(spacing),
        field,
        known,
    )


# ------------------------------------------------------------------ what a scanner makes of it
def _places(ct: sitk.Image) -> list[np.ndarray]:
    """x, y, z (mm from the first voxel), each [z, y, x]."""
    ends = [np.arange(n) * s for n, s in zip(ct.GetSize(), ct.GetSpacing())]
    z, y, x = np.meshgrid(*ends[::-1], indexing="ij")
    return [x, y, z]


def cone_beam(ct: sitk.Image, rng) -> sitk.Image:
    """HU that are too low by up to 150 in the depth (scatter), scaled by 0.9, with noise of 45 HU."""
    hu = sitk.GetArrayFromImage(ct).astype(np.float32)
    inside = ndimage.binary_opening(hu > -300, iterations=1)
    depth = ndimage.distance_transform_edt(inside, ct.GetSpacing()[::-1])
    noise = ndimage.gaussian_filter(rng.standard_normal(hu.shape), 0.6)
    scatter = rng.uniform(60, 150) * (depth / max(depth.max(), 1.0)) ** 0.7
    hu = (hu + 1000) * rng.uniform(0.87, 0.97) - 1000 - scatter + 45 * noise / noise.std()
    return geometry.like(np.rint(np.clip(hu, -1024, 3000)), ct, np.int16)


def with_gas(ct: sitk.Image, rng) -> sitk.Image:
    """A bubble, 12 to 20 mm in its half axes, where soft tissue was: nothing moved for it."""
    return _ball(ct, rng, lambda hu: (hu > -60) & (hu < 120), (12.0, 20.0), -950.0)


def with_metal(ct: sitk.Image, rng) -> sitk.Image:
    """An implant in a bone, 5 to 9 mm in its half axes, and dark and bright rays from it."""
    return _ball(ct, rng, lambda hu: hu > 250, (5.0, 9.0), 3000.0, rays=600.0)


def _ball(ct, rng, fits, half, value, rays=0.0) -> sitk.Image:
    hu = sitk.GetArrayFromImage(ct).astype(np.float32)
    deep = ndimage.binary_erosion(ndimage.binary_opening(hu > -300, iterations=1), iterations=4)
    at = np.argwhere(deep & fits(hu))
    if not len(at):
        return ct
    middle = at[rng.integers(len(at))][::-1] * np.array(ct.GetSpacing())
    x, y, z = (p - m for p, m in zip(_places(ct), middle))
    axes = rng.uniform(*half, 3)
    if rays:
        far = np.hypot(x, y)
        ray = np.cos(3 * np.arctan2(y, x) + rng.uniform(0, 6)) * np.exp(-far / 50) * (np.abs(z) < axes[2] + 3)
        hu = np.where(hu > -700, hu + rays * ray, hu)
    hu[(x / axes[0]) ** 2 + (y / axes[1]) ** 2 + (z / axes[2]) ** 2 < 1] = value
    return geometry.like(np.rint(np.clip(hu, -1024, 3071)), ct, np.int16)


def narrow(ct: sitk.Image, rng) -> sitk.Image:
    """Air outside of a cylinder that cuts the patient, and only half to two thirds of the slices."""
    hu = sitk.GetArrayFromImage(ct).astype(np.float32)
    inside = np.argwhere(hu > -300)
    low, high = inside.min(0), inside.max(0)
    x, y, _ = _places(ct)
    middle = (low + high) / 2 * np.array(ct.GetSpacing()[::-1])
    radius = rng.uniform(0.36, 0.44) * (high - low)[1:].max() * ct.GetSpacing()[0]
    hu[np.hypot(x - middle[2], y - middle[1]) > radius] = AIR
    count = round((high[0] - low[0]) * rng.uniform(0.5, 0.67))
    first = int(rng.integers(low[0], high[0] - count + 1))
    return geometry.like(np.rint(hu), ct, np.int16)[:, :, first : first + count]


LOOKS: dict[str, Callable] = {"cone beam": cone_beam, "gas": with_gas, "metal": with_metal, "narrow": narrow}


# ------------------------------------------------------------------ what goes wrong
def shifted(case: Case, vector) -> Case:
    """The daily scan lies elsewhere (mm, LPS)."""

    def moved(image):
        image = sitk.Image(image)
        image.SetOrigin([o + v for o, v in zip(image.GetOrigin(), vector)])
        return image

    case.daily, case.truth = moved(case.daily), {n: moved(m) for n, m in case.truth.items()}
    case.known = None if case.known is None else moved(case.known)
    if case.points is not None:
        case.points = case.points[0] + np.asarray(vector), case.points[1]
    if case.field is not None:
        case.field = moved(case.field)
        case.field = geometry_vector(sitk.GetArrayFromImage(case.field) - np.asarray(vector, float), case.field)
    return case


def geometry_vector(array: np.ndarray, grid: sitk.Image) -> sitk.Image:
    """[z, y, x, 3] as a field on a grid."""
    image = sitk.GetImageFromArray(array, isVector=True)
    image.CopyInformation(grid)
    return image


def turned_over(case: Case, axes) -> Case:
    """The voxels of the daily scan are stored the other way round along numpy's `axes`, and its header does not say so:
    what no registration of ours can find."""

    def flipped(image):
        array = sitk.GetArrayFromImage(image)
        return geometry.like(np.flip(array, axes), image, array.dtype)

    case.daily, case.truth = flipped(case.daily), {n: flipped(m) for n, m in case.truth.items()}
    case.known, case.field, case.points = None, None, None
    return case


def another(planned: patients.Patient, other: patients.Patient, spacing, seed: int) -> Case:
    """The planning scan of one patient with a day of another one."""
    made = day(other, "B-spline", spacing, seed)
    made.planning = planned.ct
    made.masks = {n: m for n, m in planned.structures.items() if n in made.truth}
    made.truth = {n: made.truth[n] for n in made.masks}
    made.name, made.field, made.known = f"{planned.name} and {other.name}", None, None
    return made


def elsewhere(case: Case) -> Case:
    """The upper end of the planning scan and the lower one of the daily scan: nothing corresponds."""
    plan, daily = case.planning.GetSize()[2], case.daily.GetSize()[2]
    case.planning = case.planning[:, :, round(0.6 * plan) :]
    case.masks = {n: m[:, :, round(0.6 * plan) :] for n, m in case.masks.items()}
    case.masks = {n: m for n, m in case.masks.items() if sitk.GetArrayViewFromImage(m).any()}
    case.daily = case.daily[:, :, : round(0.4 * daily)]
    case.truth, case.field, case.known, case.points = {}, None, None, None
    return case


# ------------------------------------------------------------------ lists of cases
DAYS = ("simulated day", "B-spline", "cone beam")


def everyday(data: Path | None, names, pelves, chests, seed: int) -> Iterator[tuple[str, Callable[[], Case]]]:
    """(name, what makes the case): necks with the kinds of `DAYS` by turns, digital pelves, breathing chests; mixed, so
    that a run that was ended early has some of each."""
    made: list[tuple[float, str, Callable[[], Case]]] = []
    for number, name in enumerate(names if data is not None else ()):
        kind = DAYS[number % len(DAYS)]
        made.append((number / len(names), f"{name}, {kind}, {seed}", partial(_neck_day, data, name, kind, seed)))
    for k, number in enumerate(pelves):
        kind = "cone beam" if number % 3 == 2 else "simulated day"
        name = f"PELVIS_{number:03d}, {kind}, {seed}"
        made.append(((k + 0.5) / len(pelves), name, partial(_pelvis_day, number, kind, seed)))
    for k, number in enumerate(chests):
        breath = partial(chest, number, 15.0 + 5.0 * (number % 4), spacing=PELVIS)
        made.append(((k + 0.5) / len(chests), f"chest {number}", breath))
    for _, name, make in sorted(made, key=lambda m: m[0]):
        yield name, make


def _neck_day(data, name, kind, seed, spacing=COARSE, **amounts) -> Case:
    return day(neck(data, name), kind, spacing, seed, **amounts)


def _pelvis_day(number, kind, seed, spacing=PELVIS, **amounts) -> Case:
    return day(pelvis(number), kind, spacing, seed, **amounts)


ROUGH = (6.0, 6.0, 6.0)  # small grids, on which a pair takes some three seconds
# by turns: what is right more often than not, and what is not
KINDS = (
    "another patient",
    "B-spline",
    "bent by far too much",
    "cone beam",
    "elsewhere",
    "gas",
    "upside down",
    "metal",
    "far off, unaligned",
    "simulated day",
    "prone",
    "narrow",
    "another patient",
    "far off",
    "bent much",
    "cone beam",
    "elsewhere",
    "severe",
    "narrow and bent",
    "B-spline",
)
# what a registration cannot make right, however near the contours of two patients may come
NEVER_RIGHT = ("another patient", "elsewhere", "upside down", "prone")
# of those, that are bent by a B-spline first: (mm, sd)
SD_MM = {
    "bent much": 14.0,
    "bent by far too much": 30.0,
    "narrow and bent": 14.0,
    **dict.fromkeys(
        (
            "B-spline",
            "far off",
            "far off, unaligned",
            "elsewhere",
            "upside down",
            "prone",
            "gas",
            "metal",
            "narrow",
            "cone beam",
        ),
        7.0,
    ),
}


def hard(data: Path | None, names, count: int, seed: int) -> Iterator[tuple[str, Callable[[], Case]]]:
    """(name, what makes the case): good days and hard ones by turns, of necks, and of every seventh a digital pelvis or
    chest. Whether one fails is not known before it was registered."""
    for number in range(count):
        yield f"{number:03d}", partial(_hard, data, list(names), number, seed)


def _hard(data, names, number: int, seed: int) -> Case:
    rng = np.random.default_rng([seed, number])
    kind, seed = KINDS[number % len(KINDS)], int(rng.integers(1, 2**31))
    if number % 7 == 6 and number % 2:
        made = chest(seed % 1000, float(rng.uniform(10, 30)), spacing=ROUGH)
    else:
        given = pelvis(100 + number) if number % 7 == 6 else neck(data, names[number % len(names)])
        if kind == "another patient":
            digital = given.name.startswith("PELVIS")
            other = pelvis(500 + number) if digital else neck(data, names[(number + 1) % len(names)])
            made = another(given, other, ROUGH, seed)
        else:
            made = day(
                given,
                "B-spline" if kind in SD_MM else "simulated day",
                ROUGH,
                seed,
                3.0 if kind == "severe" else 1.0,
                SD_MM.get(kind, 7.0),
            )
    if kind.startswith("far off"):
        made = shifted(made, rng.choice([-35.0, 35.0], 3) * (rng.permutation(3) < 2))
        made.rigid = "unaligned" not in kind
    elif kind == "upside down":
        made = turned_over(made, (0, 1))
    elif kind == "prone":
        made = turned_over(made, (1, 2))
    elif kind == "elsewhere":
        made = elsewhere(made)
    elif kind.split(" and ")[0] in LOOKS:
        made.daily = LOOKS[kind.split(" and ")[0]](made.daily, rng)
    made.kind = kind
    return made

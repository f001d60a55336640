"""A scan of another day, made from a planning scan with a deformation that is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk
import torch

from ...core import geometry
from ...core.errors import InputError
from ...deformation.warp import positions_in, sample_tensor
from . import amounts as drawing
from . import contents, scan
from .anatomy import Anatomy
from .deform import Couch, Motion

LOWEST_HU = -1100.0  # below it a scanner writes padding


@dataclass(frozen=True)
class DailyOptions:
    """How a day differs from the planning day.

    Attributes:
        severity: factor on everything that is drawn; 0 changes nothing but noise, 1 is what is seen in patients.
        changes: names out of `CHANGES`; None for all that the structures permit.
        amounts: amounts in place of drawn ones, by the change's name and in the form that `description` gives them
            back, such as {"bladder": 1.4, "neck": (4, 0, 0)}; not multiplied by `severity`.
        noise_hu: SD of the daily scan's own noise.
        drift: SD of the relative error of its attenuation, times `severity`.
        grid: the daily scan's voxels; None draws another field of view (or keeps the planning scan's, without that
            change).
    """

    severity: float = 1.0
    changes: tuple | None = None
    amounts: Mapping = field(default_factory=dict)
    noise_hu: float = 12.0
    drift: float = 0.012
    grid: sitk.Image | None = None


@dataclass
class DailyScan:
    """A day's scan and the truth about it; on the daily grid unless said otherwise.

    Attributes:
        ct: HU, int16, or float32 for a planning scan of floats; air where `known` is 0.
        structures: {name: uint8}, the linearly sampled mask above one half.
        displacement: mm, LPS, as in `rtuncertainty.deformation`: p + displacement(p) is the point of the planning scan
            with the same tissue; a continuation where `known` is 0.
        inverse: the same on the planning grid, from planning to daily points.
        body: uint8; 0 where `known` is 0.
        known: uint8; 0 where the planning scan shows nothing: beyond its field of view and in slices that were blanked.
        refilled: uint8; 1 where gas came or went, which moved no tissue.
        description: what was asked for and what came of it (ml, mm, degrees), ready for JSON.
        seed: of the day.
    """

    ct: sitk.Image
    structures: dict
    displacement: sitk.Image
    inverse: sitk.Image
    body: sitk.Image
    known: sitk.Image
    refilled: sitk.Image
    description: dict
    seed: int


def masks_of(labels: sitk.Image, names: Mapping) -> dict:
    """Structures of a label image.

    Args:
        labels: label image.
        names: {name: label}.

    Returns:
        {name: uint8 mask}.
    """
    return {name: sitk.Equal(labels, int(value)) for name, value in names.items()}


def daily_scan(
    planning: sitk.Image, structures: Mapping, seed: int = 0, options: DailyOptions | None = None
) -> DailyScan:
    """The patient of a planning CT on another day, with a deformation that is known.

    The deformation is a composition of diffeomorphisms: soft tissue first, with bones at rest, then the neck, then the
    couch. The CT is interpolated once, linearly. Organ volumes come out as asked for, unless some tissue would be
    pressed to less than a quarter: then all of soft tissue moves less, and `description` gives the volumes that came of
    it.

    Args:
        planning: CT in HU, any direction and spacing.
        structures: {name: mask} on its grid, not 0 inside. They may overlap. Which of them is the bladder, the rectum,
            the prostate, a parotid, the spinal cord or a bone is known by the names (see `roles_of`).
        seed: the same seed gives the same day.
        options: how the day differs; None: as is seen in patients.

    Returns:
        The day's scan and the truth about it.

    Raises:
        InputError: images that do not belong together and options that cannot be.
    """
    options = options or DailyOptions()
    masks = _checked(planning, structures, options)
    anatomy = Anatomy(planning, masks)
    if not anatomy.body.any():
        raise InputError("daily anatomy: the planning CT shows no body (nothing above -300 HU); give a CT in HU.")
    asked = _amounts(anatomy, seed, options)
    couch = Couch.of(asked.get("couch"), anatomy.points[anatomy.body].mean(0))
    motion = Motion(anatomy, asked, seed)

    grid = _grid(planning, asked.get("field_of_view"), options)
    displacement = motion.to_planning(grid, couch)
    inverse = motion.to_daily(couch, displacement)

    def warped(array, places, outside=0.0):
        source = torch.from_numpy(np.ascontiguousarray(array, np.float32))[None, None]
        return sample_tensor(source, places, outside)[0, 0].numpy()

    def warped_mask(mask, places):
        return geometry.like(warped(mask, places) > 0.5, grid, np.uint8)

    places = positions_in(planning, displacement)
    new, refilled, gas = _refilled(planning, anatomy, masks, asked, seed)
    hu, spacing = warped(new, places, scan.AIR_HU), grid.GetSpacing()
    hu = scan.drifted(hu, spacing, options.drift * options.severity, drawing.generator(seed, "drift"))
    hu = scan.noisy(hu, spacing, options.noise_hu, drawing.generator(seed, "noise"))
    shown = (sitk.GetArrayViewFromImage(planning) >= LOWEST_HU) & anatomy.supplied[:, None, None]
    known = warped_mask(shown, places)
    body = warped_mask(anatomy.body, positions_in(anatomy.lattice.image(anatomy.body.astype(np.uint8)), displacement))
    return DailyScan(
        ct=_as_planning(hu, planning, grid),
        structures={n: warped_mask(m, places) for n, m in masks.items()},
        displacement=displacement,
        inverse=inverse,
        body=sitk.And(body, known),
        known=known,
        refilled=warped_mask(refilled, places),
        description=_described(asked, motion, gas, options),
        seed=int(seed),
    )


def _checked(planning: sitk.Image, structures: Mapping, options: DailyOptions) -> dict:
    """The structures as bool arrays, or an `InputError`."""
    if planning.GetDimension() != 3 or planning.GetNumberOfComponentsPerPixel() != 1:
        raise InputError("daily anatomy: the planning CT is no single 3-D volume; give one CT.")
    if min(planning.GetSize()) < 8:
        raise InputError(
            f"daily anatomy: the planning CT has {' x '.join(map(str, planning.GetSize()))} voxels; give at least 8 "
            "along each axis."
        )
    if options.grid is not None and options.grid.GetDimension() != 3:
        raise InputError(
            f"daily anatomy: the daily grid has {options.grid.GetDimension()} dimensions; give a 3-D image."
        )
    numbers = {"severity": options.severity, "noise_hu": options.noise_hu, "drift": options.drift}
    for name, value in numbers.items():
        if not (np.isfinite(value) and value >= 0):
            raise InputError(f"daily anatomy: {name} is {value}; give a number of 0 or more.")
    masks = {}
    for name, mask in structures.items():
        if not geometry.same_grid(mask, planning):
            raise InputError(
                f"daily anatomy: structure {name!r} does not lie on the planning CT's voxels; resample it to the CT "
                "first."
            )
        masks[name] = sitk.GetArrayFromImage(mask) != 0
    return masks


def _amounts(anatomy: Anatomy, seed: int, options: DailyOptions) -> dict:
    """What changes by how much: drawn, or given."""
    offered = drawing.possible(anatomy)
    changes = offered if options.changes is None else tuple(options.changes)
    for name in changes:
        if name not in offered:
            raise InputError(
                f"daily anatomy: the change {name!r} cannot be made with these structures; possible are "
                f"{', '.join(offered)}."
            )
    drawn = drawing.draw(anatomy, changes, seed, options.severity)
    drawing.check(options.amounts, drawn)
    return drawn | dict(options.amounts)


def _grid(planning: sitk.Image, field_of_view, options: DailyOptions) -> sitk.Image:
    if options.grid is not None:
        return options.grid
    if not field_of_view:
        return planning
    grid = scan.daily_grid(planning, **field_of_view)
    if min(grid.GetSize()) < 8:
        raise InputError(
            "daily anatomy: the field of view leaves fewer than 8 voxels along an axis; give a larger one."
        )
    return grid


def _refilled(planning: sitk.Image, anatomy: Anatomy, masks: dict, asked: dict, seed: int):
    """The planning HU with the rectum's new contents, the voxels that they changed, and the gas in ml before and
    after.
    """
    share = asked.get("rectal_gas")
    hu = sitk.GetArrayFromImage(planning)
    if share is None:
        return hu, np.zeros(hu.shape, bool), None
    rectum = masks[anatomy.names("rectum")[0]]
    wanted = share * float(rectum.sum()) * anatomy.grid.voxel_ml
    return contents.refill(hu, rectum, anatomy.grid, wanted, drawing.generator(seed, "rectal_gas"))


def _as_planning(hu: np.ndarray, planning: sitk.Image, grid: sitk.Image) -> sitk.Image:
    """HU as the planning scan has them: int16 for integers, else float32."""
    if planning.GetPixelID() in (sitk.sitkFloat32, sitk.sitkFloat64):
        return geometry.like(hu, grid)
    lowest = min(scan.AIR_HU, float(sitk.GetArrayViewFromImage(planning).min()))
    return geometry.like(np.rint(np.clip(hu, lowest, 32767)), grid, np.int16)


def _described(asked: dict, motion: Motion, gas, options: DailyOptions) -> dict:
    return {
        "severity": float(options.severity),
        "asked": {c: _plain(a) for c, a in asked.items()},
        "volumes_ml": motion.volumes_ml,
        "shifts_mm": motion.shifts_mm,
        "skin_mm": motion.skin_mm,
        "rectal_gas_ml": gas,
        "tempered": motion.tempered,
        "noise_hu": float(options.noise_hu),
        "drift": float(options.drift * options.severity),
    }


def _plain(amount):
    """An amount as JSON has it."""
    if isinstance(amount, Mapping):
        return {k: _plain(v) for k, v in amount.items()}
    if isinstance(amount, (tuple, list, np.ndarray)):
        return [_plain(v) for v in amount]
    return None if amount is None else float(amount)

"""Deformations of another tool: the planning structures moved by each of them, the mean, and its SD where there are
several.

They follow ITK's convention (`rtuncertainty.deformation`): mm, LPS, from points of the daily to points of the planning
scan. ITK itself turns NIfTI's displacement vectors (intent 1006), which are RAS by that standard; others (1007, as ANTs
and SimpleITK write) are taken as LPS.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .. import deformation
from ..bundles import site as sites
from ..core import ct, geometry, image_io, surfaces
from ..core.ct import AIR_HU
from ..core.errors import InputError
from ..dicom import structure_input
from ..propagation.agreement import judge, limits_of
from ..propagation.as_result import as_result
from ..propagation.result import Contour, Propagation
from ..results.result import Result
from ..uncertainty import checks, volume_assessment
from ..uncertainty.flags import Flag
from .card import card_of
from .segmentation import stored
from .source import Source

# of the voxels on which the checks are made, mm
CHECKED_MM = 2.5
# by so much (correlation) mirrored vectors must be better to be what was meant
BETTER = 0.02


def result(
    found: Source, file: Path, daily: sitk.Image, modality: str, planning, planning_structures, progress, site=None
) -> Result:
    """A result of the job "propagate".

    Args:
        found: with the deformations.
        file: of the daily scan.
        daily: the daily scan.
        modality: of both scans, CT or MR.
        planning: path of the planning scan.
        planning_structures: path of what was drawn on it.
        progress: takes stages and notes.
        site: as of `collect`.

    Returns:
        The result in memory.

    Raises:
        InputError: a missing planning scan, structures or field, or a field that does not fit the scans.
    """
    if planning is None or planning_structures is None:
        raise InputError(
            f"{found.deformations[0]}: a deformation moves planning structures; give the planning scan with --planning "
            "and its structures with --structures."
        )
    plan = image_io.read(planning, tell=progress.note)
    given = structure_input.read(planning_structures, grid=plan, tell=progress.note, grid_name=str(planning))
    card = sites.applied(card_of(found.tool, found.version, modality, {"deformation": {}}), site)
    air = AIR_HU if modality == "CT" else min(0.0, float(sitk.GetArrayViewFromImage(plan).min()))
    fields: list[sitk.Image] = []
    moved, mean, covariance = {name: np.zeros(()) for name in given}, np.zeros(()), None
    for number, path in enumerate(found.deformations, 1):
        progress.stage("assemble", number / len(found.deformations), f"Deformation {number}: {path.name}")
        own = _field(path, daily)
        on_daily = own if geometry.same_grid(own, daily) else deformation.resample_field(own, daily)
        fields.append(own if number == 1 else deformation.resample_field(own, fields[0]))
        value = sitk.GetArrayFromImage(on_daily)
        for name, s in given.items():
            moved[name] = moved[name] + _moved(s.mask, daily, on_daily)
        if number == 1:
            mean = value
            continue
        delta = value - mean
        mean += delta / number
        products = _products(delta, value - mean)
        covariance = products if covariance is None else covariance + products
    count = len(found.deformations)
    if covariance is not None:
        covariance /= count - 1
        if not covariance.any():
            raise InputError(
                f"{found.deformations[0]} and the other deformations are the same everywhere; give members that "
                "differ, or one."
            )
    on_daily = deformation.field_from_array(mean, daily)
    field = fields[0] if count == 1 else deformation.field_from_array(_mean(fields), fields[0])
    warped = _warped(plan, daily, on_daily, air)
    similarity = _similarity(found.deformations[0], plan, daily, on_daily, warped, modality, air)
    determinant = deformation.jacobian_determinant(field)
    body = sitk.GetArrayFromImage(_body(daily, modality)) > 0
    on = sitk.Resample(determinant, daily, sitk.Transform(), sitk.sitkLinear, 1.0, sitk.sitkFloat32)
    statistics = deformation.jacobian_statistics(on, body)
    evidence = _evidence(plan, daily, on_daily, warped, modality, air)
    failures = evidence.failures(card)
    checked = any(map(math.isfinite, evidence.values.values()))
    contours = [
        _contour(s, daily, on_daily, moved[name] / count, covariance, card, failures, checked)
        for name, s in given.items()
    ]
    flags = evidence.flags(card)
    if statistics.folding_fraction > 0.005:
        flags.append(
            Flag(
                "deformation",
                "serious",
                "folding",
                f"The deformation folds in {statistics.folding_fraction:.1%} of the body; do not map dose with it.",
            )
        )
    if similarity["after"] < similarity["before"]:
        flags.append(
            Flag(
                "deformation",
                "warning",
                "no gain",
                f"The scans are less alike after the deformation (correlation {similarity['after']:.3f}) than before "
                f"({similarity['before']:.3f}); look at the warped planning scan.",
            )
        )
    in_hu = modality == "CT"
    made = as_result(
        Propagation(
            field=field,
            warped_planning=sitk.Cast(sitk.Round(sitk.Clamp(warped, sitk.sitkFloat32, -1024, 3071)), sitk.sitkInt16)
            if in_hu
            else warped,
            jacobian=on,
            displacement_sd=None if covariance is None else geometry.like(np.sqrt(covariance[:3].sum(0)) * body, daily),
            entropy=None,
            contours=contours,
            flags=flags,
            similarity=similarity,
            folding=statistics.folding_fraction,
            jacobian_statistics=statistics,
            rigid=sitk.Euler3DTransform(),
            card=card,
            options={"members": count},
            names={"planning": str(planning), "daily": str(file), "structures": str(planning_structures)},
            device_used="",
            notes=progress.notes,
            seconds=progress.seconds,
        )
    )
    # the field is all there is: nothing was aligned here
    made.summary["rigid"] = None
    made.summary["checks"] = {n: round(v, 4) if math.isfinite(v) else None for n, v in evidence.values.items()}
    if count > 1:
        progress.note(
            f"The SD of the deformation is that over its {count} members; what all of them get wrong is not in it."
        )
    return made


def _field(path: Path, daily: sitk.Image) -> sitk.Image:
    """A displacement field in mm; of a transform file that holds none, on the voxels of the daily scan."""
    if path.name.lower().endswith((".h5", ".hdf5", ".tfm")):
        try:
            return deformation.read_transform(path)
        except InputError:
            return deformation.read_transform(path, daily)
    field = stored(path)
    image_io.require_geometry(field, str(path))
    field = deformation.require_field(field, str(path))
    geometry.require_overlap(field, daily, str(path), "the daily scan")
    return field


def _transform(field: sitk.Image) -> sitk.Transform:
    # a copy, because the transform takes the image's memory
    return sitk.DisplacementFieldTransform(sitk.Image(field))


def _moved(mask: sitk.Image, daily: sitk.Image, field: sitk.Image) -> np.ndarray:
    """float32, 0 or 1: linear, above one half."""
    there = sitk.Resample(
        sitk.Cast(mask, sitk.sitkFloat32), daily, _transform(field), sitk.sitkLinear, 0.0, sitk.sitkFloat32
    )
    return (sitk.GetArrayViewFromImage(there) > 0.5).astype(np.float32)


def _warped(plan: sitk.Image, daily: sitk.Image, field: sitk.Image, air: float) -> sitk.Image:
    return sitk.Resample(
        geometry.smoothed_for(plan, daily), daily, _transform(field), sitk.sitkLinear, air, sitk.sitkFloat32
    )


def _products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[6, z, y, x] (xx, yy, zz, xy, xz, yz) of [z, y, x, 3]."""
    return np.stack(
        [(a[..., i] * b[..., j]).astype(np.float32) for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))]
    )


def _mean(fields: list[sitk.Image]) -> np.ndarray:
    total = sitk.GetArrayFromImage(fields[0])
    for field in fields[1:]:
        total += sitk.GetArrayViewFromImage(field)
    return total / len(fields)


def _body(image: sitk.Image, modality: str) -> sitk.Image:
    from .synthetic import body_of

    return body_of(image, modality)


def _similarity(path, plan, daily, field, warped, modality, air) -> dict[str, float]:
    """Correlation in the patient before and after. Raises `InputError` where mirrored vectors are what was meant."""
    inside = sitk.GetArrayViewFromImage(_body(daily, modality)) > 0
    fixed = sitk.GetArrayViewFromImage(daily)[inside]

    def alike(moving: sitk.Image) -> float:
        with np.errstate(invalid="ignore"):
            return float(np.nan_to_num(np.corrcoef(fixed, sitk.GetArrayViewFromImage(moving)[inside])[0, 1]))

    before = alike(_warped(plan, daily, deformation.zero_field(daily), air))
    after = alike(warped)
    if after < before:
        vectors = sitk.GetArrayFromImage(field)
        for signs, what in (
            ((-1, -1, 1), "are RAS, not LPS"),
            ((-1, -1, -1), "point from the planning to the daily scan"),
        ):
            turned = alike(_warped(plan, daily, deformation.field_from_array(vectors * signs, daily), air))
            if turned > max(before, after) + BETTER:
                raise InputError(
                    f"{path}: its vectors {what}: the scans are less alike after it (correlation {after:.3f}) than "
                    f"before ({before:.3f}), and more alike with them turned ({turned:.3f}); write it as ITK does, in "
                    "mm, LPS, from the daily to the planning scan."
                )
    return {"before": before, "after": after}


def _evidence(plan, daily, field, warped, modality, air) -> checks.Evidence:
    """Skins, bones and lungs of both scans after the deformation; none where the scans are no CTs."""
    if modality != "CT":
        return checks.Evidence({})
    grid = geometry.resampled_grid(daily, [max(s, CHECKED_MM) for s in daily.GetSpacing()])
    there = _transform(field)

    def moved(image: sitk.Image, outside: float) -> np.ndarray:
        image = sitk.Cast(image, sitk.sitkFloat32)
        return sitk.GetArrayFromImage(sitk.Resample(image, grid, there, sitk.sitkLinear, outside, sitk.sitkFloat32))

    try:
        bodies = [ct.body_mask(image, name) for image, name in ((daily, "the daily CT"), (plan, "the planning CT"))]
    except InputError:
        return checks.Evidence({})
    body = sitk.GetArrayFromImage(geometry.resample(bodies[0], grid, "nearest")) > 0
    known = moved(geometry.like(np.ones(plan.GetSize()[::-1]), plan), 0.0) > 0.99
    fixed, there_too = (
        sitk.GetArrayFromImage(geometry.resample(image, grid, background=air)) for image in (daily, warped)
    )
    return checks.measured(fixed, there_too, body, moved(bodies[1], 0.0) > 0.5, known, grid.GetSpacing(), True)


def _contour(s, daily, field, share, covariance, card: dict, failures: list[str], checked: bool) -> Contour:
    """A structure on the daily scan; `share`: of the deformations that put a voxel inside."""
    mask = _moved(s.mask, daily, field) > 0.5
    sd, assessed = math.nan, None
    if covariance is not None and mask.any():
        sd = float(surfaces.normal_sd(covariance, mask, daily.GetSpacing()).mean())
        # by the share in which it lies inside, all of the surface together
        inside = share.astype(np.float32)
        assessed = volume_assessment.assess(s.name, inside, None, mask, None, daily, card)
    agreement = judge(mask, None, daily.GetSpacing(), sd, None, limits_of(card))
    if failures:
        agreement.light, agreement.reason = "red", "; ".join(failures)
    elif agreement.light == "green" and not checked:
        agreement.light = "amber"
        agreement.reason = "the members agree, but neither skin, bones nor lungs could be compared to check them"
    ml, planned = (float(np.prod(i.GetSpacing())) / 1000 for i in (daily, s.mask))
    return Contour(
        name=s.name,
        organ="",
        planning_name=s.name,
        color=tuple(s.color),
        code=s.code,
        propagated=geometry.like(mask, daily, np.uint8),
        segmented=None,
        planning_ml=float(np.count_nonzero(sitk.GetArrayViewFromImage(s.mask))) * planned,
        propagated_ml=(float(mask.sum()) * ml, math.nan, math.nan),
        segmented_ml=None,
        propagated_sd_mm=sd,
        segmented_sd_mm=math.nan,
        agreement=agreement,
        default="propagated",
        role=s.role,
        assessed=assessed,
    )

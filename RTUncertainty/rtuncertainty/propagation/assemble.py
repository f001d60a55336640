"""From the working grid to the daily CT's: images of the deformation, contours, and their SDs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from .. import deformation
from ..bundles import bundle as bundles
from ..core import geometry, structures, surfaces
from ..core.ct import normalised
from ..deformation.field import axes
from ..deformation.objective import correlation
from ..uncertainty import checks, flags, volume_assessment
from . import assess, spread
from . import pair as pairs
from .agreement import judge, limits_of
from .result import LEVEL, Contour


def images(found, pair, plan: sitk.Image, daily: sitk.Image, compared: sitk.Image, card: dict, progress) -> dict:
    """The deformation as one field over the daily CT, the warped planning CT, the Jacobian and the SDs.

    Args:
        found: `deform.Found`, on the working grid.
        pair: `pair.Pair`, both scans on the working grid.
        plan: the planning scan as given.
        daily: the daily scan as given.
        compared: the planning scan in HU, which is `plan` unless that is an MR.
        card: of the model; its `calibration.spread` scales the SDs.
        progress: takes the stages; its token cancels.

    Returns:
        Fields of `Propagation` by their names.
    """
    import torch

    grid = geometry.resampled_grid(
        daily, [max(a, b) for a, b in zip(_along(daily, pair.grid.GetSpacing()), daily.GetSpacing())]
    )
    local = deformation.from_voxels(found.displacement, pair.grid)
    field = deformation.after_rigid(deformation.resample_field(local, grid), pair.rigid)
    transform = sitk.DisplacementFieldTransform(sitk.Image(field))
    progress.stage("assemble", 0.1, "Warping the planning CT")
    in_hu = card["input"].get("modality") != "MR"
    outside = pairs.AIR_HU if in_hu else min(0.0, float(sitk.GetArrayViewFromImage(plan).min()))
    warped = sitk.Resample(
        geometry.smoothed_for(plan, daily), daily, transform, sitk.sitkLinear, outside, sitk.sitkFloat32
    )
    determinant = deformation.jacobian_determinant(field)
    inside = sitk.Resample(
        geometry.like(pair.body & pair.known, pair.grid, np.uint8), field, sitk.Transform(), sitk.sitkNearestNeighbor, 0
    )
    statistics = deformation.jacobian_statistics(determinant, sitk.GetArrayFromImage(inside) > 0)
    out = {
        "field": field,
        "warped_planning": sitk.Cast(sitk.Round(sitk.Clamp(warped, sitk.sitkFloat32, -1024, 3071)), sitk.sitkInt16)
        if in_hu
        else warped,
        "jacobian": _on(determinant, daily, 1.0),
        "displacement_sd": None,
        "entropy": None,
        "folding": statistics.folding_fraction,
        "jacobian_statistics": statistics,
    }
    covariance, probability = found.sampled.covariance, found.sampled.probability
    body = pair.body
    if covariance is not None:
        mm2 = _calibrated(_millimetres(covariance.cpu().numpy(), pair.grid.GetSpacing()), card)
        out["displacement_sd"] = _on(geometry.like(np.sqrt(mm2[:3].sum(0).clip(0)) * body, pair.grid), daily, 0.0)
    if probability is not None:
        p = _shown(probability, card).clamp_min(1e-12)
        out["entropy"] = _on(geometry.like((-(p * p.log()).sum(0)).cpu().numpy() * body, pair.grid), daily, 0.0)
    with torch.no_grad():
        tensors = [
            torch.from_numpy(a.astype(np.float32))[None, None]
            for a in (
                normalised(pair.daily),
                normalised(pairs.through(compared, pair.grid, sitk.Transform(), pairs.AIR_HU)),
                pair.body,
            )
        ]
        out["similarity"] = {"before": correlation(*tensors).item(), **found.similarity}
    return out


def evidence(found, pair, card: dict) -> checks.Evidence:
    """What speaks for and against the deformation; see `checks`."""
    import torch

    arrays = np.stack([pair.planning, pair.planning_body, pair.known]).astype(np.float32)
    device = found.displacement.device
    moved = deformation.warp_tensor(torch.from_numpy(arrays)[None].to(device), found.displacement[None])[0]
    warped, body, known = moved.cpu().numpy()
    there_and_back = found.there_and_back
    if there_and_back is not None:
        there_and_back = there_and_back.cpu().numpy() * float(np.mean(pair.grid.GetSpacing()))
    return checks.measured(
        pair.daily,
        warped,
        pair.body,
        body > 0.5,
        (known > 0.99),
        pair.grid.GetSpacing(),
        card["input"].get("modality") != "MR",
        there_and_back,
        found.residual,
        deformation.jacobian_tensor(found.displacement[None])[0, 0].cpu().numpy(),
    )


def _shown(probability, card: dict):
    """Class probabilities [K, z, y, x] in which organs that the model segments badly count as background."""
    import torch

    unfit = [k for k, s in enumerate(card["outputs"]["structures"], 1) if s.get("segment") is False]
    if not unfit:
        return probability
    kept = [k for k in range(1, len(probability)) if k not in unfit]
    background = probability[[0, *unfit]].sum(0, keepdim=True)
    return torch.cat([background, probability[kept]])


def _along(daily: sitk.Image, spacing) -> list[float]:
    """`spacing` of the axial working grid for the axes of the daily CT, whatever their order."""
    direction = np.abs(np.array(daily.GetDirection()).reshape(3, 3))
    return [float(spacing[int(direction[:, axis].argmax())]) for axis in range(3)]


def _on(image: sitk.Image, daily: sitk.Image, outside: float) -> sitk.Image:
    return sitk.Resample(image, daily, sitk.Transform(), sitk.sitkLinear, outside, sitk.sitkFloat32)


def _millimetres(covariance: np.ndarray, spacing) -> np.ndarray:
    """A covariance [6, z, y, x] in voxels² as mm², along the grid's axes."""
    x, y, z = spacing
    return covariance * np.reshape([x * x, y * y, z * z, x * y, x * z, y * z], (6, 1, 1, 1))


def _calibrated(mm2: np.ndarray, card: dict) -> np.ndarray:
    """The covariance after the card's calibration, if it has one."""
    calibration = spread.of_card(card)
    return mm2 if calibration is None else calibration.apply(mm2)


def contours(
    found,
    pair,
    field: sitk.Image,
    given: dict,
    known: dict,
    organs: dict,
    plan: sitk.Image,
    daily: sitk.Image,
    card: dict,
    progress,
    failures: list[str] | None = None,
):
    """Each structure by the deformation, those that the model segments by direct segmentation too.

    An organ whose entry in the card says "segment": false was segmented badly on the validation pairs; it is not shown.

    Args:
        found: `deform.Found`, on the working grid.
        pair: `pair.Pair`.
        field: daily to planning points, mm.
        given: {name: `core.structure_set.Structure`} of the planning scan.
        known: {planning name: organ of the model}.
        organs: {organ: its entry in the card} in the order of the network's classes.
        plan: the planning scan as given.
        daily: the daily scan as given.
        card: of the model; its limits and calibration count.
        progress: takes the stages; its token cancels.
        failures: of the checks of the deformation; with any, no contour that it moved is better than red.

    Returns:
        (list of `Contour` on the grid of the daily CT, list of `flags.Flag`).
    """
    sampled, deforms = found.sampled, bundles.deforms(card)
    segmented = _segmented(sampled, pair, organs, daily) if sampled.probability is not None else None
    transform = sitk.DisplacementFieldTransform(sitk.Image(field))
    mm2 = None if sampled.covariance is None else _millimetres(sampled.covariance.cpu().numpy(), pair.grid.GetSpacing())
    plan_ml, day_ml = (float(np.prod(i.GetSpacing())) / 1000 for i in (plan, daily))
    out, raised = [], []
    for number, (name, s) in enumerate(given.items()):
        progress.stage("assemble", 0.2 + 0.8 * number / len(given), f"Contour {number + 1} of {len(given)}: {name}")
        organ = known.get(name)
        entry = organs.get(organ, {})
        moved = _moved(s.mask, daily, transform)
        kept = structures.tidy_moved(moved, entry.get("rule") or {}, day_ml)
        direct = (
            segmented == entry["label"] if segmented is not None and entry.get("segment", organ is not None) else None
        )
        sd, direct_sd, point, about = _spreads(found, pair, name, organ, organs, mm2, card)
        otherwise = None if point is None else round(daily.TransformPhysicalPointToContinuousIndex(point)[2])
        # a contour that was only aligned rigidly is no second opinion of one that was segmented
        own = not deforms and direct is not None
        both, told = ((direct, None), direct_sd) if own else ((kept, direct), sd)
        agreement = judge(*both, daily.GetSpacing(), told, otherwise, limits_of(card, organ or ""))
        if own and not direct.any():
            agreement.reason = "the direct segmentation found nothing"
        elif own and agreement.light == "green":
            agreement.reason = "the sampled surfaces agree; the model deforms nothing to compare with"
        if failures and not own:
            agreement = replace(agreement, light="red", reason="; ".join(failures))
        planning_ml = float(sitk.GetArrayViewFromImage(s.mask).astype(bool).sum()) * plan_ml
        # the card's limits and calibration go by the model's name, everything that is shown by the clinic's
        title, rule = entry.get("name", name), entry.get("rule")
        assessed = {
            "propagated": None if about is None else assess.of_deformation(title, kept, *about, daily, card, rule),
            "segmented": None,
        }
        if direct is not None and sampled.probability_variance is not None:
            mean, variance = (
                t[1 + list(organs).index(organ)].cpu().numpy() * pair.body
                for t in (sampled.probability, sampled.probability_variance)
            )
            assessed["segmented"] = assess.of_segmentation(title, mean, variance, pair.grid, direct, daily, card, rule)
        for found_by in filter(None, assessed.values()):
            found_by.distribution = replace(found_by.distribution, structure=name, organ=title)
            found_by.quality = replace(found_by.quality, structure=name)
        better = entry.get("path") == "segmented" or not deforms
        default = "segmented" if direct is not None and direct.any() and better else "propagated"
        contour = Contour(
            name,
            title if organ is not None else "",
            name,
            tuple(entry.get("color", s.color)),
            entry.get("code", s.code),
            geometry.like(kept, daily, np.uint8),
            None if direct is None else geometry.like(direct, daily, np.uint8),
            planning_ml,
            _volume(kept, day_ml, assessed["propagated"], card),
            None if direct is None else _volume(direct, day_ml, assessed["segmented"], card),
            sd,
            direct_sd if direct is not None else math.nan,
            agreement,
            default,
            _cut_off(s.mask, field, daily),
            s.role,
            assessed[default],
        )
        out.append(contour)
        raised += _flags(contour, card) + (_broken(name, s.mask, kept) if deforms else [])
    renamed = [f"{c.name} as {c.organ}" for c in out if c.organ and c.organ != c.name]
    if renamed:
        progress.note(f"The model knows {', '.join(renamed)}.")
    return out, raised


def _moved(mask: sitk.Image, daily: sitk.Image, transform) -> np.ndarray:
    """A planning structure on the daily grid, through the deformation: linear, above one half."""
    moved = sitk.Resample(sitk.Cast(mask, sitk.sitkFloat32), daily, transform, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    return sitk.GetArrayViewFromImage(moved) > 0.5


def _segmented(sampled, pair, organs: dict, daily: sitk.Image) -> np.ndarray:
    """The likeliest organ of every voxel of the daily grid, after the card's rules."""
    best, likeliest = None, None
    for k, channel in enumerate(sampled.probability.cpu().numpy()):
        p = sitk.GetArrayFromImage(
            _on(
                geometry.like(channel * pair.body if k else np.where(pair.body, channel, 1.0), pair.grid),
                daily,
                float(k == 0),
            )
        )
        if best is None:
            best, likeliest = p, np.zeros(p.shape, np.uint8)
            continue
        likeliest[p > best] = list(organs.values())[k - 1]["label"]
        np.maximum(best, p, out=best)
    return structures.tidy_labels(likeliest, list(organs.values()), float(np.prod(daily.GetSpacing())) / 1000)


def _spreads(found, pair, name: str, organ, organs: dict, mm2, card: dict):
    """(sd of the propagated, sd of the segmented surface, a point in the slice where the propagated one is least
    certain, and its sd about the structure, calibrated and as sampled, as images of the working grid).

    In mm, means over the surface voxels of the working grid; NaN and None where nothing was sampled. mm2: the sampled
    covariance.
    """
    import torch

    spacing, first, second, point, about = pair.grid.GetSpacing(), math.nan, math.nan, None, None
    if mm2 is not None:
        mask = torch.from_numpy(pair.labels[name])[None, None].to(found.displacement.device)
        moved = deformation.warp_tensor(mask, found.displacement[None], 0.0)[0, 0].cpu().numpy() > 0.5
        if moved.any():
            sd, sampled = (surfaces.normal_sd(c, moved, spacing) for c in (_calibrated(mm2, card), mm2))
            first, point = float(sd.mean()), _least_certain(moved, sd, pair.grid)
            about = assess.spread_about(moved, sd, pair.grid), assess.spread_about(moved, sampled, pair.grid)
    if organ is not None and found.sampled.probability_variance is not None:
        k = 1 + list(organs).index(organ)
        mean = found.sampled.probability[k].cpu().numpy()
        if (mean > 0.5).any():
            second = float(
                surfaces.threshold_sd(
                    mean, found.sampled.probability_variance[k].cpu().numpy(), mean > 0.5, spacing
                ).mean()
            )
    return first, second, point, about


def _least_certain(mask: np.ndarray, sd: np.ndarray, grid: sitk.Image) -> tuple:
    """The middle (LPS) of the structure's surface in the slice where its mean sd is largest; slices that it barely
    touches say little.
    """
    at = np.argwhere(surfaces.surface(mask))
    count = np.bincount(at[:, 0])
    mean = np.bincount(at[:, 0], sd) / np.maximum(count, 1)
    z = int(np.where(count >= 0.25 * count.max(), mean, -1).argmax())
    return grid.TransformContinuousIndexToPhysicalPoint([float(v) for v in at[at[:, 0] == z].mean(0)[::-1]])


def _volume(mask: np.ndarray, ml: float, assessed, card: dict) -> tuple:
    """(volume, lower, upper) in ml, calibrated as the card says; bounds NaN without samples or calibration."""
    if assessed is None:
        return float(mask.sum()) * ml, math.nan, math.nan
    row = volume_assessment.volume(assessed, card, LEVEL)
    return row.volume_ml, row.lower_ml, row.upper_ml


def _cut_off(mask: sitk.Image, field: sitk.Image, daily: sitk.Image) -> float:
    """The part of a planning structure that the deformation puts outside of the daily scan.

    One step of the inverse is taken for it, which is near enough to distinguish inside from outside.
    """
    index = np.argwhere(sitk.GetArrayViewFromImage(mask) > 0)[:, ::-1]
    matrix, origin = axes(mask)
    points = index[:: max(1, len(index) // 1000)] @ matrix.T + origin
    there = 2 * points - deformation.transform_points(field, points)
    matrix, origin = axes(daily)
    where = np.linalg.solve(matrix, (there - origin).T).T
    return 1 - float(((where >= -0.5) & (where <= np.array(daily.GetSize()) - 0.5)).all(1).mean())


def _broken(name: str, planned: sitk.Image, moved: np.ndarray) -> list:
    """A flag where a structure has more large pieces than it was drawn with."""
    before, after = (int(structures.large_pieces(m).max()) for m in (sitk.GetArrayViewFromImage(planned) > 0, moved))
    if after <= before:
        return []
    return [
        flags.Flag(
            name,
            "warning",
            "in pieces",
            f"It was drawn in {before} piece{'s' * (before != 1)} and came out in {after}: join them where it is thin.",
        )
    ]


def _flags(contour: Contour, card: dict) -> list:
    found = []
    severity = {"amber": "warning", "red": "serious"}.get(contour.agreement.light)
    if severity:
        found.append(
            flags.Flag(
                contour.name,
                severity,
                "check the contour",
                contour.agreement.reason[:1].upper() + contour.agreement.reason[1:] + ".",
            )
        )
    if contour.cut_off > 0.02:
        found.append(
            flags.Flag(
                contour.name,
                "warning",
                "cut off",
                f"About {contour.cut_off:.0%} of the planning structure lies outside of the daily scan.",
            )
        )
    if contour.assessed is not None and contour.assessed.distribution.volume_ml > 0:
        found += flags.of_uncertainty(
            volume_assessment.volume(contour.assessed, card, LEVEL), contour.assessed.quality, card
        )
    volume, planned = contour.propagated_ml[0], contour.planning_ml
    if planned > 0 and volume > 0 and not 0.5 <= volume / planned <= 2:
        found.append(
            flags.Flag(
                contour.name,
                "warning",
                "volume",
                f"It has {volume:.1f} ml on the daily scan and had {planned:.1f} ml on the planning scan.",
            )
        )
    return found

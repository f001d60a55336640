"""What one patient tells of a model: a `Result`, by whomever it was made, against the patient's reference.

This is all that the statistics see, and it is a few kilobytes: errors by region and structure, volumes with their
distributions and truths, a sample of voxels, how like the training images the input was, and how it was taken.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..core import geometry, structure_names, surfaces
from ..core.errors import InputError
from ..core.structure_set import Structure
from ..results.result import Result
from ..results.tables import number
from ..uncertainty import hu_calibration, metrics
from ..uncertainty import quality as structure_quality
from ..uncertainty.fit.volumes import VolumeRow
from ..uncertainty.volume_distribution import PERCENTILES

FORMAT = 1
LEVEL = 0.9
# voxels of a patient that recalibration sees
VOXELS = 2000
# mm from the edge of the body in which its uncertain place, not the network, makes the SD (`edge`)
RIM_MM = 5.0


@dataclass
class Reference:
    """What is known of a patient.

    Attributes:
        ct: HU, or None.
        structures: as people drew them, by name, on any grid.
        notes: what is odd about it, whole sentences.
    """

    ct: sitk.Image | None = None
    structures: dict[str, Structure] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class Evidence:
    """What one patient tells.

    Attributes:
        patient: name of the case.
        job: "predict" or "propagate".
        regions: region → {"MAE", "ME" (HU), "within_90" (0 to 1, with the intervals of the card), "z_sd"}.
        structures: structure, as the model calls it where it knows it → {"dice", "msd_mm", "hd95_mm", "volume_error"
            (share), "lower_ml", "upper_ml", "true_ml", "volume_ml"}; None where unknown.
        rows: of the volumes, `VolumeRow` as dicts.
        voxels: "synct", "error" (HU), "variance" (HU², before any recalibration) of a sample.
        body_sd_hu: mean predictive SD in the body.
        agreement: of a propagation, dicts of `agreement.lights`.
        likeness: of the input to the training images, `input_quality.likeness`.
        acquisition: `core.scans.acquisition`.
        flags: (subject, severity, flag) each.
        unmatched: structures of the model that the reference lacks.
        missed: structures of the reference that the model did not find.
        notes: of the reference.
    """

    patient: str
    job: str = "predict"
    regions: dict[str, dict] = field(default_factory=dict)
    structures: dict[str, dict] = field(default_factory=dict)
    rows: list[dict] = field(default_factory=list)
    voxels: dict[str, list] = field(default_factory=dict)
    body_sd_hu: float | None = None
    agreement: list[dict] = field(default_factory=list)
    likeness: dict = field(default_factory=dict)
    acquisition: dict = field(default_factory=dict)
    flags: list[list[str]] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_json(self, **more) -> str:
        """A text that `of_json` reads; `more` stands beside."""
        return json.dumps({"format": FORMAT, **more, "evidence": _plain(asdict(self))}, allow_nan=False)

    @classmethod
    def of_json(cls, text: str) -> tuple[Evidence, dict]:
        """(what `as_json` wrote, what stands beside it). Raises `ValueError` for anything else."""
        found = json.loads(text)
        if found.get("format") != FORMAT:
            raise ValueError("another format")
        return cls(**found.pop("evidence")), found

    def volume_rows(self) -> list[VolumeRow]:
        """Its volumes as calibrations take them."""
        unknown = ("dice", "expected_dice", "surface_entropy")
        return [
            VolumeRow(**{**r, "ml": tuple(r["ml"]), **{k: math.nan for k in unknown if r.get(k) is None}})
            for r in self.rows
        ]


def _plain(value):
    """NaN as null: JSON has none."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def of_result(patient: str, result: Result, reference: Reference, seed: int = 0) -> Evidence:
    """What a result tells against a reference.

    Args:
        patient: name of the case.
        result: of `predict`, `propagate`, or read from another tool.
        reference: the patient's CT, structures or both.
        seed: of the sample of voxels.

    Returns:
        The evidence.

    Raises:
        InputError: the reference lies elsewhere, or there is nothing that both have.
    """
    found = Evidence(
        patient,
        result.job,
        likeness=result.summary.get("likeness") or {},
        acquisition=result.summary.get("acquisition") or {},
        notes=list(reference.notes),
        flags=[[str(r.get(k) or "") for k in ("subject", "severity", "flag")] for r in result.table("flags")],
    )
    if reference.ct is not None and result.has("synct"):
        _hounsfield(found, result, reference.ct, seed)
    if reference.structures:
        _structures(found, result, reference.structures)
    if not found.regions and not found.structures:
        raise InputError(f"{patient}: the result and the reference have nothing in common; give a reference of it.")
    return found


def _hounsfield(found: Evidence, result: Result, ct: sitk.Image, seed: int) -> None:
    synct_image = result.image("synct")
    reference, valid = metrics.reference_on(ct, synct_image, f"the reference of {found.patient}")
    truth, spacing = sitk.GetArrayFromImage(reference), synct_image.GetSpacing()
    synct = sitk.GetArrayFromImage(synct_image).astype(np.float32)
    body = metrics.reference_body(truth, spacing) & valid
    if not body.any():
        raise InputError(f"{found.patient}: the reference CT shows no body where the result lies; is it aligned?")
    sd = sitk.GetArrayFromImage(result.image("predictive_sd")) if result.has("predictive_sd") else None
    own = sitk.GetArrayFromImage(result.image("body")) > 0 if result.has("body") else body
    error, card = synct - truth, result.card
    factor = interval_factor(result)
    for name, mask in metrics.regions(truth, body).items():
        values = {k: v for k, v in metrics.error_statistics(error[mask]).items() if k != "RMSE"}
        if sd is not None and (sd[mask] > 0).any():
            z = (error[mask] / np.maximum(sd[mask], 1e-6))[sd[mask] > 0]
            values |= {
                "within_90": float((np.abs(error[mask]) <= factor * sd[mask]).mean()),
                "z_mean": float(z.mean()),
                "z_sd": float(z.std()),
            }
        found.regions[name] = values
    # where the body ends the SD is that of the edge, which no recalibration of the network's concerns
    steps = [max(1, round(RIM_MM / s)) for s in reversed(spacing)]
    whole = np.pad(own, 1, mode="edge")
    inner = ndimage.distance_transform_edt(whole, sampling=spacing[::-1])[1:-1, 1:-1, 1:-1] > RIM_MM
    inner &= body
    inner = inner if inner.sum() > 100 * len(steps) else own & body
    if sd is not None and inner.any():
        found.body_sd_hu = float(sd[inner].mean())
    where = np.flatnonzero(inner)
    where = np.random.default_rng(seed).choice(where, min(VOXELS, len(where)), replace=False)
    predicted = synct.ravel()[where].astype(float)
    variance = np.zeros(len(where)) if sd is None else sd.ravel()[where].astype(float) ** 2
    found.voxels = {
        "synct": np.round(predicted, 1).tolist(),
        "error": np.round(error.ravel()[where].astype(float), 1).tolist(),
        "variance": np.round(uncalibrated(variance, predicted, card), 2).tolist(),
    }


def interval_factor(result: Result) -> float:
    """Half of the width of the 90 % interval of a voxel in SDs, as the result states it."""
    stated = result.summary.get("interval_factor")
    return float(stated) if stated else hu_calibration.gaussian_factor(LEVEL)


def uncalibrated(variance: np.ndarray, synct: np.ndarray, card: dict) -> np.ndarray:
    """The predictive variance that a network gave before its card recalibrated it: the inverse of
    `Recalibration.apply`.

    Args:
        variance: HU², as a result has it.
        synct: HU, of that shape.
        card: of the model; empty or without a recalibration, the variance is the network's own.

    Returns:
        HU², not negative.
    """
    known = hu_calibration.of_card(card) if (card or {}).get("calibration") else None
    if known is None:
        return variance
    residual = np.interp(synct, known.knots, known.residual) ** 2
    scale = np.interp(synct, known.knots, known.scale) ** 2
    return np.maximum(variance - residual, 0) / np.maximum(scale, 1e-6)


def _structures(found: Evidence, result: Result, drawn: dict[str, Structure]) -> None:
    own = result.structures()
    organs = {s["name"]: s.get("organ") or s["name"] for s in result.summary.get("structures") or []}
    rules = {s["name"]: s.get("rule") for s in (result.card.get("outputs") or {}).get("structures") or []}
    known = structure_names.match(drawn, list(own))
    truths = {name: drawn[given] for given, name in known.items()}
    # clinics spell names as they like: over patients an organ is what the model calls it
    found.unmatched = [organs.get(name, name) for name in own if name not in truths]
    volumes = {r["structure"]: r for r in result.table("volumes")}
    lights = {r["structure"]: r for r in result.table("structure_table")}
    listed: dict[str, list[dict]] = {}
    for r in result.table("volume_distribution"):
        listed.setdefault(r["structure"], []).append(r)
    for name, truth in truths.items():
        grid = own[name].mask
        organ, mask = organs.get(name, name), sitk.GetArrayFromImage(grid) > 0
        geometry.require_overlap(truth.mask, grid, f"the reference of {found.patient}", "the result")
        true = (
            sitk.GetArrayFromImage(sitk.Resample(truth.mask, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0)) > 0
        )
        if not true.any():
            found.unmatched.append(organ)
            continue
        ml = float(np.prod(grid.GetSpacing())) / 1000
        shown, real = float(mask.sum()) * ml, float(true.sum()) * ml
        distances = surfaces.surface_distance(mask, true, grid.GetSpacing())
        row = volumes.get(name)
        found.structures[organ] = {
            "dice": surfaces.dice(mask, true),
            "msd_mm": distances.mean,
            "hd95_mm": distances.hausdorff95,
            "volume_ml": shown,
            "true_ml": real,
            "volume_error": (shown - real) / real,
            "lower_ml": number(row, "lower_ml") if row else None,
            "upper_ml": number(row, "upper_ml") if row else None,
        }
        if not mask.any():
            found.missed.append(organ)
        expected, entropy = _quality(result, name, mask, rules.get(organ))
        found.rows.append(
            {
                "network": str(result.card.get("name") or ""),
                "patient": found.patient,
                "structure": organ,
                "ml": _distribution(listed.get(name), shown),
                "true_ml": real,
                "dice": surfaces.dice(mask, true),
                "expected_dice": expected,
                "surface_entropy": entropy,
            }
        )
        if name in lights:
            found.agreement.append(
                {"patient": found.patient, "structure": organ, "true_msd_mm": distances.mean}
                | {
                    key: number(lights[name], column)
                    for key, column in (("msd_mm", "msd_mm"), ("dice", "dice"), ("sd_mm", "propagated_sd_mm"))
                }
            )


def _distribution(rows: list[dict] | None, shown: float) -> list[float]:
    """Volumes at `PERCENTILES`; those of a result without samples are all that of its contour."""
    known = [(number(r, "percentile"), number(r, "volume_ml")) for r in rows or []]
    known = sorted((q, v) for q, v in known if q is not None and v is not None)
    if not known:
        return [shown] * len(PERCENTILES)
    at, ml = zip(*known)
    return np.maximum.accumulate(np.interp(PERCENTILES, at, ml)).tolist()


def _quality(result: Result, name: str, mask: np.ndarray, rule) -> tuple[float, float]:
    """(expected Dice, before any calibration; surface entropy) by the result's images, else by its table; NaN where
    neither tells.
    """
    if name in result.of_structures("probabilities"):
        probability = sitk.GetArrayFromImage(result.image("probabilities", name)).astype(float)
    elif name in result.of_structures("inside"):
        probability = sitk.GetArrayFromImage(result.image("inside", name)) / 100.0
    else:
        row = next((r for r in result.table("quality") if r["structure"] == name), None)
        raw = number(row, "expected_dice") if row and row["calibrated"] == "no" else None
        along = number(row, "surface_entropy") if row else None
        return (math.nan if raw is None else raw), (math.nan if along is None else along)
    if probability.shape != mask.shape or not mask.any():
        return math.nan, math.nan
    if result.has("entropy"):
        entropy = sitk.GetArrayFromImage(result.image("entropy"))
    else:
        entropy = structure_quality.binary_entropy(probability)
    return structure_quality.expected_dice(probability, mask, rule), structure_quality.surface_entropy(entropy, mask)

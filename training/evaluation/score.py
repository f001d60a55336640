"""All numbers and curves of one patient.

Tissue classes follow Kaushik 2022 by the reference CT's HU, inside the body of the CT (without couch) and both fields
of view: air to −400, soft tissue −250 to 250, bone from 250; and bone above 200 HU as in the project's labels. The
paper's outer ends −1000 and 3000 are taken as open, so that noise beyond them is not lost. Structures are the patient's
labels (Bragman 2018). A number is NaN where the reference has no voxel of a class or structure, whatever the network
says there, so that all networks stand on the same patients; and where a network has no such output.
"""

from __future__ import annotations

import math

import numpy as np

from rtuncertainty.uncertainty import metrics

from . import synthrad, uncertainty
from .case import Evaluated, fingerprint

BONE_250_HU = 250.0
TISSUES = ("soft tissue", "air", "bone > 200 HU", "bone ≥ 250 HU")
# of bone, HU; the curve of Kaushik 2022, Fig. 3b
THRESHOLDS = tuple(range(250, 1501, 50))


def tissue_masks(hu: np.ndarray, region: np.ndarray) -> dict[str, np.ndarray]:
    """A mask for each of `TISSUES`; they may be empty.

    Args:
        hu: [z, y, x].
        region: bool [z, y, x].

    Returns:
        {tissue: bool [z, y, x]}.
    """
    low, high = metrics.SOFT_TISSUE_HU
    return {
        "soft tissue": region & (hu >= low) & (hu <= high),
        "air": region & (hu <= metrics.AIR_HU),
        "bone > 200 HU": region & (hu > metrics.BONE_HU),
        "bone ≥ 250 HU": region & (hu >= BONE_250_HU),
    }


def reference_dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Dice of two masks; NaN where the reference is empty."""
    return metrics.dice(predicted, truth) if truth.any() else math.nan


def bone_dice(synct: np.ndarray, ct: np.ndarray, region: np.ndarray) -> list[float]:
    """Dice of what exceeds each of `THRESHOLDS` in the two images (Kaushik 2022, Fig. 3b).

    Args:
        synct: HU [z, y, x].
        ct: HU [z, y, x].
        region: bool [z, y, x].

    Returns:
        One for each; NaN where the reference exceeds it nowhere.
    """
    a, b = synct[region], ct[region]
    return [reference_dice(a > t, b > t) for t in THRESHOLDS]


def run_case(evaluated: Evaluated) -> dict:
    """All numbers of a patient (Bragman 2018, Table 1; Kaushik 2022, Tables I and II).

    "tissue called air": the share of the CT's tissue (> -300 HU) of which the synthetic CT says air (<= -400 HU). MAE
    and ME (HU) of the body, of `TISSUES` and of each structure; PSNR (dB), SSIM and MS-SSIM as in `synthrad`; Dice of
    the body (what is denser than air, over the whole field of view and not only within the patient), of `TISSUES` by
    HU, and of what exceeds 250 HU; Dice and fuzzy Dice of structures; z-scores, the share of errors beyond 3 SDs, a
    goodness-of-fit test on thinned voxels
    (`metrics.goodness_of_fit`); Spearman's correlation of |error| and SD; AUSE; calibration error of intervals; the
    share inside the 90 % interval; mean SDs (HU).

    Args:
        evaluated: the patient.

    Returns:
        One flat row: the case's name and the numbers.

    Raises:
        SystemExit: a structure is named as a tissue class is.
    """
    case, region = evaluated.case, evaluated.case.region
    clash = set(evaluated.structures()) & {"body", *TISSUES}
    if clash:
        raise SystemExit(f"{evaluated.name}: a structure is named '{clash.pop()}' as a tissue class is; rename it.")
    row = {"case": evaluated.name, "voxels": int(region.sum())}
    structures = {name: region & (case.labels == value) for name, value in evaluated.structures().items()}
    if evaluated.synct is None:
        return row | _without_synct(structures) | _overlaps(evaluated, structures)
    truth = tissue_masks(case.ct, region)
    error = evaluated.synct.astype(np.float32) - case.ct
    for name, mask in {"body": region, **truth, **structures}.items():
        found = metrics.error_statistics(error[mask]) if mask.any() else {}
        row[f"MAE {name}"], row[f"ME {name}"] = found.get("MAE", math.nan), found.get("ME", math.nan)
    images = evaluated.synct, case.ct, region
    row["PSNR (SynthRAD2023)"], row["SSIM (SynthRAD2023)"] = synthrad.psnr(*images), synthrad.ssim(*images)
    row["PSNR (SynthRAD2025)"] = synthrad.psnr(*images, synthrad.RANGE_2025)
    row["MS-SSIM (SynthRAD2025)"] = synthrad.ms_ssim(*images)
    row["tissue called air"] = metrics.called_air(evaluated.synct, case.ct, region)
    row["Dice body"] = body_dice(evaluated)
    for name, mask in tissue_masks(evaluated.synct, region).items():
        row[f"Dice {name}"] = reference_dice(mask, truth[name])
    row["Dice synCT > 250 HU"] = bone_dice(*images)[0]
    return row | _overlaps(evaluated, structures) | _uncertainty_row(evaluated, error, truth)


def body_dice(evaluated: Evaluated) -> float:
    """Dice of what is denser than air in both images, over all that was measured (Kaushik 2022, Table II). The couch
    that the CT sees belongs to no patient, and counts in neither.
    """
    case = evaluated.case
    there = case.valid & (case.ct > metrics.AIR_HU)
    couch = there & ~case.ct_body
    return reference_dice(case.valid & ~couch & (evaluated.synct > metrics.AIR_HU), there & ~couch)


def _without_synct(structures) -> dict:
    """The numbers of a synthetic CT, NaN: the network gives none."""
    whole = ["PSNR (SynthRAD2023)", "SSIM (SynthRAD2023)", "PSNR (SynthRAD2025)", "MS-SSIM (SynthRAD2025)"]
    errors = [f"{what} {name}" for name in ("body", *TISSUES, *structures) for what in ("MAE", "ME")]
    dice = [f"Dice {name}" for name in ("body", *TISSUES, "synCT > 250 HU")]
    return dict.fromkeys([*errors, *whole, "tissue called air", *dice, *_uncertainty_names()], math.nan)


def _overlaps(evaluated: Evaluated, structures: dict) -> dict:
    """Dice and fuzzy Dice of each structure."""
    found = {}
    for name, mask in structures.items():
        found[f"Dice {name}"], found[f"fuzzy Dice {name}"] = _overlap(evaluated, name, mask)
    return found


def curves(evaluated: Evaluated) -> dict[str, dict[str, list[float]]]:
    """The curves of a patient.

    Bone Dice by threshold (HU), and with an SD the coverage by nominal level, the sparsification and its oracle by the
    part removed, the z-scores' histogram, and the thinned z-scores themselves, so that those of several patients can be
    tested together.

    Args:
        evaluated: the patient.

    Returns:
        {curve: {axis: list}}, the lists of a curve of one length.
    """
    case, region = evaluated.case, evaluated.case.region
    if evaluated.synct is None:
        return {}
    found = {"bone Dice": {"threshold": list(THRESHOLDS), "dice": bone_dice(evaluated.synct, case.ct, region)}}
    if evaluated.sd is None:
        return found
    error, sd = (evaluated.synct - case.ct)[region], evaluated.sd[region]
    z = metrics.z_scores(error, sd)
    found["calibration"] = {"nominal": list(uncertainty.LEVELS), "observed": uncertainty.interval_coverage(z)}
    found["z histogram"] = {
        "centre": [(a + b) / 2 for a, b in zip(uncertainty.Z_EDGES, uncertainty.Z_EDGES[1:])],
        "share": uncertainty.z_histogram(z),
    }
    found["thinned z"] = {"z": _thinned_z(evaluated)}
    sparse = uncertainty.sparsification(error, sd)
    if sparse:
        found["sparsification"] = {"removed": list(uncertainty.REMOVED), "mae": sparse.mae, "oracle": sparse.oracle}
    return found


def record(evaluated: Evaluated) -> dict:
    """What `store` keeps of a patient: checksum of its reference, row and curves."""
    return {"reference": fingerprint(evaluated.case), "row": run_case(evaluated), "curves": curves(evaluated)}


def _overlap(evaluated, name, truth):
    value = evaluated.structures()[name]
    if value >= evaluated.classes or not truth.any():
        return math.nan, math.nan
    region = evaluated.case.region
    return metrics.dice(region & (evaluated.labels == value), truth), metrics.fuzzy_dice(
        evaluated.probability[value] * region, truth
    )


def _thinned_z(evaluated):
    """The z-scores that the goodness-of-fit test of this patient stands on."""
    case = evaluated.case
    z = metrics.z_scores(evaluated.synct - case.ct, evaluated.sd)
    mask = case.region & np.isfinite(z)
    return z[metrics.thinned(mask, case.spacing, metrics.goodness_of_fit(z, mask, case.spacing).step_mm)].tolist()


def _uncertainty_names() -> list[str]:
    names = ["voxels without sd", "z mean", "z sd", "beyond 3 SD"]
    names += [f"z {what} {tissue}" for tissue in TISSUES for what in ("mean", "sd")]
    names += [
        "fit n",
        "fit step (mm)",
        "fit KS p",
        "fit chi-square p",
        "Spearman |error| and sd",
        "AUSE",
        "AUSE random",
        "ECE",
        "within 90 %",
        "mean predictive SD",
        "mean intrinsic SD",
        "mean parameter SD",
    ]
    return names


def _uncertainty_row(evaluated, error, truth):
    row = dict.fromkeys(_uncertainty_names(), math.nan)
    if evaluated.sd is None:
        return row
    region, sd = evaluated.case.region, evaluated.sd
    z = metrics.z_scores(error, sd)
    row["voxels without sd"] = int((sd[region] <= 0).sum())
    for suffix, mask in {"": region, **{f" {tissue}": mask for tissue, mask in truth.items()}}.items():
        inside = z[mask & np.isfinite(z)].astype(np.float64)
        if inside.size:
            row[f"z mean{suffix}"], row[f"z sd{suffix}"] = float(inside.mean()), float(inside.std())
    row["beyond 3 SD"] = float((np.abs(error) > 3 * sd)[region].mean())
    fit = metrics.goodness_of_fit(z, region, evaluated.case.spacing)
    row.update(
        {"fit n": fit.n, "fit step (mm)": fit.step_mm, "fit KS p": fit.ks_p, "fit chi-square p": fit.chi_square_p}
    )
    row["Spearman |error| and sd"] = metrics.error_sd_correlation(error[region], sd[region])
    sparse = uncertainty.sparsification(error[region], sd[region])
    if sparse:
        row["AUSE"], row["AUSE random"] = sparse.ause, sparse.ause_random
    row["ECE"] = uncertainty.calibration_error(uncertainty.interval_coverage(z[region]))
    row["within 90 %"] = uncertainty.interval_coverage(z[region], (0.90,))[0]
    for what in ("predictive", "intrinsic", "parameter"):
        array = sd if what == "predictive" else getattr(evaluated, f"{what}_sd")
        if array is not None:
            row[f"mean {what} SD"] = float(array[region].mean())
    return row

"""A synthetic CT against a reference CT: errors per region, overlap of structures, and whether the error bars hold.

Functions take numpy arrays [z, y, x] and boolean masks of the same shape, HU throughout; `reference_on` brings a
reference image onto the grid of the synthetic CT first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from scipy import ndimage, stats

from ..core import geometry
from ..core.errors import InputError
from ..core.surfaces import dice
from .hu_calibration import gaussian_factor

BONE_HU = 200.0
SOFT_TISSUE_HU = (-250.0, 250.0)
AIR_HU = -400.0
BODY_HU = -300.0  # a CT shows a body above it
LEVELS = (0.50, 0.68, 0.90, 0.95)
SMALLEST_STEP_MM = 10.0


class Row(NamedTuple):
    """One line of `metrics.csv`.

    Attributes:
        region: body, bone, …, or a structure.
        metric: its name.
        value: in `unit`.
        unit: empty where there is none.
    """

    region: str
    metric: str
    value: float
    unit: str


def regions(reference: np.ndarray, body: np.ndarray, valid: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Regions by the reference's HU: body, bone (> 200 HU), soft tissue (−250 to 250 HU), air (below −400 HU: gas, and
    what the body mask holds of the air outside).

    Soft tissue and air are those of Kaushik 2022. Bone starts at 200 HU as in the bone label; marrow is soft tissue.

    Args:
        reference: HU [z, y, x].
        body: bool [z, y, x].
        valid: voxels that count, bool [z, y, x]; None: all.

    Returns:
        {region: bool [z, y, x]}; empty regions are left out.
    """
    inside = body.astype(bool) if valid is None else body.astype(bool) & valid.astype(bool)
    found = {
        "body": inside,
        "bone": inside & (reference > BONE_HU),
        "soft tissue": inside & (reference >= SOFT_TISSUE_HU[0]) & (reference <= SOFT_TISSUE_HU[1]),
        "air": inside & (reference <= AIR_HU),
    }
    return {name: mask for name, mask in found.items() if mask.any()}


def reference_body(hu: np.ndarray, spacing) -> np.ndarray:
    """The patient without the couch in a CT: > -300 HU, opened by 5 mm, holes filled, pieces of 2 % of the largest.

    Where scores are taken: a body mask of the product itself would leave out what it takes for air.

    Args:
        hu: [z, y, x].
        spacing: (x, y, z), mm.

    Returns:
        bool [z, y, x].
    """
    radius = max(1, round(5.0 / spacing[0]))
    disc = np.hypot(*np.ogrid[-radius : radius + 1, -radius : radius + 1])[None] <= radius
    around = ((0, 0), (radius, radius), (radius, radius))
    mask = ndimage.binary_opening(np.pad(hu > BODY_HU, around, mode="edge"), disc)[:, radius:-radius, radius:-radius]
    mask = np.stack([ndimage.binary_fill_holes(s) for s in mask])
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())[1:] if count else np.zeros(1)
    return np.isin(labels, np.flatnonzero(sizes >= 0.02 * sizes.max()) + 1) if count else mask


def called_air(synct: np.ndarray, reference: np.ndarray, region: np.ndarray) -> float:
    """The share of the tissue (> -300 HU) of a reference CT for which a synthetic CT says air (<= -400 HU).

    Args:
        synct: HU [z, y, x].
        reference: HU [z, y, x].
        region: bool [z, y, x].

    Returns:
        0 to 1; NaN without tissue.
    """
    tissue = region & (reference > BODY_HU)
    return float((synct[tissue] <= AIR_HU).mean()) if tissue.any() else math.nan


def error_statistics(error: np.ndarray) -> dict[str, float]:
    """Mean absolute, mean and root mean square error.

    Args:
        error: [n].

    Returns:
        {"MAE", "ME", "RMSE"} in the unit of the errors.
    """
    error = np.asarray(error, np.float64)
    return {"MAE": float(np.abs(error).mean()), "ME": float(error.mean()), "RMSE": float(np.sqrt((error**2).mean()))}


def psnr(image: np.ndarray, reference: np.ndarray, mask: np.ndarray, data_range: float = 3000.0) -> float:
    """Peak signal-to-noise ratio inside a mask.

    Args:
        image: HU [z, y, x].
        reference: HU [z, y, x].
        mask: bool [z, y, x].
        data_range: HU; 3000 is from air to dense cortical bone.

    Returns:
        dB; infinite without an error.
    """
    mse = float(((image[mask].astype(np.float64) - reference[mask]) ** 2).mean())
    return math.inf if mse == 0 else 10 * math.log10(data_range**2 / mse)


def _smooth(plane: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(plane, 1.5, truncate=3.5)


def ssim(image: np.ndarray, reference: np.ndarray, mask: np.ndarray, data_range: float = 3000.0) -> float:
    """Mean structural similarity inside a mask, slice by slice (Wang 2004): Gaussian of 1.5 voxels cut at 3.5 SDs, K1 =
    0.01, K2 = 0.03, population (co)variances.

    Args:
        image: HU [z, y, x].
        reference: HU [z, y, x].
        mask: bool [z, y, x].
        data_range: HU.

    Returns:
        −1 to 1; NaN without a voxel.
    """
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    total, count = 0.0, 0
    for x, y, m in zip(image, reference, mask):
        if not m.any():
            continue
        x, y = x.astype(np.float64), y.astype(np.float64)
        mx, my = _smooth(x), _smooth(y)
        vx, vy, vxy = _smooth(x * x) - mx * mx, _smooth(y * y) - my * my, _smooth(x * y) - mx * my
        value = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
        total += float(value[m].sum())
        count += int(m.sum())
    return total / count if count else math.nan


def fuzzy_dice(probability: np.ndarray, reference: np.ndarray) -> float:
    """Dice of fuzzy sets, 2·Σmin(p, q) / (Σp + Σq) (Crum 2006).

    Args:
        probability: 0 to 1, or a mask.
        reference: of the same shape, 0 to 1 or a mask.

    Returns:
        0 to 1; NaN when both are empty.
    """
    p, q = np.asarray(probability, np.float64), np.asarray(reference, np.float64)
    size = float(p.sum() + q.sum())
    return 2.0 * float(np.minimum(p, q).sum()) / size if size > 0 else math.nan


def z_scores(error: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """error / SD.

    Args:
        error: any shape.
        sd: of the same shape and unit.

    Returns:
        float32; NaN where the SD is not positive.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sd > 0, error / sd, np.nan).astype(np.float32)


def coverage(z: np.ndarray, levels=LEVELS, factors: dict[float, float] | None = None) -> dict[float, float]:
    """The share of z-scores inside the central interval of each nominal level.

    Args:
        z: [n].
        levels: 0 to 1 each.
        factors: {level: half of the interval's width in SDs}; Gaussian where it says nothing.

    Returns:
        {level: share}.
    """
    size = np.abs(z)
    return {level: float((size <= (factors or {}).get(level, gaussian_factor(level))).mean()) for level in levels}


def correlation_length(
    z: np.ndarray, mask: np.ndarray, spacing, threshold: float = 0.05, longest: float = 60.0
) -> float:
    """The distance at which the autocorrelation of z-scores first falls below a threshold.

    Taken along each axis over pairs of voxels that both lie in the mask.

    Args:
        z: [z, y, x].
        mask: bool [z, y, x].
        spacing: (x, y, z), mm.
        threshold: of the correlation.
        longest: mm, the answer where it never falls so far.

    Returns:
        mm, the largest of the axes.
    """
    values = np.where(mask, z, 0).astype(np.float32)
    values[mask] -= values[mask].mean()
    variance = float((values[mask].astype(np.float64) ** 2).mean())
    if variance == 0:
        return 0.0
    lengths = []
    for axis, step in enumerate(reversed([float(s) for s in spacing])):
        length = 0.0
        for lag in range(1, values.shape[axis]):
            length = lag * step
            if length > longest:
                length = longest
                break
            low = [slice(None)] * 3
            high = [slice(None)] * 3
            low[axis], high[axis] = slice(None, -lag), slice(lag, None)
            pairs = int((mask[tuple(low)] & mask[tuple(high)]).sum())
            if pairs < 100:
                break
            product = np.vdot(values[tuple(low)].astype(np.float64), values[tuple(high)].astype(np.float64))
            if product / pairs < threshold * variance:
                break
        lengths.append(length)
    return max(lengths)


def thinned(mask: np.ndarray, spacing, step_mm: float) -> np.ndarray:
    """The mask's voxels on a lattice.

    Args:
        mask: bool [z, y, x].
        spacing: (x, y, z), mm.
        step_mm: the least step of the lattice along each axis.

    Returns:
        bool [z, y, x].
    """
    steps = [max(1, math.ceil(step_mm / s - 1e-6)) for s in reversed([float(s) for s in spacing])]
    lattice = np.zeros(mask.shape, bool)
    # begin in the middle of the first cell: the image's faces are the least typical of its voxels
    lattice[tuple(slice(min((k - 1) // 2, n - 1), None, k) for k, n in zip(steps, mask.shape))] = True
    return lattice & mask


@dataclass
class GoodnessOfFit:
    """Tests of z-scores against N(0, 1) on thinned voxels.

    Attributes:
        n: voxels.
        step_mm: that they are apart.
        ks, ks_p: Kolmogorov-Smirnov's statistic and its p, NaN where n is below 20.
        chi_square, chi_square_p: the same of the chi-square test.
        bins: of the latter.
    """

    n: int
    step_mm: float
    ks: float
    ks_p: float
    chi_square: float
    chi_square_p: float
    bins: int


def goodness_of_fit(z: np.ndarray, mask: np.ndarray, spacing, step_mm: float | None = None) -> GoodnessOfFit:
    """Kolmogorov-Smirnov and chi-square test of z-scores against N(0, 1), on thinned voxels.

    Neighbouring voxels are not independent, and over millions of them every test rejects. So only voxels on a lattice
    are used. The chi-square has 10 bins (5 below n = 50) of equal probability. The result says which n it stands on:
    with few voxels a poor fit may pass.

    Args:
        z: [z, y, x].
        mask: bool [z, y, x].
        spacing: (x, y, z), mm.
        step_mm: of the lattice; None: the `correlation_length` of z, at least 10 mm.

    Returns:
        Both tests.
    """
    mask = mask & np.isfinite(z)
    if step_mm is None:
        step_mm = max(SMALLEST_STEP_MM, correlation_length(z, mask, spacing)) if mask.any() else SMALLEST_STEP_MM
    return fit_to_normal(z[thinned(mask, spacing, step_mm)], float(step_mm))


def fit_to_normal(sample: np.ndarray, step_mm: float) -> GoodnessOfFit:
    """The tests of `goodness_of_fit` on independent z-scores.

    Args:
        sample: [n].
        step_mm: that they were taken apart.

    Returns:
        Both tests.
    """
    sample = np.asarray(sample, np.float64)
    n, bins = sample.size, 10 if sample.size >= 50 else 5
    if n < 20:
        return GoodnessOfFit(n, step_mm, math.nan, math.nan, math.nan, math.nan, bins)
    ks = stats.kstest(sample, "norm")
    observed = np.bincount(np.minimum((stats.norm.cdf(sample) * bins).astype(int), bins - 1), minlength=bins)
    chi = stats.chisquare(observed)
    return GoodnessOfFit(
        n, step_mm, float(ks.statistic), float(ks.pvalue), float(chi.statistic), float(chi.pvalue), bins
    )


def error_sd_correlation(error: np.ndarray, sd: np.ndarray, largest: int = 20000, seed: int = 0) -> float:
    """Spearman's correlation of |error| with the predictive SD.

    Args:
        error: any shape.
        sd: of the same shape and unit.
        largest: the most values that are used, drawn without replacement.
        seed: of the drawing.

    Returns:
        −1 to 1; NaN for fewer than three values or when one of the two is constant.
    """
    error, sd = np.abs(np.ravel(error)), np.ravel(sd)
    if error.size > largest:
        chosen = np.random.default_rng(seed).choice(error.size, largest, replace=False)
        error, sd = error[chosen], sd[chosen]
    if error.size < 3 or np.ptp(error) == 0 or np.ptp(sd) == 0:
        return math.nan
    return float(stats.spearmanr(error, sd).statistic)


def reference_on(
    reference: sitk.Image, grid: sitk.Image, name: str = "the reference CT"
) -> tuple[sitk.Image, np.ndarray]:
    """The reference CT on another grid.

    Args:
        reference: HU.
        grid: the image whose grid is wanted.
        name: what messages call the reference.

    Returns:
        (float32 HU on `grid`, bool [z, y, x] where the reference's field of view covers it).

    Raises:
        InputError: the two do not overlap.
    """
    geometry.require_overlap(reference, grid, name, "the synthetic CT")
    there = geometry.resample(sitk.Cast(reference, sitk.sitkFloat32), grid, "linear", -1000.0)
    if geometry.same_grid(reference, grid):
        return there, np.ones(grid.GetSize()[::-1], bool)
    ones = geometry.like(np.ones(reference.GetSize()[::-1]), reference, np.uint8)
    return there, sitk.GetArrayFromImage(geometry.resample(ones, grid, "nearest", 0)) > 0


def evaluate(
    synct: np.ndarray,
    predictive_sd: np.ndarray | None,
    reference: np.ndarray,
    body: np.ndarray,
    valid: np.ndarray | None = None,
    *,
    spacing,
    structures: dict[str, np.ndarray] | None = None,
    reference_structures: dict[str, np.ndarray] | None = None,
    probabilities: dict[str, np.ndarray] | None = None,
    step_mm: float | None = None,
    seed: int = 0,
    factors: dict[float, float] | None = None,
) -> list[Row]:
    """Every metric of a synthetic CT against a reference CT; arrays [z, y, x] on one grid.

    Args:
        synct: HU.
        reference: HU; see `reference_on` for one on another grid.
        predictive_sd: HU; None: there are no rows on uncertainty.
        body: bool.
        valid: bool, leaves voxels out, for example where the reference's field of view ends; None: all count.
        spacing: (x, y, z), mm.
        structures: masks by name.
        reference_structures: masks by name; a Dice for each name that both have.
        probabilities: 0 to 1 by name; a fuzzy Dice besides.
        step_mm: the lattice of the goodness-of-fit test; None: the measured correlation length, at least 10 mm.
        seed: of the subsample for Spearman's correlation.
        factors: half widths of the intervals in SDs by level, see `coverage`.

    Returns:
        Rows (region, metric, value, unit).

    Raises:
        InputError: arrays differ in shape, or no voxel is left to compare.
    """
    given = {
        "predictive sd": predictive_sd,
        "reference CT": reference,
        "body mask": body,
        "mask of valid voxels": valid,
    }
    for group in (structures, reference_structures, probabilities):
        given.update(group or {})
    for name, array in given.items():
        if array is not None and array.shape != synct.shape:
            raise InputError(
                f"the {name} has the shape {array.shape}, the synthetic CT {synct.shape}; resample it first."
            )
    synct, reference = synct.astype(np.float32, copy=False), reference.astype(np.float32, copy=False)
    found = regions(reference, body, valid)
    if "body" not in found:
        raise InputError("the reference CT covers no voxel of the body; check that both show the same place.")
    error = synct - reference
    z = z_scores(error, predictive_sd) if predictive_sd is not None else None
    rows: list[Row] = []
    for name, mask in found.items():
        rows.append(Row(name, "voxels", float(mask.sum()), ""))
        rows += [Row(name, metric, value, "HU") for metric, value in error_statistics(error[mask]).items()]
        if name == "body":
            share = called_air(synct, reference, mask)
            if math.isfinite(share):
                rows.append(Row(name, "tissue called air", 100 * share, "%"))
            rows.append(Row(name, "PSNR", psnr(synct, reference, mask), "dB"))
            rows.append(Row(name, "SSIM", ssim(synct, reference, mask), ""))
        if z is not None:
            rows += _uncertainty_rows(name, z, error, predictive_sd, mask, spacing, step_mm, seed, factors)
    for name in structures or {}:
        if name in (reference_structures or {}):
            rows += _overlap_rows(
                name, structures[name], reference_structures[name], (probabilities or {}).get(name), valid
            )
    return rows


def _uncertainty_rows(name, z, error, sd, mask, spacing, step_mm, seed, factors):
    inside = z[mask]
    finite = inside[np.isfinite(inside)].astype(np.float64)
    if finite.size == 0:
        return [Row(name, "voxels without a predictive sd", float(inside.size), "")]
    rows = []
    if finite.size < inside.size:
        rows.append(Row(name, "voxels without a predictive sd", float(inside.size - finite.size), ""))
    rows += [Row(name, "z mean", float(finite.mean()), ""), Row(name, "z sd", float(finite.std()), "")]
    rows += [
        Row(name, f"coverage of {100 * level:.0f} % intervals", 100 * share, "%")
        for level, share in coverage(finite, factors=factors).items()
    ]
    fit = goodness_of_fit(z, mask, spacing, step_mm)
    rows += [
        Row(name, "fit to N(0,1): thinned n", float(fit.n), ""),
        Row(name, "fit to N(0,1): step", fit.step_mm, "mm"),
    ]
    if math.isfinite(fit.ks_p):
        rows += [
            Row(name, "fit to N(0,1): KS p", fit.ks_p, ""),
            Row(name, "fit to N(0,1): chi-square p", fit.chi_square_p, ""),
        ]
    correlation = error_sd_correlation(error[mask], sd[mask], seed=seed)
    if math.isfinite(correlation):
        rows.append(Row(name, "Spearman of |error| and predictive sd", correlation, ""))
    return rows


def _overlap_rows(name, mask, truth, probability, valid):
    inside = np.ones(mask.shape, bool) if valid is None else valid.astype(bool)
    mask, truth = mask.astype(bool) & inside, truth.astype(bool) & inside
    values = [("Dice", dice(mask, truth))]
    if probability is not None:
        values.append(("fuzzy Dice", fuzzy_dice(probability * inside, truth)))
    return [Row(name, metric, value, "") for metric, value in values if math.isfinite(value)]

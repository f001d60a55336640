"""The distribution of a structure's volume from samples of its probability (Eaton-Rosen 2018, Sec. 2.2).

A network with dropout gives a voxel's probability p many times. The contour of percentile q holds the voxels whose
q-quantile of p lies above one half, which is where P(p > ½) > 1 − q. Contours are nested, and their volumes are the
distribution: all voxels are correlated ("maximising the correlation"), since the volumes of single samples hardly
differ.

P(p > ½) needs two running moments (`volumes.probability_of_being_inside`, a Beta fit). `restricted` makes of it the
membership of a voxel: the part of the distribution in which the voxel lies inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..core.geometry import bounding_box
from .volumes import SURE

PERCENTILES = (0.5, 1, 2.5, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 97.5, 99, 99.5)
# of the intervals that a result states
LEVELS = (0.5, 0.68, 0.8, 0.9, 0.95)
# what the median contour holds lies above one half by so much
ABOVE_HALF = 1e-3
# of a probability this near to 0 or 1 the mean is summed, whatever its spread
SURE_SUM = 1e-4


@dataclass(frozen=True)
class VolumeDistribution:
    """Volumes of a structure at rising percentiles.

    Attributes:
        structure: its name.
        percentiles: 0 to 100, rising, among them 50: the contour that is shown.
        ml: the volume at each.
        organ: what the card calls the structure, whose calibration serves it; empty where that is its name.

    Raises:
        ValueError: volumes that are not finite, negative or falling; it names the structure.
    """

    structure: str
    percentiles: tuple[float, ...]
    ml: tuple[float, ...]
    organ: str = ""

    def __post_init__(self):
        q, ml = np.asarray(self.percentiles, float), np.asarray(self.ml, float)
        if q.shape != ml.shape or q.ndim != 1 or 50 not in q or (np.diff(q) <= 0).any():
            raise ValueError(f"{self.structure}: percentiles must rise, hold 50, and have a volume each")
        if not np.isfinite(ml).all() or (ml < 0).any() or (np.diff(ml) < 0).any():
            raise ValueError(f"{self.structure}: volumes must be finite, not negative, and rise with the percentile")

    @property
    def volume_ml(self) -> float:
        """The median: the volume of the contour that is shown."""
        return self.quantile(50)

    def quantile(self, percentile: float) -> float:
        """The volume at a percentile, linear between those known; beyond them the last one.

        Args:
            percentile: 0 to 100.

        Returns:
            ml.
        """
        return float(np.interp(percentile, self.percentiles, self.ml))

    def interval(self, level: float) -> tuple[float, float]:
        """The central interval of a level.

        Args:
            level: 0 to 1.

        Returns:
            (lower, upper) in ml.
        """
        return self.quantile(50 - 50 * level), self.quantile(50 + 50 * level)


def from_surface(mask: np.ndarray, sd_mm, spacing) -> np.ndarray:
    """P(inside) of every voxel where the surface of a mask moves along its normal with a Gaussian SD.

    All of it is correlated: Φ(−d / SD) at the signed distance d (mm; positive outside).

    Args:
        mask: bool [z, y, x].
        sd_mm: a number, or one for each surface voxel in the order of `np.nonzero(surfaces.surface(mask))`, whose
            nearest one counts.
        spacing: (x, y, z), mm.

    Returns:
        [z, y, x], 0 to 1.

    Raises:
        ValueError: an SD that is NaN or infinite.
    """
    from scipy import ndimage
    from scipy.special import ndtr

    from ..core.surfaces import surface

    mask, sd = np.asarray(mask, bool), np.asarray(sd_mm, np.float64)
    if not np.isfinite(sd).all():
        raise ValueError("the sd of the surface holds NaN or infinite values")
    whole, out = mask, mask.astype(np.float32)
    if not mask.any():
        return out
    # further than 3 SDs from the surface there is nothing to say
    box = bounding_box(mask, [int(3 * float(np.max(sd)) / s) + 2 for s in tuple(spacing)[::-1]])
    mask = mask[box]
    if mask.all():
        return out
    sampling = np.array(tuple(spacing)[::-1], float)
    distance = np.where(mask, -_to_border(mask, sampling), _to_border(~mask, sampling))
    if sd.ndim:
        edge = surface(whole)[box]
        there = np.zeros(mask.shape)
        there[edge] = sd
        sd = there[tuple(ndimage.distance_transform_edt(~edge, return_distances=False, return_indices=True))]
    out[box] = ndtr(-distance / np.maximum(sd, 1e-6))
    return out


def _to_border(mask: np.ndarray, sampling: np.ndarray) -> np.ndarray:
    """From each voxel of `mask` to its border, mm: the distance to the nearest voxel outside less half a voxel that
    way.

    Up to a third of a voxel too small where the border runs askew, so contours lie a little too far apart rather than
    too near.
    """
    from scipy import ndimage

    distance, nearest = ndimage.distance_transform_edt(mask, sampling, return_indices=True)
    at = np.nonzero(distance)
    step = (np.stack([n[at] for n in nearest]) - np.stack(at)) * sampling[:, None]
    distance[at] -= 0.5 * np.sqrt(((step * sampling[:, None]) ** 2).sum(0)) / distance[at]
    return distance


def restricted(inside: np.ndarray, labelled: np.ndarray, rule: dict | None = None) -> np.ndarray:
    """The membership of a structure's voxels: the contour of percentile q is membership > 1 − q/100.

    Args:
        inside: P(p > ½), [z, y, x].
        labelled: the contour that is shown, bool [z, y, x]. It becomes the median one: what it holds lies above one
            half, what it does not hold at one half or below.
        rule: where it keeps pieces only (`structures.tidy`), so does every contour: it holds what is connected to the
            shown one at its own percentile. Nothing shown: all pieces stay.

    Returns:
        float32 [z, y, x], 0 to 1.

    Raises:
        ValueError: NaN, or shapes that differ.
    """
    inside, labelled = np.asarray(inside, np.float32), np.asarray(labelled, bool)
    if inside.shape != labelled.shape:
        raise ValueError(f"probabilities of {inside.shape} and a contour of {labelled.shape} voxels do not fit")
    if not np.isfinite(inside).all():
        raise ValueError("probabilities hold NaN or infinite values")
    out = np.clip(inside, 0.0, 0.5)
    out[out < SURE] = 0.0  # such a voxel lies in no contour that is ever asked for
    if labelled.any() and {"largest", "smallest_ml"} & set(rule or {}):
        box = bounding_box((out > 0) | labelled)
        # the level at which a voxel becomes connected is a grey-scale reconstruction (Vincent 1993)
        seed, own = labelled[box].astype(np.float32), np.where(labelled[box], np.float32(1.0), out[box])
        out[box] = sitk.GetArrayFromImage(
            sitk.ReconstructionByDilation(sitk.GetImageFromArray(seed), sitk.GetImageFromArray(own))
        )
    out[labelled] = np.clip(inside[labelled], 0.5 + ABOVE_HALF, 1.0)
    return out


def contour(membership: np.ndarray, percentile: float) -> np.ndarray:
    """The nested contour of a percentile.

    Args:
        membership: as `restricted` gives it.
        percentile: 0 to 100.

    Returns:
        bool [z, y, x].
    """
    return membership > _thresholds([percentile])[0]


def percent(membership: np.ndarray) -> np.ndarray:
    """Membership as a percentile map: value > 100 − q is the contour of every whole percentile q.

    Args:
        membership: as `restricted` gives it.

    Returns:
        uint8 [z, y, x], percent, rounded up.
    """
    out = np.zeros(membership.shape, np.uint8)
    some = membership > 0
    out[some] = np.searchsorted(_thresholds(range(100, 0, -1)), membership[some].astype(np.float32), "left")
    return out


def of_sums(structure: str, mean: np.ndarray, variance: np.ndarray, ml_per_voxel: float) -> VolumeDistribution:
    """The volumes as the paper prints them (Sec. 2.2): V = Σ p(x_i), at percentile q the sum of each voxel's q-quantile
    of p, a Beta distribution with these moments [z, y, x] over the samples.

    Beside `of_membership`, which counts voxels: where a network is unsure in many voxels, sums add what no contour
    shows.
    """
    from scipy.special import betaincinv

    mean, variance = np.clip(np.asarray(mean, np.float64), 0, 1), np.asarray(variance, np.float64)
    unsure = (variance > 1e-9) & (mean > SURE_SUM) & (mean < 1 - SURE_SUM)
    m, most = mean[unsure], mean[unsure] * (1 - mean[unsure])
    nu = most / np.minimum(variance[unsure], 0.999 * most) - 1
    sure = float(mean[~unsure].sum())
    # the quantiles take the time: voxels whose Beta distributions are alike to a part in two hundred share one
    _, alike, count = np.unique(
        np.stack([m * 200, 8 * np.log(nu)]).astype(int), axis=1, return_inverse=True, return_counts=True
    )
    m, nu = (np.bincount(alike.ravel(), v) / count for v in (m, nu))
    sums = [sure + float((count * betaincinv(m * nu, (1 - m) * nu, q / 100)).sum()) for q in PERCENTILES]
    return VolumeDistribution(structure, PERCENTILES, tuple(np.maximum.accumulate(sums) * ml_per_voxel))


def _thresholds(percentiles) -> np.ndarray:
    """The memberships that voxels of these contours exceed; single precision, as memberships are."""
    return np.array([1 - q / 100 for q in percentiles], np.float32)


def of_membership(structure: str, membership: np.ndarray, ml_per_voxel: float) -> VolumeDistribution:
    """The volumes of the nested contours at `PERCENTILES` (Eaton-Rosen 2018, Sec. 2.2).

    Args:
        structure: its name.
        membership: as `restricted` gives it.
        ml_per_voxel: volume of a voxel.

    Returns:
        The distribution, ml.
    """
    # one sort of the few voxels that are in any contour serves all percentiles
    values = np.sort(membership[membership > 0], axis=None)
    counts = values.size - np.searchsorted(values, _thresholds(PERCENTILES), "right")
    return VolumeDistribution(structure, PERCENTILES, tuple(float(c) * ml_per_voxel for c in counts))

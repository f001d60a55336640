"""DVHs of an uncertain structure or dose: pointwise bands of the curve, and intervals of its numbers.

Members of the distribution are DVHs: of sampled masks, of sampled doses, or of the nested contours that a result folder
holds as inside_<structure>.nii.gz (Eaton-Rosen 2018: all voxels of a structure are correlated, so its percentiles are
contours). Where the folder holds calibrated volumes, the member of a percentile is the nested contour that has the
calibrated volume of that percentile: the band is then that of the calibrated distribution, which may be narrower
or wider than that of the network's own contours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..core import geometry, structure_names
from ..core.errors import InputError
from ..results import Result, tables
from . import dvh
from .nested import NestedContours, around
from .structure_region import MaskRegion
from .table import numbers

LEVEL = 0.9
# contours that stand for a distribution; at the percentiles 1, 3, … 99
MEMBERS = 50
# of a structure's volume that no contour of its distribution explains, beyond which they are not of one contour
APART = 0.05


@dataclass
class Band:
    """The pointwise band of a DVH, and the intervals of its numbers.

    Attributes:
        lower, upper: of the curve, percent, on the doses they were asked for.
        intervals: {column: (lower, upper)}.
        level: the probability that they hold, 0 to 1.
        calibrated: "no", or "volume" (see `table.metrics_table`).
    """

    lower: list[float]
    upper: list[float]
    intervals: dict[str, tuple[float, float]]
    level: float
    calibrated: str = "no"


def band(members: list[dvh.Dvh], axis, level: float = LEVEL, prescription: float | None = None) -> Band:
    """The band of equally likely DVHs: quantiles at each dose, and of each number, all by themselves.

    No member of a pointwise band need run along it.

    Args:
        members: two DVHs or more.
        axis: doses, Gy.
        level: of the band, 0 to 1.
        prescription: Gy, for numbers in percent of it, or None.

    Returns:
        The band, not calibrated.

    Raises:
        ValueError: fewer than two members.
    """
    return _band([_curve_and_columns(m, axis, prescription) for m in members], level)


def _curve_and_columns(member: dvh.Dvh, axis, prescription) -> tuple[list[float], dict[str, float]]:
    """All that a band needs of a member, which may have millions of voxels: (curve, numbers)."""
    return member.volume_at_dose(axis).tolist(), numbers(member, prescription)


def _band(samples: list, level: float) -> Band:
    if len(samples) < 2:
        raise ValueError("a band needs at least two members")
    ends = [(1 - level) / 2, (1 + level) / 2]
    # hazen: each member stands for the middle of its share of the distribution
    lower, upper = np.quantile([curve for curve, _ in samples], ends, axis=0, method="hazen")
    found = [columns for _, columns in samples]
    intervals = {c: tuple(float(v) for v in np.quantile([f[c] for f in found], ends, method="hazen")) for c in found[0]}
    return Band(lower.tolist(), upper.tolist(), intervals, level)


@dataclass
class Distribution:
    """A structure's nested contours.

    Attributes:
        inside: percentile map, percent of the distribution in which a voxel lies inside.
        percentiles, volumes_ml: the calibrated volume at rising percentiles, both empty where nothing is calibrated;
            the contour of a percentile is then the one with that volume (`nested.NestedContours`), else the voxels with
            inside > 100 − percentile.
        note: what the user should know of it.
    """

    inside: sitk.Image
    percentiles: tuple = ()
    volumes_ml: tuple = ()
    note: str = ""

    @property
    def calibrated(self) -> str:
        """ "volume" or "no"."""
        return "volume" if self.volumes_ml else "no"

    def regions(self, members: int = MEMBERS):
        """The regions of equally likely contours from the smallest to the largest.

        Args:
            members: how many.

        Yields:
            Regions; some may be empty.
        """
        at = (np.arange(members) + 0.5) * 100 / members
        if self.volumes_ml:
            nested = NestedContours(self.inside, max(self.volumes_ml))
            for ml in np.interp(at, self.percentiles, self.volumes_ml):
                yield nested.of_volume(float(ml))
            return
        part = around(self.inside)
        percent = sitk.GetArrayViewFromImage(part)
        for q in at:
            # rounded: a threshold of 100 − q must not miss a whole percent by an ulp
            yield MaskRegion(geometry.like(percent > round(100 - float(q), 6), part, np.float32))


@dataclass
class Kept:
    """A structure's contours in the samples that a result kept (`masks`, cut to what they hold): as likely as each
    other, and not calibrated.
    """

    masks: list[sitk.Image]
    note: str = ""
    calibrated = "no"

    def regions(self):
        """Yields the regions of the samples in their order; some may be empty."""
        yield from map(MaskRegion, self.masks)


def of_structure(
    dose: sitk.Image,
    found: Distribution | Kept,
    axis,
    level: float = LEVEL,
    prescription: float | None = None,
    device="cpu",
    step=None,
):
    """The band of a structure's nested contours in one dose. Contours without a voxel have no DVH; the note says so.

    Args:
        dose: Gy.
        found: the contours.
        axis: doses of the curve, Gy.
        level: of the band, 0 to 1.
        prescription: Gy, for numbers in percent of it, or None.
        device: of torch.
        step: called after some contours with the part that is done, 0 to 1.

    Returns:
        (band or None, note).
    """
    members, missing, regions = [], 0, list(found.regions())
    for number, member in enumerate(dvh.of_regions(dose, regions, device), 1):
        missing += member is None
        members += [_curve_and_columns(member, axis, prescription)] if member is not None else []
        if step is not None and number % 10 == 0:
            step(number / len(regions))
    if len(members) < max(2, len(regions) / 2):
        return (
            None,
            f"no band: in {missing / len(regions):.0%} of its distribution the structure is empty or outside of the "
            "dose",
        )
    result = _band(members, level)
    result.calibrated = found.calibrated
    some_empty = (
        f"empty in {missing / len(regions):.0%} of its distribution; the band is of the rest" if missing else ""
    )
    return result, "; ".join(filter(None, [found.note, some_empty]))


def apart(region, found: Distribution) -> float:
    """How far a structure is from every contour of a distribution.

    Args:
        region: of the structure.
        found: the contours.

    Returns:
        What of it lies outside of the widest contour, and of the narrowest outside of it, over its volume.
    """
    part = geometry.to_axial(around(found.inside))
    percent, inside = sitk.GetArrayViewFromImage(part), region.fraction(part)
    ml = float(np.prod(part.GetSpacing())) / 1000
    beyond = region.volume_ml - float(inside[percent > 0].sum()) * ml
    missing = float((1 - inside)[percent >= 99].sum()) * ml
    return (max(beyond, 0.0) + missing) / region.volume_ml


def read(folder, names) -> dict[str, Distribution]:
    """The distributions of structures that a result folder (predict or propagate) holds.

    Args:
        folder: the result.
        names: of the structures wanted; one counts as the folder has it, or as another spelling of the same organ.

    Returns:
        Those that it knows, by name.

    Raises:
        InputError: there is no result, it has no inside_ images, or none of these structures.
    """
    result = Result.read(folder)
    inside = result.of_structures("inside")
    if not inside:
        raise InputError(
            f"{folder} holds no distribution of structures (inside_<structure>.nii.gz), so there is nothing to make a "
            "band of; "
            "run predict or propagate again, or leave --bands out."
        )
    known = structure_names.match(names, inside)
    if not known:
        raise InputError(f"{folder} knows none of the structures; it has {', '.join(inside)}.")
    volumes: dict[str, list[tuple[float, float, float]]] = {}  # percentile, volume, calibrated volume or NaN
    for row in result.table("volume_distribution"):
        values = (
            tables.number(row, c, f"{folder}: volume_distribution") for c in tables.COLUMNS["volume_distribution"][1:]
        )
        volumes.setdefault(row["structure"], []).append(tuple(np.nan if v is None else v for v in values))
    return {name: _distribution(result.image("inside", title), volumes.get(title)) for name, title in known.items()}


def read_kept(folder, names) -> dict[str, Kept]:
    """The contours of structures in the samples that a result folder kept, by those of `names` that it knows. Raises
    `InputError` where it is no result, kept fewer than two samples with structures, or knows none of these.
    """
    result = Result.read(folder)
    numbers = result.of_structures("sample_structures")
    if len(numbers) < 2:
        raise InputError(
            f"{folder} holds {len(numbers)} samples with structures, and a band needs two; run predict with "
            "--keep-samples, or leave --kept-samples out."
        )
    found: dict[str, Kept] = {}
    for number in numbers:
        sample = result.structures("sample_structures", number)
        for name, title in structure_names.match(names, list(sample)).items():
            found.setdefault(name, Kept([])).masks.append(around(sample[title].mask))
    if not found:
        raise InputError(f"{folder} knows none of the structures; it has {', '.join(sample)}.")
    return found


def _distribution(inside: sitk.Image, volumes) -> Distribution:
    """The distribution, calibrated when the volumes at both ends of the band are, and there is room for the largest."""
    known = np.array(sorted(v for v in volumes or [] if np.isfinite(v[2])), float).reshape(-1, 3)
    # rounded: 50 · (1 − 0.9) is a little less than 5, and then the 5th percentile would not reach that far
    ends = round(50 * (1 - LEVEL), 6), round(50 * (1 + LEVEL), 6)
    if len(known) < 2 or known[0, 0] > ends[0] or known[-1, 0] < ends[1] or known[-1, 2] <= 0:
        return Distribution(inside)
    volumes_ml = np.maximum.accumulate(np.maximum(known[:, 2], 0))
    nested = NestedContours(inside, volumes_ml[-1])
    lower, upper = np.interp(ends, known[:, 0], volumes_ml)
    if upper > nested.room_ml:
        return Distribution(inside)
    beyond = lower < nested.least_ml or upper > nested.most_ml
    note = (
        "its calibrated volumes reach beyond the contours of its samples, which grow and shrink evenly there"
        if beyond
        else ""
    )
    # what lies beyond the band's ends is not looked at
    volumes_ml = np.minimum(volumes_ml, nested.room_ml)
    return Distribution(inside, tuple(known[:, 0].tolist()), tuple(volumes_ml.tolist()), note)

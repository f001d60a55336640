"""DVHs of an uncertain structure or dose: pointwise bands of the curve, and intervals of its numbers.

Members of the distribution are DVHs: of sampled masks, of sampled doses, or of the nested contours that a result folder holds as
inside_<structure>.nii.gz (Eaton-Rosen 2018: all voxels of a structure move together, so its percentiles are contours). Where the folder
tells calibrated volumes, the member of a percentile is the contour that has the calibrated volume of that percentile.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .. import structure_names
from ..errors import InputError
from . import dvh
from .structure_region import MaskRegion
from .table import numbers

LEVEL = 0.9
# contours that stand for a distribution; at the percentiles 1, 3, … 99
MEMBERS = 50


@dataclass
class Band:
    """Pointwise `lower` and `upper` of the curve in percent, on the doses they were asked for, and `intervals` {column: (lower, upper)}.

    `level`: the probability that they hold, 0 to 1; `calibrated`: "no", or "volume" (see `table.metrics_table`).
    """

    lower: list[float]
    upper: list[float]
    intervals: dict[str, tuple[float, float]]
    level: float
    calibrated: str = "no"


def band(members: list[dvh.Dvh], axis, level: float = LEVEL, prescription: float | None = None) -> Band:
    """The band of equally likely DVHs: quantiles at each dose of `axis` (Gy), and of each number, all by themselves.

    No member of a pointwise band need run along it. Raises `ValueError` for fewer than two members.
    """
    if len(members) < 2:
        raise ValueError("a band needs at least two members")
    ends = [(1 - level) / 2, (1 + level) / 2]
    # hazen: each member stands for the middle of its share of the distribution
    lower, upper = np.quantile([m.volume_at_dose(axis).tolist() for m in members], ends, axis=0, method="hazen")
    found = [numbers(m, prescription) for m in members]
    intervals = {c: tuple(float(v) for v in np.quantile([f[c] for f in found], ends, method="hazen")) for c in found[0]}
    return Band(lower.tolist(), upper.tolist(), intervals, level)


@dataclass
class Distribution:
    """A structure's nested contours: `inside` (percent of the distribution in which a voxel lies inside), and the percentile of the
    contour for each percentile of the distribution, as points to interpolate between (the same where nothing is calibrated)."""

    inside: sitk.Image
    percentiles: tuple = (0.0, 100.0)
    contours: tuple = (0.0, 100.0)
    calibrated: str = "no"

    def regions(self, members: int = MEMBERS):
        """Yields the regions of equally likely contours from the smallest to the largest; some may be empty."""
        for q in (np.arange(members) + 0.5) * 100 / members:
            # rounded: a threshold of 100 − q must not miss a whole percent by an ulp
            at = round(float(np.interp(q, self.percentiles, self.contours)), 6)
            yield MaskRegion(sitk.Greater(sitk.Cast(self.inside, sitk.sitkFloat32), round(100 - at, 6)))


def of_structure(dose: sitk.Image, found: Distribution, axis, level: float = LEVEL, prescription: float | None = None, device="cpu"):
    """(band or None, note) of a structure's nested contours in one dose. Contours without a voxel have no DVH; the note tells of them."""
    regions = list(found.regions())
    members = [m for m in (_dvh(dose, r, device) for r in regions) if m is not None]
    missing = len(regions) - len(members)
    if len(members) < len(regions) / 2:
        return None, f"no band: in {missing / len(regions):.0%} of its distribution the structure is empty or outside of the dose"
    result = band(members, axis, level, prescription)
    result.calibrated = found.calibrated
    return result, f"empty in {missing / len(regions):.0%} of its distribution; the band is of the rest" if missing else ""


def _dvh(dose, region, device):
    try:
        return dvh.of_region(dose, region, device=device)
    except InputError:
        return None


def read(folder, names) -> dict[str, Distribution]:
    """The distributions that a result folder (predict or propagate) holds of structures, by those of `names` that it knows.

    A name counts as the folder has it, or as another spelling of the same organ. Raises `InputError` where there is no result, it has no
    inside_ images, or none of these structures.
    """
    folder = Path(folder)
    try:
        files = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} is no result folder (its summary.json cannot be read); give one that predict or propagate wrote.") from error
    inside = files.get("inside") or {}
    if not inside:
        raise InputError(f"{folder} holds no distribution of structures (inside_<structure>.nii.gz), so there is nothing to make a band of; "
                         "run predict or propagate again, or leave --bands out.")
    known = structure_names.match(names, inside)
    if not known:
        raise InputError(f"{folder} knows none of the structures; it has {', '.join(inside)}.")
    volumes = _volumes(folder / files["volume_distribution"]) if files.get("volume_distribution") else {}
    return {name: _distribution(_inside(folder / inside[title]), volumes.get(title)) for name, title in known.items()}


def _inside(path: Path) -> sitk.Image:
    """One inside_ image; unlike `image_io.read` it takes one without any voxel, of a structure that was not found."""
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read as an image; run predict or propagate again.") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{path} is no 3-D scalar image; run predict or propagate again.")
    return image


def _volumes(path: Path) -> dict[str, list[tuple[float, float, float]]]:
    """{structure: [(percentile, volume, calibrated volume or NaN)]} of volume_distribution.csv."""
    found: dict[str, list] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                values = (float(row["percentile"]), float(row["volume_ml"]), float(row["calibrated_ml"] or "nan"))
                found.setdefault(row["structure"], []).append(values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read as a table of volumes; run predict or propagate again.") from error
    return found


def _distribution(inside: sitk.Image, volumes) -> Distribution:
    """The distribution, calibrated when the volumes at both ends of the band are, and some contour has them."""
    rows = np.array(sorted(volumes or []), float).reshape(-1, 3)
    rows = rows[np.isfinite(rows[:, :2]).all(1)]
    known = rows[np.isfinite(rows[:, 2])]
    ends = 50 * (1 - LEVEL), 50 * (1 + LEVEL)
    if len(known) < 2 or known[0, 0] > ends[0] or known[-1, 0] < ends[1]:
        return Distribution(inside)
    if not np.all(np.diff(rows[:, 1]) > 0):
        rows = rows[np.concatenate([[True], np.diff(rows[:, 1]) > 0])]
    wanted = np.interp(ends, known[:, 0], known[:, 2])
    if len(rows) < 2 or wanted[0] < rows[0, 1] or wanted[1] > rows[-1, 1]:
        # contours beyond the network's own would have to be invented
        return Distribution(inside)
    contours = np.interp(known[:, 2], rows[:, 1], rows[:, 0])
    return Distribution(inside, tuple(known[:, 0]), tuple(contours), "volume")

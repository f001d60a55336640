"""Cumulative dose-volume histograms of structures, without bins.

Every dose voxel counts with the fraction of it that lies inside the structure, and voxels of more than a millimetre are
divided, with the dose interpolated linearly in between: what a steep gradient does to D98 and D2 is then no matter of
the grid. Volumes of dose are exact sums over the sorted voxels. Names follow ICRU 83: Dx is the dose that x % of the
volume get at least.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from ..core import geometry
from ..core.errors import InputError

# edge of a sub-voxel in mm, and the most sub-voxels that a structure is given
FINE_MM, MOST_VOXELS = 1.0, 4_000_000
# what is no wider, mm, has so many sub-voxels across, of this edge at least
TINY_MM, ACROSS, FINEST_MM = 5.0, 12, 0.02


@dataclass
class Dvh:
    """A structure's cumulative dose-volume histogram, without bins.

    Attributes:
        dose: Gy, falling, float64 [n].
        volume: ml of each dose, float64 [n].
        volume_ml: of the whole structure.
        covered: the fraction of it inside the dose grid, on which all else stands.
    """

    dose: torch.Tensor
    volume: torch.Tensor
    volume_ml: float = float("nan")
    covered: float = 1.0

    def mean(self) -> torch.Tensor:
        """Dmean in Gy."""
        return (self.dose * self.volume).sum() / self.volume.sum()

    def dose_at_volume(self, percent: float) -> torch.Tensor:
        """Dx: what some of the volume gets at least (ICRU 83). Differentiable by doses and volumes.

        Linear between the middles of the sorted voxels' volumes; beyond the first and last it is their dose.

        Args:
            percent: x, of the volume.

        Returns:
            A scalar, Gy.
        """
        if len(self.dose) == 1:
            return self.dose[0]
        middle = torch.cumsum(self.volume, 0) - self.volume / 2
        wanted = self.volume.sum() * (percent / 100)
        above = torch.searchsorted(middle.detach(), wanted.detach().reshape(1)).clamp(1, len(middle) - 1)[0]
        low, high = middle[above - 1], middle[above]
        share = ((wanted - low) / (high - low)).clamp(0, 1)
        return self.dose[above - 1] * (1 - share) + self.dose[above] * share

    def volume_at_dose(self, gray, width_gy: float = 0.0) -> torch.Tensor:
        """The volumes that get at least some doses.

        Args:
            gray: Gy, a number or [m].
            width_gy: 0 for a step in the doses; above, a logistic one of that width, for gradients.

        Returns:
            Percent, of the shape of `gray`.
        """
        gray = torch.as_tensor(gray, dtype=self.dose.dtype, device=self.dose.device)
        if width_gy > 0:
            share = torch.sigmoid((self.dose - gray[..., None]) / width_gy)
            return 100 * (share * self.volume).sum(-1) / self.volume.sum()
        total = torch.cumsum(self.volume, 0)
        count = torch.searchsorted(-self.dose.detach(), -gray, right=True)
        volume = torch.where(count > 0, total[(count - 1).clamp(min=0)], torch.zeros_like(total[0]))
        return 100 * volume / total[-1]


def of_voxels(dose: torch.Tensor, fraction: torch.Tensor, voxel_ml: float) -> Dvh:
    """The DVH of voxels.

    Args:
        dose: Gy.
        fraction: of every voxel inside the structure, 0 to 1, a tensor of that shape.
        voxel_ml: volume of a voxel.

    Returns:
        The DVH.

    Raises:
        ValueError: the structure fills no part of any voxel.
    """
    inside = fraction > 0
    if not bool(inside.any()):
        raise ValueError("the structure fills no voxel")
    # sorted on equal terms: the order of equal doses must not depend on the device
    doses, order = torch.sort(dose[inside].double(), descending=True, stable=True)
    volume = fraction[inside].double()[order] * voxel_ml
    total = float(volume.detach().sum())
    return Dvh(doses, volume, total)


def of_region(dose: sitk.Image, region, divide: int | None = None, device="cpu") -> Dvh | None:
    """The DVH of a region in a dose.

    Args:
        dose: Gy.
        region: of `structure_region` or `contours`.
        divide: sub-voxels along each edge of a dose voxel; None: so many that none is longer than a millimetre, as far
            as their number allows.
        device: of torch.

    Returns:
        The DVH; None where the region is empty.

    Raises:
        InputError: no part of the region lies in the dose grid.
    """
    if region.empty:
        return None
    found = sampled(dose, region, divide)
    if found is None:
        raise InputError(
            "does not overlap with the dose grid; give dose and structures of one patient in one frame of reference."
        )
    values, fraction, voxel_ml = found
    result = of_voxels(values.to(device), fraction.to(device), voxel_ml)
    result.covered = _covered(dose, region, result.volume_ml)
    result.volume_ml = region.volume_ml
    return result


def of_regions(dose: sitk.Image, regions, device="cpu"):
    """The DVH of each of many regions around one place, such as nested contours.

    The same numbers as `of_region`'s, but the doses are interpolated and sorted once for all.

    Args:
        dose: Gy.
        regions: a list.
        device: of torch.

    Yields:
        A DVH; None for a region that is empty or outside the dose.
    """
    there = [r for r in regions if not r.empty]
    grid = _fine_doses(dose, there, None) if there else None
    if grid is None:
        yield from (None for _ in regions)
        return
    values, fine = grid
    values, order = torch.sort(values.to(device).double().reshape(-1), descending=True, stable=True)
    voxel_ml = float(np.prod(fine.GetSpacing())) / 1000
    for region in regions:
        fraction = torch.from_numpy(region.fraction(fine)).reshape(-1).to(device)[order] if not region.empty else None
        inside = fraction > 0 if fraction is not None else None
        if inside is None or not bool(inside.any()):
            yield None
            continue
        result = Dvh(values[inside], fraction[inside] * voxel_ml, region.volume_ml)
        result.covered = _covered(dose, region, float(result.volume.sum()))
        yield result


def _covered(dose: sitk.Image, region, ml: float) -> float:
    """The part of a region inside of the dose grid, `ml` of which was found there. Of one that lies inside as a whole
    that is all of it, whatever little the sub-voxels of a tiny or oblique structure differ by.
    """
    index = _index(dose, region)
    if (index >= -0.5 - 1e-6).all() and (index <= np.array(dose.GetSize()) - 0.5 + 1e-6).all():
        return 1.0
    covered = ml / region.volume_ml
    return 1.0 if covered > 0.998 else covered


def sampled(dose: sitk.Image, region, divide: int | None = None):
    """Doses on the sub-voxels around a region.

    Args:
        dose: Gy.
        region: of `structure_region` or `contours`.
        divide: as of `of_region`.

    Returns:
        (Gy float32 [z, y, x], fraction inside float64 [z, y, x], ml of a voxel); None without overlap.
    """
    found = _fine_doses(dose, [region], divide)
    if found is None:
        return None
    values, fine = found
    fraction = torch.from_numpy(region.fraction(fine))
    if not bool((fraction > 0).any()):
        return None
    return values, fraction, float(np.prod(fine.GetSpacing())) / 1000


def _fine_doses(dose: sitk.Image, regions, divide: int | None):
    """(doses in Gy, float32 [z, y, x], their empty grid) on the sub-voxels around all regions; None when none lies
    in the dose.
    """
    if sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(dose.GetDirection()) != "LPS":
        dose = geometry.to_axial(dose)  # a copy, even where nothing is to be turned
    boxes = [_box(dose, region) for region in regions]
    low, high = np.min([b[0] for b in boxes], 0), np.max([b[1] for b in boxes], 0)
    if any(a >= b for a, b in zip(low, high)):
        return None
    part = dose[tuple(slice(int(a), int(b)) for a, b in zip(low, high))]
    parts = _parts(part, divide, [min(s) for s in zip(*(_extent(part, region) for region in regions))])
    fine = geometry.resampled_grid(part, [s / p for s, p in zip(part.GetSpacing(), parts)])
    values = torch.from_numpy(sitk.GetArrayFromImage(sitk.Cast(part, sitk.sitkFloat32)))
    first = [int(a) * p for a, p in zip(low, parts)]
    return _scattered(_divided(values, parts[::-1]), first[::-1]), fine


def _divided(values: torch.Tensor, parts) -> torch.Tensor:
    """Doses [z, y, x] of sub-voxels, so many along each edge, by linear interpolation between the middles of voxels."""
    if max(parts) == 1:
        return values
    return torch.nn.functional.interpolate(
        values[None, None], scale_factor=[float(p) for p in parts], mode="trilinear", align_corners=False
    )[0, 0]


# irrational: the fractional parts of their multiples fill 0 to 1 evenly in every row and plane
_LATTICE = ((2**0.5, 3**0.5, 5**0.5), (7**0.5, 11**0.5, 13**0.5), (17**0.5, 19**0.5, 23**0.5))


def _scattered(values: torch.Tensor, first) -> torch.Tensor:
    """The doses at one place inside each sub-voxel instead of in its middle, by its gradient; never below 0.

    Middles lie in planes, and planes across a gradient make steps of the curve. The places depend on the voxel's index
    in the dose grid only (`first`: that of the first one here), which makes them the same for all structures.
    """
    moved = values
    for axis, irrational in enumerate(_LATTICE):
        if values.shape[axis] < 2:
            continue
        index = [torch.arange(a, a + n, dtype=torch.float64) for a, n in zip(first, values.shape)]
        place = (
            (index[0] * irrational[0])[:, None, None] + (index[1] * irrational[1])[:, None] + index[2] * irrational[2]
        )
        moved = moved + torch.gradient(values, dim=axis)[0] * (place % 1 - 0.5).to(values.dtype)
    return moved.clamp(min=0)


def _box(dose, region):
    """First and past-the-last voxel (x, y, z) of the dose around a region, with a voxel more on each side to
    interpolate with.
    """
    index = _index(dose, region)
    low = np.clip(np.floor(index.min(0) + 0.5) - 1, 0, None)
    high = np.minimum(np.ceil(index.max(0) + 0.5) + 1, dose.GetSize())
    return low.astype(int), high.astype(int)


def _index(dose, region) -> np.ndarray:
    """The corners [8, 3] of a region's box as continuous indices."""
    return np.array([dose.TransformPhysicalPointToContinuousIndex([float(v) for v in p]) for p in region.box()])


def _extent(dose, region) -> np.ndarray:
    """The extent of a region along the axes of the dose, mm."""
    return np.ptp(_index(dose, region), 0) * np.array(dose.GetSpacing())


def _parts(part, divide, extent) -> list[int]:
    """Sub-voxels along each edge: of a millimetre, and where the smallest region has a small `extent` (mm) so small
    that its doses are those of places inside of it.
    """
    if divide is not None:
        return [int(divide)] * 3
    edges = [max(e / ACROSS, FINEST_MM) if e <= TINY_MM else FINE_MM for e in extent]
    parts = [int(np.ceil(s / e - 1e-6)) for s, e in zip(part.GetSpacing(), edges)]
    while max(parts) > 1 and part.GetNumberOfPixels() * int(np.prod(parts)) > MOST_VOXELS:
        parts = [max(1, p - 1) for p in parts]
    return parts

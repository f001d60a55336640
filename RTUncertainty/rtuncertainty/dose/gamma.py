"""The gamma index of two dose distributions (Low et al., Med Phys 25:656, 1998).

γ(p) is the smallest sqrt((|x − p| / distance)² + ((evaluated(x) − reference(p)) / tolerance)²) over all points x of the
evaluated dose, which is trilinear between its voxels. It is found by branch and bound instead of by trying shifts: a
box holds no better point than its distance to p and the doses at its corners allow, so of a voxel's neighbourhood
little has to be looked at. Boxes are taken from near to far and halved until γ is known to 0.005, or the boxes are
shorter than the step that the caller allows. Trying shifts finds a γ that is too large where the dose is steep; with
ever smaller shifts it comes down to this one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from ..core import geometry
from ..core.errors import InputError
from .gamma_search import Search

# by how much a point may exceed 1 by rounding and still pass
ROUNDING = 1e-4
# points that are searched for at a time: some 100 MB
POINTS = 1 << 18


@dataclass
class Gamma:
    """γ of a dose.

    Attributes:
        values: at every voxel of the reference, float32 [z, y, x], at most `max_gamma`; NaN where it was not evaluated.
        max_gamma: where the search ended.
        evaluated: the number of voxels that were.
        outside: those above the cut-off that lie beyond the evaluated dose, or so near to its end that they do not pass
            inside of it and might beyond.
    """

    values: torch.Tensor
    max_gamma: float
    evaluated: int
    outside: int

    def pass_rate(self) -> float:
        """Percent of the evaluated voxels with γ ≤ 1; NaN without any."""
        return 100 * float((self.values <= 1 + ROUNDING).sum()) / self.evaluated if self.evaluated else math.nan

    def mean(self) -> float:
        """Mean of γ, values beyond `max_gamma` taken as that."""
        return float(self.values[~self.values.isnan()].double().mean()) if self.evaluated else math.nan


def gamma(
    reference: sitk.Image,
    evaluated: sitk.Image,
    dose_percent: float = 2.0,
    distance_mm: float = 2.0,
    *,
    cutoff: float = 10.0,
    local: bool = False,
    normalisation: float | None = None,
    max_gamma: float = 2.0,
    interp_fraction: float = 50.0,
    device="cpu",
) -> Gamma:
    """γ of a dose at every voxel of a reference (Low et al. 1998); both on grids of any geometry.

    Args:
        reference: 3-D image, Gy.
        evaluated: 3-D image, Gy.
        dose_percent: tolerance in percent of `normalisation`, or with `local` of the voxel's own dose.
        distance_mm: distance to agreement.
        cutoff: voxels below this percentage of `normalisation` are not evaluated.
        local: see `dose_percent`.
        normalisation: Gy; None: the reference's largest dose.
        max_gamma: the search ends where γ would exceed it; above 1, or a voxel that fails could not be distinguished
            from one that just passes.
        interp_fraction: boxes are halved at most until no edge is longer than distance_mm / interp_fraction; few ever
            are.
        device: of torch.

    Returns:
        γ of every voxel.

    Raises:
        InputError: tolerances that are not positive, a cut-off outside of 0 to 100 and doses that do not overlap.
    """
    for name, value in (
        ("dose percent", dose_percent),
        ("distance", distance_mm),
        ("max gamma", max_gamma),
        ("interp fraction", interp_fraction),
    ):
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"the {name} of a gamma index is {value:g}; give a positive number.")
    if max_gamma < 1.01:
        raise InputError(
            f"the max gamma of a gamma index is {max_gamma:g}; give at least 1.01, so that voxels can fail."
        )
    if not 0 <= cutoff < 100:
        raise InputError(f"the cut-off of a gamma index is {cutoff:g} %; give a percentage from 0 to below 100.")
    geometry.require_overlap(reference, evaluated, "the reference dose", "the evaluated dose")
    array = sitk.GetArrayFromImage(reference).astype(np.float32)
    largest = float(array.max()) if normalisation is None else float(normalisation)
    if not largest > 0:
        raise InputError("the reference dose is zero everywhere; there is nothing to compare with.")
    chosen = np.nonzero(array >= cutoff / 100 * largest)
    points = _index_in(evaluated, reference, chosen)
    dose = torch.from_numpy(array[chosen]).to(device)
    tolerance = (dose if local else torch.full_like(dose, largest)) * (dose_percent / 100)
    search = Search(
        sitk.GetArrayFromImage(evaluated).astype(np.float32),
        evaluated.GetSpacing()[::-1],
        distance_mm,
        max_gamma,
        distance_mm / interp_fraction,
        torch.device(device),
        _cut(points, evaluated.GetSize()[::-1]),
    )
    parts = [
        search(points[i : i + POINTS], dose[i : i + POINTS], tolerance[i : i + POINTS].clamp(min=1e-6 * largest))
        for i in range(0, len(dose), POINTS)
    ]
    found = torch.cat(parts) if parts else dose
    values = torch.full(array.shape, math.nan, device=device)
    values[tuple(torch.from_numpy(c).to(device) for c in chosen)] = found
    outside = int(found.isnan().sum())
    return Gamma(values, max_gamma, len(found) - outside, outside)


def _cut(points: np.ndarray, size) -> tuple:
    """At which lower and upper ends (z, y, x) of a grid points [n, 3] (indices) lie beyond it."""
    if not len(points):
        return ((False,) * 3,) * 2
    return points.min(0) < -0.5, points.max(0) > np.array(size) - 0.5


def _index_in(image, grid, voxels) -> np.ndarray:
    """Continuous (z, y, x) indices [n, 3] in `image` of the `voxels` of `grid`; whole where they are meant to be."""

    def affine(i):
        return np.array(i.GetDirection()).reshape(3, 3) * np.array(i.GetSpacing()), np.array(i.GetOrigin())

    (a, origin), (b, origin2) = affine(grid), affine(image)
    inverse = np.linalg.inv(b)
    index = np.stack(voxels[::-1], 1) @ (inverse @ a).T + inverse @ (origin - origin2)
    whole = np.rint(index)
    return np.where(np.abs(index - whole) < 1e-4, whole, index)[:, ::-1].copy()

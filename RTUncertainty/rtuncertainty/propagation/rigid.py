"""Rigid pre-alignment of a planning to a daily CT: what the couch, the laser and the patient's posture leave."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..core import geometry
from ..deformation import rigid_search

# HU outside of which nothing more is said about where bone and soft tissue are
WINDOW = (-300.0, 700.0)
SPACING = 4.0  # mm, of the images that are compared
FAR = 30.0  # mm, by which a start that was searched for has to differ to be tried
BEHIND = 0.2  # of correlation, by which a start may be behind another on coarse voxels


def identity() -> sitk.Euler3DTransform:
    """The transform that moves nothing."""
    return sitk.Euler3DTransform()


def register(
    daily: sitk.Image, planning: sitk.Image, daily_body: sitk.Image, planning_body: sitk.Image
) -> sitk.Euler3DTransform:
    """The rigid transform that aligns a planning to a daily CT.

    Correlation of the CTs between -300 and 700 HU inside the daily body, on voxels of 4 mm, from three starts: as they
    lie, bodies centred, and bodies centred in the transverse plane only (for fields of view of different length); and
    from a search over all shifts and several turns (`deformation.rigid_search`), where it is none of them.
    Of those that are not far behind on coarse voxels the one that is best on fine ones is taken. Deterministic: every
    voxel counts, one thread adds up.

    Args:
        daily: CT, HU.
        planning: CT, HU.
        daily_body: mask on the daily grid.
        planning_body: mask on the planning grid.

    Returns:
        From points of the daily to points of the planning CT (LPS, mm; ITK's convention).
    """
    fixed, moving = (_coarse(i) for i in (daily, planning))
    mask = sitk.Cast(geometry.resample(daily_body, fixed, "nearest"), sitk.sitkUInt8)
    centre = _centre(daily_body)
    shift = _centre(planning_body) - centre
    starts = []
    for offset in (np.zeros(3), shift, shift * (1, 1, 0)):
        start = sitk.Euler3DTransform()
        start.SetCenter([float(c) for c in centre])
        start.SetTranslation([float(s) for s in offset])
        starts.append(start)
    rough = [_optimised(fixed, moving, mask, s, (4, 2)) for s in starts]
    searched = rigid_search.found(fixed, moving, daily_body, planning_body, WINDOW[0])
    best = min(rough, key=lambda found: found[1])[0]
    if searched is not None and _apart(searched, best) > FAR:
        rough.append(_optimised(fixed, moving, mask, searched, (4, 2)))
    least = min(value for _, value in rough)
    different: list[sitk.Euler3DTransform] = []
    for transform, value in rough:
        if value <= least + BEHIND and not any(_apart(transform, other) < SPACING for other in different):
            different.append(transform)
    return min((_optimised(fixed, moving, mask, t, (1,)) for t in different), key=lambda found: round(found[1], 6))[0]


def _apart(a: sitk.Euler3DTransform, b: sitk.Euler3DTransform) -> float:
    """How far apart (mm) two transforms put the corners of a cube of 20 cm about the centre of rotation."""
    corners = np.array(a.GetCenter()) + 100 * (2 * np.array(list(np.ndindex(2, 2, 2))) - 1)
    return max(float(np.linalg.norm(np.subtract(a.TransformPoint(c), b.TransformPoint(c)))) for c in corners.tolist())


def _coarse(ct: sitk.Image) -> sitk.Image:
    clipped = sitk.Clamp(sitk.Cast(ct, sitk.sitkFloat32), sitk.sitkFloat32, *WINDOW)
    return geometry.resample(
        clipped, geometry.resampled_grid(ct, [max(SPACING, s) for s in ct.GetSpacing()]), background=WINDOW[0]
    )


def _centre(mask: sitk.Image) -> np.ndarray:
    index = np.argwhere(sitk.GetArrayViewFromImage(mask) > 0).mean(0)[::-1]
    return np.array(mask.TransformContinuousIndexToPhysicalPoint([float(i) for i in index]))


def _overlap(mask: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> bool:
    """Whether a transform puts any voxel of `mask` into the image `moving`."""
    seen = sitk.Image(moving.GetSize(), sitk.sitkUInt8) + 1
    seen.CopyInformation(moving)
    moved = sitk.Resample(seen, mask, transform, sitk.sitkNearestNeighbor, 0)
    return bool((sitk.GetArrayViewFromImage(moved) & sitk.GetArrayViewFromImage(mask)).any())


def _optimised(fixed, moving, mask, start, shrink):
    """(transform, metric) after a descent on images shrunk by the factors `shrink`, one after the other."""
    if not _overlap(mask, moving, start):  # asked here: ITK would say so on the terminal
        return sitk.Euler3DTransform(start), float("inf")
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsCorrelation()
    method.SetMetricFixedMask(mask)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel(list(shrink))
    method.SetSmoothingSigmasPerLevel([0.5 * s if s > 1 else 0.0 for s in shrink])
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=0.01, numberOfIterations=100, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    transform = sitk.Euler3DTransform(start)
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError:
        # a start under which the two do not overlap
        return sitk.Euler3DTransform(start), float("inf")
    return transform, method.GetMetricValue()

"""A rigid start that needs no luck: all shifts at once, for several turns of the couch.

Normalised correlation of the overlap for every shift, by Fourier transforms with masks (Padfield 2012, Eqs. 12 to 15).
A shift counts where the two bodies overlap enough: fields of view may share a part only.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import fft

from ..core import geometry

SPACING = 12.0  # mm
TURNS = (0.0, -25.0, -12.0, 12.0, 25.0)  # degrees about the long axis, and no turn first
OVERLAP = 0.35  # of the smaller body, that has to lie in the other's


def found(
    daily: sitk.Image, planning: sitk.Image, daily_body: sitk.Image, planning_body: sitk.Image, outside: float
) -> sitk.Euler3DTransform:
    """The best transform of daily to planning points on the lattice of shifts and turns; images in HU, clipped.

    Of two that are equally good to 0.01 the smaller turn is taken.
    """
    fixed, fixed_mask, grid = _sampled(daily, daily_body, None, outside)
    best = -np.inf
    centre = np.array(grid.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in grid.GetSize()]))
    chosen = sitk.Euler3DTransform(centre.tolist())  # where no shift lets the bodies overlap enough
    about = np.array(
        planning_body.TransformContinuousIndexToPhysicalPoint(
            np.argwhere(sitk.GetArrayViewFromImage(planning_body) > 0).mean(0)[::-1].tolist()
        )
    )
    for degrees in TURNS:
        turn = sitk.Euler3DTransform(centre.tolist(), 0.0, 0.0, float(np.radians(degrees)), (about - centre).tolist())
        # the planning scan as seen through the turn, on as large a grid as both together need
        moving, moving_mask, seen = _sampled(planning, planning_body, (turn, grid), outside)
        score, shift = _best_shift(fixed, fixed_mask, moving, moving_mask)
        if score > best + 0.01:
            best = score
            offset = np.array(seen.TransformContinuousIndexToPhysicalPoint([float(s) for s in shift])) - np.array(
                grid.TransformIndexToPhysicalPoint((0, 0, 0))
            )
            # x → turn(x + offset), as one transform about the daily centre
            chosen = sitk.Euler3DTransform(turn)
            rotated = np.array(turn.GetMatrix()).reshape(3, 3) @ offset
            chosen.SetTranslation((about - centre + rotated).tolist())
    return chosen


def _sampled(image, body, through, outside):
    """(values, body mask, grid) on cubes of `SPACING`, of the body with a margin; `through`: (transform, grid) under
    which the image is looked at, in directions of that grid."""
    index = np.argwhere(sitk.GetArrayViewFromImage(body) > 0)
    low, high = index.min(0)[::-1], index.max(0)[::-1]
    corners = np.array(
        [
            body.TransformContinuousIndexToPhysicalPoint([float((high if b else low)[k]) for k, b in enumerate(bits)])
            for bits in np.ndindex(2, 2, 2)
        ]
    )
    transform = sitk.Transform() if through is None else through[0]
    if through is not None:
        inverse = transform.GetInverse()
        corners = np.array([inverse.TransformPoint(c) for c in corners.tolist()])
    start, end = corners.min(0) - SPACING, corners.max(0) + SPACING
    grid = sitk.Image([int(np.ceil(v / SPACING)) + 1 for v in end - start], sitk.sitkUInt8)
    grid.SetSpacing([SPACING] * 3)
    grid.SetOrigin(start.tolist())
    smooth = geometry.smoothed_for(image, grid)
    values = sitk.Resample(smooth, grid, transform, sitk.sitkLinear, outside, sitk.sitkFloat32)
    mask = sitk.Resample(body, grid, transform, sitk.sitkNearestNeighbor, 0)
    return sitk.GetArrayFromImage(values), (sitk.GetArrayFromImage(mask) > 0).astype(np.float32), grid


def _best_shift(fixed, fixed_mask, moving, moving_mask):
    """(correlation, shift (x, y, z) in voxels): fixed voxel i lies on moving voxel i + shift."""
    shape = [fft.next_fast_len(a + b, real=True) for a, b in zip(fixed.shape, moving.shape)]
    fixed, moving = (v - v.mean() for v in (fixed.astype(np.float64), moving.astype(np.float64)))

    def transformed(x):
        return fft.rfftn(x, shape)

    f, f2, fm = (np.conj(transformed(x)) for x in (fixed * fixed_mask, fixed**2 * fixed_mask, fixed_mask))
    m, m2, mm = (transformed(x) for x in (moving * moving_mask, moving**2 * moving_mask, moving_mask))

    def correlated(a, b):
        return fft.irfftn(a * b, shape)

    count = np.maximum(correlated(fm, mm), 1.0)
    sum_f, sum_m = correlated(f, mm), correlated(fm, m)
    top = correlated(f, m) - sum_f * sum_m / count
    var_f, var_m = correlated(f2, mm) - sum_f**2 / count, correlated(fm, m2) - sum_m**2 / count
    enough = count >= OVERLAP * min(fixed_mask.sum(), moving_mask.sum())
    usual = 1e-3 * float(max(var_f.max(), var_m.max())) + 1e-9
    # the share of the overlap has its weight too: the whole body says more than a part that happens to fit
    score = np.where(
        enough,
        top
        / np.sqrt(np.maximum(var_f, usual) * np.maximum(var_m, usual))
        * np.sqrt(np.minimum(1.0, count / min(fixed_mask.sum(), moving_mask.sum()))),
        -np.inf,
    )
    at = np.unravel_index(int(np.argmax(score)), score.shape)
    shift = [a if a < m else a - s for a, m, s in zip(at, moving.shape, shape)]
    return float(score[at]), tuple(int(v) for v in shift[::-1])

"""Where an MR was not measured although the body goes on: beyond the field of view, where the image holds 0.

0 beside the body means two things: air that a mask or a threshold made 0, or a place that was never measured, since the
volume was resampled or padded beyond the scanner's field of view. They are told apart by shape, because a field of view
is convex and its faces are flat, and a body's outline is round:

- there is measured air (noise) around the body, and what was measured fills its convex hull: that is the field of view,
  and 0 that touches the body is not measured; or
- what was measured has the same outline in all slices along an axis of the image: a box, or the circle of a
  reconstruction; slices beyond it are empty; or
- the body ends on a plane beyond which nothing was measured, over a disc that is wider than the flattest patch of a
  sphere of `ROUND_MM` on this grid, and without the dark skin of a body's end: a slab of empty slices, an oblique face.

On six limbs of the soft-tissue-sarcoma collection whose air was made 0, the signal (its square root) on such a plane is
0.97 to 1.04 of that 4 mm deeper where a plane cut the limb, and at most 0.52 where the limb is flattened.

What it cannot tell: a body that lies flat on a table, and whose mask took the air and the skin away; a field of view
that is as round as a limb, changes from slice to slice and holds no air.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from ..core.image_io import from_border

# of the field of view: how much of its hull is filled, how much is air farther than so many mm from the body; how many
# voxels may differ between slices of one outline; how many slices it takes
CONVEX, AIR, AIR_MM, SAME, LEAST_SLICES = 0.95, 0.01, 5.0, 0.005, 5
# the radius of a body that is flatter than any, in mm; planes that are tried; the least signal on one (its square root)
# over that so deep, in mm
ROUND_MM, PLANES, ABRUPT, DEEP_MM = 120.0, 40, 0.65, 4.0
CROSS = ndimage.generate_binary_structure(3, 1)


def not_measured(array: np.ndarray, measured: np.ndarray, body: np.ndarray, spacing) -> np.ndarray:
    """Voxels outside of the field of view, where it cuts the body; bool [z, y, x], all False where it does not.

    Args:
        array: the MR, [z, y, x].
        measured: where the image is not 0, closed (`preprocess.field_of_view`).
        body: the body's mask, see `preprocess.body_mask`.
        spacing: (x, y, z) in mm.

    Returns:
        all of the outside that is connected to a cut, or behind the planes that cut the body.
    """
    none = np.zeros(body.shape, bool)
    outside = from_border(~measured & ~body)
    if not outside.any() or not cut(body, outside).any():
        return none
    points, step = _outline(measured), np.array([float(s) for s in reversed(spacing)])
    try:
        hull = ConvexHull(points * step)
    except QhullError:  # a line or a plane
        return none
    voxel = float(np.prod(step))
    # between voxels' centres: the hull of a box lacks half a voxel on each side
    filled = measured.sum() * voxel / hull.volume
    air = measured & ~body & (_distance(body, step) > AIR_MM)
    if (filled >= CONVEX and air.sum() >= AIR * measured.sum()) or _prism(measured):
        return _reached(outside, body)
    return _beyond_planes(np.sqrt(np.maximum(array, 0)), outside, body, hull, step)


def cut(body: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """The voxels of the body that touch what was not measured by a face; bool [z, y, x]."""
    return body & ndimage.binary_dilation(outside, CROSS)


def _distance(mask: np.ndarray, step) -> np.ndarray:
    return ndimage.distance_transform_edt(~mask, sampling=step) if mask.any() else np.full(mask.shape, np.inf)


def _outline(mask: np.ndarray) -> np.ndarray:
    """Both ends of every row of a mask, [n, 3]: all that its convex hull needs."""
    first, last = mask.argmax(2), mask.shape[2] - 1 - mask[:, :, ::-1].argmax(2)
    z, y = np.nonzero(mask.any(2))
    return np.concatenate([np.stack([z, y, ends[z, y]], 1) for ends in (first, last)])


def _prism(measured: np.ndarray) -> bool:
    """Whether the slices along some axis that hold anything have one outline."""
    for axis in range(3):
        holds = measured.any(tuple(a for a in range(3) if a != axis))
        if holds.sum() < LEAST_SLICES:
            continue
        slices = np.compress(holds, measured, axis)
        ever, always = slices.any(axis), slices.all(axis)
        if (ever & ~always).sum() <= SAME * ever.sum():
            return True
    return False


def _reached(outside: np.ndarray, body: np.ndarray) -> np.ndarray:
    """The connected parts of `outside` that touch the body."""
    labels, _ = ndimage.label(outside)
    touching = np.unique(labels[outside & ndimage.binary_dilation(body, CROSS)])
    return np.isin(labels, touching[touching > 0])


def _beyond_planes(root, outside, body, hull, step) -> np.ndarray:
    """What of `outside` lies behind faces of the hull on which the body ends."""
    found = np.zeros(body.shape, bool)
    ends = np.argwhere(cut(body, outside)) * step
    corners = hull.points[hull.simplices]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    normals: list[tuple[np.ndarray, float]] = []
    for plane in hull.equations[np.argsort(-areas)[: 50 * PLANES]]:
        normal, offset = plane[:3], plane[3]
        if len(normals) == PLANES or any(n @ normal > 0.995 and abs(o - offset) < 2 * step.max() for n, o in normals):
            continue
        normals.append((normal, offset))
        thick = float(np.abs(normal) @ step)  # of a voxel, along the normal
        on = ends[ends @ normal + offset > -thick]
        if len(on) < 30 or _widest(on, normal, step) < 2 * np.sqrt(2 * ROUND_MM * thick):
            continue
        signal, deeper = (
            np.median(ndimage.map_coordinates(root, ((on - mm * normal) / step).T, order=1, mode="nearest"))
            for mm in (0.0, DEEP_MM)
        )
        if signal < ABRUPT * deeper:
            continue
        z, y, x = (np.arange(n) * s * c for n, s, c in zip(body.shape, step, normal))
        beyond = z[:, None, None] + y[None, :, None] + x[None, None, :] + offset > -thick / 2
        found |= beyond & outside
    return found


def _widest(points: np.ndarray, normal: np.ndarray, step) -> float:
    """The diameter, in mm, of the largest disc on a plane that the points [n, 3] (mm) fill, less a voxel."""
    _, _, basis = np.linalg.svd(normal[None])
    pitch = float(step.max())
    flat = points @ basis[1:].T / pitch
    flat = np.rint(flat - flat.min(0)).astype(int) + 2
    grid = np.zeros(flat.max(0) + 3, bool)
    grid[tuple(flat.T)] = True
    grid = ndimage.binary_closing(grid, np.ones((3, 3)))
    return 2 * pitch * (float(ndimage.distance_transform_edt(grid).max()) - 0.5)

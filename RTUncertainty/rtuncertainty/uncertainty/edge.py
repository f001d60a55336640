"""Where the body ends is not known to the voxel, and what is air by decree is not certain: the variance that this adds.

A voxel is taken for body or for air; the probability q that it is the other falls with its distance d from the mask's
edge as 1 / (1 + exp(d / `SCALE_MM`)). Tissue and air lie `STEP_HU` apart, so q · STEP_HU² is the mean square error
of the value that is shown, which stays the network's inside and −1000 HU outside. It counts as intrinsic: more
samples of the network do not reduce it. Measured on six limbs of the soft-tissue-sarcoma collection (share of the
deformably aligned CT's body by distance from this mask's edge): 2 to 3 % of the first 3 mm outside, and inside a fall
of the share of air from 83 % at 1 mm to 33, 15 and 4 % at 2, 3 and 4 mm, a logistic of scale 0.7 mm about 1.7 mm
inside. There the aligned CT's skin lies on the bright fat, which the registration sees, not on the dark skin, so the
middle is put on the mask's edge itself.

Where the field of view cuts the body, what lies beyond was not measured: it is shown as air, and the probability that
it is tissue falls with the distance d from the cut as `CUT_SHARE` · exp(−(d / `CUT_MM`)²). Measured on the
limbs of the same collection that are cut (`Testing/benchmarks/not_measured.py`).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# of the fall; between soft tissue and air; q where something is seen outside of the mask (see `preprocess.regions`); d
# beyond which q is 0; up to this q (32 HU) the edge leaves a voxel's SD to the network
SCALE_MM, STEP_HU, UNCERTAIN, REACH_MM, CERTAIN = 0.7, 1000.0, 0.1, 6.0, 0.001
# beyond a cut: the share of tissue next to it, and where it has fallen to a third of that
CUT_SHARE, CUT_MM = 0.85, 25.0


def probability(body: np.ndarray, measured: np.ndarray, spacing, uncertain: np.ndarray | None = None) -> np.ndarray:
    """The probability q that a voxel in the body is air, and that one outside of it is tissue.

    Inside, the distance is that to air in the field of view: where the image cuts the body, it does not end.

    Args:
        body: bool [z, y, x].
        measured: bool [z, y, x], the field of view.
        spacing: (x, y, z), mm.
        uncertain: bool [z, y, x], where something outside of the body is seen, or None.

    Returns:
        float32 [z, y, x]; 0 farther than `REACH_MM` from the edge.
    """
    q = np.zeros(body.shape, np.float32)
    air = measured & ~body
    if body.any():
        step = [float(s) for s in reversed(spacing)]
        where = [np.flatnonzero(body.any(axes)) for axes in ((1, 2), (0, 2), (0, 1))]
        box = tuple(
            slice(max(0, int(w[0] - REACH_MM // s - 1)), int(w[-1] + REACH_MM // s + 2)) for w, s in zip(where, step)
        )
        distance = ndimage.distance_transform_edt(~body[box], sampling=step)
        if air[box].any():
            distance = np.where(body[box], ndimage.distance_transform_edt(~air[box], sampling=step), distance)
        else:
            distance[body[box]] = np.inf
        # from the face between the voxels, not from the next one's centre
        distance = np.maximum(distance - min(step) / 2, 0)
        q[box] = np.where(distance <= REACH_MM, 1 / (1 + np.exp(np.minimum(distance, 50 * SCALE_MM) / SCALE_MM)), 0)
    return q if uncertain is None else np.where(uncertain & ~body, np.maximum(q, UNCERTAIN), q)


def beyond_cut(body: np.ndarray, outside: np.ndarray, spacing) -> np.ndarray:
    """The probability that a voxel [z, y, x] that was not measured (`outside`) is tissue, float32; 0 elsewhere.

    It falls with the distance from the voxels of the `body` that touch `outside` by a face; `spacing` is (x, y, z).
    """
    ends = body & ndimage.binary_dilation(outside)
    if not ends.any():
        return np.zeros(body.shape, np.float32)
    distance = ndimage.distance_transform_edt(~ends, sampling=[float(s) for s in reversed(spacing)])
    return np.where(outside & ~body, CUT_SHARE * np.exp(-((distance / CUT_MM) ** 2)), 0).astype(np.float32)


def applied(
    q: np.ndarray, body: np.ndarray, synct: np.ndarray, intrinsic: np.ndarray, parameter: np.ndarray, air: float
) -> tuple:
    """Synthetic CT and variances as they are shown: air and q · `STEP_HU`² outside, the latter added inside.

    Args:
        q: as `probability` gives it.
        body: bool [z, y, x].
        synct: HU [z, y, x].
        intrinsic: variance, HU² [z, y, x].
        parameter: variance, HU² [z, y, x].
        air: HU outside of the body.

    Returns:
        (synthetic CT in HU; intrinsic, parameter and predictive variance in HU²). A network that gives no intrinsic
        variance (0 everywhere) has the edge's in the predictive one only.
    """
    intrinsic, parameter, step = np.where(body, intrinsic, 0), np.where(body, parameter, 0), q * STEP_HU**2
    total = intrinsic + parameter + step
    return np.where(body, synct, air), intrinsic + step if intrinsic.any() else intrinsic, parameter, total

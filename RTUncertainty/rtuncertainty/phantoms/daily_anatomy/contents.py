"""What lies in the rectum: gas that appears or vanishes changes HU and moves nothing, so that no registration undoes
it.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ...core.geometry import bounding_box
from ..fields import Fields
from .anatomy import local_middle, signed_distance
from .field import Lattice

GAS_HU, STOOL_HU = -960.0, 30.0
WALL_MM = 3.0
FULL = 0.75  # the largest share of the lumen that gas takes


def gas_share(hu: np.ndarray, rectum: np.ndarray) -> np.ndarray:
    """The share of gas in voxels of gas and stool: in the rectum, and in those next to it that are darker than fat.

    Args:
        hu: [z, y, x].
        rectum: bool [z, y, x].

    Returns:
        float32 [z, y, x], 0 to 1.
    """
    share = np.clip((STOOL_HU - hu) / (STOOL_HU - GAS_HU), 0, 1).astype(np.float32)
    share[share < 0.05] = 0  # noise
    return share * (rectum | (ndimage.binary_dilation(rectum) & (hu < -200)))


def refill(
    hu: np.ndarray, rectum: np.ndarray, lattice: Lattice, gas_ml: float, rng
) -> tuple[np.ndarray, np.ndarray, list]:
    """Stool in the rectum in place of all its gas, and new gas.

    The new gas lies in one or two pockets in the front of the rectum, as the patient lies on his back, and leaves the
    wall. It takes at most three quarters of the lumen.

    Args:
        hu: [z, y, x].
        rectum: bool [z, y, x].
        lattice: of both.
        gas_ml: of the new gas.
        rng: random numbers.

    Returns:
        (HU [z, y, x], the voxels that changed by more than 50 HU, [gas before, gas after] in ml).
    """
    hu = hu.astype(np.float32, copy=True)
    box = bounding_box(rectum, np.ceil(12.0 / lattice.spacing[::-1]).astype(int))
    old, mask = hu[box], rectum[box]
    points = lattice.points()[box]
    fields = Fields(rng, mask.shape, lattice.spacing)
    stool = STOOL_HU + rng.uniform(-15, 20) + 10 * fields.smooth(8, 10)

    share = gas_share(old, mask)
    new = old + share * (stool - GAS_HU)
    new = np.where(share > 0.95, stool, new)

    distance = signed_distance(mask, lattice.spacing)
    edge = float(lattice.spacing.min())
    lumen = np.clip(0.5 - (distance + WALL_MM) / edge, 0, 1)
    wanted = min(gas_ml, FULL * float(lumen.sum()) * lattice.voxel_ml)
    filled = np.zeros_like(lumen)
    if wanted > 0:
        pockets = _pockets(points, mask, lattice.spacing, fields, rng)
        filled = lumen * _level(pockets, lumen, wanted / lattice.voxel_ml, edge)
        new += filled * (GAS_HU - new)
    changed = np.zeros(hu.shape, bool)
    changed[box] = np.abs(new - old) > 50
    hu[box] = new
    return hu, changed, [float(part.sum()) * lattice.voxel_ml for part in (share, filled)]


def _pockets(points: np.ndarray, mask: np.ndarray, spacing: np.ndarray, fields: Fields, rng) -> np.ndarray:
    """A smooth height (mm) that is lowest where gas gathers first: in front, at one or two places along the rectum."""
    z = points[mask][:, 2]
    low, high = np.quantile(z, (0.1, 0.9))
    at = rng.uniform(low, high, rng.integers(1, 3))
    size = rng.uniform(14, 30)
    away = np.min([((points[..., 2] - a) / size) ** 2 for a in at], axis=0)
    return (
        points[..., 1]
        - local_middle(points, mask, 15.0 / spacing[::-1])[..., 1]
        + 12 * away
        + 2 * fields.smooth(12, 14)
    )


def _level(height: np.ndarray, lumen: np.ndarray, voxels: float, edge: float) -> np.ndarray:
    """The share of every voxel below the level that leaves `voxels` of the lumen below it, found by bisection."""
    low, high = float(height.min()) - edge, float(height.max()) + edge
    for _ in range(40):
        level = (low + high) / 2
        share = np.clip(0.5 - (height - level) / edge, 0, 1)
        low, high = (level, high) if float((share * lumen).sum()) < voxels else (low, level)
    return share

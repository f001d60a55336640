"""A structure's nested contours by their volume: each holds the one before, and there is one of every volume.

A result folder keeps of each voxel the percentage of the distribution in which it lies inside
(inside_<structure>.nii.gz). That orders voxels in a hundred steps only; voxels of one step are ordered by how deep they
lie in the middle contour, those of equal depth enter together, by a fraction of each. Volumes beyond all of the
result's contours grow or shrink evenly in the same way.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..core import geometry
from .structure_region import MaskRegion

# mm; depths that differ by less count as equal, so that a contour of a symmetric structure is symmetric
DEPTH = 1e-3


class NestedContours:
    """The contours of a percentile map.

    `least_ml` and `most_ml` are the volumes of the result's own smallest and largest contour, `room_ml` the most that
    there is room for; no more than the image can grow into.

    Args:
        inside: percent, 0 to 100; 0 alone is a structure that is nowhere.
        largest_ml: the largest volume that will be asked for.
    """

    def __init__(self, inside: sitk.Image, largest_ml: float = 0.0):
        whole = sitk.GetArrayViewFromImage(inside)
        self._voxel_ml = float(np.prod(inside.GetSpacing())) / 1000
        self.least_ml, self.most_ml = (float((whole >= p).sum()) * self._voxel_ml for p in (100, 1))
        self.room_ml = 0.0
        if self.most_ml == 0:
            return
        part = around(inside, _margin(largest_ml) if largest_ml > self.most_ml else 0.0)
        percent = sitk.GetArrayFromImage(part).astype(np.float64)
        middle = percent > min(50.0, percent.max() - 1)
        # as a part of 1 %: it decides among voxels of one percentage only
        depth = np.rint(_depth(middle, part.GetSpacing()) / DEPTH) * DEPTH
        score = percent + depth / (2 * np.abs(depth).max() + 1)
        self._scores, place, counts = np.unique(score, return_inverse=True, return_counts=True)
        self._place, self._grid, self._shape = place.reshape(-1), part, percent.shape
        # volume of all voxels with a higher score, for each score from the highest down
        self._counts = counts.astype(np.float64)
        self._above = np.concatenate([np.cumsum(self._counts[::-1])[::-1][1:], [0.0]]) * self._voxel_ml
        self.room_ml = float(percent.size) * self._voxel_ml

    def of_volume(self, ml: float) -> MaskRegion:
        """The contour of a volume: voxels weigh 1 inside, 0 outside, and a fraction where the contour cuts.

        Args:
            ml: the volume.

        Returns:
            A region; empty for 0 ml.

        Raises:
            ValueError: there is no room for it.
        """
        if ml > self.room_ml * (1 + 1e-9):
            raise ValueError(f"there is no room for {ml:.1f} ml of the structure")
        share = np.clip((ml - self._above) / (self._counts * self._voxel_ml), 0.0, 1.0)
        return MaskRegion(geometry.like(share[self._place].reshape(self._shape).astype(np.float32), self._grid))


def _margin(ml: float) -> float:
    """mm by which a structure of `ml` can reach beyond any smaller one inside it that grows evenly: the radius of a
    ball of `ml`.
    """
    return float((3 * 1000 * ml / (4 * np.pi)) ** (1 / 3))


def around(image: sitk.Image, margin_mm: float = 0.0) -> sitk.Image:
    """The part of an image with its voxels above 0, as far as the image reaches.

    Args:
        image: 3-D scalar.
        margin_mm: around them.

    Returns:
        The part; all of it when there are none.
    """
    filled = np.nonzero(sitk.GetArrayViewFromImage(image))
    if not len(filled[0]):
        return image
    lowest, highest = ([int(f(axis)) for axis in reversed(filled)] for f in (np.min, np.max))
    more = [int(np.ceil(margin_mm / s)) + 1 for s in image.GetSpacing()]
    return image[
        tuple(slice(max(a - m, 0), min(b + 1 + m, n)) for a, b, m, n in zip(lowest, highest, more, image.GetSize()))
    ]


def _depth(mask: np.ndarray, spacing) -> np.ndarray:
    """Distance in mm to the border of a mask, positive inside."""
    from scipy import ndimage

    sampling = tuple(spacing)[::-1]
    if mask.all():
        # the border is that of the image
        return ndimage.distance_transform_edt(np.pad(mask, 1), sampling)[1:-1, 1:-1, 1:-1]
    return ndimage.distance_transform_edt(mask, sampling) - ndimage.distance_transform_edt(~mask, sampling)

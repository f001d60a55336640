"""What the probability of a structure says about its volume and its overlap with the truth, all voxels moving
together.
"""

from __future__ import annotations

import numpy as np

PERCENTILES = (0.5, 1, 2.5, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 97.5, 99, 99.5)


class Spread:
    """Counts of a structure's nested contours.

    percent: uint8 [z, y, x], probability in percent; labelled: bool [z, y, x], the structure as it was drawn;
    ml_per_voxel. The true structure is taken as {p > 1 − u} with u uniform in 0..1, as the intervals of a network
    without samples are (Eaton-Rosen 2018, Sec. 2.2, voxels fully correlated).
    """

    PERCENTILES = PERCENTILES

    def __init__(self, percent: np.ndarray, labelled: np.ndarray, ml_per_voxel: float):
        self._percent, self._labelled, self._ml = percent, labelled, ml_per_voxel
        # voxels with a value above v, for v from 0 to 100: all, and those of the drawn structure
        self._above, self._common = (
            np.cumsum(np.bincount(a, minlength=101)[::-1])[::-1] for a in (percent.ravel(), percent[labelled])
        )
        self.labelled_voxels = int(labelled.sum())

    @property
    def volume_ml(self) -> float:
        """Of the structure as it was drawn."""
        return self.labelled_voxels * self._ml

    def _voxels(self, percentile: float, counts: np.ndarray) -> int:
        first = int(np.floor(100.0 - percentile + 1e-9)) + 1  # values above 100 − q
        return int(counts[first]) if first <= 100 else 0

    def volume_at(self, percentile: float) -> float:
        """Volume (ml) of the contour of a percentile."""
        return self._voxels(percentile, self._above) * self._ml

    def interval(self, level: float) -> tuple[float, float]:
        """Lower and upper volume (ml) at a nominal level; the drawn volume lies within."""
        lower, upper = (self.volume_at(50 + side * 50 * level) for side in (-1, 1))
        return min(lower, self.volume_ml), max(upper, self.volume_ml)

    def dice(self) -> tuple[float, float, float]:
        """Expected Dice of the drawn against the true structure, and its 5th and 95th percentile; NaN when both are
        empty.
        """
        values = []
        for percentile in np.arange(0.5, 100.0, 1.0):
            size, common = self._voxels(percentile, self._above), self._voxels(percentile, self._common)
            if size + self.labelled_voxels:
                values.append(2 * common / (size + self.labelled_voxels))
        if not values:
            return (float("nan"),) * 3
        return float(np.mean(values)), *(float(v) for v in np.percentile(values, (5, 95)))

    def surface_entropy(self) -> float:
        """Mean entropy (nats) over the drawn structure's voxels that have a neighbour outside; NaN for an empty one."""
        from scipy import ndimage

        surface = self._labelled & ~ndimage.binary_erosion(self._labelled)
        p = np.clip(self._percent[surface] / 100.0, 1e-7, 1 - 1e-7)
        return float(-(p * np.log(p) + (1 - p) * np.log(1 - p)).mean()) if p.size else float("nan")

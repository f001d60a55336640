"""What a synthetic CT has to beat: body = 0 HU, and the best monotone map from normalised MR intensity to HU."""

from __future__ import annotations

import numpy as np

HU_EDGES = np.arange(-1050.0, 3105.0, 10.0)
HU_CENTRES = (HU_EDGES[1:] + HU_EDGES[:-1]) / 2


class MonotoneMap:
    """The monotone map of least absolute error, rising or falling, whichever is better on the training voxels.

    Exact for intensities in quantile bins and HU in steps of 10: pooling adjacent violators with the medians of the
    pooled voxels is the L1 isotonic regression (Barlow 1972).

    Args:
        bins: how many.
    """

    def __init__(self, bins: int = 128):
        self.bins = bins

    def fit(self, intensities: np.ndarray, hu: np.ndarray) -> MonotoneMap:
        """Learns the map.

        Args:
            intensities: voxels [n] of all training patients.
            hu: of the same voxels.

        Returns:
            Itself.
        """
        self.edges = np.unique(np.quantile(intensities, np.linspace(0, 1, self.bins + 1)[1:-1]))
        counts = np.zeros((len(self.edges) + 1, len(HU_CENTRES)))
        column = np.clip(np.digitize(hu, HU_EDGES) - 1, 0, len(HU_CENTRES) - 1)
        np.add.at(counts, (np.digitize(intensities, self.edges), column), 1)
        rising = _isotonic_l1(counts)
        falling = _isotonic_l1(counts[::-1])[::-1]
        self.values = min(rising, falling, key=lambda v: (counts * np.abs(HU_CENTRES - v[:, None])).sum())
        return self

    def __call__(self, intensities: np.ndarray) -> np.ndarray:
        """HU for intensities of any shape."""
        return self.values[np.digitize(intensities, self.edges)]


def _median(histogram: np.ndarray) -> float:
    total = np.cumsum(histogram)
    return float(HU_CENTRES[np.searchsorted(total, total[-1] / 2)])


def _isotonic_l1(counts: np.ndarray) -> np.ndarray:
    """Rising values per row of `counts` (histograms over HU_CENTRES) with the least sum of absolute errors."""
    blocks = []  # (histogram, median, number of rows)
    for row in counts:
        block = [row.copy(), _median(row) if row.any() else (blocks[-1][1] if blocks else 0.0), 1]
        while blocks and blocks[-1][1] > block[1]:
            before = blocks.pop()
            histogram = before[0] + block[0]
            block = [histogram, _median(histogram), before[2] + block[2]]
        blocks.append(block)
    return np.concatenate([np.full(n, value) for _, value, n in blocks])

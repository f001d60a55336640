"""The seven figures by which segmentations of the left atrium are compared (Yu 2019 and its successors; Hasan &
Linte 2021, Table 1).
"""

from __future__ import annotations

import math

import numpy as np

from rtuncertainty.core import surfaces

# name -> (title, factor for the table, digits, whether more is better; None: nearer to 0 is)
METRICS = {
    "dice": ("Dice (%)", 100, 2, True),
    "jaccard": ("Jaccard (%)", 100, 2, True),
    "hd95_mm": ("95HD (mm)", 1, 2, False),
    "asd_mm": ("ASD (mm)", 1, 2, False),
    "ravd": ("RAVD (%)", 100, 2, None),
    "precision": ("Precision (%)", 100, 2, True),
    "recall": ("Recall (%)", 100, 2, True),
}


def scores(found: np.ndarray, truth: np.ndarray, spacing) -> dict[str, float]:
    """The figures of `METRICS` for two masks (Hasan & Linte 2021, Table 1).

    hd95: the larger of the two directions' 95th percentile. asd: mean over the surface voxels of both. ravd: (found −
    true) / true volume, with its sign.

    Args:
        found: bool [z, y, x].
        truth: bool [z, y, x].
        spacing: (x, y, z), mm.

    Returns:
        Ratios as such, lengths in mm. Without a voxel found, Dice, Jaccard and recall are 0, and precision and
        distances unknown (NaN).

    Raises:
        ValueError: the truth is empty.
    """
    found, truth = np.asarray(found, bool), np.asarray(truth, bool)
    size, true = int(found.sum()), int(truth.sum())
    if not true:
        raise ValueError("an empty truth has no scores")
    common = int((found & truth).sum())
    distance = surfaces.surface_distance(found, truth, spacing)
    return {
        "dice": 2 * common / (size + true),
        "jaccard": common / (size + true - common),
        "hd95_mm": distance.hausdorff95,
        "asd_mm": distance.mean,
        "ravd": size / true - 1,
        "precision": common / size if size else math.nan,
        "recall": common / true,
    }

"""From the likeliest class of every voxel to a structure: the rules of the card, such as "one piece, no holes"."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# the keys that a structure's "rule" may have
RULES = ("largest", "smallest_ml", "fill_holes")


def tidy(labelled: np.ndarray, rule: dict, ml_per_voxel: float) -> np.ndarray:
    """The voxels [z, y, x] (bool) that a rule leaves of `labelled`, or adds.

    rule: "largest": n keeps the n largest connected pieces; "smallest_ml": v drops pieces below v ml; "fill_holes":
    true fills holes slice by slice. An empty rule changes nothing.
    """
    if not rule or not labelled.any():
        return labelled
    if "largest" in rule or "smallest_ml" in rule:
        pieces, _ = ndimage.label(labelled)
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        keep = sizes * ml_per_voxel >= rule.get("smallest_ml", 0.0)
        if "largest" in rule:
            order = np.argsort(sizes)[::-1]
            keep &= np.isin(np.arange(len(sizes)), order[: int(rule["largest"])])
        keep[0] = False
        labelled = keep[pieces]
    if rule.get("fill_holes"):
        labelled = np.stack([ndimage.binary_fill_holes(s) for s in labelled])
    return labelled


def tidy_labels(labels: np.ndarray, structures: list[dict], ml_per_voxel: float) -> np.ndarray:
    """A label image [z, y, x] with every structure's rule applied; holes are filled from background only."""
    out = np.zeros_like(labels)
    for s in structures:
        kept = tidy(labels == s["label"], s.get("rule") or {}, ml_per_voxel)
        # what a rule fills must not cover another structure's own voxels
        other = (labels != 0) & (labels != s["label"])
        out[kept & ~other] = s["label"]
    return out


def connected_to(contour: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """The pieces of `contour` (bool [z, y, x]) that touch `seed`; all of it when `seed` is empty."""
    if not seed.any():
        return contour
    pieces, count = ndimage.label(contour | seed)
    touched = np.zeros(count + 1, bool)
    touched[np.unique(pieces[seed])] = True
    touched[0] = False
    return touched[pieces] & contour

"""From the likeliest class of every voxel to a structure: the rules of the card, such as "one piece, no holes"."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# of a structure that was moved: a piece of at least so much of it is a part that broke off, a smaller one a stray
PART = 0.1


def tidy(labelled: np.ndarray, rule: dict, ml_per_voxel: float) -> np.ndarray:
    """What a card's rule makes of a structure.

    Args:
        labelled: bool [z, y, x].
        rule: "largest": n keeps the n largest connected pieces; "smallest_ml": v drops pieces below v ml; "fill_holes":
            true fills holes slice by slice. An empty rule changes nothing.
        ml_per_voxel: volume of a voxel.

    Returns:
        bool [z, y, x].
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


def mask_of(labels: np.ndarray, structure: dict) -> np.ndarray:
    """The voxels of a structure in labels that exclude each other: its own and those of the parts that it `holds`.

    Args:
        labels: [z, y, x].
        structure: of a card.

    Returns:
        bool [z, y, x].
    """
    return np.isin(labels, [structure["label"], *structure.get("holds", ())])


def unions(structures: list[dict]) -> np.ndarray | None:
    """What makes probabilities of structures of those of classes, both with the background first.

    Args:
        structures: of a card.

    Returns:
        [K, K]; None where no structure holds another, and both are the same.
    """
    if not any(s.get("holds") for s in structures):
        return None
    labels = [0, *(s["label"] for s in structures)]
    found = np.eye(len(labels), dtype=np.float32)
    for k, s in enumerate(structures, 1):
        found[k, [labels.index(part) for part in s.get("holds", ())]] = 1
    return found


def tidy_labels(labels: np.ndarray, structures: list[dict], ml_per_voxel: float) -> np.ndarray:
    """A label image with every structure's rule applied; holes are filled from background only. A structure that holds
    others is tidied with them.

    Args:
        labels: [z, y, x].
        structures: of the card, with label and rule.
        ml_per_voxel: volume of a voxel.

    Returns:
        The shape and type of `labels`.
    """
    out = np.zeros_like(labels)
    if any(s.get("holds") for s in structures):
        for s in structures:
            out[tidy(mask_of(labels, s), s.get("rule") or {}, ml_per_voxel)] = s["label"]
        return out
    for s in structures:
        kept = tidy(labels == s["label"], s.get("rule") or {}, ml_per_voxel)
        # what a rule fills must not cover another structure's own voxels
        other = (labels != 0) & (labels != s["label"])
        out[kept & ~other] = s["label"]
    return out


def large_pieces(labelled: np.ndarray) -> np.ndarray:
    """The pieces that hold at least `PART` of a structure; pieces touch at corners too.

    Args:
        labelled: bool [z, y, x].

    Returns:
        int [z, y, x], numbered 1, 2, …; 0 elsewhere.
    """
    pieces, _ = ndimage.label(labelled, np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    keep = sizes >= max(1.0, PART * sizes.sum())
    return np.where(keep, np.cumsum(keep), 0)[pieces]


def tidy_moved(moved: np.ndarray, rule: dict, ml_per_voxel: float) -> np.ndarray:
    """`tidy` for a structure that a deformation moved.

    It was drawn as it is, so a large second piece is no stray: a thin one, such as a cord, breaks where it lies between
    voxels, and "largest" would then lose half of it. In its place, pieces below `PART` of the structure are dropped.

    Args:
        moved: bool [z, y, x].
        rule: as of `tidy`.
        ml_per_voxel: volume of a voxel.

    Returns:
        bool [z, y, x].
    """
    if "largest" not in rule:
        return tidy(moved, rule, ml_per_voxel)
    return tidy(large_pieces(moved) > 0, {k: v for k, v in rule.items() if k != "largest"}, ml_per_voxel)


def connected_to(contour: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """The pieces of a contour that touch another.

    Args:
        contour: bool [z, y, x].
        seed: bool [z, y, x].

    Returns:
        bool [z, y, x]; all of the contour when `seed` is empty.
    """
    if not seed.any():
        return contour
    pieces, count = ndimage.label(contour | seed)
    touched = np.zeros(count + 1, bool)
    touched[np.unique(pieces[seed])] = True
    touched[0] = False
    return touched[pieces] & contour

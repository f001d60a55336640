"""How good a propagation is: contours organ by organ, and the deformation against the true one."""

from __future__ import annotations

import numpy as np
import torch

from rtuncertainty.core import structures, surfaces
from rtuncertainty.deformation import jacobian_tensor, warp_tensor
from rtuncertainty.deformation.objective import correlation

from ..data.pair_case import PairCase
from ..methods.elmahdy2021.feed import tensors


def warped_labels(case: PairCase, displacement: torch.Tensor) -> np.ndarray:
    """The planning labels moved by a displacement: in each voxel the likeliest, above one half.

    Args:
        case: the pair.
        displacement: [3, z, y, x], voxels.

    Returns:
        [z, y, x].
    """
    best, labels = np.full(case.daily.shape, 0.5, np.float32), np.zeros(case.daily.shape, np.uint8)
    for number in range(1, len(case.classes) + 1):
        mask = torch.from_numpy((case.planning_labels == number).astype(np.float32))[None, None]
        moved = warp_tensor(mask, displacement[None].cpu(), 0.0)[0, 0].numpy()
        labels[moved > best] = number
        np.maximum(best, moved, out=best)
    return labels


def contour_rows(case: PairCase, labels: np.ndarray, moved: bool = False) -> list[dict]:
    """DSC, MSD and 95 % HD of each organ that was drawn, after its largest component (Elmahdy 2021, Sec. III-C), only
    where both scans were taken.

    Args:
        case: the pair.
        labels: [z, y, x].
        moved: they were moved by a deformation: after `structures.tidy_moved`, as `propagate` shows it.

    Returns:
        One row an organ, mm. One that was not found has a DSC of 0 and no distances. `change`: the true volume on the
        daily scan over that on the planning scan, less 1.
    """
    tidy = structures.tidy_moved if moved else structures.tidy
    rows = organ_rows(
        case.daily_labels * case.known, labels * case.known, case.classes, case.present, case.spacing, tidy
    )
    for row in rows:
        label = 1 + case.classes.index(row["organ"])
        before, now = (int((scan == label).sum()) for scan in (case.planning_labels, case.daily_labels))
        row["change"] = now / before - 1 if before else float("nan")
    return rows


def organ_rows(
    truth_labels: np.ndarray, labels: np.ndarray, classes, present, spacing, tidy=structures.tidy, holds=None
) -> list[dict]:
    """`contour_rows` of labels against true ones.

    Args:
        truth_labels: true ones, [z, y, x].
        labels: [z, y, x].
        classes: what the values 1, 2, … mean.
        present: those that were drawn.
        spacing: (x, y, z), mm.
        tidy: how the card's rule "one piece" is kept.
        holds: {structure: its parts}, whose voxels are its own too.

    Returns:
        One row an organ, mm.
    """
    rows, ml = [], float(np.prod(spacing)) / 1000
    for number, organ in enumerate(classes, 1):
        own = [number, *(1 + classes.index(n) for n in (holds or {}).get(organ, ()))]
        truth = np.isin(truth_labels, own)
        if organ not in present or not truth.any():
            continue
        found = tidy(np.isin(labels, own), {"largest": 1}, ml)
        distance = surfaces.surface_distance(found, truth, spacing)
        rows.append(
            {
                "organ": organ,
                "dsc": surfaces.dice(found, truth),
                "msd_mm": distance.mean,
                "hd95_mm": distance.hausdorff95,
                "msd_of_means_mm": distance.mean_of_means,
                "hd_mm": distance.hausdorff,
            }
        )
    return rows


def deformation_row(case: PairCase, displacement: torch.Tensor) -> dict:
    """A displacement against the true one, in the body (Elmahdy 2021, Table 5).

    Args:
        case: the pair.
        displacement: [3, z, y, x], voxels.

    Returns:
        Distance (mm), SD of the Jacobian, folding (share of voxels) and correlation.
    """
    where = case.body & case.known
    d = displacement.cpu()
    error = (d.numpy() - case.displacement) * np.reshape(case.spacing, (3, 1, 1, 1))
    length = np.sqrt((error**2).sum(0))[where]
    determinant = jacobian_tensor(d[None])[0, 0].numpy()[where]
    t = tensors(case)
    valid = torch.from_numpy(where.astype(np.float32))[None, None]
    alike = correlation(t["fixed"][None], warp_tensor(t["moving"][None], d[None]), valid).item()
    return {
        "tre_mm": float(length.mean()),
        "tre_p95_mm": float(np.percentile(length, 95)),
        "jacobian_sd": float(determinant.std()),
        "folding": float((determinant <= 0).mean()),
        "correlation": alike,
    }

"""Losses that focus on a region of interest (Kaushik 2022, Eqs. 1 to 4); no library has the weighted MAE.

Tensors are [n, 1, y, x] in the units of the network's outputs. `valid` is 1 where the CT was measured, and nothing
outside of it counts.
"""

from __future__ import annotations

from ...core.distributed import total
from ..bragman2018.loss import weighted_mean

# Eq. 4 and Sec. II-B b: of the body's HU, the bone's class and the bone's HU
WEIGHTS = (1.0, 1.5, 1.3)


def global_mae(found, target, valid):
    """Mean absolute error over all measured voxels (1TN-GL; Kaushik 2022, Eq. 1).

    Args:
        found: see the module.
        target: see the module.
        valid: see the module.

    Returns:
        A scalar.
    """
    return weighted_mean((found - target).abs(), valid)


def weighted_mae(found, target, region, valid):
    """wMAE_k = (N_k'/N)·MAE_k + (N_k/N)·MAE_k' for the region k and the rest k' (Kaushik 2022, Eq. 2), over the whole
    batch.

    Where one of the two is missing the other's weight would be 0 and nothing would be learnt: there it is the plain
    MAE.

    Args:
        found: see the module.
        target: see the module.
        valid: see the module.
        region: k, a mask as floats.

    Returns:
        A scalar.
    """
    error = (found - target).abs()
    inside, outside = region * valid, (1 - region) * valid
    n, rest = total(inside.sum()), total(outside.sum())
    if n == 0 or rest == 0:
        return weighted_mean(error, valid)
    return (rest * weighted_mean(error, inside) + n * weighted_mean(error, outside)) / (n + rest)


def dice_loss(probability, truth, valid):
    """1 − 2·Σxy / (Σx² + Σy²) (Kaushik 2022, Eq. 3).

    Args:
        probability: see the module.
        truth: see the module.
        valid: see the module.

    Returns:
        A scalar; 0 where the batch holds no true voxel, so that the term is silent there.
    """
    p, t = probability * valid, truth * valid
    true = total(t.sum())
    if true == 0:
        return p.sum() * 0.0
    return 1 - 2 * total((p * t).sum()) / (total((p * p).sum()) + total((t * t).sum()))


def three_task_loss(out, target, body, bone, valid, weights=WEIGHTS) -> dict:
    """L = 1.0·wMAE of the body + 1.5·Dice loss of bone + 1.3·MAE of bone (Kaushik 2022, Eq. 4), as far as the network
    has them.

    Without bone in the batch its terms are 0.

    Args:
        out: an `AtrousOutput`.
        target: HU/1000, air outside the body.
        body: mask as floats.
        bone: mask as floats.
        valid: see the module.
        weights: of the three terms.

    Returns:
        {term: scalar}, and their weighted sum "loss".
    """
    terms = {"body": weighted_mae(out.body, target, body, valid)}
    loss = weights[0] * terms["body"]
    if out.bone_logit is not None:
        terms["bone_class"] = dice_loss(out.bone_logit.sigmoid(), bone, valid)
        loss = loss + weights[1] * terms["bone_class"]
    if out.bone is not None:
        terms["bone_hu"] = weighted_mean((out.bone - target).abs(), bone * valid)
        loss = loss + weights[2] * terms["bone_hu"]
    return {**terms, "loss": loss}

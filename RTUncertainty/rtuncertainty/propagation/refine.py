"""Instance optimisation: a few steps of the training loss on the deformation of this one pair."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ..core.events import Progress
from ..deformation import warp_tensor
from ..deformation.objective import bending_energy, correlation, soft_dice

# iterations on voxels of twice the size, and on the working grid
ITERATIONS = {"off": (0, 0), "fast": (40, 0), "full": (80, 60)}
STEP = 0.15  # voxels, the first step of Adam
BENDING = 0.5
OVERLAP = 0.1  # weight of 1 − Dice: the CTs say more than the segmentation does
# an organ whose two contours overlap by less than this Dice may be segmented wrongly, and must not pull
TRUSTED = 0.8


def refined(
    displacement: torch.Tensor,
    fixed: torch.Tensor,
    moving: torch.Tensor,
    valid: torch.Tensor,
    mode: str,
    progress: Progress,
    moving_labels: torch.Tensor | None = None,
    segmented: torch.Tensor | None = None,
    bending: float = BENDING,
) -> torch.Tensor:
    """The displacement after a few steps of the training loss on this pair alone.

    The loss is that of training (Elmahdy 2021, Eq. 4): (1 − correlation) + `OVERLAP`·(1 − Dice) + `bending`·bending
    energy, on voxels of twice the size; full goes on with `deformation.instance` on the working grid. What is optimised
    is a correction on a lattice of every second voxel, which keeps it smooth.

    Args:
        displacement: [1, 3, z, y, x], voxels.
        fixed: [1, 1, z, y, x], the daily CT in the network's units.
        moving: the same of the planning CT.
        valid: [1, 1, z, y, x], 1 where both scans are known, else 0.
        mode: a key of `ITERATIONS`.
        progress: takes the stages; its token cancels.
        moving_labels: [1, K, z, y, x], masks (0 to 1) of the planning organs, or None.
        segmented: the same of the direct segmentation.
        bending: weight of the bending energy.

    Returns:
        [1, 3, z, y, x], voxels.
    """
    coarse, fine = ITERATIONS[mode]
    if moving_labels is not None:
        moving_labels, segmented = _trusted(displacement, valid, moving_labels, segmented)
    for level, (count, factor) in enumerate(((coarse, 2), (fine, 1))):
        if count:
            displacement = _optimised(
                displacement,
                fixed,
                moving,
                valid,
                moving_labels,
                segmented,
                count,
                factor,
                bending,
                progress,
                (level * coarse, coarse + fine),
            )
    return displacement


def _trusted(displacement, valid, labels, segmented):
    """The organs on which both paths agree well enough; (None, None) without any."""
    dice = soft_dice(warp_tensor(labels, displacement, 0.0), segmented, valid)[0]
    kept = (dice >= TRUSTED).nonzero().ravel()
    return (labels[:, kept], segmented[:, kept]) if len(kept) else (None, None)


def _optimised(displacement, fixed, moving, valid, labels, segmented, count, factor, bending, progress, done):
    shape = displacement.shape[2:]

    def shrunk(x):
        return x if x is None or factor == 1 else F.avg_pool3d(x, factor, ceil_mode=True, count_include_pad=False)

    images = [shrunk(x) for x in (fixed, moving, valid, labels, segmented)]
    small = images[0].shape[2:]
    start = shrunk(displacement) / factor
    correction = torch.zeros((1, 3, *(-(-n // 2) for n in small)), device=displacement.device, requires_grad=True)
    optimiser = torch.optim.Adam([correction], STEP)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, count)

    def on(size):
        return F.interpolate(correction, size=size, mode="trilinear", align_corners=True)

    for step in range(count):
        progress.stage("refine", (done[0] + step) / done[1], f"Refining, step {done[0] + step + 1} of {done[1]}")
        d = start + on(small)
        loss = _loss(d, images, bending)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return displacement + factor * on(shape).detach()


def _loss(d, images, bending):
    fixed, moving, valid, labels, segmented = images
    loss = 1 - correlation(fixed, warp_tensor(moving, d), valid).mean() + bending * bending_energy(d)
    if labels is not None:
        loss = loss + OVERLAP * (1 - soft_dice(warp_tensor(labels, d, 0.0), segmented, valid)).mean()
    return loss

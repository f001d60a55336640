"""How the learning rate goes through a run."""

from __future__ import annotations

import math

import torch

from .config import Config

# of "steps": the part of a run after which the rate falls to a tenth (2500 of 6000 iterations, Hasan & Linte 2021)
FALL = 2500 / 6000


def configured(optimiser: torch.optim.Optimizer, config: Config) -> dict:
    """What `configure_optimizers` returns: a linear warm-up, then a cosine to 1 % of the peak, the peak to the end, or
    a tenth of it after every `FALL` of the run.

    Args:
        optimiser: of the weights.
        config: its `schedule`, `warm_up` and `steps` count.

    Returns:
        As Lightning takes it.
    """
    kind, warm, steps = config.schedule, config.warm_up, config.steps

    def rate(step):
        if step < warm:
            return (step + 1) / warm
        if kind == "constant":
            return 1.0
        if kind == "steps":
            return 0.1 ** int(step / (FALL * steps))
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))

    return {
        "optimizer": optimiser,
        "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimiser, rate), "interval": "step"},
    }

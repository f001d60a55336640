"""Settings of 1TN-GL, 1TN-FL, 2TN and 3TN (Kaushik 2022)."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.config import Config, setting


@dataclass(frozen=True)
class Kaushik2022(Config):
    """NAdam, 1e-3 and the losses' weights are the paper's (Sec. II-B, III); it trains on slices, we on patches."""

    METHOD = "kaushik2022"
    NETWORKS = ("3tn", "2tn", "1tn-fl", "1tn-gl")

    patch: int = setting(152, "pixels along an edge", least=16)
    whole_slices: bool = setting(
        False, "patches are whole slices, in the middle of a patch that is wide enough; the paper's"
    )
    centres: tuple[float, float, float] = setting(
        (0.45, 0.2, 0.35), "shares of patches on bone, on another structure, anywhere", least=0
    )
    optimiser: str = setting("nadam", "of the weights; the paper's", choices=("adam", "nadam"))
    learning_rate: float = setting(1e-3, "the highest one; the paper's", least=0)
    hu_scale: float = setting(1000.0, "HU per unit of the loss: in HU the Dice loss would weigh nothing", above=0)
    loss_weights: tuple[float, float, float] = setting(
        (1.0, 1.5, 1.3), "of the body's HU, bone's class, bone's HU (Eq. 4)", least=0
    )

"""Settings of M1 to M4 (Bragman 2018)."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.config import Config, setting


@dataclass(frozen=True)
class Bragman2018(Config):
    """Patches of 152², 19,000 steps and Adam are the paper's (Sec. 2); `paper.yaml` has what else it trains with."""

    METHOD = "bragman2018"
    NETWORKS = ("m4", "m3", "m2b", "m2a", "m1")

    patch: int = setting(152, "pixels along an edge; the paper's", least=16)
    centres: tuple[float, float, float] = setting(
        (0.45, 0.2, 0.35), "shares of patches on bone, on another structure, anywhere", least=0
    )
    optimiser: str = setting("adam", "of the weights", choices=("adam", "nadam"))
    hu_scale: float = setting(
        200.0, "HU per unit of the loss: the floor of the variance is then (14 HU)², a CT's noise", above=0
    )
    printed: bool = setting(False, "losses as the paper prints them: log σ² without the half, CE/2σ² + log σ²")
    beta: float = setting(
        0.5, "of β-NLL (Seitzer 2022), see loss.regression_nll; the paper's is 0, the plain one", least=0, most=1
    )

"""Settings of Seg, Reg, JRS-reg, Dense, SEDD and Cross-stitch (Elmahdy 2021)."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.config import Config, setting


@dataclass(frozen=True)
class Elmahdy2021(Config):
    """Patches of 96³ and the bending energy's weight are the paper's; `paper.yaml` has what else it trains with."""

    METHOD = "elmahdy2021"
    GIVEN = ("inputs",)
    NETWORKS = ("cross_stitch", "sedd", "dense", "jrs_reg", "reg", "seg")

    patch: int = setting(96, "voxels along an edge: a multiple of 4, at least 44", least=1)
    weighting: str = setting(
        "equal",
        "of the losses: alike, by learnt noise (Eq. 7), by rate of change (Eq. 8)",
        choices=("equal", "homoscedastic", "dwa"),
    )
    inputs: str = setting(
        "",
        "what the network sees, of cross_stitch its registration path (Table 1); nothing said: the first in_channels",
        choices=("", "daily", "daily+planning", "daily+labels", "daily+planning+labels"),
    )
    hu_window: tuple[float, float] = setting((-500.0, 1000.0), "HU that scans are clipped to; the paper's from −1000")
    printed: bool = setting(
        False, "the Dice loss as the paper prints it (Eq. 1), with plain sums, nothing for an organ that a patch lacks"
    )
    bending: float = setting(0.5, "weight of the bending energy (Eq. 3)", least=0)
    cross_entropy: float = setting(
        0.0, "weight of the segmentation's cross-entropy, see task.JointTask; the paper has none", least=0
    )
    organ_weight: float = setting(1.0, "of an organ's voxel in that cross-entropy, beside 1 of the background", least=0)
    rare_organs: bool = setting(
        False, "patches see an organ that few have as often as others; else patients come first"
    )

    @property
    def built_arguments(self):
        """What the network is built with, `inputs` among it."""
        return self.arguments | ({"inputs": self.inputs} if self.inputs else {})

    def patch_fault(self):
        """See `Config.patch_fault`."""
        return "a multiple of 4 from 44 on is needed" if self.patch < 44 or self.patch % 4 else None

"""Settings of HR-default, HR-drop-last, HR-drop-all and HR-hetero (Eaton-Rosen 2018), and of a V-Net in their place."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.config import Config, setting


@dataclass(frozen=True)
class EatonRosen2018(Config):
    """Organs in CT, some of which were not drawn. The paper has cross-entropy alone and Adam, 1e-3: `paper.yaml`.

    A V-Net is trained so with `method: eatonrosen2018` beside `network: vnet`, which is hasan2021's otherwise.
    """

    METHOD = "eatonrosen2018"
    NETWORKS = ("hr_default", "hr_drop_last", "hr_drop_all", "hr_hetero", "vnet")

    patch: int = setting(96, "voxels along an edge", least=1)
    dice: float = setting(1.0, "weight of the Dice loss beside the likelihood; the paper has 0", least=0)
    dice_until: float = setting(
        1.0,
        "part of the steps after which that loss and organ_weight end, or volumes come out too large",
        least=0,
        most=1,
    )
    organ_weight: float = setting(1.0, "of an organ's voxel in the likelihood, beside 1 of the background", least=0)
    freeze_norm: bool = setting(False, "batch normalisation keeps the statistics that it began with")
    noise_samples: int = setting(10, "of the logits of hr_hetero, in each step", least=1)

    def patch_fault(self):
        """See `Config.patch_fault`."""
        multiple = 2 ** (self.arguments.get("levels", 5) - 1) if self.network == "vnet" else 1
        return (
            f"a V-Net of {self.arguments.get('levels', 5)} levels needs a multiple of {multiple}"
            if self.patch % multiple
            else None
        )

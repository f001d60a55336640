"""Settings of learning from few labels: V-Net, UA-MT, SASSNet and MT-CTL (Hasan & Linte 2021)."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.config import Config, setting

PARTS = ("cross_task", "guidance", "adversarial", "auxiliary")
AUGMENTATIONS = ("quarter turns", "turns and contrast")
# voxels of a crop along each axis, four times halved by the discriminator: one is left
SMALLEST = 16


@dataclass(frozen=True)
class Hasan2021(Config):
    """Crops are the paper's (Sec. 2), SGD and weights Yu 2019's, as it says none; `paper.yaml` has rate and steps."""

    METHOD = "hasan2021"
    NETWORKS = ("mt_ctl", "sassnet", "ua_mt", "vnet")
    BUILT = {"sassnet": "vnet", "ua_mt": "vnet"}
    GIVEN = ("decoders", "distance")

    patch: tuple[int, int, int] = setting(
        (112, 112, 80), "voxels of a crop along x, y, z: multiples of 2^(levels − 1)", least=1
    )
    momentum: float = setting(0.9, "of SGD", least=0)
    weight_decay: float = setting(1e-4, "of SGD", least=0)
    labelled: int = setting(16, "scans whose labels are used, the first in their order; 0: all", least=0)
    unlabelled_batch: int = setting(2, "crops of a batch that are of unlabelled scans", least=0)
    on_structure: float = setting(
        0.0, "part of the labelled crops that is centred on the structure, in large scans", least=0, most=1
    )
    augmentation: str = setting(AUGMENTATIONS[0], "of crops, see feed.Crops", choices=AUGMENTATIONS)
    printed: bool = setting(
        False,
        "of mt_ctl: L_seg the Dice loss alone, and U the mean of the samples' entropies, as the paper prints them",
    )
    parts: tuple[str, ...] | None = setting(None, f"of mt_ctl: which of {', '.join(PARTS)} to train; nothing said: all")
    distance_weight: float = setting(0.3, "of the distance map's loss", least=0)
    adversarial_weight: float = setting(0.01, "of the discriminator's part", least=0)
    consistency_weight: float = setting(0.1, "of what unlabelled crops must agree in", least=0)
    ema: float = setting(0.99, "of ua_mt: decay of the mean teacher", least=0, most=1)
    discriminator_width: int = setting(
        64, "of sassnet and mt_ctl: channels of the discriminator's first layer", least=1
    )

    @classmethod
    def read(cls, given, files="settings"):
        """As `Config.read`, and parts that MT-CTL has.

        Args:
            given: as of `Config.read`.
            files: as of `Config.read`.

        Returns:
            The settings.

        Raises:
            SystemExit: as of `Config.read`, and for a part that there is not.
        """
        made = super().read(given, files)
        unknown = [p for p in made.parts or () if p not in PARTS]
        if unknown:
            file = files if isinstance(files, str) else files["parts"]
            raise SystemExit(f"{file}: parts: {', '.join(unknown)} is not one of {', '.join(PARTS)}.")
        return made

    @property
    def parts_trained(self) -> tuple[str, ...]:
        """Of MT-CTL; see task.MTCTLTask."""
        return PARTS if self.parts is None else self.parts

    @property
    def built_arguments(self):
        """Of MT-CTL with the decoders of its maps; the auxiliary one only helps the training."""
        if self.network != "mt_ctl":
            return self.arguments
        decoders = ["distance", *(["uncertainty"] if "guidance" in self.parts_trained else [])]
        return self.arguments | {"decoders": decoders}

    @property
    def adversarial(self) -> bool:
        """Whether there is a discriminator."""
        return self.network == "sassnet" or (self.network == "mt_ctl" and "adversarial" in self.parts_trained)

    def patch_fault(self):
        """See `Config.patch_fault`."""
        multiple = 2 ** (self.arguments.get("levels", 5) - 1)
        if any(n % multiple for n in self.patch):
            return f"a network of {self.arguments.get('levels', 5)} levels needs multiples of {multiple}"
        if self.adversarial and min(self.patch) < SMALLEST:
            return f"a discriminator needs crops of at least {SMALLEST} voxels along each axis"
        return None

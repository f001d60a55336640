"""A prediction in the scene: synthetic CT and structures of one image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from . import show
from .run import Run


@dataclass
class PredictionRun(Run):
    """What a prediction put into a scene. `probabilities` maps a structure's name to its volume, `tables` has
    'volumes', 'flags' and 'metrics'. `synct` is None where the model only segments. `samples` holds the sequences of
    the samples that were kept ("synct", "structures"), their "browser", and what shows the chosen one ("shown_synct",
    "shown_structures")."""

    synct: object = None
    probabilities: dict = field(default_factory=dict)
    segmentation: object = None
    reference: object = None
    samples: dict = field(default_factory=dict)

    job: ClassVar[str] = "predict"
    single: ClassVar[tuple[str, ...]] = (*Run.single, "synct", "segmentation", "reference")
    keyed: ClassVar[dict[str, str]] = {**Run.keyed, "probability": "probabilities", "samples": "samples"}
    ct_key: ClassVar[str] = "synct"

    @property
    def main(self):
        return self.synct or self.segmentation

    @property
    def main_segmentation(self):
        return self.segmentation

    @property
    def ct(self):
        return self.synct

    def probability(self, name: str):
        return self.probabilities.get(name)

    def show(self, overlay: str | None = "predictive") -> None:
        show.show_result(self, overlay)

    def show_overlay(self, key: str | None) -> None:
        show.show_overlay(self, key)

"""The nodes of one propagation, and what the tables in the scene say about its structures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from .structure_rows import PATHS
from . import transform as propagation_transform
from ..run import Run
from ...mrml.tables import original

PLANNING_REFERENCE, STRUCTURES_REFERENCE = "RTUncertainty.Planning", "RTUncertainty.PlanningStructures"
HIDDEN_ATTRIBUTE = "RTUncertainty.HidPlanningStructures"


@dataclass
class PropagationNodes(Run):
    """What a propagation put into a scene.

    `input` is the daily CT, `planning` and `planning_structures` are what was propagated: the user's own nodes, None when
    they are not in the scene. `warped` is the planning CT on the daily scan, `transform` the grid transform that moves
    planning nodes there, `outlines` a copy of the planning structures for display. `segmentations` maps 'propagated',
    'segmented' (when the model segments) and 'accepted' (when something was accepted) to their nodes. `tables` has
    'structure_table', 'volumes' and 'flags'.
    """

    warped: object = None
    transform: object = None
    outlines: object = None
    segmentations: dict = field(default_factory=dict)
    planning: object = None
    planning_structures: object = None

    single: ClassVar[tuple[str, ...]] = (*Run.single, "warped", "transform", "outlines")
    keyed: ClassVar[dict[str, str]] = {**Run.keyed, "segmentation": "segmentations"}
    references: ClassVar[dict[str, str]] = {
        **Run.references, "planning": PLANNING_REFERENCE, "planning_structures": STRUCTURES_REFERENCE}

    @property
    def main(self):
        return self.warped

    @property
    def main_segmentation(self):
        return self.segmentations.get("propagated")

    @property
    def names(self) -> list[str]:
        """Names of the structures, in the order of the table."""
        return [self._cell(row, "structure") for row in range(self._table.GetNumberOfRows())]

    def default_path(self, name: str) -> str:
        """The path that the model proposes for a structure."""
        return self._cell(self.names.index(name), "default")

    def paths(self, name: str) -> list[str]:
        """The paths that there are for a structure."""
        return [path for path in PATHS if path in self.segmentations and segment_id(self.segmentations[path], name)]

    def worst_slice(self, name: str) -> int | None:
        """Index along the third axis of the daily scan where a structure is least certain; None when it is not known."""
        value = self._table.GetValueByName(self.names.index(name), "worst_slice").ToDouble()
        return int(value) if value == value else None

    @property
    def _table(self):
        return self.tables["structure_table"].GetTable()

    def _cell(self, row: int, column: str) -> str:
        return original(self._table.GetValueByName(row, column).ToString())

    def about_to_be_removed(self) -> None:
        """Free what lies under the transform, and show the planning structures again when the run hid them."""
        for node in propagation_transform.deformed_nodes(self):
            propagation_transform.undo_deformation(self, node)
        structures = self.planning_structures
        if self.outlines is not None and self.outlines.GetAttribute(HIDDEN_ATTRIBUTE) and structures is not None:
            if structures.GetScene() is self.scene and structures.GetDisplayNode() is not None:
                structures.GetDisplayNode().SetVisibility(True)


def segment_id(node, name: str) -> str:
    """The identifier of the segment called `name`; empty when there is none."""
    return node.GetSegmentation().GetSegmentIdBySegmentName(name) or ""

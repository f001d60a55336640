"""A propagation in the scene, and what its tables say about the structures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ...mrml.attributes import HIDDEN_ATTRIBUTE, PLANNING_REFERENCE, STRUCTURES_REFERENCE
from ...mrml.segmentation import segment_id
from ...mrml.tables import original
from ..review_data import read_summary
from ..run import Run
from . import show
from .accept import accepted_paths
from .structure_rows import PATHS
from .transform import deformed_nodes, undo_deformation


@dataclass
class PropagationRun(Run):
    """What a propagation put into a scene.

    `input` is the daily CT, `planning` and `planning_structures` are what was propagated: the user's own nodes, None
    when they are not in the scene. `warped` is the planning CT on the daily scan, `transform` the grid transform that
    moves planning nodes there, `outlines` a copy of the planning structures for display. `segmentations` maps
    'propagated', 'segmented' (when the model segments) and 'accepted' (when something was accepted) to their nodes.
    `tables` has 'structure_table', 'volumes' and 'flags'.
    """

    warped: object = None
    transform: object = None
    outlines: object = None
    segmentations: dict = field(default_factory=dict)
    planning: object = None
    planning_structures: object = None

    job: ClassVar[str] = "propagate"
    single: ClassVar[tuple[str, ...]] = (*Run.single, "warped", "transform", "outlines")
    keyed: ClassVar[dict[str, str]] = {**Run.keyed, "segmentation": "segmentations"}
    references: ClassVar[dict[str, str]] = {
        **Run.references,
        "planning": PLANNING_REFERENCE,
        "planning_structures": STRUCTURES_REFERENCE,
    }
    ct_key: ClassVar[str] = "warped_planning"
    deforms: ClassVar[bool] = True

    @property
    def main(self):
        return self.warped

    @property
    def main_segmentation(self):
        return self.segmentations.get("propagated")

    @property
    def ct(self):
        return self.warped

    @property
    def tissue_ct(self):
        return self.warped

    @property
    def deformation(self):
        return self.transform

    def contour(self, name: str) -> tuple[object, bool]:
        proposed, accepted = self.default_path(name), accepted_paths(self).get(name)
        for path, node in (
            ("accepted", self.segmentations.get("accepted")),
            (proposed, self.segmentations.get(proposed)),
        ):
            if self.with_segment(node, name) is not None and (path != "accepted" or accepted):
                return node, (accepted or proposed) == proposed
        return None, True

    def worst_point(self, name: str):
        return show.worst_point(self, name) if name in self.names else None

    def show(self, overlay: str | None = None) -> None:
        show.show_propagation(self)
        if overlay is not None:
            show.show_blend(self, show.DAILY, overlay)

    def show_overlay(self, key: str | None) -> None:
        show.show_blend(self, show.DAILY, key)

    @property
    def names(self) -> list[str]:
        """Names of the structures, in the order of the table; none when the table was deleted."""
        return (
            [self._cell(row, "structure") for row in range(self._table.GetNumberOfRows())]
            if self._table is not None
            else []
        )

    def default_path(self, name: str) -> str:
        """The path that the model proposes for a structure, 'propagated' where it says nothing."""
        choices = [
            s.get("default")
            for s in read_summary(self).get("structures") or []
            if isinstance(s, dict) and s.get("name") == name
        ]
        row = self._cell(self.names.index(name), "default") if name in self.names else None
        return row or next(filter(None, choices), "propagated")

    def paths(self, name: str) -> list[str]:
        """The paths that there are for a structure."""
        return [path for path in PATHS if path in self.segmentations and segment_id(self.segmentations[path], name)]

    def worst_slice(self, name: str) -> int | None:
        """Index along the third axis of the daily scan where a structure is least certain; None when it is not
        known.
        """
        value = self._table.GetValueByName(self.names.index(name), "worst_slice").ToDouble()
        return int(value) if value == value else None

    @property
    def _table(self):
        node = self.tables.get("structure_table")
        return node.GetTable() if node is not None else None

    def _cell(self, row: int, column: str) -> str:
        return original(self._table.GetValueByName(row, column).ToString())

    def about_to_be_removed(self) -> None:
        """Free what lies under the transform, and show the planning structures again when the run hid them."""
        for node in deformed_nodes(self):
            undo_deformation(self, node)
        structures = self.planning_structures
        if self.outlines is not None and self.outlines.GetAttribute(HIDDEN_ATTRIBUTE) and structures is not None:
            if structures.GetScene() is self.scene and structures.GetDisplayNode() is not None:
                structures.GetDisplayNode().SetVisibility(True)

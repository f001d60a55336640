"""The choice of the user's own segmentation and its probability volumes in the RTReview panel."""

from __future__ import annotations

from collections.abc import Callable

import slicer.util

from ..widgets import table_rows
from ..widgets.text import _
from .logic import ReviewLogic, segment_names

STRUCTURE, VOLUME = range(2)


class ReviewInputs:
    """Wires the section of the user's own data: a table with one volume for each segment, suggested by its name.

    `start(segmentation, probabilities)` is called with what was chosen.
    """

    def __init__(self, ui, logic: ReviewLogic, start: Callable):
        self._ui, self._logic, self._start = ui, logic, start
        self._names: list[str] = []
        self._boxes: dict[str, object] = {}
        self._known: tuple = ()
        ui.ownSegmentationSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.refresh)
        ui.ownCollapsibleButton.connect("contentsCollapsed(bool)", self.refresh)
        ui.ownButton.connect("clicked()", self._review)

    def refresh(self) -> None:
        """Bring the table in step with the segmentation and the volumes in the scene; choices that still stand stay."""
        if self._ui.ownCollapsibleButton.collapsed:
            return
        import qt

        node = self._ui.ownSegmentationSelector.currentNode()
        nodes = (
            [
                n
                for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
                if n.GetClassName() == "vtkMRMLScalarVolumeNode" and not n.GetHideFromEditors()
            ]
            if node is not None
            else []
        )
        names = segment_names(node) if node is not None else []
        known = (node, tuple(names), tuple((n.GetID(), n.GetName()) for n in nodes))
        if known == self._known:
            return
        kept = (
            {name: box.itemData(box.currentIndex) for name, box in self._boxes.items()}
            if self._known and self._known[0] is node
            else {}
        )
        self._known, self._names, self._boxes = known, names, {}
        suggested = (
            {name: volume.GetID() for name, volume in self._logic.matching(node).items()} if node is not None else {}
        )
        table = self._ui.ownTable
        table.rowCount = 0
        table.rowCount = len(names)
        for row, name in enumerate(names):
            table.setItem(row, STRUCTURE, qt.QTableWidgetItem(name))
            box = qt.QComboBox()
            box.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
            box.addItem(_("None"), "")
            for volume in nodes:
                box.addItem(volume.GetName(), volume.GetID())
            box.setCurrentIndex(max(box.findData(kept.get(name, suggested.get(name, ""))), 0))
            box.connect("currentIndexChanged(int)", self._refresh_button)
            table.setCellWidget(row, VOLUME, box)
            self._boxes[name] = box
        table_rows.set_widths(table)
        table.visible = bool(names)
        self._refresh_button()

    def chosen(self) -> dict:
        """Segment -> volume node, of the segments that have one."""
        found = {}
        for name, box in self._boxes.items():
            node = slicer.mrmlScene.GetNodeByID(box.itemData(box.currentIndex) or "")
            if node is not None:
                found[name] = node
        return found

    def _refresh_button(self) -> None:
        button, count = self._ui.ownButton, len(self.chosen())
        button.enabled = count > 0
        if self._ui.ownSegmentationSelector.currentNode() is None:
            button.toolTip = _("Choose a segmentation first.")
        elif not count:
            button.toolTip = _("Choose the probability volume of at least one structure.")
        else:
            button.toolTip = _(
                "Derive volumes with intervals, expected Dice and entropy from the probabilities. Your data stay as "
                "they are."
            )

    def _review(self) -> None:
        node, chosen = self._ui.ownSegmentationSelector.currentNode(), self.chosen()
        if node is not None and chosen:
            self._start(node, chosen)

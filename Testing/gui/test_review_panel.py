"""The RTReview panel, clicked through: what it shows of a result, where it jumps to, and the decisions that it
keeps.
"""

import types

import numpy as np
import pytest
import slicer
import slicer.util
from gui_support.review import (  # noqa: F401
    MODULE,
    click,
    column,
    contours,
    decision_buttons,
    folders,
    opened,
    review,
    row_of,
)
from make_result import make_result
from make_review import add_review_files
from standins import load_module

from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.mrml.segmentation import segment_id
from RTUncertaintyLib.review.table import DECISION, STRUCTURE, VOLUME, WHY
from RTUncertaintyLib.runs.review_data import ReviewData


def test_empty_panel_says_what_to_do(review):
    ui = review.ui
    assert ui.aboutLabel.text.startswith("No result yet: run RT Prediction or RT Propagation, open a result folder")
    assert ui.runComboBox.currentText == "No result in the scene" and not ui.runComboBox.enabled
    for button in (
        *decision_buttons(ui),
        ui.undoButton,
        ui.nextRegionButton,
        ui.previousRegionButton,
        ui.distributionsButton,
        ui.slicesButton,
        ui.zscoreButton,
        ui.exportButton,
        ui.removeRunButton,
        ui.ownButton,
    ):
        assert not button.enabled and button.toolTip, button.name
    assert (
        not ui.overlayComboBox.enabled
        and not ui.thresholdSlider.enabled
        and not ui.structuresTable.visible
        and ui.structureLabel.text == ""
    )


def test_open_a_result_folder(opened):
    ui = opened("new").ui
    assert ui.runComboBox.currentText == "limb-t1-synct on mr" and ui.runComboBox.enabled
    assert [ui.overlayComboBox.itemText(i) for i in range(ui.overlayComboBox.count)][0] == "Predictive uncertainty (SD)"
    assert ui.structuresTable.visible and ui.thresholdSlider.enabled and ui.removeRunButton.enabled
    data = ReviewData.of_run(opened("new").panel.nodes)
    assert ui.runComboBox.count == 1, "the same folder is not loaded twice"
    gtv = data.structure("gtv")
    row = column(opened("new"), STRUCTURE).index("gtv")
    assert (
        column(opened("new"), VOLUME)[row] == f"2.2\n{gtv.interval(0.9).lower_ml:.1f}–{gtv.interval(0.9).upper_ml:.1f}"
    )
    tip = ui.structuresTable.item(row_of(opened("new"), "gtv"), 0).toolTip()
    assert f"Expected Dice {gtv.quality.expected_dice:.2f} (" in tip
    assert ui.flagsTable.rowCount == 1 and ui.flagsTable.item(0, 0).text() == "synCT"
    assert not ui.structuresTable.item(row_of(opened("new"), "gtv"), STRUCTURE).icon().isNull()


@pytest.mark.parametrize("folder, words", [("/nowhere", "there is no such folder"), ("", None)])
def test_a_folder_that_is_none(opened, folder, words):
    ui = opened(folder).ui
    assert (words in ui.statusLabel.text) if words else ui.statusLabel.text == ""
    assert (
        ui.runComboBox.currentText == "No result in the scene"
        and slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    )


def test_levels(opened):
    widget = opened("new")
    box, gtv = widget.ui.levelComboBox, widget.panel.data.structure("gtv")
    assert [box.itemText(i) for i in range(box.count)] == [
        "50 %",
        "68 %",
        "80 %",
        "90 %",
        "95 %",
    ] and box.currentText == "90 %"
    for index, level in enumerate((0.5, 0.68, 0.8, 0.9, 0.95)):
        box.currentIndex = index
        row, told = column(widget, STRUCTURE).index("gtv"), gtv.interval(level)
        shown = "not calibrated" if told.lower_ml is None else f"{told.lower_ml:.1f}–{told.upper_ml:.1f}"
        assert column(widget, VOLUME)[row].endswith(f"\n{shown}")
    click(widget, "gtv")
    assert "too few cases for 95 %" in widget.ui.structureLabel.text


def test_worst_first_and_sorted_by_a_click(opened):
    widget = opened("many")
    header, table = widget.ui.structuresTable.horizontalHeader(), widget.ui.structuresTable
    worst = column(widget, STRUCTURE)
    assert worst[:2] == ["organ_07", "organ_03"]
    assert table.item(row_of(widget, "organ_07"), WHY).background().color().name() == "#f8d9d9"
    assert table.item(row_of(widget, "organ_03"), WHY).background().color().name() == "#fdf0c8"
    dice = {s.name: s.quality.expected_dice for s in widget.panel.data.structures}
    assert [dice[n] for n in worst[2:]] == sorted(dice[n] for n in worst[2:])
    click(widget, "organ_03")
    header.sectionClicked.emit(VOLUME)
    volumes = {s.name: s.volume_ml for s in widget.panel.data.structures}
    assert column(widget, STRUCTURE) == sorted(volumes, key=lambda n: -volumes[n])
    assert table.currentRow() == column(widget, STRUCTURE).index("organ_03"), "the chosen structure stays chosen"
    header.sectionClicked.emit(VOLUME)
    assert column(widget, STRUCTURE) == sorted(volumes, key=lambda n: volumes[n])
    header.sectionClicked.emit(VOLUME)
    assert column(widget, STRUCTURE) == worst
    header.sectionClicked.emit(STRUCTURE)
    assert column(widget, STRUCTURE) == sorted(dice)


def test_old_results_can_be_sorted_too(opened):
    widget = opened("old")
    for column_index in (STRUCTURE, WHY, VOLUME, DECISION):
        for _ in range(2):
            widget.ui.structuresTable.horizontalHeader().sectionClicked.emit(column_index)
            assert set(column(widget, STRUCTURE)) == {"bone", "gtv"}


def test_a_click_jumps_and_shows_nested_contours(opened, monkeypatch):
    widget, jumps = opened("new"), []
    monkeypatch.setattr("RTUncertaintyLib.review.views.places.jump_to", lambda scene, point: jumps.append(tuple(point)))
    click(widget, "gtv")
    nodes = widget.panel.nodes
    assert (
        jumps == [pytest.approx(tuple(run_scene.uncertain_point(nodes, "gtv")))]
        and run_scene.nested_structure(nodes) == "gtv"
    )
    assert widget.panel.parameters.structure == "gtv" and "gtv</b>" in widget.ui.structureLabel.text
    assert [b.enabled for b in decision_buttons(widget.ui)] == [True, True, True, False]
    widget.ui.nestedCheckBox.click()
    assert run_scene.nested_structure(nodes) is None and contours(slicer.mrmlScene) == []
    click(widget, "bone")
    assert run_scene.nested_structure(nodes) is None and len(jumps) == 2
    widget.ui.nestedCheckBox.click()
    assert run_scene.nested_structure(nodes) == "bone" and len(contours(slicer.mrmlScene)) == 3
    widget.ui.structuresTable.setCurrentCell(row_of(widget, "gtv"), VOLUME)  # by keyboard
    assert run_scene.nested_structure(nodes) == "gtv" and len(jumps) == 3


def test_overlay_and_threshold(opened):
    widget = opened("new")
    ui, nodes = widget.ui, widget.panel.nodes
    ui.overlayComboBox.currentIndex = ui.overlayComboBox.findData("zscore")
    assert run_scene.shown_overlay(nodes) == "zscore" and ui.thresholdSlider.suffix == ""
    ui.thresholdSlider.value = 3.0
    assert run_scene.overlay_threshold(nodes, "zscore") == 3.0
    ui.overlayComboBox.currentIndex = ui.overlayComboBox.findData("intrinsic")
    assert ui.thresholdSlider.suffix == " HU"
    ui.overlayComboBox.currentIndex = ui.overlayComboBox.findData("")
    assert run_scene.shown_overlay(nodes) is None and not ui.thresholdSlider.enabled and not ui.nextRegionButton.enabled


def test_through_the_uncertain_regions(opened, monkeypatch):
    widget, jumps = opened("new"), []
    ui, nodes = widget.ui, widget.panel.nodes
    array = np.zeros_like(slicer.util.arrayFromVolume(nodes.overlays["predictive"]))
    array[1:5, 2:9, 2:9], array[8:11, 18:24, 20:30] = 140, 300
    slicer.util.updateVolumeFromArray(nodes.overlays["predictive"], array)
    ui.thresholdSlider.value = 100
    monkeypatch.setattr("RTUncertaintyLib.review.views.places.jump_to", lambda scene, point: jumps.append(tuple(point)))
    regions = run_scene.uncertain_regions(nodes, "predictive", 100)
    assert len(regions) == 2
    ui.nextRegionButton.click()
    assert ui.regionLabel.text == f"Region 1 of 2: {regions[0].volume_ml:.1f} ml, mean 300 HU, {regions[0].place}."
    ui.nextRegionButton.click()
    ui.nextRegionButton.click()
    ui.previousRegionButton.click()
    assert ui.regionLabel.text.startswith("Region 2 of 2") and jumps == [regions[i].point for i in (0, 1, 0, 1)]
    ui.thresholdSlider.value = 200
    assert ui.regionLabel.text == "", "another threshold has other regions"
    ui.previousRegionButton.click()
    assert ui.regionLabel.text.startswith("Region 1 of 1")
    run_scene.set_overlay_threshold(nodes, "predictive", 400)
    ui.overlayComboBox.currentIndex = ui.overlayComboBox.findData("intrinsic")
    ui.overlayComboBox.currentIndex = ui.overlayComboBox.findData("predictive")
    ui.nextRegionButton.click()
    assert ui.regionLabel.text == "No region lies above this threshold."


def test_decisions_comments_counts_and_undo(opened):
    widget = opened("new")
    ui = widget.ui
    assert ui.countsLabel.text == "2 structures: 2 open." and not ui.undoButton.enabled
    click(widget, "gtv")
    ui.acceptButton.click()
    row = column(widget, STRUCTURE).index("gtv")
    assert (
        column(widget, DECISION)[row] == "✓"
        and ui.structuresTable.item(row_of(widget, "gtv"), DECISION).background().color().name() == "#d8eedd"
    )
    assert (
        ui.countsLabel.text == "2 structures: 1 accepted, 1 open."
        and not ui.acceptButton.enabled
        and ui.reopenButton.enabled
    )
    ui.reviewerEdit.text = "Dr. Grün"
    ui.commentEdit.text = "reaches into muscle"
    ui.rejectButton.click()
    decision = widget.panel.data.structure("gtv").decision
    assert (decision.state, decision.comment, decision.reviewer) == (
        "rejected",
        "reaches into muscle",
        "Dr. Grün",
    ) and decision.time
    ui.undoButton.click()
    assert column(widget, DECISION)[row] == "✓" and ui.commentEdit.text == "" and "gtv" in ui.statusLabel.text
    click(widget, "bone")
    ui.acceptButton.click()
    assert ui.countsLabel.text == "2 structures: 2 accepted." and "d8eedd" in ui.countsLabel.styleSheet
    ui.reopenButton.click()
    assert widget.panel.data.counts()["open"] == 1 and run_scene.decided(widget.panel.nodes) == 3


def test_a_comment_is_kept_when_the_field_is_left(opened):
    widget = opened("new")
    click(widget, "gtv")
    widget.ui.commentEdit.text = "look again"
    click(widget, "bone")
    data = ReviewData.of_run(widget.panel.nodes)
    assert data.structure("gtv").decision.comment == "look again" and data.structure("gtv").decision.state == "open"
    assert widget.ui.commentEdit.text == "" and data.structure("bone").decision.comment == ""
    widget.ui.commentEdit.editingFinished.emit()
    assert run_scene.decided(widget.panel.nodes) == 1, "nothing new, nothing written"
    click(widget, "gtv")
    assert widget.ui.commentEdit.text == "look again"


def test_decisions_survive_closing_the_module(opened):
    widget = opened("new")
    click(widget, "gtv")
    widget.ui.rejectButton.click()
    widget.ui.overlayComboBox.currentIndex = widget.ui.overlayComboBox.findData("entropy")
    widget.exit()
    again, host = load_module(MODULE)[1:]
    assert again.ui.runComboBox.currentText == "limb-t1-synct on mr" and "rejected" in again.ui.countsLabel.text
    assert again.ui.overlayComboBox.currentText == "Entropy of the structures", "the map on show stays on show"
    assert again.panel.parameters.structure == "gtv" and again.ui.undoButton.enabled
    again.ui.undoButton.click()
    assert again.ui.countsLabel.text == "2 structures: 2 open."
    again.cleanup()
    host.deleteLater()


def test_edit_opens_the_segment_editor(opened, monkeypatch):
    widget, calls = opened("propagation"), []
    click(widget, "Parotid_L")
    widget.ui.editButton.click()
    assert "Segment Editor is not there" in widget.ui.statusLabel.text and run_scene.decided(widget.panel.nodes) == 0
    editor = types.SimpleNamespace(
        **{
            name: lambda value, name=name: calls.append((name, value))
            for name in ("setSegmentationNode", "setSourceVolumeNode", "setCurrentSegmentID")
        }
    )
    monkeypatch.setattr(slicer.modules, "segmenteditor", object(), raising=False)
    monkeypatch.setattr(slicer.modules, "SegmentEditorWidget", types.SimpleNamespace(editor=editor), raising=False)
    monkeypatch.setattr(slicer.util, "selectModule", lambda name: calls.append(("select", name)) or widget.exit())
    widget.ui.reviewerEdit.text = "A. B."
    widget.ui.editButton.click()
    widget.enter()
    nodes = widget.panel.nodes
    node = nodes.segmentations["propagated"]
    assert calls == [
        ("select", "SegmentEditor"),
        ("setSegmentationNode", node),
        ("setSourceVolumeNode", nodes.warped),
        ("setCurrentSegmentID", node.GetSegmentation().GetSegmentIdBySegmentName("Parotid_L")),
    ]
    assert widget.panel.data.structure("Parotid_L").decision.state == "open", "it was looked at, and nothing changed"
    segment = node.GetSegmentation().GetSegment(segment_id(node, "Parotid_L"))
    array = slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, segment_id(node, "Parotid_L"))
    array[tuple(np.argwhere(array == segment.GetLabelValue())[0])] = 0
    widget.exit()
    widget.enter()
    decision = widget.panel.data.structure("Parotid_L").decision
    assert (decision.state, decision.reviewer) == ("edited", "A. B.") and widget.ui.editButton.enabled
    assert widget.ui.statusLabel.text.startswith("Edited: Parotid_L.")
    accepted = run_scene.accept_structures(nodes)
    calls.clear()
    widget.ui.editButton.click()
    widget.enter()
    assert calls[1] == ("setSegmentationNode", accepted), "what was accepted is what is corrected"
    monkeypatch.setattr(
        slicer.util, "selectModule", lambda name: (_ for _ in ()).throw(RuntimeError("Could not find main window"))
    )
    widget.ui.editButton.click()
    assert "Could not find main window" in widget.ui.statusLabel.text


def test_structures_stand_out_in_this_module_only(opened):
    widget = opened("new")
    click(widget, "gtv")
    display = widget.panel.nodes.segmentation.GetDisplayNode()

    def opacities():
        return [round(display.GetSegmentOpacity2DOutline(name), 2) for name in ("bone", "gtv")]

    assert opacities() == [0.35, 1.0]
    widget.exit()
    assert opacities() == [1.0, 1.0] and run_scene.nested_structure(widget.panel.nodes) == "gtv"
    widget.enter()
    assert opacities() == [0.35, 1.0]


def test_volumes_that_were_never_calibrated_have_no_interval(opened, tmp_path):
    widget = opened(str(add_review_files(make_result(tmp_path / "r"), calibrated=False)))
    assert all(cell.endswith("\nnot calibrated") for cell in column(widget, VOLUME))
    assert widget.ui.intervalLabel.text == "", "there is no interval that could mean something"
    click(widget, "gtv")
    assert "No interval: this model's volumes were never calibrated." in widget.ui.structureLabel.text
    if not widget.ui.nestedCheckBox.checked:
        widget.ui.nestedCheckBox.click()
    assert "Uncalibrated" in widget.ui.nestedCheckBox.toolTip
    widget.ui.distributionsButton.click()
    assert "nan" not in widget.ui.structureLabel.text

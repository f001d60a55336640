"""The RTReview panel with other kinds of results, with what is not there or goes away, with the user's own data, and
its exports.
"""

import json
import shutil
import sys
import types

import numpy as np
import slicer
from gui_support.review import MODULE, click, column, folders, opened, review  # noqa: F401
from gui_support.scene_file import open_scene, save_and_close
from gui_support.volumes import add_volume
from make_result import image, labels
from propagation_case import segmentation_node
from standins import load_module, process_events

from rtuncertainty.core.structure_set import Structure
from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.mrml.volumes import add_volume as add_image
from RTUncertaintyLib.review import report as reports
from RTUncertaintyLib.review import views
from RTUncertaintyLib.review.table import STRUCTURE, VOLUME, WHY


def test_a_propagation(opened):
    widget = opened("propagation")
    assert column(widget, STRUCTURE)[-1] == "PTV70" or column(widget, WHY)[0]
    keys = [widget.ui.overlayComboBox.itemData(i) for i in range(widget.ui.overlayComboBox.count)]
    assert (
        keys == ["displacement_sd", "jacobian", "segmented_entropy", ""] and widget.ui.thresholdSlider.suffix == " mm"
    )
    click(widget, "Parotid_R")
    assert run_scene.nested_structure(widget.panel.nodes) == "Parotid_R" and "mm apart" in widget.ui.structureLabel.text


def test_two_runs(opened):
    widget = opened("new")
    first = widget.panel.nodes
    click(widget, "gtv")
    opened("propagation")
    assert widget.ui.runComboBox.count == 2 and widget.panel.nodes.run_id != first.run_id
    assert run_scene.nested_structure(first) is None and widget.panel.parameters.structure == ""
    widget.ui.runComboBox.currentIndex = 0
    assert widget.panel.nodes.run_id == first.run_id and set(column(widget, STRUCTURE)) == {"bone", "gtv"}
    widget.ui.removeRunButton.click()
    assert (
        widget.ui.runComboBox.count == 1
        and widget.ui.runComboBox.currentText.startswith("headneck")
        and "removed" in widget.ui.statusLabel.text
    )
    widget.ui.removeRunButton.click()
    assert widget.panel.nodes is None and widget.ui.aboutLabel.text.startswith("No result yet")


def test_a_result_of_an_older_version(opened):
    widget = opened("old")
    click(widget, "bone")
    assert widget.ui.nestedCheckBox.checked and run_scene.nested_structure(widget.panel.nodes) == "bone", (
        "from the probabilities"
    )
    assert not widget.ui.distributionsButton.enabled and "older version" not in widget.ui.structureLabel.text
    widget.ui.levelComboBox.currentIndex = 0
    assert (
        "no 50% interval" in widget.ui.structureLabel.text
        and column(widget, VOLUME)[column(widget, STRUCTURE).index("bone")] == "4.9"
    )


def test_a_run_without_structures(opened, folders, tmp_path):
    folder = shutil.copytree(folders["old"], tmp_path / "synct only")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    summary["structures"] = []
    for key in ("structures", "probabilities", "volumes", "flags"):
        del summary["files"][key]
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    widget = opened(folder)
    ui = widget.ui
    assert ui.structureLabel.text.startswith("This result has no structures") and not ui.structuresTable.visible
    assert (
        ui.overlayComboBox.enabled
        and ui.nextRegionButton.enabled
        and ui.countsLabel.text == ""
        and not ui.acceptButton.enabled
    )


def test_nodes_deleted_by_hand(opened):
    widget = opened("new")
    click(widget, "gtv")
    nodes, scene = widget.panel.nodes, slicer.mrmlScene
    scene.RemoveNode(nodes.inside["bone"])
    click(widget, "bone")
    assert run_scene.nested_structure(nodes) is None and len(column(widget, STRUCTURE)) == 2
    scene.RemoveNode(nodes.segmentation)
    click(widget, "gtv")
    scene.RemoveNode(nodes.tables["volume_intervals"])
    widget.exit()
    widget.enter()
    assert column(widget, VOLUME) and widget.panel.data.structure("gtv").interval(0.5) is None
    scene.RemoveNode(nodes.overlays["intrinsic"])
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(scene)
    hierarchy.RemoveItem(nodes.folder_item)
    assert (
        widget.panel.nodes is None
        and widget.ui.structuresTable.rowCount == 0
        and not widget.ui.nextRegionButton.enabled
    )


def test_an_overlay_deleted_by_hand(opened):
    widget = opened("new")
    ui, nodes = widget.ui, widget.panel.nodes
    slicer.mrmlScene.RemoveNode(nodes.overlays["predictive"])
    assert ui.overlayComboBox.findData("predictive") < 0 and run_scene.shown_overlay(nodes) == "intrinsic"
    ui.nextRegionButton.click()
    ui.thresholdSlider.value = 1


def test_scene_closed_during_a_review(opened):
    widget = opened("new")
    click(widget, "gtv")
    widget.ui.commentEdit.text = "half a"
    slicer.mrmlScene.Clear(0)
    ui = widget.ui
    assert (
        widget.panel.nodes is None
        and ui.structuresTable.rowCount == 0
        and ui.commentEdit.text == ""
        and not ui.undoButton.enabled
    )
    assert ui.aboutLabel.text.startswith("No result yet") and ui.runComboBox.count == 1
    assert len(column(opened("new"), STRUCTURE)) == 2


def test_a_scene_that_is_loaded_brings_its_review(opened, tmp_path):
    widget = opened("new")
    click(widget, "gtv")
    widget.ui.acceptButton.click()
    open_scene(save_and_close(tmp_path))
    assert widget.ui.runComboBox.currentText == "limb-t1-synct on mr" and "1 accepted" in widget.ui.countsLabel.text
    assert widget.panel.parameters.structure == "gtv"


def test_own_segmentation(review, scene):
    ui = review.ui
    ct = add_image(scene, image(labels().astype(np.int16), np.eye(3)), "CT")
    mine = segmentation_node(
        scene,
        [
            Structure(n, image((labels() == v).astype(np.uint8), np.eye(3)), (200, 50, 50))
            for n, v in (("Bone", 1), ("GTV", 2))
        ],
        ct,
        "Mine",
    )
    for name, value in (("bone", 1), ("gtv", 2)):
        add_image(scene, image(0.8 * (labels() == value).astype(np.float32) + 0.1, np.eye(3)), f"prob {name}")
    ui.ownCollapsibleButton.collapsed = False
    assert not ui.ownButton.enabled and not ui.ownTable.visible
    ui.ownSegmentationSelector.setCurrentNode(mine)
    assert ui.ownTable.rowCount == 2 and ui.ownButton.enabled
    boxes = [ui.ownTable.cellWidget(row, 1) for row in range(2)]
    assert [box.currentText for box in boxes] == ["prob bone", "prob gtv"]
    boxes[0].setCurrentIndex(0)
    boxes[1].setCurrentIndex(0)
    assert not ui.ownButton.enabled
    boxes[1].setCurrentIndex(boxes[1].findText("CT"))
    ui.ownButton.click()
    assert ui.statusLabel.text.startswith("CT: has values from 0 to 2, so it is no probability")
    boxes[1].setCurrentIndex(boxes[1].findText("prob gtv"))
    ui.ownButton.click()
    assert ui.runComboBox.currentText == "Review of Mine" and column(review, STRUCTURE) == ["GTV", "Bone"]
    assert column(review, VOLUME)[1] == "–", "nothing is known of what has no probability"
    click(review, "Bone")
    assert "No probability volume was given for it" in ui.structureLabel.text
    click(review, "GTV")
    ui.acceptButton.click()
    assert run_scene.nested_structure(review.panel.nodes) == "GTV" and "never calibrated" in ui.aboutLabel.text
    ui.removeRunButton.click()
    assert mine.GetScene() is scene and ct.GetScene() is scene


def test_plots_and_export(opened, monkeypatch, tmp_path):
    calls = []
    plots = types.ModuleType("RTUncertaintyLib.review.views.plots")
    plots.volume_distributions = lambda run, names=None, level=0.9: calls.append(("volumes", level)) or "chart"
    plots.along_slices = lambda run, key: calls.append(("slices", key)) or "chart"
    plots.zscore_histogram = lambda run: None
    plots.show_chart = lambda chart: calls.append(("show", chart))
    report = types.ModuleType("RTUncertaintyLib.review.report.export")
    report.export = lambda run, folder, formats=(), level=0.9, patient=None: (
        calls.append((folder, formats, level, patient)) or [folder / "review.html"]
    )
    monkeypatch.setattr(views, "plots", plots, raising=False)
    monkeypatch.setattr(reports, "export", report, raising=False)
    monkeypatch.setitem(sys.modules, plots.__name__, plots)
    monkeypatch.setitem(sys.modules, report.__name__, report)
    ui = opened("new").ui
    ui.levelComboBox.currentIndex = 2
    ui.distributionsButton.click()
    ui.slicesButton.click()
    assert calls == [("volumes", 0.8), ("show", "chart"), ("slices", "predictive"), ("show", "chart")]
    ui.zscoreButton.click()
    assert ui.exportLabel.text == "There is nothing to plot." and len(calls) == 4
    assert not ui.exportButton.enabled
    ui.exportFolderEdit.currentPath, ui.patientEdit.text, ui.pdfCheckBox.checked = str(tmp_path), "A 12", False
    ui.exportButton.click()
    assert calls[-1] == (tmp_path, ("html", "csv"), 0.8, "A 12") and "review.html" in ui.exportLabel.text
    for box in (ui.htmlCheckBox, ui.csvCheckBox):
        box.checked = False
    assert not ui.exportButton.enabled and "format" in ui.exportButton.toolTip
    report.export = lambda *_, **__: (_ for _ in ()).throw(OSError("disk full"))
    ui.htmlCheckBox.checked = True
    ui.exportButton.click()
    assert "Nothing was written: disk full" in ui.exportLabel.text
    ui.overlayComboBox.currentIndex = ui.overlayComboBox.findData("")
    assert not ui.slicesButton.enabled


def test_from_the_console(review, folders):
    logic = review.logic
    run = logic.review(folders["new"], show=False)
    assert logic.review(folders["new"], show=False).run_id == run.run_id and len(logic.runs()) == 1
    assert [s.name for s in logic.data(run).structures] == ["bone", "gtv"]
    ct = add_volume("CT")
    assert logic.matching(run.segmentation) == {} and ct is not None


def test_reload_leaves_no_observers(review, scene):
    first, host = load_module(MODULE)[1:]
    first.cleanup()
    host.deleteLater()
    process_events()
    scene.Clear(0)
    assert first.Observations == []


def test_the_run_on_show_is_deleted_while_another_stays(opened):
    widget = opened("propagation")
    opened("new")
    slicer.mrmlScene.RemoveNode(widget.panel.nodes.synct)
    ui = widget.ui
    assert (
        widget.panel.nodes is None
        and ui.runComboBox.currentText == "Choose a result"
        and ui.aboutLabel.text.startswith("Choose a result")
    )
    assert ui.structuresTable.rowCount == 0 and not ui.acceptButton.enabled
    ui.runComboBox.currentIndex = ui.runComboBox.findText("headneck-ct-propagation on daily")
    assert (
        widget.panel.nodes is not None
        and ui.runComboBox.findText("Choose a result") < 0
        and len(column(widget, STRUCTURE)) == 5
    )

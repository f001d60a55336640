"""What the real application does and a tidy test does not: signals that stay away, events in the middle of a call,
parts that were deleted.
"""

import subprocess
import sys

import pytest
import slicer
from gui_support.review import folders, opened, review  # noqa: F401
from gui_support.volumes import add_case, add_volume
from standins import process_events

from RTUncertaintyLib.jobs import process_tree


@pytest.mark.parametrize("module", ["panel", "propagation"])
def test_a_module_that_was_left_hears_its_widgets_no_more(module, request):
    """`connectGui` returns no tag (Slicer issue 7547), and what is connected without one is never disconnected."""
    widget = request.getfixturevalue(module)
    node = widget.logic.getParameterNode()
    widget.ui.samplesSpinBox.value = 30
    assert node.GetParameter("samples") == "30"
    widget.exit()
    widget.ui.samplesSpinBox.value = 40
    assert node.GetParameter("samples") == "30"
    widget.enter()
    assert widget.ui.samplesSpinBox.value == 30
    widget.ui.samplesSpinBox.value = 50
    assert node.GetParameter("samples") == "50"


def test_the_prescription_keeps_its_range(review):  # noqa: F811
    """A parameter without a range takes away that of the .ui file, and with it the word for none."""
    box = review.ui.prescriptionSpinBox
    assert (box.minimum, box.maximum, box.text) == (0, 200, "none")
    box.value = -5
    assert review.panel.parameters.prescription == 0


def test_a_path_that_is_taken_out(panel, tmp_path):
    """The path's widget tells `currentPathChanged` of no empty path."""
    ui, own = panel.ui, tmp_path / "own"
    ui.outputFolderEdit.currentPath = str(tmp_path)
    assert panel.panel.parameters.outputFolder == str(tmp_path)
    ui.outputFolderEdit.currentPath = ""
    assert panel.panel.parameters.outputFolder == ""
    ui.modelFolderEdit.currentPath = str(own)
    assert "own" in ui.checkLabel.text
    ui.modelFolderEdit.currentPath = ""
    assert panel.panel.parameters.modelFolder == "" and "own" not in ui.checkLabel.text


def test_an_export_folder_that_is_taken_out(opened, tmp_path):  # noqa: F811
    ui = opened("new").ui
    ui.exportFolderEdit.currentPath = str(tmp_path / "review")
    assert ui.exportButton.enabled
    ui.exportFolderEdit.currentPath = ""
    assert not ui.exportButton.enabled and ui.exportButton.toolTip == "Choose the folder to write to."


def test_a_second_click_while_a_report_is_written(opened, monkeypatch, tmp_path):  # noqa: F811
    widget, clicks = opened("new"), []
    ui, real = widget.ui, slicer.app.processEvents
    ui.exportFolderEdit.currentPath, ui.pdfCheckBox.checked = str(tmp_path / "review"), False
    monkeypatch.setattr(
        slicer.app.__class__, "processEvents", lambda self: (clicks.append(ui.exportButton.click()), real())
    )
    ui.exportButton.click()
    assert clicks and ui.exportLabel.text.startswith("Written to") and ui.exportButton.enabled


def test_a_result_is_loaded_once_by_a_double_click(review, opened, monkeypatch):  # noqa: F811
    clicks = []
    monkeypatch.setattr(slicer.app.__class__, "processEvents", lambda self: clicks.append(review.ui.openButton.click()))
    opened("new")
    assert len(clicks) == 1 and len(review.logic.runs()) == 1 and review.panel.nodes is not None


class SlowInstaller:
    """Installs torch as `pip_install` does, which lets the application go on."""

    def __init__(self, meanwhile):
        self.meanwhile, self.calls, self.there = meanwhile, 0, False

    def installed(self):
        return self.there

    def install(self):
        self.calls += 1
        self.meanwhile()
        self.there = True
        return ""


def test_run_pressed_again_while_torch_is_installed(panel):
    panel.ui.inputSelector.setCurrentNode(add_volume("Thigh"))
    panel.panel.torch = SlowInstaller(panel.panel.start)
    panel.ui.runButton.click()
    assert panel.panel.torch.calls == 1
    assert process_events(lambda: not panel.panel.running, 20) and panel.ui.statusLabel.text.startswith("Done")
    assert len(panel.logic._workspaces) == 1


@pytest.mark.parametrize("meanwhile", ["exit", "close"])
def test_module_left_or_scene_closed_while_torch_is_installed(panel, meanwhile):
    panel.ui.inputSelector.setCurrentNode(add_volume("Thigh"))
    panel.panel.torch = SlowInstaller(panel.exit if meanwhile == "exit" else lambda: slicer.mrmlScene.Clear(0))
    panel.panel.start()
    assert panel.panel.torch.calls == 1 and not panel.panel.running and not panel.ui.runButton.enabled


def test_scene_of_another_computer_keeps_its_model(propagation, models):
    """The folder of an installed model differs between computers, and from one version of Slicer to the next."""
    panel = propagation.panel
    trial = models.parent / "trial"
    trial.mkdir()
    card = (models.parent / "test-propagation" / "model.json").read_text(encoding="utf-8")
    (trial / "model.json").write_text(
        card.replace("test-propagation", "trial").replace("Head and neck", "Zzz"), encoding="utf-8"
    )
    for folder in (r"C:\Slicer 5.10\extensions\Models\trial", "/opt/Slicer/Models/trial/"):
        propagation.exit()
        propagation.logic.getParameterNode().SetParameter("model", folder)
        propagation.enter()
        assert panel.card["name"] == "trial" and panel.parameters.model == str(trial)
    propagation.logic.getParameterNode().SetParameter("model", "/opt/gone")
    propagation.enter()
    assert panel.card["name"] == "test-propagation"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="both ways are there on Linux only")
def test_processes_without_ps(monkeypatch, tmp_path):
    """In a container there may be no `ps`, and Slicer's libraries are in the way of one."""
    child = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"],
        stdin=subprocess.PIPE,
    )
    try:
        assert process_events(lambda: len(process_tree.members(child.pid)) == 2, 20)
        by_proc = process_tree.members(child.pid)
        assert by_proc[-1] == child.pid
        monkeypatch.setattr(process_tree, "PROC", tmp_path)
        assert process_tree.members(child.pid) == by_proc
        monkeypatch.undo()
        monkeypatch.setenv("PATH", "")
        assert process_tree.members(child.pid) == by_proc
    finally:
        child.communicate(b"\n")
    assert process_tree.members(child.pid) == []


def test_overlays_deleted_by_hand(panel, run):
    panel.ui.inputSelector.setCurrentNode(add_volume("Thigh"))
    run()
    ui, nodes = panel.ui, panel.panel.results.nodes
    slicer.mrmlScene.RemoveNode(nodes.overlays["intrinsic"])
    assert ui.overlayComboBox.findData("intrinsic") < 0 and ui.overlayComboBox.currentText.startswith("Predictive")
    slicer.mrmlScene.RemoveNode(nodes.overlays["predictive"])
    assert ui.overlayComboBox.currentText.startswith("Parameter") and ui.thresholdSlider.enabled


def run_on_case(propagation):
    """The panel's widgets after a run on the case."""
    ui = propagation.ui
    for selector, node in zip((ui.planningSelector, ui.structuresSelector, ui.dailySelector), add_case()):
        selector.setCurrentNode(node)
    ui.runButton.click()
    assert process_events(lambda: not propagation.panel.running, 30)
    return ui


def test_overlays_and_contours_of_a_propagation_deleted_by_hand(propagation):
    ui = run_on_case(propagation)
    nodes = propagation.panel.results.nodes
    ui.overlayComboBox.currentIndex = ui.overlayComboBox.findData("jacobian")
    slicer.mrmlScene.RemoveNode(nodes.overlays["jacobian"])
    assert ui.overlayComboBox.findData("jacobian") < 0 and ui.overlayComboBox.count == 3
    segmentation = nodes.segmentations["propagated"].GetSegmentation()
    segmentation.RemoveSegment(segmentation.GetSegmentIdBySegmentName("PTV70"))
    ui.acceptButton.click()
    assert (
        ui.acceptedLabel.text.startswith("PTV70 has no contour 'propagated'")
        and "f8d9d9" in ui.acceptedLabel.styleSheet
    )


def test_what_is_left_of_a_propagation_is_no_run(opened, propagation):  # noqa: F811
    """The deformed CT stands for the run: with its contours alone it was taken for a prediction, and nothing fitted."""
    widget = opened("propagation")
    other = opened("new").panel.nodes
    ui, panel, propagated = widget.ui, widget.panel, widget.logic.run(next(iter(widget.logic.runs())))
    panel.show_run(propagated.run_id)
    slicer.mrmlScene.RemoveNode(propagated.warped)
    assert list(widget.logic.runs()) == [other.run_id] and widget.logic.run(propagated.run_id) is None
    assert ui.runComboBox.findData(propagated.run_id) < 0
    widget.exit()
    widget.enter()
    assert panel.nodes.run_id == other.run_id and not ui.statusLabel.text
    propagation.exit()
    propagation.enter()
    assert propagation.panel.results.nodes is None and not propagation.ui.statusLabel.text


def test_many_flags_leave_room_for_the_structures(propagation):
    """In the application the panel scrolls, and a layout squeezes every table that may be squeezed."""
    from RTUncertaintyLib.widgets import table_rows

    ui = run_on_case(propagation)
    flag = {
        "subject": "PTV",
        "severity": "warning",
        "flag": "uncertain volume",
        "reason": "The 90 % interval spans much of the volume; " * 3,
    }
    table_rows.fill_flags(ui.flagsTable, [flag] * 12)
    process_events()
    low, high = table_rows.FLAGS_HEIGHT
    assert low <= ui.flagsTable.height <= high
    table = ui.structuresTable
    rows = sum(table.rowHeight(r) for r in range(table.rowCount))
    assert table.viewport().height >= rows and not table.verticalScrollBar().visible
    table_rows.fill_flags(ui.flagsTable, [flag])
    process_events()
    assert ui.flagsTable.height < low


def test_progress_says_what_is_going_on(panel):
    words = panel.panel._progress_words
    assert words("Part 2 of 4", "Sampling the network") == "Sampling the network: part 2 of 4"
    assert words("Sampling slice 3 of 9", "Sampling the network") == "Sampling slice 3 of 9"
    assert (words("", "Reading"), words("Starting", ""), words("", "")) == ("Reading", "Starting", "")

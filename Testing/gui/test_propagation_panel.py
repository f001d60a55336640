"""The RTPropagation panel with the fake backend and the real scene: choose, run, look, accept, move a dose, remove."""

import json
import shutil
from pathlib import Path

import pytest
import slicer
import slicer.util
from gui_support.scene_file import open_scene, save_and_close
from gui_support.volumes import add_case, add_volume
from standins import load_module, process_events

from rtuncertainty.results import Result
from RTUncertaintyLib.mrml.volume_export import UnusableVolume
from RTUncertaintyLib.propagation.results import similarity_text
from RTUncertaintyLib.propagation.table import AGREEMENT, PATH, SPREAD, STRUCTURE, VOLUME
from RTUncertaintyLib.runs.propagation.structure_rows import LIGHTS, structure_rows

MODULE = Path(__file__).resolve().parents[2] / "RTUncertainty" / "RTPropagation" / "RTPropagation.py"
WORST_FIRST = ["SpinalCord", "Parotid_R", "Parotid_L", "Brainstem", "PTV70"]


def written_rows():
    """The structures of the result that the last run wrote, worst first."""
    rows = structure_rows(Result.read(temporary_folders()[-1] / "result"))
    return sorted(rows, key=lambda row: LIGHTS.index(row.light))


@pytest.fixture
def ready(propagation):
    """A panel with fitting inputs; `ready.nodes` are planning CT, structures and daily CT."""
    propagation.nodes = add_case()
    for selector, node in zip(selectors(propagation), propagation.nodes):
        selector.setCurrentNode(node)
    return propagation


@pytest.fixture
def done(ready):
    """A panel whose run is over."""
    ready.ui.runButton.click()
    assert process_events(lambda: not ready.panel.running, 30), ready.ui.statusLabel.text
    assert ready.ui.statusLabel.text.startswith("Done"), ready.ui.statusLabel.text
    return ready


def selectors(panel):
    return panel.ui.planningSelector, panel.ui.structuresSelector, panel.ui.dailySelector


def column(panel, index):
    table = panel.ui.structuresTable
    return [table.item(row, index).text() for row in range(table.rowCount)]


def path_box(panel, name):
    return panel.ui.structuresTable.cellWidget(column(panel, STRUCTURE).index(name), PATH)


def names(class_name):
    return sorted(n.GetName() for n in slicer.util.getNodesByClass(class_name))


def temporary_folders():
    return sorted(Path(slicer.app.temporaryPath).glob("RTPropagation-*"))


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split(")")[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def started(panel, pids):
    panel.ui.runButton.click()
    assert process_events(lambda: pids.exists() and len(pids.read_text(encoding="utf-8").split()) == 2, 20)
    process_events(lambda: panel.ui.progressBar.value > 0, 5)
    return [int(p) for p in pids.read_text(encoding="utf-8").split()]


def test_empty_panel_says_what_to_choose(propagation):
    ui = propagation.ui
    assert (
        not ui.runButton.enabled
        and ui.checkLabel.text == "Choose the planning CT, its structures and the daily CT to begin."
    )
    for button in (ui.cancelButton, ui.acceptButton, ui.moveButton, ui.undoMoveButton, ui.removeRunButton):
        assert not button.enabled and button.toolTip
    assert not ui.blendSlider.enabled and not ui.overlayComboBox.enabled and not ui.structuresTable.visible
    planning, structures, _daily = add_case()
    ui.structuresSelector.setCurrentNode(structures)
    assert ui.checkLabel.text == "Choose the planning CT and the daily CT to begin."
    ui.planningSelector.setCurrentNode(planning)
    assert ui.checkLabel.text == "Choose the daily CT to begin."


def test_the_only_segmentation_and_its_ct_are_suggested(propagation):
    propagation.exit()
    planning, structures, _daily = add_case()
    propagation.enter()
    assert [s.currentNode() for s in selectors(propagation)] == [planning, structures, None]


def test_offers_models_that_propagate_only(propagation, models):
    ui = propagation.ui
    assert [ui.modelComboBox.itemText(i) for i in range(ui.modelComboBox.count)] == [
        "Head and neck, planning to daily CT"
    ]
    text = ui.modelCardText.plainText
    for words in (
        "deformation, by which every planning structure moves",
        "Parotid_L",
        "spread of the deformation not calibrated",
        "22 patients",
    ):
        assert words in text, words
    ui.modelFolderEdit.currentPath = str(models)
    assert "test-model: is a model for RT Prediction" in ui.checkLabel.text


def test_prediction_offers_no_model_that_propagates(propagation_model, panel):
    combo = panel.ui.modelComboBox
    assert [combo.itemText(i) for i in range(combo.count)] == ["Limb T1 MR to synthetic CT, bone and tumour"]


def test_parameters_survive(ready):
    ui = ready.ui
    ui.refineComboBox.currentIndex = ui.refineComboBox.findText("Full")
    ui.rigidCheckBox.checked, ui.samplesSpinBox.value, ui.seedSpinBox.value = False, 5, 9
    ready.exit()
    _, again, host = load_module(MODULE)
    p = again._parameters
    assert (p.refine.value, p.rigid, p.samples, p.seed, p.dailyVolume) == ("full", False, 5, 9, ready.nodes[2])
    assert again.ui.refineComboBox.currentText == "Full" and not again.ui.rigidCheckBox.checked
    again.cleanup()
    host.deleteLater()


def test_run_hands_over_what_was_chosen(ready, tmp_path):
    ui = ready.ui
    ui.refineComboBox.currentIndex = ui.refineComboBox.findText("Off")
    ui.rigidCheckBox.checked, ui.samplesSpinBox.value, ui.seedSpinBox.value = False, 5, 9
    ui.deviceComboBox.currentIndex = ui.deviceComboBox.findText("CPU")
    ui.siteEdit.currentPath = "/clinic/site.json"
    ui.runButton.click()
    assert process_events(lambda: not ready.panel.running, 30)
    arguments = json.loads((tmp_path / "arguments.json").read_text(encoding="utf-8"))[1:]
    given = dict(zip(arguments[1::2], arguments[2::2]))
    assert (
        arguments[0] == "propagate"
        and Path(given["--planning"]).name == "Plan.nrrd"
        and Path(given["--daily"]).name == "Today.nrrd"
    )
    assert Path(given["--structures"]).name == "Structures.seg.nrrd"
    assert [given[k] for k in ("--rigid", "--refine", "--samples", "--seed", "--device", "--progress")] == [
        "off",
        "off",
        "5",
        "9",
        "cpu",
        "json",
    ]
    assert given["--site"] == "/clinic/site.json"
    assert not list(temporary_folders()[0].glob("inputs"))


@pytest.fixture
def both_models(propagation_model):
    """A network's bundle and the shipped registration without one."""
    shipped = Path(__file__).resolve().parents[2] / "Resources" / "Models" / "registration"
    shutil.copytree(shipped, propagation_model.parent / "registration")
    return propagation_model


def test_refinement_follows_the_model_until_the_user_chooses(both_models, ready):
    """Full where no network begins the deformation, as on the command line."""
    ui, p = ready.ui, ready._parameters

    def choose(words):
        ui.modelComboBox.setCurrentIndex(ui.modelComboBox.findText(words))

    ready.panel.reload_models()
    choose("Any region (registration only)")
    assert p.refine.value == "full" and ui.refineComboBox.currentText == "Full"
    assert ready.panel.request().refine == "full"
    choose("Head and neck, planning to daily CT")
    assert p.refine.value == "fast"
    ui.refineComboBox.currentIndex = ui.refineComboBox.findText("Off")
    ui.refineComboBox.activated.emit(ui.refineComboBox.currentIndex)
    choose("Any region (registration only)")
    assert p.refine.value == "off" and ready.panel.request().refine == "off"
    ready.exit()
    ready.enter()
    choose("Head and neck, planning to daily CT")
    assert ready._parameters.refine.value == "off", "what the user chose is kept with the scene"


def test_the_console_refines_as_the_command_line_does(both_models, ready, monkeypatch):
    asked = []

    def stop(request, name):
        asked.append(request.refine)
        raise UnusableVolume("enough")

    monkeypatch.setattr(ready.logic, "prepare", stop)
    for model in ("registration", str(both_models)):
        with pytest.raises(Exception, match="enough"):
            ready.logic.propagate(*ready.nodes, model)
    assert asked == ["full", "fast"]


def test_structures_with_lights_numbers_and_reasons(done):
    ui, results = done.ui, done.panel.results
    assert column(done, STRUCTURE) == WORST_FIRST, "the worst come first"
    assert [text.split("\n")[0] for text in column(done, AGREEMENT)] == ["red", "red", "amber", "green", "green"]
    colours = [ui.structuresTable.item(row, AGREEMENT).background().color().name() for row in (0, 2, 4)]
    assert colours == ["#f8d9d9", "#fdf0c8", "#d8eedd"]
    rows = {row.name: row for row in written_rows()}
    cord = rows["SpinalCord"]
    assert column(done, AGREEMENT)[0] == f"red\n{cord.dice:.2f}, {cord.msd_mm:.1f}"
    assert column(done, AGREEMENT)[4] == "green", "one path: nothing to compare"
    volume, lower, upper = cord.volumes["propagated"]
    assert column(done, VOLUME)[0] == f"{cord.planning_ml:.1f} → {volume:.1f}\n{lower:.1f}–{upper:.1f}"
    assert (
        "mm apart" in ui.structuresTable.item(0, STRUCTURE).toolTip()
        and "worst slice" in ui.structuresTable.item(0, STRUCTURE).toolTip()
    )
    assert ui.flagsTable.rowCount >= 2 and results.nodes.exists()
    assert ui.similarityLabel.text == (
        "Likeness of the scans (correlation): 0.81 as they lay, 0.90 after rigid alignment, "
        "0.97 after deformation. The deformation does not fold."
    )


def test_everything_lies_in_the_scene(done):
    nodes = done.panel.results.nodes
    assert [nodes.planning, nodes.planning_structures, nodes.input] == list(done.nodes)
    assert nodes.warped.GetName() == "Plan warped to Today" and nodes.transform.GetName() == "Plan to Today"
    assert set(nodes.segmentations) == {"propagated", "segmented"}


def test_a_click_jumps_to_the_worst_slice(done):
    scene, table = done.logic.scene_builder, done.ui.structuresTable
    table.cellClicked.emit(1, AGREEMENT)
    assert scene.calls[-1] == ("jump_to_structure", "Parotid_R")
    table.setCurrentCell(3, STRUCTURE)  # by keyboard
    assert scene.calls[-1] == ("jump_to_structure", "Brainstem")
    count = len(scene.calls)
    table.setCurrentCell(3, AGREEMENT)
    assert len(scene.calls) == count, "the row is the same"


def test_choosing_a_path_shows_its_numbers(done):
    box = path_box(done, "SpinalCord")
    assert [box.itemText(i) for i in range(box.count)] == ["propagated", "segmented"] and path_box(
        done, "PTV70"
    ) is None
    before = column(done, VOLUME)[0], column(done, SPREAD)[0]
    box.setCurrentIndex(1)
    assert (column(done, VOLUME)[0], column(done, SPREAD)[0]) != before and column(done, SPREAD)[0] == "1.1"
    assert done.panel.results._structures.paths() == {
        **dict.fromkeys(WORST_FIRST, "propagated"),
        "SpinalCord": "segmented",
    }


def test_choices_of_the_run_before_are_gone(done):
    rows = written_rows()
    done.panel.results._structures.fill([row for row in reversed(rows)])
    assert path_box(done, "PTV70") is None and path_box(done, "SpinalCord") is not None
    assert column(done, STRUCTURE) == WORST_FIRST[::-1]


def test_accept_and_change_and_accept_again(done):
    from RTUncertaintyLib import scene

    ui, nodes = done.ui, done.panel.results.nodes
    assert ui.acceptedLabel.text == "" and not ui.acceptedCheckBox.enabled
    path_box(done, "SpinalCord").setCurrentIndex(1)
    ui.acceptButton.click()
    assert (
        scene.accepted_paths(nodes)["SpinalCord"] == "segmented"
        and scene.accepted_paths(nodes)["PTV70"] == "propagated"
    )
    assert ui.acceptedLabel.text.startswith(
        "Accepted 5 structures: 4 propagated, 1 segmented. Look once more at what is red: SpinalCord"
    )
    assert [
        b.checked for b in (ui.acceptedCheckBox, ui.propagatedCheckBox, ui.segmentedCheckBox, ui.planningCheckBox)
    ] == [True, False, False, False]
    path_box(done, "Parotid_R").setCurrentIndex(1)
    assert ui.acceptedLabel.text.startswith("Not accepted yet: Parotid_R.")
    ui.acceptButton.click()
    assert "3 propagated, 2 segmented" in ui.acceptedLabel.text and len(names("vtkMRMLSegmentationNode")) == 5
    slicer.mrmlScene.RemoveNode(nodes.segmentations["accepted"])
    assert ui.acceptedLabel.text == "" and not ui.acceptedCheckBox.enabled and ui.acceptButton.enabled


def test_blend_slider_and_its_stops(done):
    ui, calls = done.ui, done.logic.scene_builder.calls
    assert (ui.blendSlider.minimum, ui.blendSlider.maximum, ui.blendSlider.value) == (0, 200, 200)
    ui.blendSlider.value = 40
    assert calls[-1] == ("show_blend", 0.4, None)
    for button, position in ((ui.warpedButton, 1.0), (ui.dailyButton, 2.0), (ui.planningButton, 0.0)):
        button.click()
        assert calls[-1] == ("show_blend", position, None)
    ui.overlayComboBox.currentIndex = ui.overlayComboBox.findData("jacobian")
    assert (
        calls[-3] == ("show_blend", 0.0, "jacobian") and ui.thresholdSlider.enabled and ui.thresholdSlider.suffix == ""
    )
    ui.thresholdSlider.value = 0.15
    assert calls[-1] == ("set_overlay_threshold", "jacobian", 0.15)
    ui.warpedButton.click()
    assert calls[-1] == ("show_blend", 1.0, "jacobian"), "the overlay stays on"
    ui.overlayComboBox.currentIndex = ui.overlayComboBox.findData("displacement_sd")
    assert ui.thresholdSlider.suffix == " mm"


def test_contours_come_and_go(done):
    from RTUncertaintyLib import scene

    ui, nodes = done.ui, done.panel.results.nodes
    assert ui.propagatedCheckBox.checked and ui.segmentedCheckBox.checked and ui.planningCheckBox.checked
    ui.planningCheckBox.click()
    assert not scene.contours_visible(nodes, "planning") and scene.contours_visible(nodes, "propagated")
    slicer.mrmlScene.RemoveNode(nodes.outlines)
    assert not ui.planningCheckBox.enabled


def test_dose_moves_and_comes_back(done):
    ui, nodes = done.ui, done.panel.results.nodes
    dose = add_volume("Dose")
    assert not ui.moveButton.enabled and "dose" in ui.moveButton.toolTip
    ui.moveSelector.setCurrentNode(done.nodes[2])
    assert not ui.moveButton.enabled and ui.movedLabel.text.startswith("Today is the daily CT")
    ui.moveSelector.setCurrentNode(dose)
    assert ui.moveButton.enabled and not ui.undoMoveButton.enabled and ui.movedLabel.text == ""
    ui.moveButton.click()
    assert dose.GetParentTransformNode() is nodes.transform and ui.movedLabel.text == "On the daily CT now: Dose."
    assert not ui.moveButton.enabled and ui.undoMoveButton.enabled
    ui.undoMoveButton.click()
    assert dose.GetParentTransformNode() is None and ui.movedLabel.text == "" and ui.moveButton.enabled


def test_dose_put_under_a_transform_meanwhile_is_refused(done):
    dose, couch = add_volume("Dose"), slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Couch")
    done.ui.moveSelector.setCurrentNode(dose)
    dose.SetAndObserveTransformNodeID(couch.GetID())
    done.ui.moveButton.click()
    assert dose.GetParentTransformNode() is couch and "under the transform Couch" in done.ui.movedLabel.text
    assert not done.ui.moveButton.enabled


def test_folding_is_told(done):
    assert similarity_text({"folding": 0.0123, "similarity": {}}) == "The deformation folds in 1.23% of the body."


def test_remove_this_run(done):
    dose = add_volume("Dose")
    done.ui.moveSelector.setCurrentNode(dose)
    done.ui.moveButton.click()
    done.ui.acceptButton.click()
    done.ui.removeRunButton.click()
    assert names("vtkMRMLVolumeNode") == ["Dose", "Plan", "Today"] and names("vtkMRMLSegmentationNode") == [
        "Structures"
    ]
    assert dose.GetParentTransformNode() is None and names("vtkMRMLGridTransformNode") == []
    assert (
        not done.ui.removeRunButton.enabled
        and done.ui.structuresTable.rowCount == 0
        and done.ui.acceptedLabel.text == ""
    )
    assert done.ui.statusLabel.text == "The run was removed from the scene."


def test_run_deleted_by_hand_is_forgotten(done):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(slicer.mrmlScene)
    hierarchy.RemoveItem(done.panel.results.nodes.folder_item)
    assert (
        done.panel.results.nodes is None and not done.ui.acceptButton.enabled and done.ui.structuresTable.rowCount == 0
    )


@pytest.mark.parametrize(
    "behaviour, words",
    [
        ("bad_input", "mr.nrrd: the image holds NaN"),
        ("out_of_memory", "Out of memory."),
        ("segfault", "crashed (SIGSEGV); the scene is unchanged"),
        ("traceback", "exit code 1): RuntimeError"),
        ("no_summary", "ended without results"),
    ],
)
def test_errors_in_one_line_and_the_scene_unchanged(ready, backend, behaviour, words):
    before = names("vtkMRMLNode")
    backend(behaviour)
    ready.ui.runButton.click()
    assert process_events(lambda: not ready.panel.running, 30)
    assert words in ready.ui.statusLabel.text and "\n" not in ready.ui.statusLabel.text
    assert names("vtkMRMLNode") == before and temporary_folders() == [] and ready.ui.runButton.enabled


def test_results_that_cannot_be_loaded(ready):
    from rtuncertainty.core.errors import InputError

    ready.logic.scene_builder.error = InputError("transform.h5: cannot be read.")
    before = names("vtkMRMLNode")
    ready.ui.runButton.click()
    assert process_events(lambda: not ready.panel.running, 30)
    assert "cannot be loaded: transform.h5" in ready.ui.statusLabel.text and names("vtkMRMLNode") == before


def test_progress_and_cancel(ready, backend):
    before = names("vtkMRMLNode")
    pids = started(ready, backend("slow"))
    ui = ready.ui
    assert ui.progressBar.value == 420 and ui.statusLabel.text.endswith("about 2 min left")
    assert not any(s.enabled for s in selectors(ready)) and not ui.settingsCollapsibleButton.enabled
    ui.cancelButton.click()
    assert process_events(lambda: not ready.panel.running, 10) and process_events(lambda: not any(map(alive, pids)), 5)
    assert ui.statusLabel.text.startswith("Cancelled") and names("vtkMRMLNode") == before and temporary_folders() == []
    assert all(s.enabled for s in selectors(ready))


def test_scene_closed_while_running_and_after(ready, backend):
    pids = started(ready, backend("slow"))
    slicer.mrmlScene.Clear(0)
    assert (
        process_events(lambda: not any(map(alive, pids)), 5) and not ready.panel.running and temporary_folders() == []
    )
    backend("done")
    for selector, node in zip(selectors(ready), add_case()):
        selector.setCurrentNode(node)
    ready.ui.runButton.click()
    assert process_events(lambda: not ready.panel.running, 30) and ready.ui.structuresTable.rowCount == 5
    slicer.mrmlScene.Clear(0)
    assert ready.ui.structuresTable.rowCount == 0 and ready.panel.results.nodes is None and temporary_folders() == []


def test_inputs_deleted_while_running(ready):
    ready.ui.runButton.click()
    for node in ready.nodes:
        slicer.mrmlScene.RemoveNode(node)
    assert process_events(lambda: not ready.panel.running, 30) and ready.ui.statusLabel.text.startswith("Done")
    nodes = ready.panel.results.nodes
    assert nodes.planning is None and nodes.outlines is None and nodes.input is None
    assert (
        not ready.ui.planningButton.enabled
        and not ready.ui.blendSlider.enabled
        and ready.ui.structuresTable.rowCount == 5
    )


def test_reload_leaves_no_observers(propagation, scene):
    first, host = load_module(MODULE)[1:]
    first.cleanup()
    host.deleteLater()
    process_events()
    scene.Clear(0)
    assert first.Observations == []


def test_a_scene_that_is_opened_brings_its_run_and_what_was_accepted(done, tmp_path):
    box = path_box(done, "Parotid_L")
    box.setCurrentIndex(1 - box.currentIndex)
    chosen = box.itemData(box.currentIndex)
    done.ui.acceptButton.click()
    before, told = [column(done, k) for k in range(done.ui.structuresTable.columnCount)], done.ui.similarityLabel.text
    open_scene(save_and_close(tmp_path))
    ui = done.ui
    assert [
        column(done, k) for k in range(ui.structuresTable.columnCount)
    ] == before and ui.similarityLabel.text == told
    assert path_box(done, "Parotid_L").itemData(path_box(done, "Parotid_L").currentIndex) == chosen
    assert "Accepted 5 structures" in ui.acceptedLabel.text and ui.acceptButton.enabled and ui.removeRunButton.enabled
    ui.removeRunButton.click()
    assert "No results yet" in ui.resultNameLabel.text and not column(done, STRUCTURE)

"""A panel in a session of work: runs of the console, another module open, images loaded, a scene opened again, packages
that are missing, Reload, and a Run button that stays where it is.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import slicer
import slicer.util
from gui_support.scene_file import open_scene, save_and_close
from gui_support.volumes import add_volume
from standins import process_events

from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.jobs import torch_setup
from RTUncertaintyLib.mrml.attributes import nodes_by_class
from RTUncertaintyLib.prediction.logic import PredictionLogic

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ready(panel):
    """A panel with a fitting volume, and slice views."""
    from RTUncertaintyLib.headless import scene as headless

    headless.add_views(slicer.app._headless, (200, 200))
    panel.logic.scene_builder = run_scene
    panel.ui.inputSelector.setCurrentNode(add_volume("Thigh"))
    yield panel
    slicer.app._headless.close()


def foregrounds():
    return {c.GetForegroundVolumeID() for c in nodes_by_class(slicer.mrmlScene, "vtkMRMLSliceCompositeNode")}


def test_a_console_run_shows_in_the_open_panel_and_leaves_the_application_alive(ready, command):
    import qt

    place, ticks, timer = Path(slicer.app.temporaryPath), [], qt.QTimer()
    before = set(place.glob("RTPrediction-*"))
    timer.connect("timeout()", lambda: ticks.append(1))
    timer.start(10)
    logic = PredictionLogic(command=command)
    nodes = logic.predict(ready.ui.inputSelector.currentNode(), "test-model", show=False)
    timer.stop()
    assert ticks, "events were processed while the console waited"
    assert ready.panel.results.nodes is nodes and ready.ui.volumesTable.rowCount == 2
    folders = set(place.glob("RTPrediction-*")) - before
    assert len(folders) == 1
    slicer.app.aboutToQuit.emit()
    assert not any(folder.exists() for folder in folders), "nothing is left behind by a logic that nobody cleans up"


def test_a_console_run_tells_its_progress(ready, command, monkeypatch):
    told = []
    monkeypatch.setattr(slicer.util, "showStatusMessage", lambda text, duration=0: told.append(text))
    logic = PredictionLogic(command=command)
    logic.predict(ready.ui.inputSelector.currentNode(), "test-model", show=False)
    assert told and all(text.startswith("RT Prediction: ") for text in told) and "%" in told[-1]
    logic.clean_up()


def test_a_result_waits_until_its_module_is_open(ready):
    ready.ui.runButton.click()
    ready.exit()  # the user goes to another module
    before = foregrounds()
    assert process_events(lambda: not ready.panel.running, 20) and ready.ui.statusLabel.text.startswith("Done")
    assert foregrounds() == before == {None} and ready.panel.results.nodes is None
    ready.enter()
    nodes = ready.panel.results.nodes
    assert nodes is not None and foregrounds() == {nodes.overlays["predictive"].GetID()}


def test_the_map_comes_back_after_the_segment_editor(ready, run):
    run()
    ready.ui.overlayComboBox.currentIndex = ready.ui.overlayComboBox.findData("entropy")
    nodes = ready.panel.results.nodes
    ready.exit()
    for composite in nodes_by_class(slicer.mrmlScene, "vtkMRMLSliceCompositeNode"):
        composite.SetForegroundVolumeID(None)
    ready.enter()
    assert foregrounds() == {nodes.overlays["entropy"].GetID()} and ready.ui.overlayComboBox.currentText.startswith(
        "En"
    )
    ready.exit()
    other = add_volume("Another patient")
    for composite in nodes_by_class(slicer.mrmlScene, "vtkMRMLSliceCompositeNode"):
        composite.SetBackgroundVolumeID(other.GetID())
        composite.SetForegroundVolumeID(None)
    ready.enter()
    assert foregrounds() == {None}, "no map over an image that it is not of"


def test_the_map_that_was_chosen_is_there_in_the_scene_file(panel, run, tmp_path):
    panel.logic.scene_builder = run_scene
    panel.ui.inputSelector.setCurrentNode(add_volume("Thigh"))
    run()
    panel.ui.overlayComboBox.currentIndex = panel.ui.overlayComboBox.findData("entropy")
    open_scene(save_and_close(tmp_path))
    assert panel.ui.overlayComboBox.currentText == "Entropy of the structures"
    assert run_scene.shown_overlay(panel.panel.results.nodes) == "entropy"
    panel.ui.overlayComboBox.currentIndex = panel.ui.overlayComboBox.findData("")
    (tmp_path / "again").mkdir()
    open_scene(save_and_close(tmp_path / "again"))
    assert panel.ui.overlayComboBox.currentText == "None"


def test_an_image_that_is_loaded_while_the_panel_is_open_is_suggested(panel):
    from standins import load_module

    assert panel.ui.inputSelector.currentNode() is None
    panel.parent._entered = True
    first = add_volume("First")
    process_events()
    assert panel.ui.inputSelector.currentNode() is first
    add_volume("Second")
    assert panel.ui.inputSelector.currentNode() is first, "what is chosen stays"
    assert load_module is not None


def test_run_does_not_move_under_the_mouse(panel):
    from PySide6.QtCore import QPoint

    def place():
        process_events()
        return panel.ui.runButton.mapTo(panel.parent, QPoint(0, 0)).y()

    panel.ui.inputSelector.setCurrentNode(add_volume("Thigh"))
    before = place()
    panel.panel.tell("Done. " + "Something long that takes several lines. " * 5, "warning")
    assert place() == before
    panel.ui.inputSelector.setCurrentNode(add_volume("Coarse", shape=(40, 80, 80), spacing=(3.0, 3.0, 8.0)))
    assert panel.ui.checkLabel.visible and place() == before


def test_controls_of_the_views(ready, run):
    assert not ready.ui.show3DButton.enabled and ready.ui.centreButton.toolTip == "There are no results yet."
    run()
    ui, nodes = ready.ui, ready.panel.results.nodes
    assert ui.show3DButton.enabled and ui.show3DButton.checked
    ui.show3DButton.click()
    assert not nodes.segmentation.GetDisplayNode().GetVisibility3D()
    ui.show3DButton.click()
    assert nodes.segmentation.GetDisplayNode().GetVisibility3D()
    camera = nodes_by_class(slicer.mrmlScene, "vtkMRMLCameraNode")[0]
    camera.SetFocalPoint(500, 0, 0)
    ui.centreButton.click()
    assert camera.GetFocalPoint()[0] != 500
    layout = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    ui.layoutComboBox.currentIndex = ui.layoutComboBox.findText("3-D alone")
    assert layout.GetViewArrangement() == layout.SlicerLayoutOneUp3DView


# -- packages that are not there


@pytest.fixture
def nothing_there(monkeypatch):
    """Neither torch nor the PyTorch extension; `there` takes the names of what was installed."""
    there, real = set(), importlib.util.find_spec

    def find(name, *more):
        if name in ("torch", "PyTorchUtils", "highdicom"):
            return object() if name in there else None
        return real(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    monkeypatch.setattr(slicer.util, "pip_install", lambda name: there.add(name), raising=False)
    return there


def answers(monkeypatch, *given):
    """Questions that were asked, answered one by one."""
    asked, waiting = [], list(given)
    monkeypatch.setattr(
        slicer.util, "confirmOkCancelDisplay", lambda text, windowTitle=None: asked.append(text) or waiting.pop(0)
    )
    return asked


class Extensions:
    def __init__(self, answer=True):
        self.interactive, self.installed, self._answer = True, [], answer

    def installExtensionFromServer(self, name, restart):  # noqa: N802 as in Slicer
        assert not restart and not self.interactive
        self.installed.append(name)
        return self._answer


def test_torch_through_the_extensions_manager(nothing_there, monkeypatch):
    model, asked = Extensions(), answers(monkeypatch, True)
    monkeypatch.setattr(type(slicer.app), "extensionsManagerModel", lambda self: model, raising=False)
    told = torch_setup.TorchSetup().install()
    assert model.installed == ["PyTorch"] and "start Slicer again" in told and len(asked) == 1 and model.interactive
    model._answer = False
    answers(monkeypatch, True)
    assert "could not be installed" in torch_setup.TorchSetup().install()


def test_torch_by_pip_with_consent_alone(nothing_there, monkeypatch):
    asked = answers(monkeypatch, False)
    assert "not installed" in torch_setup.TorchSetup().install() and len(asked) == 1 and not nothing_there
    monkeypatch.setattr(type(slicer.app), "extensionsManagerModel", lambda self: Extensions(), raising=False)
    answers(monkeypatch, False, True)
    assert torch_setup.TorchSetup().install() == "" and nothing_there == {"torch"}

    def broken(name):
        raise RuntimeError("no network")

    nothing_there.clear()
    monkeypatch.setattr(slicer.util, "pip_install", broken)
    answers(monkeypatch, False, True)
    assert torch_setup.TorchSetup().install() == "PyTorch could not be installed: no network"


def test_highdicom_is_offered(nothing_there, monkeypatch):
    asked = answers(monkeypatch, False, True)
    assert torch_setup.install_package("highdicom", "Install it?") == "highdicom was not installed."
    assert torch_setup.install_package("highdicom", "Install it?") == "" and nothing_there == {"highdicom"}
    assert torch_setup.install_package("highdicom", "Install it?") == "" and asked == ["Install it?"] * 2


def test_reload_reads_the_packages_again():
    """In a process of its own: the tests' own classes are of the packages as they were read first."""
    script = f"""
import sys
sys.path[:0] = {[str(ROOT / "Testing"), str(ROOT / "Testing" / "gui"), str(ROOT / "RTUncertainty")]!r}
from standins import install, load_module
slicer = install()
widget = load_module({str(ROOT / "RTUncertainty" / "RTReview" / "RTReview.py")!r})[1]
before = sys.modules["RTUncertaintyLib.review.panel"]
widget.onReload()
after = sys.modules["RTUncertaintyLib.review.panel"]
assert after is not before and isinstance(slicer.modules.RTReviewWidget.panel, after.ReviewPanel)
print("reloaded", flush=True)
import os
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert "reloaded" in done.stdout, done.stderr

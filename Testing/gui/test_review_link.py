"""The button that leads from a run to its review."""

import types

import pytest
import slicer
from gui_support import review as review_support
from gui_support.volumes import add_volume
from standins import load_module, process_events


@pytest.fixture
def reviewer(monkeypatch, scene):
    """RTReview beside the panel under test; switching to it enters it, as the application does."""
    widget, host = load_module(review_support.MODULE)[1:]
    monkeypatch.setattr(slicer, "modules", types.SimpleNamespace(rtreview=object()))
    monkeypatch.setattr(slicer.util, "selectModule", lambda name: widget.enter(), raising=False)
    monkeypatch.setattr(slicer.util, "getModuleWidget", lambda name: {"RTReview": widget}[name], raising=False)
    yield widget
    widget.cleanup()
    host.close()
    host.deleteLater()
    process_events()


def test_the_run_on_show_is_the_one_to_review(panel, run, reviewer):
    button = panel.ui.reviewButton
    assert not button.enabled and "no results" in button.toolTip
    panel.ui.inputSelector.setCurrentNode(add_volume("Thigh"))
    run()
    first = panel.panel.results.nodes
    assert button.enabled and "DICOM" in button.toolTip
    # a later run of the scene is not what is on show here
    run()
    panel.panel.results._nodes = first
    button.click()
    assert reviewer.panel.nodes.run_id == first.run_id and reviewer.ui.runComboBox.count == 2
    panel.panel.results.clear()
    assert not button.enabled


@pytest.mark.parametrize(
    "modules, words",
    [(types.SimpleNamespace(), "add the folder RTReview"), (types.SimpleNamespace(rtreview=1), "no main window")],
)
def test_without_the_module_or_a_window(panel, run, monkeypatch, modules, words):
    def refuse(name):
        raise RuntimeError("no main window")

    panel.ui.inputSelector.setCurrentNode(add_volume("Thigh"))
    run()
    monkeypatch.setattr(slicer, "modules", modules)
    monkeypatch.setattr(slicer.util, "selectModule", refuse, raising=False)
    panel.ui.reviewButton.click()
    assert words in panel.ui.statusLabel.text


def test_propagation_has_it_too(propagation):
    assert not propagation.ui.reviewButton.enabled and propagation.ui.reviewButton.text == "Review in RT Review"

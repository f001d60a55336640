"""The RTPrediction panel: what it shows and when its buttons act."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import slicer
from gui_support.cards import CARD
from gui_support.volumes import add_volume
from standins import load_module, process_events

MODULE = Path(__file__).resolve().parents[2] / "RTUncertainty" / "RTPrediction" / "RTPrediction.py"


def test_panel_opens_without_a_volume(panel):
    ui = panel.ui
    assert ui.runButton.enabled is False and ui.cancelButton.enabled is False
    assert "Choose an image (MR, or CT" in ui.checkLabel.text
    assert ui.runButton.toolTip == ui.checkLabel.text
    assert ui.openReportButton.enabled is False and "no results" in ui.openReportButton.toolTip
    assert ui.removeRunButton.enabled is False and ui.overlayComboBox.enabled is False


def test_a_volume_that_fits_can_be_run(panel):
    panel.ui.inputSelector.setCurrentNode(add_volume())
    assert panel.ui.checkLabel.text == "" and not panel.ui.checkLabel.visible
    assert panel.ui.runButton.enabled


def test_a_volume_there_when_the_module_is_entered_is_taken(panel):
    panel.exit()
    node = add_volume()
    panel.enter()
    assert panel.ui.inputSelector.currentNode() is node


def test_card_in_plain_words(panel):
    text = panel.ui.modelCardText.plainText
    for words in (
        "22 patients",
        "CC BY 3.0",
        "61.2",
        "0.83",
        "Research use only",
        "z-score SD 1.21",
        "volumes not calibrated",
        "limb (thigh, knee, lower leg, hip)",
        "5 cases",
    ):
        assert words in text, words
    assert panel.ui.modelSummaryLabel.text == (
        "T1-weighted MR of the limb (thigh, knee, lower leg, hip). <b>Research use only.</b>"
    )


def test_card_cannot_bring_markup(panel, models):
    card = {**CARD, "licence": "<img src=x>"}
    (models / "model.json").write_text(json.dumps(card), encoding="utf-8")
    panel.panel.reload_models()
    assert "<img" not in panel.ui.modelCardText.html and "&lt;img" in panel.ui.modelCardText.html


def test_a_model_that_has_seen_no_patient_says_so(panel, models):
    ui = panel.ui
    assert (
        "phantom" not in (ui.modelComboBox.currentText + ui.modelSummaryLabel.text + ui.modelCardText.plainText).lower()
    )
    card = {**CARD, "training": {**CARD["training"], "phantom": True, "cases": 60}}
    (models / "model.json").write_text(json.dumps(card), encoding="utf-8")
    panel.panel.reload_models()
    assert ui.modelComboBox.currentText == f"Trained on a digital phantom only: {CARD['title']}"
    assert "rained on a digital phantom only" in ui.modelSummaryLabel.text
    assert (
        "rained on a digital phantom only" in ui.modelCardText.plainText
        and "60 digital phantoms, no patient" in ui.modelCardText.plainText
    )


def test_no_model_installed(panel, models):
    (models / "model.json").unlink()
    panel.panel.reload_models()
    panel.ui.inputSelector.setCurrentNode(add_volume())
    assert not panel.ui.runButton.enabled and "No model is installed" in panel.ui.checkLabel.text


def test_own_model_folder_is_offered_and_chosen(panel, tmp_path):
    own = tmp_path / "mine"
    own.mkdir()
    (own / "model.json").write_text(json.dumps({**CARD, "name": "mine", "title": "My model"}), encoding="utf-8")
    panel.ui.modelFolderEdit.currentPath = str(own)
    assert panel.ui.modelComboBox.count == 2 and panel.ui.modelComboBox.currentText == "My model"
    assert panel._parameters.model == str(own.resolve())


def test_broken_model_folder_is_told(panel, tmp_path):
    panel.ui.inputSelector.setCurrentNode(add_volume())
    panel.ui.modelFolderEdit.currentPath = str(tmp_path)
    assert "neither a folder with a model.json" in panel.ui.checkLabel.text and not panel.ui.runButton.enabled
    panel.ui.modelFolderEdit.currentPath = ""
    assert panel.ui.runButton.enabled


def test_parameters_survive_scene_and_panel(panel):
    node = add_volume()
    ui = panel.ui
    ui.inputSelector.setCurrentNode(node)
    ui.samplesSpinBox.value, ui.seedSpinBox.value, ui.keepSamplesSpinBox.value = 7, 11, 3
    ui.deviceComboBox.currentIndex, ui.biasFieldComboBox.currentIndex = 1, 2
    ui.outputFolderEdit.currentPath, ui.reportCheckBox.checked = "/somewhere", False
    ui.siteEdit.currentPath = "/clinic/site.json"
    panel.exit()
    _, again, host = load_module(MODULE)
    parameters = again._parameters
    assert parameters.inputVolume is node and (parameters.samples, parameters.seed, parameters.keepSamples) == (
        7,
        11,
        3,
    )
    assert (parameters.device.value, parameters.biasField.value) == ("cpu", "off")
    assert parameters.outputFolder == "/somewhere" and parameters.report is False
    assert parameters.site == again.ui.siteEdit.currentPath == "/clinic/site.json"
    assert again.ui.samplesSpinBox.value == 7 and again.ui.outputFolderEdit.currentPath == "/somewhere"
    assert again.ui.deviceComboBox.currentText == "CPU"
    again.cleanup()
    host.deleteLater()


def test_reload_leaves_no_observers(panel, scene):
    first, host = load_module(MODULE)[1:]
    first.cleanup()
    host.deleteLater()
    process_events()
    scene.Clear(0)  # an observer of the panel that is gone would raise here
    assert first.Observations == []


def test_sample_data_makes_the_digital_limb(scene):
    from RTUncertaintyLib.prediction.digital_limb import load_digital_limb

    mr, ct = load_digital_limb()
    assert mr.GetImageData().GetDimensions() == ct.GetImageData().GetDimensions()
    assert ct.GetImageData().GetScalarRange()[0] < -900 and mr.GetImageData().GetScalarRange()[0] >= 0


def test_sample_data_is_registered_at_startup(panel, monkeypatch):
    import types

    known = []
    data = types.SimpleNamespace(registerCustomSampleDataSource=lambda **source: known.append(source))
    monkeypatch.setitem(sys.modules, "SampleData", types.SimpleNamespace(SampleDataLogic=data))
    slicer.app.startupCompleted.emit()
    assert known and callable(known[0]["customDownloader"]) and known[0]["uris"] == []


def test_opening_the_panel_loads_no_torch():
    code = (
        "import sys; sys.path[:0] = [{standins!r}, {lib!r}]\n"
        "from standins import install, load_module\n"
        "install(); load_module({module!r})\n"
        "assert 'torch' not in sys.modules, 'torch was loaded'\n"
        "import os; print('opened', flush=True); os._exit(0)\n"
    ).format(standins=str(MODULE.parents[2] / "Testing"), lib=str(MODULE.parents[1]), module=str(MODULE))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, encoding="utf-8")
    assert done.stdout.strip() == "opened", done.stderr


@pytest.mark.parametrize("attribute", ["colour", "isHighlighted"])
def test_stand_ins_refuse_what_the_real_widgets_do_not_have(panel, attribute):
    with pytest.raises(AttributeError):
        setattr(panel.ui.runButton, attribute, True)
    with pytest.raises(AttributeError):
        getattr(panel.ui.inputSelector, attribute)
    with pytest.raises(AttributeError):
        panel.ui.runButton.connect("pushed()", print)
    with pytest.raises(TypeError):
        panel.ui.runButton.text()


def test_the_card_tells_whether_the_spread_of_a_deformation_was_checked():
    from RTUncertaintyLib.widgets.card_text import calibration_words

    card = {"outputs": {"deformation": {}}, "calibration": {"spread": {"spearman": 0.4}}}
    assert calibration_words(card) == "spread of the deformation not calibrated"
    card["calibration"]["spread"] |= {"scale": 4.2, "patients": 10, "left_out_within_90": 0.899}
    assert (
        calibration_words(card)
        == "spread of the deformation calibrated on 10 patients; 90 % intervals held 90 % of the errors of those left "
        "out"
    )


def test_a_panel_begins_with_what_its_module_is_for(monkeypatch):
    from rtuncertainty.bundles import bundle
    from RTUncertaintyLib.prediction.logic import PredictionLogic

    def card(name, phantom, *outputs):
        return {"name": name, "task": "x", "training": {"phantom": phantom}, "outputs": dict.fromkeys(outputs, {})}

    found = [
        card("a-organs", False, "structures"),
        card("b-phantom", True, "synct", "structures"),
        card("c-limb", False, "synct", "structures"),
    ]
    monkeypatch.setattr(bundle, "list_bundles", lambda: found)
    assert [c["name"] for c in PredictionLogic().models()] == ["c-limb", "a-organs", "b-phantom"]

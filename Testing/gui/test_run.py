"""Runs with the fake backend: done, cancelled, failed, interrupted."""

import json
from pathlib import Path

import pytest
import slicer
from gui_support.scene_file import open_scene, save_and_close
from gui_support.volumes import add_volume, transform_node
from standins import process_events

from RTUncertaintyLib.jobs import process


@pytest.fixture
def ready(panel):
    """A panel with a fitting volume."""
    panel.ui.inputSelector.setCurrentNode(add_volume("Thigh"))
    panel.ui.reportCheckBox.checked = True
    return panel


def node_names():
    return sorted(n.GetName() for n in slicer.util.getNodesByClass("vtkMRMLVolumeNode"))


def temporary_folders():
    return sorted(Path(slicer.app.temporaryPath).glob("RTPrediction-*"))


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split(")")[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def started(panel, pids):
    """Wait until the slow backend and its child run; returns their process ids."""
    panel.ui.runButton.click()
    assert process_events(lambda: pids.exists() and len(pids.read_text(encoding="utf-8").split()) == 2, 20)
    process_events(lambda: panel.ui.progressBar.value > 0, 5)
    return [int(p) for p in pids.read_text(encoding="utf-8").split()]


def gone(pids, seconds=5):
    return process_events(lambda: not any(map(alive, pids)), seconds)


def test_done(ready, run, backend, tmp_path):
    status = run()
    ui = ready.ui
    assert status.startswith("Done") and ui.runButton.enabled and not ui.cancelButton.enabled
    assert "synCT" in " ".join(node_names()) or len(node_names()) > 1
    assert ui.volumesTable.rowCount == 2 and ui.volumesTable.item(1, 0).text() == "gtv"
    assert ui.volumesTable.item(1, 2).text() == "39.2 to 61.5 (90%)" and ui.volumesTable.item(1, 3).text() == "no"
    assert ui.flagsTable.rowCount == 3 and ui.flagsTable.item(0, 1).text() == "serious"
    assert ui.overlayComboBox.currentText.startswith("Predictive") and ui.thresholdSlider.suffix == " HU"
    assert ui.openReportButton.enabled and ui.removeRunButton.enabled
    arguments = json.loads((tmp_path / "arguments.json").read_text(encoding="utf-8"))
    assert arguments[1] == "predict" and arguments[arguments.index("--samples") + 1] == "20"
    assert not list(temporary_folders()[0].glob("inputs"))


def test_overlay_and_threshold(ready, run):
    run()
    ui, scene = ready.ui, ready.logic.scene_builder
    index = ui.overlayComboBox.findData("entropy")
    ui.overlayComboBox.currentIndex = index
    assert ("show_overlay", "entropy") in scene.calls and ui.thresholdSlider.suffix == " nats"
    ui.thresholdSlider.value = 0.5
    assert scene.calls[-1] == ("set_overlay_threshold", "entropy", 0.5)
    ui.overlayComboBox.currentIndex = ui.overlayComboBox.findData("")
    assert ("show_overlay", None) in scene.calls and not ui.thresholdSlider.enabled
    assert ui.overlayComboBox.findData("zscore") == -1, "there is no reference CT"


def test_reference_adds_the_z_score(ready, run):
    ready.ui.referenceSelector.setCurrentNode(add_volume("CT"))
    run()
    assert ready.ui.overlayComboBox.findData("zscore") >= 0


def test_remove_this_run(ready, run):
    before = node_names()
    run()
    ready.ui.removeRunButton.click()
    assert node_names() == before
    assert not ready.ui.removeRunButton.enabled and ready.ui.volumesTable.rowCount == 0


def test_run_deleted_by_hand_is_forgotten(ready, run):
    run()
    slicer.mrmlScene.RemoveNode(ready.panel.results.nodes.synct)
    assert ready.panel.results.nodes is None and not ready.ui.removeRunButton.enabled


def test_a_site_calibration_goes_to_the_backend_and_none_does_not(ready, run, tmp_path):
    def arguments() -> list[str]:
        run()
        return json.loads((tmp_path / "arguments.json").read_text(encoding="utf-8"))

    assert "--site" not in arguments()
    ready.ui.siteEdit.currentPath = "/clinic/site.json"
    given = arguments()
    assert given[given.index("--site") + 1] == "/clinic/site.json"
    ready.ui.siteEdit.currentPath = ""
    assert "--site" not in arguments()


def test_output_folder_is_kept_and_failures_leave_nothing_in_it(ready, run, backend, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    ready.ui.outputFolderEdit.currentPath = str(kept)
    run()
    assert (kept / "test-model on Thigh" / "summary.json").is_file()
    backend("out_of_memory")
    run()
    assert [p.name for p in kept.iterdir()] == ["test-model on Thigh"]


ENDS = {
    "bad_input": "mr.nrrd: the image holds NaN; replace them first.",
    "out_of_memory": "Out of memory. Even the smallest tiles do not fit. Choose the CPU",
    "cancelled": "The run was cancelled by the system",
    "failed": "The run failed (exit code 1): weights.pt: the checksum differs",
    "silent_failure": "The run failed (exit code 1): it said nothing",
    "traceback": "The run failed (exit code 1): RuntimeError: something the backend did not foresee",
    "segfault": "The run crashed (SIGSEGV); the scene is unchanged",
    "killed": "killed by the system (SIGKILL), most often because memory ran out",
    "no_summary": "The run ended without results",
}


@pytest.mark.parametrize("behaviour", ENDS)
def test_ends_in_words(ready, run, backend, behaviour):
    before = node_names()
    backend(behaviour)
    status = run()
    assert ENDS[behaviour] in status and "\n" not in status
    assert node_names() == before and temporary_folders() == []
    assert ready.ui.runButton.enabled and not ready.ui.cancelButton.enabled and not ready.ui.progressBar.visible


def test_a_report_that_fails_loses_no_result(ready, run, backend):
    """Also where the result's folder is a temporary one."""
    backend("report_failed")
    before, status = node_names(), run()
    assert status.startswith("Done.") and "the result is there, but Writing the report" in status
    assert node_names() != before and ready.ui.volumesTable.rowCount == 2 and len(temporary_folders()) == 1
    assert (temporary_folders()[0] / "result" / "summary.json").is_file()


def test_error_goes_when_another_volume_is_chosen(ready, run, backend):
    backend("failed")
    assert run()
    ready.ui.inputSelector.setCurrentNode(add_volume("Other"))
    assert ready.ui.statusLabel.text == ""


def test_run_again_after_a_failure(ready, run, backend):
    backend("segfault")
    run()
    backend("done")
    assert run().startswith("Done")


def test_garbage_between_events_ends_up_in_the_log(ready, run, backend):
    backend("garbage")
    assert run().startswith("Done") and "not json" in ready.ui.logTextEdit.plainText


def test_lines_in_pieces(ready, run, backend):
    backend("pieces")
    assert "größer als üblich" in run()


def test_python_that_does_not_exist(ready, run):
    command = ready.logic._command
    ready.logic._command = type(command)("/no/such/python", command.launch)
    assert "could not be started: /no/such/python" in run() and temporary_folders() == []


def test_results_that_cannot_be_loaded(ready, run):
    from rtuncertainty.core.errors import InputError

    ready.logic.scene_builder.error = InputError("synct.nii.gz: cannot be read as an image.")
    before = node_names()
    assert "cannot be loaded: synct.nii.gz" in run()
    assert node_names() == before and not ready.ui.removeRunButton.enabled


def test_progress_with_time_left(ready, backend):
    pids = started(ready, backend("slow"))
    ui = ready.ui
    assert ui.progressBar.visible and ui.progressBar.value == 420
    assert ui.statusLabel.text == "Sampling slice 12 of 80, about 2 min left"
    assert ui.cancelButton.enabled and not ui.runButton.enabled and ui.runButton.toolTip == "A run is going on."
    ready.panel.abort()
    assert gone(pids)


def test_cancel_ends_the_whole_tree(ready, backend):
    before = node_names()
    pids = started(ready, backend("slow"))
    ready.ui.cancelButton.click()
    assert process_events(lambda: not ready.panel.running, 10) and gone(pids)
    assert ready.ui.statusLabel.text.startswith("Cancelled") and node_names() == before
    assert temporary_folders() == [] and ready.ui.runButton.enabled


def test_cancel_kills_a_backend_that_does_not_listen(ready, backend, monkeypatch):
    monkeypatch.setattr(process, "GRACE_MS", 300)
    pids = started(ready, backend("stubborn"))
    ready.ui.cancelButton.click()
    assert process_events(lambda: not ready.panel.running, 10) and gone(pids)


def test_scene_closed_while_running(ready, backend):
    pids = started(ready, backend("slow"))
    slicer.mrmlScene.Clear(0)
    assert gone(pids) and not ready.panel.running
    process_events(seconds=0.2)
    assert node_names() == [] and temporary_folders() == []
    assert ready.ui.statusLabel.text == "" and not ready.ui.progressBar.visible
    ready.ui.inputSelector.setCurrentNode(add_volume("Next"))
    assert ready.ui.runButton.enabled, "the panel works on in the new scene"


def test_application_closed_while_running(ready, backend, tmp_path):
    """The application calls `cleanup` of every module when it ends."""
    ready.ui.outputFolderEdit.currentPath = str(tmp_path)
    before = sorted(tmp_path.iterdir())
    pids = started(ready, backend("slow"))
    ready.cleanup()
    assert gone(pids) and temporary_folders() == []
    assert [p for p in tmp_path.iterdir() if p not in before and p.name not in ("pids.txt", "arguments.json")] == []


def test_a_second_run_keeps_the_first_one_s_folder(ready, run, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    ready.ui.outputFolderEdit.currentPath = str(kept)
    run()
    first = {p.name: p.stat().st_mtime_ns for p in (kept / "test-model on Thigh").iterdir()}
    assert run().startswith("Done")
    assert sorted(p.name for p in kept.iterdir()) == ["test-model on Thigh", "test-model on Thigh 2"]
    assert {p.name: p.stat().st_mtime_ns for p in (kept / "test-model on Thigh").iterdir()} == first


def test_a_volume_under_a_transform_gets_its_result_where_it_is_shown(ready, run):
    import numpy as np

    node = ready.ui.inputSelector.currentNode()
    node.SetAndObserveTransformNodeID(
        transform_node([[1, 0, 0, 40], [0, 1, 0, -25], [0, 0, 1, 7], [0, 0, 0, 1]]).GetID()
    )
    assert run().startswith("Done")
    shown, found = np.zeros(6), np.zeros(6)
    node.GetRASBounds(shown)  # the transform included
    ready.panel.results.nodes.synct.GetRASBounds(found)
    assert np.allclose(shown, found, atol=1e-3)


def test_input_renamed_or_deleted_while_running(ready, backend):
    node = ready.ui.inputSelector.currentNode()
    ready.ui.runButton.click()
    node.SetName("Other")
    slicer.mrmlScene.RemoveNode(node)
    assert process_events(lambda: not ready.panel.running, 20)
    assert ready.ui.statusLabel.text.startswith("Done") and ready.ui.volumesTable.rowCount == 2


def test_second_press_starts_no_second_run(ready, backend):
    pids = started(ready, backend("slow"))
    ready.panel.start()
    assert len(temporary_folders()) == 1
    ready.panel.abort()
    assert gone(pids)


def test_volume_spoilt_after_it_was_chosen_is_refused_at_run(ready, backend):
    import numpy as np

    node = ready.ui.inputSelector.currentNode()
    slicer.util.updateVolumeFromArray(node, np.zeros((24, 32, 32), np.int16))
    ready.ui.runButton.click()
    assert not ready.panel.running and "has the same value" in ready.ui.checkLabel.text


class NoTorch:
    def __init__(self, problem=""):
        self.asked, self.problem = 0, problem

    def installed(self):
        return False

    def install(self):
        self.asked += 1
        return self.problem


def test_torch_is_asked_for_once_and_only_on_run(ready):
    ready.panel.torch = NoTorch("Install the PyTorch extension.")
    assert ready.panel.torch.asked == 0
    ready.ui.runButton.click()
    assert ready.panel.torch.asked == 1 and not ready.panel.running
    assert ready.ui.statusLabel.text == "Install the PyTorch extension."


def test_torch_that_is_declined_is_told_in_one_line(monkeypatch):
    from RTUncertaintyLib.jobs.torch_setup import TorchSetup

    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_, **__: False)
    assert TorchSetup().install() == "PyTorch was not installed; press Run to be asked again."


def test_a_run_that_is_over_holds_no_process(ready, backend):
    ready.ui.runButton.click()
    runner = ready.panel._run._runner
    assert runner.running and process_events(lambda: not ready.panel.running, 20)
    assert not runner.running and runner._process is None and ready.panel._run is None


def test_a_scene_that_is_opened_brings_its_run(ready, run, tmp_path):
    run()
    ui = ready.ui
    name, rows = ui.resultNameLabel.text, [ui.volumesTable.item(r, 1).text() for r in range(ui.volumesTable.rowCount)]
    assert rows
    file = save_and_close(tmp_path)
    assert "No results yet" in ui.resultNameLabel.text
    open_scene(file)
    assert (
        ui.resultNameLabel.text == name
        and [ui.volumesTable.item(r, 1).text() for r in range(ui.volumesTable.rowCount)] == rows
    )
    assert ui.overlayComboBox.enabled and not ui.openReportButton.enabled

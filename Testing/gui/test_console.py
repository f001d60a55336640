"""`predict` from the Python console: the same process, no event loop."""

import subprocess
import sys
from pathlib import Path

import pytest
import slicer
from gui_support.volumes import add_volume

from RTUncertaintyLib.prediction.logic import PredictionError, PredictionLogic

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def logic(command, models, backend, scene):
    return PredictionLogic(command=command)


def test_one_line(logic):
    events = []
    nodes = logic.predict(add_volume("Thigh"), "test-model", samples=5, show=False, progress=events.append)
    assert nodes.synct is not None and nodes.segmentation.GetSegmentation().GetNumberOfSegments() == 2
    assert events[-1]["event"] == "done"
    logic.clean_up()


def test_module_logic_is_the_same(panel):
    import RTPrediction

    logic = RTPrediction.RTPredictionLogic(command=panel.logic._command)
    assert logic.predict(add_volume(), "test-model", show=False).exists()
    logic.clean_up()


@pytest.mark.parametrize(
    "behaviour, words",
    [
        ("bad_input", "holds NaN"),
        ("segfault", "crashed \\(SIGSEGV\\)"),
        ("killed", "SIGKILL"),
        ("traceback", "did not foresee"),
    ],
)
def test_errors_in_one_line(logic, backend, behaviour, words):
    backend(behaviour)
    before = slicer.mrmlScene.GetNumberOfNodes()
    volume = add_volume()
    with pytest.raises(PredictionError, match=words):
        logic.predict(volume, "test-model")
    slicer.mrmlScene.RemoveNode(volume)
    assert slicer.mrmlScene.GetNumberOfNodes() <= before + 2  # display nodes of the volume itself
    assert list(Path(slicer.app.temporaryPath).glob("RTPrediction-*")) == []


def test_no_volume(logic):
    with pytest.raises(PredictionError, match="no volume"):
        logic.predict(None, "test-model")


def test_unknown_model(logic):
    with pytest.raises(PredictionError, match="test-model"):
        logic.predict(add_volume(), "no-such-model")


def test_without_qt(tmp_path, models, command, backend):
    """On slicer-core alone, in a fresh interpreter that has neither `qt` nor `slicer.app`."""
    code = f"""
import sys; sys.path[:0] = [{str(ROOT / "RTUncertainty")!r}, {str(ROOT / "Testing" / "gui")!r}]
import slicer, slicer.util
from RTUncertaintyLib.headless.scene import new_scene
headless = new_scene()
from RTUncertaintyLib.prediction.logic import PredictionLogic
from RTUncertaintyLib.jobs.command import BackendCommand
from gui_support.volumes import add_volume
logic = PredictionLogic(command=BackendCommand({command.python!r}, {command.launch!r}))
nodes = logic.predict(add_volume("Thigh"), {str(models)!r}, samples=3)
assert nodes.exists() and "qt" not in sys.modules and "PySide6" not in sys.modules and "torch" not in sys.modules
logic.clean_up()
import os; print("predicted", flush=True); os._exit(0)
"""
    import os

    environment = {**os.environ, "PYTHONPATH": str(ROOT / "Testing" / "gui")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment, encoding="utf-8"
    )
    assert done.stdout.strip().endswith("predicted"), done.stderr

"""The panel and the console with the real backend and the real scene: digital limb in, nodes out. The network has
learnt nothing; what is tested is the way through all parts."""

import sys

import numpy as np
import pytest
import slicer
from gui_support.volumes import add_volume
from standins import process_events

from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.prediction.logic import PredictionError, PredictionLogic

pytest.importorskip("torch")


@pytest.fixture
def untrained(models, monkeypatch):
    """A bundle with random weights in place of the card without weights; returns its folder."""
    from pathlib import Path

    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "backend"))
    from make_bundle import make_bundle

    folder = make_bundle(models.parent / "test-synct")
    monkeypatch.setenv("RTU_MODELS", str(models.parent))
    sys.modules.pop("make_bundle", None)
    return folder


def limb_volume():
    """A thick ring of fat around muscle with a dark bone, as a volume node that is turned and shifted."""
    z, y, x = np.indices((6, 48, 48))
    r = np.hypot(y - 24, x - 24)
    array = np.select([r < 5, r < 8, r < 16, r < 20], [700, 60, 300, 800], 0) + np.random.default_rng(0).integers(
        0, 20, r.shape
    )
    node = add_volume("Limb", array=array.astype(np.int16), spacing=(2.0, 2.0, 4.0))
    node.SetIJKToRASDirections(0, -1, 0, 1, 0, 0, 0, 0, 1)
    node.SetOrigin(31.0, -12.0, 70.0)
    return node


def matrix(node):
    import vtk

    m = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(m)
    return np.array([[m.GetElement(i, j) for j in range(4)] for i in range(4)])


def test_console_to_nodes_and_back(scene, untrained):
    volume = limb_volume()
    before = scene.GetNumberOfNodes()
    logic = PredictionLogic()
    nodes = logic.predict(volume, str(untrained), samples=2, show=False)
    assert np.allclose(matrix(nodes.synct), matrix(volume), atol=1e-4)
    synct = slicer.util.arrayFromVolume(nodes.synct)
    assert synct.shape == (6, 48, 48) and synct[0, 0, 0] == -1000 and synct[3, 24, 24] > -1000
    assert {"predictive", "intrinsic", "parameter", "entropy"} <= set(nodes.overlays)
    names = [nodes.segmentation.GetSegmentation().GetNthSegment(i).GetName() for i in range(2)]
    assert names == ["bone", "gtv"]
    logic.scene_builder.remove_run(nodes)
    assert scene.GetNumberOfNodes() <= before + 4 and not nodes.exists()  # hierarchy and colour singletons may stay
    logic.clean_up()


def test_panel_with_everything_real(panel, untrained):
    from RTUncertaintyLib.jobs.command import backend_command

    panel.logic._command, panel.logic.scene_builder = backend_command(), run_scene
    panel.panel.reload_models()
    panel.ui.inputSelector.setCurrentNode(limb_volume())
    panel.ui.modelComboBox.setCurrentIndex(panel.ui.modelComboBox.findText("Untrained network for tests"))
    panel.ui.samplesSpinBox.value = 2
    panel.ui.runButton.click()
    assert process_events(lambda: not panel.panel.running, 120), panel.ui.statusLabel.text
    assert panel.ui.statusLabel.text.startswith("Done"), panel.ui.statusLabel.text
    assert panel.ui.volumesTable.rowCount == 2 and panel.ui.removeRunButton.enabled
    panel.ui.removeRunButton.click()
    assert panel.ui.volumesTable.rowCount == 0


def test_an_error_of_the_real_backend_is_told(scene, untrained):
    (untrained / "weights.pt").write_bytes(b"truncated")
    before = scene.GetNumberOfNodes()
    volume = limb_volume()
    added = scene.GetNumberOfNodes()
    with pytest.raises(PredictionError, match="SHA-256"):
        PredictionLogic().predict(volume, str(untrained), samples=2, show=False)
    assert scene.GetNumberOfNodes() == added > before

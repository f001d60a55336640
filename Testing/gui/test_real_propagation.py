"""RTPropagation with the real backend and the real scene: two CTs and structures in, contours out. The network has
learnt nothing; the refinement finds the motion, which is known."""

import sys
from pathlib import Path

import numpy as np
import pytest
import slicer
from gui_support.volumes import add_segmentation
from standins import process_events

from RTUncertaintyLib.mrml.volumes import add_volume
from RTUncertaintyLib.propagation.logic import PropagationError, PropagationLogic

pytest.importorskip("torch")


@pytest.fixture
def untrained(scene, models, monkeypatch):
    """(folder of a bundle with random weights, planning node, segmentation node, daily node, true daily masks)."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "backend"))
    from make_pair import make_patient, make_propagation_bundle

    from rtuncertainty.core import structure_set

    folder = make_propagation_bundle(models.parent / "untrained", name="untrained")
    monkeypatch.setenv("RTU_MODELS", str(models.parent))
    planning, masks, daily, truth, _field = make_patient()
    nodes = add_volume(slicer.mrmlScene, planning, "Plan"), add_volume(slicer.mrmlScene, daily, "Today")
    structures = add_segmentation(list(structure_set.read(masks).values()), nodes[0])
    for name in ("make_pair", "make_bundle"):
        sys.modules.pop(name, None)
    return folder, nodes[0], structures, nodes[1], truth


def test_console_to_contours(scene, untrained):
    import SimpleITK as sitk

    folder, planning, structures, daily, truth = untrained
    logic = PropagationLogic()
    nodes = logic.propagate(
        planning, structures, daily, str(folder), samples=2, refine="full", device="cpu", show=False
    )
    assert nodes.names == ["Bladder", "Rectum", "PTV"] and set(nodes.overlays) == {
        "displacement_sd",
        "jacobian",
        "segmented_entropy",
    }
    assert nodes.paths("Bladder") == ["propagated", "segmented"] and nodes.paths("PTV") == ["propagated"]
    accepted = logic.accept(nodes, dict.fromkeys(nodes.names, "propagated"))
    for name in ("Bladder", "Rectum", "PTV"):
        expected = np.argwhere(sitk.GetArrayFromImage(truth[name]) > 0).mean(0)[::-1]
        x, y, z = truth[name].TransformContinuousIndexToPhysicalPoint(expected.tolist())
        bounds = [0.0] * 6
        segmentation = accepted.GetSegmentation()
        segmentation.GetSegment(segmentation.GetSegmentIdBySegmentName(name)).GetRepresentation(
            "Closed surface"
        ).GetBounds(bounds)
        assert np.allclose(np.reshape(bounds, (3, 2)).mean(1), (-x, -y, z), atol=3.0), name
    outlines = [nodes.outlines.GetSegmentation().GetNthSegment(i).GetName() for i in range(3)]
    assert outlines == ["Bladder", "Rectum", "PTV"]
    logic.clean_up()


def test_panel_with_everything_real(untrained, propagation):
    from RTUncertaintyLib.jobs.command import backend_command

    _folder, planning, structures, daily, _truth = untrained
    propagation.logic._command = backend_command()
    propagation.panel.reload_models()
    ui = propagation.ui
    ui.modelComboBox.setCurrentIndex(ui.modelComboBox.findText("Untrained joint network for tests"))
    for selector, node in zip(
        (ui.planningSelector, ui.structuresSelector, ui.dailySelector), (planning, structures, daily)
    ):
        selector.setCurrentNode(node)
    ui.samplesSpinBox.value, ui.refineComboBox.currentIndex = 2, ui.refineComboBox.findText("Off")
    ui.deviceComboBox.currentIndex = ui.deviceComboBox.findText("CPU")
    assert ui.runButton.enabled, ui.checkLabel.text
    ui.runButton.click()
    assert process_events(lambda: not propagation.panel.running, 120) and ui.statusLabel.text.startswith("Done"), (
        ui.statusLabel.text
    )
    assert ui.structuresTable.rowCount == 3 and "correlation" in ui.similarityLabel.text
    ui.acceptButton.click()
    assert ui.acceptedLabel.text.startswith("Accepted 3 structures")


def test_an_error_of_the_real_backend_is_told(scene, untrained):
    folder, planning, structures, daily, _truth = untrained
    (folder / "weights.pt").write_bytes(b"truncated")
    before = scene.GetNumberOfNodes()
    with pytest.raises(PropagationError, match="SHA-256"):
        PropagationLogic().propagate(planning, structures, daily, str(folder), samples=2, show=False)
    assert scene.GetNumberOfNodes() == before

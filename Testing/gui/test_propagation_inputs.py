"""What goes into a propagation: the check before a run, structures as a file, and the console."""

import subprocess
import sys
from pathlib import Path

import make_propagation
import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from gui_support.cards import PROPAGATION_CARD
from gui_support.volumes import add_case, add_segmentation, add_volume, transform_node
from make_propagation import STRUCTURES

from rtuncertainty.core import structure_set
from RTUncertaintyLib.mrml.segmentation_export import export_structures, structure_boxes
from RTUncertaintyLib.mrml.volume_export import UnusableVolume
from RTUncertaintyLib.propagation.check import check_propagation
from RTUncertaintyLib.propagation.logic import PropagationError, PropagationLogic

ROOT = Path(__file__).resolve().parents[2]
NAMES = [name for name, *_ in STRUCTURES]


@pytest.fixture
def case(scene):
    return add_case()


def check(case, **options):
    return check_propagation(*case, PROPAGATION_CARD, **options)


def structure(mask_voxels, name="Organ"):
    """A structure on the planning grid with the given voxels (slices for z, y, x)."""
    array = np.zeros(make_propagation.SIZE[::-1], np.uint8)
    array[mask_voxels] = 1
    return structure_set.Structure(name, make_propagation.image(array), (255, 0, 0))


def under(node, matrix):
    node.SetAndObserveTransformNodeID(transform_node(matrix).GetID())


def shifted(x=0.0, y=0.0, z=0.0):
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    return matrix


def test_fitting_inputs_are_quiet(case):
    assert check(case).message == ""


def test_planning_mr_is_told(case):
    mr = add_volume("T1", shape=(20, 36, 44), spacing=(3.0, 3.0, 4.0))
    assert check((mr, *case[1:])).message == (
        "T1 is no CT in HU (there is no air near -1000 HU), which the model 'test-propagation' needs; choose the CT."
    )
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(slicer.mrmlScene)
    hierarchy.SetItemAttribute(hierarchy.CreateItem(hierarchy.GetSceneItemID(), case[0]), "DICOM.Modality", "MR")
    assert check(case).errors[0].startswith("Plan is no CT in HU (it is MR by its DICOM tag)")


def test_one_scan_for_both(case):
    assert "Plan is chosen as planning and as daily CT" in check((case[0], case[1], case[0])).message


def test_no_structures(case):
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Void")
    assert check((case[0], empty, case[2])).message.startswith("Void holds no structures")
    assert "no segmentation" in check((case[0], None, case[2])).message
    hollow = add_segmentation([structure(np.s_[0:0])], case[0], "Hollow")
    assert check((case[0], hollow, case[2])).message.startswith("All structures of Hollow are empty")


def test_some_structures_are_empty_or_outside_or_cut(case):
    node = add_segmentation([structure(np.s_[5:9, 5:9, 5:9], "In"), structure(np.s_[0:0], "Nothing")], case[0])
    far = add_segmentation([structure(np.s_[5:9, 5:9, 5:9], "In")], case[0])
    under(far, shifted(500))
    result = check((case[0], node, case[2]))
    assert not result.errors and result.message == "Nothing: empty and will be left out."
    assert check((case[0], far, case[2])).errors == [
        "The structures of Structures lie outside of Plan: choose the CT that they were drawn on."
    ]
    half = add_segmentation([structure(np.s_[5:9, 5:9, 0:10], "Cut")], case[0])
    under(half, shifted(15))
    assert check((case[0], half, case[2])).message == "Cut: partly outside of Plan."
    edge = add_segmentation([structure(np.s_[0:20, 5:9, 5:9], "Cord")], case[0])
    assert check((case[0], edge, case[2])).message == "", "contours run to the last slice"


def test_many_structures_are_counted(case):
    node = add_segmentation(
        [structure(np.s_[5:9, 5:9, 5:9])] + [structure(np.s_[0:0], f"E{i}") for i in range(6)], case[0]
    )
    assert check((case[0], node, case[2])).message == "E0, E1, E2 and 3 more: empty and will be left out."


def test_scans_that_do_not_overlap(case):
    under(case[2], shifted(z=400))
    result = check(case)
    assert (
        not result.errors
        and "do not overlap: they lie 320 mm apart" in result.message
        and "look closely" in result.message
    )
    assert "Switch the rigid pre-alignment on" in check(case, rigid=False).errors[0]


def test_panel_asks_again_when_alignment_is_switched_off(propagation):
    ui, nodes = propagation.ui, add_case()
    under(nodes[2], shifted(z=400))
    for selector, node in zip((ui.planningSelector, ui.structuresSelector, ui.dailySelector), nodes):
        selector.setCurrentNode(node)
    assert ui.runButton.enabled and "look closely" in ui.checkLabel.text
    ui.rigidCheckBox.checked = False
    assert not ui.runButton.enabled and "Switch the rigid" in ui.checkLabel.text


def test_structures_under_a_transform_that_is_not_linear(case, tmp_path):
    from RTUncertaintyLib.scene import load_propagation

    warp = load_propagation(make_propagation.make_propagation(tmp_path / "warp")).transform
    case[1].SetAndObserveTransformNodeID(warp.GetID())
    message = check(case).message
    assert "Structures lies under the transform" in message and "not linear" in message


def read(path):
    return {name: (s, sitk.GetArrayFromImage(s.mask) > 0) for name, s in structure_set.read(path).items()}


def on_grid(found, grid):
    """The voxels (bool) of an exported structure on a grid."""
    return sitk.GetArrayFromImage(sitk.Resample(found[0].mask, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0)) > 0


def test_structures_leave_as_they_are_with_names_colours_and_codes(case, tmp_path):
    planning, structures, _daily = make_propagation.case()
    segment = case[1].GetSegmentation().GetNthSegment(0)
    segment.SetTag(
        slicer.vtkSegment.GetTerminologyEntryTagName(),
        "Segmentation category and type - 3D Slicer General Anatomy list"
        "~SCT^123037004^Anatomical Structure~SCT^15926001^Brainstem~^^~Anatomic codes - DICOM master list~^^~^^",
    )
    file = export_structures(case[1], case[0], tmp_path / "s.seg.nrrd")
    found = read(file)
    assert list(found) == NAMES and sitk.ReadImage(str(file)).GetNumberOfComponentsPerPixel() == 2, (
        "two overlap: two layers"
    )
    for s in structures:
        assert np.array_equal(on_grid(found[s.name], planning), sitk.GetArrayFromImage(s.mask) > 0), s.name
        assert found[s.name][0].color == s.color
    assert found["Brainstem"][0].code["value"] == "15926001" and found["PTV70"][0].code is None
    size = np.prod(sitk.ReadImage(str(file)).GetSize())
    assert size < np.prod(planning.GetSize()), "cropped to what the structures cover"


def test_scan_and_structures_move_together(case, tmp_path):
    """Under one transform they keep their voxels; under the scan's alone the structures lie elsewhere on it."""
    angle = np.deg2rad(25)
    matrix = shifted(12, -7, 5) @ np.array(
        [[np.cos(angle), -np.sin(angle), 0, 0], [np.sin(angle), np.cos(angle), 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    )
    before = read(export_structures(case[1], case[0], tmp_path / "a.seg.nrrd"))
    under(case[0], matrix)
    under(case[1], matrix)
    both = read(export_structures(case[1], case[0], tmp_path / "b.seg.nrrd"))
    assert all(np.array_equal(before[n][1], both[n][1]) for n in NAMES)
    point = before["Brainstem"][0].mask.TransformIndexToPhysicalPoint((0, 0, 0))
    moved = both["Brainstem"][0].mask.TransformIndexToPhysicalPoint((0, 0, 0))
    expected = (matrix @ (-point[0], -point[1], point[2], 1.0))[:3]
    assert np.allclose((-moved[0], -moved[1], moved[2]), expected, atol=1e-3)
    case[1].SetAndObserveTransformNodeID(None)
    with_shift = shifted(6.0)
    case[0].SetAndObserveTransformNodeID(transform_node(with_shift).GetID())
    alone = read(export_structures(case[1], case[0], tmp_path / "c.seg.nrrd"))
    assert alone["Brainstem"][1].sum() == before["Brainstem"][1].sum()


def test_structures_on_another_grid(scene, tmp_path):
    """Drawn on voxels of a third of the size, turned: as a resampling by SimpleITK puts them on the planning CT."""
    planning = make_propagation.case()[0]
    fine = sitk.Image(120, 100, 70, sitk.sitkUInt8)
    fine.SetSpacing((1.0, 1.1, 1.2))
    fine.SetOrigin((-50.0, -40.0, 210.0))
    a = np.deg2rad(15)
    fine.SetDirection([np.cos(a), -np.sin(a), 0, np.sin(a), np.cos(a), 0, 0, 0, 1])
    z, y, x = np.mgrid[0:70, 0:100, 0:120]
    mask = sitk.GetImageFromArray(
        (((x - 60) / 30) ** 2 + ((y - 50) / 25) ** 2 + ((z - 30) / 20) ** 2 < 1).astype(np.uint8)
    )
    mask.CopyInformation(fine)
    from RTUncertaintyLib.mrml.volumes import add_volume as add_image

    node, drawn_on = add_image(slicer.mrmlScene, planning, "Plan"), add_image(slicer.mrmlScene, fine, "Fine")
    segmentation = add_segmentation([structure_set.Structure("Organ", mask, (1, 2, 3))], drawn_on)
    found = on_grid(read(export_structures(segmentation, node, tmp_path / "s.seg.nrrd"))["Organ"], planning)
    expected = (
        sitk.GetArrayFromImage(
            sitk.Resample(sitk.Cast(mask, sitk.sitkFloat32), planning, sitk.Transform(), sitk.sitkLinear, 0.0)
        )
        > 0.5
    )
    assert (found ^ expected).sum() <= 0.005 * expected.sum() and expected.sum() > 1000
    box = structure_boxes(segmentation)["Organ"]
    ml = found.sum() * np.prod(planning.GetSpacing()) / 1000
    assert ml == pytest.approx(sitk.GetArrayFromImage(mask).sum() * 1.0 * 1.1 * 1.2 / 1000, rel=0.02) and box.shape == (
        8,
        3,
    )


def test_surfaces_become_voxels_and_the_node_stays(case, tmp_path):
    planning, node = case[0], slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Surfaces")
    sphere = vtk.vtkSphereSource()
    sphere.SetRadius(18.0)
    bounds = [0.0] * 6
    planning.GetRASBounds(bounds)
    sphere.SetCenter(*np.array(bounds).reshape(3, 2).mean(1))
    sphere.SetThetaResolution(48)
    sphere.SetPhiResolution(48)
    sphere.Update()
    node.GetSegmentation().SetSourceRepresentationName("Closed surface")
    segment = slicer.vtkSegment()
    segment.SetName("Ball")
    segment.AddRepresentation("Closed surface", sphere.GetOutput())
    node.GetSegmentation().AddSegment(segment)
    assert check((planning, node, case[2])).message == ""
    found = read(export_structures(node, planning, tmp_path / "s.seg.nrrd"))["Ball"][1]
    assert found.sum() * 3 * 3 * 4 == pytest.approx(4 / 3 * np.pi * 18**3, rel=0.06)
    assert not node.GetSegmentation().ContainsRepresentation("Binary labelmap")


def test_two_structures_of_one_name(case, tmp_path):
    node = add_segmentation([structure(np.s_[5:9, 5:9, 5:9], "GTV")], case[0])
    second = slicer.vtkSegment()
    second.DeepCopy(node.GetSegmentation().GetNthSegment(0))
    node.GetSegmentation().AddSegment(second, "another")
    second.SetName("GTV")
    assert list(read(export_structures(node, case[0], tmp_path / "s.seg.nrrd"))) == ["GTV", "GTV 2"]


def test_structures_outside_leave_no_file(case, tmp_path):
    under(case[1], shifted(900))
    with pytest.raises(UnusableVolume, match="None of the structures of Structures lies in Plan"):
        export_structures(case[1], case[0], tmp_path / "s.seg.nrrd")
    assert list(tmp_path.glob("*.nrrd")) == []


@pytest.fixture
def logic(command, propagation_model, backend, scene):
    return PropagationLogic(command=command)


def test_one_line_in_the_console(logic, case):
    events = []
    nodes = logic.propagate(*case, "test-propagation", refine="fast", show=False, progress=events.append)
    assert nodes.names == NAMES and nodes.input is case[2] and events[-1]["event"] == "done"
    accepted = logic.accept(nodes, {"Parotid_L": "segmented"})
    assert accepted.GetSegmentation().GetNumberOfSegments() == 5
    logic.clean_up()
    assert list(Path(slicer.app.temporaryPath).glob("RTPropagation-*")) == []


def test_module_logic_is_the_same(propagation):
    import RTPropagation

    logic = RTPropagation.RTPropagationLogic(command=propagation.logic._command)
    assert logic.propagate(*add_case(), "test-propagation").exists()
    logic.clean_up()


def test_console_errors_in_one_line(logic, case, backend, models):
    before = slicer.mrmlScene.GetNumberOfNodes()
    for arguments, options, words in (
        ((case[0], None, case[2]), {}, "no segmentation"),
        ((None, *case[1:]), {}, "no volume"),
        (case, {"refine": "much"}, "off, fast, full"),
        (case, {"model": "no-such-model"}, "no-such-model"),
        (case, {"model": str(models)}, "RT Prediction"),
        (case, {"output": "/no/such/folder"}, "does not exist"),
    ):
        with pytest.raises(PropagationError, match=words) as error:
            logic.propagate(*arguments, **{"model": "test-propagation", **options})
        assert "\n" not in str(error.value)
    backend("segfault")
    with pytest.raises(PropagationError, match="SIGSEGV"):
        logic.propagate(*case, "test-propagation")
    assert (
        slicer.mrmlScene.GetNumberOfNodes() == before
        and list(Path(slicer.app.temporaryPath).glob("RTPropagation-*")) == []
    )


def test_kept_output_is_named_after_model_and_daily_ct(logic, case, tmp_path):
    logic.propagate(*case, "test-propagation", output=str(tmp_path), show=False)
    logic.clean_up()
    assert (tmp_path / "test-propagation on Today" / "summary.json").is_file()


def test_without_qt(tmp_path, propagation_model, command, backend):
    """On slicer-core alone, in a fresh interpreter that has neither `qt` nor `slicer.app`."""
    places = [str(ROOT / "RTUncertainty"), str(ROOT / "Testing" / "gui"), str(ROOT / "Testing" / "slicer")]
    code = f"""
import sys; sys.path[:0] = {places!r}
import slicer, slicer.util
from RTUncertaintyLib.headless.scene import new_scene
headless = new_scene()
from RTUncertaintyLib.propagation.logic import PropagationLogic
from RTUncertaintyLib.jobs.command import BackendCommand
from gui_support.volumes import add_case
logic = PropagationLogic(command=BackendCommand({command.python!r}, {command.launch!r}))
nodes = logic.propagate(*add_case(), {str(propagation_model)!r}, refine="fast")
assert nodes.exists() and "qt" not in sys.modules and "PySide6" not in sys.modules and "torch" not in sys.modules
logic.clean_up()
import os; print("propagated", flush=True); os._exit(0)
"""
    import os

    environment = {**os.environ, "PYTHONPATH": str(ROOT / "Testing" / "gui")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment, encoding="utf-8"
    )
    assert done.stdout.strip().endswith("propagated"), done.stderr

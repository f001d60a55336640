"""Volumes that a model cannot use, or should not."""

import numpy as np
import pytest
import slicer
import vtk
from gui_support.cards import CARD
from gui_support.volumes import add_volume, transform_node

from rtuncertainty.bundles import compatibility
from rtuncertainty.core import image_io
from rtuncertainty.core.errors import InputError
from rtuncertainty.core.geometry import in_patient_axes
from RTUncertaintyLib.jobs.input_check import check_input
from RTUncertaintyLib.mrml.volumes import image_like


def voxels(shape=(24, 32, 32), dtype=np.float32):
    return np.random.default_rng(0).uniform(0, 900, shape).astype(dtype)


def test_fitting_volume_is_quiet(scene):
    check = check_input(add_volume(), CARD)
    assert not check.errors and not check.warnings and check.message == ""


def nan():
    array = voxels()
    array[3, 4, 5] = np.nan
    return array


def infinite():
    array = voxels()
    array[0, 0, 0] = np.inf
    return array


HARD = {
    "constant": (lambda: add_volume(array=np.full((24, 32, 32), 7, np.int16)), "same value (7) in every voxel"),
    "nan": (lambda: add_volume(array=nan()), "1 values that are NaN or infinite"),
    "infinite": (lambda: add_volume(array=infinite()), "1 values that are NaN or infinite"),
    "single slice": (lambda: add_volume(shape=(1, 64, 64)), "single slice"),
    "too small": (lambda: add_volume(shape=(24, 8, 32)), "needs at least 16×16×1"),
    "empty": (lambda: slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "MR"), "no voxels"),
}


@pytest.mark.parametrize("case", HARD)
def test_hard_errors_name_the_volume(scene, case):
    make, words = HARD[case]
    check = check_input(make(), CARD)
    assert len(check.errors) == 1 and words in check.message and check.message.startswith("MR ")


def test_vector_volume(scene):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Colours")
    image = vtk.vtkImageData()
    image.SetDimensions(20, 20, 20)
    image.AllocateScalars(vtk.VTK_FLOAT, 3)
    node.SetAndObserveImageData(image)
    assert "Colours has 3 values a voxel" in check_input(node, CARD).message


def test_label_map_and_what_is_no_volume(scene):
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Bones")
    slicer.util.updateVolumeFromArray(labels, np.arange(24 * 32 * 32, dtype=np.int16).reshape(24, 32, 32))
    assert check_input(labels, CARD).message == "Bones is a label map: choose the image that it was drawn on."
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "Volumes")
    assert "Volumes is no volume" in check_input(table, CARD).message
    assert "no volume" in check_input(None, CARD).message


def test_label_maps_and_vectors_are_not_offered(panel):
    for name in ("vtkMRMLLabelMapVolumeNode", "vtkMRMLVectorVolumeNode"):
        slicer.mrmlScene.AddNewNodeByClass(name, name)
    assert panel.ui.inputSelector.nodeCount() == 0
    panel.exit()
    panel.enter()
    assert panel.ui.inputSelector.currentNode() is None


def test_a_frame_of_a_sequence_is_told(scene):
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Breathing")
    frame = add_volume("Frame")
    for value in "123":
        sequence.SetDataNodeAtValue(frame, value)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Breathing browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(frame, sequence, False)
    browser.SetSelectedItemNumber(1)
    proxy = browser.GetProxyNode(sequence)
    check = check_input(proxy, CARD)
    assert not check.errors and "Breathing browser" in check.message and "(2 of 3)" in check.message
    assert check_input(add_volume("Other"), CARD).message == ""


def test_ct_by_its_values_and_by_its_tag(scene):
    array = voxels(dtype=np.int16)
    array[:, :, :10] = -1000
    assert "is a CT (with air" in check_input(add_volume(array=array), CARD).errors[0]
    tagged = add_volume()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(scene)
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), tagged)
    hierarchy.SetItemAttribute(item, "DICOM.Modality", "CT")
    assert "by its DICOM tag" in check_input(tagged, CARD).errors[0]
    hierarchy.SetItemAttribute(item, "DICOM.Modality", "PT")
    check = check_input(tagged, CARD)
    assert not check.errors and "is PT by its DICOM tag" in check.message
    hierarchy.SetItemAttribute(item, "DICOM.Modality", "MR")
    assert check_input(tagged, CARD).message == ""


def test_mr_with_negative_values_is_no_ct(scene):
    assert check_input(add_volume(array=voxels() - 400), CARD).message == ""


@pytest.mark.parametrize(
    "options, words",
    [
        ({"spacing": (3.0, 3.0, 3.0)}, "The voxel spacing left-right is 3 mm"),
        ({"shape": (200, 32, 32), "spacing": (1.0, 1.0, 5.0)}, "The field of view head-foot is 1000 mm"),
        ({"shape": (4, 32, 32), "spacing": (1.0, 1.0, 6.0)}, "only 4 slices"),
    ],
)
def test_soft_warnings(scene, options, words):
    check = check_input(add_volume(**options), CARD)
    assert not check.errors and words in check.message


def test_spacing_is_compared_along_the_patient(scene):
    node = add_volume(shape=(32, 32, 24), spacing=(3.0, 1.0, 1.0))
    node.SetIJKToRASDirections(0, 1, 0, 0, 0, 1, 1, 0, 0)  # sagittal: the first image axis runs head-foot
    assert check_input(node, CARD).message == ""
    spacing, size = in_patient_axes(np.array([[0, 1, 0], [0, 0, -1], [1.0, 0, 0]]), (3, 1, 1), (5, 6, 7))
    assert spacing.tolist() == [1, 1, 3] and size.tolist() == [6, 7, 5]


@pytest.mark.parametrize(
    "spacing, fits", [(1.6, True), (1.6004, True), (1.605, False), (1.616, False), (0.4999, True), (0.4975, False)]
)
def test_panel_and_backend_agree_on_spacing(scene, spacing, fits):
    """One rule: within a thousandth of the card's range, which is what rounded headers need; and one wording."""
    node = add_volume(shape=(24, 64, 64), spacing=(spacing, 1.0, 1.0))
    backend = compatibility.warnings(CARD, compatibility.Scan.of(sitk_image(node)))
    assert check_input(node, CARD).warnings == [f"MR: {words}" for words in backend] and bool(backend) is not fits
    assert fits or backend == [
        f"The voxel spacing left-right is {spacing:g} mm; the model was trained for 0.5 to 1.6 mm."
    ]


def test_spacing_of_1_005_mm_where_1_mm_is_the_limit(scene):
    """It once read "1.00 mm; the model was trained for 0.5 to 1 mm", and the panel said nothing."""
    card = {**CARD, "input": {**CARD["input"], "spacing_range_mm": [[0.5] * 3, [1.0] * 3]}}
    node = add_volume(spacing=(1.005, 1.0, 1.0))
    assert (
        check_input(node, card).message
        == "MR: The voxel spacing left-right is 1.005 mm; the model was trained for 0.5 to 1 mm."
    )


@pytest.mark.parametrize("case", ["padded", "inside", "constant", "ct", "small"])
def test_panel_and_backend_refuse_the_same(scene, case):
    array = voxels((24, 32, 8 if case == "small" else 32))
    if case == "padded":
        array[:4] = np.nan  # background of an MR; no fault
    elif case == "inside":
        array[10, 10, 4] = np.nan
    elif case == "constant":
        array[:] = 3
    elif case == "ct":
        array[:, :, :10] = -1000
    node = add_volume(array=array)
    try:
        image = image_io.check(sitk_image(node), "MR", padded=True)
        compatibility.require(CARD, compatibility.Scan.of(image), "MR")
        told = []
    except InputError as error:
        told = [str(error)]
    assert check_input(node, CARD).errors == told and bool(told) is (case != "padded")


def sitk_image(node):
    return image_like(slicer.util.arrayFromVolume(node), node)


def test_transforms(scene):
    node = add_volume()
    shear = transform_node([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    node.SetAndObserveTransformNodeID(shear.GetID())
    assert "not at right angles" in check_input(node, CARD).message
    grid = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLGridTransformNode", "Warp")
    field = vtk.vtkImageData()
    field.SetDimensions(4, 4, 4)
    field.AllocateScalars(vtk.VTK_DOUBLE, 3)
    field.GetPointData().GetScalars().Fill(1.0)
    warp = slicer.vtkOrientedGridTransform()
    warp.SetDisplacementGridData(field)
    grid.SetAndObserveTransformToParent(warp)
    node.SetAndObserveTransformNodeID(grid.GetID())
    message = check_input(node, CARD).message
    assert "Warp" in message and "not linear" in message


def test_panel_shows_one_line_and_lets_a_warning_pass(panel):
    panel.ui.inputSelector.setCurrentNode(add_volume("Coarse", spacing=(3.0, 3.0, 3.0)))
    assert "Coarse: The voxel spacing" in panel.ui.checkLabel.text and panel.ui.runButton.enabled
    panel.ui.inputSelector.setCurrentNode(add_volume("Flat", array=np.zeros((24, 32, 32), np.int16)))
    assert panel.ui.checkLabel.text.startswith("Flat has the same value") and not panel.ui.runButton.enabled
    assert panel.ui.runButton.toolTip == panel.ui.checkLabel.text

"""Reviewing a run in the scene: nested contours, least certain slices, what is saved and what goes with the run."""

import make_propagation
import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import slicer.util
import vtk
from make_propagation import make_propagation as propagation_folder
from make_result import STRUCTURES, make_result, oblique
from make_review import add_review_files
from propagation_case import ids, mask

from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.headless import scene as headless
from RTUncertaintyLib.mrml.attributes import nodes_by_class
from RTUncertaintyLib.review.views.nested import PERCENTILES, surface
from RTUncertaintyLib.runs.inside import cut_to_content, inside_of, percent_of

NAMES = [s["name"] for s in STRUCTURES]


@pytest.fixture
def folder(tmp_path):
    return add_review_files(make_result(tmp_path / "r"))


@pytest.fixture
def run(views, folder):
    """A run with all review files in a scene with views, shown."""
    run = run_scene.load_result(folder, views.scene, probabilities=False)
    run_scene.show_run(run, "entropy")
    return run


def contours(scene) -> list:
    """The models that are nested contours; slice views have models of their own."""
    return [n for n in nodes_by_class(scene, "vtkMRMLModelNode") if n.GetAttribute("RTUncertainty.Run")]


def volume_of(polydata) -> float:
    """ml inside a closed surface."""
    triangles, mass = vtk.vtkTriangleFilter(), vtk.vtkMassProperties()
    triangles.SetInputData(polydata)
    mass.SetInputConnection(triangles.GetOutputPort())
    return mass.GetVolume() / 1000


def balls(direction=None) -> dict[int, sitk.Image]:
    """A percent image of a blurred ball, as {percentile: mask} and under 0 the image itself."""
    z, y, x = np.mgrid[0:20, 0:48, 0:48].astype(float)
    distance = np.sqrt((x - 30) ** 2 + (y - 20) ** 2 + (2 * (z - 8)) ** 2)
    image = sitk.GetImageFromArray(np.rint(100 / (1 + np.exp((distance - 9) / 1.2))).astype(np.uint8))
    image.SetSpacing((1.5, 1.5, 3.0))
    image.SetOrigin((-20, 31, -100))
    image.SetDirection(np.asarray(np.eye(3) if direction is None else direction).ravel().tolist())
    return image


@pytest.mark.parametrize("direction", [np.eye(3), oblique()])
def test_surfaces_are_nested_and_as_large_as_their_voxels(scene, direction):
    from RTUncertaintyLib.mrml.volumes import add_volume

    image = balls(direction)
    node, array = add_volume(scene, image, "inside"), sitk.GetArrayFromImage(image)
    ml, last = float(np.prod(image.GetSpacing())) / 1000, 0.0
    for percentile in PERCENTILES:
        wanted, found = (array > 100 - percentile).sum() * ml, volume_of(surface(node, percentile))
        assert found == pytest.approx(wanted, rel=0.04) and found > last
        last = found
    centre = np.array([-1, -1, 1]) * image.TransformContinuousIndexToPhysicalPoint((30, 20, 8))
    assert np.allclose(np.mean(np.array(surface(node, 50).GetBounds()).reshape(3, 2), axis=1), centre, atol=0.8)


def test_an_empty_core_has_an_empty_surface(scene):
    from RTUncertaintyLib.mrml.volumes import add_volume

    node = add_volume(scene, sitk.Cast(balls() / 2, sitk.sitkUInt8), "inside")
    assert surface(node, 5).GetNumberOfPoints() == 0 and surface(node, 95).GetNumberOfPoints() > 100


def test_inside_images_are_cut_and_keep_their_place(scene, folder):
    run = run_scene.load_result(folder, probabilities=False)
    assert run.probabilities == {} and set(run.inside) == set(NAMES)
    for name in NAMES:
        image = sitk.ReadImage(str(folder / f"inside_{name}.nii.gz"))
        node, to_ijk = run.inside[name], vtk.vtkMatrix4x4()
        node.GetRASToIJKMatrix(to_ijk)
        array, cut = sitk.GetArrayFromImage(image), percent_of(node)
        assert node.IsA("vtkMRMLLabelMapVolumeNode") and not node.GetHideFromEditors() and cut.dtype == np.uint8
        for k, j, i in np.argwhere(array > 0)[::97]:
            ras = np.array([-1, -1, 1]) * image.TransformIndexToPhysicalPoint((int(i), int(j), int(k)))
            x, y, z = np.rint(to_ijk.MultiplyPoint((*ras, 1.0))[:3]).astype(int)
            assert cut[z, y, x] == array[k, j, i]


def test_cutting_leaves_a_margin_and_nothing_of_nothing():
    array = np.zeros((9, 8, 7), np.uint8)
    assert cut_to_content(sitk.GetImageFromArray(array)) is None
    array[4, 0, 6] = 9
    cut = cut_to_content(sitk.GetImageFromArray(array))
    assert cut.GetSize() == (2, 2, 3) and cut.GetOrigin() == (5.0, 0.0, 3.0) and sitk.GetArrayFromImage(cut).sum() == 9


def test_probabilities_stand_in_for_missing_files(scene, tmp_path):
    run = run_scene.load_result(make_result(tmp_path / "r"))
    assert run.inside == {}
    node = inside_of(run, "gtv")
    expected = np.rint(100 * slicer.util.arrayFromVolume(run.probabilities["gtv"])).astype(int)
    assert (
        percent_of(node).sum() == expected.sum() and inside_of(run, "gtv") is node and inside_of(run, "liver") is None
    )
    run_scene.remove_run(run)
    assert not nodes_by_class(scene, "vtkMRMLScalarVolumeNode")


def test_a_result_without_both_shows_no_contours(views, tmp_path):
    run = run_scene.load_propagation(propagation_folder(tmp_path / "r"), views.scene)
    assert not run_scene.show_nested(run, "Parotid_L") and run.nested == {}
    assert run_scene.review_structure(run, "Parotid_L") is not None


def test_contours_of_one_structure_at_a_time(run, views):
    before = [
        run.segmentation.GetSegmentation().GetNthSegment(i).GetRepresentation("Binary labelmap").GetMTime()
        for i in range(2)
    ]
    assert run_scene.show_nested(run, "gtv") and run_scene.nested_structure(run) == "gtv"
    models = contours(views.scene)
    first = {m.GetName(): m.GetPolyData().GetBounds() for m in models}
    assert set(first) == {f"gtv {q} %" for q in PERCENTILES} and all(
        m.GetDisplayNode().GetVisibility2D() for m in models
    )
    assert not any(m.GetDisplayNode().GetVisibility3D() for m in models)
    assert len({m.GetDisplayNode().GetColor() for m in models}) == 3
    run_scene.show_nested(run, "bone")
    assert len(contours(views.scene)) == 3 and run_scene.nested_structure(run) == "bone"
    assert run.nested["50"].GetName() == "bone 50 %" and run.nested["50"].GetPolyData().GetBounds() != first["gtv 50 %"]
    run_scene.show_nested(run, None)
    assert run_scene.nested_structure(run) is None and not any(m.GetDisplayNode().GetVisibility() for m in models)
    run_scene.show_nested(run, "bone")
    views.scene.RemoveNode(run.nested["50"])
    assert run_scene.show_nested(run, "bone") and len(contours(views.scene)) == 3
    assert before == [
        run.segmentation.GetSegmentation().GetNthSegment(i).GetRepresentation("Binary labelmap").GetMTime()
        for i in range(2)
    ]


def test_everything_goes_with_the_run(scene, folder):
    before = ids(scene)
    for by_folder in (False, True):
        run = run_scene.load_result(folder)
        run_scene.show_nested(run, "gtv")
        run_scene.decide(run, "gtv", "accepted")
        if by_folder:
            slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(scene).RemoveItem(run.folder_item)
        else:
            run_scene.remove_run(run)
        assert ids(scene) == before and not run.exists()


def test_a_scene_file_brings_contours_and_decisions_back(run, views, tmp_path):
    run_scene.show_nested(run, "gtv")
    run_scene.decide(run, "bone", "rejected")
    file = tmp_path / "s.mrb"
    assert views.scene.WriteToMRB(str(file)) and file.stat().st_size < 300_000
    holder = headless.new_scene()
    headless.open_scene(holder, file)
    (run_id,) = run_scene.find_runs(holder.scene)
    again = run_scene.run_nodes(run_id, holder.scene)
    assert (
        set(again.inside) == set(NAMES)
        and set(again.nested) == {"5", "50", "95"}
        and run_scene.nested_structure(again) == "gtv"
    )
    for name in NAMES:
        assert np.array_equal(percent_of(again.inside[name]), percent_of(run.inside[name]))
    assert run_scene.show_nested(again, "bone") and len(contours(holder.scene)) == 3
    assert run_scene.decided(again) == 1 and run_scene.undo_decision(again) == "bone"
    assert np.allclose(run_scene.uncertain_point(again, "gtv"), run_scene.uncertain_point(run, "gtv"), atol=1e-3)
    run_scene.remove_run(again)
    assert not contours(holder.scene) and not nodes_by_class(holder.scene, "vtkMRMLScalarVolumeNode")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_least_certain_slice_is_axial_whatever_the_image_axes(views, axis):
    """A structure that is blurred in one slice along the patient's axis only."""
    from RTUncertaintyLib.mrml.volumes import add_volume

    percent = np.zeros((12, 12, 12), np.uint8)
    percent[2:10, 2:10, 2:10] = 100
    percent = np.moveaxis(percent, 0, axis)
    place = [slice(2, 10)] * 3
    place[axis] = 7
    percent[tuple(place)] = 55
    image, columns = sitk.GetImageFromArray(percent), {0: [0, 1, 2], 1: [0, 2, 1], 2: [2, 1, 0]}[axis]
    image.SetDirection(np.eye(3)[:, columns].ravel().tolist())  # the array's axis `axis` runs along the patient
    run = run_scene.PredictionRun(views.scene, "x", "x")
    run.inside["ball"] = add_volume(views.scene, image, "inside")
    assert run_scene.uncertain_point(run, "ball")[2] == pytest.approx(7.0)


def test_jump_and_highlight(run, views):
    mine = views.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    mine.CreateDefaultDisplayNodes()
    mine.GetSegmentation().AddEmptySegment("gtv", "gtv")
    point = run_scene.review_structure(run, "gtv")
    nodes = {n.GetName(): n for n in nodes_by_class(views.scene, "vtkMRMLSliceNode")}
    for name, axis in (("Red", 2), ("Green", 1), ("Yellow", 0)):
        assert nodes[name].GetSliceToRAS().GetElement(axis, 3) == pytest.approx(point[axis], abs=1e-3)
    inside, to_ijk = mask(run.segmentation, "gtv", run.synct), vtk.vtkMatrix4x4()
    run.synct.GetRASToIJKMatrix(to_ijk)
    x, y, z = np.rint(to_ijk.MultiplyPoint((*point, 1.0))[:3]).astype(int)
    assert inside[z, y, x]
    display = run.segmentation.GetDisplayNode()
    assert [display.GetSegmentOpacity2DOutline(n) for n in NAMES] == pytest.approx([0.35, 1.0])
    assert mine.GetDisplayNode().GetSegmentOpacity2DOutline("gtv") == 1.0
    run_scene.highlight(run, None)
    assert [display.GetSegmentOpacity2DOutline(n) for n in NAMES] == [1.0, 1.0]
    assert run_scene.uncertain_point(run, "liver") is None


def test_a_propagation_is_shown_on_its_daily_scan(views, tmp_path):
    folder = add_review_files(propagation_folder(tmp_path / "r"))
    daily = make_propagation.case()[2]
    file = tmp_path / "daily.nii.gz"
    sitk.WriteImage(daily, str(file))
    run = run_scene.load_propagation(folder, views.scene, input_file=file)
    run_scene.show_run(run, "jacobian")
    composites = nodes_by_class(views.scene, "vtkMRMLSliceCompositeNode")
    assert {c.GetBackgroundVolumeID() for c in composites} == {run.input.GetID()}
    assert {c.GetForegroundVolumeID() for c in composites} == {run.overlays["jacobian"].GetID()}
    run_scene.show_run_overlay(run, None)
    assert {c.GetForegroundVolumeID() for c in composites} == {None}
    assert run_scene.show_nested(run, "Parotid_L") and run_scene.review_structure(run, "Parotid_L") is not None


def test_the_users_own_image_is_found_by_its_grid(views, folder):
    from make_result import SIZE, image

    from RTUncertaintyLib.mrml.volumes import add_volume

    array = np.zeros(SIZE[::-1], np.int16)
    add_volume(views.scene, image(array, np.eye(3)), "elsewhere")
    run = run_scene.load_result(folder, views.scene, probabilities=False)
    run_scene.adopt_input(run, "mr")
    assert run.input is None
    first = add_volume(views.scene, image(array, oblique()), "first")
    run_scene.adopt_input(run, "mr")
    assert run.input is first and run_scene.run_nodes(run.run_id, views.scene).input is first
    second = run_scene.load_result(folder, views.scene, probabilities=False)
    mr = add_volume(views.scene, image(array, oblique()), "mr")
    run_scene.adopt_input(second, "t2")
    assert second.input is None, "which of the two it is nobody knows"
    run_scene.adopt_input(second, "mr")
    assert second.input is mr
    run_scene.show_run(second, "entropy")
    run_scene.remove_run(second)
    assert {c.GetBackgroundVolumeID() for c in nodes_by_class(views.scene, "vtkMRMLSliceCompositeNode")} == {mr.GetID()}


def test_contours_come_back_when_a_scene_was_saved_as_files(run, views, tmp_path):
    """The application leaves hidden nodes out then: their models are empty when the scene is opened."""
    run_scene.show_nested(run, "gtv")
    for node in run.nested.values():
        node.SetAndObservePolyData(None)
    assert run_scene.show_nested(run, "gtv") and run.nested["50"].GetPolyData().GetNumberOfPoints() > 50
    run.inside["gtv"].SetAndObserveImageData(None)
    assert (
        inside_of(run, "gtv") is None
        and not run_scene.show_nested(run, "gtv")
        and run_scene.review_structure(run, "gtv") is not None
    )

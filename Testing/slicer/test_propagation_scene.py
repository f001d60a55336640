"""A propagation in the scene: nodes, deformation, blend, worst slice, removal, saving."""

import json
import math

import make_propagation
import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from make_propagation import STRUCTURES
from make_result import make_result, oblique
from propagation_case import NAMES, Case, file_masks, ids, mask

from rtuncertainty.core.errors import InputError
from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.headless import scene as headless
from RTUncertaintyLib.mrml.attributes import nodes_by_class
from RTUncertaintyLib.mrml.volumes import add_volume
from RTUncertaintyLib.runs.propagation.transform import CannotMove


@pytest.fixture
def case(scene, tmp_path):
    return Case(scene, tmp_path)


@pytest.fixture
def seen(views, tmp_path):
    """A case in a scene with slice views, shown."""
    case = Case(views.scene, tmp_path)
    run_scene.show_propagation(case.run)
    return case


def test_all_nodes_in_one_folder(scene, case):
    run, hierarchy = case.run, slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(scene)
    items = vtk.vtkIdList()
    hierarchy.GetItemChildren(run.folder_item, items, True)
    found = {hierarchy.GetItemDataNode(items.GetId(i)) for i in range(items.GetNumberOfIds())} - {None}
    assert set(run.overlays) == {"displacement_sd", "jacobian", "segmented_entropy"}
    assert set(run.segmentations) == {"propagated", "segmented"} and set(run.tables) == {
        "structure_table",
        "volumes",
        "flags",
    }
    assert found == {
        run.warped,
        run.transform,
        run.outlines,
        *run.segmentations.values(),
        *run.overlays.values(),
        *run.tables.values(),
    }
    assert run.name == "headneck-ct-propagation on daily" == hierarchy.GetItemName(run.folder_item)
    assert (run.planning, run.planning_structures, run.input) == (case.planning, case.structures, case.daily)
    assert not case.daily.GetAttribute("RTUncertainty.Run") and run.exists() and not scene.IsBatchProcessing()
    assert (
        run.warped.GetDisplayNode().GetWindowLevelMin() == -160
        and run.warped.GetVoxelValueUnits().GetCodeValue() == "[hnsf'U]"
    )
    assert run.names == NAMES


@pytest.mark.parametrize("direction", [None, oblique()])
def test_overlapping_structures_lie_where_the_file_says(scene, tmp_path, direction):
    case = Case(scene, tmp_path, direction)
    for path, node in case.run.segmentations.items():
        masks = file_masks(case.folder / f"{path}.seg.nrrd")
        for name, expected in masks.items():
            assert np.array_equal(mask(node, name, case.daily), expected), (path, name)
    masks = file_masks(case.folder / "propagated.seg.nrrd")
    assert (masks["Parotid_L"] & masks["PTV70"]).any(), "the case holds structures that overlap"


def test_names_and_colours_whatever_the_layer(case):
    segmentation = case.run.segmentations["propagated"].GetSegmentation()
    for name, color, *_ in STRUCTURES:
        segment = segmentation.GetSegment(segmentation.GetSegmentIdBySegmentName(name))
        assert np.allclose(np.array(segment.GetColor()) * 255, color, atol=0.6)
    outline = case.run.outlines.GetSegmentation()
    assert [outline.GetNthSegment(i).GetName() for i in range(outline.GetNumberOfSegments())] == NAMES
    assert np.allclose(np.array(outline.GetNthSegment(0).GetColor()) * 255, STRUCTURES[0][1], atol=0.6)
    assert case.structures.GetSegmentation().GetNthSegment(0).GetColor() == (0.1, 0.2, 0.3), (
        "the user's own stays as it is"
    )


@pytest.mark.parametrize("direction", [None, oblique()])
def test_transform_moves_planning_points_onto_the_daily_scan(scene, tmp_path, direction):
    case = Case(scene, tmp_path, direction)
    to_planning = make_propagation.transform_of(case.daily_image)
    flip = np.array([-1.0, -1.0, 1.0])
    assert case.run.transform.IsA("vtkMRMLGridTransformNode")
    for index in ((10, 12, 4), (22, 18, 10), (33, 25, 15)):
        daily = np.array(case.daily_image.TransformIndexToPhysicalPoint(index))
        planning = np.array(to_planning.TransformPoint(daily))
        moved = case.run.transform.GetTransformToParent().TransformPoint(planning * flip)
        assert np.allclose(moved, daily * flip, atol=0.05) and np.linalg.norm(planning - daily) > 1.0


def test_dose_moves_with_the_deformation_and_back(scene, case):
    dose = add_volume(scene, make_propagation.case()[0], "Dose")
    run_scene.apply_deformation(case.run, dose)
    assert dose.GetParentTransformNode() is case.run.transform and run_scene.deformed_nodes(case.run) == [dose]
    run_scene.apply_deformation(case.run, dose)  # twice does nothing more
    run_scene.undo_deformation(case.run, dose)
    assert dose.GetParentTransformNode() is None and run_scene.deformed_nodes(case.run) == []


def test_what_lies_on_the_daily_scan_is_not_moved(scene, case):
    linear = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Couch")
    dose = add_volume(scene, make_propagation.case()[0], "Dose")
    dose.SetAndObserveTransformNodeID(linear.GetID())
    for node, words in (
        (case.daily, "Today is the daily CT"),
        (case.run.warped, "result of this run"),
        (dose, "under the transform Couch"),
    ):
        with pytest.raises(CannotMove, match=words):
            run_scene.apply_deformation(case.run, node)
    assert dose.GetParentTransformNode() is linear
    scene.RemoveNode(case.run.transform)
    with pytest.raises(CannotMove, match="was deleted"):
        run_scene.apply_deformation(case.run, case.structures)


def test_overlays_have_units_ranges_and_legends(case):
    run = case.run
    titles = {key: run.legend(key).GetTitleText() for key in run.overlays}
    assert titles == {
        "displacement_sd": "Displacement SD (mm)",
        "jacobian": "Jacobian (1 = no change)",
        "segmented_entropy": "Entropy (nats)",
    }
    display = run.overlays["jacobian"].GetDisplayNode()
    assert (
        display.GetWindowLevelMax() - 1 == pytest.approx(1 - display.GetWindowLevelMin())
        and display.GetWindowLevelMin() >= 0
    )
    assert run.overlays["segmented_entropy"].GetDisplayNode().GetWindowLevelMax() >= math.log(5)
    run_scene.set_overlay_threshold(run, "jacobian", 0.15)
    rgba, span = [0.0] * 4, display.GetWindowLevelMax() - display.GetWindowLevelMin()
    for value in (0.82, 0.9, 0.98, 1.02, 1.1, 1.18):
        run.overlays["jacobian"].GetDisplayNode().GetColorNode().GetColor(
            round((value - display.GetWindowLevelMin()) / span * 255), rgba
        )
        assert (rgba[3] == 0) == (abs(value - 1) < 0.15), value
    assert run_scene.overlay_threshold(run, "jacobian") == 0.15


def composites(scene) -> list:
    return [
        (c.GetBackgroundVolumeID(), c.GetForegroundVolumeID(), round(c.GetForegroundOpacity(), 3))
        for c in nodes_by_class(scene, "vtkMRMLSliceCompositeNode")
    ]


def test_blend_of_planning_warped_and_daily(views, seen):
    planning, warped, daily = seen.planning.GetID(), seen.run.warped.GetID(), seen.daily.GetID()
    assert composites(views.scene) == [(daily, None, 0.0)] * 3
    for position, expected in (
        (0, (planning, None, 0)),
        (0.25, (planning, warped, 0.25)),
        (1, (warped, None, 0)),
        (1.6, (warped, daily, 0.6)),
        (-3, (planning, None, 0)),
        (9, (daily, None, 0)),
    ):
        run_scene.show_blend(seen.run, position)
        assert composites(views.scene) == [expected] * 3, position


def test_overlay_over_the_nearest_stop(views, seen):
    run = seen.run
    run_scene.show_blend(run, 1.3, "jacobian")
    assert composites(views.scene) == [(run.warped.GetID(), run.overlays["jacobian"].GetID(), 0.6)] * 3
    assert run.legend("jacobian").GetVisibility() and not run.legend("displacement_sd").GetVisibility()
    run_scene.show_blend(run, 1.3)
    assert not run.legend("jacobian").GetVisibility()


def test_blend_without_the_images_that_are_gone(views, seen):
    views.scene.RemoveNode(seen.planning)
    run_scene.show_blend(seen.run, 0.0)
    assert composites(views.scene) == [(seen.run.warped.GetID(), None, 0.0)] * 3
    views.scene.RemoveNode(seen.daily)
    run_scene.show_blend(seen.run, 2.0)
    assert composites(views.scene) == [(seen.run.warped.GetID(), None, 0.0)] * 3


def test_one_window_for_all_that_the_user_has_not_set(views, tmp_path):
    case = Case(views.scene, tmp_path)
    case.daily.GetDisplayNode().SetAutoWindowLevel(False)
    case.daily.GetDisplayNode().SetWindowLevelMinMax(-5.0, 95.0)
    run_scene.show_propagation(case.run)
    assert case.planning.GetDisplayNode().GetWindowLevelMin() == -160.0
    assert case.daily.GetDisplayNode().GetWindowLevelMax() == 95.0


def test_three_sets_of_contours_stay_apart(seen):
    run = seen.run
    assert set(run_scene.contour_sets(run)) == {"propagated", "segmented", "planning"}
    assert all(run_scene.contours_visible(run, key) for key in run_scene.contour_sets(run))
    looks = [run_scene.contour_sets(run)[key].GetDisplayNode() for key in ("propagated", "segmented", "planning")]
    assert [d.GetVisibility2DFill() for d in looks] == [0, 1, 0]
    assert looks[0].GetSliceIntersectionThickness() > looks[2].GetSliceIntersectionThickness()
    assert looks[0].GetOpacity2DOutline() > looks[2].GetOpacity2DOutline()
    assert not seen.structures.GetDisplayNode().GetVisibility(), "its thin outlines are shown in its place"
    run_scene.show_contours(run, "segmented", False)
    assert not run_scene.contours_visible(run, "segmented") and run_scene.contours_visible(run, "propagated")


@pytest.mark.parametrize("name", NAMES)
def test_jump_to_the_worst_slice(views, seen, name):
    masks = [file_masks(seen.folder / f"{path}.seg.nrrd").get(name) for path in ("propagated", "segmented")]
    point = run_scene.jump_to_structure(seen.run, name)
    index = seen.daily_image.TransformPhysicalPointToContinuousIndex((point * (-1, -1, 1)).tolist())
    k = seen.run.worst_slice(name)
    assert index[2] == pytest.approx(k, abs=1e-3)
    if masks[1] is not None and (masks[0] ^ masks[1]).any():
        assert (masks[0] ^ masks[1])[k].sum() == (masks[0] ^ masks[1]).sum((1, 2)).max()
    where = np.argwhere(np.logical_or.reduce([m for m in masks if m is not None])[k])[:, ::-1]
    assert np.allclose(index[:2], (where.min(0) + where.max(0)) / 2, atol=1e-3)
    for node in nodes_by_class(views.scene, "vtkMRMLSliceNode"):
        matrix = node.GetSliceToRAS()
        normal = np.array([matrix.GetElement(r, 2) for r in range(3)])
        centre = np.array([matrix.GetElement(r, 3) for r in range(3)])
        assert abs(normal @ (centre - point)) < 1e-3 and np.linalg.norm(centre - point) < 1.0


def test_tables_hold_numbers(case):
    table = case.run.tables["structure_table"]
    assert table.GetTable().GetValueByName(4, "structure").ToString() == "PTV70" and math.isnan(
        table.GetTable().GetValueByName(4, "dice").ToDouble()
    )
    assert table.GetColumnUnitLabel("planning_ml") == "mL" and table.GetColumnUnitLabel("propagated_sd_mm") == "mm"
    assert case.run.worst_slice("Brainstem") == int(table.GetTable().GetValueByName(0, "worst_slice").ToDouble())


def test_a_model_that_only_registers_and_does_not_sample(scene, tmp_path):
    run = run_scene.load_propagation(
        make_propagation.make_propagation(tmp_path / "r", segmented=False, samples=False), scene
    )
    assert set(run.overlays) == {"jacobian"} and set(run.segmentations) == {"propagated"}
    assert run.outlines is None and run.input is None and run.paths("Parotid_L") == ["propagated"]
    run_scene.show_propagation(run)
    assert set(run_scene.blend_images(run)) == {1.0} and set(run_scene.contour_sets(run)) == {"propagated"}
    run_scene.accept_structures(run)
    assert run_scene.accepted_paths(run) == dict.fromkeys(NAMES, "propagated")


def test_a_run_is_found_again_beside_a_prediction(scene, case, tmp_path):
    prediction = run_scene.load_result(make_result(tmp_path / "p"), scene)
    run_scene.accept_structures(case.run)
    assert run_scene.run_nodes(case.run.run_id) == case.run and run_scene.run_nodes(prediction.run_id) == prediction
    assert run_scene.find_runs() == {case.run.run_id: case.run.name, prediction.run_id: prediction.name}


def test_runs_of_scenes_without_a_job_are_known_by_their_roles(scene, case, tmp_path):
    """Scenes of older versions have the job on reviews of the user's own data only."""
    prediction = run_scene.load_result(make_result(tmp_path / "p"), scene)
    tree = slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(scene)
    for run, job in ((prediction, "predict"), (case.run, "propagate")):
        assert tree.GetItemAttribute(run.folder_item, "RTUncertainty.Job") == job
        tree.RemoveItemAttribute(run.folder_item, "RTUncertainty.Job")
    for run in (prediction, case.run):
        again = run_scene.run_nodes(run.run_id)
        assert type(again) is type(run) and again == run


def test_a_run_survives_saving(views, seen, tmp_path):
    run_scene.accept_structures(seen.run, {"Parotid_R": "segmented"})
    dose = add_volume(views.scene, make_propagation.case()[0], "Dose")
    run_scene.apply_deformation(seen.run, dose)
    assert views.scene.WriteToMRB(str(tmp_path / "scene.mrb"))
    other = headless.new_scene()
    headless.open_scene(other, tmp_path / "scene.mrb")
    run = run_scene.run_nodes(seen.run.run_id, other.scene)
    assert isinstance(run, run_scene.PropagationRun) and run_scene.accepted_paths(run)["Parotid_R"] == "segmented"
    assert (
        run.input.GetName() == "Today"
        and run.planning.GetName() == "Plan"
        and run.planning_structures.GetName() == "RTSS"
    )
    assert [n.GetName() for n in run_scene.deformed_nodes(run)] == ["Dose"] and run.worst_slice(
        "Parotid_R"
    ) == seen.run.worst_slice("Parotid_R")
    assert np.allclose(
        run_scene.jump_to_structure(run, "Parotid_R"), run_scene.jump_to_structure(seen.run, "Parotid_R")
    )


def test_removing_leaves_the_scene_as_it_was(views, seen):
    run_scene.accept_structures(seen.run)
    run_scene.apply_deformation(seen.run, seen.structures)
    run_scene.show_blend(seen.run, 1.0, "jacobian")
    run_scene.remove_run(seen.run)
    assert ids(views.scene) == seen.before and not run_scene.find_runs(views.scene)
    assert seen.structures.GetParentTransformNode() is None and seen.structures.GetDisplayNode().GetVisibility()
    assert composites(views.scene) == [(seen.daily.GetID(), None, 0.6)] * 3


def test_deleting_the_folder_by_hand(scene, case):
    run_scene.accept_structures(case.run)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(scene)
    hierarchy.RemoveItem(case.run.folder_item)
    assert ids(scene) == case.before and not case.run.exists()
    run_scene.show_propagation(case.run)
    run_scene.remove_run(case.run)


def _summary(**changes):
    def damage(folder):
        file = folder / "summary.json"
        file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **changes}), encoding="utf-8")

    return damage


def _table(old, new):
    def damage(folder):
        file = folder / "structures.csv"
        file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")

    return damage


@pytest.mark.parametrize(
    "damage, told",
    [
        (lambda folder: (folder / "transform.h5").unlink(), "lacks transform.h5"),
        (lambda folder: (folder / "transform.h5").write_bytes(b"no transform"), "transform.h5"),
        (lambda folder: (folder / "propagated.seg.nrrd").write_bytes(b"NRRD0005\n"), "propagated.seg.nrrd"),
        (
            lambda folder: sitk.WriteImage(sitk.Image(5, 5, 5, sitk.sitkFloat32), str(folder / "jacobian.nii.gz")),
            "jacobian.nii.gz",
        ),
        (_summary(job="predict"), "not of 'propagate'"),
        (_summary(format=7), "format 7"),
        (_summary(files={}), "transform, warped_planning"),
        (_table("worst_slice", "slice"), "worst_slice"),
        (_table(",red,", ",blue,"), "blue"),
        (_table("10.908", "much"), "'much'"),
    ],
)
def test_a_broken_folder_leaves_the_scene_as_it_was(scene, case, tmp_path, damage, told):
    damage(case.folder)
    before = ids(scene)
    with pytest.raises(InputError) as error:
        run_scene.load_propagation(case.folder, scene, case.planning, case.structures, case.daily)
    assert told in str(error.value) and "\n" not in str(error.value)
    assert ids(scene) == before and not scene.IsBatchProcessing()


def test_scene_file_of_a_propagation(tmp_path):
    from RTUncertaintyLib.headless.scene_bundle import write_scene

    planning, structures, daily = make_propagation.case()
    folder = make_propagation.make_propagation(tmp_path / "r", planning, structures, daily)
    sitk.WriteImage(daily, str(tmp_path / "daily.nii.gz"))
    write_scene(folder, tmp_path / "scene.mrb", tmp_path / "daily.nii.gz")
    opened = headless.new_scene()
    headless.open_scene(opened, tmp_path / "scene.mrb")
    ((run_id, name),) = run_scene.find_runs(opened.scene).items()
    run = run_scene.run_nodes(run_id, opened.scene)
    assert (
        name == "headneck-ct-propagation on daily"
        and run.input.GetName() == "daily"
        and run.input.GetAttribute("RTUncertainty.Run") == run_id
    )
    assert composites(opened.scene) == [(run.input.GetID(), None, 0.0)] * 3
    assert run.transform is not None and run.main_segmentation.GetSegmentation().GetNumberOfSegments() == 5

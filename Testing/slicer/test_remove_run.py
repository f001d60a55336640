"""Deleting a run, by our function, through its folder, and by closing the scene."""

import slicer
import vtk
from make_result import make_result

from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.mrml.attributes import nodes_by_class


def node_ids(scene) -> set:
    return {n.GetID() for n in nodes_by_class(scene, "vtkMRMLNode")}


def hierarchy_items(scene) -> int:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(scene)
    ids = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), ids, True)
    return ids.GetNumberOfIds()


def test_remove_run_leaves_nothing(scene, tmp_path):
    before, items = node_ids(scene), hierarchy_items(scene)
    run = run_scene.load_result(make_result(tmp_path / "r", reference=True))
    assert len(node_ids(scene)) > len(before) + 30
    run_scene.remove_run(run)
    assert node_ids(scene) == before and hierarchy_items(scene) == items
    assert not run.exists() and not run_scene.find_runs()
    run_scene.remove_run(run)  # twice does nothing


def test_remove_run_leaves_the_other_run(scene, tmp_path):
    folder = make_result(tmp_path / "r")
    first = run_scene.load_result(folder)
    kept = node_ids(scene)
    second = run_scene.load_result(folder)
    run_scene.remove_run(second)
    assert node_ids(scene) == kept and first.exists()
    assert first.legend("predictive") is not None


def test_deleting_the_folder_removes_colours_legends_and_displays(scene, tmp_path):
    before, items = node_ids(scene), hierarchy_items(scene)
    run = run_scene.load_result(make_result(tmp_path / "r", reference=True))
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(scene)
    hierarchy.RemoveItem(run.folder_item)
    assert node_ids(scene) == before and hierarchy_items(scene) == items
    assert not run.exists()


def test_what_the_user_put_into_the_folder_stays(scene, tmp_path):
    run = run_scene.load_result(make_result(tmp_path / "r"))
    mine = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(scene)
    hierarchy.CreateItem(run.folder_item, mine)
    run_scene.remove_run(run)
    assert mine.GetScene() is scene
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(mine)) == hierarchy.GetSceneItemID()


def test_closing_the_scene(scene, tmp_path):
    folder = make_result(tmp_path / "r")
    run = run_scene.load_result(folder)
    scene.Clear(0)
    assert not run.exists()
    run_scene.show_result(run)
    run_scene.show_overlay(run, "entropy")
    run_scene.remove_run(run)
    again = run_scene.load_result(folder)
    assert again.exists() and again.name == run.name
    assert run_scene.find_runs() == {again.run_id: again.name}

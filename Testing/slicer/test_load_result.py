"""A result folder in the scene: nodes, display, geometry, tables."""

import math

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import slicer.util
import vtk
from make_result import STRUCTURES, make_input, make_result, oblique

from rtuncertainty.core.errors import InputError
from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.mrml import attributes

OVERLAYS = {"predictive", "intrinsic", "parameter", "entropy", "mutual_information"}


def ras_of(image: sitk.Image, index) -> np.ndarray:
    """RAS of a voxel, from SimpleITK's LPS."""
    return np.array([-1.0, -1.0, 1.0]) * image.TransformContinuousIndexToPhysicalPoint([float(i) for i in index])


def children(scene, item) -> set:
    """Nodes below an item of the subject hierarchy."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(scene)
    ids = vtk.vtkIdList()
    hierarchy.GetItemChildren(item, ids, True)
    return {hierarchy.GetItemDataNode(ids.GetId(i)) for i in range(ids.GetNumberOfIds())} - {None}


def test_all_nodes_in_one_folder(scene, tmp_path):
    run = run_scene.load_result(make_result(tmp_path / "r", reference=True))
    assert run.exists() and run.name == "limb-t1-synct on mr"
    assert set(run.overlays) == OVERLAYS | {"error", "zscore"}
    assert set(run.probabilities) == {"bone", "gtv"} and set(run.tables) == {"volumes", "flags", "metrics"}
    expected = {
        run.synct,
        run.segmentation,
        run.reference,
        *run.overlays.values(),
        *run.probabilities.values(),
        *run.tables.values(),
    }
    assert children(scene, run.folder_item) == expected
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(scene)
    assert hierarchy.GetItemName(run.folder_item) == run.name
    assert all(
        n.GetAttribute("RTUncertainty.Run") == run.run_id and n.GetAttribute("RTUncertainty.Role") for n in expected
    )
    assert not scene.IsBatchProcessing()


def test_without_reference_there_is_no_error_map(scene, tmp_path):
    run = run_scene.load_result(make_result(tmp_path / "r"))
    assert set(run.overlays) == OVERLAYS and run.reference is None and "metrics" not in run.tables


@pytest.mark.parametrize("direction", [np.eye(3), oblique(), np.diag([-1.0, 1.0, -1.0]), np.eye(3)[[2, 0, 1]]])
def test_volume_lies_where_the_image_lies(scene, tmp_path, direction):
    folder = make_result(tmp_path / "r", direction=direction)
    run = run_scene.load_result(folder)
    image = sitk.ReadImage(str(folder / "synct.nii.gz"))
    matrix = vtk.vtkMatrix4x4()
    for node in (run.synct, run.overlays["predictive"], run.probabilities["gtv"]):
        node.GetIJKToRASMatrix(matrix)
        for index in ((0, 0, 0), (35, 29, 13), (7, 20, 3)):
            assert np.allclose(matrix.MultiplyPoint((*index, 1.0))[:3], ras_of(image, index), atol=1e-3)
    assert np.array_equal(slicer.util.arrayFromVolume(run.synct), sitk.GetArrayFromImage(image))


@pytest.mark.parametrize("direction", [np.eye(3), oblique()])
def test_segments_lie_where_the_labels_lie(scene, tmp_path, direction):
    folder = make_result(tmp_path / "r", direction=direction)
    run = run_scene.load_result(folder)
    labels = sitk.ReadImage(str(folder / "structures.seg.nrrd"))
    array = sitk.GetArrayFromImage(labels)
    for index, structure in enumerate(STRUCTURES):
        segment = run.segmentation.GetSegmentation().GetNthSegment(index)
        expected = ras_of(labels, np.argwhere(array == structure["label"])[:, ::-1].mean(axis=0))
        mask = slicer.vtkOrientedImageData()
        run.segmentation.GetBinaryLabelmapRepresentation(
            run.segmentation.GetSegmentation().GetNthSegmentID(index), mask
        )
        voxels = vtk.util.numpy_support.vtk_to_numpy(mask.GetPointData().GetScalars()).reshape(
            mask.GetDimensions()[::-1]
        )
        extent, matrix = mask.GetExtent(), vtk.vtkMatrix4x4()
        mask.GetImageToWorldMatrix(matrix)
        centre = np.argwhere(voxels > 0)[:, ::-1].mean(axis=0) + np.array(extent[::2])
        assert np.allclose(matrix.MultiplyPoint((*centre, 1.0))[:3], expected, atol=1e-3)
        surface = segment.GetRepresentation("Closed surface")
        middle = vtk.vtkMassProperties()
        middle.SetInputData(surface)
        voxel_ml = np.prod(labels.GetSpacing()) * (array == structure["label"]).sum()
        assert middle.GetVolume() == pytest.approx(voxel_ml, rel=0.25)


def test_segments_have_names_colours_and_codes(scene, tmp_path):
    run = run_scene.load_result(make_result(tmp_path / "r"))
    for index, structure in enumerate(STRUCTURES):
        segment = run.segmentation.GetSegmentation().GetNthSegment(index)
        assert segment.GetName() == structure["name"]
        assert np.allclose(np.array(segment.GetColor()) * 255, structure["color"], atol=0.6)
        tag = vtk.reference("")
        assert segment.GetTag("TerminologyEntry", tag)
        code = structure["code"]
        assert f"~{code['scheme']}^{code['value']}^{code['meaning']}~" in str(tag)
    display = run.segmentation.GetDisplayNode()
    assert display.GetVisibility2DOutline() and not display.GetVisibility2DFill()
    assert not run.segmentation.GetStorageNode()


def test_units_windows_thresholds_and_legends(scene, tmp_path):
    run = run_scene.load_result(make_result(tmp_path / "r", reference=True))
    assert run.synct.GetVoxelValueUnits().GetCodeValue() == "[hnsf'U]"
    assert (
        run.synct.GetDisplayNode().GetWindowLevelMin() == -400
        and run.synct.GetDisplayNode().GetWindowLevelMax() == 1000
    )
    tables = [run.overlays[key].GetDisplayNode().GetColorNode() for key in run.overlays]
    assert len({t.GetID() for t in tables}) == len(run.overlays)
    display = run.overlays["predictive"].GetDisplayNode()
    assert display.GetApplyThreshold() and 0 < display.GetLowerThreshold() < display.GetWindowLevelMax()
    assert display.GetUpperThreshold() >= slicer.util.arrayFromVolume(run.overlays["predictive"]).max()
    assert run.legend("predictive").GetTitleText() == "Predictive SD (HU)"
    assert run.legend("entropy").GetTitleText() == "Entropy (nats)"
    assert run.overlays["entropy"].GetDisplayNode().GetWindowLevelMax() >= math.log(3)
    signed = run.overlays["error"].GetDisplayNode()
    assert signed.GetWindowLevelMin() == -signed.GetWindowLevelMax()


def test_tables_hold_the_files(scene, tmp_path):
    run = run_scene.load_result(make_result(tmp_path / "r", reference=True))
    table = run.tables["volumes"].GetTable()
    assert [table.GetColumn(i).GetName() for i in range(6)] == [
        "structure",
        "volume_ml",
        "lower_ml",
        "upper_ml",
        "level",
        "calibrated",
    ]
    assert (
        table.GetValueByName(0, "structure").ToString() == "bone"
        and table.GetValueByName(1, "volume_ml").ToDouble() == 2.2
    )
    assert math.isnan(table.GetValueByName(1, "upper_ml").ToDouble())
    assert run.tables["volumes"].GetColumnUnitLabel("volume_ml") == "mL"
    assert (
        run.tables["flags"].GetTable().GetValueByName(0, "reason").ToString()
        == "never calibrated, so intervals may be too narrow"
    )
    assert run.tables["metrics"].GetTable().GetValueByName(0, "value").ToDouble() == 41.5


def test_segmentation_takes_the_geometry_of_the_input(scene, tmp_path):
    mr = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "thigh T1")
    slicer.util.updateVolumeFromArray(mr, np.zeros((4, 5, 6), np.int16))
    run = run_scene.load_result(make_result(tmp_path / "r"), input_node=mr)
    assert run.input is mr and mr.GetAttribute("RTUncertainty.Run") is None
    assert run.segmentation.GetNodeReference("referenceImageGeometryRef") is mr
    assert run.synct.GetName() == "thigh T1 synCT"


def test_input_of_a_closed_scene_is_ignored(scene, tmp_path):
    mr = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "mr")
    scene.RemoveNode(mr)
    run = run_scene.load_result(make_result(tmp_path / "r"), input_node=mr)
    assert run.input is None and run.segmentation.GetNodeReference("referenceImageGeometryRef") is run.synct


def test_input_file_becomes_part_of_the_run(scene, tmp_path):
    run = run_scene.load_result(make_result(tmp_path / "r"), input_file=make_input(tmp_path))
    assert run.input.GetAttribute("RTUncertainty.Role") == "input"
    assert run.input in children(scene, run.folder_item)


def test_two_runs_side_by_side_are_found_again(scene, tmp_path):
    folder = make_result(tmp_path / "r")
    first, second = run_scene.load_result(folder), run_scene.load_result(folder)
    assert first.run_id != second.run_id and second.name == "limb-t1-synct on mr (2)"
    assert first.synct.GetName() != second.synct.GetName()
    assert run_scene.find_runs() == {first.run_id: first.name, second.run_id: second.name}
    again = run_scene.run_nodes(second.run_id)
    assert again == second
    assert run_scene.run_nodes("none") is None


def _remove(name):
    return lambda folder: (folder / name).unlink()


def _write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    "damage, told",
    [
        (_remove("summary.json"), "no result folder"),
        (_remove("synct_parameter_sd.nii.gz"), "synct_parameter_sd.nii.gz"),
        (_remove("structures.seg.nrrd"), "structures.seg.nrrd"),
        (_write("summary.json", b"{"), "cannot be read"),
        (_write("summary.json", b'{"format": 7}'), "format 7"),
        (_write("probability_gtv.nii.gz", b"no image"), "probability_gtv.nii.gz"),
        (_write("structures.seg.nrrd", b"NRRD0005\n"), "structures.seg.nrrd"),
        (_write("volumes.csv", b"structure,volume_ml\nbone,1\n"), "lower_ml"),
        (
            _write("volumes.csv", b"structure,volume_ml,lower_ml,upper_ml,level,calibrated\nbone,x,1,1,1,no\n"),
            "volumes.csv",
        ),
    ],
)
def test_a_broken_folder_leaves_the_scene_as_it_was(scene, tmp_path, damage, told):
    folder = make_result(tmp_path / "r", reference=True)
    run_scene.load_result(make_result(tmp_path / "other"))
    damage(folder)
    before = _state(scene)
    with pytest.raises(InputError) as error:
        run_scene.load_result(folder)
    assert told in str(error.value) and "\n" not in str(error.value)
    assert _state(scene) == before and not scene.IsBatchProcessing()


def test_an_image_of_another_size_is_refused(scene, tmp_path):
    folder = make_result(tmp_path / "r")
    sitk.WriteImage(sitk.Image(5, 5, 5, sitk.sitkFloat32), str(folder / "synct_intrinsic_sd.nii.gz"))
    before = _state(scene)
    with pytest.raises(InputError, match="synct_intrinsic_sd"):
        run_scene.load_result(folder)
    assert _state(scene) == before


def test_an_error_of_our_own_leaves_the_scene_as_it_was(scene, tmp_path, monkeypatch):
    folder = make_result(tmp_path / "r")
    before = _state(scene)
    from RTUncertaintyLib.mrml import tables

    monkeypatch.setattr(tables, "add_table", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_scene.load_result(folder)
    assert _state(scene) == before


def _state(scene) -> tuple:
    """Nodes of the scene and items of its hierarchy."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(scene)
    ids = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), ids, True)
    nodes = sorted(n.GetID() for n in attributes.nodes_by_class(scene, "vtkMRMLNode"))
    return nodes, sorted(ids.GetId(i) for i in range(ids.GetNumberOfIds()))

"""Volumes leave the scene where they lie in the world."""

import numpy as np
import pytest
import SimpleITK as sitk
from gui_support.volumes import add_volume, transform_node

from RTUncertaintyLib.jobs.workspace import RunRequest, file_name, prepare
from RTUncertaintyLib.mrml.volume_export import UnusableVolume, export_volume


def world_of(image, index):
    """RAS coordinates of a voxel of an image file."""
    x, y, z = image.TransformIndexToPhysicalPoint(index)
    return np.array([-x, -y, z])


def test_geometry_and_values(scene, tmp_path):
    node = add_volume(spacing=(0.7, 0.8, 3.0))
    node.SetOrigin(10, -20, 30)
    image = sitk.ReadImage(str(export_volume(node, tmp_path / "a.nrrd")))
    assert np.allclose(image.GetSpacing(), (0.7, 0.8, 3.0))
    expected = [node.GetOrigin()[0] + 0.7 * 2, node.GetOrigin()[1] + 0.8 * 3, node.GetOrigin()[2] + 3.0 * 4]
    assert np.allclose(world_of(image, (2, 3, 4)), expected)
    import slicer.util

    assert np.array_equal(sitk.GetArrayFromImage(image), slicer.util.arrayFromVolume(node))


def test_parent_transform_goes_into_the_geometry(scene, tmp_path):
    node = add_volume()
    angle = np.deg2rad(20)
    matrix = np.array(
        [[np.cos(angle), -np.sin(angle), 0, 5], [np.sin(angle), np.cos(angle), 0, -7], [0, 0, 1, 11], [0, 0, 0, 1]]
    )
    node.SetAndObserveTransformNodeID(transform_node(matrix).GetID())
    image = sitk.ReadImage(str(export_volume(node, tmp_path / "a.nrrd")))
    for index in ((0, 0, 0), (5, 7, 9)):
        local = np.array([index[0] * 1.0, index[1] * 1.0, index[2] * 3.0, 1])
        assert np.allclose(world_of(image, index), (matrix @ local)[:3], atol=1e-4)


def test_workspace_arguments_and_cleaning(scene, tmp_path):
    node, ct = add_volume("a/b: MR"), add_volume("CT")
    work = prepare(
        RunRequest(
            node, "/models/m", samples=3, seed=4, device="cpu", bias_field="off", reference=ct, output=str(tmp_path)
        ),
        "m",
    )
    text = " ".join(work.arguments)
    assert "--samples 3 --seed 4 --device cpu --bias-field off --progress json" in text and "--reference" in text
    assert work.output == tmp_path / "m on a_b_ MR" and not work.output.exists()
    assert all(p.exists() for p in (work.inputs, work.inputs / "inputs"))
    work.output.mkdir()
    again = prepare(RunRequest(node, "/models/m", output=str(tmp_path)), "m")
    assert again.output.name == "m on a_b_ MR 2"
    for w in (work, again):
        w.discard()
    assert not work.inputs.exists() and not work.output.exists() and tmp_path.exists()


def test_unusable_output_folder(scene, tmp_path, monkeypatch):
    before = set(tmp_path.iterdir())
    with pytest.raises(UnusableVolume, match="does not exist"):
        prepare(RunRequest(add_volume(), "m", output=str(tmp_path / "missing")), "m")
    assert set(tmp_path.iterdir()) == before


def test_failed_export_leaves_nothing(scene, tmp_path, monkeypatch):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Void")
    with pytest.raises(UnusableVolume, match="Void holds no voxels"):
        prepare(RunRequest(node, "m", output=str(tmp_path)), "m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "..", "../x", "a\0b", "x" * 300])
def test_file_names(text):
    name = file_name(text)
    assert name and "/" not in name and "\0" not in name and name not in (".", "..") and len(name) <= 80

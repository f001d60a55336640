"""The scene file, written by the command and read into a fresh scene; the pictures."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import vtk
from make_result import STRUCTURES, make_input, make_result

from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.headless import scene
from RTUncertaintyLib.mrml import attributes

ROOT = Path(__file__).resolve().parents[2] / "RTUncertainty"


def command(module: str, *arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", f"RTUncertaintyLib.{module}", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(result folder, scene file)"""
    if scene.in_application():
        pytest.skip("the command runs without the application")
    place = tmp_path_factory.mktemp("written")
    folder, output = make_result(place / "r", reference=True), place / "scene of mr.mrb"
    done = command("headless", folder, "--input", make_input(place), "--output", output)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and done.stderr == ""
    assert sorted(p.name for p in place.iterdir()) == ["mr.nii.gz", "r", "scene of mr.mrb"]
    return folder, output


@pytest.fixture
def opened(written):
    """(holder of the scene, run) of the file."""
    holder = scene.new_scene()
    scene.open_scene(holder, written[1])
    ((run_id, name),) = run_scene.find_runs(holder.scene).items()
    assert name == "limb-t1-synct on mr"
    return holder, run_scene.run_nodes(run_id, holder.scene)


def test_nodes_units_and_display_come_back(opened):
    holder, run = opened
    assert set(run.overlays) == {
        "predictive",
        "intrinsic",
        "parameter",
        "entropy",
        "mutual_information",
        "error",
        "zscore",
    }
    assert run.input.GetName() == "mr" and set(run.tables) == {"volumes", "flags", "metrics"}
    assert run.synct.GetVoxelValueUnits().GetCodeMeaning() == "Hounsfield unit"
    assert run.tables["volumes"].GetTable().GetValueByName(1, "volume_ml").ToDouble() == 2.2
    assert run.tables["volumes"].GetColumnUnitLabel("volume_ml") == "mL"
    display = run.overlays["predictive"].GetDisplayNode()
    assert display.GetApplyThreshold() and display.GetLowerThreshold() == run_scene.overlay_threshold(run, "predictive")
    assert display.GetColorNode().GetNumberOfColors() == 256
    rgba = [0.0] * 4
    run.overlays["zscore"].GetDisplayNode().GetColorNode().GetColor(128, rgba)
    assert rgba[3] == 0.0
    run.overlays["zscore"].GetDisplayNode().GetColorNode().GetColor(255, rgba)
    assert rgba[3] == 1.0 and rgba[0] > rgba[2]
    assert (
        run.legend("predictive").GetTitleText() == "Predictive SD (HU)" and run_scene.shown_overlay(run) == "predictive"
    )


def test_views_show_the_overlay(opened):
    holder, run = opened
    for name in scene.SLICE_VIEWS:
        composite = holder.scene.GetNodeByID(f"vtkMRMLSliceCompositeNode{name}")
        assert composite.GetBackgroundVolumeID() == run.synct.GetID()
        assert composite.GetForegroundVolumeID() == run.overlays["predictive"].GetID()
        view = holder.scene.GetNodeByID(f"vtkMRMLSliceNode{name}")
        bounds = [0.0] * 6
        run.synct.GetRASBounds(bounds)
        axis = {"Axial": 2, "Coronal": 1, "Sagittal": 0}[view.GetOrientation()]
        assert bounds[2 * axis] < view.GetSliceToRAS().GetElement(axis, 3) < bounds[2 * axis + 1]
    camera = holder.scene.GetFirstNodeByClass("vtkMRMLCameraNode")
    assert np.linalg.norm(np.subtract(camera.GetPosition(), camera.GetFocalPoint())) > 50
    assert holder.scene.GetFirstNodeByClass("vtkMRMLLayoutNode").GetViewArrangement() == 3


def test_geometry_and_terminology_come_back(opened, written):
    _, run = opened
    image = sitk.ReadImage(str(written[0] / "synct.nii.gz"))
    matrix = vtk.vtkMatrix4x4()
    for node in (run.synct, run.overlays["zscore"], run.input):
        node.GetIJKToRASMatrix(matrix)
        for index in ((0, 0, 0), (35, 29, 13)):
            expected = np.array([-1, -1, 1]) * image.TransformIndexToPhysicalPoint(index)
            assert np.allclose(matrix.MultiplyPoint((*index, 1.0))[:3], expected, atol=1e-3)
    segmentation = run.segmentation.GetSegmentation()
    assert run.segmentation.GetNodeReference("referenceImageGeometryRef") is run.input
    for index, structure in enumerate(STRUCTURES):
        tag = vtk.reference("")
        segmentation.GetNthSegment(index).GetTag("TerminologyEntry", tag)
        assert structure["code"]["value"] in str(tag)
        assert segmentation.GetNthSegment(index).GetName() == structure["name"]
        run.segmentation.CreateClosedSurfaceRepresentation()
        assert segmentation.GetNthSegment(index).GetRepresentation("Closed surface").GetNumberOfPoints() > 50


def test_removing_a_run_of_a_file_leaves_nothing(opened):
    holder, run = opened
    run_scene.remove_run(run)
    left = [n.GetClassName() for n in attributes.nodes_by_class(holder.scene, "vtkMRMLNode") if n.GetSaveWithScene()]
    assert not [c for c in left if "Volume" in c or "Segment" in c or "Color" in c or "Table" in c], left


@pytest.mark.parametrize(
    "spoil, told",
    [
        (lambda p: (p / "nothing", p / "s.mrb"), "no such folder"),
        (lambda p: (p, p / "s.mrb"), "no result folder"),
        (lambda p: (make_result(p / "r"), p / "s.txt"), "ends in .mrb"),
        (lambda p: (make_result(p / "r"), p / "absent" / "s.mrb"), "no such folder"),
        (lambda p: (make_result(p / "r"), Path("/proc/s.mrb")), "cannot be written"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(tmp_path, spoil, told):
    source, output = spoil(tmp_path)
    done = command("headless", source, "--output", output)
    assert done.returncode == 2 and told in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not output.exists()


def test_picture(written, tmp_path):
    output = tmp_path / "picture.png"
    done = command("headless.render", written[1], "--output", output, "--overlay", "intrinsic")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(output))).astype(int)
    assert pixels.shape == (972, 1522, 3)
    colourful = pixels.max(axis=2) - pixels.min(axis=2) > 60
    for top, left in ((48, 928), (512, 0), (512, 464), (512, 928)):  # three slices with overlay, and the 3-D view
        assert colourful[top : top + 460, left : left + 460].mean() > 0.005
    # the legend's bar at the right, from the dark end (below) to the bright end (above)
    filled = np.flatnonzero(colourful[:, 1410])
    assert len(filled) > 500 and pixels[filled[0] + 3, 1410].sum() > pixels[filled[-1] - 3, 1410].sum() + 200
    # grey: the input and the synthetic CT come first, without the overlay
    for left in (0, 464):
        assert colourful[48:508, left : left + 460].mean() < 0.02 < (pixels[48:508, left : left + 460, 0] > 60).mean()


def test_picture_without_the_input_is_two_by_two(written, tmp_path):
    output = tmp_path / "picture.png"
    done = command("headless.render", written[0], "--output", output, "--overlay", "zscore")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert sitk.ReadImage(str(output)).GetSize() == (1058, 972)


@pytest.mark.parametrize(
    "columns, letters",
    [
        (((-1, 0, 0), (0, 1, 0)), "RLPA"),  # axial as radiologists see it
        (((-1, 0, 0), (0, 0, 1)), "RLIS"),
        (((0, -1, 0), (0, 0, 1)), "APIS"),
        (((0.9, 0.4, 0.1), (-0.4, 0.9, 0.1)), "LRPA"),  # oblique: by the nearest axis
    ],
)
def test_directions_at_the_edges(columns, letters):
    from RTUncertaintyLib.headless.render.views import directions

    matrix = vtk.vtkMatrix4x4()
    for column, axis in enumerate(columns):
        for row in range(3):
            matrix.SetElement(row, column, axis[row])
    assert "".join(directions(matrix)) == letters


def test_picture_of_an_overlay_that_is_not_there(tmp_path):
    done = command(
        "headless.render", make_result(tmp_path / "r"), "--output", tmp_path / "p.png", "--overlay", "zscore"
    )
    assert done.returncode == 2 and "has no overlay 'zscore'" in done.stderr and done.stderr.count("\n") == 1

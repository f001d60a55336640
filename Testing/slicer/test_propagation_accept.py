"""The accepted contours: one segmentation of the chosen paths."""

import numpy as np
import pytest
import slicer
import vtk
from make_propagation import STRUCTURES
from propagation_case import NAMES, Case, file_masks, ids, mask, oriented

from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.runs.propagation.accept import PATH_TAG


@pytest.fixture
def case(scene, tmp_path):
    return Case(scene, tmp_path)


def test_accepting_builds_one_clean_segmentation(scene, case):
    run = case.run
    assert run_scene.accepted_paths(run) == {}
    node = run_scene.accept_structures(run, {"Parotid_L": "segmented"})
    segmentation = node.GetSegmentation()
    assert [segmentation.GetNthSegment(i).GetName() for i in range(segmentation.GetNumberOfSegments())] == NAMES
    expected = {name: "segmented" if name == "Parotid_L" else "propagated" for name in NAMES}
    assert (
        run_scene.accepted_paths(run) == expected and node.GetAttribute("RTUncertainty.Role") == "segmentation.accepted"
    )
    for name, path in expected.items():
        assert np.array_equal(mask(node, name, case.daily), file_masks(case.folder / f"{path}.seg.nrrd")[name]), name
    assert segmentation.GetNumberOfLayers() == 2, "structures that do not overlap share a layer"
    assert segmentation.ContainsRepresentation("Closed surface") and run_scene.contour_sets(run)["accepted"] is node
    assert node.GetNodeReference("referenceImageGeometryRef") is case.daily
    color = segmentation.GetSegment(segmentation.GetSegmentIdBySegmentName("PTV70")).GetColor()
    assert np.allclose(np.array(color) * 255, STRUCTURES[-1][1], atol=0.6)


def test_corrections_by_hand_survive_a_second_accept(scene, case):
    run = case.run
    node = run_scene.accept_structures(run)
    segmentation = node.GetSegmentation()
    edited = mask(node, "Brainstem", case.daily)
    edited[:, :, :21] = False
    logic, brainstem = slicer.vtkSlicerSegmentationsModuleLogic, segmentation.GetSegmentIdBySegmentName("Brainstem")
    assert logic.SetBinaryLabelmapToSegment(oriented(edited, case.daily), node, brainstem)
    segmentation.RemoveSegment(segmentation.GetSegmentIdBySegmentName("SpinalCord"))
    assert run_scene.accept_structures(run, {"Parotid_R": "segmented"}) is node
    assert np.array_equal(mask(node, "Brainstem", case.daily), edited)
    assert np.array_equal(
        mask(node, "Parotid_R", case.daily), file_masks(case.folder / "segmented.seg.nrrd")["Parotid_R"]
    )
    assert run_scene.accepted_paths(run)["SpinalCord"] == "propagated"
    value = vtk.reference("")
    assert (
        segmentation.GetSegment(segmentation.GetSegmentIdBySegmentName("Parotid_R")).GetTag(PATH_TAG, value)
        and str(value) == "segmented"
    )


@pytest.mark.parametrize(
    "paths, words",
    [
        ({"PTV70": "segmented"}, "PTV70 has no contour 'segmented'; it has propagated"),
        ({"Liver": "propagated"}, "Liver has no contour"),
    ],
)
def test_a_path_that_there_is_not(scene, case, paths, words):
    before = ids(scene)
    with pytest.raises(ValueError, match=words):
        run_scene.accept_structures(case.run, paths)
    assert ids(scene) == before

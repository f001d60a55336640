"""The views around a run, as a reviewer meets them: the 3-D view on the result, the layout after a plot, one patient's
contours at a time, the contour that is edited on show, and no two structures of one colour.
"""

import itertools

import numpy as np
import pytest
import slicer
from make_propagation import make_propagation
from make_result import make_input, make_result
from make_review import add_review_files

from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.mrml.attributes import nodes_by_class
from RTUncertaintyLib.mrml.colors import ALIKE, told_apart
from RTUncertaintyLib.mrml.segmentation import segment_id
from RTUncertaintyLib.review import editor
from RTUncertaintyLib.review.decisions import decided
from RTUncertaintyLib.review.views.plots import volume_distributions
from RTUncertaintyLib.runs import layout
from RTUncertaintyLib.runs.review_data import ReviewData


@pytest.fixture
def run(views, tmp_path):
    return run_scene.load_result(make_result(tmp_path / "r"), views.scene, input_file=make_input(tmp_path))


def camera(scene):
    return nodes_by_class(scene, "vtkMRMLCameraNode")[0]


def test_the_3d_view_goes_to_the_result_although_an_image_was_there(views, run):
    for composite in nodes_by_class(views.scene, "vtkMRMLSliceCompositeNode"):
        composite.SetBackgroundVolumeID(run.input.GetID())  # a user has always loaded the image first
    run_scene.show_result(run)
    bounds = [0.0] * 6
    run.segmentation.GetRASBounds(bounds)
    middle = np.reshape(bounds, (3, 2)).mean(1)
    assert np.allclose(camera(views.scene).GetFocalPoint(), middle)
    away = np.linalg.norm(np.subtract(camera(views.scene).GetPosition(), middle))
    radius = np.linalg.norm(np.ptp(np.reshape(bounds, (3, 2)), axis=1)) / 2
    assert away * np.sin(np.radians(15)) == pytest.approx(radius), "a view of 30 degrees is filled"
    camera(views.scene).SetFocalPoint(1, 2, 3)
    run_scene.show_result(run, "entropy")
    assert camera(views.scene).GetFocalPoint() == (1, 2, 3), "where the user turned it afterwards, it stays"


def test_the_layout_comes_back_after_a_plot(views, run, tmp_path):
    node = views.scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    before = layout.layout_of(views.scene)
    layout.before_plot(views.scene)
    node.SetViewArrangement(node.SlicerLayoutConventionalPlotView)
    layout.before_plot(views.scene)  # a second plot
    other = run_scene.load_result(make_result(tmp_path / "other"), views.scene)
    run_scene.show_result(other)
    assert layout.layout_of(views.scene) == before
    layout.before_plot(views.scene)
    layout.set_layout(views.scene, node.SlicerLayoutOneUp3DView)
    run_scene.show_result(run)
    assert layout.layout_of(views.scene) == node.SlicerLayoutOneUp3DView, "what the user chose afterwards stays"


def test_one_patient_at_a_time(views, run, tmp_path):
    other = run_scene.load_propagation(make_propagation(tmp_path / "other"), views.scene)

    def shown():
        found = nodes_by_class(views.scene, "vtkMRMLSegmentationNode")
        return {n.GetAttribute("RTUncertainty.Run") for n in found if n.GetDisplayNode().GetVisibility()}

    run_scene.show_result(run)
    assert shown() == {run.run_id}
    run_scene.show_propagation(other)
    assert shown() == {other.run_id}
    run_scene.show_result(run)
    assert shown() == {run.run_id}


def test_a_result_is_never_shown_without_its_structures(views, run):
    display = run.segmentation.GetDisplayNode()
    display.SetAllSegmentsVisibility(False)
    run_scene.show_result(run)
    assert all(display.GetSegmentVisibility(name) for name in ("bone", "gtv"))
    display.SetSegmentVisibility("gtv", False)
    run_scene.show_result(run)
    assert not display.GetSegmentVisibility("gtv"), "the user's choice"


def test_surfaces_on_and_off(views, run):
    layout.show_3d(run, False)
    assert not layout.shown_3d(run)
    layout.show_3d(run, True)
    assert layout.shown_3d(run) and run.segmentation.GetSegmentation().ContainsRepresentation("Closed surface")


def change(node, name):
    """Take one voxel from a structure, as an editor does."""
    array = slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, segment_id(node, name))
    label = node.GetSegmentation().GetSegment(segment_id(node, name)).GetLabelValue()
    array[tuple(np.argwhere(array == label)[0])] = 0
    node.GetSegmentation().GetSegment(segment_id(node, name)).Modified()


def test_edited_is_what_differs_from_what_was_handed_over(views, tmp_path):
    run = run_scene.load_propagation(make_propagation(tmp_path / "r"), views.scene)
    accepted = run_scene.accept_structures(run)
    run_scene.show_contours(run, "accepted", False)
    editor.hand_over(run, accepted, "Parotid_L", "a corner", "A. B.")
    on_show = [key for key in run_scene.contour_sets(run) if run_scene.contours_visible(run, key)]
    assert on_show == ["accepted"], "what is edited is what is seen"
    assert run_scene.settle_edits(run) == [] and decided(run) == 0, "looked at, and left as it is"
    change(accepted, "Parotid_L")
    assert run_scene.settle_edits(run) == ["Parotid_L"] and run_scene.settle_edits(run) == []
    decision = ReviewData.of_run(run).structure("Parotid_L").decision
    assert (decision.state, decision.comment, decision.reviewer) == ("edited", "a corner", "A. B.")


def test_two_structures_never_share_a_colour():
    given = [(0.9, 0.8, 0.2)] * 5 + [(0.91, 0.8, 0.2), (0.1, 0.2, 0.7), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)]
    found = told_apart(given)
    assert found[0] == given[0] and found[6] == given[6] and found[7] == given[7], "the first of a kind keeps its own"
    apart = [np.linalg.norm(np.subtract(a, b)) for a, b in itertools.combinations(found, 2)]
    assert min(apart) >= ALIKE and np.min(found) >= 0 and np.max(found) <= 1


def test_a_plot_hides_no_curve(views, tmp_path):
    run = run_scene.load_result(add_review_files(make_result(tmp_path / "r")), views.scene)
    chart = volume_distributions(run)
    assert not chart.GetLegendVisibility()
    series = [chart.GetNthPlotSeriesNode(i) for i in range(chart.GetNumberOfPlotSeriesNodes())]
    colors = {}
    for node in series:
        colors.setdefault(node.GetAttribute("RTUncertainty.Structure"), set()).add(tuple(node.GetColor()))
    assert set(colors) == {"bone", "gtv"} and all(len(c) == 1 for c in colors.values()), "a bar belongs to its curve"
    assert len(set.union(*colors.values())) == 2

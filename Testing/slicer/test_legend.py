"""The colour legend in Slicer's own displayable manager: visible in the views whenever its map is."""

import pytest
import slicer
from make_propagation import make_propagation
from make_result import make_input, make_result

from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.headless.render import views as render
from RTUncertaintyLib.mrml.attributes import nodes_by_class

MANAGER = "vtkMRMLColorLegendDisplayableManager"


@pytest.fixture
def legends(views):
    """`legends(run)`: the overlays whose legend is drawn in the red view. The manager is there before the nodes are, as
    in the application.
    """
    window, renderer = render._window((400, 400))
    group = render._managers(slicer.vtkMRMLSliceViewDisplayableManagerFactory, (MANAGER,), views, renderer)
    group.SetMRMLDisplayableNode(views.slice_logics["Red"].GetSliceNode())
    manager = group.GetDisplayableManagerByClassName(MANAGER)

    def drawn(run):
        actors = {key: manager.GetColorLegendActor(run.legend(key)) for key in run.overlays}
        return [key for key, actor in actors.items() if actor is not None and actor.GetVisibility()]

    yield drawn
    group.SetMRMLDisplayableNode(None)
    window.Finalize()


def test_after_a_run_and_after_a_change_of_the_map(views, legends, tmp_path):
    run = run_scene.load_result(make_result(tmp_path / "r"), views.scene, input_file=make_input(tmp_path))
    run_scene.show_result(run)
    assert legends(run) == ["predictive"]
    run_scene.show_overlay(run, "entropy")
    assert legends(run) == ["entropy"]
    run_scene.show_overlay(run, None)
    assert legends(run) == []


def test_of_a_propagation(views, legends, tmp_path):
    run = run_scene.load_propagation(make_propagation(tmp_path / "r"), views.scene)
    run_scene.show_propagation(run)
    assert legends(run) == []
    run_scene.show_blend(run, 2.0, "jacobian")
    assert legends(run) == ["jacobian"]


def test_after_another_module_took_the_map(views, legends, tmp_path):
    """The Segment Editor and a scene file change the foreground by code, which the manager does not follow."""
    run = run_scene.load_result(make_result(tmp_path / "r"), views.scene)
    run_scene.show_result(run, "entropy")
    for composite in nodes_by_class(views.scene, "vtkMRMLSliceCompositeNode"):
        composite.SetForegroundVolumeID(None)
    run.legend("entropy").Modified()
    assert legends(run) == [] and run_scene.chosen_overlay(run) == "entropy"
    run_scene.show_overlay(run, run_scene.chosen_overlay(run))
    assert legends(run) == ["entropy"]


def test_no_larger_than_slicers_own(scene, tmp_path):
    run = run_scene.load_result(make_result(tmp_path / "r"))
    own, slicers = run.legend("predictive"), slicer.vtkMRMLColorLegendDisplayNode()
    assert all(a <= b for a, b in zip(own.GetSize(), slicers.GetSize()))
    assert own.GetLabelTextProperty().GetFontSize() <= slicers.GetLabelTextProperty().GetFontSize()

"""Background, overlay, legend and threshold in the slice views."""

import numpy as np
import pytest
from make_result import make_input, make_result

from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.mrml import colors
from RTUncertaintyLib.mrml.attributes import nodes_by_class


def visible_legends(scene) -> list:
    return [n.GetTitleText() for n in nodes_by_class(scene, "vtkMRMLColorLegendDisplayNode") if n.GetVisibility()]


def composites(scene) -> list:
    return nodes_by_class(scene, "vtkMRMLSliceCompositeNode")


def test_show_result(views, tmp_path):
    run = run_scene.load_result(make_result(tmp_path / "r"), views.scene, input_file=make_input(tmp_path))
    run_scene.show_result(run)
    assert len(composites(views.scene)) == 3
    for composite in composites(views.scene):
        assert composite.GetBackgroundVolumeID() == run.synct.GetID()
        assert composite.GetForegroundVolumeID() == run.overlays["predictive"].GetID()
        assert composite.GetForegroundOpacity() == pytest.approx(0.6) and composite.GetLinkedControl()
    assert visible_legends(views.scene) == ["Predictive SD (HU)"]
    run_scene.show_result(run, "entropy", background="input")
    assert {c.GetBackgroundVolumeID() for c in composites(views.scene)} == {run.input.GetID()}


def test_without_views_nothing_breaks(scene, tmp_path):
    run = run_scene.load_result(make_result(tmp_path / "r"))
    run_scene.show_result(run)
    assert run_scene.shown_overlay(run) == "predictive"


def test_one_legend_at_a_time(views, tmp_path):
    folder = make_result(tmp_path / "r", reference=True)
    first, second = run_scene.load_result(folder, views.scene), run_scene.load_result(folder, views.scene)
    for run in (first, second):
        for key in run.overlays:
            run_scene.show_overlay(run, key)
            assert len(visible_legends(views.scene)) == 1 and run_scene.shown_overlay(run) == key
            assert {c.GetForegroundVolumeID() for c in composites(views.scene)} == {run.overlays[key].GetID()}
    assert run_scene.shown_overlay(first) is None
    run_scene.show_overlay(second, None)
    assert not visible_legends(views.scene) and {c.GetForegroundVolumeID() for c in composites(views.scene)} == {None}


def test_an_overlay_that_is_not_there(views, tmp_path):
    run = run_scene.load_result(make_result(tmp_path / "r"), views.scene)
    with pytest.raises(KeyError):
        run_scene.show_overlay(run, "zscore")


def test_threshold_of_a_standard_deviation(views, tmp_path):
    run = run_scene.load_result(make_result(tmp_path / "r"), views.scene)
    run_scene.set_overlay_threshold(run, "intrinsic", 33.0)
    assert run.overlays["intrinsic"].GetDisplayNode().GetLowerThreshold() == 33.0
    assert run_scene.overlay_threshold(run, "intrinsic") == 33.0


def test_threshold_of_a_signed_map_hides_its_middle(views, tmp_path):
    run = run_scene.load_result(make_result(tmp_path / "r", reference=True), views.scene)
    for lower in (2.0, 4.0, 0.0):
        run_scene.set_overlay_threshold(run, "zscore", lower)
        color, rgba = run.overlays["zscore"].GetDisplayNode().GetColorNode(), [0.0] * 4
        for value in np.linspace(-4.9, 4.9, 23):
            color.GetLookupTable().GetColor(0.0, [0.0] * 3)
            color.GetColor(round((value + 5.0) / 10.0 * 255), rgba)
            assert (rgba[3] == 0.0) == (abs(value) < lower), (value, lower)


def test_removing_a_shown_run_brings_the_input_back(views, tmp_path):
    mr = views.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "mr")
    run = run_scene.load_result(make_result(tmp_path / "r"), views.scene, input_node=mr)
    run_scene.show_result(run)
    run_scene.remove_run(run)
    assert {c.GetBackgroundVolumeID() for c in composites(views.scene)} == {mr.GetID()}
    assert {c.GetForegroundVolumeID() for c in composites(views.scene)} == {None}


@pytest.mark.parametrize("name", ["standard_deviation", "information"])
def test_palettes_get_brighter(name):
    table = colors.palette(name)
    luminance = table[:, :3] ** 2.2 @ [0.2126, 0.7152, 0.0722]
    assert table.shape == (256, 4) and np.all(np.diff(luminance) > 0)


def test_signed_palette_is_brightest_in_the_middle():
    luminance = colors.palette("signed")[:, :3] ** 2.2 @ [0.2126, 0.7152, 0.0722]
    assert 120 < int(np.argmax(luminance)) < 136 and luminance[0] < 0.15 and luminance[-1] < 0.15

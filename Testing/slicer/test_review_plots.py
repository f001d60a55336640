"""Plots of a run: numbers as in its maps and tables, nodes that are the run's, are replaced, and go with it."""

import math
from types import SimpleNamespace

import make_propagation
import make_result
import make_review
import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import slicer.util
from vtkmodules.util.numpy_support import vtk_to_numpy

from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.mrml.attributes import RUN_ATTRIBUTE, nodes_by_class
from RTUncertaintyLib.review.views import plots


def curves(chart) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name of a series -> (x, y) of its points, through the columns that the series names."""
    found = {}
    for index in range(chart.GetNumberOfPlotSeriesNodes()):
        series = chart.GetNthPlotSeriesNode(index)
        table = series.GetTableNode().GetTable()
        x, y = (vtk_to_numpy(table.GetColumnByName(c)) for c in (series.GetXColumnName(), series.GetYColumnName()))
        found[series.GetName()] = (x, y)
    return found


def count(scene) -> dict[str, int]:
    return {
        c: len(nodes_by_class(scene, c))
        for c in ("vtkMRMLTableNode", "vtkMRMLPlotSeriesNode", "vtkMRMLPlotChartNode", "vtkMRMLNode")
    }


@pytest.fixture
def run(scene, tmp_path):
    folder = make_result.make_result(tmp_path / "r", reference=True, direction=np.eye(3))
    return run_scene.load_result(make_review.add_review_files(folder), scene)


def test_distributions_are_those_of_the_table_with_the_interval_marked(run):
    chart = plots.volume_distributions(run, level=0.8)
    found = curves(chart)
    assert set(found) == {f"{n}{more}" for n in ("bone", "gtv") for more in ("", ": 80% interval, calibrated")}
    volume, percentile = found["gtv"]
    table = run.tables["volume_distribution"].GetTable()
    rows = [r for r in range(table.GetNumberOfRows()) if table.GetValueByName(r, "structure").ToString() == "gtv"]
    assert volume == pytest.approx([table.GetValueByName(r, "calibrated_ml").ToDouble() for r in rows])
    assert percentile == pytest.approx(make_review.PERCENTILES)
    interval = found["gtv: 80% interval, calibrated"]
    assert interval[1][0] == interval[1][1] != found["bone: 80% interval, calibrated"][1][0]
    # the bar ends where the distribution has its 10th and 90th percentile
    assert interval[0] == pytest.approx(np.interp([10, 90], percentile, volume), abs=1e-3)
    assert set(curves(plots.volume_distributions(run, ["bone"], 0.8))) == {"bone", "bone: 80% interval, calibrated"}


def test_a_distribution_that_was_not_calibrated_says_so_and_has_no_interval(scene, tmp_path):
    folder = make_review.add_review_files(make_result.make_result(tmp_path / "r"), calibrated=False)
    chart = plots.volume_distributions(run_scene.load_result(folder, scene))
    assert set(curves(chart)) == {"bone, uncalibrated", "gtv, uncalibrated"}


def test_a_result_without_distributions_has_no_such_plot(scene, tmp_path):
    run = run_scene.load_result(make_result.make_result(tmp_path / "r"), scene)
    before = count(scene)
    assert plots.volume_distributions(run) is None and plots.zscore_histogram(run) is None
    assert plots.error_against_sd(run) is None and count(scene) == before


def test_the_course_along_the_slices_is_that_of_the_map_at_its_positions(run):
    found = curves(plots.along_slices(run, "predictive"))
    values, inside = (slicer.util.arrayFromVolume(n) for n in (run.overlays["predictive"], run.overlays["predictive"]))
    inside = inside > 0
    position, mean = found["mean in the body"]
    assert mean == pytest.approx([values[k][inside[k]].mean() for k in range(len(values))], rel=1e-5)
    assert found["95th percentile"][1] == pytest.approx(
        [np.percentile(values[k][inside[k]], 95) for k in range(len(values))], rel=1e-5
    )
    # superior is up in RAS as in LPS
    assert position == pytest.approx(make_result.ORIGIN[2] + make_result.SPACING[2] * np.arange(len(values)))


def test_the_course_in_a_structure_leaves_slices_without_it_out(run):
    position, mean = curves(plots.along_slices(run, "entropy", "gtv"))["mean in gtv"]
    label, values = make_result.labels() == 2, slicer.util.arrayFromVolume(run.overlays["entropy"])
    there = np.flatnonzero(label.any((1, 2)))
    assert position == pytest.approx(make_result.ORIGIN[2] + make_result.SPACING[2] * there)
    assert mean == pytest.approx([values[k][label[k]].mean() for k in there], rel=1e-5)


def test_slices_are_axial_whatever_the_storage(scene, tmp_path):
    folder = make_result.make_result(tmp_path / "r", direction=np.eye(3))
    for file in folder.glob("*.nii.gz"):
        sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(file)), "PIR"), str(file))
    run = run_scene.load_result(folder, scene)
    position, mean = curves(plots.along_slices(run, "predictive"))["mean in the body"]
    assert len(position) == make_result.SIZE[2] and abs(position[1] - position[0]) == pytest.approx(
        make_result.SPACING[2]
    )
    assert sorted(position) == pytest.approx(
        make_result.ORIGIN[2] + make_result.SPACING[2] * np.arange(make_result.SIZE[2])
    )


def test_zscores_are_a_density_beside_the_unit_gaussian(run):
    chart = plots.zscore_histogram(run)
    found = curves(chart)
    x, density = found["this image"]
    gauss = found["perfect error bars, N(0, 1)"]
    assert np.trapezoid(density, x) == pytest.approx(1, abs=1e-6)
    assert np.trapezoid(gauss[1], gauss[0]) == pytest.approx(1, abs=1e-4) and gauss[1].max() == pytest.approx(
        1 / math.sqrt(2 * math.pi)
    )
    # the z-scores of the made result are drawn from N(0, 1)
    assert np.abs(np.interp(x + 0.05, *gauss) - density).max() < 0.05
    assert "SD 1.0" in chart.GetTitle() or "SD 0.9" in chart.GetTitle()


def test_errors_lie_on_the_line_when_error_bars_are_right(run):
    found = curves(plots.error_against_sd(run))
    predicted, error = found["voxels with about this SD"]
    assert (np.diff(predicted) > 0).all() and len(predicted) == plots.BINS
    assert error == pytest.approx(predicted, rel=0.15)  # error = z · SD with z from N(0, 1)
    line = found["error bars that are right"]
    assert line[0] == pytest.approx(line[1])


def test_plots_are_the_runs_are_replaced_and_go_with_it(scene, tmp_path):
    folder = make_review.add_review_files(make_result.make_result(tmp_path / "r", reference=True))
    empty = count(scene)
    run = run_scene.load_result(folder, scene)
    made = [
        plots.volume_distributions(run),
        plots.along_slices(run, "entropy"),
        plots.along_slices(run, "predictive"),
        plots.zscore_histogram(run),
        plots.error_against_sd(run),
    ]
    once = count(scene)
    assert once["vtkMRMLPlotChartNode"] == 5
    again = [
        plots.volume_distributions(run),
        plots.along_slices(run, "entropy"),
        plots.along_slices(run, "predictive"),
        plots.zscore_histogram(run),
        plots.error_against_sd(run),
    ]
    assert [c.GetID() for c in made] == [c.GetID() for c in again] and count(scene) == once
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    for chart in again:
        for node in [chart] + [chart.GetNthPlotSeriesNode(0), chart.GetNthPlotSeriesNode(0).GetTableNode()]:
            assert node.GetAttribute(RUN_ATTRIBUTE) == run.run_id
            assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == run.folder_item
    # fewer structures: the series of the others go
    plots.volume_distributions(run, ["gtv"])
    assert count(scene)["vtkMRMLPlotSeriesNode"] == once["vtkMRMLPlotSeriesNode"] - 2
    assert set(run_scene.run_nodes(run.run_id, scene).tables) == set(
        run.tables
    )  # a plot's table is no table of the result
    run_scene.remove_run(run)
    assert {c: n for c, n in count(scene).items() if c != "vtkMRMLNode"} == {
        c: n for c, n in empty.items() if c != "vtkMRMLNode"
    }


def test_a_propagation_has_its_plots_too(scene, tmp_path):
    folder = make_review.add_review_files(make_propagation.make_propagation(tmp_path / "r"))
    run = run_scene.load_propagation(folder, scene)
    found = curves(plots.along_slices(run, "jacobian"))
    assert set(found) == {"mean in the body", "mean distance from 1"}
    position, spread = curves(plots.along_slices(run, "displacement_sd"))["mean in the body"]
    assert spread == pytest.approx(
        0.3 + 0.15 * (position - make_propagation.ORIGIN[2]) / make_propagation.SPACING[2], abs=1e-5
    )
    assert "Parotid_L" in curves(plots.volume_distributions(run)) and plots.zscore_histogram(run) is None


def test_a_saved_scene_keeps_its_plots(views, tmp_path):
    from RTUncertaintyLib.headless import scene as headless

    folder = make_review.add_review_files(make_result.make_result(tmp_path / "r", reference=True))
    run = run_scene.load_result(folder, views.scene)
    wanted = curves(plots.volume_distributions(run))
    assert views.scene.WriteToMRB(str(tmp_path / "s.mrb"))
    other = headless.new_scene()
    headless.open_scene(other, tmp_path / "s.mrb")
    again = run_scene.run_nodes(run.run_id, other.scene)
    chart = nodes_by_class(other.scene, "vtkMRMLPlotChartNode")[0]
    found = curves(chart)
    assert set(found) == set(wanted) and all(found[k][0] == pytest.approx(wanted[k][0], rel=1e-4) for k in wanted)
    assert plots.volume_distributions(again).GetID() == chart.GetID()


def test_showing_needs_no_application(run, monkeypatch):
    """Without the application's plot views nothing happens; with them the chart is shown there."""
    chart, shown = plots.zscore_histogram(run), []
    before = chart.GetMTime(), len(nodes_by_class(run.scene, "vtkMRMLNode"))
    plots.show_chart(chart)
    assert (chart.GetMTime(), len(nodes_by_class(run.scene, "vtkMRMLNode"))) == before
    logic = SimpleNamespace(ShowChartInLayout=shown.append)
    monkeypatch.setattr(slicer, "modules", SimpleNamespace(plots=SimpleNamespace(logic=lambda: logic)), raising=False)
    monkeypatch.setattr(slicer, "mrmlScene", run.scene, raising=False)
    plots.show_chart(chart)
    assert shown == [chart]
    monkeypatch.setattr(slicer, "mrmlScene", None)  # another scene than the application's has no views
    plots.show_chart(chart)
    assert shown == [chart]

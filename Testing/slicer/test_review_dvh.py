"""DVHs of a run in the scene: computed by the backend, as a chart and a table that are the run's, saved, replaced,
removed with it.
"""

import csv
import json

import make_propagation
import make_result
import make_review
import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import slicer.util
import vtk
from make_dose_volume import add_dose
from vtkmodules.util.numpy_support import vtk_to_numpy

from rtuncertainty.cli import command_line
from rtuncertainty.report import build
from rtuncertainty.results import tables
from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.mrml.attributes import RUN_ATTRIBUTE, nodes_by_class
from RTUncertaintyLib.mrml.volume_export import UnusableVolume
from RTUncertaintyLib.review import run_files
from RTUncertaintyLib.review.dose import dose_input
from RTUncertaintyLib.review.logic import ReviewLogic
from RTUncertaintyLib.review.report import content
from RTUncertaintyLib.runs.review_data import table_rows_of


def result(folder):
    """A result whose probabilities fall off around the structures as a network's do."""
    make_result.make_result(folder, reference=True, direction=np.eye(3))
    for label, name in ((1, "bone"), (2, "gtv")):
        file = str(folder / f"probability_{name}.nii.gz")
        image = sitk.ReadImage(file)
        hard = sitk.GetImageFromArray((make_result.labels() == label).astype(np.float32))
        hard.CopyInformation(image)
        sitk.WriteImage(sitk.Clamp(sitk.SmoothingRecursiveGaussian(hard, 2.0), sitk.sitkFloat32, 0, 1), file)
    make_review.add_review_files(folder)
    # calibrated volumes vary half as much as those of the network's contours
    with open(folder / "volume_distribution.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    middle = {r["structure"]: float(r["volume_ml"]) for r in rows if float(r["percentile"]) == 50}
    for r in rows:
        r["calibrated_ml"] = middle[r["structure"]] + 0.5 * (float(r["volume_ml"]) - middle[r["structure"]])
    columns = tables.COLUMNS["volume_distribution"]
    (folder / "volume_distribution.csv").write_text(tables.text(columns, rows), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def in_this_process(request, monkeypatch):
    """The backend's command line without a process of its own, but where a test is about that."""
    if "process" not in request.node.name:

        def waited(self, workspace, proof, progress):
            pytest.importorskip("torch")  # it computes DVHs
            assert command_line.main([*workspace.arguments, "--progress", "none"]) == 0
            return workspace.output

        monkeypatch.setattr(ReviewLogic, "_waited", waited)


@pytest.fixture
def run(scene, tmp_path):
    return run_scene.load_result(result(tmp_path / "r"), scene)


def test_in_a_process_of_its_own(run, scene):
    pytest.importorskip("torch")
    progress = []
    found = ReviewLogic().dvh(run, add_dose(scene, run.synct), progress=progress.append)
    assert {"DVH of gtv", "Band of gtv"} <= {e.get("message") for e in progress} and found.rows[
        1
    ].calibrated == "volume"


def row(found, name):
    return next(r for r in found.rows if r.structure == name)


def test_chart_table_and_report(run, scene):
    dose = add_dose(scene, run.synct)
    found = ReviewLogic().dvh(run, dose, prescription=60)
    assert [r.structure for r in found.rows] == ["bone", "gtv"] and found.dose == "dose"
    gtv = row(found, "gtv")
    # a linear dose: the mean is the dose in the centre of mass, and the volume that of the mask
    mask = make_result.labels() == 2
    node, to_ras = run.synct, vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(to_ras)
    centre = to_ras.MultiplyPoint((*np.argwhere(mask).mean(0)[::-1], 1.0))
    lps = -np.array(centre[:2])
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    middle = -(bounds[0] + bounds[1]) / 2
    offset = dose_centre(dose)[0] - middle
    assert abs(offset) < 3
    assert gtv.numbers["mean_gy"] == pytest.approx(30 + 0.5 * (lps[0] - middle), abs=0.1)
    assert gtv.numbers["volume_ml"] == pytest.approx(mask.sum() * np.prod(make_result.SPACING) / 1000, rel=1e-3)
    assert gtv.numbers["mean_rx_percent"] == pytest.approx(gtv.numbers["mean_gy"] / 0.6, rel=1e-3)
    # calibrated volumes: the band's contours have them at 5 and 95 %
    review = run_scene_data(run).structure("gtv")
    wanted = np.interp(
        [5, 95], [p.percentile for p in review.distribution], [p.calibrated_ml for p in review.distribution]
    )
    assert (
        gtv.calibrated == "volume"
        and gtv.intervals["volume_ml"] == pytest.approx(tuple(wanted), rel=1e-3)
        and gtv.level == 0.9
    )
    low, high = gtv.intervals["d98_gy"]
    assert low < gtv.numbers["d98_gy"] < high or low == pytest.approx(high)
    value, ends = found.volume_at(gtv, gtv.numbers["d50_gy"])
    assert value == pytest.approx(50, abs=3) and ends[0] <= ends[1]
    chart = found.chart
    assert (chart.GetTitle(), chart.GetXAxisTitle(), chart.GetYAxisTitle()) == (
        "DVH: dose (90% band, calibrated volumes)",
        "Dose (Gy)",
        "Volume (%)",
    )
    series = [chart.GetNthPlotSeriesNode(i) for i in range(chart.GetNumberOfPlotSeriesNodes())]
    assert [s.GetName() for s in series] == ["bone", "bone: band", "gtv", "gtv: band"]
    assert series[2].GetColor() == series[3].GetColor() and series[3].GetLineStyle() == series[3].LineStyleDash
    assert series[2].GetLineWidth() > series[3].GetLineWidth() and series[0].GetTableNode() is series[2].GetTableNode()
    # the structure's own colour, or as dark as white paper needs it
    own = run_scene_data(run).structure("gtv").color
    assert np.argmax(series[2].GetColor()) == np.argmax(own)
    result = content.result_of(run)
    assert {c["name"] for c in result.dvh} == {"bone", "gtv"} and result.dvh[0]["lower"] is not None
    assert "Dose-volume histograms" in build.page(result)


def dose_centre(node):
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    return [-(bounds[0] + bounds[1]) / 2]


def run_scene_data(run):
    return ReviewLogic().data(run)


def test_replaced_chosen_saved_and_removed(views, tmp_path):
    from RTUncertaintyLib.headless import scene as headless

    scene = views.scene
    slicer.mrmlScene, before = scene, getattr(slicer, "mrmlScene", None)
    try:
        run = run_scene.load_result(result(tmp_path / "r"), scene)
        dose = add_dose(scene, run.synct)
        kinds = ("vtkMRMLTableNode", "vtkMRMLPlotSeriesNode", "vtkMRMLPlotChartNode")
        empty = {k: len(nodes_by_class(scene, k)) for k in kinds}
        first = ReviewLogic().dvh(run, dose)
        once = {k: len(nodes_by_class(scene, k)) for k in kinds}
        assert (
            once["vtkMRMLPlotChartNode"] == empty["vtkMRMLPlotChartNode"] + 1
            and once["vtkMRMLTableNode"] == empty["vtkMRMLTableNode"] + 3
        )
        again = ReviewLogic().dvh(run, dose)
        assert {k: len(nodes_by_class(scene, k)) for k in kinds} == once and again.chart is first.chart
        run_scene.show_in_chart(run, ["gtv"])
        assert run_scene.read_dvh(run).shown == ("gtv",) and len(run_scene.read_dvh(run).rows) == 2
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        for node in (again.chart, run.tables["dvh"], again.chart.GetNthPlotSeriesNode(0)):
            assert (
                node.GetAttribute(RUN_ATTRIBUTE) == run.run_id
                and hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == run.folder_item
            )
        assert scene.WriteToMRB(str(tmp_path / "s.mrb"))
        other = headless.new_scene()
        headless.open_scene(other, tmp_path / "s.mrb")
        found = run_scene.read_dvh(run_scene.run_nodes(run.run_id, other.scene))
        assert found.shown == ("gtv",) and found.dose == "dose" and found.axis == pytest.approx(again.axis)
        assert row(found, "gtv").numbers == pytest.approx(row(again, "gtv").numbers) and row(
            found, "gtv"
        ).lower == pytest.approx(row(again, "gtv").lower)
        slicer.mrmlScene = scene
        run_scene.remove_run(run)
        assert all(len(nodes_by_class(scene, k)) == 0 for k in kinds[1:]) and dose.GetScene() is scene
    finally:
        slicer.mrmlScene = before


def test_under_a_transform_and_on_any_grid(run, scene):
    """A dose moved by a transform node is where it seems to be; one under a deformation too."""
    dose = add_dose(scene, run.synct)
    still = row(ReviewLogic().dvh(run, dose), "gtv").numbers["mean_gy"]
    shift, matrix = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode"), vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, -6.0)  # 6 mm to the patient's right is +6 in L: what is here had 3 Gy less
    shift.SetMatrixTransformToParent(matrix)
    dose.SetAndObserveTransformNodeID(shift.GetID())
    assert row(ReviewLogic().dvh(run, dose), "gtv").numbers["mean_gy"] == pytest.approx(still - 3, abs=0.05)
    bounds, grid = [0.0] * 6, vtk.vtkImageData()
    dose.GetSliceBounds(bounds, None)
    field = scene.AddNewNodeByClass("vtkMRMLGridTransformNode")
    moved = slicer.vtkOrientedGridTransform()
    grid.SetOrigin(*(b - 40 for b in bounds[::2]))
    grid.SetSpacing(20, 20, 20)
    grid.SetDimensions(*(int((b - a + 80) / 20) + 1 for a, b in zip(bounds[::2], bounds[1::2])))
    grid.AllocateScalars(vtk.VTK_DOUBLE, 3)
    vtk_to_numpy(grid.GetPointData().GetScalars())[:] = (-6.0, 0.0, 0.0)
    moved.SetDisplacementGridData(grid)
    field.SetAndObserveTransformToParent(moved)
    dose.SetAndObserveTransformNodeID(field.GetID())
    assert row(ReviewLogic().dvh(run, dose), "gtv").numbers["mean_gy"] == pytest.approx(still - 3, abs=0.1)
    assert dose.GetParentTransformNode() is field


def test_a_result_without_nested_contours_has_plain_curves(scene, tmp_path):
    folder = make_result.make_result(tmp_path / "r")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    summary["files"]["probabilities"] = {}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    run = run_scene.load_result(folder, scene)
    found = ReviewLogic().dvh(run, add_dose(scene, run.synct))
    assert all(
        r.calibrated == "" and r.intervals == {} and r.lower is None and r.volume is not None for r in found.rows
    )
    assert found.chart.GetNumberOfPlotSeriesNodes() == 2


def test_probabilities_alone_give_uncalibrated_bands(scene, tmp_path):
    folder = result(tmp_path / "r")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    summary["files"] = {
        k: v
        for k, v in summary["files"].items()
        if k not in ("inside", "volume_distribution", "volume_intervals", "quality")
    }
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    run = run_scene.load_result(folder, scene)
    found = ReviewLogic().dvh(run, add_dose(scene, run.synct))
    assert {r.calibrated for r in found.rows} == {"no"}
    assert found.chart.GetTitle() == "DVH: dose (90% band, not calibrated)"


def test_a_propagation_takes_the_accepted_contours(scene, tmp_path):
    folder = make_review.add_review_files(make_propagation.make_propagation(tmp_path / "r"))
    run = run_scene.load_propagation(folder, scene)
    assert {c.name for c in run_files.contours(run)} == set(run.names)
    dice = {r["structure"]: r["dice"] for r in table_rows_of(run.tables["structure_table"]) if r["dice"] == r["dice"]}
    name = min((n for n in run.names if len(run.paths(n)) > 1), key=dice.get)  # the one whose paths differ most
    dose = add_dose(scene, run.warped)
    default = run.default_path(name)
    before = row(ReviewLogic().dvh(run, dose), name)
    assert before.calibrated == "volume"
    other = next(p for p in run.paths(name) if p != default)
    run_scene.accept_structures(run, {name: other})
    after = row(ReviewLogic().dvh(run, dose), name)
    assert after.numbers != pytest.approx(before.numbers, rel=1e-4), "the two paths differ"
    assert after.calibrated == "" and "its distribution is not in the result" in after.note


def test_units_and_what_is_no_dose(run, scene):
    dose = add_dose(scene, run.synct, name="cgy", scale=100)
    assert dose_input.dose_unit(dose) == "" and not dose_input.is_marked(dose)
    assert (
        "cGy" in "".join(dose_input.UNITS)
        and "choose that unit" in dose_input.warning(dose, "Gy")
        and dose_input.warning(dose, "cGy") == ""
    )
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.CreateItem(study, dose)
    hierarchy.SetItemAttribute(study, "DicomRtImport.DoseUnitName", "CGY")
    assert dose_input.dose_unit(dose) == "cGy" and dose_input.is_marked(dose)
    found = ReviewLogic().dvh(run, dose, unit="cGy")
    assert row(found, "gtv").numbers["mean_gy"] < 60
    hierarchy.SetItemAttribute(study, "DicomRtImport.DoseUnitName", "RELATIVE")
    assert "RELATIVE" in dose_input.problem(dose, "Gy")
    other = add_dose(scene, run.synct, name="gy")
    other.SetVoxelValueUnits(coded("UCUM", "Gy", "Gy"))
    assert dose_input.dose_unit(other) == "Gy"
    for node, words in (
        (run.synct, "a CT"),
        (run.overlays["error"], "a CT"),
        (run.inside["gtv"], "label map"),
        (run.segmentation, "no volume"),
    ):
        problem = dose_input.problem(node, "Gy")
        assert words in problem and "\n" not in problem, problem
        with pytest.raises(UnusableVolume):
            ReviewLogic().dvh(run, node)
    mr = add_dose(scene, run.synct, name="mr")
    hierarchy.SetItemAttribute(hierarchy.CreateItem(study, mr), "DICOM.Modality", "MR")
    assert "an image (MR)" in dose_input.problem(mr, "Gy")
    array = slicer.util.arrayFromVolume(other)
    array[0, 0, 0] = -1
    assert "negative" in dose_input.problem(other, "Gy")
    array[:] = 3
    assert "same value" in dose_input.problem(other, "Gy")


def coded(scheme, value, meaning):
    entry = slicer.vtkCodedEntry()
    entry.SetValueSchemeMeaning(value, scheme, meaning)
    return entry

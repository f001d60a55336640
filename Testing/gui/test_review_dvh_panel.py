"""The Dose section of RTReview, clicked through: what is a dose, computing without blocking, the chart and the
table, cancelling.
"""

import json

import pytest
import slicer
from gui_support.review import folders, opened, review  # noqa: F401
from make_dose_volume import add_dose
from standins import process_events

from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.mrml.attributes import nodes_by_class


class TorchIsThere:
    def installed(self):
        return True


@pytest.fixture
def dosed(opened, command, backend):
    """`dosed("new")`: RTReview with a result, a dose in the scene and the fake backend."""

    def start(name="new"):
        widget = opened(name)
        widget.logic._command, widget.panel.dvh.torch = command, TorchIsThere()
        widget.ui.doseCollapsibleButton.collapsed = False
        nodes = widget.panel.nodes
        widget.dose = add_dose(slicer.mrmlScene, getattr(nodes, "synct", None) or nodes.warped)
        return widget

    return start


def compute(widget, seconds=40):
    widget.ui.dvhButton.click()
    assert process_events(lambda: not widget.panel.dvh.job.running, seconds), widget.ui.dvhLabel.text
    return widget.ui.dvhLabel.text


def cells(widget, row):
    table = widget.ui.dvhTable
    return [table.item(row, c).text() for c in range(table.columnCount)]


def test_nothing_chosen(review):
    ui = review.ui
    assert not ui.dvhButton.enabled and ui.dvhButton.toolTip == "There is no result on show."
    assert not ui.dvhChartButton.enabled and not ui.dvhTable.visible and not ui.dvhCancelButton.visible
    assert [ui.doseUnitComboBox.itemText(i) for i in range(ui.doseUnitComboBox.count)] == ["Gy", "cGy"]


def test_a_ct_is_no_dose(dosed):
    widget = dosed()
    ui = widget.ui
    assert ui.dvhButton.toolTip == "Choose a dose." and not ui.dvhButton.enabled
    ui.doseSelector.setCurrentNode(widget.panel.nodes.synct)
    assert (
        "is a CT, no dose" in ui.dvhLabel.text and ui.dvhLabel.text == ui.dvhButton.toolTip and not ui.dvhButton.enabled
    )
    ui.doseSelector.setCurrentNode(widget.dose)
    assert ui.dvhLabel.text == "" and ui.dvhButton.enabled and ui.doseUnitComboBox.enabled


def test_the_unit_is_the_doses_own_where_it_has_one(dosed):
    widget = dosed()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(slicer.mrmlScene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.CreateItem(study, widget.dose)
    hierarchy.SetItemAttribute(study, "DicomRtImport.DoseUnitName", "CGY")
    widget.exit()
    widget.enter()  # the only volume that says that it is a dose is chosen by itself
    assert widget.ui.doseSelector.currentNode() is widget.dose and widget.panel.dvh.unit() == "cGy"
    assert widget.ui.doseUnitComboBox.currentText == "cGy" and not widget.ui.doseUnitComboBox.enabled


def test_compute_table_and_chart(dosed, tmp_path):
    widget = dosed()
    ui = widget.ui
    ui.doseSelector.setCurrentNode(widget.dose)
    ui.prescriptionSpinBox.value = 60
    text = compute(widget)
    assert text == "Done. The bands of gtv are not calibrated." and "fdf0c8" in ui.dvhLabel.styleSheet
    arguments = json.loads((tmp_path / "arguments.json").read_text(encoding="utf-8"))
    assert arguments[1] == "dvh" and "--bands" in arguments and arguments[arguments.index("--prescription") + 1] == "60"
    assert (
        arguments[arguments.index("--dose-unit") + 1] == "Gy"
        and "dose" not in arguments[arguments.index("--structures") + 1].split("/")[-1]
    )
    assert cells(widget, 0) == ["bone", "yes", *["30.0\n29.0–31.0"] * 5, "60\n55–65", "20\n15–25"]
    assert cells(widget, 1)[:3] == ["gtv", "no", "31.0\n30.0–32.0"] and ui.dvhDoseLabel.text.startswith("In dose;")
    assert ui.dvhTable.horizontalHeaderItem(7).text() == "V20 Gy\n%"
    ui.dvhDosesEdit.text = "10 30 50"
    ui.dvhDosesEdit.editingFinished.emit()
    assert cells(widget, 0)[7:] == ["80\n75–85", "40\n35–45", "0.0\n0.0–5.0"]
    ui.dvhDosesEdit.text = "ten"
    ui.dvhDosesEdit.editingFinished.emit()
    assert "with commas between" in ui.dvhLabel.text and ui.dvhTable.columnCount == 7
    # a tick takes a structure out of the chart and back
    import qt

    chart = run_scene.read_dvh(widget.panel.nodes).chart
    assert chart.GetNumberOfPlotSeriesNodes() == 4 and ui.dvhChartButton.enabled
    assert chart.GetNthPlotSeriesNode(3).GetName() == "gtv: 90% band, not calibrated", (
        "bands of several kinds are told apart"
    )
    ui.dvhTable.item(0, 0).setCheckState(qt.Qt.Unchecked)
    assert chart.GetNumberOfPlotSeriesNodes() == 2 and run_scene.read_dvh(widget.panel.nodes).shown == ("gtv",)
    ui.dvhTable.item(0, 0).setCheckState(qt.Qt.Checked)
    assert chart.GetNumberOfPlotSeriesNodes() == 4
    # the module closed and opened again, then the run removed
    widget.exit()
    widget.enter()
    assert cells(widget, 0)[0] == "bone"
    ui.removeRunButton.click()
    assert (
        not ui.dvhTable.visible
        and not nodes_by_class(slicer.mrmlScene, "vtkMRMLPlotChartNode")
        and widget.dose.GetScene() is not None
    )
    assert not list((tmp_path.parent).glob("RTReview-*"))


def test_every_note_of_the_backend_is_shown(dosed):
    widget = dosed()
    widget.ui.doseSelector.setCurrentNode(widget.dose)
    widget.ui.dvhButton.click()
    widget.panel.dvh.job.noted("The planes of a -- b are not parallel.")
    assert process_events(lambda: not widget.panel.dvh.job.running, 40)
    assert "The planes of a -- b are not parallel." in widget.ui.dvhLabel.text


def test_without_nested_contours(dosed, folders, tmp_path):
    widget = dosed("old")
    for node in list(widget.panel.nodes.probabilities.values()):
        slicer.mrmlScene.RemoveNode(node)
    widget.ui.doseSelector.setCurrentNode(widget.dose)
    assert "curves without bands" in compute(widget)
    assert "--bands" not in json.loads((tmp_path / "arguments.json").read_text(encoding="utf-8"))
    assert (
        cells(widget, 0)[:3] == ["bone", "–", "30.0"]
        and "neither samples nor probabilities" in widget.ui.dvhTable.item(0, 0).toolTip()
    )


@pytest.mark.parametrize(
    "behaviour, words, kind",
    [
        ("bad_input", "replace them first", "f8d9d9"),
        ("segfault", "crashed", "f8d9d9"),
        ("no_summary", "without results", "f8d9d9"),
    ],
)
def test_failures_are_told(dosed, backend, behaviour, words, kind):
    widget = dosed()
    widget.ui.doseSelector.setCurrentNode(widget.dose)
    backend(behaviour)
    assert words in compute(widget) and kind in widget.ui.dvhLabel.styleSheet
    assert run_scene.read_dvh(widget.panel.nodes) is None and widget.ui.dvhButton.enabled


def test_cancel_and_going_away(dosed, backend):
    widget = dosed()
    ui, pids = widget.ui, backend("slow")
    ui.doseSelector.setCurrentNode(widget.dose)
    ui.dvhButton.click()
    assert process_events(lambda: pids.exists(), 30) and widget.panel.dvh.job.running
    assert ui.dvhCancelButton.visible and not ui.dvhButton.enabled and not ui.doseSelector.enabled
    ui.dvhCancelButton.click()
    assert process_events(lambda: not widget.panel.dvh.job.running, 20) and ui.dvhLabel.text.startswith("Cancelled")
    assert ui.dvhButton.enabled and run_scene.read_dvh(widget.panel.nodes) is None
    pids.unlink()
    ui.dvhButton.click()
    assert process_events(lambda: pids.exists(), 30)
    ui.removeRunButton.click()  # its result has nowhere to go
    assert not widget.panel.dvh.job.running and not ui.dvhProgressBar.visible

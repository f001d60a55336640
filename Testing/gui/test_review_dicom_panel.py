"""The DICOM section of RTReview, clicked through: what can be written, where to, and that rejected contours stay
here.
"""

import json

import slicer
from gui_support.review import click, folders, opened, review  # noqa: F401
from standins import process_events


def test_nothing_to_export(review):
    ui = review.ui
    assert not ui.dicomButton.enabled and ui.dicomButton.toolTip == "There is no result on show."


def test_into_a_folder(opened, folders, command, backend, tmp_path, monkeypatch):
    file = folders["propagation"] / "summary.json"
    summary = json.loads(file.read_text(encoding="utf-8"))
    summary["model"]["version"] = "1.0"
    file.write_text(json.dumps(summary), encoding="utf-8")
    widget = opened("propagation")
    ui, widget.logic._command = widget.ui, command
    click(widget, "Parotid_L")
    ui.rejectButton.click()
    ui.dicomCollapsibleButton.collapsed = False
    assert (
        ui.rtstructCheckBox.enabled
        and ui.dicomCtCheckBox.text == "Deformed planning CT"
        and ui.registrationCheckBox.visible
    )
    assert ui.dicomButton.toolTip == "Give the folder of the DICOM series that the result describes."
    ui.dicomReferenceEdit.currentPath = str(tmp_path / "scan")
    ui.registrationCheckBox.checked = True
    assert "planning CT's DICOM series" in ui.dicomButton.toolTip
    ui.dicomPlanningEdit.currentPath = str(tmp_path / "planning")
    assert ui.dicomButton.toolTip == "Choose the folder to write to."
    ui.dicomTargetComboBox.currentIndex = 1
    assert "database is not open" in ui.dicomButton.toolTip and not ui.dicomFolderEdit.enabled
    ui.dicomTargetComboBox.currentIndex = 0
    (tmp_path / "out").mkdir()
    ui.dicomFolderEdit.currentPath = str(tmp_path / "out")
    assert ui.dicomButton.enabled
    ui.dicomButton.click()
    assert process_events(lambda: not widget.panel.dicom.job.running, 40)
    [written] = (tmp_path / "out").iterdir()
    assert sorted(p.name for p in written.iterdir()) == [
        "ct.dcm",
        "registration.dcm",
        "rtstruct.dcm",
    ] and written.name.startswith("DICOM headneck")
    assert (
        ui.dicomLabel.text.startswith("RTSTRUCT, CT series, Registration written to ")
        and "left out: Parotid_L" in ui.dicomLabel.text
    )
    arguments = json.loads((tmp_path / "arguments.json").read_text(encoding="utf-8"))
    assert arguments[1] == "export" and arguments[arguments.index("--dicom-planning") + 1] == str(tmp_path / "planning")
    from rtuncertainty.core import structure_set

    given = structure_set.read(tmp_path / "arguments.json.result" / "structures.seg.nrrd", empty=True)
    assert "Parotid_L" not in given and len(given) > 1
    for box in (ui.rtstructCheckBox, ui.dicomCtCheckBox, ui.registrationCheckBox):
        box.checked = False
    assert ui.dicomButton.toolTip == "Choose at least one kind of object."


def test_errors_against_sd_has_its_button(opened):
    widget = opened("new")
    assert widget.ui.errorButton.enabled
    widget.ui.errorButton.click()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 1
    assert not opened("propagation").ui.errorButton.enabled and "no reference CT" in widget.ui.errorButton.toolTip

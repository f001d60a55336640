"""Photograph RTReview off screen: the panel, and beside it the slice views with overlay, legend and nested contours.

`python Testing/gui/make_review_screenshots.py FOLDER RESULT [INPUT.nii.gz] [STRUCTURE] [MAP] [DOSE]`: a result folder
of `rtuncertainty predict` or `propagate`, the image that it is of, a structure and the key of a map to look at, and a
dose (Gy) for its DVHs. Writes RTReview_<what>.png into FOLDER.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT / "RTUncertainty")]

from standins import install, load_module, process_events  # noqa: E402

slicer = install()

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from gui_support import photographs  # noqa: E402
from PIL import Image  # noqa: E402
from PySide6 import QtGui  # noqa: E402

from RTUncertaintyLib import scene as run_scene  # noqa: E402
from RTUncertaintyLib.headless import scene  # noqa: E402
from RTUncertaintyLib.headless.render import views  # noqa: E402
from RTUncertaintyLib.mrml.volumes import add_volume  # noqa: E402
from RTUncertaintyLib.runs.overlays import label_count  # noqa: E402

PANEL, VIEW, GAP = (photographs.WIDTH, 1084), 540, 4


class Studio:
    """The module's panel and the views of the application's scene."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.holder = slicer.app._headless
        scene.add_views(self.holder, (VIEW, VIEW))
        self.widget, self.host = load_module(ROOT / "RTUncertainty" / "RTReview" / "RTReview.py")[1:]
        self.ui = self.widget.ui
        self.host.resize(*PANEL)
        self.host.show()

    def photograph(self, name):
        """The panel alone."""
        process_events(seconds=0.15)
        photographs.panel(self.host, self.folder / f"RTReview_{name}.png")

    def zoom(self, field_mm):
        """The width and height of the slice views."""
        for logic in self.holder.slice_logics.values():
            node = logic.GetSliceNode()
            node.SetFieldOfView(field_mm, field_mm, node.GetFieldOfView()[2])

    def _legend(self, painter, run, left, top):
        """The legend of the overlay on show in the lower right corner of a view, where the application draws it."""
        key = run_scene.shown_overlay(run)
        if key is None:
            return
        kind, (width, height) = run_scene.OVERLAYS[key], (110, 240)
        pixels = np.ascontiguousarray(
            views.legend_picture(
                run.overlays[key],
                [kind.unit or kind.name],
                label_count(run.overlays[key], kind),
                kind.label_format,
                (width, height),
            )
        )
        # the legend is drawn on black, which is left out: it hides no tissue
        seen = np.clip(2 * pixels.max(axis=2).astype(int), 0, 255).astype(np.uint8)
        layers = np.ascontiguousarray(np.dstack([pixels, seen]))
        picture = QtGui.QImage(layers.data, width, height, 4 * width, QtGui.QImage.Format.Format_RGBA8888)
        painter.drawImage(left + VIEW - width - 2, top + VIEW - height - 14, picture)

    def with_views(self, name, run=None):
        """The panel and the four views, as the application shows them."""
        process_events(seconds=0.15)
        cells = [views.slice_picture(self.holder, view, (VIEW, VIEW), "") for view in ("Red", "Yellow", "Green")]
        cells.insert(1, views.three_d_picture(self.holder, (VIEW, VIEW), "", []))
        size = 2 * VIEW + GAP
        panel = photographs.grab(self.host)
        sheet = QtGui.QImage(PANEL[0] + GAP + size, max(panel.height(), size), QtGui.QImage.Format.Format_RGB888)
        sheet.fill(QtGui.QColor("#222222"))
        painter = QtGui.QPainter(sheet)
        painter.drawImage(0, 0, panel)
        for index, pixels in enumerate(cells):
            pixels = np.ascontiguousarray(pixels)
            picture = QtGui.QImage(pixels.data, VIEW, VIEW, 3 * VIEW, QtGui.QImage.Format.Format_RGB888)
            painter.drawImage(PANEL[0] + GAP + (index % 2) * (VIEW + GAP), (index // 2) * (VIEW + GAP), picture)
            if run is not None and index != 1:
                self._legend(painter, run, PANEL[0] + GAP + (index % 2) * (VIEW + GAP), (index // 2) * (VIEW + GAP))
        painter.end()
        file = self.folder / f"RTReview_{name}.png"
        photographs.labelled(sheet).save(str(file))
        with Image.open(file) as picture:
            picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE).save(
                file, optimize=True
            )  # a third of the size


def chart_picture(chart, size=(900, 640)):
    """A chart as the application's plot view draws it: pixels [y, x, 3], off screen."""
    import vtk
    from vtkmodules.util.numpy_support import vtk_to_numpy

    view, plot = vtk.vtkContextView(), vtk.vtkChartXY()
    view.GetRenderWindow().SetOffScreenRendering(True)
    view.GetRenderWindow().SetSize(*size)
    view.GetRenderer().SetBackground(1, 1, 1)
    view.GetScene().AddItem(plot)
    plot.SetTitle(chart.GetTitle())
    plot.GetTitleProperties().SetFontSize(20)
    plot.SetShowLegend(chart.GetLegendVisibility())
    plot.GetLegend().SetLabelSize(14)
    pens = {1: vtk.vtkPen.SOLID_LINE, 2: vtk.vtkPen.DASH_LINE}
    for index in range(chart.GetNumberOfPlotSeriesNodes()):
        series = chart.GetNthPlotSeriesNode(index)
        line = plot.AddPlot(vtk.vtkChart.LINE)
        line.SetInputData(series.GetTableNode().GetTable(), series.GetXColumnName(), series.GetYColumnName())
        line.SetColorF(*series.GetColor())
        line.SetWidth(series.GetLineWidth())
        line.SetLabel(series.GetName())
        line.GetPen().SetLineType(pens.get(series.GetLineStyle(), vtk.vtkPen.SOLID_LINE))
        line.SetMarkerStyle(
            vtk.vtkPlotPoints.CIRCLE if series.GetMarkerStyle() == series.MarkerStyleCircle else vtk.vtkPlotPoints.NONE
        )
    for axis, title in ((vtk.vtkAxis.BOTTOM, chart.GetXAxisTitle()), (vtk.vtkAxis.LEFT, chart.GetYAxisTitle())):
        plot.GetAxis(axis).SetTitle(title)
        plot.GetAxis(axis).GetTitleProperties().SetFontSize(16)
        plot.GetAxis(axis).GetLabelProperties().SetFontSize(12)
    if not chart.GetYAxisRangeAuto():
        plot.GetAxis(vtk.vtkAxis.LEFT).SetBehavior(vtk.vtkAxis.FIXED)
        plot.GetAxis(vtk.vtkAxis.LEFT).SetRange(*chart.GetYAxisRange())
    view.GetRenderWindow().Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(view.GetRenderWindow())
    grab.Update()
    image = grab.GetOutput()
    width, height, _depth = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, 3)[::-1]


def with_dose(studio, run, dose):
    """The Dose section with its table, and beside it the chart."""
    from RTUncertaintyLib.review.dose.nodes import read_dvh

    ui, node = studio.ui, add_volume(slicer.mrmlScene, sitk.ReadImage(str(dose)), "Plan dose")
    studio.widget.logic.dvh(run, node)
    for section in (ui.resultCollapsibleButton, ui.structuresCollapsibleButton, ui.overlayCollapsibleButton):
        section.collapsed = True
    ui.doseCollapsibleButton.collapsed = ui.dicomCollapsibleButton.collapsed = False
    ui.doseSelector.setCurrentNode(node)
    studio.widget.panel.refresh_data()
    process_events(seconds=0.15)
    pixels = np.ascontiguousarray(chart_picture(read_dvh(run).chart, (1000, PANEL[1])))
    panel = photographs.grab(studio.host)
    sheet = QtGui.QImage(PANEL[0] + GAP + 1000, max(panel.height(), PANEL[1]), QtGui.QImage.Format.Format_RGB888)
    sheet.fill(QtGui.QColor("#222222"))
    painter = QtGui.QPainter(sheet)
    painter.drawImage(0, 0, panel)
    painter.drawImage(
        PANEL[0] + GAP, 0, QtGui.QImage(pixels.data, 1000, PANEL[1], 3 * 1000, QtGui.QImage.Format.Format_RGB888)
    )
    painter.end()
    photographs.labelled(sheet).save(str(studio.folder / "RTReview_dose.png"))


def main(folder, result, image=None, structure=None, overlay=None, dose=None):
    if os.environ.get("DARK"):
        photographs.dark()
    studio = Studio(folder)
    ui = studio.ui
    studio.photograph("empty")
    if image:
        add_volume(slicer.mrmlScene, sitk.ReadImage(str(image)), "input")
    run = studio.widget.logic.review(result, show=False)
    studio.widget.panel.show(run)
    from RTUncertaintyLib.headless.scene_bundle import fit_views

    fit_views(studio.holder, run)
    studio.zoom(200.0)
    names = studio.widget.panel._table.names()
    chosen = structure or names[0]
    ui.structuresTable.cellClicked.emit(studio.widget.panel._table.row_of(chosen), 0)
    if overlay:
        ui.overlayComboBox.currentIndex = ui.overlayComboBox.findData(overlay)
    studio.with_views("structure", run)
    ui.acceptButton.click()
    if len(names) > 1:
        ui.structuresTable.cellClicked.emit(studio.widget.panel._table.row_of(names[1]), 0)
        ui.commentEdit.text = "To be drawn by hand."
        ui.rejectButton.click()
    ui.nextRegionButton.click()
    studio.with_views("region", run)
    if dose:
        with_dose(studio, run, dose)
    studio.widget.cleanup()
    run_scene.remove_run(run)


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # VTK and Qt objects outlive the interpreter in no fixed order

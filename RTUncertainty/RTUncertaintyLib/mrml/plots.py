"""A chart of a run as nodes: tables, series and the chart itself, which are the run's and are filled anew when it is made again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk

from . import hierarchy
from ..runs.run import ROLE_ATTRIBUTE, Run, mark, marked_nodes
from ..review.views.nested import STRUCTURE_ATTRIBUTE
from .tables import plain

ROLE = "plot"


def on_white(color) -> tuple[float, ...]:
    """A colour, darker where it would be lost on white."""
    pale = 0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2] > 0.67
    return tuple(0.72 * c if pale else float(c) for c in color)


@dataclass(frozen=True)
class _Line:
    name: str
    x: np.ndarray
    y: np.ndarray
    color: tuple
    width: float
    dashed: bool
    markers: bool
    table: str
    structure: str


class Plot:
    """A chart of a run and its series; `kind` is what is replaced when it is made again."""

    def __init__(self, run: Run, kind: str, title: str, x_title: str, y_title: str):
        self._run, self._kind, self._title, self._axes = run, kind, title, (x_title, y_title)
        self._lines: list[_Line] = []

    def line(self, name: str, x, y, color, width: float = 2, dashed: bool = False, markers: bool = False, table: str = "", structure: str = "") -> None:
        """Add a line through points. Lines of one `table` have one table node and the same x, others a table of their own.

        structure: written on the series, for who shows some of them only.
        """
        self._lines.append(_Line(name, np.asarray(x, float), np.asarray(y, float), color, width, dashed, markers, table, structure))

    def done(self, y_range=None):
        """Write the nodes; returns the chart, or None when there is no line, and then nodes of an earlier plot go."""
        run, wanted = self._run, set()
        run.scene.StartState(run.scene.BatchProcessState)
        try:
            chart = self._chart(wanted, y_range) if self._lines else None
            for node in marked_nodes(run.scene, run.run_id):
                role = node.GetAttribute(ROLE_ATTRIBUTE) or ""
                if role.startswith((f"{ROLE}.{self._kind}:", f"{ROLE}.{self._kind}/")) and role not in wanted:
                    run.scene.RemoveNode(node)
        finally:
            run.scene.EndState(run.scene.BatchProcessState)
        return chart

    def _chart(self, wanted: set, y_range):
        chart = self._node("vtkMRMLPlotChartNode", ":chart", f"{self._run.name}: {self._title}", wanted)
        chart.RemoveAllPlotSeriesNodeIDs()
        chart.SetTitle(self._title)
        chart.SetXAxisTitle(self._axes[0])
        chart.SetYAxisTitle(self._axes[1])
        chart.SetLegendVisibility(True)
        chart.SetYAxisRangeAuto(y_range is None)
        if y_range is not None:
            chart.SetYAxisRange(*y_range)
        tables = self._tables(wanted)
        for index, line in enumerate(self._lines):
            chart.AddAndObservePlotSeriesNodeID(self._series(index, line, tables[line.table or str(index)], wanted).GetID())
        return chart

    def _tables(self, wanted: set) -> dict[str, object]:
        """Name of a table, or the number of the line that has its own -> node."""
        found = {}
        for index, line in enumerate(self._lines):
            key = line.table or str(index)
            if key not in found:
                node = found[key] = self._node("vtkMRMLTableNode", f"/{key}:table", f"{self._run.name}: {self._title}, {line.table or line.name}", wanted)
                node.RemoveAllColumns()
                self._column(node, self._axes[0], line.x)
                node.SetLocked(True)
            self._column(found[key], self._y_column(line), line.y)
        return found

    def _y_column(self, line: _Line) -> str:
        return plain(line.name) if line.table else self._axes[1]

    @staticmethod
    def _column(node, name: str, values: np.ndarray) -> None:
        array = numpy_to_vtk(np.ascontiguousarray(values), deep=True)
        array.SetName(name)
        node.AddColumn(array)

    def _series(self, index: int, line: _Line, table, wanted: set):
        series = self._node("vtkMRMLPlotSeriesNode", f"/{index}:series", line.name, wanted)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName(self._axes[0])
        series.SetYColumnName(self._y_column(line))
        series.SetPlotType(series.PlotTypeScatter)
        series.SetMarkerStyle(series.MarkerStyleCircle if line.markers else series.MarkerStyleNone)
        series.SetMarkerSize(8)
        series.SetLineStyle(series.LineStyleDash if line.dashed else series.LineStyleSolid)
        series.SetLineWidth(line.width)
        series.SetColor(*line.color)
        series.SetAttribute(STRUCTURE_ATTRIBUTE, line.structure or None)
        return series

    def _node(self, class_name: str, what: str, name: str, wanted: set):
        """The node of a role: the one of an earlier plot, or a new one in the run's folder."""
        role = f"{ROLE}.{self._kind}{what}"
        wanted.add(role)
        node = next((n for n in marked_nodes(self._run.scene, self._run.run_id) if n.GetAttribute(ROLE_ATTRIBUTE) == role), None)
        if node is None:
            node = self._run.scene.AddNewNodeByClass(class_name, name)
            mark(node, self._run.run_id, role)
            hierarchy.put_into_folder(self._run.scene, node, self._run.folder_item)
        node.SetName(name)
        return node

"""A chart of a run as nodes: tables, series and the chart itself, which are the run's and are filled anew when it is
made again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk

from .attributes import STRUCTURE_ATTRIBUTE, marked_nodes, role_of
from .tables import plain

BLUE, ORANGE, GREY = (0.0, 0.45, 0.70), (0.84, 0.37, 0.0), (0.35, 0.35, 0.35)
"""Okabe and Ito's: told apart with any colour vision."""
COLOR_NAMES = {BLUE: "blue", ORANGE: "orange, dashed", GREY: "grey, dashed"}
TITLE_SIZE = 14
_ROLE = "plot"
_SERIES = re.compile(r"/(\d+):series$")


def chart_of(run, kind: str):
    """The chart of a run of this kind, None when there is none."""
    return _with_roles(run, kind).get(":chart")


def series_of(run, kind: str) -> list:
    """The series of such a chart, in the order in which its lines were added, whether the chart shows them or not."""
    found = {int(m[1]): node for what, node in _with_roles(run, kind).items() if (m := _SERIES.match(what))}
    return [found[number] for number in sorted(found)]


def _with_roles(run, kind: str) -> dict[str, object]:
    """The nodes of a chart by their roles: ':chart', '/NUMBER:series', '/NAME:table'."""
    start = f"{_ROLE}.{kind}"
    return {
        role_of(n)[len(start) :]: n
        for n in marked_nodes(run.scene, run.run_id)
        if role_of(n).startswith((f"{start}:", f"{start}/"))
    }


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
    """A chart of a run (`runs.run.Run`) and its series; `kind` is what is replaced when it is made again."""

    def __init__(self, run, kind: str, title: str, x_title: str, y_title: str):
        self._run, self._kind, self._title, self._axes = run, kind, title, (x_title, y_title)
        self._lines: list[_Line] = []

    def line(
        self,
        name: str,
        x,
        y,
        color,
        width: float = 2,
        dashed: bool = False,
        markers: bool = False,
        table: str = "",
        structure: str = "",
    ) -> None:
        """Add a line through points. Lines of one `table` have one table node and the same x, others a table of their
        own.

        structure: written on the series, for who shows some of them only.
        """
        self._lines.append(
            _Line(name, np.asarray(x, float), np.asarray(y, float), color, width, dashed, markers, table, structure)
        )

    def done(self, y_range=None):
        """Write the nodes; returns the chart, or None when there is no line, and then nodes of an earlier plot go."""
        run, wanted = self._run, set()
        run.scene.StartState(run.scene.BatchProcessState)
        try:
            chart = self._chart(wanted, y_range) if self._lines else None
            for what, node in _with_roles(run, self._kind).items():
                if what not in wanted:
                    run.scene.RemoveNode(node)
        finally:
            run.scene.EndState(run.scene.BatchProcessState)
        return chart

    def _chart(self, wanted: set, y_range):
        chart = self._node("vtkMRMLPlotChartNode", ":chart", f"{self._run.name}: {self._title}", wanted)
        chart.RemoveAllPlotSeriesNodeIDs()
        chart.SetTitle(self._title + self._key())
        chart.SetTitleFontSize(TITLE_SIZE)
        chart.SetXAxisTitle(self._axes[0])
        chart.SetYAxisTitle(self._axes[1])
        chart.SetLegendVisibility(False)  # Slicer draws it over the curves
        chart.SetYAxisRangeAuto(y_range is None)
        if y_range is not None:
            chart.SetYAxisRange(*y_range)
        tables = self._tables(wanted)
        for index, line in enumerate(self._lines):
            chart.AddAndObservePlotSeriesNodeID(
                self._series(index, line, tables[line.table or str(index)], wanted).GetID()
            )
        return chart

    def _key(self) -> str:
        """Which line has which colour, behind the title; lines of structures are told by the colours of the table."""
        said = [f"{COLOR_NAMES[line.color]}: {line.name}" for line in self._lines if line.color in COLOR_NAMES]
        return f" ({'; '.join(said)})" if said and not any(line.structure for line in self._lines) else ""

    def _tables(self, wanted: set) -> dict[str, object]:
        """Name of a table, or the number of the line that has its own -> node."""
        found = {}
        for index, line in enumerate(self._lines):
            key = line.table or str(index)
            if key not in found:
                node = found[key] = self._node(
                    "vtkMRMLTableNode",
                    f"/{key}:table",
                    f"{self._run.name}: {self._title}, {line.table or line.name}",
                    wanted,
                )
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
        wanted.add(what)
        node = _with_roles(self._run, self._kind).get(what)
        if node is None:
            node = self._run.add(self._run.scene.AddNewNodeByClass(class_name, name), f"{_ROLE}.{self._kind}{what}")
        node.SetName(name)
        return node

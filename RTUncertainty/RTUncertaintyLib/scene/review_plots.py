"""Plots of a run as chart nodes: distributions of volumes, a map along the slices, z-scores and errors against a reference CT.

Table, series and chart are the run's: they lie in its folder, are filled anew when the plot is made again, and go with the run.
"""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from vtkmodules.util.numpy_support import numpy_to_vtk

from ..review_data import ReviewData
from . import hierarchy
from .nodes import ROLE_ATTRIBUTE, Run, mark, marked_nodes
from .overlays import OVERLAYS
from .segmentation import voxels_of
from .volumes import image_like

ROLE = "plot"
BLUE, ORANGE, GREEN, GREY = (0.0, 0.45, 0.70), (0.84, 0.37, 0.0), (0.0, 0.62, 0.45), (0.35, 0.35, 0.35)
# Okabe and Ito's: told apart with any colour vision
BINS = 12
FEWEST = 50
"""Voxels of a bin below which its RMS says nothing."""
Z_LIMIT = 5.0


def volume_distributions(run: Run, names=None, level: float = 0.9):
    """Of each structure the share of the distribution (percent) below a volume (ml), and its interval at `level` as a thick bar
    (the bars lie one below the other, so that none hides another).

    `names`: which structures, all with a distribution when None. Calibrated volumes where the run has them. Returns the
    vtkMRMLPlotChartNode, None when no structure has a distribution.
    """
    plot = _Plot(run, "volumes", "Volumes", "Volume (ml)", "Part of the distribution below (%)")
    data = ReviewData.of_run(run)
    chosen = [s for s in data.structures if (names is None or s.name in names) and len(s.distribution) > 1]
    for index, structure in enumerate(chosen):
        points, color, height = structure.distribution, _on_white(structure.color), 80 - 60 * (index + 0.5) / len(chosen)
        calibrated = all(p.calibrated_ml is not None for p in points)
        volume = [p.calibrated_ml if calibrated else p.volume_ml for p in points]
        plot.line(structure.name, volume, [p.percentile for p in points], color)
        interval = structure.interval(level)
        if interval is not None:
            told = "calibrated" if interval.calibrated else "not calibrated"
            plot.line(f"{structure.name}: {level:.0%} interval, {told}", [interval.lower_ml, interval.upper_ml], [height, height], color,
                      width=5, dashed=not interval.calibrated)
    return plot.done((0, 100))


def _on_white(color) -> tuple[float, ...]:
    """A colour, darker where it would be lost on white."""
    pale = 0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2] > 0.67
    return tuple(0.72 * c if pale else float(c) for c in color)


def along_slices(run: Run, overlay_key: str, structure: str | None = None):
    """Mean and 95th percentile of a map inside the body, or one structure, in every axial slice, against its position in mm (S).

    Of a signed map (error, z-score, Jacobian) the mean and the mean distance from its middle. Returns the
    vtkMRMLPlotChartNode, None when the body (or the structure) has no voxel. Raises `KeyError` for a map that the run lacks.
    """
    node, overlay = run.overlays[overlay_key], OVERLAYS[overlay_key]
    axis, position = _slices(node)
    values = np.moveaxis(slicer.util.arrayFromVolume(node), axis, 0)
    inside = np.moveaxis(body_of(run, node) if structure is None else _mask(run, structure, node), axis, 0)
    where = f"in {structure}" if structure is not None else "in the body"
    mean, other = np.full(len(values), np.nan), np.full(len(values), np.nan)
    for index, (plane, within) in enumerate(zip(values, inside)):
        found = plane[within].astype(float)
        found = found[np.isfinite(found)]
        if found.size:
            mean[index] = found.mean()
            other[index] = np.abs(found - overlay.middle).mean() if overlay.signed else np.percentile(found, 95)
    there = np.isfinite(mean)
    unit = f" ({overlay.unit})" if overlay.unit else ""
    plot = _Plot(run, f"slices.{overlay_key}", f"{overlay.name} along the slices", "Position, towards the head (mm)", f"{overlay.name} {where}{unit}")
    if there.any():
        plot.line(f"mean {where}", position[there], mean[there], BLUE)
        second = f"mean distance from {overlay.middle:g}" if overlay.signed else "95th percentile"
        plot.line(second, position[there], other[there], ORANGE, dashed=True)
    return plot.done()


def zscore_histogram(run: Run):
    """The z-scores of a run against its reference CT as a density from −5 to 5, beside that of perfect error bars, N(0, 1).

    What lies beyond counts at the ends. Returns the vtkMRMLPlotChartNode, None for a run without a reference.
    """
    z = _compared(run, "zscore")
    if z is None or not z.size:
        return None
    edges = np.linspace(-Z_LIMIT, Z_LIMIT, 51)
    density = np.histogram(np.clip(z, -Z_LIMIT + 1e-3, Z_LIMIT - 1e-3), edges)[0] / (z.size * (edges[1] - edges[0]))
    plot = _Plot(run, "zscore", f"z-scores: mean {z.mean():.2f}, SD {z.std():.2f} ({z.size} voxels)", "z-score: (synthetic CT − CT) / predictive SD", "Density")
    steps = np.repeat(edges, 2)[1:-1]  # a stair, as a histogram is drawn
    plot.line("this image", steps, np.repeat(density, 2), BLUE)
    at = np.linspace(-Z_LIMIT, Z_LIMIT, 201)
    plot.line("perfect error bars, N(0, 1)", at, np.exp(-0.5 * at**2) / np.sqrt(2 * np.pi), ORANGE, dashed=True)
    return plot.done()


def error_against_sd(run: Run):
    """RMS error against the mean predictive SD (HU) in bins of equal numbers of voxels, and the line on which error bars are right.

    Returns the vtkMRMLPlotChartNode, None for a run without a reference or predictive SD.
    """
    error, sd = _compared(run, "error"), _compared(run, "predictive", "error")
    if error is None or sd is None or error.size < FEWEST:
        return None
    order = np.argsort(sd, kind="stable")
    parts = np.array_split(order, min(BINS, max(1, error.size // FEWEST)))
    predicted = np.array([sd[p].mean() for p in parts])
    found = np.array([np.sqrt(np.mean(error[p] ** 2)) for p in parts])
    plot = _Plot(run, "error", "Error against predictive SD", "Predictive SD (HU)", "RMS error (HU)")
    plot.line("voxels with about this SD", predicted, found, BLUE, markers=True)
    top = float(max(predicted.max(), found.max()))
    plot.line("error bars that are right", [0.0, top], [0.0, top], GREY, dashed=True)
    return plot.done()


def show(chart) -> None:
    """Show a chart in the application, in a layout with a plot view. Without the application's views nothing changes."""
    scene = chart.GetScene()
    module = getattr(getattr(slicer, "modules", None), "plots", None)
    if scene is None or scene is not slicer.mrmlScene or module is None:
        return
    module.logic().ShowChartInLayout(chart)


def body_of(run: Run, node) -> np.ndarray:
    """The body (bool) on the voxels of one of the run's maps: where a prediction has a spread, else tissue of the run's CT, else all."""
    shape = slicer.util.arrayFromVolume(node).shape
    for key in ("predictive", "entropy"):
        known = run.overlays.get(key)
        if known is not None and known.GetScene() is run.scene and slicer.util.arrayFromVolume(known).shape == shape:
            inside = slicer.util.arrayFromVolume(known) > 0
            if inside.any():
                return inside
    from .review_regions import body_of as tissue_of

    tissue = tissue_of(run, node)
    return np.ones(shape, bool) if tissue is None else tissue


def _mask(run: Run, name: str, node) -> np.ndarray:
    """The voxels of a structure (bool) on the grid of a volume node."""
    inside = np.zeros(slicer.util.arrayFromVolume(node).shape, bool)
    to_ijk = vtk.vtkMatrix4x4()
    node.GetRASToIJKMatrix(to_ijk)
    if run.main_segmentation is not None:
        index = np.rint(voxels_of(run.main_segmentation, name, to_ijk)).astype(int)[:, ::-1]
        inside[tuple(index[((index >= 0) & (index < inside.shape)).all(1)].T)] = True
    return inside


def _slices(node) -> tuple[int, np.ndarray]:
    """Which axis of the array [k, j, i] runs from the feet to the head, and where its slices lie (mm, S, at the image's centre)."""
    direction = np.array(image_like(np.zeros((1, 1, 1), np.uint8), node).GetDirection()).reshape(3, 3)
    along = int(np.abs(direction[2]).argmax())  # of i, j, k
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    size = node.GetImageData().GetDimensions()
    middle = [(n - 1) / 2 for n in size]
    position = []
    for index in range(size[along]):
        middle[along] = index
        position.append(matrix.MultiplyPoint((*middle, 1.0))[2])
    return 2 - along, np.array(position)


def _compared(run: Run, key: str, where: str | None = None) -> np.ndarray | None:
    """The values of a map in the body, where the map `where` (itself when None) was compared: it is exactly 0 elsewhere."""
    node, other = run.overlays.get(key), run.overlays.get(where or key)
    if node is None or other is None or node.GetScene() is not run.scene or other.GetScene() is not run.scene:
        return None
    values, reference = (slicer.util.arrayFromVolume(n).astype(float) for n in (node, other))
    return values[body_of(run, node) & (reference != 0) & np.isfinite(reference) & np.isfinite(values)]


class _Plot:
    """A chart of a run and its series, each with a table of its own; `kind` is what is replaced when it is made again."""

    def __init__(self, run: Run, kind: str, title: str, x_title: str, y_title: str):
        self._run, self._kind, self._title, self._axes = run, kind, title, (x_title, y_title)
        self._lines: list[tuple] = []

    def line(self, name: str, x, y, color, width: float = 2, dashed: bool = False, markers: bool = False) -> None:
        """Add a line through points."""
        self._lines.append((name, np.asarray(x, float), np.asarray(y, float), color, width, dashed, markers))

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
        for index, line in enumerate(self._lines):
            chart.AddAndObservePlotSeriesNodeID(self._series(index, line, wanted).GetID())
        return chart

    def _series(self, index: int, line: tuple, wanted: set):
        name, x, y, color, width, dashed, markers = line
        table = self._node("vtkMRMLTableNode", f"/{index}:table", f"{self._run.name}: {self._title}, {name}", wanted)
        table.RemoveAllColumns()
        for column, values in zip(self._axes, (x, y)):
            array = numpy_to_vtk(np.ascontiguousarray(values), deep=True)
            array.SetName(column)
            table.AddColumn(array)
        table.SetLocked(True)
        series = self._node("vtkMRMLPlotSeriesNode", f"/{index}:series", name, wanted)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName(self._axes[0])
        series.SetYColumnName(self._axes[1])
        series.SetPlotType(series.PlotTypeScatter)
        series.SetMarkerStyle(series.MarkerStyleCircle if markers else series.MarkerStyleNone)
        series.SetMarkerSize(8)
        series.SetLineStyle(series.LineStyleDash if dashed else series.LineStyleSolid)
        series.SetLineWidth(width)
        series.SetColor(*color)
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

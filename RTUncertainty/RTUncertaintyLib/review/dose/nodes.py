"""Dose-volume histograms of a run: from the tables of `rtuncertainty dvh` to a table of numbers and a chart of curves
with bands, and back.

All nodes are the run's: they lie in its folder, are replaced when the DVHs are computed again, are saved with the scene
and go with the run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import vtk
from vtkmodules.util.numpy_support import vtk_to_numpy

from rtuncertainty.results.tables import read as read_table

from ...mrml.attributes import STRUCTURE_ATTRIBUTE
from ...mrml.plots import Plot, chart_of, on_white, series_of
from ...mrml.tables import plain
from ...runs.review_data import ReviewData, table_rows_of
from ...runs.run import Run

KIND, TABLE = "dvh", "dvh"
DOSE_ATTRIBUTE = "RTUncertainty.Dose"
"""Of the table: the name of the dose."""
_TEXT = ("structure", "calibrated", "note")
_CURVES = ("structure", "dose_gy", "volume_percent")
CALIBRATED = {"volume": "calibrated volumes", "no": "not calibrated"}
"""What stands in the table -> how people are told."""


@dataclass(frozen=True)
class Row:
    """One structure. `numbers`: columns of dvh.csv (volume_ml, mean_gy, d98_gy, v20gy_percent, …) that it has;
    `intervals`: of the same columns, where there is a band. `calibrated`: "volume", "no", or empty without a band.
    `note`: what the backend told of it.

    `volume`, `lower`, `upper` [n]: percent of the volume that gets at least the doses of `Dvhs.axis`; None where there
    is no such curve.
    """

    structure: str
    numbers: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    level: float | None
    calibrated: str
    note: str
    volume: np.ndarray | None = None
    lower: np.ndarray | None = None
    upper: np.ndarray | None = None


@dataclass(frozen=True)
class Dvhs:
    """The DVHs of a run in one `dose` (its name); `axis` in Gy; `shown`: the structures in the chart; `colors` of the
    curves, red, green, blue in 0..1.
    """

    dose: str
    rows: tuple[Row, ...]
    axis: np.ndarray
    chart: object = None
    shown: tuple[str, ...] = field(default=())
    colors: dict[str, tuple] = field(default_factory=dict)

    def volume_at(self, row: Row, gray: float) -> tuple[float | None, tuple[float, float] | None]:
        """(percent of the volume that gets at least `gray` Gy, its interval or None), None where there is no curve."""
        if row.volume is None:
            return None, None
        value, *ends = (
            None if c is None else float(np.interp(gray, self.axis, c)) for c in (row.volume, row.lower, row.upper)
        )
        return value, None if None in ends else tuple(ends)


def add_dvh(run: Run, table: Path, curves: Path, dose: str):
    """Put dvh.csv and dvh_curves.csv into a run, in place of those of an earlier computation; returns the
    vtkMRMLPlotChartNode.

    dose: its name, for the title. Raises `rtuncertainty.core.errors.InputError` for a table that cannot be read.
    """
    rows, points = read_table(table, ("structure", "note")), read_table(curves, _CURVES)
    run.scene.StartState(run.scene.BatchProcessState)
    try:
        before = run.tables.pop(TABLE, None)
        if before is not None and before.GetScene() is run.scene:
            run.scene.RemoveNode(before)
        run.tables[TABLE] = run.add(_table(run, rows, dose), f"table.{TABLE}")
        return _chart(run, rows, points, dose)
    finally:
        run.scene.EndState(run.scene.BatchProcessState)


def _table(run: Run, rows: list[dict], dose: str):
    """The table of numbers; an empty cell becomes NaN."""
    node = run.scene.AddNewNodeByClass("vtkMRMLTableNode", f"{run.name}: DVH numbers")
    was = node.StartModify()
    for column in rows[0] if rows else ():
        array = vtk.vtkStringArray() if column in _TEXT else vtk.vtkDoubleArray()
        array.SetName(column)
        for row in rows:
            array.InsertNextValue(plain(row[column] or "") if column in _TEXT else float(row[column] or "nan"))
        node.AddColumn(array)
    node.SetUseFirstColumnAsRowHeader(False)
    node.SetLocked(True)
    node.SetAttribute(DOSE_ATTRIBUTE, plain(dose))
    node.EndModify(was)
    return node


def _chart(run: Run, rows: list[dict], points: list[dict], dose: str):
    """The chart: of each structure its curve, and the outline of its band as one thin dashed line."""
    colors = {s.name: s.color for s in ReviewData.of_run(run).structures}
    by_structure = {row["structure"]: row for row in rows}
    kinds = {_band_words(row) for row in rows if row.get("calibrated")}
    # what all bands have in common stands in the title; whose a curve is, the colours in the table say
    common = f" ({next(iter(kinds))})" if len(kinds) == 1 else ""
    plot = Plot(run, KIND, f"DVH: {plain(dose)}{common}", "Dose (Gy)", "Volume (%)")
    by_name: dict[str, list[dict]] = {}
    for point in points:
        by_name.setdefault(point["structure"], []).append(point)
    for name, own in by_name.items():
        axis, volume, lower, upper = (
            np.array([float(p.get(c) or "nan") for p in own])
            for c in ("dose_gy", "volume_percent", "lower_percent", "upper_percent")
        )
        color = on_white(colors.get(name, (0.4, 0.4, 0.4)))
        plot.line(name, axis, volume, color, width=3, table="curves", structure=name)
        if np.isfinite(lower).all() and np.isfinite(upper).all():
            label = "band" if common else _band_words(by_structure[name])
            # there and back: one line and one entry of the legend for both edges
            plot.line(
                f"{name}: {label}",
                np.concatenate([axis, axis[::-1]]),
                np.concatenate([lower, upper[::-1]]),
                color,
                width=1,
                dashed=True,
                table="bands",
                structure=name,
            )
    return plot.done((0, 100))


def _band_words(row: dict) -> str:
    return f"{float(row.get('level') or 0.9):.0%} band, {CALIBRATED.get(row.get('calibrated') or 'no', '')}"


def read_dvh(run: Run) -> Dvhs | None:
    """The DVHs that are in the scene, None where none were computed or their nodes were deleted."""
    node = run.tables.get(TABLE)
    if node is None or node.GetScene() is not run.scene:
        return None
    chart, lines, axis = chart_of(run, KIND), {}, np.zeros(0)
    for series in series_of(run, KIND):
        found = _points(series)
        if found is not None:
            name = series.GetAttribute(STRUCTURE_ATTRIBUTE) or ""
            lines[name, series.GetName() != name] = found[1]
            axis = found[0] if series.GetName() == name else axis
    rows = tuple(_row(row, lines, len(axis)) for row in table_rows_of(node))
    colors = {s.GetAttribute(STRUCTURE_ATTRIBUTE) or "": tuple(s.GetColor()) for s in series_of(run, KIND)}
    return Dvhs(node.GetAttribute(DOSE_ATTRIBUTE) or "", rows, axis, chart, shown_structures(chart), colors)


def _points(series) -> tuple[np.ndarray, np.ndarray] | None:
    """(x, y) of a series; None when its table or a column of it is gone."""
    table = series.GetTableNode().GetTable() if series.GetTableNode() is not None else None
    columns = (
        [table.GetColumnByName(c) for c in (series.GetXColumnName(), series.GetYColumnName())]
        if table is not None
        else [None]
    )
    if None in columns or any(c.GetDataTypeAsString() == "string" for c in columns):
        return None
    return tuple(vtk_to_numpy(c).astype(float) for c in columns)


def _row(row: dict, lines: dict, points: int) -> Row:
    name = row["structure"]
    numbers = {
        k: v
        for k, v in row.items()
        if isinstance(v, float) and np.isfinite(v) and k != "level" and not k.endswith(("_lower", "_upper"))
    }
    intervals = {
        k: (row[f"{k}_lower"], row[f"{k}_upper"]) for k in numbers if np.isfinite(row.get(f"{k}_lower", np.nan))
    }
    level, calibrated = row.get("level", np.nan), str(row.get("calibrated") or "")
    outline = lines.get((name, True))
    lower, upper = (
        (None, None)
        if outline is None or len(outline) != 2 * points
        else (outline[:points], outline[: points - 1 : -1])
    )
    return Row(
        name,
        numbers,
        intervals,
        float(level) if np.isfinite(level) else None,
        calibrated,
        str(row.get("note") or ""),
        lines.get((name, False)),
        lower,
        upper,
    )


def curve_rows(run: Run) -> list[dict]:
    """The curves as the rows of dvh_curves.csv; empty where there are none."""
    found = read_dvh(run)
    out = []
    for row in found.rows if found is not None else ():
        if row.volume is None:
            continue
        ends = [np.full(len(found.axis), np.nan) if c is None else c for c in (row.lower, row.upper)]
        out += [
            {
                "structure": row.structure,
                "dose_gy": float(d),
                "volume_percent": float(v),
                "lower_percent": float(a),
                "upper_percent": float(b),
            }
            for d, v, a, b in zip(found.axis, row.volume, *ends)
        ]
    return out


def shown_structures(chart) -> tuple[str, ...]:
    """The structures whose curves are in a chart."""
    if chart is None or chart.GetScene() is None:
        return ()
    nodes = [chart.GetNthPlotSeriesNode(i) for i in range(chart.GetNumberOfPlotSeriesNodes())]
    return tuple(
        dict.fromkeys(
            n.GetAttribute(STRUCTURE_ATTRIBUTE) for n in nodes if n is not None and n.GetAttribute(STRUCTURE_ATTRIBUTE)
        )
    )


def show_in_chart(run: Run, names) -> None:
    """Let the chart show the curves of these structures only; the others stay in the scene."""
    chart = chart_of(run, KIND)
    if chart is None:
        return
    was = chart.StartModify()
    chart.RemoveAllPlotSeriesNodeIDs()
    for series in series_of(run, KIND):
        if series.GetAttribute(STRUCTURE_ATTRIBUTE) in names:
            chart.AddAndObservePlotSeriesNodeID(series.GetID())
    chart.EndModify(was)

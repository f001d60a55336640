"""Volumes, flags and metrics as table nodes."""

from __future__ import annotations

import vtk

_NUMBERS = ("volume_ml", "lower_ml", "upper_ml", "level", "value")
_TITLES = {"volume_ml": "Volume", "lower_ml": "Lower bound", "upper_ml": "Upper bound", "level": "Level of the interval"}
_UNITS = {"volume_ml": "mL", "lower_ml": "mL", "upper_ml": "mL"}


def add_table(scene, rows: list[dict[str, str]], columns: tuple[str, ...], name: str):
    """A table node with the columns of the file; numbers are numbers, so that they sort and plot.

    An empty number becomes NaN. Units stand in the column's properties.
    """
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", name)
    was = node.StartModify()
    node.SetUseColumnTitleAsColumnHeader(True)
    for column in columns:
        values = [row[column] or "" for row in rows]
        if column in _NUMBERS:
            array = vtk.vtkDoubleArray()
            for value in values:
                array.InsertNextValue(float(value) if value.strip() else float("nan"))
        else:
            array = vtk.vtkStringArray()
            for value in values:
                array.InsertNextValue(value)
        array.SetName(column)
        node.AddColumn(array)
        node.SetColumnTitle(column, _title(column))
        if column in _UNITS:
            node.SetColumnUnitLabel(column, _UNITS[column])
    node.SetUseFirstColumnAsRowHeader(False)
    node.SetLocked(True)
    node.EndModify(was)
    return node


def _title(column: str) -> str:
    """What stands above a column."""
    title = _TITLES.get(column, column.replace("_", " ").capitalize())
    return f"{title} ({_UNITS[column]})" if column in _UNITS else title

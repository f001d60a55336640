"""Volumes, flags and metrics as table nodes."""

from __future__ import annotations

import re

import vtk

_NUMBERS = (
    "level",
    "value",
    "dice",
    "worst_slice",
    "percentile",
    "cases",
    "expected_dice",
    "dice_lower",
    "dice_upper",
    "surface_entropy",
)
_TITLES = {
    "volume_ml": "Volume",
    "lower_ml": "Lower bound",
    "upper_ml": "Upper bound",
    "calibrated_ml": "Calibrated volume",
    "level": "Level of the interval",
    "msd_mm": "Mean surface distance",
}
_UNITS = {"_ml": "mL", "_mm": "mm"}  # by the end of the column's name


def add_table(scene, rows: list[dict[str, str]], columns: tuple[str, ...], name: str):
    """A table node with the columns of the file; numbers are numbers, so that they sort and plot.

    An empty number becomes NaN. Units stand in the column's properties.
    """
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", name)
    was = node.StartModify()
    node.SetUseColumnTitleAsColumnHeader(True)
    for column in columns:
        values = [row[column] or "" for row in rows]
        if column in _NUMBERS or _unit(column):
            array = vtk.vtkDoubleArray()
            for value in values:
                array.InsertNextValue(float(value) if value.strip() else float("nan"))
        else:
            array = vtk.vtkStringArray()
            for value in values:
                array.InsertNextValue(plain(value))
        array.SetName(column)
        node.AddColumn(array)
        node.SetColumnTitle(column, _title(column))
        if _unit(column):
            node.SetColumnUnitLabel(column, _unit(column))
    node.SetUseFirstColumnAsRowHeader(False)
    node.SetLocked(True)
    node.EndModify(was)
    return node


_STORED = str.maketrans({'"': "\uff02", "#": "\uff03", "\n": " ", "\r": " ", "\t": " "})
_SHOWN = str.maketrans({"\uff02": '"', "\uff03": "#", "\u2002": " "})


def plain(text: str) -> str:
    """A text as a table node can keep it in a scene file: one line, with wide forms of the double quote, which VTK's
    writer does not escape, of the number sign, which begins a comment for its reader, and of spaces at the ends.
    `original` takes them back."""
    text = text.translate(_STORED)
    return re.sub("^ +| +$", lambda spaces: "\u2002" * len(spaces.group()), text)


def original(text: str) -> str:
    """The text that `plain` was given, but for line breaks."""
    return text.translate(_SHOWN)


def node_name(text: str) -> str:
    """A text as the name of a node: Slicer writes the names of a scene's files without escaping the ampersand."""
    return text.replace("&", "+")


def _title(column: str) -> str:
    """What stands above a column."""
    unit = _unit(column)
    title = _TITLES.get(column, (column[:-3] if unit else column).replace("_", " ").replace(" sd", " SD"))
    title = title[:1].upper() + title[1:]
    return f"{title} ({unit})" if unit else title


def _unit(column: str) -> str:
    """The unit of a column; empty when it has none."""
    return _UNITS.get(column[-3:], "")

"""The uncertainty maps: their names, units, colour tables, ranges, thresholds and legends."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import slicer

from ..mrml import colors
from ..mrml.attributes import mark, overlay_nodes
from ..widgets.text import _
from .run import legend_of

LOWER_ATTRIBUTE = "RTUncertainty.LowerThreshold"

LEGEND_PLACE, LEGEND_SIZE, LEGEND_FONT = (0.99, 0.03), (0.09, 0.32), 11
"""In the lower right corner of a view, where there is least anatomy and no annotation of Slicer's; shares of its width
and height, and points."""


@dataclass(frozen=True)
class Overlay:
    """One kind of map. `unit` is empty for a z-score; a signed one hides its middle instead of its low end.

    `middle` is the value of a signed map that stands for nothing: 0, or 1 for a ratio; `note` stands behind the
    legend's name.
    """

    key: str
    image: str
    name: str
    unit: str
    palette: str
    label_format: str
    signed: bool = False
    middle: float = 0.0
    note: str = ""

    @property
    def title(self) -> str:
        """Title of the legend, with the unit."""
        behind = self.unit or self.note
        return f"{self.name} ({behind})" if behind else self.name


OVERLAYS = {
    o.key: o
    for o in (
        Overlay("predictive", "predictive_sd", "Predictive SD", "HU", "standard_deviation", "%.0f"),
        Overlay("intrinsic", "intrinsic_sd", "Intrinsic SD", "HU", "standard_deviation", "%.0f"),
        Overlay("parameter", "parameter_sd", "Parameter SD", "HU", "standard_deviation", "%.0f"),
        Overlay("entropy", "entropy", "Entropy", "nats", "information", "%.2f"),
        Overlay("mutual_information", "mutual_information", "Mutual information", "nats", "information", "%.2f"),
        Overlay("decoder_entropy", "decoder_entropy", "Decoder's entropy", "nats", "information", "%.2f"),
        Overlay("distance", "distance", "Distance map", "", "signed", "%.2f", signed=True, note="negative inside"),
        Overlay("error", "error", "Error", "HU", "signed", "%.0f", signed=True),
        Overlay("zscore", "zscore", "z-score", "", "signed", "%.1f", signed=True),
        Overlay("displacement_sd", "displacement_sd", "Displacement SD", "mm", "standard_deviation", "%.1f"),
        Overlay(
            "jacobian", "jacobian", "Jacobian", "", "signed", "%.2f", signed=True, middle=1.0, note="1 = no change"
        ),
        Overlay("segmented_entropy", "segmented_entropy", "Entropy", "nats", "information", "%.2f"),
    )
}

PROPAGATION_TITLES = {
    "displacement_sd": _("Uncertainty of the deformation (SD)"),
    "jacobian": _("Change of volume (Jacobian)"),
    "segmented_entropy": _("Entropy of the segmentation"),
}
"""Key of an overlay of a propagation -> how panels call it, in the order of their lists."""


def display_range(overlay: Overlay, values: np.ndarray, classes: int) -> tuple[float, float]:
    """Upper end of the colours and lower threshold, both rounded so that a legend can be read.

    `values` are those inside the body, 1-D; `classes` is the number of structures and background. Standard deviations:
    99th and 75th percentile, so that the least certain quarter or less is coloured. Entropy: from 0.1 to ln(classes),
    its largest possible value. z-score: coloured outside ±2 (a calibrated one is inside for 95 % of the voxels), up to
    ±5.
    Jacobian: both as distances from 1; from a tenth of the volume up to no more than 1, where tissue would vanish.
    """
    if overlay.key == "zscore":
        return 5.0, 2.0
    values = np.abs(values[np.isfinite(values)] - overlay.middle)
    if overlay.key == "jacobian":
        high = min(_round_up(float(np.percentile(values, 99.0))) if values.size else 1.0, 1.0)
        return max(high, 0.2), 0.1
    if overlay.key in ("entropy", "segmented_entropy", "decoder_entropy"):
        return _round_up(math.log(max(classes, 2))), 0.1
    high = _round_up(float(np.percentile(values, 99.0))) if values.size else 1.0
    if overlay.key == "mutual_information":
        return high, high / 10.0
    share = float(np.percentile(values, 75.0)) / high if values.size else 0.0
    return high, high * min(max(math.ceil(share * 10.0), 1), 8) / 10.0


_STEPS = {1.0: 6, 1.2: 7, 1.5: 6, 2.0: 5, 2.5: 6, 3.0: 7, 4.0: 5, 5.0: 6, 6.0: 7, 8.0: 5}  # leading digits -> labels


def label_count(volume, overlay: Overlay) -> int:
    """Number of labels that makes those of the legend round, from the volume's display range."""
    if overlay.signed:
        return 5
    high = volume.GetDisplayNode().GetWindowLevelMax()
    return _STEPS.get(round(high / 10.0 ** math.floor(math.log10(high) + 1e-9), 3), 5)


def _round_up(value: float) -> float:
    """The next number whose leading digits are in `_STEPS`; 1e-3 at least."""
    value = max(value, 1e-3)
    decade = 10.0 ** math.floor(math.log10(value))
    for step in (*_STEPS, 10.0):
        if value <= step * decade * (1.0 + 1e-9):
            return round(step * decade, 6)
    return round(10.0 * decade, 6)


def set_up_display(volume, overlay: Overlay, high: float, lower: float, run_id: str, color_name: str) -> None:
    """Give a volume its colour table, range, threshold and (hidden) legend."""
    scene = volume.GetScene()
    display = volume.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(overlay.middle - high if overlay.signed else 0.0, overlay.middle + high)
    color = slicer.vtkMRMLColorTableNode()
    color.SetName(color_name)
    # Not a row of its own in the Data module; it goes when its volume goes (removal.watch_scene).
    color.SetAttribute(slicer.vtkMRMLSubjectHierarchyConstants.GetSubjectHierarchyExcludeFromTreeAttributeName(), "1")
    mark(color, run_id, f"color.{overlay.key}")
    color.SetTypeToUser()
    color.SetNumberOfColors(colors.SIZE)
    color = scene.AddNode(color)
    _fill(color, colors.palette(overlay.palette))
    display.SetAndObserveColorNodeID(color.GetID())
    apply_threshold(volume, overlay, lower)
    legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(display)
    mark(legend, run_id, f"legend.{overlay.key}")
    legend.SetTitleText(overlay.title)
    legend.SetLabelFormat(overlay.label_format)
    legend.SetNumberOfLabels(label_count(volume, overlay))
    legend.SetMaxNumberOfColors(colors.SIZE)
    legend.SetPosition(*LEGEND_PLACE)
    legend.SetSize(*LEGEND_SIZE)
    for text in (legend.GetTitleTextProperty(), legend.GetLabelTextProperty()):
        text.SetBold(False)
        text.SetItalic(False)
        text.SetFontFamilyToArial()
        text.SetFontSize(LEGEND_FONT)
        text.SetColor(1.0, 1.0, 1.0)
        text.SetShadow(True)
    legend.SetVisibility(False)


def apply_threshold(volume, overlay: Overlay, lower: float) -> None:
    """Make values below `lower` transparent; for a signed map those less than `lower` from its middle. In the map's
    unit.
    """
    display = volume.GetDisplayNode()
    if overlay.signed:
        high = display.GetWindowLevelMax() - overlay.middle
        _fill(display.GetColorNode(), colors.hide_middle(colors.palette(overlay.palette), lower / high))
        display.SetApplyThreshold(False)
    else:
        largest = max(float(volume.GetImageData().GetScalarRange()[1]), display.GetWindowLevelMax(), lower)
        display.SetAutoThreshold(False)
        display.SetThreshold(lower, largest)
        display.SetApplyThreshold(True)
    volume.SetAttribute(LOWER_ATTRIBUTE, f"{lower:g}")


def show_legends(scene, shown=None) -> None:
    """Show the legend of one map (a volume node, None for none), and no other's. To be called when the slice views
    show the map already.

    Slicer makes a legend's actor when the legend changes, and only where the slice view shows its volume then; of a
    view's foreground it follows changes by the user alone (vtkMRMLColorLegendDisplayableManager). So the legend is
    touched even when it was visible before.
    """
    for node in overlay_nodes(scene):
        legend = legend_of(node)
        if legend is not None:
            legend.SetVisibility(node is shown)
            legend.Modified()


def refresh_legends(scene) -> None:
    """Have the legends made again, after the application changed what lies in front of the views."""
    for node in overlay_nodes(scene):
        legend = legend_of(node)
        if legend is not None:
            legend.Modified()


def _fill(color, table: np.ndarray) -> None:
    """Write a table (N, 4) into a colour node, with one modified event."""
    was = color.StartModify()
    for index, (red, green, blue, alpha) in enumerate(table.tolist()):
        color.SetColor(index, str(index), red, green, blue, alpha)
    color.EndModify(was)

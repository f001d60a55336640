"""The Uncertainty section of the RTReview panel: overlay, threshold, and the way through the regions above it."""

from __future__ import annotations

from collections.abc import Callable

from ..runs.overlays import PROPAGATION_TITLES
from ..runs.result_tables import OVERLAY_TITLES as PREDICTION_TITLES
from ..widgets.lines import show_message
from ..widgets.overlay_control import OverlayControl
from ..widgets.text import _

TITLES = {**PREDICTION_TITLES, **PROPAGATION_TITLES}

UNWIELDY_ML = 300.0
"""Nobody looks through a larger region at once."""


class ReviewOverlays:
    """Shows one map of a run. `builder()` gives the scene functions, `changed()` is called when another map is on
    show.
    """

    def __init__(self, ui, builder: Callable, changed: Callable[[], None]):
        self._ui, self._builder, self._changed, self._nodes = ui, builder, changed, None
        self._control = OverlayControl(ui, builder, TITLES, self._show)
        self._regions: list | None = None
        self._at = -1
        ui.thresholdSlider.connect("valueChanged(double)", self._forget_regions)
        ui.nextRegionButton.connect("clicked()", self._next)
        ui.previousRegionButton.connect("clicked()", self._previous)
        self._refresh()

    @property
    def key(self) -> str:
        """Key of the map on show; empty for none."""
        return self._control.key if self._nodes is not None else ""

    def show(self, nodes) -> None:
        """Offer the maps of a run and show the one that was on show, else the first."""
        self._nodes = nodes
        self._control.fill(nodes, self._builder().chosen_overlay(nodes))
        self._refresh()

    def drop_gone(self) -> None:
        """Offer no map that the user deleted."""
        if self._nodes is not None:
            self._control.drop_gone()

    def clear(self) -> None:
        """Offer nothing; touches no node."""
        self._nodes = None
        self._control.clear()
        self._refresh()

    def _show(self, nodes, key) -> None:
        self._builder().show_run_overlay(nodes, key)
        self._refresh()
        self._changed()

    def _forget_regions(self) -> None:
        if self._regions is not None:
            self._refresh()

    def _refresh(self) -> None:
        """Forget the regions of another map or threshold."""
        ui = self._ui
        self._regions, self._at = None, -1
        there = self._nodes is not None and bool(self._control.key)
        for button, words in (
            (
                ui.nextRegionButton,
                _("Go to the next region above the threshold; those near contours come first."),
            ),
            (ui.previousRegionButton, _("Go back to the region before.")),
        ):
            button.enabled = there
            button.toolTip = (
                words
                if there
                else _("Choose a map first.")
                if self._nodes is not None
                else _("There is no result on show.")
            )
        show_message(ui.regionLabel, "")

    def _next(self) -> None:
        self._step(1)

    def _previous(self) -> None:
        self._step(-1)

    def _step(self, by: int) -> None:
        nodes, key, builder = self._nodes, self._control.key, self._builder()
        if nodes is None or not key or not nodes.exists():
            return
        if self._regions is None:
            threshold, dose = builder.overlay_threshold(nodes, key), self._ui.doseSelector.currentNode()
            self._regions = builder.uncertain_regions(nodes, key, threshold, dose)
        if not self._regions:
            show_message(self._ui.regionLabel, _("No region lies above this threshold."))
            return
        count = len(self._regions)
        self._at = (self._at + by) % count if self._at >= 0 else (0 if by > 0 else count - 1)
        region = self._regions[self._at]
        builder.jump_to(nodes.scene, region.point)
        text = _("Region {number} of {count}: {volume} ml, mean {mean}, {place}.").format(
            number=self._at + 1,
            count=count,
            volume=f"{region.volume_ml:.{0 if region.volume_ml >= 100 else 1 if region.volume_ml >= 1 else 2}f}",
            mean=in_unit(builder.OVERLAYS[key], region.mean),
            place=region.place,
        )
        if region.volume_ml > UNWIELDY_ML:
            text += " " + _("Raise the threshold to take it apart.")
        show_message(self._ui.regionLabel, text)


def in_unit(overlay, value: float) -> str:
    """A value of a map as its legend writes it, with its unit."""
    return f"{overlay.label_format % value} {overlay.unit}".strip()

"""What the slice views show of a propagation: the blend of the three CTs, an overlay, and the sets of contours."""

from __future__ import annotations

from collections.abc import Callable

from ..runs.overlays import PROPAGATION_TITLES
from ..widgets.lines import show_message
from ..widgets.overlay_control import OverlayControl
from ..widgets.text import _

STEPS = 100
"""Steps of the slider between two stops."""


class PropagationView:
    """Wires the slider, its three stops, the overlays and the check boxes of the contours; `builder()` gives the
    scene functions.
    """

    def __init__(self, ui, builder: Callable):
        self._ui, self._builder, self._nodes = ui, builder, None
        self._overlays = OverlayControl(ui, builder, PROPAGATION_TITLES, self._show_overlay, none_first=True)
        self._boxes = {
            "propagated": ui.propagatedCheckBox,
            "segmented": ui.segmentedCheckBox,
            "planning": ui.planningCheckBox,
            "accepted": ui.acceptedCheckBox,
        }
        ui.blendSlider.connect("valueChanged(int)", self._blended)
        ui.planningButton.connect("clicked()", self._to_planning)
        ui.warpedButton.connect("clicked()", self._to_warped)
        ui.dailyButton.connect("clicked()", self._to_daily)
        for box in self._boxes.values():
            box.connect("toggled(bool)", self._contours_toggled)

    def show(self, nodes) -> None:
        """Follow a run that is on show: the daily CT with all contours."""
        self._nodes = nodes
        stops = self._builder().blend_images(nodes)
        slider = self._ui.blendSlider
        slider.blockSignals(True)
        slider.minimum, slider.maximum = int(min(stops) * STEPS), int(max(stops) * STEPS)
        slider.value = slider.maximum
        slider.blockSignals(False)
        for button, stop in ((self._ui.planningButton, 0.0), (self._ui.warpedButton, 1.0), (self._ui.dailyButton, 2.0)):
            button.enabled = stop in stops
        slider.enabled = len(stops) > 1
        self._overlays.fill(nodes, self._builder().chosen_overlay(nodes))
        self.refresh_contours()

    def show_again(self) -> None:
        """Show blend and map as they were chosen."""
        self._overlays.fill(self._nodes, self._overlays.key)

    def clear(self) -> None:
        """Follow nothing; touches no node."""
        self._nodes = None
        self._overlays.clear()
        ui = self._ui
        for widget in (ui.blendSlider, ui.planningButton, ui.warpedButton, ui.dailyButton):
            widget.enabled = False
        show_message(ui.blendNoteLabel, "")
        self.refresh_contours()

    def drop_gone(self) -> None:
        """Keep in step when the user deleted an overlay or contours."""
        self._overlays.drop_gone()
        self.refresh_contours()

    def refresh_contours(self) -> None:
        """Tick the boxes of the contours that are shown."""
        sets = self._builder().contour_sets(self._nodes) if self._nodes is not None else {}
        for key, box in self._boxes.items():
            box.blockSignals(True)
            box.enabled = key in sets
            box.checked = key in sets and self._builder().contours_visible(self._nodes, key)
            box.blockSignals(False)

    def _contours_toggled(self) -> None:
        if self._nodes is not None:
            for key, box in self._boxes.items():
                if box.enabled:
                    self._builder().show_contours(self._nodes, key, box.checked)

    def _show_overlay(self, nodes, key) -> None:
        note = _("A map is on: the slider switches between the CTs. Choose no overlay to blend them.")
        show_message(self._ui.blendNoteLabel, note if key else "")
        self._builder().show_blend(nodes, self._ui.blendSlider.value / STEPS, key)

    def _blended(self, value) -> None:
        if self._nodes is not None:
            self._builder().show_blend(self._nodes, value / STEPS, self._overlays.key or None)

    def _to_planning(self) -> None:
        self._ui.blendSlider.value = 0

    def _to_warped(self) -> None:
        self._ui.blendSlider.value = STEPS

    def _to_daily(self) -> None:
        self._ui.blendSlider.value = 2 * STEPS

"""The choice of an overlay and of the value above which it shows: a list and a slider of a results section."""

from __future__ import annotations

from collections.abc import Callable

from .text import _


class OverlayControl:
    """Wires `ui.overlayComboBox` and `ui.thresholdSlider` to the overlays of a run.

    `builder()` gives the scene functions, `titles` maps keys of `scene.OVERLAYS` to what the list calls them, in its
    order, `show(nodes, key or None)` puts an overlay on the views. Without `none_first` the first overlay is chosen by
    itself.
    """

    def __init__(self, ui, builder: Callable, titles: dict[str, str], show: Callable, none_first: bool = False):
        self._combo, self._slider, self._builder = ui.overlayComboBox, ui.thresholdSlider, builder
        self._titles, self._show, self._none_first, self._nodes = titles, show, none_first, None
        self._combo.connect("currentIndexChanged(int)", self._chosen)
        self._slider.connect("valueChanged(double)", self._moved)

    @property
    def key(self) -> str:
        """Key of the chosen overlay; empty for none."""
        return self._combo.itemData(self._combo.currentIndex) or ""

    def fill(self, nodes, chosen: str | None = None) -> None:
        """Offer the overlays of a run and show the one with the key `chosen` (empty for none), else the first entry."""
        self._nodes = nodes
        entries = [(title, key) for key, title in self._titles.items() if key in nodes.overlays]
        entries.insert(0 if self._none_first else len(entries), (_("None"), ""))
        self._combo.blockSignals(True)
        self._combo.clear()
        for title, key in entries:
            self._combo.addItem(title, key)
        self._combo.setCurrentIndex(max(self._combo.findData(chosen), 0) if chosen is not None else 0)
        self._combo.blockSignals(False)
        self._combo.enabled = True
        self._chosen()

    def drop_gone(self) -> None:
        """Offer no overlay that the user deleted; the next one takes its place in the views."""
        if self._nodes is None:
            return
        for key in [key for key, node in self._nodes.overlays.items() if node.GetScene() is None]:
            del self._nodes.overlays[key]
            if self._combo.findData(key) >= 0:
                self._combo.removeItem(self._combo.findData(key))

    def clear(self) -> None:
        """Offer nothing; touches no node."""
        self._nodes = None
        self._combo.blockSignals(True)
        self._combo.clear()
        self._combo.blockSignals(False)
        self._combo.enabled = self._slider.enabled = False

    def _chosen(self) -> None:
        if self._nodes is None:
            return
        key, slider = self.key, self._slider
        slider.enabled = bool(key)
        self._show(self._nodes, key or None)
        if not key:
            return
        highest, unit = self._builder().overlay_range(self._nodes, key)
        threshold = self._builder().overlay_threshold(self._nodes, key)
        slider.blockSignals(True)
        slider.decimals = 0 if highest > 20 else 2
        slider.minimum, slider.maximum, slider.singleStep = 0, max(highest, threshold), highest / 100
        slider.suffix, slider.value = f" {unit}" if unit else "", threshold
        slider.blockSignals(False)

    def _moved(self, value) -> None:
        if self._nodes is not None and self.key:
            self._builder().set_overlay_threshold(self._nodes, self.key, value)

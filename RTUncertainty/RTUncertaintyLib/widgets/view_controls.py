"""Show 3D, centre and layout: the usual controls of the views, in a panel's results."""

from __future__ import annotations

from collections.abc import Callable

from .text import _


class ViewControls:
    """Wires `ui.show3DButton`, `ui.centreButton` and `ui.layoutComboBox`. `builder()` gives the scene functions,
    `run()` the run on show or None.
    """

    def __init__(self, ui, builder: Callable, run: Callable):
        self._ui, self._builder, self._run = ui, builder, run
        ui.show3DButton.connect("toggled(bool)", self._toggled)
        ui.centreButton.connect("clicked()", self._centre)
        ui.layoutComboBox.connect("currentIndexChanged(int)", self._chosen)

    def update(self) -> None:
        """Follow the run on show and the layout of this moment."""
        ui, run = self._ui, self._run()
        there = run is not None and run.exists()
        for button, words in (
            (ui.show3DButton, _("Show the structures as surfaces in the 3-D views.")),
            (ui.centreButton, _("Turn the 3-D views to the structures.")),
        ):
            button.enabled = there
            button.toolTip = words if there else _("There are no results yet.")
        ui.show3DButton.blockSignals(True)
        ui.show3DButton.checked = there and self._builder().shown_3d(run)
        ui.show3DButton.blockSignals(False)
        combo, builder = ui.layoutComboBox, self._builder()
        combo.enabled = there and builder.layout_of(run.scene) is not None
        combo.blockSignals(True)
        if not combo.count:
            for arrangement, title in builder.layouts().items():
                combo.addItem(title, arrangement)
        combo.setCurrentIndex(combo.findData(builder.layout_of(run.scene)) if combo.enabled else -1)
        combo.blockSignals(False)

    def _toggled(self, on) -> None:
        run = self._run()
        if run is not None and run.exists():
            self._builder().show_3d(run, on)

    def _centre(self) -> None:
        run = self._run()
        if run is not None and run.exists():
            self._builder().centre_3d(run)

    def _chosen(self, index) -> None:
        run = self._run()
        if run is not None and run.exists() and index >= 0:
            self._builder().set_layout(run.scene, self._ui.layoutComboBox.itemData(index))

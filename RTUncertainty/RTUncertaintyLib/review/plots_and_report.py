"""Plots, report and tables of a review: the buttons at the end of the RTReview panel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import slicer
import slicer.util

from rtuncertainty.core.errors import RTUncertaintyError

from ..widgets.lines import on_path, show_message
from ..widgets.text import _

FORMATS = ("html", "pdf", "csv")


class ReviewOutput:
    """Wires the buttons. `level()` gives the level of the intervals, `overlay()` the key of the map on show."""

    def __init__(self, ui, level: Callable[[], float], overlay: Callable[[], str]):
        self._ui, self._level, self._overlay, self._nodes, self._data = ui, level, overlay, None, None
        self._boxes = {"html": ui.htmlCheckBox, "pdf": ui.pdfCheckBox, "csv": ui.csvCheckBox}
        ui.distributionsButton.connect("clicked()", self._distributions)
        ui.slicesButton.connect("clicked()", self._slices)
        ui.zscoreButton.connect("clicked()", self._zscores)
        ui.errorButton.connect("clicked()", self._errors)
        ui.exportButton.connect("clicked()", self._export)
        on_path(ui.exportFolderEdit, self._refresh_export)
        for box in self._boxes.values():
            box.connect("toggled(bool)", self._refresh_export)
        self.show(None, None)

    def show(self, nodes, data) -> None:
        """Follow a run, or none."""
        if nodes is not self._nodes:
            show_message(self._ui.exportLabel, "")
        self._nodes, self._data = nodes, data
        self.refresh()

    def refresh(self) -> None:
        """Bring the buttons in step with the run and the map on show."""
        ui, nodes = self._ui, self._nodes
        none = _("There is no result on show.") if nodes is None else ""
        distributions = any(s.distribution for s in self._data.structures) if self._data is not None else False
        for button, missing, words in (
            (
                ui.distributionsButton,
                "" if distributions else _("This result has no distribution of volumes; run again with this version."),
                _("The distribution of each structure's volume, with its interval."),
            ),
            (
                ui.slicesButton,
                "" if nodes is not None and self._overlay() else _("Choose a map under Uncertainty first."),
                _("The map on show, from slice to slice, for each structure."),
            ),
            (
                ui.zscoreButton,
                ""
                if nodes is not None and "zscore" in nodes.overlays
                else _("This result has no reference CT to compare with."),
                _("How errors compare with the predicted uncertainty: calibrated ones follow the bell curve."),
            ),
            (
                ui.errorButton,
                ""
                if nodes is not None and {"error", "predictive"} <= set(nodes.overlays)
                else _("This result has no reference CT to compare with."),
                _("How large errors are where the model says how large: calibrated error bars follow the diagonal."),
            ),
        ):
            button.enabled = not (none or missing)
            button.toolTip = none or missing or words
        self._refresh_export()

    def _refresh_export(self) -> None:
        ui = self._ui
        if self._nodes is None:
            missing = _("There is no result on show.")
        elif not any(box.checked for box in self._boxes.values()):
            missing = _("Choose at least one format.")
        elif not ui.exportFolderEdit.currentPath.strip():
            missing = _("Choose the folder to write to.")
        else:
            missing = ""
        ui.exportButton.enabled = not missing
        ui.exportButton.toolTip = missing or _("Write the review into this folder.")

    # -- plots

    def _plot(self, make: Callable) -> None:
        from .views import plots as review_plots

        if self._nodes is None or not self._nodes.exists():
            return
        try:
            chart = make(review_plots)
        except (RTUncertaintyError, ValueError, RuntimeError) as error:
            show_message(self._ui.exportLabel, str(error), "error")
            return
        if chart is None:
            show_message(self._ui.exportLabel, _("There is nothing to plot."))
            return
        review_plots.show_chart(chart)

    def _distributions(self) -> None:
        self._plot(lambda plots: plots.volume_distributions(self._nodes, level=self._level()))

    def _slices(self) -> None:
        self._plot(lambda plots: plots.along_slices(self._nodes, self._overlay()))

    def _zscores(self) -> None:
        self._plot(lambda plots: plots.zscore_histogram(self._nodes))

    def _errors(self) -> None:
        self._plot(lambda plots: plots.error_against_sd(self._nodes))

    # -- report

    def _export(self) -> None:
        from .report import export

        if self._nodes is None or not self._nodes.exists() or not self._ui.exportButton.enabled:
            return
        ui, nodes, level, patient = self._ui, self._nodes, self._level(), self._ui.patientEdit.text.strip() or None
        folder, formats = (
            Path(ui.exportFolderEdit.currentPath.strip()),
            tuple(f for f in FORMATS if self._boxes[f].checked),
        )
        show_message(ui.exportLabel, _("Writing…"))
        ui.exportButton.enabled = False  # the second click of a double one comes while events are processed
        try:
            with slicer.util.WaitCursor():
                slicer.app.processEvents()
                written = export.export(nodes, folder, formats=formats, level=level, patient=patient)
        except (RTUncertaintyError, OSError, ValueError, RuntimeError) as error:
            show_message(ui.exportLabel, _("Nothing was written: {error}").format(error=error), "error")
            return
        finally:
            self._refresh_export()
        show_message(
            ui.exportLabel,
            _("Written to {folder}: {files}.").format(folder=folder, files=", ".join(Path(f).name for f in written)),
            "good",
        )

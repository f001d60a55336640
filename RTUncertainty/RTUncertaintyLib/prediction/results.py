"""The Results section of the RTPrediction panel: overlay, volumes, flags, report, removal."""

from __future__ import annotations

from rtuncertainty.results import Result

from ..runs.result_tables import OVERLAY_TITLES, volume_row
from ..widgets import table_rows
from ..widgets.lines import show_message
from ..widgets.link import ReviewLink
from ..widgets.overlay_control import OverlayControl
from ..widgets.text import _
from ..widgets.view_controls import ViewControls
from .logic import SceneBuilder

MOST_ROWS = 12
"""Of the table of volumes; of more it scrolls."""


class ResultsPanel:
    """Shows one run. `ui` holds the widgets, `scene_builder` acts on the nodes, `removed(nodes)` is called after the
    user removed the run."""

    def __init__(self, ui, scene_builder, removed):
        self._ui, self._builder, self._removed = ui, scene_builder, removed
        self._nodes, self._report = None, None
        self._overlays = OverlayControl(ui, scene_builder, OVERLAY_TITLES, self._show_overlay)
        self._review = ReviewLink(ui, lambda: self._nodes)
        self._views = ViewControls(ui, scene_builder, lambda: self._nodes)
        ui.openReportButton.connect("clicked()", self._open_report)
        ui.removeRunButton.connect("clicked()", self._remove)
        self.clear()

    @property
    def builder(self) -> SceneBuilder:
        return self._builder()

    @property
    def nodes(self):
        """The nodes of the run on show, or None."""
        return self._nodes

    def show(self, nodes, result: Result) -> None:
        """Show a run that is in the scene."""
        self._nodes, self._report = nodes, result.report
        show_message(self._ui.resultNameLabel, result.name)
        table_rows.fill(self._ui.volumesTable, [volume_row(row) for row in result.table("volumes")], stretch=(0,))
        table_rows.fit(self._ui.volumesTable, MOST_ROWS)
        table_rows.fill_flags(self._ui.flagsTable, result.table("flags"))
        self._overlays.fill(nodes, self.builder.chosen_overlay(nodes))
        self._update_buttons()
        self._ui.resultsCollapsibleButton.collapsed = False

    def show_again(self) -> None:
        """Put the map back that another module, such as the Segment Editor, took from the run's views."""
        if self._nodes is not None and self._nodes.exists():
            if self.builder.in_views(self._nodes):
                self._overlays.fill(self._nodes, self._overlays.key)
            self._views.update()

    def clear(self) -> None:
        """Show that there are no results; touches no node."""
        self._nodes, self._report = None, None
        show_message(self._ui.resultNameLabel, _("No results yet."))
        self._overlays.clear()
        for table in (self._ui.volumesTable, self._ui.flagsTable):
            table_rows.fill(table, [])
        self._update_buttons()

    def _update_buttons(self) -> None:
        ui, there = self._ui, self._nodes is not None
        self._review.update()
        self._views.update()
        none = _("There are no results yet.")
        ui.removeRunButton.enabled = there
        ui.removeRunButton.toolTip = _("Remove everything that this run added to the scene.") if there else none
        ui.openReportButton.enabled = self._report is not None
        if not there:
            ui.openReportButton.toolTip = none
        elif self._report is None:
            ui.openReportButton.toolTip = _("This run wrote no report: switch it on under Settings and run again.")
        else:
            ui.openReportButton.toolTip = str(self._report)

    def forget_if_gone(self) -> None:
        """Clear the section when the user deleted the run in the Data module."""
        if self._nodes is None:
            return
        if not self._nodes.exists():
            self.clear()
        else:
            self._overlays.drop_gone()

    def _show_overlay(self, nodes, key) -> None:
        self.builder.show_overlay(nodes, key)

    def _open_report(self) -> None:
        import qt

        report = self._report
        if not report.is_file():
            self._ui.openReportButton.enabled = False
            self._ui.openReportButton.toolTip = _("{report} is not there any more.").format(report=report)
            return
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(report)))

    def _remove(self) -> None:
        nodes = self._nodes
        self.builder.remove_run(nodes)
        self.clear()
        self._removed(nodes)

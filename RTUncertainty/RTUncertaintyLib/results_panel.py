"""The Results section of the RTPrediction panel: overlay, volumes, flags, report, removal."""

from __future__ import annotations

from pathlib import Path

from .message_line import show_message
from .prediction_logic import SceneBuilder
from .result_tables import OVERLAY_TITLES, ResultTables, volume_row
from .text import _

_COLOURS = {"serious": ("#f8d9d9", "#6b1414"), "warning": ("#fdf0c8", "#5c4500")}


class ResultsPanel:
    """Shows one run. `ui` holds the widgets, `scene_builder` acts on the nodes, `removed(nodes)` is called after the
    user removed the run."""

    def __init__(self, ui, scene_builder, removed):
        self._ui, self._builder, self._removed = ui, scene_builder, removed
        self._nodes, self._tables = None, None
        ui.overlayComboBox.connect("currentIndexChanged(int)", self._overlay_changed)
        ui.thresholdSlider.connect("valueChanged(double)", self._threshold_changed)
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

    def show(self, nodes, tables: ResultTables) -> None:
        """Show a run that is in the scene."""
        self._nodes, self._tables = nodes, tables
        show_message(self._ui.resultNameLabel, tables.name)
        self._fill_volumes(tables.volumes)
        self._fill_flags(tables.flags)
        combo = self._ui.overlayComboBox
        combo.blockSignals(True)
        combo.clear()
        for key in (k for k in OVERLAY_TITLES if k in nodes.overlays):
            combo.addItem(OVERLAY_TITLES[key], key)
        combo.addItem(_("None"), "")
        combo.setCurrentIndex(0)
        combo.blockSignals(False)
        combo.enabled = True
        self._overlay_changed()
        self._update_buttons()
        self._ui.resultsCollapsibleButton.collapsed = False

    def clear(self) -> None:
        """Show that there are no results; touches no node."""
        self._nodes, self._tables = None, None
        ui = self._ui
        show_message(ui.resultNameLabel, _("No results yet."))
        ui.overlayComboBox.blockSignals(True)
        ui.overlayComboBox.clear()
        ui.overlayComboBox.blockSignals(False)
        ui.overlayComboBox.enabled = ui.thresholdSlider.enabled = False
        for table in (ui.volumesTable, ui.flagsTable):
            table.rowCount = 0
            table.visible = False
        self._update_buttons()

    def _update_buttons(self) -> None:
        ui, tables = self._ui, self._tables
        none = _("There are no results yet.")
        ui.removeRunButton.enabled = tables is not None
        ui.removeRunButton.toolTip = _("Remove everything that this run added to the scene.") if tables else none
        ui.openReportButton.enabled = tables is not None and tables.report is not None
        if tables is None:
            ui.openReportButton.toolTip = none
        elif tables.report is None:
            ui.openReportButton.toolTip = _("This run wrote no report: switch it on under Settings and run again.")
        else:
            ui.openReportButton.toolTip = str(tables.report)

    def forget_if_gone(self) -> None:
        """Clear the section when the user deleted the run in the Data module."""
        if self._nodes is not None and not self._nodes.exists():
            self.clear()

    @property
    def _key(self) -> str:
        """Key of the chosen overlay; empty for none."""
        return self._ui.overlayComboBox.itemData(self._ui.overlayComboBox.currentIndex) or ""

    def _overlay_changed(self) -> None:
        if self._nodes is None:
            return
        key, slider = self._key, self._ui.thresholdSlider
        slider.enabled = bool(key)
        self.builder.show_overlay(self._nodes, key or None)
        if not key:
            return
        highest, unit = self.builder.overlay_range(self._nodes, key)
        threshold = self.builder.overlay_threshold(self._nodes, key)
        slider.blockSignals(True)
        slider.decimals = 0 if highest > 20 else 2
        slider.minimum, slider.maximum, slider.singleStep = 0, max(highest, threshold), highest / 100
        slider.suffix, slider.value = f" {unit}" if unit else "", threshold
        slider.blockSignals(False)

    def _threshold_changed(self, value) -> None:
        if self._nodes is not None and self._key:
            self.builder.set_overlay_threshold(self._nodes, self._key, value)

    def _fill_volumes(self, rows: list[dict]) -> None:
        self._fill(self._ui.volumesTable, [volume_row(row) for row in rows])

    def _fill_flags(self, rows: list[dict]) -> None:
        import qt

        table = self._ui.flagsTable
        self._fill(table, [[row["subject"], row["severity"], f"{row['flag']}: {row['reason']}"] for row in rows])
        for index, row in enumerate(rows):
            if row["severity"] in _COLOURS:
                background, text = _COLOURS[row["severity"]]
                table.item(index, 1).setBackground(qt.QBrush(qt.QColor(background)))
                table.item(index, 1).setForeground(qt.QBrush(qt.QColor(text)))

    @staticmethod
    def _fill(table, rows: list[list[str]]) -> None:
        import qt

        table.rowCount = len(rows)
        for r, row in enumerate(rows):
            for c, text in enumerate(row):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(text)
                table.setItem(r, c, item)
        last = table.columnCount - 1
        for column in range(table.columnCount):
            mode = qt.QHeaderView.Stretch if column == last else qt.QHeaderView.ResizeToContents
            table.horizontalHeader().setSectionResizeMode(column, mode)
        # Long reasons wrap: the rows follow the width of the panel.
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.visible = bool(rows)

    def _open_report(self) -> None:
        import qt

        report = Path(self._tables.report)
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

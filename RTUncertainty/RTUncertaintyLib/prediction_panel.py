"""The RTPrediction panel: inputs, model, check, run, progress. Results are `ResultsPanel`'s."""

from __future__ import annotations

from pathlib import Path

from rtbackend.errors import RTUncertaintyError

from . import model_card_text
from .input_check import InputCheck, check_input
from .message_line import duration, show_message
from .prediction_logic import PredictionLogic
from .prediction_run import Outcome, PredictionRun
from .result_tables import read_result
from .results_panel import ResultsPanel
from .run_workspace import RunRequest
from .text import _
from .torch_setup import TorchProvider, TorchSetup
from .volume_export import UnusableVolume

STAGES = {
    "read": _("Reading"), "preprocess": _("Preparing"), "network": _("Sampling the network"),
    "assemble": _("Putting together"), "write": _("Writing"), "scene": _("Building the scene"),
    "report": _("Writing the report"),
}


class PredictionPanel:
    """Wires the widgets of RTPrediction.ui to a `PredictionLogic`.

    `ui` comes from `slicer.util.childWidgetVariables`; `torch` is replaced in tests. `parameters` is the wrapped
    parameter node, or None while the module is not open.
    """

    def __init__(self, ui, logic: PredictionLogic, torch: TorchProvider | None = None):
        self.ui, self.logic, self.torch = ui, logic, torch or TorchSetup()
        self.parameters, self._run, self._checked = None, None, (None, InputCheck())
        self._told_for = None
        self._notes: list[str] = []
        self.results = ResultsPanel(ui, lambda: self.logic.scene_builder, self._run_removed)
        ui.modelComboBox.connect("currentIndexChanged(int)", self._model_chosen)
        ui.modelFolderEdit.connect("currentPathChanged(QString)", self._model_folder_changed)
        ui.outputFolderEdit.connect("currentPathChanged(QString)", self._output_folder_changed)
        ui.runButton.connect("clicked()", self.start)
        ui.cancelButton.connect("clicked()", self.cancel)
        ui.progressBar.visible = False
        show_message(ui.statusLabel, "")
        self.reload_models()

    # -- inputs and model

    def set_parameters(self, parameters) -> None:
        """Show another parameter node (wrapped), or None."""
        self.parameters = parameters
        if parameters is not None:
            self.ui.outputFolderEdit.currentPath = parameters.outputFolder
            self.ui.modelFolderEdit.currentPath = parameters.modelFolder
            self.reload_models()
        self.refresh()

    def reload_models(self) -> None:
        """Offer the installed bundles and the user's own folder; keeps the choice."""
        wanted = self.parameters.model if self.parameters is not None else ""
        cards = {card["folder"]: card for card in self.logic.models()}
        own = self.parameters.modelFolder if self.parameters is not None else ""
        self._folder_error = ""
        if own:
            try:
                card = self.logic.card(own)
                cards[card["folder"]] = card
            except RTUncertaintyError as error:
                self._folder_error = str(error)
        self._cards = cards
        combo = self.ui.modelComboBox
        combo.blockSignals(True)
        combo.clear()
        for folder, card in cards.items():
            combo.addItem(model_card_text.title(card), folder)
        index = combo.findData(wanted) if wanted else -1
        combo.setCurrentIndex(max(index, 0) if cards else -1)
        combo.blockSignals(False)
        self._model_chosen()

    @property
    def card(self) -> dict | None:
        """The card of the chosen model."""
        index = self.ui.modelComboBox.currentIndex
        return self._cards.get(self.ui.modelComboBox.itemData(index)) if index >= 0 else None

    def _model_chosen(self) -> None:
        card = self.card
        ui = self.ui
        summary, phantom = "", card is not None and model_card_text.on_phantom(card)
        if card is not None:
            summary = _("{input}. <b>Research use only.</b>").format(input=model_card_text.summary(card))
        if phantom:
            summary += " " + _("<b>Trained on a digital phantom only: it has never seen a patient.</b>")
        show_message(ui.modelSummaryLabel, summary, "warning" if phantom else "plain")
        ui.modelCardText.html = model_card_text.card_html(card) if card else ""
        ui.modelCardCollapsibleButton.enabled = card is not None
        ui.modelComboBox.toolTip = f"{model_card_text.title(card)}\n{card['folder']}" if card else _("No model is installed.")
        if self.parameters is not None and card is not None and self.parameters.model != card["folder"]:
            self.parameters.model = card["folder"]
        self.refresh()

    def _model_folder_changed(self, path) -> None:
        if self.parameters is None or self.parameters.modelFolder == path:
            return
        self.parameters.modelFolder = path
        known = set(self._cards)
        self.reload_models()
        for folder in set(self._cards) - known:
            self.ui.modelComboBox.setCurrentIndex(self.ui.modelComboBox.findData(folder))

    def _output_folder_changed(self, path) -> None:
        if self.parameters is not None and self.parameters.outputFolder != path:
            self.parameters.outputFolder = path

    # -- what can be done now

    @property
    def running(self) -> bool:
        return self._run is not None

    def check(self, again: bool = False) -> InputCheck:
        """Does the chosen volume fit the chosen model? Remembered until one of them changes."""
        node, card = self.parameters.inputVolume, self.card
        image, transform = node.GetImageData(), node.GetParentTransformNode()
        key = (node.GetID(), node.GetName(), card["folder"], image.GetMTime() if image else 0, node.GetMTime(),
               transform.GetMTime() if transform else 0)
        if again or self._checked[0] != key:
            self._checked = (key, check_input(node, card))
        return self._checked[1]

    def _reason_not_to_run(self) -> tuple[str, str]:
        """Why Run is off, and how serious that is; empty when it is on."""
        if self._folder_error:
            return self._folder_error, "error"
        if self.card is None:
            return _("No model is installed: give the folder of one under Settings, Model folder."), "error"
        if self.parameters is None or self.parameters.inputVolume is None:
            return _("Choose an MR volume to begin."), "plain"
        check = self.check()
        return (check.message, "error") if check.errors else ("", "")

    def _tell(self, text: str, kind: str = "plain") -> None:
        """The status line, about the input and the model of this moment."""
        show_message(self.ui.statusLabel, text, kind)
        self._told_for = (self.parameters.inputVolume, self.card) if text and self.parameters is not None else None

    def refresh(self) -> None:
        """Bring buttons and lines in step with the inputs."""
        ui = self.ui
        chosen = (self.parameters.inputVolume if self.parameters is not None else None, self.card)
        if self._told_for is not None and chosen != self._told_for and self.parameters is not None and not self.running:
            self._tell("")  # the line is about another input
        reason, kind = self._reason_not_to_run()
        if reason:
            show_message(ui.checkLabel, reason, kind)
        else:
            warning = self.check().message
            show_message(ui.checkLabel, warning, "warning" if warning else "plain")
        ui.runButton.enabled = not reason and not self.running
        ui.runButton.toolTip = _("A run is going on.") if self.running else reason or _("Run the model on the volume.")
        ui.cancelButton.enabled = self.running
        ui.cancelButton.toolTip = _("End the run; nothing is added to the scene.") if self.running else _(
            "No run is going on.")
        for widget in (ui.inputSelector, ui.modelComboBox, ui.settingsCollapsibleButton):
            widget.enabled = not self.running

    # -- a run

    def start(self) -> None:
        """Start a run with what the panel shows."""
        if self.running or self._reason_not_to_run()[0] or self.check(again=True).errors:
            self.refresh()
            return
        if not self.torch.installed():
            problem = self.torch.install()
            if problem:
                self._tell(problem, "error")
                return
        p, self._notes = self.parameters, []
        self.ui.logTextEdit.clear()
        request = RunRequest(
            p.inputVolume, self.card["folder"], p.samples, p.seed, p.device.value, p.biasField.value,
            p.referenceVolume, p.outputFolder.strip() or None, p.report)
        try:
            self._run = self.logic.start(request, self)
        except (UnusableVolume, RTUncertaintyError, RuntimeError) as error:
            self._tell(str(error), "error")
            return
        if self._run is not None and not self._run.running:
            self._run = None  # it failed to start, and `ended` has told why
        else:
            self.ui.progressBar.value = 0
            self.ui.progressBar.visible = True
            self._tell(_("Starting…"))
        self.refresh()

    def cancel(self) -> None:
        """Ask the run to end."""
        if self._run is not None:
            self._tell(_("Cancelling…"))
            self.ui.cancelButton.enabled = False
            self._run.cancel()

    def abort(self) -> None:
        """End the run at once and without a word: the scene or the panel goes away."""
        run, self._run = self._run, None
        if run is not None:
            run.abort()
            self.ui.progressBar.visible = False
            self._tell("")
            self.refresh()

    def scene_closed(self) -> None:
        """The nodes of all runs are gone."""
        self.results.clear()
        self.logic.clean_up()
        self._tell("")

    def progressed(self, event: dict) -> None:
        if self._run is None:
            return
        overall, left = event.get("overall"), event.get("seconds_left")
        if isinstance(overall, (int, float)):
            self.ui.progressBar.value = int(1000 * min(max(overall, 0), 1))
        words = event.get("message") or STAGES.get(event.get("stage"), "")
        if isinstance(left, (int, float)):
            words = _("{stage}, about {time} left").format(stage=words, time=duration(left))
        self._tell(words)

    def noted(self, message: str) -> None:
        self._notes.append(message)
        self.logged(message)

    def logged(self, line: str) -> None:
        self.ui.logTextEdit.appendPlainText(line)

    def ended(self, run: PredictionRun, outcome: Outcome) -> None:
        if self._run is None and outcome.state == "cancelled":
            return  # aborted: nobody is waiting
        self._run = None
        self.ui.progressBar.visible = False
        if outcome.state == "done":
            outcome = self._load(run, outcome)
        kind = {"done": "warning" if self._notes else "good", "failed": "error", "cancelled": "plain"}[outcome.state]
        self._tell(outcome.message, kind)
        self.refresh()

    def _load(self, run: PredictionRun, outcome: Outcome) -> Outcome:
        """Put the result into the scene; an unreadable one is told like a failed run."""
        try:
            tables = read_result(outcome.folder)
            nodes = self.logic.load(Path(outcome.folder), input_node=run.workspace.volume)
        except (RTUncertaintyError, OSError, RuntimeError, ValueError) as error:
            return Outcome("failed", _("The run ended well, but its results in {folder} cannot be loaded: {error}").format(
                folder=outcome.folder, error=error))
        self.results.show(nodes, tables)
        return Outcome("done", " ".join([_("Done."), *dict.fromkeys([*self._notes, *tables.notes])]), outcome.folder)

    def _run_removed(self, nodes) -> None:
        self._tell(_("The run was removed from the scene."))

    def close(self) -> None:
        """The panel goes away: end the run and remove temporary files."""
        self.parameters = None
        self.abort()
        self.logic.clean_up()

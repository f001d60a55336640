"""What the panels of all jobs share: model, check of the inputs, run, progress, messages, log."""

from __future__ import annotations

import re
from pathlib import Path

import slicer

from rtuncertainty.core.errors import RTUncertaintyError

from ..runs.registry import announce
from ..widgets import card_text
from ..widgets.lines import on_path, show_message
from ..widgets.text import _
from .backend_run import BackendRun, Outcome
from .input_check import InputCheck
from .logic import JobLogic
from .section import SectionJob
from .torch_setup import TorchProvider, TorchSetup


class JobPanel(SectionJob):
    """Wires the widgets of a module's .ui file to a `JobLogic`.

    `ui` comes from `slicer.util.childWidgetVariables`; `torch` is replaced in tests. `parameters` is the wrapped
    parameter node, or None while the module is not open. A module gives `make_results`, `inputs`, `missing_input`,
    `check_key`, `check_inputs`, `request` and `load_result`.
    """

    stages: dict[str, str] = {}
    """Stage of the backend's progress -> how the panel calls it."""
    first_overlay: str | None = None
    """The map that a run shows at first."""
    selectors: tuple[str, ...] = ()
    """Names of the widgets that are off while a run goes on, besides the model and the settings."""
    run_tip = ""

    def __init__(self, ui, logic: JobLogic, torch: TorchProvider | None = None):
        self.ui, self.logic, self.torch = ui, logic, torch or TorchSetup()
        self.parameters, self._checked = None, (None, InputCheck())
        self._message_for, self._installing, self._waiting = None, False, (None, None)
        super().__init__(ui.progressBar, ui.statusLabel, ui.cancelButton, self._load, self.refresh)
        self.results = self.make_results()
        ui.modelComboBox.connect("currentIndexChanged(int)", self._model_chosen)
        on_path(ui.modelFolderEdit, self._model_folder_changed)
        on_path(ui.outputFolderEdit, self._output_folder_changed)
        on_path(ui.siteEdit, self._site_changed)
        ui.runButton.connect("clicked()", self.start)
        show_message(ui.statusLabel, "")
        self.reload_models()

    # -- what a module adds

    def make_results(self):
        """The results section; has `show`, `clear` and `forget_if_gone`."""
        raise NotImplementedError

    def suggest_inputs(self) -> None:
        """Choose inputs that are beyond doubt when nothing is chosen yet."""

    def inputs(self) -> tuple:
        """The chosen nodes; messages about them go away when one changes."""
        raise NotImplementedError

    def missing_input(self) -> str:
        """What is still to be chosen, in words; empty when all is there."""
        raise NotImplementedError

    def check_key(self) -> tuple:
        """Changes whenever the inputs change."""
        raise NotImplementedError

    def check_inputs(self) -> InputCheck:
        """Compare the inputs with the card."""
        raise NotImplementedError

    def request(self):
        """What the logic is asked to run."""
        raise NotImplementedError

    def load_result(self, run: BackendRun, outcome: Outcome) -> tuple:
        """Put the result into the scene, and on show where the module is open; returns (its nodes, the result)."""
        raise NotImplementedError

    def restored_tables(self, nodes):
        """The tables of a run that is in the scene, as the results section shows them."""
        raise NotImplementedError

    def restore_run(self) -> None:
        """Show the last run of this job in the scene, which a scene file or the console brought, when none is on
        show.
        """
        if self.running:
            return
        (waiting, result), self._waiting = self._waiting, (None, None)
        if waiting is not None and waiting.exists():
            waiting.show(self.logic.scene_builder.chosen_overlay(waiting) or self.first_overlay)
            self._show_run(waiting, result)
            return
        if self.results.nodes is not None:
            self.results.show_again()
            return
        builder = self.logic.scene_builder
        for identifier in reversed(list(builder.find_runs(slicer.mrmlScene))):
            nodes = builder.run_nodes(identifier)
            if nodes is None or nodes.job != self.logic.job:
                continue
            self._show_run(nodes)
            return

    def _show_run(self, nodes, result=None) -> None:
        """Show a run that is in the scene; its tables are read there, unless its result is at hand."""
        try:
            self.results.show(nodes, result or self.restored_tables(nodes))
        except (RTUncertaintyError, KeyError, ValueError) as error:
            self.tell(
                _("{name} is in the scene, but cannot be shown here: {error}").format(name=nodes.name, error=error),
                "warning",
            )

    def keys(self) -> dict:
        """Keys of the panel while its module is open: key -> what it does."""
        return {}

    def node_arrived(self) -> None:
        """An image or a segmentation was loaded while the module is open."""
        if not self.running:
            self.suggest_inputs()

    def run_arrived(self, nodes) -> None:
        """A run of the Python console is in the scene: show it, or keep it until the module is open."""
        known = nodes is self.results.nodes or nodes is self._waiting[0]  # a run of this very panel
        if known or nodes.job != self.logic.job or nodes.scene is not slicer.mrmlScene:
            return
        if self.is_open and not self.running:
            self._show_run(nodes)
        else:
            self._waiting = nodes, None

    @property
    def is_open(self) -> bool:
        """Whether the module is the one that the user works in."""
        return self.parameters is not None

    # -- inputs and model

    def set_parameters(self, parameters) -> None:
        """Show another parameter node (wrapped), or None."""
        self.parameters = parameters
        if parameters is not None:
            self.ui.outputFolderEdit.currentPath = parameters.outputFolder
            self.ui.siteEdit.currentPath = parameters.site
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
            combo.addItem(card_text.title(card), folder)
        index = combo.findData(wanted) if wanted else -1
        if index < 0 and wanted:  # a scene of another computer or version: the same model lies elsewhere
            name = re.split(r"[/\\]", wanted.rstrip("/\\"))[-1]
            index = next(
                (i for i, card in enumerate(cards.values()) if name in (card["name"], Path(card["folder"]).name)), -1
            )
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
        summary, phantom = "", card is not None and card_text.on_phantom(card)
        if card is not None:
            summary = _("{input}. <b>Research use only.</b>").format(input=card_text.summary(card))
        if phantom:
            summary += " " + _("<b>Trained on a digital phantom only: it has never seen a patient.</b>")
        show_message(ui.modelSummaryLabel, summary, "warning" if phantom else "plain")
        ui.modelCardText.html = card_text.card_html(card) if card else ""
        ui.modelCardCollapsibleButton.enabled = card is not None
        ui.modelComboBox.toolTip = f"{card_text.title(card)}\n{card['folder']}" if card else _("No model is installed.")
        if self.parameters is not None and card is not None and self.parameters.model != card["folder"]:
            self.parameters.model = card["folder"]
        self.refresh()

    def _model_folder_changed(self) -> None:
        path = self.ui.modelFolderEdit.currentPath
        if self.parameters is None or self.parameters.modelFolder == path:
            return
        self.parameters.modelFolder = path
        known = set(self._cards)
        self.reload_models()
        for folder in set(self._cards) - known:
            self.ui.modelComboBox.setCurrentIndex(self.ui.modelComboBox.findData(folder))

    def _output_folder_changed(self) -> None:
        path = self.ui.outputFolderEdit.currentPath
        if self.parameters is not None and self.parameters.outputFolder != path:
            self.parameters.outputFolder = path

    def _site_changed(self) -> None:
        path = self.ui.siteEdit.currentPath
        if self.parameters is not None and self.parameters.site != path:
            self.parameters.site = path

    # -- what can be done now

    def check(self, again: bool = False) -> InputCheck:
        """Do the chosen inputs fit the chosen model? Remembered until one of them changes."""
        key = (*self.check_key(), self.card["folder"])
        if again or self._checked[0] != key:
            self._checked = (key, self.check_inputs())
        return self._checked[1]

    def _reason_not_to_run(self) -> tuple[str, str]:
        """Why Run is off, and how serious that is; empty when it is on."""
        if self._folder_error:
            return self._folder_error, "error"
        if self.card is None:
            return _("No model is installed: give the folder of one under Settings, Model folder."), "error"
        missing = self.missing_input()
        if missing:
            return missing, "plain"
        check = self.check()
        return (check.message, "error") if check.errors else ("", "")

    def tell(self, text: str, kind: str = "plain") -> None:
        """The status line, about the inputs and the model of this moment."""
        show_message(self.ui.statusLabel, text, kind)
        self._message_for = (self.inputs(), self.card) if text and self.parameters is not None else None

    def refresh(self) -> None:
        """Bring buttons and lines in step with the inputs."""
        ui = self.ui
        if (
            self._message_for is not None
            and self.parameters is not None
            and not self.running
            and ((self.inputs(), self.card) != self._message_for)
        ):
            self.tell("")  # the line is about another input
        reason, kind = self._reason_not_to_run()
        if reason:
            show_message(ui.checkLabel, reason, kind)
        else:
            warning = self.check().message
            show_message(ui.checkLabel, warning, "warning" if warning else "plain")
        ui.runButton.enabled = not reason and not self.running
        ui.runButton.toolTip = _("A run is going on.") if self.running else reason or self.run_tip
        ui.cancelButton.enabled = self.running
        ui.cancelButton.toolTip = (
            _("End the run; nothing is added to the scene.") if self.running else _("No run is going on.")
        )
        for widget in (*(getattr(ui, name) for name in self.selectors), ui.modelComboBox, ui.settingsCollapsibleButton):
            widget.enabled = not self.running

    # -- a run

    def start(self) -> None:
        """Start a run with what the panel shows."""
        if self.running or self._reason_not_to_run()[0] or self.check(again=True).errors:
            self.refresh()
            return
        if not self._torch_there():
            return
        self.ui.logTextEdit.clear()
        self.begin(lambda listener: self.logic.start(self.request(), listener))

    def _torch_there(self) -> bool:
        """Whether a run can be started, after PyTorch was installed where it was not there; tells what speaks against
        it.

        The application goes on while it installs: Run may be pressed again, the module left, or an input deleted.
        """
        if self._installing or self.torch.installed():
            return not self._installing
        self._installing = True
        try:
            problem = self.torch.install()
        finally:
            self._installing = False
        if problem:
            self.tell(problem, "error")
        elif self.parameters is None or self._reason_not_to_run()[0]:
            self.refresh()
            return False
        return not problem

    def _show_running(self) -> None:
        self._bar.visible = self.running  # the button to cancel stays, and is off

    def scene_closed(self) -> None:
        """The nodes of all runs are gone."""
        self.results.clear()
        self._waiting = None, None
        self.logic.clean_up()
        self.tell("")

    def _words(self, event: dict) -> str:
        return self._progress_words(super()._words(event), self.stages.get(event.get("stage"), ""))

    @staticmethod
    def _progress_words(message: str, stage: str) -> str:
        """What the backend says, with what it is doing before it where it does not say that itself: "Part 2 of 4"."""
        if not message or not stage or message.split()[0] == stage.split()[0]:
            return message or stage
        return _("{stage}: {message}").format(stage=stage, message=message[:1].lower() + message[1:])

    def noted(self, message: str) -> None:
        super().noted(message)
        self.logged(message)

    def logged(self, line: str) -> None:
        self.ui.logTextEdit.appendPlainText(line)

    def _load(self, run: BackendRun, outcome: Outcome) -> tuple[str, str]:
        """Put the result into the scene; an unreadable one is told like a failed run."""
        try:
            nodes, result = self.load_result(run, outcome)
            if self.is_open:
                self.results.show(nodes, result)
            else:  # another module is open: its views stay as they are
                self._waiting = nodes, result
            notes = result.notes
            announce(nodes)
        except (RTUncertaintyError, OSError, RuntimeError, ValueError) as error:
            return _("The run ended well, but its results in {folder} cannot be loaded: {error}").format(
                folder=outcome.folder, error=error
            ), "error"
        said = [outcome.message] if outcome.message else []
        words = " ".join([_("Done."), *said, *dict.fromkeys([*self.notes, *notes])])
        return words, "warning" if said or self.notes else "good"

    def run_removed(self, nodes) -> None:
        """The user removed a run's results."""
        self.tell(_("The run was removed from the scene."))

    def close(self) -> None:
        """The panel goes away: end the run and remove temporary files."""
        self.parameters = None
        self.abort()
        self.logic.clean_up()

"""PyTorch for the backend: is it there, and how it gets there. Nothing here imports torch by itself."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Protocol

from ..widgets.text import _


class TorchProvider(Protocol):
    """What the panel asks before a run."""

    def installed(self) -> bool:
        """Whether the backend's interpreter can import torch."""

    def obstacle(self) -> str:
        """Why torch cannot be installed from here, in one line; empty when it can."""

    def install(self) -> str:
        """Ask the user once, install, and return what went wrong in one line; empty when torch is there."""


class TorchSetup:
    """Installs torch through the PyTorch extension (`PyTorchUtils`), into the Python that PythonSlicer shares."""

    def installed(self) -> bool:
        """Looked up, not imported: Slicer's own process never needs torch."""
        return importlib.util.find_spec("torch") is not None

    def obstacle(self) -> str:
        if importlib.util.find_spec("PyTorchUtils") is None:
            return _(
                "PyTorch is needed to run the model: install the PyTorch extension (Extensions Manager), "
                "restart Slicer and press Run again."
            )
        return ""

    def install(self) -> str:
        import qt
        import slicer

        if self.obstacle():
            return self.obstacle()
        question = _("The model needs PyTorch, which is not installed yet (a download of up to 3 GB). Install it now?")
        if not slicer.util.confirmOkCancelDisplay(question, windowTitle=_("PyTorch")):
            return _("PyTorch was not installed; press Run to be asked again.")
        slicer.app.setOverrideCursor(qt.Qt.WaitCursor)
        try:
            importlib.import_module("PyTorchUtils").PyTorchUtilsLogic().installTorch(askConfirmation=False)
        except Exception as error:  # whatever pip meets: it is told, and nothing has been started yet
            return _("PyTorch could not be installed: {error}").format(error=error)
        finally:
            slicer.app.restoreOverrideCursor()
        importlib.invalidate_caches()
        return "" if self.installed() else _("PyTorch could not be installed; see the Python console.")

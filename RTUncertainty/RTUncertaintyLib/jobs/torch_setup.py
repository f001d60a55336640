"""Python packages that are asked for once and only when needed: PyTorch for the backend, highdicom for DICOM SEG.
Nothing here imports them by itself, and nothing is installed without the user's consent.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Protocol

from ..widgets.text import _

EXTENSION = "PyTorch"


class TorchProvider(Protocol):
    """What the panel asks before a run."""

    def installed(self) -> bool:
        """Whether the backend's interpreter can import torch."""

    def install(self) -> str:
        """Ask the user once, install, and return what went wrong in one line; empty when torch is there."""


class TorchSetup:
    """Installs torch into the Python that PythonSlicer shares: through the PyTorch extension (`PyTorchUtils`) where it
    is there; else the user chooses between that extension, from the Extensions Manager, and pip.
    """

    def installed(self) -> bool:
        """Looked up, not imported: Slicer's own process never needs torch."""
        return importlib.util.find_spec("torch") is not None

    def install(self) -> str:
        if importlib.util.find_spec("PyTorchUtils") is not None:
            question = _(
                "The model needs PyTorch, which is not installed yet (a download of up to 3 GB). Install it now?"
            )
            if not _asked(question, "PyTorch"):
                return _("PyTorch was not installed; press Run to be asked again.")
            return _installed("torch", "PyTorch", _by_extension)
        if _extensions() is not None and _asked(
            _(
                "The model needs PyTorch. Install Slicer's PyTorch extension now? Slicer has to be started again then: "
                "save your scene first. Cancel offers pip, which needs no restart."
            ),
            "PyTorch",
        ):
            return _extension_installed()
        question = _("Install PyTorch with pip into Slicer's Python (a download of up to 3 GB)?")
        if not _asked(question, "PyTorch"):
            return _("PyTorch was not installed; press Run to be asked again.")
        return _installed("torch", "PyTorch", _by_pip)


def install_package(name: str, question: str) -> str:
    """Ask, install a package with pip, and return what went wrong in one line; empty when it is there."""
    if importlib.util.find_spec(name) is not None:
        return ""
    if not _asked(question, name):
        return _("{name} was not installed.").format(name=name)
    return _installed(name, name, _by_pip)


def _asked(question: str, title: str) -> bool:
    import slicer.util

    return bool(slicer.util.confirmOkCancelDisplay(question, windowTitle=title))


def _installed(name: str, title: str, install) -> str:
    """Install with the waiting cursor; whatever it meets is told in one line."""
    import qt
    import slicer

    slicer.app.setOverrideCursor(qt.Qt.WaitCursor)
    try:
        install(name)
    except Exception as error:  # whatever pip meets: it is told, and nothing has been started yet
        return _("{title} could not be installed: {error}").format(title=title, error=error)
    finally:
        slicer.app.restoreOverrideCursor()
    importlib.invalidate_caches()
    if importlib.util.find_spec(name) is not None:
        return ""
    return _("{title} could not be installed; see the Python console.").format(title=title)


def _by_extension(_name: str) -> None:
    importlib.import_module("PyTorchUtils").PyTorchUtilsLogic().installTorch(askConfirmation=False)


def _by_pip(name: str) -> None:
    import slicer.util

    slicer.util.pip_install(name)


def _extensions():
    """The model of the Extensions Manager; None where the application has none."""
    import slicer

    model = getattr(slicer.app, "extensionsManagerModel", None)
    return model() if model is not None else None


def _extension_installed() -> str:
    """Install the PyTorch extension; it is there after a restart, so there is always something to tell."""
    model = _extensions()
    interactive, model.interactive = model.interactive, False  # no further questions
    try:
        done = model.installExtensionFromServer(EXTENSION, False)  # no restart: the scene may not be saved
    except Exception as error:  # no network, no server for this version of Slicer
        return _("The PyTorch extension could not be installed: {error}").format(error=error)
    finally:
        model.interactive = interactive
    if not done:
        return _("The PyTorch extension could not be installed: install it in the Extensions Manager.")
    return _("The PyTorch extension is installed: save your scene, start Slicer again and press Run.")

"""The `qt` module: every public Qt class of PySide6 in one namespace, with PythonQt's attribute semantics."""

import sys
import types

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets
from PySide6.QtCore import QObject

from .pythonqt import patch


def make_qt() -> types.ModuleType:
    """Build the module and register it as `qt`."""
    qt = types.ModuleType("qt")
    for source in (QtCore, QtGui, QtWidgets, QtUiTools):
        for name in (n for n in dir(source) if n.startswith("Q")):
            value = getattr(source, name)
            setattr(qt, name, value)
            # The application object stays as PySide6 needs it; everything else is patched.
            if isinstance(value, type) and issubclass(value, QObject) and not name.endswith("Application"):
                patch(value)
    qt.Signal, qt.Slot = QtCore.Signal, QtCore.Slot
    sys.modules["qt"] = qt
    return qt

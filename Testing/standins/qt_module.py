"""The `qt` module: every public Qt class of PySide6 in one namespace, with PythonQt's attribute semantics."""

import sys
import types

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets
from PySide6.QtCore import QObject

from .pythonqt import patch


def _left_alone(cls) -> bool:
    """The application object and the files, which PySide6 looks at before they are wholly built; they have no
    properties, so that nothing changes for who uses them."""
    file_like = issubclass(cls, QtCore.QIODevice) and not issubclass(cls, QtCore.QProcess)
    return cls.__name__.endswith("Application") or file_like


def make_qt() -> types.ModuleType:
    """Build the module and register it as `qt`."""
    qt = types.ModuleType("qt")
    for source in (QtCore, QtGui, QtWidgets, QtUiTools):
        for name in (n for n in dir(source) if n.startswith("Q")):
            value = getattr(source, name)
            setattr(qt, name, value)
            if isinstance(value, type) and issubclass(value, QObject) and not _left_alone(value):
                patch(value)
    qt.Signal, qt.Slot = QtCore.Signal, QtCore.Slot
    sys.modules["qt"] = qt
    return qt

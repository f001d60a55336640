"""The ctk widgets that the modules use."""

import sys
import types

from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Qt, Signal

from .pythonqt import patch


@patch
class ctkCollapsibleButton(QtWidgets.QWidget):
    """A titled section whose contents hide when it is collapsed."""

    contentsCollapsed = Signal(bool)
    toggled = Signal(bool)
    _header_height = 24

    def __init__(self, text="", parent=None):
        if not isinstance(text, str):
            text, parent = "", text
        super().__init__(parent)
        self._text, self._collapsed, self._hidden = text, False, []
        self._header = QtWidgets.QPushButton(self)
        self._header.setStyleSheet("text-align: left; padding-left: 6px; font-weight: bold")
        self._header.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._header.connect("clicked()", lambda: self.setCollapsed(not self._collapsed))
        self.setContentsMargins(4, self._header_height + 4, 4, 4)
        self._label()

    def setCollapsed(self, collapsed):
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        if collapsed:
            self._hidden = [w for w in self._contents() if not w.isHidden()]
            for widget in self._hidden:
                widget.hide()
        else:
            for widget in self._hidden:
                widget.show()
            self._hidden = []
        self.setMaximumHeight(self._header_height + 2 if collapsed else 16777215)
        if self.layout() is not None:
            self.layout().invalidate()
            self.layout().activate()
        self.updateGeometry()
        self._label()
        self.contentsCollapsed.emit(collapsed)
        self.toggled.emit(not collapsed)

    def _contents(self):
        return [w for w in self.children() if isinstance(w, QtWidgets.QWidget) and w is not self._header]

    def childEvent(self, event):
        # A child that joins a collapsed section hides until it is opened. Not before it is polished: while it is
        # being added it is still under construction.
        child = event.child() if event.polished() else None
        joins = isinstance(child, QtWidgets.QWidget) and child is not self._header
        if joins and getattr(self, "_collapsed", False) and not child.isHidden():
            child.hide()
            self._hidden.append(child)
        super().childEvent(event)

    def sizeHint(self):
        hint = super().sizeHint()
        return QtCore.QSize(hint.width(), self._header_height + 2) if self._collapsed else hint

    def minimumSizeHint(self):
        hint = super().minimumSizeHint()
        return QtCore.QSize(hint.width(), self._header_height + 2) if self._collapsed else hint

    def resizeEvent(self, event):
        self._header.setGeometry(0, 0, self.width, self._header_height)
        super().resizeEvent(event)

    def _label(self):
        self._header.setText(("▸ " if self._collapsed else "▾ ") + self._text)

    def _set_text(self, text):
        self._text = text
        self._label()

    text = Property(str, lambda self: self._text, _set_text)
    collapsed = Property(bool, lambda self: self._collapsed, setCollapsed)


@patch
class ctkSliderWidget(QtWidgets.QWidget):
    """A slider and a spin box for one float. The value stays within minimum and maximum."""

    valueChanged = Signal(float)

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._slider = QtWidgets.QSlider(Qt.Orientation.Horizontal, self)
        self._slider.setRange(0, 1000)
        self._box = QtWidgets.QDoubleSpinBox(self)
        self._box.setRange(0, 99)
        layout.addWidget(self._slider)
        layout.addWidget(self._box)
        self._box.connect("valueChanged(double)", self._box_changed)
        self._slider.connect("valueChanged(int)", self._slider_changed)

    def _box_changed(self, value):
        span = (self._box.maximum - self._box.minimum) or 1
        self._slider.blockSignals(True)
        self._slider.setValue(round(1000 * (value - self._box.minimum) / span))
        self._slider.blockSignals(False)
        self.valueChanged.emit(value)

    def _slider_changed(self, step):
        self._box.setValue(self._box.minimum + (self._box.maximum - self._box.minimum) * step / 1000)

    def setValue(self, value):
        self._box.setValue(float(value))

    def _write_range(self, name, value):
        setattr(self._box, name, float(value))
        self._box_changed(self._box.value)

    value = Property(float, lambda self: self._box.value, setValue)
    minimum = Property(float, lambda self: self._box.minimum, lambda self, v: self._write_range("minimum", v))
    maximum = Property(float, lambda self: self._box.maximum, lambda self, v: self._write_range("maximum", v))
    singleStep = Property(float, lambda self: self._box.singleStep, lambda self, v: setattr(self._box, "singleStep", v))
    decimals = Property(int, lambda self: self._box.decimals, lambda self, v: setattr(self._box, "decimals", v))
    suffix = Property(str, lambda self: self._box.suffix, lambda self, v: setattr(self._box, "suffix", v))


@patch
class ctkPathLineEdit(QtWidgets.QWidget):
    """An editable path with a browse button."""

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._edit = QtWidgets.QComboBox(self)
        self._edit.setEditable(True)
        self._edit.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self._browse = QtWidgets.QToolButton(self)
        self._browse.setText("…")
        layout.addWidget(self._edit)
        layout.addWidget(self._browse)
        self._filters, self._settings_key, self._valid = 0, "", False
        self._edit.connect("editTextChanged(QString)", self._changed)

    def _changed(self, path):
        """As the real one, whose validator is ".+" without name filters: nothing is told of an empty path but that
        it is not valid.
        """
        was, self._valid = self._valid, bool(path)
        if self._valid:
            self.currentPathChanged.emit(path)
        if self._valid != was:
            self.validInputChanged.emit(self._valid)

    def setCurrentPath(self, path):
        self._edit.setEditText(path)

    def addCurrentPathToHistory(self):
        if self._edit.findText(self._edit.currentText) < 0:
            self._edit.addItem(self._edit.currentText)

    currentPath = Property(str, lambda self: self._edit.currentText, setCurrentPath)
    filters = Property(int, lambda self: self._filters, lambda self, value: setattr(self, "_filters", value))
    settingKey = Property(str, lambda self: self._settings_key, lambda self, v: setattr(self, "_settings_key", v))


WIDGETS = (ctkCollapsibleButton, ctkSliderWidget, ctkPathLineEdit)


def make_ctk() -> types.ModuleType:
    """Build the module and register it as `ctk`."""
    ctk = types.ModuleType("ctk")
    for cls in WIDGETS:
        setattr(ctk, cls.__name__, cls)
    sys.modules["ctk"] = ctk
    return ctk

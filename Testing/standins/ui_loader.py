"""`qt.QUiLoader` that knows the ctk and qMRML stand-ins and makes the `.ui` file's scene connections."""

import xml.etree.ElementTree as ElementTree

from PySide6 import QtCore, QtUiTools

_kept = []  # PySide6 would collect widgets made in createWidget before the loader has placed them


class UiLoader(QtUiTools.QUiLoader):
    """Loads `.ui` files; an unknown custom class raises instead of becoming an empty widget."""

    classes: dict[str, type] = {}

    def createWidget(self, class_name, parent=None, name=""):
        cls = self.classes.get(class_name)
        if cls is None:
            if class_name.startswith(("ctk", "qMRML", "qSlicer")):
                raise RuntimeError(f"There is no stand-in for {class_name}")
            return super().createWidget(class_name, parent, name)
        widget = cls(parent)
        widget.setObjectName(name)
        _kept.append(widget)
        return widget

    def load(self, device, parent=None):
        tree = ElementTree.fromstring(bytes(device.readAll().data()))
        connections = tree.find("connections")
        if connections is not None:
            tree.remove(connections)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(tree))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        widget = super().load(buffer, parent)
        for connection in connections if connections is not None else []:
            self._connect(widget, connection)
        return widget

    @staticmethod
    def _connect(root, connection):
        signal, slot = connection.find("signal").text, connection.find("slot").text
        if (signal, slot) != ("mrmlSceneChanged(vtkMRMLScene*)", "setMRMLScene(vtkMRMLScene*)"):
            raise RuntimeError(f"The stand-in does not know the connection {signal} -> {slot}")
        receiver = root.findChild(QtCore.QObject, connection.find("receiver").text)
        if receiver is None:
            raise RuntimeError(f"No widget is called {connection.find('receiver').text}")
        root.connect(signal, receiver.setMRMLScene)

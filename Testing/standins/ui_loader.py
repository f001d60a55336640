"""`qt.QUiLoader` that knows the ctk and qMRML stand-ins and makes the `.ui` file's scene connections."""

import xml.etree.ElementTree as ElementTree

from PySide6 import QtCore, QtUiTools

from .pythonqt import ignored_attributes

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
        collapsed = [
            element.get("name")
            for element in tree.iter("widget")
            for item in element.findall("property[@name='collapsed']")
            if item.find("bool").text == "true"
        ]
        for element in tree.iter("widget"):
            for item in element.findall("property[@name='collapsed']"):
                element.remove(item)  # set below, when the contents are there
        names = {element.get("name") for element in tree.iter() if element.get("name")}
        for element in tree.iter("widget"):
            if element.get("class").startswith("ctk"):  # flags of enumerations that the stand-ins do not have
                for item in [p for p in element.findall("property") if p.find("set") is not None]:
                    element.remove(item)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(tree))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        ignored_attributes.update(names)
        try:
            widget = super().load(buffer, parent)
        finally:
            ignored_attributes.difference_update(names)
        _kept.clear()
        for name in collapsed:
            widget.findChild(QtCore.QObject, name).collapsed = True
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

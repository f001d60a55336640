"""The qMRML widgets that the modules use, on a real vtkMRMLScene."""

from PySide6 import QtWidgets
from PySide6.QtCore import Property, Signal

from .pythonqt import patch


class _SceneObserver:
    """Rebuilds a widget when nodes come, go or are renamed."""

    def _start(self):
        self._scene = None
        # The C++ widgets stop observing when they are destroyed; a bound method would keep this one alive.
        observed = self._observed = {"scene": None, "tags": [], "nodes": []}
        self.connect("destroyed()", lambda: _stop(observed))

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        if scene is self._scene:
            return
        _stop(self._observed)
        self._scene = self._observed["scene"] = scene
        if scene is not None:
            events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent, scene.EndBatchProcessEvent)
            self._observed["tags"] = [scene.AddObserver(event, lambda *_: self._changed()) for event in events]
        self._scene_changed()

    def _changed(self):
        if not self._scene.IsBatchProcessing():
            self._scene_changed()

    def _scene_changed(self):
        raise NotImplementedError


def _stop(observed) -> None:
    """Remove the observers of a widget."""
    for tag in observed["tags"]:
        observed["scene"].RemoveObserver(tag)
    for node, tag in observed["nodes"]:
        node.RemoveObserver(tag)
    observed.update(scene=None, tags=[], nodes=[])


@patch
class qMRMLWidget(QtWidgets.QWidget):
    """A widget that hands its scene to the children connected to `mrmlSceneChanged` in the .ui file."""

    mrmlSceneChanged = Signal(object)
    _signatures = {"mrmlSceneChanged": ["mrmlSceneChanged(vtkMRMLScene*)"]}

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene = None

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)


@patch
class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """What holds a scripted module's panel in the application."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._entered = False

    isEntered = Property(bool, lambda self: self._entered)


@patch
class qMRMLNodeComboBox(QtWidgets.QWidget, _SceneObserver):
    """A selector of the scene's nodes of some classes. Without "None" it selects the first node there is."""

    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    _signatures = {
        "currentNodeChanged": ["currentNodeChanged(vtkMRMLNode*)", "currentNodeChanged(bool)"],
        "nodeAdded": ["nodeAdded(vtkMRMLNode*)"],
        "nodeAddedByUser": ["nodeAddedByUser(vtkMRMLNode*)"],
    }

    def __init__(self, parent=None):
        super().__init__(parent)
        self._start()
        self._types, self._id = [], ""
        self._options = {
            "noneEnabled": False,
            "addEnabled": True,
            "removeEnabled": True,
            "renameEnabled": False,
            "editEnabled": False,
            "showHidden": False,
            "showChildNodeTypes": True,
            "selectNodeUponCreation": True,
            "noneDisplay": "None",
            "baseName": "",
        }
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._box = QtWidgets.QComboBox(self)
        layout.addWidget(self._box)
        self._box.connect("activated(int)", lambda index: self._select(self._box.itemData(index)))

    def _nodes(self):
        found = []
        for name in self._types if self._scene is not None else []:
            for index in range(self._scene.GetNumberOfNodesByClass(name)):
                node = self._scene.GetNthNodeByClass(index, name)
                exact = node.GetClassName() in self._types
                if (exact or self._options["showChildNodeTypes"]) and not node.GetHideFromEditors():
                    found.append(node)
        return found

    def nodeCount(self):
        return len(self._nodes())

    def _scene_changed(self):
        nodes = self._nodes()
        for node, tag in self._observed["nodes"]:
            node.RemoveObserver(tag)
        self._observed["nodes"] = [(n, n.AddObserver("ModifiedEvent", lambda *_: self._rename())) for n in nodes]
        self._box.blockSignals(True)
        self._box.clear()
        if self._options["noneEnabled"] or not nodes:
            self._box.addItem(self._options["noneDisplay"] if self._options["noneEnabled"] else "", "")
        for node in nodes:
            self._box.addItem(node.GetName(), node.GetID())
        self._box.blockSignals(False)
        known = [node.GetID() for node in nodes]
        wanted = self._id if self._id in known else ""
        if not wanted and nodes and not self._options["noneEnabled"]:
            wanted = known[0]
        self._select(wanted)

    def _rename(self):
        for node in self._nodes():
            index = self._box.findData(node.GetID())
            if index >= 0 and self._box.itemText(index) != node.GetName():
                self._box.setItemText(index, node.GetName())

    def _select(self, node_id):
        index = self._box.findData(node_id)
        self._box.blockSignals(True)
        self._box.setCurrentIndex(max(index, 0))
        self._box.blockSignals(False)
        if node_id != self._id:
            self._id = node_id
            self.currentNodeChanged.emit(self.currentNode())
            self.currentNodeIDChanged.emit(self._id)

    def currentNode(self):
        return self._scene.GetNodeByID(self._id) if self._scene is not None and self._id else None

    def setCurrentNode(self, node):
        self._select(node.GetID() if node is not None else "")

    def setCurrentNodeID(self, node_id):
        self._select(node_id or "")

    def _set_option(self, name, value):
        self._options[name] = value
        self._scene_changed()

    def _set_types(self, types):
        self._types = list(types)
        self._scene_changed()

    nodeTypes = Property("QStringList", lambda self: self._types, _set_types)
    currentNodeID = Property(str, lambda self: self._id, setCurrentNodeID)
    noneEnabled = Property(bool, lambda s: s._options["noneEnabled"], lambda s, v: s._set_option("noneEnabled", v))
    addEnabled = Property(bool, lambda s: s._options["addEnabled"], lambda s, v: s._set_option("addEnabled", v))
    removeEnabled = Property(
        bool, lambda s: s._options["removeEnabled"], lambda s, v: s._set_option("removeEnabled", v)
    )
    renameEnabled = Property(
        bool, lambda s: s._options["renameEnabled"], lambda s, v: s._set_option("renameEnabled", v)
    )
    editEnabled = Property(bool, lambda s: s._options["editEnabled"], lambda s, v: s._set_option("editEnabled", v))
    showHidden = Property(bool, lambda s: s._options["showHidden"], lambda s, v: s._set_option("showHidden", v))
    showChildNodeTypes = Property(
        bool, lambda s: s._options["showChildNodeTypes"], lambda s, v: s._set_option("showChildNodeTypes", v)
    )
    selectNodeUponCreation = Property(
        bool, lambda s: s._options["selectNodeUponCreation"], lambda s, v: s._set_option("selectNodeUponCreation", v)
    )
    noneDisplay = Property(str, lambda s: s._options["noneDisplay"], lambda s, v: s._set_option("noneDisplay", v))
    baseName = Property(str, lambda s: s._options["baseName"], lambda s, v: s._set_option("baseName", v))


WIDGETS = (qMRMLWidget, qSlicerScriptedLoadableModuleWidget, qMRMLNodeComboBox)

"""The widget of a module that runs a job: builds the panel, follows the scene and the parameter node."""

from __future__ import annotations

import importlib
import sys

import slicer
import vtk
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from ..runs import registry
from ..widgets import narrow

PACKAGES = ("RTUncertaintyLib", "rtuncertainty")
"""What `Reload` reads again besides the module's own file."""


class JobWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """A module's widget class names its `logic_class`, `panel_class` and `parameters_class`; its .ui file is called
    as the module is.
    """

    logic_class = panel_class = parameters_class = None

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self.panel = self._parameters = self._gui_tag = None
        self._shortcuts = []

    def setup(self):
        import qt

        ScriptedLoadableModuleWidget.setup(self)
        widget = slicer.util.loadUI(self.resourcePath(f"UI/{self.moduleName}.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        narrow.keep(self.ui)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = self.logic_class()
        self.panel = self.panel_class(self.ui, self.logic)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.on_scene_start_close)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.on_scene_end_close)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.on_scene_end_import)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeRemovedEvent, self.on_node_removed)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeAddedEvent, self.on_node_added)
        self._listener = self.panel.run_arrived
        registry.listen(self._listener)
        self._arrival = qt.QTimer()
        self._arrival.setSingleShot(True)
        self._arrival.connect("timeout()", self._node_arrived)
        self.initialize_parameter_node()

    def cleanup(self):
        """The module is unloaded, reloaded, or the application ends."""
        if self.panel is not None:  # None after a setup that was interrupted
            self.set_parameters(None)
            self.panel.close()
            registry.forget(self._listener)
            self._arrival.stop()
        self.shortcuts(False)
        self.removeObservers()

    def enter(self):
        self.initialize_parameter_node()
        self.shortcuts(True)

    def exit(self):
        self.shortcuts(False)
        self.set_parameters(None)

    def onReload(self):
        """Slicer's button *Reload*: the packages that the module is made of are read again, too."""
        for name in [n for n in sys.modules if n.split(".")[0] in PACKAGES]:
            del sys.modules[name]
        importlib.invalidate_caches()
        ScriptedLoadableModuleWidget.onReload(self)

    def shortcuts(self, on):
        """Switch the panel's keys on while the module is open; a field in which one types keeps its letters."""
        import qt

        for shortcut in self._shortcuts:
            shortcut.enabled = False
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []
        if not on or self.panel is None:
            return
        window = slicer.util.mainWindow() or self.parent  # keys work wherever the focus is, in a slice view too
        for key, action in self.panel.keys().items():
            shortcut = qt.QShortcut(window)
            shortcut.setKey(qt.QKeySequence(key))
            shortcut.connect("activated()", action)
            self._shortcuts.append(shortcut)

    def on_scene_start_close(self, caller, event):
        """A run whose scene is closed ends quietly."""
        self.set_parameters(None)
        self.panel.abort()

    def on_scene_end_close(self, caller, event):
        self.panel.scene_closed()
        if self.parent.isEntered:
            self.initialize_parameter_node()

    def on_scene_end_import(self, caller, event):
        """A scene file was opened or added: it may hold results."""
        self.logic.scene_builder.refresh_legends(slicer.mrmlScene)
        if self.parent.isEntered:
            self.initialize_parameter_node()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def on_node_added(self, caller, event, node):
        """An image or a segmentation that is loaded while the panel is open is suggested, once it is whole."""
        if not self.parent.isEntered or caller.IsImporting() or caller.IsBatchProcessing():
            return
        if node.IsA("vtkMRMLScalarVolumeNode") or node.IsA("vtkMRMLSegmentationNode"):
            self._arrival.start(0)

    def _node_arrived(self):
        """What is loaded becomes whole only after it was added to the scene."""
        if self.panel is not None and self.panel.parameters is not None:
            self.panel.node_arrived()

    def on_node_removed(self, caller, event):
        self.panel.results.forget_if_gone()

    def initialize_parameter_node(self):
        """Follow this scene's parameter node; with nothing chosen yet, take what the panel suggests, and show what
        the scene holds.
        """
        self.set_parameters(self.parameters_class(self.logic.getParameterNode()))
        self.panel.suggest_inputs()
        self.panel.restore_run()

    def set_parameters(self, parameters):
        """Leave the parameter node that is followed, and follow another one (wrapped) or none."""
        if self._parameters is not None:
            self._parameters.disconnectGui(self._gui_tag)
            self.removeObserver(self._parameters, "ModifiedEvent", self.on_parameters_modified)
        self._parameters = parameters
        if parameters is not None:
            # `connectGui` may return no tag (Slicer issue 7547), and its widgets could never be disconnected then; this
            # one does.
            bound = {widget.property("SlicerParameterName"): widget for widget in vars(self.ui).values()}
            self._gui_tag = parameters.connectParametersToGui({name: widget for name, widget in bound.items() if name})
            self.addObserver(parameters, "ModifiedEvent", self.on_parameters_modified)
        self.panel.set_parameters(parameters)

    def on_parameters_modified(self, caller=None, event=None):
        self.panel.refresh()

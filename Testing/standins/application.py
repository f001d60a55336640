"""Starts the stand-ins: `qt`, `ctk`, and what `slicer` lacks without the application."""

import atexit
import ctypes
import importlib.util
import os
import shutil
import sys
import tempfile
import types
from pathlib import Path

from PySide6 import QtCore, QtWidgets

from . import ctk_widgets, mrml_widgets, parameter_node_wrapper, scripted_module
from .pythonqt import patch
from .qt_module import make_qt
from .ui_loader import UiLoader


@patch
class qSlicerModuleManager(QtCore.QObject):
    moduleAboutToBeUnloaded = QtCore.Signal(str)


@patch
class qSlicerApplication(QtCore.QObject):
    """`slicer.app`. Testing mode is on, so that message boxes answer by themselves."""

    startupCompleted, aboutToQuit = QtCore.Signal(), QtCore.Signal()

    def __init__(self, headless, scene):
        super().__init__()
        self._manager, self._headless, self._scene = qSlicerModuleManager(), headless, scene
        self._temporary = tempfile.mkdtemp(prefix="SlicerStandIn-")
        atexit.register(shutil.rmtree, self._temporary, ignore_errors=True)
        self._settings = QtCore.QSettings(
            os.path.join(self._temporary, "Slicer.ini"), QtCore.QSettings.Format.IniFormat
        )

    def moduleManager(self):
        return self._manager

    def mrmlScene(self):
        return self._scene

    def applicationLogic(self):
        return self._headless.application_logic

    def userSettings(self):
        return self._settings

    def settings(self):
        return self._settings

    def topLevelWidgets(self):
        return QtWidgets.QApplication.topLevelWidgets()

    def testingEnabled(self):
        return True

    def processEvents(self):
        QtWidgets.QApplication.processEvents()

    def setOverrideCursor(self, cursor):
        QtWidgets.QApplication.setOverrideCursor(cursor)

    def restoreOverrideCursor(self):
        QtWidgets.QApplication.restoreOverrideCursor()

    def applicationDirPath(self):
        return os.path.join(self._temporary, "bin")

    temporaryPath = QtCore.Property(str, lambda self: self._temporary)
    slicerHome = QtCore.Property(str, lambda self: self._temporary)
    applicationName = QtCore.Property(str, lambda self: "Slicer")


def _headless_slicer():
    """The scene with the logics of Slicer's modules, as `slicer.mrmlScene`."""
    import slicer

    library = Path(__file__).resolve().parents[2] / "RTUncertainty"
    if str(library) not in sys.path:
        sys.path.insert(0, str(library))
    from RTUncertaintyLib.headless.scene import new_scene

    headless = new_scene()
    slicer.mrmlScene = headless.scene
    return headless


def _keep_singletons() -> None:
    """PySide6 6.12 takes None, True and False for immortal, as they are from Python 3.12 on, and drops references to
    them that it does not own: on Python 3.11 they need more than it can drop."""
    if sys.version_info < (3, 12):
        for singleton in (None, True, False):
            ctypes.c_ssize_t.from_address(id(singleton)).value += 1 << 40


def install():
    """Register everything once; returns the `slicer` module."""
    import slicer

    if "qt" in sys.modules:
        return slicer
    _keep_singletons()
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    qt = make_qt()
    ctk_widgets.make_ctk()
    slicer._qt_application = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["Slicer"])
    qt.QUiLoader = UiLoader
    UiLoader.classes = {cls.__name__: cls for cls in (*ctk_widgets.WIDGETS, *mrml_widgets.WIDGETS)}
    for cls in mrml_widgets.WIDGETS:
        setattr(slicer, cls.__name__, cls)

    headless = _headless_slicer()
    slicer.app = qSlicerApplication(headless, slicer.mrmlScene)
    # The application's scene always has its subject hierarchy, also after it was closed.
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode
    slicer.mrmlScene.AddObserver(
        slicer.mrmlScene.EndCloseEvent, lambda scene, event: hierarchy.ResolveSubjectHierarchy(scene)
    )
    for name in ("modules", "i18n"):
        if not hasattr(slicer, name):
            module = types.ModuleType(f"slicer.{name}")
            setattr(slicer, name, module)
            sys.modules[module.__name__] = module
    slicer.i18n.tr = lambda text: text
    slicer.i18n.translate = lambda context, text: text
    parameter_node_wrapper.make_module(slicer)
    scripted_module.make_module(slicer)
    return slicer


def process_events(condition=lambda: False, seconds: float = 0.0) -> bool:
    """Run the event loop until `condition()` or the time is over; returns the condition."""
    loop, timer = QtCore.QEventLoop(), QtCore.QElapsedTimer()
    timer.start()
    while True:
        loop.processEvents(QtCore.QEventLoop.ProcessEventsFlag.AllEvents, 20)
        if condition() or timer.elapsed() >= 1000 * seconds:
            return bool(condition())
        QtCore.QThread.msleep(5)


def load_module(path: Path):
    """Load a scripted module as the application does; returns (module object, widget, panel that holds it)."""
    import qt
    import slicer

    path = Path(path)
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    parent = types.SimpleNamespace(path=str(path))
    setattr(slicer.modules, f"{name}Instance", getattr(module, name)(parent))
    setattr(slicer.modules, name.lower(), parent)
    host = slicer.qSlicerScriptedLoadableModuleWidget()
    host.setLayout(qt.QVBoxLayout())
    host.setMRMLScene(slicer.mrmlScene)
    widget = getattr(module, f"{name}Widget")(host)
    setattr(slicer.modules, f"{name}Widget", widget)
    widget.setup()
    widget.enter()
    host._entered = True
    return module, widget, host

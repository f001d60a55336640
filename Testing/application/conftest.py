"""The tests inside the application, by pytest on the stand-ins, which open modules, save and load scenes."""

import importlib.util
import os
import sys
import types
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT / "RTUncertainty")]
MISSING = [name for name in ("PySide6", "slicer") if importlib.util.find_spec(name) is None]


class SkippedModule(pytest.Module):
    """A test file that cannot be imported here."""

    def collect(self):
        pytest.skip(f"{' and '.join(MISSING)} not installed", allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    return SkippedModule.from_parent(parent, path=module_path) if MISSING else None


def pytest_collection_modifyitems(items):
    """The stand-ins make `slicer` look like the application for good: what runs without it goes first."""
    items.sort(key=lambda item: HERE in Path(str(item.fspath)).parents)


@pytest.fixture(autouse=True)
def application(monkeypatch):
    """Slicer's ways to open a module, and to save and load a scene, on the stand-ins."""
    from standins import install, load_module

    slicer = install()
    from RTUncertaintyLib.headless import scene as headless

    headless.add_views(slicer.app._headless, (300, 300))
    opened, hosts = {}, []

    def select(name):
        for other, widget in opened.items():
            if other != name:
                widget.exit()
        if name not in opened:
            _module, opened[name], host = load_module(ROOT / "RTUncertainty" / name / f"{name}.py")
            host.resize(430, 1000)
            hosts.append(host)
        else:
            opened[name].enter()

    def save(file):
        folder = Path(file).with_suffix("")
        (folder / "bundle").mkdir(parents=True)
        slicer.mrmlScene.SetURL(str(folder / "scene.mrml"))
        return slicer.mrmlScene.SaveSceneToSlicerDataBundleDirectory(str(folder / "bundle"))

    def load(file):
        (found,) = (Path(file).with_suffix("") / "bundle").glob("*.mrml")
        slicer.mrmlScene.SetURL(str(found))
        return slicer.mrmlScene.Import()

    monkeypatch.setattr(slicer.util, "selectModule", select, raising=False)
    monkeypatch.setattr(slicer.util, "getModuleWidget", lambda name: opened[name], raising=False)
    monkeypatch.setattr(slicer.util, "saveScene", save, raising=False)
    monkeypatch.setattr(slicer.util, "loadScene", load, raising=False)
    yield types.SimpleNamespace(select=select)
    for widget, host in zip(opened.values(), hosts):
        widget.cleanup()
        host.close()
        host.deleteLater()
    slicer.app._headless.close()

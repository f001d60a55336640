"""Off-screen GUI tests: the real MRML libraries of slicer-core and PySide6 behind stand-ins for the application."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "slicer"), str(ROOT / "RTUncertainty")]

MISSING = [name for name in ("PySide6", "slicer") if importlib.util.find_spec(name) is None]

if not MISSING:
    import slicer
    from gui_support.cards import CARD, PROPAGATION_CARD
    from gui_support.recording_scene import RecordingScene
    from standins import install, load_module, process_events

    from RTUncertaintyLib.jobs.command import BackendCommand


class SkippedModule(pytest.Module):
    """A test file that cannot be imported here."""

    def collect(self):
        pytest.skip(
            f"{' and '.join(MISSING)} not installed: pip install PySide6-Essentials slicer-core",
            allow_module_level=True,
        )


def pytest_pycollect_makemodule(module_path, parent):
    return SkippedModule.from_parent(parent, path=module_path) if MISSING else None


def pytest_collection_modifyitems(items):
    """The stand-ins make `slicer` look like the application for good: what runs without it goes first."""
    items.sort(key=lambda item: HERE in Path(str(item.fspath)).parents)


@pytest.fixture(scope="session", autouse=True)
def application():
    """The stand-ins for the application."""
    return install()


MODULE = ROOT / "RTUncertainty" / "RTPrediction" / "RTPrediction.py"
PROPAGATION = ROOT / "RTUncertainty" / "RTPropagation" / "RTPropagation.py"


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A folder with one bundle (a card; the weights are never read here), on the search path."""
    folder = tmp_path / "models" / CARD["name"]
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps(CARD), encoding="utf-8")
    monkeypatch.setenv("RTU_MODELS", str(tmp_path / "models"))
    from rtuncertainty.bundles import bundle

    monkeypatch.setattr(bundle, "search_path", lambda: [tmp_path / "models"])
    return folder


@pytest.fixture
def propagation_model(models):
    """The folder of a bundle that propagates, beside the one that predicts."""
    folder = models.parent / PROPAGATION_CARD["name"]
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps(PROPAGATION_CARD), encoding="utf-8")
    return folder


@pytest.fixture
def command():
    """The fake backend, started as the real one is."""
    session = ROOT / "RTUncertainty" / "RTUncertaintyLib" / "jobs" / "run_in_session.py"

    class FakeCommand(BackendCommand):
        def environment(self):
            own = super().environment()
            return {**own, "PYTHONPATH": os.pathsep.join([str(HERE), own["PYTHONPATH"]])}

    return FakeCommand(sys.executable, (str(session), "gui_support.fake_backend"))


@pytest.fixture
def backend(monkeypatch, tmp_path):
    """`backend("slow")` sets what the fake backend does; returns the file for its process ids."""

    def behave(name):
        pids = tmp_path / "pids.txt"
        monkeypatch.setenv("FAKE_BACKEND", name)
        monkeypatch.setenv("FAKE_BACKEND_PIDS", str(pids))
        monkeypatch.setenv("FAKE_BACKEND_ARGUMENTS", str(tmp_path / "arguments.json"))
        return pids

    behave("done")
    return behave


@pytest.fixture
def scene():
    """The application's scene, empty before and after."""
    slicer.mrmlScene.Clear(0)
    yield slicer.mrmlScene
    slicer.mrmlScene.Clear(0)


@pytest.fixture
def panel(scene, models, command, backend):
    """RTPrediction's widget as the application builds it, with the fake backend and a scene builder that counts."""
    yield from _open(MODULE, command)


@pytest.fixture
def propagation(scene, propagation_model, command, backend):
    """RTPropagation's widget, in the same way."""
    yield from _open(PROPAGATION, command)


def _open(path, command):
    widget, host = load_module(path)[1:]
    widget.logic._command, widget.logic.scene_builder = command, RecordingScene()
    widget.panel.torch = TorchIsThere()
    host.resize(440, 900)
    host.show()
    process_events()
    yield widget
    widget.cleanup()
    host.close()
    host.deleteLater()
    process_events()


class TorchIsThere:
    def installed(self):
        return True


@pytest.fixture
def run(panel):
    """`run()` presses Run and waits until the run is over; returns the status line."""

    def press(seconds=20):
        panel.ui.runButton.click()
        assert process_events(lambda: not panel.panel.running, seconds), panel.ui.statusLabel.text
        return panel.ui.statusLabel.text

    return press

"""Tests of the scene: in the Slicer application on its scene, else on the `slicer-core` libraries."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
for folder in (ROOT / "RTUncertainty", Path(__file__).resolve().parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def pytest_collection_modifyitems(items):
    """Skip, with the reason, where neither the application nor slicer-core is there."""
    try:
        import slicer

        present = hasattr(slicer, "vtkMRMLSegmentationNode")
    except ImportError:
        present = False
    if not present:
        for item in items:
            if Path(__file__).parent in Path(str(item.fspath)).parents:
                item.add_marker(pytest.mark.skip(reason="neither 3D Slicer nor slicer-core is installed"))


@pytest.fixture
def scene(monkeypatch):
    """An empty scene that is `slicer.mrmlScene`; the application's own, cleared, inside Slicer."""
    import slicer

    from RTUncertaintyLib.headless import scene as headless

    if headless.in_application():
        slicer.mrmlScene.Clear(0)
        yield slicer.mrmlScene
        return
    holder = headless.new_scene()
    monkeypatch.setattr(slicer, "mrmlScene", holder.scene, raising=False)
    yield holder.scene


@pytest.fixture
def views():
    """A private scene with slice views, a 3-D view and a camera: the `HeadlessSlicer` that holds them."""
    from RTUncertaintyLib.headless import scene as headless

    holder = headless.new_scene()
    headless.add_views(holder)
    yield holder
    holder.close()

"""A scene through a file: saved and closed, then opened again."""

from pathlib import Path

import slicer
from standins import process_events


def save_and_close(folder: Path) -> Path:
    """Save the scene below `folder` and close it; returns the scene's file."""
    slicer.mrmlScene.SetURL(str(folder / "s.mrml"))
    bundle = folder / "bundle"
    bundle.mkdir()
    assert slicer.mrmlScene.SaveSceneToSlicerDataBundleDirectory(str(bundle))
    slicer.mrmlScene.Clear(0)
    (file,) = bundle.glob("*.mrml")
    return file


def open_scene(file: Path) -> None:
    """Open the file as the application does, and let the panels hear of it."""
    slicer.mrmlScene.SetURL(str(file))
    assert slicer.mrmlScene.Import()
    process_events()

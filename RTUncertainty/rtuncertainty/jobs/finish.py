"""The last steps of every job: summary, Slicer scene, report, and the move of the result folder into its place."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

from ..core import image_io
from ..core.errors import Cancelled, InputError, RTUncertaintyError
from ..core.events import Progress
from ..results import prediction_folder

LIBRARY = Path(__file__).resolve().parents[2]


def scene_writer():
    """The entry point of the group `rtuncertainty.scene`, which builds scenes; None where nothing offers it."""
    return next(iter(entry_points(group="rtuncertainty.scene")), None)


def require_scene_writer(scene: bool) -> None:
    """Raise `InputError` when a scene is wanted and Slicer's libraries, or what builds scenes with them, are not installed."""
    if scene and importlib.util.find_spec("slicer") is None:
        raise InputError("--scene needs Slicer's libraries: run 'pip install slicer-core', or leave --scene out.")
    if scene and scene_writer() is None:
        raise InputError("--scene needs RTUncertainty as an installed package: run 'pip install .' in its folder, or leave --scene out.")


def finish(staging: image_io.Staging, summary: dict, image, progress: Progress, scene: bool, report: bool = False, structures=None) -> None:
    """Complete a staged result by its summary and, on request, scene and report, and move it into place.

    `image`: the file of the image that the result describes; `structures`: those of planning structures and planning CT, for
    the report. Until the last step a cancelled run leaves nothing.
    """
    progress.close()
    prediction_folder.write_summary(summary, staging)
    if scene:
        progress.stage("scene", 0.0, "Building the Slicer scene")
        write_scene(staging.folder, image, progress)
    if report:
        from ..report.build import write_report

        progress.stage("report", 0.0, "Writing the report")
        with staging.writing():
            write_report(staging.folder, image, structures)
    progress.close()
    progress.cancel.check()
    staging.commit()


def write_scene(result: Path, image, progress: Progress) -> None:
    """`scene.mrb` in a result folder, by the extension's own scene builder in a process of its own.

    A process, because this package knows nothing of Slicer; cancelling ends it.
    """
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(LIBRARY), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", scene_writer().module, str(result), "--input", str(Path(image).absolute()), "--output", str(result / "scene.mrb")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8")
    try:
        while True:
            try:
                told = process.communicate(timeout=0.5)[0]
                break
            except subprocess.TimeoutExpired:
                progress.cancel.check()
    except Cancelled:
        process.kill()
        process.communicate()
        raise
    if process.returncode:
        last = next((line for line in reversed(told.splitlines()) if line.strip()), f"exit code {process.returncode}")
        raise RTUncertaintyError(f"the scene could not be written: {last}")

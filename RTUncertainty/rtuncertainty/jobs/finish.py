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
from ..results.result import Result, write_summary

LIBRARY = Path(__file__).resolve().parents[2]


def scene_writer():
    """The entry point of the group `rtuncertainty.scene`, which builds scenes; None where nothing offers it."""
    return next(iter(entry_points(group="rtuncertainty.scene")), None)


def require_scene_writer(scene: bool) -> None:
    """Raises when a scene cannot be written.

    Args:
        scene: whether one is wanted.

    Raises:
        InputError: Slicer's libraries, or what builds scenes with them, are not installed.
    """
    if scene and importlib.util.find_spec("slicer") is None:
        raise InputError("--scene needs Slicer's libraries: run 'pip install slicer-core', or leave --scene out.")
    if scene and scene_writer() is None:
        raise InputError(
            "--scene needs RTUncertainty as an installed package: run 'pip install .' in its folder, or leave --scene "
            "out."
        )


def finish(
    staging: image_io.Staging,
    result: Result,
    image,
    progress: Progress,
    scene: bool,
    report: bool = False,
    structures=None,
) -> None:
    """Writes a result and, on request, its scene and report, and moves all of it into place.

    Args:
        staging: the folder beside the place.
        result: what is written.
        image: the file or DICOM folder of the image that the result describes.
        progress: takes the stages.
        scene: whether a scene is wanted.
        report: whether a report is wanted.
        structures: the files of the planning structures and the planning CT, for the report.

    Raises:
        RTUncertaintyError: the scene or the report could not be written, raised when the result itself is in its place:
            hours of computing are not lost by it. The exit code is that of the step that failed.
        Cancelled: before the last step; nothing is left then.
    """
    result.write(staging)
    progress.close()
    write_summary(result.summary, staging)  # once more, with the time that the writing took
    failed = []

    def attempt(name: str, message: str, step) -> None:
        progress.stage(name, 0.0, message)
        try:
            step()
        except Cancelled:
            raise
        except RTUncertaintyError as error:
            failed.append(error)
        except Exception as error:  # a fault of ours in an extra must not lose the result
            failed.append(RTUncertaintyError(f"{message}: {type(error).__name__}: {error}"))

    if scene:
        attempt("scene", "Building the Slicer scene", lambda: write_scene(staging.folder, image, progress))
    if report:
        attempt("report", "Writing the report", lambda: _report(staging, image, structures))
    progress.close()
    progress.cancel.check()
    staging.commit()
    result.folder = staging.output
    if failed:
        error = RTUncertaintyError(f"{staging.output}: the result is there, but {'; '.join(map(str, failed))}")
        error.exit_code, error.output = failed[0].exit_code, Path(staging.output)
        raise error


def _report(staging: image_io.Staging, image, structures) -> None:
    from ..report.build import write_report

    with staging.writing():
        write_report(staging.folder, image, structures)


def write_scene(result: Path, image, progress: Progress) -> None:
    """Writes `scene.mrb` into a result folder, by the extension's own scene builder in a process of its own.

    A process, because this package knows nothing of Slicer; cancelling ends it.

    Args:
        result: the folder.
        image: the file or DICOM folder of the image that the result describes.
        progress: its token ends the process.

    Raises:
        RTUncertaintyError: the scene could not be built.
        Cancelled: the user cancelled.
    """
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(LIBRARY), os.environ.get("PYTHONPATH", "")]))
    command = [
        sys.executable,
        "-m",
        scene_writer().module,
        str(result),
        "--input",
        str(Path(image).absolute()),
        "--output",
        str(result / "scene.mrb"),
    ]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )
    try:
        while True:
            try:
                output = process.communicate(timeout=0.5)[0]
                break
            except subprocess.TimeoutExpired:
                progress.cancel.check()
    except Cancelled:
        process.kill()
        process.communicate()
        raise
    if process.returncode:
        last = next((line for line in reversed(output.splitlines()) if line.strip()), f"exit code {process.returncode}")
        error = RTUncertaintyError(f"the scene could not be written: {last}")
        error.exit_code = process.returncode if process.returncode in (2, 3) else 1
        raise error

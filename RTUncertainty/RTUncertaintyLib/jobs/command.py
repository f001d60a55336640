"""The command line and the environment of the backend's process."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

PACKAGES = Path(__file__).resolve().parents[2]
"""The folder that holds `rtuncertainty`, in the source tree and in an installed extension alike."""


@dataclass(frozen=True)
class BackendCommand:
    """How to start the backend: a Python executable, what it runs, and what its environment adds.

    `launch` are the arguments between the executable and the backend's own (`predict`, `--model`, …). On POSIX the
    backend is started through `run_in_session.py`, so that it and its children form a process group of their own.
    """

    python: str
    launch: tuple[str, ...]

    def arguments(self, arguments: list[str]) -> list[str]:
        """The full list of arguments behind the executable."""
        return [*self.launch, *arguments]

    def environment(self) -> dict[str, str]:
        """Variables to set; an empty text means: remove it."""
        known = os.environ.get("PYTHONPATH", "")
        return {
            "PYTHONPATH": os.pathsep.join([str(PACKAGES), *([known] if known else [])]),
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8",
            # Slicer's ITK plug-ins are of no use outside it and fill the log with warnings.
            "ITK_AUTOLOAD_PATH": "",
        }


def python_executable() -> str:
    """Slicer's PythonSlicer inside the application, this interpreter outside it.

    Raises RuntimeError when the application has no PythonSlicer beside it.
    """
    import slicer

    found = shutil.which("PythonSlicer")
    app = getattr(slicer, "app", None)
    if found is None and app is not None:
        directory = Path(app.applicationDirPath())
        name = "PythonSlicer.exe" if os.name == "nt" else "PythonSlicer"
        places = [directory / name, directory.parent / "bin" / name]
        found = next((str(place) for place in places if place.is_file()), None)
    if found is not None:
        return found
    if "python" in Path(sys.executable or "").name.lower():
        return sys.executable
    raise RuntimeError("PythonSlicer, which runs the model, was not found in Slicer's bin folder; reinstall Slicer.")


def backend_command() -> BackendCommand:
    """The command that runs `python -m rtuncertainty` as Slicer can."""
    launch = (
        ("-m", "rtuncertainty")
        if os.name == "nt"
        else (str(Path(__file__).resolve().parent / "run_in_session.py"), "rtuncertainty")
    )
    return BackendCommand(python_executable(), launch)

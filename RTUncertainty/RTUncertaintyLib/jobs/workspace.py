"""The files of one run: exported inputs, the result folder, and the backend's arguments."""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..mrml.volume_export import UnusableVolume, export_volume
from ..widgets.text import _


@dataclass
class RunRequest:
    """What the user asks for. `model` is a bundle's folder; `reference` a CT volume node on any grid or None;
    `output` a folder in which the run makes its own folder, or None for a temporary one; `site` a site.json or None."""

    volume: object
    model: str
    samples: int = 20
    seed: int = 0
    device: str = "auto"
    bias_field: str = "auto"
    reference: object = None
    output: str | None = None
    report: bool = False
    keep_samples: int = 0
    site: str | None = None


@dataclass
class RunWorkspace:
    """Folders of a run: `inputs` goes after the run, `output` stays with the result; `request` is what was asked
    for.
    """

    request: object
    inputs: Path
    output: Path
    arguments: list[str] = field(default_factory=list)
    temporary_output: bool = True

    def discard_inputs(self) -> None:
        """Remove the exported inputs."""
        shutil.rmtree(self.inputs, ignore_errors=True)

    def discard(self) -> None:
        """Remove everything that the run wrote."""
        self.discard_inputs()
        shutil.rmtree(self.output, ignore_errors=True)
        if self.temporary_output:
            shutil.rmtree(self.output.parent, ignore_errors=True)

    def release(self) -> None:
        """Remove the result too where it lies in a temporary folder."""
        if self.temporary_output:
            self.discard()

    def release_on_exit(self) -> None:
        """Remove the result at the latest when the application quits: nobody may be left who would."""
        _to_release.append(self)
        if len(_to_release) > 1:
            return
        atexit.register(_release)
        import slicer

        application = getattr(slicer, "app", None)
        if application is not None:  # Slicer may end its Python without the functions of atexit
            application.connect("aboutToQuit()", _release)


_to_release: list[RunWorkspace] = []


def _release() -> None:
    while _to_release:
        _to_release.pop().release()


def file_name(text: str) -> str:
    """`text` without the characters that file systems refuse; never empty."""
    return re.sub(r"[^\w.+ -]+", "_", text).strip(" .")[:80] or "volume"


def prepare(request: RunRequest, model_name: str) -> RunWorkspace:
    """Export the inputs of a prediction and build the backend's arguments.

    Raises `UnusableVolume` when a volume or the output folder cannot be used; nothing is left behind then.
    """
    volume_name = request.volume.GetName() or "volume"
    with new_workspace(request, "RTPrediction", f"{model_name} on {volume_name}") as (workspace, inputs):
        image = export_volume(request.volume, inputs / f"{file_name(volume_name)}.nrrd")
        workspace.arguments = [
            "predict",
            "--model",
            str(request.model),
            "--input",
            str(image),
            "--output",
            str(workspace.output),
            "--samples",
            str(request.samples),
            "--seed",
            str(request.seed),
            "--device",
            request.device,
            "--bias-field",
            request.bias_field,
            "--progress",
            "json",
        ]
        if request.reference is not None:
            reference_folder = inputs / "reference"
            reference_folder.mkdir()
            name = file_name(request.reference.GetName() or "reference")
            workspace.arguments += [
                "--reference",
                str(export_volume(request.reference, reference_folder / f"{name}.nrrd")),
            ]
        if request.report:
            workspace.arguments.append("--report")
        if request.keep_samples:
            workspace.arguments += ["--keep-samples", str(request.keep_samples)]
        if request.site:
            workspace.arguments += ["--site", request.site]
    return workspace


@contextmanager
def new_workspace(request, module: str, run_name: str):
    """(workspace, folder for the exported inputs) of a request; when the block raises, nothing is left behind.

    `request.output` decides where the result goes; `run_name` names its folder there. Raises `UnusableVolume` when
    there is no place for files.
    """
    try:
        base = Path(tempfile.mkdtemp(prefix=f"{module}-", dir=_temporary_directory()))
    except OSError as error:
        raise UnusableVolume(
            _(
                "No temporary folder can be made ({error}): set another one in Edit > Application Settings > Modules."
            ).format(error=error.strerror)
        ) from error
    inputs = base / "inputs"
    inputs.mkdir()
    workspace = RunWorkspace(request, inputs, base / "result")
    try:
        if request.output:
            workspace.output = fresh_folder(Path(request.output), run_name)
            workspace.temporary_output, workspace.inputs = False, base
        yield workspace, inputs
    except BaseException:
        shutil.rmtree(base, ignore_errors=True)
        raise


def _temporary_directory() -> str | None:
    import slicer

    app = getattr(slicer, "app", None)
    return app.temporaryPath if app is not None else None


def fresh_folder(parent: Path, name: str) -> Path:
    """A folder in `parent` that does not exist yet; made by the backend, not here."""
    if not parent.is_dir():
        raise UnusableVolume(
            _("The output folder {folder} does not exist: make it, or choose another.").format(folder=parent)
        )
    try:
        tempfile.TemporaryFile(dir=parent).close()
    except OSError as error:
        raise UnusableVolume(
            _("The output folder {folder} cannot be written to ({reason}): choose another.").format(
                folder=parent, reason=error.strerror
            )
        ) from error
    name = file_name(name)
    candidates = (parent / (name if n == 1 else f"{name} {n}") for n in range(1, 10_000))
    return next(c for c in candidates if not c.exists())

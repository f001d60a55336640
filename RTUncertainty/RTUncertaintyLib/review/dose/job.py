"""The files and arguments of a DVH computation by the backend, and its result in the scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...jobs.workspace import RunWorkspace, new_workspace
from ...mrml.segmentation_export import write_segmentation
from ...mrml.volume_export import UnusableVolume
from ...widgets.text import _
from .. import run_files
from .dose_input import export_dose, problem

TABLE, CURVES = "dvh.csv", "dvh_curves.csv"


@dataclass
class DvhRequest:
    """What the user asks for: a run of the scene, the volume node of a dose, its unit, a prescription in Gy or None.

    `output` is None: the tables go into the scene, their files are temporary.
    """

    run: object
    dose: object
    unit: str = "Gy"
    prescription: float | None = None
    output: str | None = None


def prepare_dvh(request: DvhRequest) -> RunWorkspace:
    """Write dose, contours and nested contours, and build the backend's arguments.

    Raises `UnusableVolume` for what is no dose and when the run has no contour; nothing is left behind then.
    """
    wrong = problem(request.dose, request.unit)
    if wrong:
        raise UnusableVolume(wrong)
    chosen = run_files.contours(request.run)
    if not chosen:
        raise UnusableVolume(
            _("{name} has no structures in the scene, so there is no DVH.").format(name=request.run.name)
        )
    with new_workspace(request, "RTReview", "DVH") as (workspace, inputs):
        # names that say nothing: messages of the backend name files, and a volume may be called as a patient is
        dose = export_dose(request.dose, inputs / "dose.nrrd")
        structures = write_segmentation(
            run_files.contours_image(request.run, chosen), inputs / "structures.seg.nrrd", request.run.name
        )
        bands = run_files.write_distributions(request.run, [c.name for c in chosen if c.sampled], inputs / "bands")
        workspace.arguments = [
            "dvh",
            "--dose",
            str(dose),
            "--dose-unit",
            request.unit,
            "--structures",
            str(structures),
            "--output",
            str(workspace.output / TABLE),
            "--progress",
            "json",
        ]
        if bands is not None:
            workspace.arguments += ["--bands", str(bands)]
        if request.prescription:
            workspace.arguments += ["--prescription", f"{request.prescription:g}"]
    return workspace


def load_dvh(builder, request: DvhRequest, folder: Path):
    """Put the tables into the scene; returns the chart's node."""
    return builder.add_dvh(
        request.run, Path(folder) / TABLE, Path(folder) / CURVES, request.dose.GetName() or _("dose")
    )

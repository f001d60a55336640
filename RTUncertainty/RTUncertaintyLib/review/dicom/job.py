"""A run of the scene as DICOM: the files and arguments of `rtuncertainty export`, and the import into Slicer's DICOM
database.

Nothing here is written to a log: what the reference series holds of the patient goes into the DICOM files and nowhere
else.
"""

from __future__ import annotations

import datetime
import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

from rtuncertainty.results import Result

from ...jobs.workspace import RunWorkspace, fresh_folder, new_workspace
from ...mrml.volume_export import RAS_TO_LPS, UnusableVolume, in_lps, volume_array
from ...mrml.volumes import image_like
from ...runs.review_data import ReviewData, table_rows_of
from ...widgets.text import _
from .. import run_files
from ..report.content import there

KINDS = {"rtstruct": _("RTSTRUCT"), "ct": _("CT series"), "seg": _("SEG"), "registration": _("Registration")}
"""What can be written -> how people call it."""
INSTANCES = "DICOM.instanceUIDs"
"""Attribute of a volume that Slicer loaded from its DICOM database: the instances that it was made of."""


@dataclass
class DicomRequest:
    """What the user asks for: a run of the scene, some of `KINDS`, the folder in which a new one is made, or None for
    the DICOM database.

    `reference` and `planning`: folders of the series that the result describes and of the planning CT; None: that of
    the image in the scene, from Slicer's DICOM database.
    """

    run: object
    kinds: tuple[str, ...]
    folder: str | None = None
    reference: str | None = None
    planning: str | None = None
    output: str | None = None

    @property
    def to_database(self) -> bool:
        return self.folder is None


def missing_packages(kinds=()) -> list[str]:
    """The Python packages that these kinds need and that are not there."""
    wanted = ["pydicom"] + ["highdicom"] * ("seg" in kinds)
    return [name for name in wanted if importlib.util.find_spec(name) is None]


def missing_library(kinds=()) -> str:
    """Which Python package is missing for these kinds and how to get it; empty when all are there."""
    missing = missing_packages(kinds)
    if not missing:
        return ""
    return _(
        "{kinds} needs {package}: the export of RT Review offers to install it; in the Python console it is "
        "slicer.util.pip_install('{package}')."
    ).format(kinds=_("DICOM export") if "pydicom" in missing else KINDS["seg"], package=missing[0])


def offered(run) -> dict[str, str]:
    """Kind -> why it cannot be written of this run, empty when it can."""
    model = ReviewData.of_run(run).card
    if not (model.get("name") and model.get("version")):
        own = _(
            "Only results of our models are exported here; use Slicer's DICOM export for a segmentation of your own."
        )
        return dict.fromkeys(KINDS, own)
    structures = "" if run_files.contours(run) else _("The result has no structures in the scene.")
    return {
        "rtstruct": structures,
        "ct": "" if there(run, run.ct) else _("The result has no CT in the scene."),
        "seg": structures,
        "registration": "" if there(run, run.deformation) else _("Only a propagation has a deformation."),
    }


def series_files(node) -> list[str]:
    """The files of the series that a volume was loaded from, by Slicer's DICOM database; empty when they are not
    there.
    """
    import slicer

    database = getattr(slicer, "dicomDatabase", None)
    instances = (node.GetAttribute(INSTANCES) or "").split() if node is not None else []
    if database is None or not instances:
        return []
    files = [database.fileForInstance(uid) for uid in instances]
    return files if all(f and Path(f).is_file() for f in files) else []


def prepare_dicom(request: DicomRequest) -> RunWorkspace:
    """Write the run as a result folder, gather the reference series, and build the backend's arguments.

    Raises `UnusableVolume` in one line for what is missing; nothing is left behind then.
    """
    run, kinds = request.run, [k for k in KINDS if k in request.kinds]
    problem = missing_library(kinds) or next((why for kind in kinds if (why := offered(run)[kind])), "")
    if problem or not kinds:
        raise UnusableVolume(problem or _("Choose at least one kind of object."))
    with new_workspace(request, "RTReview", "DICOM") as (workspace, inputs):
        edited = write_result(run, inputs / "result")
        reference = _series(
            request.reference, run.input, inputs / "reference", _("the series that the result describes")
        )
        workspace.arguments = [
            "export",
            "--result",
            str(inputs / "result"),
            "--dicom-reference",
            reference,
            "--what",
            *kinds,
        ]
        if "registration" in kinds:
            workspace.arguments += [
                "--dicom-planning",
                _series(request.planning, run.planning, inputs / "planning", _("the series of the planning CT")),
            ]
        if edited and {"rtstruct", "seg"} & set(kinds):
            workspace.arguments += ["--structures", str(inputs / "result" / "structures.seg.nrrd")]
        if not request.to_database:
            name = f"DICOM {ReviewData.of_run(run).card['name']} {datetime.datetime.now():%Y-%m-%d %H-%M}"
            workspace.output, workspace.temporary_output = fresh_folder(Path(request.folder), name), False
            workspace.inputs = inputs.parent
        workspace.arguments += ["--output", str(workspace.output), "--progress", "json"]
    return workspace


def write_result(run, folder: Path) -> bool:
    """Write what DICOM has an object for as a result folder; returns whether a contour was corrected by hand.

    Contours that the reviewer rejected are left out; an accepted or corrected one stands for its structure. Raises
    `UnusableVolume`.
    """
    data = ReviewData.of_run(run)
    states = {s.name: s.decision.state for s in data.structures}
    chosen = [c for c in run_files.contours(run) if states.get(c.name) != "rejected"]
    content = {run.ct_key: image_like(volume_array(run.ct), run.ct)} if there(run, run.ct) else {}
    if chosen:
        content["structures"] = run_files.contours_image(run, chosen, native=True)
    edited = any(states.get(c.name) == "edited" for c in chosen)
    table = run.tables.get("volumes")
    # of contours as the model drew them: what is known of a volume is not that of a corrected one
    rows = (
        [
            r
            for r in table_rows_of(table)
            if any(c.name == r["structure"] and c.sampled for c in chosen) and all(v == v for v in r.values())
        ]
        if there(run, table)
        else []
    )
    if rows and not edited:
        content["volumes"] = rows
    if there(run, run.deformation):
        content["transform"] = _displacements(run.deformation)
    kept = ("format", "job", "name", "created", "model", "level", "structures")
    Result({k: v for k, v in data.summary.items() if k in kept}, content).write(folder, ".nrrd")
    return edited


def rejected(run) -> list[str]:
    """The structures that an export leaves out."""
    return [s.name for s in ReviewData.of_run(run).structures if s.decision.state == "rejected"]


def import_into_database(folder: Path) -> None:
    """Copy the DICOM files of a folder into Slicer's DICOM database. Raises `UnusableVolume` where there is none, or
    it refuses them.
    """
    import slicer

    if not database_open():
        raise UnusableVolume(
            _("Slicer's DICOM database is not open: open the DICOM module once, or write to a folder.")
        )
    from DICOMLib import DICOMUtils

    if DICOMUtils.importDicom(str(folder), slicer.dicomDatabase, True) is False:
        raise UnusableVolume(_("Slicer's DICOM database refused the files: write to a folder instead."))


def database_open() -> bool:
    """Whether Slicer's DICOM database can be used."""
    import slicer

    database = getattr(slicer, "dicomDatabase", None)
    return database is not None and bool(database.isOpen)


def _series(given: str | None, node, folder: Path, what: str) -> str:
    """The folder of a series: the given one, or copies of the files of the volume in the scene."""
    if given:
        return given
    files = series_files(node)
    if not files:
        raise UnusableVolume(
            _("Give the folder of {what}: the image in the scene was not loaded from Slicer's DICOM database.").format(
                what=what
            )
        )
    folder.mkdir()
    try:
        for number, file in enumerate(files):
            shutil.copyfile(file, folder / f"{number:05}.dcm")
    except OSError as error:
        raise UnusableVolume(
            _("The DICOM series cannot be copied ({reason}).").format(reason=error.strerror)
        ) from error
    return str(folder)


def _displacements(node):
    """The deformation as the backend writes it, a SimpleITK image: from daily to planning points, LPS."""
    import numpy as np
    import slicer
    from vtkmodules.util.numpy_support import vtk_to_numpy

    grid = slicer.vtkOrientedGridTransform.SafeDownCast(
        node.GetTransformFromParentAs("vtkOrientedGridTransform", False, False)
    )
    image = grid.GetDisplacementGrid() if grid is not None else None
    if image is None:
        raise UnusableVolume(
            _("{name} is no single displacement field any more: leave the registration out.").format(
                name=node.GetName()
            )
        )
    vectors = (
        vtk_to_numpy(image.GetPointData().GetScalars()).reshape(*image.GetDimensions()[::-1], 3).astype(np.float64)
    )
    vectors = (vectors * grid.GetDisplacementScale() + grid.GetDisplacementShift()) * (-1, -1, 1)
    direction = grid.GetGridDirectionMatrix()
    matrix = np.eye(4)
    if direction is not None:
        matrix[:3, :3] = [[direction.GetElement(r, c) for c in range(3)] for r in range(3)]
    # the grid's origin is in RAS and not turned by its directions
    matrix[:3, :3] = matrix[:3, :3] * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return in_lps(vectors, RAS_TO_LPS @ matrix)

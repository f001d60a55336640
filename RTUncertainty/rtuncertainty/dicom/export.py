"""A result folder as DICOM: RTSTRUCT, CT series, SEG and registration, in the study of the scan that it describes."""

from __future__ import annotations

import contextlib
import importlib.util
import traceback
from dataclasses import dataclass, field, replace
from pathlib import Path

import SimpleITK as sitk

from rtuncertainty.core.errors import InputError, RTUncertaintyError
from rtuncertainty.core.events import Progress
from rtuncertainty.core.image_io import Staging
from rtuncertainty.core.structure_set import Structure
from rtuncertainty.results import Result, tables

from . import author, ct, files, registration, rtstruct_write, segmentation, structure_input
from .author import WARNING, Author
from .series import Series, read_series

# kinds of objects, and their shares of the time
SHARES = {"rtstruct": 0.3, "ct": 0.2, "seg": 0.3, "probability": 0.1, "registration": 0.1}
WHAT = tuple(SHARES)
# key of a result's CT -> what it is; sets of structures by the name of the choice -> key of the result
CTS = {"synct": "synthetic CT", "warped_planning": "deformed planning CT"}
SETS = {"default": "structures", "propagated": "propagated", "segmented": "segmented"}


@dataclass
class Exported:
    """What was written; nothing in it is of the patient.

    Attributes:
        folder: where to.
        written: for each kind a line about it.
        notes: about what was not.
    """

    folder: Path
    written: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def export_result(
    result,
    dicom_reference,
    output,
    *,
    what=None,
    structures: str = "default",
    dicom_planning=None,
    uid_prefix: str = "2.25",
    uid_seed: str | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Writes a result as DICOM into a new folder, whole or not at all: rtstruct.dcm, ct/0001.dcm …, seg.dcm,
    probability.dcm, registration.dcm.

    Args:
        result: the result's folder.
        dicom_reference: folder of the series that the result describes (the MR of a prediction, the daily CT of a
            propagation): it gives patient, study, frame of reference and slices.
        output: the new folder.
        what: some of `WHAT`; None: all that the result has but probability and, of a propagation, the deformed planning
            CT.
        structures: default, propagated, segmented, or a .seg.nrrd or RTSTRUCT file, such as contours that were accepted
            or corrected in Slicer.
        dicom_planning: the planning CT's series, which a registration names.
        uid_prefix: new UIDs lie below it.
        uid_seed: with one the same export gives the same UIDs.
        progress: takes the stages; its token cancels.

    Returns:
        What was written.

    Raises:
        InputError: what cannot be read, does not belong together or cannot be written.
        Cancelled: the user cancelled.
    """
    found, output = Result.read(result), Path(output)
    if not (found.card.get("name") and found.card.get("version")):
        raise InputError(f"{found.folder / 'summary.json'}: names no model; run the job again.")
    wanted, notes = _wanted(found, what, dicom_planning)
    _require_new(output)
    progress = progress or Progress(shares=SHARES)
    series = read_series(dicom_reference)
    series.require(found.grid(), str(result))
    model = found.card
    if uid_seed is not None:
        uid_seed = (
            f"{uid_seed}\n{series.first.SeriesInstanceUID}\n{found.summary.get('created')}\n{model['name']} "
            f"{model['version']}"
        )
    job = _Job(
        found,
        series,
        Author(model["name"], model["version"], uid_prefix, uid_seed),
        Exported(output),
        bool(what),
        progress,
    )
    with Staging(output) as staging, files.quiet():
        job.folder = staging.folder
        for kind in wanted:
            progress.stage(kind, 0.0, f"Writing {kind}")
            with staging.writing(), _without_values(kind):
                getattr(job, f"write_{kind}")(structures, dicom_planning)
        if not job.done.written:
            raise InputError(f"{result}: holds nothing that could be written as DICOM.")
        for note in notes:
            job.note(note)
        staging.commit()
    return job.done


@contextlib.contextmanager
def _without_values(kind: str):
    """A context in which what a library did not expect becomes an error that says where, but quotes no value of the
    series.
    """
    try:
        yield
    except (RTUncertaintyError, OSError, MemoryError):
        raise
    except Exception as error:
        *_, last = traceback.extract_tb(error.__traceback__)
        raise RTUncertaintyError(
            f"{kind} could not be made: {type(error).__name__} in {Path(last.filename).name}, line {last.lineno}."
        ) from None


def _require_new(output: Path) -> None:
    try:
        # what a run left that was killed is no export
        left = f".{output.name}."
        if not output.exists() or (
            output.is_dir() and all(p.name.startswith(left) and p.name.endswith(".part") for p in output.iterdir())
        ):
            return
    except PermissionError:
        raise InputError(f"{output}: no permission to write there; choose another folder.") from None
    raise InputError(
        f"{output}: is there already and not empty; give a new folder, so that two exports are never mixed."
    )


def _wanted(found: Result, what, dicom_planning) -> tuple[list[str], list[str]]:
    """(kinds of objects to write, in order, notes about those that could not be)."""
    if what:
        unknown = set(what) - set(WHAT)
        if unknown:
            raise InputError(f"--what is one or more of {', '.join(WHAT)}, not {', '.join(sorted(unknown))}.")
        if "registration" in what and dicom_planning is None:
            raise InputError("a registration names the planning scan too: give its DICOM folder with --dicom-planning.")
        return [kind for kind in WHAT if kind in what], []
    has = {
        "rtstruct": found.has("structures"),
        "ct": found.has("synct"),
        "seg": found.has("structures"),
        "registration": found.has("transform"),
    }
    notes = []
    if has["seg"] and importlib.util.find_spec("highdicom") is None:
        has["seg"] = False
        notes.append("SEG was left out: it needs highdicom ('pip install highdicom').")
    if has["registration"] and dicom_planning is None:
        has["registration"] = False
        notes.append(
            "The deformation was left out: it names the planning scan too, whose DICOM folder is given with "
            "--dicom-planning."
        )
    return [kind for kind in WHAT if has.get(kind)], notes


@dataclass
class _Job:
    """One export, kind by kind."""

    found: Result
    series: Series
    author: Author
    done: Exported
    asked: bool  # the kinds were named
    progress: Progress
    folder: Path = Path()  # of the staged result, once there is one

    def note(self, text: str) -> None:
        self.done.notes.append(text)
        self.progress.note(text)

    def _structures(self, which: str):
        descriptions: dict[str, str] = {}
        if which not in SETS:
            structures = structure_input.read(
                which, grid=self.series.grid, tell=self.note, grid_name="the reference series"
            ).values()
        elif not self.found.has(SETS[which]):
            raise InputError(f"{self.found.folder}: has no {'' if which == 'default' else which + ' '}structures.")
        else:
            structures = self.found.structures(SETS[which]).values()
            descriptions = volume_texts(self.found) if which == "default" else descriptions
        # a file may come from Slicer, which crops it
        name, part = (str(self.found.folder), False) if which in SETS else (str(which), True)
        titles = long_strings(s.name for s in structures)
        fitted = [replace(s, name=titles[s.name], mask=self.series.fit(s.mask, name, part)) for s in structures]
        return fitted, {titles[n]: text for n, text in descriptions.items() if n in titles}

    def write_rtstruct(self, which: str, _planning) -> None:
        structures, descriptions = self._structures(which)
        made = rtstruct_write.make_structure_set(
            structures, self.series, self.author, descriptions, edited=which not in SETS
        )
        author.write(made, self.folder / "rtstruct.dcm")
        counts = [len(item.get("ContourSequence") or []) for item in made.ROIContourSequence]
        for s, count in zip(structures, counts):
            if not count:
                self.note(f"{s.name}: has no voxel; it is written without contours.")
        self.done.written["rtstruct"] = f"rtstruct.dcm: {len(counts)} structures, {sum(counts)} contours"

    def write_ct(self, _which, _planning) -> None:
        key = next((k for k in CTS if self.found.has(k)), None)
        if key is None:
            raise InputError(f"{self.found.folder}: has no CT to write.")
        image, what = self.series.fit(self.found.image(key), str(self.found.folder)), CTS[key]
        (self.folder / "ct").mkdir()
        for number, made in enumerate(ct.make_ct_series(image, self.series, self.author, what), 1):
            self.progress.stage("ct", number / len(self.series.slices), "Writing ct")
            author.write(made, self.folder / "ct" / f"{number:04}.dcm")
        self.done.written["ct"] = f"ct: {what}, {number} slices"

    def write_seg(self, which: str, _planning) -> None:
        structures = self._structures(which)[0]
        if not self.asked and not any(sitk.GetArrayViewFromImage(s.mask).any() for s in structures):
            return self.note("SEG was left out: no structure has a voxel.")
        made = segmentation.make_segmentation(structures, self.series, self.author, edited=which not in SETS)
        author.write(made, self.folder / "seg.dcm")
        self.done.written["seg"] = f"seg.dcm: {len(made.SegmentSequence)} segments"

    def write_probability(self, _which, _planning) -> None:
        names, folder = self.found.of_structures("probabilities"), str(self.found.folder)
        structures = [
            Structure(
                s["name"],
                self.series.fit(self.found.image("probabilities", s["name"]), folder),
                tuple(s["color"]),
                s.get("code"),
            )
            for s in self.found.summary.get("structures") or []
            if s["name"] in names
        ]
        if not structures:
            raise InputError(f"{self.found.folder}: has no probabilities to write.")
        titles = long_strings(s.name for s in structures)
        structures = [replace(s, name=titles[s.name]) for s in structures]
        made = segmentation.make_segmentation(structures, self.series, self.author, probability=True)
        author.write(made, self.folder / "probability.dcm")
        self.done.written["probability"] = f"probability.dcm: {len(made.SegmentSequence)} segments"

    def write_registration(self, _which, planning) -> None:
        field = self.found.transform()
        made = registration.make_registration(field, self.series, read_series(planning), self.author)
        author.write(made, self.folder / "registration.dcm")
        self.done.written["registration"] = f"registration.dcm: {' × '.join(map(str, field.GetSize()))} vectors"


def long_strings(names) -> dict[str, str]:
    """What DICOM can keep of names in elements of the kind LO: 64 characters, and a slash for a backslash, which
    separates values.

    Args:
        names: any.

    Returns:
        {name: what is kept}, no two alike.
    """
    out: dict[str, str] = {}
    for name in names:
        title, number = name.replace("\\", "/")[:64], 2
        while title.strip() in {t.strip() for t in out.values()}:
            title, number = f"{name.replace(chr(92), '/')[:60]} {number}", number + 1
        out[name] = title
    return out


def volume_texts(found: Result) -> dict[str, str]:
    """What is known of each structure's volume.

    Args:
        found: the result.

    Returns:
        {structure: text}.

    Raises:
        InputError: its tables cannot be read.
    """
    texts = {}
    for row in found.table("volumes"):
        volume, lower, upper, level = (
            tables.number(row, c, f"{found.folder}: volumes") for c in ("volume_ml", "lower_ml", "upper_ml", "level")
        )
        interval = (
            "no interval" if None in (lower, upper) else f"{level or 0:.0%} interval {lower:.1f} to {upper:.1f} ml"
        )
        texts[row["structure"]] = (
            f"Volume {volume or 0:.1f} ml, {interval}{'' if row['calibrated'] == 'yes' else ', not calibrated'}."
        )
    return texts


def summary(done: Exported) -> list[str]:
    """Lines for a person."""
    return [*(f"  {line}" for line in done.written.values()), f"{WARNING}: research results, unapproved."]

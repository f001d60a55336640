"""`collect`: what another tool wrote, as a `Result` of the project."""

from __future__ import annotations

import os
from itertools import zip_longest
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..bundles import site as sites
from ..core import geometry, image_io
from ..core.errors import InputError
from ..core.events import Progress
from ..results.result import FORMAT, Result, now, versions
from ..uncertainty import hu_calibration
from ..uncertainty.hu_calibration import interval_factors
from . import naming, probabilities, segmentation, structures, synthetic
from .card import card_of
from .recognise import recognise
from .source import NAME, Source
from .source import read as read_source

SHARES = {"read": 0.3, "assemble": 0.5, "write": 0.2}
MODALITIES = ("CT", "MR")
NO_SAMPLES = "Uncertainty of the structures: this model gives none, as there is one segmentation without probabilities."


def collect(
    image,
    sources,
    *,
    source=None,
    modality: str | None = None,
    case: str | None = None,
    planning=None,
    planning_structures=None,
    site=None,
    progress: Progress | None = None,
    seen=None,
) -> Result:
    """Another tool's results as a result of the project; nothing of it is calibrated, but by a site. Writes nothing.

    Args:
        image: path of the image that the model saw (the daily scan for a deformation): a file or a DICOM folder. None:
            source.json names it.
        sources: a folder or file, or several; of an ensemble each may be a member.
        source: a `source.json`; None: that in the first folder, where there is one.
        modality: CT or MR, of the image; None: by its DICOM tag or its values.
        case: the patient's name in folders that hold several.
        planning: of deformations, the planning scan.
        planning_structures: of deformations, what was drawn on it.
        site: path of a `site.json` of this tool and version, whose intervals and limits count, see `bundles.site`.
        progress: takes stages and notes.
        seen: called with the path of the image, once it is known.

    Returns:
        The result in memory; `Result.write` makes a folder of it. Files of members are read again then.

    Raises:
        InputError: files that are not known, do not fit together or lie on other voxels.
    """
    progress = progress or Progress(shares=SHARES)
    given = [Path(p) for p in ([sources] if isinstance(sources, (str, os.PathLike)) else sources)]
    for path in given:
        if not path.exists():
            raise InputError(f"{path}: there is no such file or folder; give what the tool wrote.")
    if len({p.resolve() for p in given}) < len(given):
        raise InputError(f"{given[0]}: is given twice; give each member once.")
    progress.stage("read", 0.0, "Reading the image")
    said = _said(source, given)
    file = Path(image) if image is not None else said.input
    if file is None:
        raise InputError(f'the image that the model saw is not known; give it with --input, or as "input" of a {NAME}.')
    if seen is not None:
        seen(file)
    grid = image_io.read(file, padded=modality == "MR", tell=progress.note)
    if modality not in (None, *MODALITIES):
        raise InputError(f"modality '{modality}' is not one of {', '.join(MODALITIES)}.")
    modality = modality or ("CT" if image_io.looks_like_ct(grid) else "MR")
    named = bool(said.tool)
    found = _with_files(said, given, case, file)
    if found.deformations:
        from .deformations import result

        made = result(found, file, grid, modality, planning, planning_structures, progress, site)
    else:
        if planning is not None or planning_structures is not None:
            raise InputError(
                f"{given[0]}: holds no deformation, so a planning scan and its structures have no use; leave them out."
            )
        made = _prediction(found, file, grid, modality, progress, site)
    if not found.tool:
        progress.note(f"Nothing says which tool wrote the files; name it in a {NAME}.")
    elif not named and "in the form of" in found.form:
        progress.note(f"Read {found.form}; where another tool wrote the files, name it in a {NAME}.")
    if site is None:
        without = ", so volumes have no intervals" * bool(made.summary["structures"])
        progress.note(f"This model is not one of RTUncertainty's: nothing here was calibrated{without}.")
    else:
        progress.note(f"This model is not one of RTUncertainty's. {sites.sentence(made.card)}")
        made.summary["site"] = made.card["site"]
    # which tool it came from, and how that is known; no place on this machine
    made.summary["source"] = {
        "tool": made.card["name"],
        "version": made.card["version"],
        "recognised": found.form or f"as its {NAME} says",
        "files": [p.name if len(given) == 1 or p in given else f"{p.parent.name}/{p.name}" for p in found.files],
    }
    made.summary["notes"] = progress.notes
    made.summary["seconds"] = progress.seconds
    return made


def _said(source, given: list[Path]) -> Source:
    if source is None:
        own = given[0] / NAME
        return read_source(own, given[0]) if own.is_file() else Source()
    if not Path(source).is_file():
        raise InputError(f"{source}: there is no such file; give a {NAME}.")
    return read_source(source, given[0] if given[0].is_dir() else given[0].parent)


def _with_files(said: Source, given: list[Path], case: str | None, image: Path) -> Source:
    """What source.json names, or where it names no files, what is found."""
    if not said.files:
        found = recognise(given, case, image)
        said.form = found.form
        for key in ("synct", "segmentations", "probabilities", "deformations"):
            setattr(said, key, getattr(found, key))
        said.tool, said.version = said.tool or found.tool, said.version or found.version
    elif len(given) > 1:
        raise InputError(f"{given[1]}: the {NAME} names the files of {given[0]} already; give one folder.")
    if said.deformations and (said.synct or said.segmentations or said.probabilities):
        raise InputError(
            f"{said.deformations[0]}: a deformation lies beside synthetic CTs or segmentations; collect each from "
            "a folder of its own."
        )
    return said


def members_of(found: Source, grid: sitk.Image, progress: Progress) -> list[structures.Member]:
    """The members of a segmentation.

    Args:
        found: with segmentations, probabilities or both.
        grid: the input image.
        progress: takes notes.

    Returns:
        One for each; probabilities go with the segmentation of their place in the list, or of their name.

    Raises:
        InputError: as of `collect`.
    """
    pairs: list[tuple[Path | None, Path | None]]
    if found.segmentations and found.probabilities:
        by_stem = {(p.parent, p.name[:-4]): p for p in found.probabilities}
        pairs = [(s, by_stem.get((s.parent, image_io.stem(s)))) for s in found.segmentations]
        if len(found.segmentations) == len(found.probabilities) and not any(p for _, p in pairs):
            pairs = list(zip(found.segmentations, found.probabilities))
        unpaired = [p for p in found.probabilities if p not in {q for _, q in pairs}]
        if unpaired:
            raise InputError(f"{unpaired[0]}: belongs to none of the segmentations; name both in a {NAME}.")
    else:
        pairs = list(zip_longest(found.segmentations, found.probabilities))
    out = []
    for drawn_file, npz in pairs:
        drawn = segmentation.read(drawn_file, grid, found.structures) if drawn_file is not None else None
        own = None
        if npz is not None:
            names = naming.of_labels(npz, found.structures)
            if names is None and drawn_file is not None and drawn_file.is_file():
                names = naming.of_labels(drawn_file, found.structures)
            beside = None
            if drawn_file is not None and drawn_file.is_file() and drawn_file.parent == npz.parent:
                beside = segmentation.stored(drawn_file) if image_io.stem(drawn_file) == npz.name[:-4] else None
            own = probabilities.read(npz, names, grid, beside, drawn is not None)
            if own.note:
                progress.note(own.note)
            if drawn is not None and set(drawn.masks) != set(own.names.values):
                raise InputError(f"{npz}: its classes are not those of {drawn_file}; give files of one model.")
        out.append(structures.Member(str(drawn_file or npz), drawn, own))
    return out


def _prediction(found: Source, file: Path, grid: sitk.Image, modality: str, progress: Progress, site=None) -> Result:
    made = {"synct": {"scale": 1.0, "offset": 0.0}} if found.synct else {}
    card = sites.applied(card_of(found.tool, found.version, modality, made), site)
    content: dict = {}
    entries: list[dict] = []
    members: list[structures.Member] = []
    if found.synct:
        content |= synthetic.content(found.synct, found.sd, grid, progress, hu_calibration.of_card(card))
        if "parameter_sd" in content and len(found.sd) == 0:
            progress.note(
                f"The SDs of the synthetic CT are those over its {len(found.synct)} members; what all of them get "
                "wrong is not in them."
            )
    else:
        content["body"] = synthetic.body_of(grid, modality)
    if found.segmentations or found.probabilities:
        members = members_of(found, grid, progress)
        more, entries = structures.content(members, grid, found.structures, card, progress)
        content |= more
        if "inside" not in content:
            progress.note(NO_SAMPLES)
        elif len(members) == 1:
            progress.note("The contours' percentiles are those of one probability map; nothing was sampled.")
    if len(found.synct) > 1 or len(members) > 1:
        content["samples"] = _Samples(found.synct, members, entries, grid)
    name = image_io.stem(file)
    summary = {
        "format": FORMAT,
        "job": "predict",
        "name": f"{card['name']} on {name}",
        "created": now(),
        "input": {
            "path": file.name,
            "name": name,
            "size": list(grid.GetSize()),
            "spacing_mm": [round(s, 5) for s in grid.GetSpacing()],
        },
        "model": card,
        "options": {"members": max(len(found.synct), len(members))},
        "level": structures.LEVEL,
        "interval_factor": interval_factors(card, [structures.LEVEL])[structures.LEVEL],
        "structures": entries,
        "versions": versions(),
    }
    return Result(summary, content)


class _Samples:
    """The members as kept samples of the result, each read when it is written."""

    def __init__(self, files: list[Path], members: list[structures.Member], entries: list[dict], grid: sitk.Image):
        self.files, self.members, self.entries, self.grid = files, members, entries, grid

    def __iter__(self):
        several = len(self.files) > 1, len(self.members) > 1
        for file, member in zip_longest(self.files if several[0] else (), self.members if several[1] else ()):
            found = {}
            if file is not None:
                hu = np.rint(synthetic.read(file, self.grid)).clip(*synthetic.RANGE)
                found["sample_synct"] = geometry.like(hu, self.grid, np.int16)
            if member is not None:
                found["sample_structures"] = structures.sample(member, self.entries, self.grid)
            yield found

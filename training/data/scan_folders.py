"""A hospital's folder of scans: a folder for each patient, in it an image or a DICOM series, and for some a
structure that was drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from rtuncertainty.core import geometry, image_io, structure_names, structure_set
from rtuncertainty.core.errors import InputError
from rtuncertainty.dicom import structure_input

from . import dicom, layouts, reading
from . import labels as label_rules

# names that an image has by itself
USUAL = ("image", "mr", "ct")
FRAME = "0020|0052"


@dataclass(frozen=True)
class ScanSource:
    """One scan. `image`: a path, or an object with `read()` (see `reading`); `drawn`: label images, segmentations and
    RTSTRUCTs by name; `rules`: what the values of the only label image mean, where the data say so; `problem` says why
    it cannot be used."""

    name: str
    patient: str
    image: Any = None
    drawn: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    problem: str = ""
    rules: tuple[label_rules.Rule, ...] = ()


def find(
    data: Path,
    image: str | None = None,
    modality: str | None = None,
    series: str | None = None,
    name: str | None = None,
) -> list[ScanSource]:
    """The scans in `data`, by name. nnU-Net, Learn2Reg, SynthRAD and left atrium (.h5) as `layouts` has them: of MR and
    CT the one of `modality`, or else the MR.

    Of other data each folder in `data` is a patient. An image file in it is a scan; else each of its subfolders that
    holds one (several scans of one patient); else the DICOM series below it, the one of `modality` (MR, CT or either)
    with the most voxels, or whose description holds `series`. Two DICOM folders with one patient's ID are one patient.
    `image`: the image's name without suffix, by default `name` where that is there, the one of `USUAL`, or the only
    file. What else is there, and has none of these names, was drawn, RTSTRUCT included.
    Raises `SystemExit` where there is no folder, or no patient in it.
    """
    if not data.is_dir():
        raise SystemExit(f"{data}: no such folder; give the folder of the patients with --data.")
    found = of_layout(data, modality)
    if found:
        return found
    found = [s for folder in _folders(data) for s in _scans(folder, image, modality, series, name)]
    if not found:
        raise SystemExit(f"{data}: no folder of a patient is in it; each patient needs one of his own.")
    first: dict[str, str] = {}  # an ID is compared, and told to no one
    for s in found:
        if isinstance(s.image, dicom.Series) and s.image.patient:
            first.setdefault(s.image.patient, s.patient)
    return [
        replace(s, patient=first.get(s.image.patient, s.patient)) if isinstance(s.image, dicom.Series) else s
        for s in found
    ]


def of_layout(data: Path, modality: str | None) -> list[ScanSource]:
    """The cases of a layout that says more than a folder for each patient does; none of another."""
    named = (layouts.learn2reg, layouts.nnunet, layouts.synthrad, layouts.left_atrium)
    found = next((d for layout in named if (d := layout(data, False)) and d.sources), None)
    if found is None:
        return []
    rules = tuple(r for r in found.rules if r.file != "ct")
    out = []
    for s in sorted(found.sources, key=lambda s: s.name):
        place = s.ct if modality == "CT" or (modality is None and s.mr is None) else s.mr
        problem = "" if place is not None else s.problem or f"it has no {modality or 'image'}"
        out.append(ScanSource(s.name, s.name, place, dict(s.labels), s.notes, problem, rules))
    return out


def _folders(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))


def _scans(folder: Path, image, modality, series, usual) -> list[ScanSource]:
    patient = folder.name
    if _files(folder):
        return [_of_files(folder, patient, patient, image, usual)]
    below = [f for f in _folders(folder) if _files(f)]
    if below:
        return [_of_files(f, f"{patient}_{f.name}", patient, image, usual) for f in below]
    return [_of_dicom(folder, modality, series)]


def _files(folder: Path) -> dict[str, Path]:
    """The image files in a folder by their names without suffix."""
    return {
        image_io.stem(p): p
        for p in sorted(folder.iterdir())
        if p.is_file() and p.name.lower().endswith(image_io.SUFFIXES)
    }


def _of_files(folder: Path, name: str, patient: str, image: str | None, first: str | None = None) -> ScanSource:
    files = _files(folder)
    image = image or (first if first in files else None)
    usual = [image] if image else [u for u in USUAL if u in files] or (list(files) if len(files) == 1 else [])
    chosen = [u for u in usual if u in files and not files[u].name.lower().endswith(".seg.nrrd")]
    if len(chosen) != 1:
        there = ", ".join(files)
        why = (
            f"no image named '{image}' is in it, but {there}"
            if image
            else f"which of {there} is the image? name it with --image"
        )
        return ScanSource(name, patient, problem=why)
    drawn = {stem: path for stem, path in files.items() if stem not in (chosen[0], *USUAL)} | _structure_sets(folder)
    return ScanSource(name, patient, files[chosen[0]], drawn)


def _of_dicom(folder: Path, modality: str | None, text: str | None) -> ScanSource:
    every = dicom.scan(folder)
    kinds = [modality] if modality else sorted({s.modality for s in every} & {"MR", "CT"})
    if len(kinds) != 1:
        return ScanSource(
            folder.name,
            folder.name,
            problem=(
                "it holds MR and CT; say which with --modality"
                if kinds
                else "there is neither an image file nor a DICOM series in it"
            ),
        )
    chosen, choice = dicom.choose(every, kinds[0], text)
    if chosen is None:
        return ScanSource(folder.name, folder.name, notes=(choice,), problem=f"no usable {kinds[0]} ({choice})")
    return ScanSource(folder.name, folder.name, chosen, _structure_sets(folder), (choice,))


def _structure_sets(folder: Path) -> dict[str, Path]:
    """RTSTRUCT files in a folder and below it."""
    candidates = [p for p in sorted(folder.rglob("*")) if p.is_file() and structure_input.is_dicom(p)]
    if not candidates:
        return {}
    structure_input.require_pydicom("reading a folder of DICOM")
    from rtuncertainty.dicom import files

    return {
        str(p.relative_to(folder)): p for p in candidates if files.value(files.read_header(p), "Modality") == "RTSTRUCT"
    }


def read_image(source: ScanSource) -> sitk.Image:
    """The image, float32, with what DICOM says of its frame of reference and modality. Raises `InputError`."""
    image = reading.read(source.image)
    if isinstance(source.image, dicom.Series):
        header = sitk.ImageFileReader()
        header.SetFileName(source.image.files[0])
        header.ReadImageInformation()
        if header.HasMetaDataKey(FRAME):
            image.SetMetaData("frame_of_reference", header.GetMetaData(FRAME).strip().rstrip("\0"))
    return image


def all_structures(source: ScanSource, image: sitk.Image, tell) -> dict[str, sitk.Image]:
    """Every structure of a scan by name, as masks (0 or 1) on their own grids: what the data's table of labels names,
    segments and ROIs, the values of a label image by their names in NAME.json beside it, and other label images by
    their files' names. Raises `InputError` for what cannot be read."""
    found: dict[str, sitk.Image] = {}
    for stem, place in source.drawn.items():
        if _named(place):
            structures = structure_input.read(place, grid=image, tell=tell, empty=True)
        elif source.rules:
            label = reading.read_label(place)
            array, rules = sitk.GetArrayViewFromImage(label), [r for r in source.rules if r.file in (None, stem)]
            masks = {r.name: np.isin(array, r.values) if r.values else array > 0 for r in rules}
            found.update({n: geometry.like(m, label, np.uint8) for n, m in masks.items() if m.any()})
            continue
        elif stem == "structures" or (Path(place).parent / f"{stem}.json").exists():
            structures = structure_set.read(place, empty=True)
        else:
            label = reading.read_label(place)
            found[stem] = geometry.like(sitk.GetArrayViewFromImage(label) > 0, label, np.uint8)
            continue
        found.update({n: s.mask for n, s in structures.items()})
    return found


def parse(text: str) -> label_rules.Rule:
    """--structure NAME, NAME=VALUE, NAME=FILE, NAME=FILE:VALUE or NAME=ROI. Raises `SystemExit` for another."""
    if "=" in text:
        return label_rules.parse(text)
    name = text.strip()
    if not name or name == label_rules.BACKGROUND or ":" in name:
        raise SystemExit(f"--structure {text}: give a name, such as bladder, or NAME=WHAT (see training/README.md).")
    return label_rules.Rule(name)


def read_structure(source: ScanSource, rule: label_rules.Rule, image: sitk.Image, tell) -> sitk.Image | None:
    """The mask (0 or 1, uint8) of what `rule` names, on its own grid; None where it was not drawn.

    NAME=VALUE: of the only label image, or of FILE. NAME or NAME=WHAT: the label image WHAT; the segment (.seg.nrrd) or
    ROI (RTSTRUCT) of that name, in any common spelling of it; or, for NAME alone, the only label image. `tell` is
    called with what was there instead. Raises `InputError` for what cannot be read, is unclear or is empty.
    """
    plain = {n: p for n, p in source.drawn.items() if not _named(p)}
    wanted = rule.file or rule.name
    named = {r.name: r for r in source.rules}
    if not rule.values and wanted not in plain and _same(wanted, named) is not None:
        rule = replace(named[str(_same(wanted, named))], name=rule.name)
    if rule.values:
        file = label_rules.file_of(rule, plain)
        return None if file is None else _checked(_of_values(plain[file], rule.values), f"{plain[file]}: label {rule}")
    if wanted in plain:
        return _checked(_all_of(plain[wanted], rule), str(plain[wanted]))
    others: list[str] = []
    for place in source.drawn.values():
        if _named(place):
            structures = structure_input.read(place, grid=image, tell=tell, empty=True)
            name = _same(wanted, structures)
            if name is not None:
                return _checked(structures[name].mask, f"{place}: {name}")
            others += structures
    if not rule.file and len(plain) == 1:
        place = next(iter(plain.values()))
        return _checked(_all_of(place, rule), str(place))
    others += plain
    if others:
        tell(f"'{wanted}' was not drawn; there are {', '.join(map(str, others[:8]))}{', …' if len(others) > 8 else ''}")
    return None


def _named(place) -> bool:
    """Whether a file names what is in it."""
    return isinstance(place, Path) and (
        place.name.lower().endswith(".seg.nrrd") or not place.name.lower().endswith(image_io.SUFFIXES)
    )


def _same(wanted: str, names) -> str | None:
    """The one of `names` that is `wanted`: as it stands, in another case, or the same organ in another spelling."""
    if wanted in names:
        return wanted
    alike = [n for n in names if n.strip().lower() == wanted.strip().lower()]
    organ = structure_names.organ(wanted)
    alike = alike or [n for n in names if organ is not None and structure_names.organ(n) == organ]
    if len(alike) > 1:
        raise InputError(f"{', '.join(alike)} may all be '{wanted}'; name one with --structure NAME=ROI.")
    return alike[0] if alike else None


def _of_values(place, values) -> sitk.Image:
    image = reading.read_label(place)
    return geometry.like(np.isin(sitk.GetArrayViewFromImage(image), values), image, np.uint8)


def _all_of(place, rule) -> sitk.Image:
    """All above 0 of a label image that has one value only."""
    image = reading.read_label(place)
    array = sitk.GetArrayViewFromImage(image)
    values = np.unique(array[array > 0])
    if len(values) > 1:
        raise InputError(
            f"{place} holds the labels {', '.join(f'{v:g}' for v in values[:8])}; say which with --structure "
            f"{rule.name}=FILE:VALUE."
        )
    return geometry.like(array > 0, image, np.uint8)


def _checked(mask: sitk.Image, what: str) -> sitk.Image:
    if not sitk.GetArrayViewFromImage(mask).any():
        raise InputError(f"{what} is empty; draw it, or remove it and the scan counts as one without labels.")
    return mask

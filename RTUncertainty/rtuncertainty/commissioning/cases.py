"""Whose images and references there are: a folder a patient, as they come. Nothing is guessed: what is not clear is
said, and its patient left out.

An image file is known by the words of its name ("mr", "t1", "image", "ct", "reference", "labels", "structures",
"planning", "daily"), a DICOM series by its modality, a file that ends in `.seg.nrrd` as structures. For propagation the
words "planning" and "daily" in the name of the file, or of the folder that it lies in, say which scan it belongs to. A
folder with a `summary.json` is a result that is there already, by whatever model: it is taken as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..bundles import bundle as bundles
from ..core import image_io
from ..core.errors import InputError
from ..core.scans.dicom_scan import NO_SCAN, is_dicom
from ..core.structure_names import words

MR = {"mr", "mri", "t1", "t2", "t1w", "t2w", "flair"}
CT = {"ct", "cbct"}
INPUT = {"image", "img", "input", "scan"}
REFERENCE = {"reference", "ref", "truth"}
STRUCTURES = {
    "labels", "label", "structures", "structure", "seg", "segmentation", "contours", "contour", "rtstruct", "rs",
}  # fmt: skip
PARTS = {"planning": {"planning", "plan", "pct"}, "daily": {"daily", "day", "fraction", "fx", "repeat"}}
DRAWN = ("RTSTRUCT", "SEG")


@dataclass(frozen=True)
class Item:
    """A scan or a set of structures that lies in a patient's folder.

    Attributes:
        kind: "MR", "CT", "image" (a scan of unknown modality), "structures" or "result".
        part: "planning", "daily" or "".
        reference: its name says that it is one.
        files: the files of a DICOM series or of a result, or the one file.
        name: for the table, within the patient's folder.
    """

    kind: str
    part: str
    reference: bool
    files: tuple[Path, ...]
    name: str

    @contextmanager
    def place(self) -> Iterator[Path]:
        """A path that holds this and nothing else: of a series that shares its folder with others, a folder of links
        (or copies) for as long as the context lasts.
        """
        if self.kind == "result":
            yield self.files[0].parent
            return
        if not is_dicom(self.files[0]) or self.kind == "structures":
            yield self.files[0]
            return
        home = self.files[0].parent
        if sum(is_dicom(p) for p in home.iterdir() if p.is_file()) == len(self.files):
            yield home
            return
        with tempfile.TemporaryDirectory() as folder:
            for number, file in enumerate(self.files):
                _link(file.resolve(), Path(folder) / f"{number:05}.dcm")
            yield Path(folder)


def _link(file: Path, place: Path) -> None:
    try:
        os.symlink(file, place)
    except OSError:  # Windows without the right to
        shutil.copyfile(file, place)


@dataclass
class Case:
    """One patient.

    Attributes:
        name: of the folder.
        items: role → what fills it; the roles of a prediction are "image" (of several channels "image NAME"),
            "reference" and "structures", those of a propagation "planning", "planning structures", "daily" and "daily
            structures"; of a result that is there "result".
        missing: roles that nothing fills.
        odd: what is not clear, a line each; such a case is left out.
        unused: files that play no part.
    """

    name: str
    folder: Path
    items: dict[str, Item] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether it can be commissioned with."""
        return not self.missing and not self.odd

    def row(self) -> dict[str, str]:
        """Its row of the table of cases."""
        return {
            "patient": self.name,
            "used": "yes" if self.usable else "no",
            "found": "; ".join(f"{role}: {item.name}" for role, item in self.items.items()),
            "missing": ", ".join(self.missing),
            "odd": "; ".join(self.odd),
            "not used": ", ".join(self.unused),
        }


def find(folder, card: dict) -> list[Case]:
    """The patients of a folder.

    Args:
        folder: with a folder for each patient.
        card: of the model, which says what is looked for.

    Returns:
        All of them by name, usable or not.

    Raises:
        InputError: there is no such folder, or no folder in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; give one that holds a folder for each patient.")
    homes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not homes:
        raise InputError(f"{folder}: holds no folder; give one that holds a folder for each patient.")
    return [_case(home, card) for home in homes]


def _case(home: Path, card: dict) -> Case:
    case = Case(home.name, home)
    found = _items(home, case)
    results = [i for i in found if i.kind == "result"]
    if results:
        used = _with_result(case, results, [i for i in found if i.kind != "result"], card)
    elif "deformation" in card["outputs"]:
        for part in PARTS:
            own = [i for i in found if i.part == part]
            _fill(case, part, [i for i in own if i.kind != "structures"])
            _fill(case, f"{part} structures", [i for i in own if i.kind == "structures"])
        used = set(map(id, case.items.values()))
    else:
        used = _prediction(case, found, card)
    case.unused = [i.name for i in found if id(i) not in used]
    return case


def _with_result(case: Case, results: list[Item], others: list[Item], card: dict) -> set[int]:
    """A patient whose result is there: it takes a reference, and an image only to show it."""
    _fill(case, "result", results)
    moved = "deformation" in card["outputs"]
    own = [i for i in others if i.part == "daily"] if moved else others
    scans = [i for i in own if i.kind != "structures"]
    references = [] if moved else [i for i in scans if i.reference or ("synct" in card["outputs"] and i.kind == "CT")]
    _fill(
        case, "daily structures" if moved else "structures", [i for i in own if i.kind == "structures"], optional=True
    )
    _fill(case, "reference", references, optional=True)
    _fill(case, "daily" if moved else "image", [i for i in scans if i not in references], optional=True)
    if not case.odd and not {"daily structures", "structures", "reference"} & set(case.items):
        case.missing.append("reference")
    return set(map(id, case.items.values()))


def _prediction(case: Case, found: list[Item], card: dict) -> set[int]:
    modality, makes_ct = card["input"].get("modality") or "MR", "synct" in card["outputs"]
    scans = [i for i in found if i.kind != "structures"]
    references = [i for i in scans if i.kind == "CT" or i.reference] if makes_ct else []
    images = [i for i in scans if i not in references and not i.reference and i.kind in (modality, "image")]
    # what is called by its modality comes before what is not
    images = [i for i in images if i.kind == modality] or images
    channels = card["input"].get("channels") or []
    if channels:
        for channel in channels:
            _fill(case, f"image {channel}", [i for i in images if channel.lower() in _words(i.files[0])])
    else:
        _fill(case, "image", images)
    if makes_ct:
        _fill(case, "reference", references)
    _fill(case, "structures", [i for i in found if i.kind == "structures"], optional=makes_ct)
    return set(map(id, case.items.values()))


def _fill(case: Case, role: str, candidates: list[Item], optional: bool = False) -> None:
    if len(candidates) == 1:
        case.items[role] = candidates[0]
    elif candidates:
        case.odd.append(f"{len(candidates)} could be the {role} ({', '.join(i.name for i in candidates)}): leave one")
    elif not optional:
        case.missing.append(role)


def _items(home: Path, case: Case) -> list[Item]:
    """All scans and structures below a folder; what cannot be told apart is said in `case.odd`."""
    files = sorted(p for p in home.rglob("*") if p.is_file() and not p.name.startswith("."))
    results = [p.parent for p in files if p.name == "summary.json" and p.parent != home]
    of_results = {r: [p for p in files if r in p.parents] for r in results}
    files = [p for p in files if not any(r in p.parents for r in results)]
    dicom = [p for p in files if is_dicom(p)]
    found = _series(home, dicom, case) if dicom else []
    for path in (p for p in files if p not in set(dicom)):
        if not any(path.name.lower().endswith(s) for s in image_io.SUFFIXES):
            continue
        found.append(_file(home, path))
    for folder, own in of_results.items():
        name = folder.relative_to(home).as_posix()
        first = folder / "summary.json"
        found.append(Item("result", "", False, (first, *(p for p in own if p != first)), f"{name}/ (result)"))
    return found


def card_of_results(folder) -> dict:
    """The card of the first result that lies in a patient's folder.

    Args:
        folder: with a folder for each patient.

    Returns:
        The card of the model that made it.

    Raises:
        InputError: there is none, or it does not say which model made it.
    """
    from ..results.result import Result

    summaries = sorted(Path(folder).glob("*/*/**/summary.json")) if Path(folder).is_dir() else []
    if not summaries:
        raise InputError(f"{folder}: give --model, or a result folder in each patient's folder.")
    card = Result.read(summaries[0].parent).card
    if not card.get("name") or not card.get("version") or "outputs" not in card:
        raise InputError(f"{summaries[0]}: does not say which model made it; give --model.")
    return {"input": {}, "calibration": {}, "accuracy": {}} | card


def _words(path: Path) -> set[str]:
    """The words of a file's name: "planningCT.seg.nrrd" is planning, ct, seg."""
    name = path.name
    for suffix in (".seg.nrrd", *image_io.SUFFIXES):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)] + (" seg" if suffix == ".seg.nrrd" else "")
            break
    return set(words(name))


def _part(home: Path, path: Path) -> str:
    """Which scan of a propagation a file belongs to: by its own name, else by the folders that it lies in."""
    places = [_words(path), *(set(words(p)) for p in path.relative_to(home).parts[-2::-1])]
    for said in places:
        parts = [part for part, names in PARTS.items() if said & names]
        if len(parts) == 1:
            return parts[0]
    return ""


def _file(home: Path, path: Path) -> Item:
    said, name = _words(path), path.relative_to(home).as_posix()
    kind = "structures" if said & STRUCTURES else "MR" if said & MR else "CT" if said & CT else "image"
    return Item(kind, _part(home, path), bool(said & REFERENCE), (path,), name)


def _series(home: Path, files: list[Path], case: Case) -> list[Item]:
    from ..dicom.structure_input import require_pydicom

    require_pydicom("a folder of DICOM files")
    from ..dicom.files import read_header, value

    groups: dict[tuple[str, str, str], list[Path]] = {}
    for path in files:
        header = read_header(path)
        if header is None:
            case.odd.append(f"{path.relative_to(home).as_posix()} cannot be read as DICOM: copy it again")
            continue
        modality = str(value(header, "Modality"))
        # each set of structures is one file, whatever its series
        key = str(path) if modality in DRAWN else str(value(header, "SeriesInstanceUID"))
        groups.setdefault((str(path.parent), modality, key), []).append(path)
    found = []
    for (parent, modality, _), own in groups.items():
        inner = Path(parent).relative_to(home).as_posix()
        where = "" if inner == "." else f"{inner}/"
        if modality in DRAWN:
            found.append(
                Item("structures", _part(home, own[0]), False, (own[0],), f"{where}{own[0].name} ({modality})")
            )
        elif modality not in NO_SCAN:
            kind = modality if modality in ("MR", "CT") else "image"
            reference = bool({w for p in own[0].relative_to(home).parts[:-1] for w in words(p)} & REFERENCE)
            found.append(
                Item(kind, _part(home, own[0]), reference, tuple(own), f"{where}{modality} series of {len(own)} files")
            )
    return found


def _with_names(item: Item) -> list[Path]:
    beside = [f.with_name(image_io.stem(f) + ".json") for f in item.files if item.kind == "structures"]
    return [*item.files, *(b for b in beside if b.is_file())]


def _weights(card: dict) -> list[Path]:
    file = (card.get("weights") or {}).get("file")
    path = Path(card["folder"]) / Path(file).name if file and card.get("folder") else None
    return [path] if path is not None and path.is_file() else []


def digest(case: Case, card: dict, options: dict) -> str:
    """A hash of all that a case's result depends on: contents of its files wherever they lie, model, options.

    Args:
        case: of `find`.
        card: of the model.
        options: of the run.

    Returns:
        Hexadecimal digits.
    """
    contents = {role: sorted(map(bundles.sha256, _with_names(item))) for role, item in case.items.items()}
    contents["weights"] = list(map(bundles.sha256, _weights(card)))
    whole = [card["name"], card["version"], options, contents]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()

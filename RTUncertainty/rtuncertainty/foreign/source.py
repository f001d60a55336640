"""`source.json`: which tool wrote a folder, which version, and what its files are.

    {"tool": "ImpactSynth", "version": "1.2", "input": "mr.nii.gz",
     "synct": ["sct_0.nii.gz", "sct_1.nii.gz"], "sd": "sct_sd.nii.gz",
     "segmentations": ["seg.nii.gz"], "probabilities": ["probabilities.npz"],
     "deformations": ["field_0.nii.gz", "field_1.nii.gz"],
     "structures": {"liver": 1, "spleen": {"label": 2, "color": [157, 108, 162],
                    "code": {"scheme": "SCT", "value": "78961009", "meaning": "Spleen"}}}}

All of it is optional; files are named relative to the folder, and none may lie outside of it.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import InputError

NAME = "source.json"
FILES = ("synct", "sd", "segmentations", "probabilities", "deformations")
TEXTS = ("tool", "version", "input")
KEYS = (*TEXTS, *FILES, "structures")


@dataclass
class Source:
    """What another tool wrote.

    Attributes:
        tool, version: of the model; empty where nothing says it.
        form: how the files were recognised, in words; empty where source.json names them.
        input: file of the image that the model saw.
        synct: synthetic CTs, one a member.
        sd: none, one map of the SD of their mean (HU), or one for each of them.
        segmentations: one a member: `.seg.nrrd`, a label image, or a folder with a mask for each structure.
        probabilities: `.npz`, one a member.
        deformations: transform files or displacement fields, one a member.
        structures: {name: label, color, code}, each of which may be missing.
    """

    tool: str = ""
    version: str = ""
    form: str = ""
    input: Path | None = None
    synct: list[Path] = field(default_factory=list)
    sd: list[Path] = field(default_factory=list)
    segmentations: list[Path] = field(default_factory=list)
    probabilities: list[Path] = field(default_factory=list)
    deformations: list[Path] = field(default_factory=list)
    structures: dict[str, dict] = field(default_factory=dict)

    @property
    def files(self) -> list[Path]:
        """All files and folders that it names, without the input."""
        return [path for key in FILES for path in getattr(self, key)]


def table(file) -> dict:
    """A JSON file that holds an object.

    Args:
        file: its path.

    Returns:
        The object.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: cannot be read as JSON ({str(error).splitlines()[0]}); repair it.") from error
    if not isinstance(found, dict):
        raise InputError(f'{file}: is no table of names and values, such as {{"tool": "…"}}; repair it.')
    return found


def read(file, folder) -> Source:
    """A `source.json`.

    Args:
        file: its path.
        folder: which the files that it names are relative to.

    Returns:
        What it says.

    Raises:
        InputError: it says what nobody would read, or names a file that is missing or lies outside of the folder.
    """
    said, folder = table(file), Path(folder)
    for key in said:
        if key not in KEYS:
            close = difflib.get_close_matches(str(key), KEYS, 1, 0.6)
            meant = f" (did you mean '{close[0]}'?)" if close else f"; known are {', '.join(KEYS)}"
            raise InputError(f"{file}: '{key}' is nothing that a source.json says{meant}.")
    for key in TEXTS:
        if not isinstance(said.get(key, ""), str):
            raise InputError(f"{file}: '{key}' must be a text, such as \"1.2\".")
    found = Source(said.get("tool", "").strip(), said.get("version", "").strip())
    found.structures = _structures(said.get("structures", {}), file)
    if said.get("input"):
        found.input = _inside(said["input"], folder, file)
    for key in FILES:
        names = said.get(key) or []
        names = [names] if isinstance(names, str) else names
        if not isinstance(names, list) or not all(isinstance(n, str) and n for n in names):
            raise InputError(f"{file}: '{key}' must be the name of a file, or a list of names.")
        setattr(found, key, [_inside(name, folder, file) for name in names])
        if len(set(getattr(found, key))) < len(names):
            raise InputError(f"{file}: '{key}' names one file twice; name each member once.")
    for key, others in (("sd", found.synct), ("probabilities", found.segmentations)):
        count = len(getattr(found, key))
        if others and count not in (0, len(others)) and not (key == "sd" and count == 1):
            raise InputError(f"{file}: '{key}' names {count} files for {len(others)} members; name one for each.")
    if found.sd and not found.synct:
        raise InputError(f"{file}: 'sd' names a map, but 'synct' names no synthetic CT; name that, too.")
    return found


def _inside(name: str, folder: Path, file) -> Path:
    """The path of what is named; refused when it leads out of the folder, a link included."""
    path = folder / name
    try:
        home, place = folder.resolve(), path.resolve()
    except (OSError, RuntimeError, ValueError):
        raise InputError(f"{file}: names {name!r}, which is no file's name.") from None
    if home not in place.parents:
        raise InputError(f"{file}: names {name!r} outside of {folder}; copy the file into that folder.")
    if not path.exists():
        raise InputError(f"{file}: names {name!r}, which is not in {folder}; copy it there, or correct the name.")
    return path


def _structures(said, file) -> dict[str, dict]:
    if not isinstance(said, dict):
        raise InputError(f"{file}: 'structures' must be a table, such as {{\"liver\": 1}}.")
    found: dict[str, dict] = {}
    for name, entry in said.items():
        entry = {"label": entry} if isinstance(entry, int) else entry
        wrong = None if name.strip() else "a structure has no name"
        if not isinstance(entry, dict) or not set(entry) <= {"label", "color", "code"}:
            wrong = f"'{name}' must be a label, or an object with label, color and code"
        elif "label" in entry and not (type(entry["label"]) is int and 0 < entry["label"] < 65536):
            wrong = f"the label of '{name}' must be a whole number from 1"
        elif "color" in entry and not _is_color(entry["color"]):
            wrong = f"the color of '{name}' must be three numbers from 0 to 255"
        elif entry.get("code") is not None and not _is_code(entry["code"]):
            wrong = f"the code of '{name}' must be an object with the texts scheme, value and meaning"
        if wrong:
            raise InputError(f"{file}: {wrong}.")
        found[name] = dict(entry)
    labels = [e["label"] for e in found.values() if "label" in e]
    if len(set(labels)) < len(labels):
        raise InputError(f"{file}: gives two structures one label; give each its own.")
    return found


def _is_color(value) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(c) in (int, float) and 0 <= c <= 255 for c in value)


def _is_code(value) -> bool:
    def triple(code) -> bool:
        return isinstance(code, dict) and all(
            isinstance(code.get(k), str) and code[k] and not set(code[k]) & set("~^|")
            for k in ("scheme", "value", "meaning")
        )

    return triple(value) and all(triple(value[k]) for k in ("category", "modifier") if value.get(k))

"""Planning CTs with their structures, as `pairs` and `organs` take them, in every layout in which data come."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rtuncertainty.core import geometry, image_io, structure_names
from rtuncertainty.core.errors import InputError

from ...core import provenance
from ...core.files import merged, write_csv
from .. import checks, scan_folders
from .. import labels as label_rules
from ..case import Case
from ..checks import BadCase, Finding
from ..overlay import overlay

# HU of one unit in an overlay, which shows -2 to 2.5 of them: soft tissue
SHOWN_HU = 160.0


@dataclass(frozen=True)
class Patient:
    """A planning CT with its structures {name: mask}; `side` is "train", "validation" or "" where the data do not
    say. `content`: SHA-256 of the CT as it came, "" of a digital patient, whose name says all. `found`: see `checks`.
    """

    name: str
    ct: sitk.Image
    structures: dict[str, sitk.Image]
    side: str = ""
    content: str = ""
    found: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Source:
    """A patient who has not been read yet: `read` gives CT and structures, and is told what to tell."""

    name: str
    read: Callable[[Callable[[str], None]], tuple[sitk.Image, dict[str, sitk.Image]]]
    side: str = ""
    digital: bool = False
    places: tuple = field(default=(), compare=False)


def find(data: Path | None, count: int = 0, only=None) -> list[Source]:
    """The patients of `data`, or `count` digital pelves without.

    OpenKBP (converted: train|validation/pt_n/{ct,structures_bits}.nii.gz with structure_bits.json), or what
    `scan_folders.find` finds of CTs. Raises `SystemExit` where there are none, and for a name in `only` that is none.
    """
    if data is None:
        found = [_pelvis(number) for number in range(count)]
    elif not data.is_dir():
        raise SystemExit(f"{data}: there is no such folder.")
    elif (data / "structure_bits.json").exists():
        found = _openkbp(data)
    else:
        found = [_of_scan(s) for s in scan_folders.find(data, modality="CT", name="ct")]
    names = {s.name for s in found}
    unknown = sorted(set(only or ()) - names)
    if unknown:
        raise SystemExit(f"--only: no patient is named {', '.join(unknown)}; there are {', '.join(sorted(names)[:8])}.")
    return [s for s in found if not only or s.name in only]


def _openkbp(data: Path) -> list[Source]:
    bits = json.loads((data / "structure_bits.json").read_text(encoding="utf-8"))

    def of(folder: Path, side: str) -> Source:
        def read(tell):
            ct, place = image_io.read(folder / "ct.nii.gz"), folder / "structures_bits.nii.gz"
            if not place.is_file():
                raise InputError(f"{place} is missing.")
            array = sitk.GetArrayFromImage(sitk.ReadImage(str(place)))
            masks = {n: (array >> bit) & 1 for n, bit in bits.items()}
            return ct, {n: geometry.like(m, ct, np.uint8) for n, m in masks.items() if m.any()}

        return Source(folder.name, read, side, places=(folder / "ct.nii.gz",))

    return [
        of(folder, side)
        for side in ("train", "validation")
        for folder in sorted((data / side).glob("*"), key=lambda p: (len(p.name), p.name))
        if folder.is_dir()
    ]


def _of_scan(source: scan_folders.ScanSource) -> Source:
    def read(tell):
        if source.problem:
            raise BadCase([Finding("error", "source", source.problem)])
        ct = scan_folders.read_image(source)
        return ct, scan_folders.all_structures(source, ct, tell)

    return Source(source.name, read, places=(source.image,))


def _pelvis(number: int) -> Source:
    def read(tell):
        from rtuncertainty.phantoms.pelvis import LABELS, digital_pelvis

        pelvis = digital_pelvis(number)
        return pelvis.ct, {
            n: sitk.Equal(pelvis.labels, v) for n, v in LABELS.items() if n not in ("background", "bone")
        }

    return Source(f"PELVIS_{number:03d}", read, digital=True)


def organs_of(data: Path | None, usual) -> tuple[str, ...]:
    """The structures that the data's own table of labels names (nnU-Net, Learn2Reg), or else the `usual` ones."""
    found = scan_folders.of_layout(data, "CT") if data is not None and data.is_dir() else []
    return tuple(r.name for r in found[0].rules if r.name != label_rules.IGNORE) or usual if found else usual


def read(source: Source, organs) -> tuple[Patient, dict[str, str]]:
    """(patient, the organ that each structure of his is) after the checks of CT and structures.

    Raises `BadCase` for who cannot be used: files that are missing or damaged, no CT in HU, none of `organs` drawn.
    """
    found: list[Finding] = []
    try:
        ct, structures = source.read(lambda note: found.append(Finding("note", "structures", note)))
    except BadCase as bad:
        raise BadCase([*found, *bad.findings]) from None
    except Exception as error:  # one bad patient must not end the run: he is listed with his reason
        why = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}".splitlines()[0]
        raise BadCase([*found, Finding("error", "file", why)]) from error
    if not source.digital:
        found += [*checks.check_ct(ct), *checks.check_spacing(ct, "CT")]
        found += [f for place in source.places for f in checks.check_header(place, "CT")]
    named = structure_names.match(structures, organs)
    for name, organ in list(named.items()):
        fault = [f for f in checks.check_label(structures[name], ct, organ, "CT") if f.check != "grid"]
        found += fault
        if fault:  # empty or elsewhere: nobody knows where it is
            del named[name]
    if not named:
        there = f"; there are {', '.join(list(structures)[:8])}" if structures else ""
        found.append(Finding("error", "structures", f"none of its structures is one of {', '.join(organs)}{there}"))
    if any(f.level == "error" for f in found):
        raise BadCase(found)
    content = "" if source.digital else provenance.of_scan(sitk.GetArrayViewFromImage(ct))
    return Patient(source.name, ct, structures, source.side, content, tuple(found)), named


class Table:
    """prepare.csv and checks.csv of patients, as they are prepared one after the other."""

    def __init__(self, out: Path, columns: list[str]):
        self.out, self.columns = out, ["case", "kept", "why", "patient", "set", "source_sha256", *columns]
        self.rows: list[dict] = []
        self.findings: dict[str, list[Finding]] = {}
        self.seen: dict[str, str] = {}

    def patients(self, sources: list[Source], organs) -> Iterator[tuple[Patient, dict[str, str]]]:
        """Those who can be used, with the organs that their structures are; the others get a row that says why."""
        for source in sources:
            try:
                patient, named = read(source, organs)
                twin = self.seen.setdefault(patient.content, source.name) if patient.content else source.name
                if twin != source.name:
                    raise BadCase([*patient.found, Finding("error", "twice", f"the same image as {twin}")])
            except BadCase as bad:
                self.leave_out(source.name, bad)
                continue
            self.findings[source.name] = list(patient.found)
            yield patient, named

    def leave_out(self, name: str, bad: BadCase) -> None:
        self.findings[name] = [*self.findings.get(name, []), *(f for f in bad.findings)]
        self.rows.append({"case": name, "kept": "no", "why": str(bad), "patient": name})
        print(f"{name}: left out, {bad}", flush=True)

    def keep(self, case: str, patient: Patient, facts: dict) -> None:
        known = {"patient": patient.name, "set": patient.side, "source_sha256": patient.content}
        self.rows.append({"case": case, "kept": "yes", "why": ""} | known | facts)

    def write(self, only) -> list[dict]:
        """Write both tables, with `only` beside what they say of others; returns the rows made here."""
        rows, found = self.rows, checks.rows(self.findings)
        if only:
            rows = merged(self.out / "prepare.csv", rows, self.findings)
            found = merged(self.out / "checks.csv", found, self.findings)
        write_csv(self.out / "prepare.csv", rows, list(dict.fromkeys([*self.columns, *(k for r in rows for k in r)])))
        write_csv(self.out / "checks.csv", found, list(checks.COLUMNS))
        print(checks.summary(self.findings), flush=True)
        return self.rows


def draw(out: Path, name: str, hu: np.ndarray, labels: np.ndarray, body: np.ndarray, spacing, classes) -> None:
    """`out`/overlays/NAME.png: a CT [z, y, x] with the outlines of its organs, where the picture is not there yet."""
    path = out / "overlays" / f"{name}.png"
    if not path.exists():
        values = {"background": 0} | {c: k for k, c in enumerate(classes, 1)}
        shown = Case(name, hu / SHOWN_HU, None, labels, body, body, spacing, values)
        overlay(shown, path, f"{name}   {', '.join(c for c, k in values.items() if k and (labels == k).any())}")


def require_some(data, rows: list[dict], organs) -> None:
    """Raise `SystemExit` where no patient can be used."""
    if not any(r["kept"] == "yes" for r in rows):
        raise SystemExit(f"{data}: no patient with a CT and any of {', '.join(organs)}; checks.csv says why.")

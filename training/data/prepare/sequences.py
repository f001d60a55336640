"""`python -m training sequences`: several registered MR sequences of a patient, and structures of which one may hold
another (Eaton-Rosen 2018: a tumour whole, its core, what is active in it), become cases on one grid.

A classifier's classes exclude each other, so the labels are the shells: what belongs to a structure and to none of its
parts. The structures are their unions, from training to the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rtuncertainty.core import geometry, image_io
from rtuncertainty.core.errors import InputError
from rtuncertainty.prediction import channels, preprocess

from ...core import provenance
from ...core.files import make_folder, write_csv
from .. import organ_case
from . import pairs
from .organs import SETTINGS


@dataclass(frozen=True)
class Part:
    """A structure, and the values that it has in the labels; one whose values are all another's is a part of that."""

    name: str
    values: tuple[int, ...]

    @classmethod
    def of(cls, word: str) -> Part:
        """From NAME=VALUE,VALUE,… Raises `SystemExit` for what is none."""
        name, equals, values = word.partition("=")
        try:
            found = cls(name, tuple(int(v) for v in values.split(",")))
        except ValueError:
            found = cls(name, ())
        if not (name and equals and found.values and all(v > 0 for v in found.values)):
            raise SystemExit(f"--structure {word}: give it as NAME=VALUE or NAME=VALUE,VALUE.")
        return found


def run(
    data: Path, out: Path, sequences: list[str], structures: list[str], spacing=(1.0, 1.0, 1.0), labels: str = "labels"
) -> list[dict]:
    """Write a case for every patient of `data` and prepare.csv; returns its rows.

    Args:
        data: PATIENT/NAME.nii.gz (or another suffix) for each of `sequences`, and `labels`.
        sequences: names of the images, in the order in which the network sees them.
        structures: NAME=VALUE,…; what holds another comes before it.
        spacing: mm, x y z.
    Raises:
        SystemExit: for structures that overlap and are no part of each other, and where no patient can be used.
    """
    parts = [Part.of(word) for word in structures]
    holds = nested(parts)
    make_folder(out / "cases")
    about = {
        "organs": [p.name for p in parts],
        "spacing": [float(s) for s in spacing],
        "channels": list(sequences),
        "holds": holds,
    }
    pairs.claim(out / SETTINGS, about)
    rows = []
    for folder in sorted(p for p in data.iterdir() if p.is_dir()):
        try:
            case, hashed = prepared(folder, sequences, parts, holds, spacing, labels)
        except InputError as error:
            print(f"{folder.name}: left out, {error}", flush=True)
            continue
        organ_case.save(case, out / "cases" / f"{case.name}.npz")
        volumes = {f"{p.name}_ml": round(case.drawn_ml[p.name], 2) for p in parts if p.name in case.drawn_ml}
        rows.append(
            {"case": case.name, "kept": "yes", "patient": case.name, "set": "", "source_sha256": hashed} | volumes
        )
    if not rows:
        raise SystemExit(f"{data}: no patient with {', '.join(sequences)} and {labels}.")
    write_csv(out / "prepare.csv", rows)
    return rows


def nested(parts: list[Part]) -> dict[str, list[str]]:
    """{structure: its parts, of any depth}. Raises `SystemExit` for two that overlap otherwise, or in another order."""
    found: dict[str, list[str]] = {}
    for number, whole in enumerate(parts):
        for part in parts[number + 1 :]:
            if set(part.values) < set(whole.values):
                found.setdefault(whole.name, []).append(part.name)
            elif set(part.values) & set(whole.values):
                raise SystemExit(
                    f"--structure: {whole.name} and {part.name} share values; give first what holds the other."
                )
    return found


def prepared(folder: Path, sequences, parts, holds, spacing, labels: str) -> tuple[organ_case.OrganCase, str]:
    """(the patient's case, SHA-256 of the first sequence). Raises `InputError` for what is missing or does not fit."""
    files = [_file(folder, name) for name in (*sequences, labels)]
    images = [(image_io.read(f, padded=True), str(f)) for f in files[:-1]]
    drawn = image_io.read_stored(files[-1], f"{files[-1]}: cannot be read as labels.")
    channels.require_one_grid([*images, (drawn, str(files[-1]))])
    ready = [preprocess.preprocess(image, spacing, "off", name) for image, name in images]
    grid, drawn = ready[0].image, geometry.to_axial(drawn)
    # of every shell the part of a voxel that it fills; the fullest has it
    filled, shells = [], []
    for part in parts:
        inner = {v for p in parts if p.name in holds.get(part.name, ()) for v in p.values}
        shells.append([v for v in part.values if v not in inner])
        mask = geometry.like(np.isin(sitk.GetArrayViewFromImage(drawn), shells[-1]), drawn, np.float32)
        filled.append(sitk.GetArrayFromImage(geometry.resample(mask, grid)))
    array = np.stack(filled)
    exclusive = np.where(array.sum(0) > 0.5, array.argmax(0) + 1, 0).astype(np.uint8)
    ml = float(np.prod(drawn.GetSpacing())) / 1000
    own = sitk.GetArrayViewFromImage(drawn)
    case = organ_case.OrganCase(
        folder.name,
        folder.name,
        np.zeros(exclusive.shape, np.float32),
        exclusive,
        sitk.GetArrayFromImage(ready[0].body) > 0,
        grid.GetSpacing(),
        [p.name for p in parts],
        {p.name: float(np.isin(own, p.values).sum()) * ml for p in parts},
        ct=False,
        images=np.stack([sitk.GetArrayFromImage(r.image) for r in ready]),
        holds=holds,
    )
    return case, provenance.of_scan(sitk.GetArrayViewFromImage(images[0][0]))


def _file(folder: Path, name: str) -> Path:
    found = [folder / f"{name}{s}" for s in image_io.SUFFIXES if (folder / f"{name}{s}").is_file()]
    if not found:
        raise InputError(f"{folder / name}.nii.gz is missing; every patient needs all sequences and the labels.")
    return found[0]

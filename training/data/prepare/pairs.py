"""`python -m training pairs`: planning CTs with structures become pairs of a planning and a simulated daily CT.

The deformation of every pair is known. Pairs go through the same pre-alignment and onto the same grid as in
`rtuncertainty.propagate`, so what is trained on is what the network will see.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rtuncertainty.core import geometry, image_io, structure_names, structure_set
from rtuncertainty.core.errors import InputError
from rtuncertainty.phantoms.daily_anatomy import DailyOptions, daily_scan
from rtuncertainty.propagation.pair import Pair, label_array, make_pair

from ...core import provenance
from ...core.files import make_folder, merged, write_csv
from .. import pair_case

HEADNECK = ("brainstem", "spinal_cord", "parotid_right", "parotid_left", "esophagus", "larynx", "mandible")
PELVIS = ("bladder", "rectum", "prostate", "femoral_head_left", "femoral_head_right")


@dataclass(frozen=True)
class Patient:
    """A planning CT with its structures {name: mask}; `side` is "train", "validation" or "" where the data do not
    say.
    """

    name: str
    ct: sitk.Image
    structures: dict[str, sitk.Image]
    side: str = ""


def openkbp(data: Path, only=None) -> Iterator[Patient]:
    """The layout train|validation/pt_n/{ct,structures_bits}.nii.gz with structure_bits.json."""
    bits = json.loads((data / "structure_bits.json").read_text(encoding="utf-8"))
    for side in ("train", "validation"):
        for folder in sorted((data / side).glob("*"), key=lambda p: (len(p.name), p.name)):
            if only and folder.name not in only:
                continue
            ct, image = image_io.read(folder / "ct.nii.gz"), sitk.ReadImage(str(folder / "structures_bits.nii.gz"))
            array = sitk.GetArrayViewFromImage(image)
            masks = {
                name: geometry.like((array >> bit) & 1, ct, np.uint8)
                for name, bit in bits.items()
                if ((array >> bit) & 1).any()
            }
            yield Patient(folder.name, ct, masks, side)


def plain(data: Path, only=None) -> Iterator[Patient]:
    """A folder for each patient with ct.* and structures.* (.seg.nrrd, or a label image with structures.json)."""
    for folder in sorted(p for p in data.iterdir() if p.is_dir()):
        if only and folder.name not in only:
            continue
        files = {
            stem: next(
                (f for f in sorted(folder.iterdir()) if f.name.split(".")[0] == stem and f.suffix != ".json"), None
            )
            for stem in ("ct", "structures")
        }
        if None in files.values():
            print(
                f"{folder.name}: left out, it has no {' and no '.join(k for k, f in files.items() if f is None)}",
                flush=True,
            )
            continue
        found = structure_set.read(files["structures"])
        yield Patient(folder.name, image_io.read(files["ct"]), {n: s.mask for n, s in found.items()})


def pelves(count: int, only=None) -> Iterator[Patient]:
    """Digital pelves."""
    from rtuncertainty.phantoms.pelvis import LABELS, digital_pelvis

    for number in range(count):
        name = f"PELVIS_{number:03d}"
        if not only or name in only:
            pelvis = digital_pelvis(number)
            masks = {n: sitk.Equal(pelvis.labels, v) for n, v in LABELS.items() if n not in ("background", "bone")}
            yield Patient(name, pelvis.ct, masks)


def patients(data: Path | None, count: int, only=None) -> Iterator[Patient]:
    """Of `data` in either layout, or `count` digital pelves without. Raises `SystemExit` where there are none."""
    if data is None:
        return pelves(count, only)
    if not data.is_dir():
        raise SystemExit(f"{data}: there is no such folder.")
    return openkbp(data, only) if (data / "structure_bits.json").exists() else plain(data, only)


def run(
    data: Path | None,
    out: Path,
    organs=HEADNECK,
    spacing=(4.0, 4.0, 3.0),
    days: int = 2,
    seed: int = 0,
    count: int = 15,
    severity: float = 1.0,
    only=None,
) -> list[dict]:
    """Write `days` pairs for every patient and prepare.csv; returns its rows. What is there already is not made again.

    Raises `SystemExit` for a folder that holds pairs made with other settings, and where no patient can be used.
    """
    make_folder(out / "cases")
    settings = {"organs": list(organs), "spacing": list(spacing), "days": days, "seed": seed, "severity": severity}
    claim(out / "pairs.json", settings)
    rows = []
    for patient in patients(data, count, only):
        named = structure_names.match(patient.structures, organs)
        if not named:
            print(f"{patient.name}: left out, none of its structures is one of {', '.join(organs)}", flush=True)
            continue
        for day in range(days):
            path = out / "cases" / f"{patient.name}_day{day}.npz"
            if not path.exists():
                try:
                    _write(patient, named, organs, spacing, _seed(seed, patient.name, day), severity, path)
                except InputError as error:
                    print(f"{patient.name}: left out, {error}", flush=True)
                    continue
            rows.append(
                {
                    "case": path.stem,
                    "kept": "yes",
                    "patient": patient.name,
                    "set": patient.side,
                    "source_sha256": provenance.of_scan(sitk.GetArrayViewFromImage(patient.ct)),
                    **_scores(pair_case.load(path)),
                }
            )
            print(
                ", ".join(f"{k} {v}" for k, v in rows[-1].items() if k not in ("kept", "patient", "source_sha256")),
                flush=True,
            )
    if not rows:
        raise SystemExit(f"{data}: no patient with a CT and any of {', '.join(organs)}.")
    write_csv(out / "prepare.csv", merged(out / "prepare.csv", rows) if only else rows)
    return rows


def claim(file: Path, settings: dict) -> None:
    """Note in `file` what the cases beside it are made with. Raises `SystemExit` where it was something else."""
    if file.exists() and json.loads(file.read_text(encoding="utf-8")) != settings:
        raise SystemExit(
            f"{file.parent} holds {file.stem} that were made with other settings ({file.name}); choose another folder."
        )
    file.write_text(json.dumps(settings), encoding="utf-8")


def _seed(seed: int, patient: str, day: int) -> int:
    """A seed of its own for every day of every patient."""
    import zlib

    return zlib.crc32(f"{seed} {patient} {day}".encode()) >> 1


def _write(patient: Patient, named: dict, organs, spacing, seed: int, severity: float, path: Path) -> None:
    day = daily_scan(patient.ct, patient.structures, seed, DailyOptions(severity=severity))
    mine = {organ: patient.structures[name] for name, organ in named.items()}
    pair = make_pair(geometry.to_axial(patient.ct), {o: geometry.to_axial(m) for o, m in mine.items()}, day.ct, spacing)
    daily = {organ: pair_array(day.structures[name], pair) for name, organ in named.items()}
    known = pair_array(day.known, pair) > 0.5
    present = [o for o in organs if o in mine]
    case = pair_case.PairCase(
        path.stem,
        patient.name,
        pair.planning,
        pair.daily,
        label_array(pair.labels, organs, pair.daily.shape),
        label_array(daily, organs, pair.daily.shape),
        residual(day.displacement, pair),
        pair.body,
        pair.known & known,
        pair.grid.GetSpacing(),
        list(organs),
        present,
    )
    pair_case.save(case, path, day.description)


def pair_array(image: sitk.Image, pair: Pair) -> np.ndarray:
    """A daily mask on the working grid, 0 to 1."""
    return sitk.GetArrayFromImage(geometry.resample(sitk.Cast(image, sitk.sitkFloat32), pair.grid))


def residual(displacement: sitk.Image, pair: Pair) -> np.ndarray:
    """The true displacement (mm, daily to planning CT) behind the rigid transform: [3, z, y, x] in voxels of the
    working grid.

    x + r(x) is the point of the rigidly aligned planning CT: rigid(x + r(x)) = x + d(x).
    """
    from rtuncertainty.deformation import resample_field, to_voxels

    field = resample_field(displacement, pair.grid)
    steps = sitk.CompositeTransform([pair.rigid.GetInverse(), sitk.DisplacementFieldTransform(sitk.Image(field))])
    behind = sitk.TransformToDisplacementField(
        steps, sitk.sitkVectorFloat64, field.GetSize(), field.GetOrigin(), field.GetSpacing(), field.GetDirection()
    )
    return to_voxels(behind)[0].numpy()


def _scores(case: pair_case.PairCase) -> dict:
    """How far the organs and the body are apart after the rigid alignment."""
    where = case.body & case.known
    length = np.sqrt(((case.displacement * np.reshape(case.spacing, (3, 1, 1, 1))) ** 2).sum(0))
    a, b = (labels > 0 for labels in (case.planning_labels, case.daily_labels))
    return {
        "displacement_mm": round(float(length[where].mean()), 2),
        "p95_mm": round(float(np.percentile(length[where], 95)), 2),
        "organ_dice": round(float(2 * (a & b).sum() / max(1, a.sum() + b.sum())), 3),
        "organs": len(case.present),
    }

"""`python -m training pairs`: planning CTs with structures become pairs of a planning and a simulated daily CT.

The deformation of every pair is known. Pairs go through the same pre-alignment and onto the same grid as in
`rtuncertainty.propagate`, so what is trained on is what the network will see.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rtuncertainty.core import geometry
from rtuncertainty.core.errors import InputError
from rtuncertainty.phantoms.daily_anatomy import DailyOptions, daily_scan
from rtuncertainty.propagation.pair import Pair, label_array, make_pair

from ...core.files import make_folder
from .. import pair_case
from ..checks import BadCase, Finding
from . import patients
from .patients import Patient

HEADNECK = ("brainstem", "spinal_cord", "parotid_right", "parotid_left", "esophagus", "larynx", "mandible")
PELVIS = ("bladder", "rectum", "prostate", "femoral_head_left", "femoral_head_right")


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
    """Write `days` pairs for every patient (`patients.find`), overlays/, prepare.csv and checks.csv; returns the rows
    of prepare.csv: case, kept (yes | no), why (not), … What is there already is not made again.

    Raises `SystemExit` for a folder that holds pairs made with other settings, and where no patient can be used.
    """
    for sub in ("cases", "overlays"):
        make_folder(out / sub)
    settings = {"organs": list(organs), "spacing": list(spacing), "days": days, "seed": seed, "severity": severity}
    claim(out / "pairs.json", settings)
    table = patients.Table(out, ["displacement_mm", "p95_mm", "organ_dice", "organs"])
    for patient, named in table.patients(patients.find(data, count, only), organs):
        for day in range(days):
            path = out / "cases" / f"{patient.name}_day{day}.npz"
            if not path.exists():
                try:
                    _write(patient, named, organs, spacing, _seed(seed, patient.name, day), severity, path)
                except InputError as error:
                    table.leave_out(patient.name, BadCase([Finding("error", "failed", str(error))]))
                    break
            case = pair_case.load(path)
            scores = _scores(case)
            table.keep(path.stem, patient, scores)
            patients.draw(out, path.stem, case.daily, case.daily_labels, case.body, case.spacing, case.classes)
            told = {"case": path.stem, "set": patient.side} | scores
            print(", ".join(f"{k} {v}" for k, v in told.items()), flush=True)
    rows = table.write(only)
    patients.require_some(data, rows, organs)
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

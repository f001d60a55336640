"""`python -m training cohort`: a cohort of digital pelves, as patients' images or as cases that are ready to train on.

`write` makes what a hospital would hand over: a folder per patient in the plain layout, whose CT was taken on another
visit, and the truth beside it. `prepare_cohort` makes what `prepare` would make of it under perfect truth, or under the
error that a rigid registration leaves, without any registration.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from rtuncertainty.core import image_io
from rtuncertainty.phantoms.pelvis import LABELS, DigitalPelvis, digital_pelvis
from rtuncertainty.prediction import preprocess

from ...core.files import make_folder, replaced, write_csv
from .synthesis import Case, overlay, save_case

AIR = -1000.0
LARGEST = 1000  # patients of one seed, so that no two seeds share a patient


def _names(patients: int, seed: int) -> list[str]:
    """Raises `SystemExit` for less than one patient, more than `LARGEST` or a negative seed."""
    if not 1 <= patients <= LARGEST or seed < 0:
        raise SystemExit(
            f"cohort: {patients} patients of seed {seed}: give 1 to {LARGEST} patients and a seed of 0 or more."
        )
    return [f"PELVIS_{index:03d}" for index in range(patients)]


def write(out: Path, patients: int = 15, seed: int = 0, misregistered: bool = True, **options) -> list[Path]:
    """Write `PELVIS_000/{mr,ct,labels}.nii.gz` … and `truth/PELVIS_000/ct.nii.gz` below `out`; returns the patients'
    folders.

    With `misregistered` the ct is that of another visit, on its own grid; without, it is the truth. The truth lies on
    the MR's grid. A patient who is there already is not made again. Raises `SystemExit` when `out` holds another
    cohort.
    """
    names = _names(patients, seed)
    _claim(out, "images", seed, misregistered, options)
    folders = []
    for index, name in enumerate(names):
        folder = out / name
        folders.append(folder)
        if folder.is_dir():
            continue
        pelvis = digital_pelvis(LARGEST * seed + index, **options)
        truth, unfinished = out / "truth" / name, out / f".{name}"
        for left in (truth, unfinished):  # by a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        with image_io.Staging(out).writing():
            pelvis.write(unfinished, misregistered)
            truth.mkdir(parents=True)
            sitk.WriteImage(pelvis.ct, str(truth / "ct.nii.gz"), useCompression=True)
            unfinished.rename(folder)  # a patient's folder appears when all that belongs to him is there
        print(f"{name}: {_description(pelvis)}", flush=True)
    return folders


def case_of(name: str, pelvis: DigitalPelvis) -> Case:
    """A phantom and its true CT as `prepare` would make them of an MR on its own grid.

    N4 and z-score, body from the MR, labels of `LABELS`, valid everywhere. Beyond 6 mm from the body the ct is -1000
    HU.
    """
    ready = preprocess.preprocess(pelvis.mr, (None, None, None), name=name)
    mr, ct, labels, body = (sitk.GetArrayFromImage(i) for i in (ready.image, pelvis.ct, pelvis.labels, ready.body))
    body = body > 0
    return Case(
        name,
        mr,
        _without_surroundings(ct, body, pelvis),
        labels,
        body,
        np.ones(body.shape, bool),
        ready.image.GetSpacing(),
        classes=dict(LABELS),
    )


def misregister(true: Case, pelvis: DigitalPelvis) -> Case:
    """The case with the CT of the other visit, resampled linearly under the true rigid offset; `valid` where it was
    measured.

    Bones fit, while bladder, rectum, soft tissue and gas are where they were on the other day: what the best rigid
    registration leaves.
    """
    scanned = sitk.Cast(pelvis.ct_as_scanned, sitk.sitkFloat32)
    ct = sitk.GetArrayFromImage(sitk.Resample(scanned, pelvis.mr, pelvis.rigid, sitk.sitkLinear, AIR))
    measured = sitk.Resample(scanned * 0 + 1, pelvis.mr, pelvis.rigid, sitk.sitkNearestNeighbor, 0.0)
    return replace(true, ct=_without_surroundings(ct, true.body, pelvis), valid=sitk.GetArrayFromImage(measured) > 0)


def _without_surroundings(ct: np.ndarray, body: np.ndarray, pelvis: DigitalPelvis) -> np.ndarray:
    """`ct` with air instead of couch and noise where no patient is."""
    far = ndimage.distance_transform_edt(~body, sampling=pelvis.mr.GetSpacing()[::-1]) > 6.0
    return np.where(far, np.float32(AIR), ct.astype(np.float32))


def cases(patients: int = 15, seed: int = 0, misregistered: bool = False, **options) -> Iterator[Case]:
    """Every patient as a case, see `case_of` and `misregister`; `options` of `digital_pelvis`."""
    for index, name in enumerate(_names(patients, seed)):
        pelvis = digital_pelvis(LARGEST * seed + index, **options)
        case = case_of(name, pelvis)
        yield misregister(case, pelvis) if misregistered else case


def prepare_cohort(out: Path, patients: int = 15, seed: int = 0, misregistered: bool = False, **options) -> list[dict]:
    """Write `cases/PELVIS_000.npz` …, `overlays/`, and `prepare.csv` with what was drawn; returns its rows.

    With `misregistered` (see `misregister`) the same cases with the true ct lie in `truth/`, to evaluate on. A case
    that is there already is not made again. Raises `SystemExit` when `out` holds another cohort.
    """
    names = _names(patients, seed)
    _claim(out, "cases", seed, misregistered, options)
    for sub in ("cases", "overlays", "truth")[: 3 if misregistered else 2]:
        make_folder(out / sub)
    rows = []
    for index, name in enumerate(names):
        path = out / "cases" / f"{name}.npz"
        if path.exists():
            with np.load(path, allow_pickle=False) as f:
                facts = json.loads(str(f["scores"]))
        else:
            pelvis = digital_pelvis(LARGEST * seed + index, **options)
            facts = {k: round(v, 4) for k, v in pelvis.facts.items()}
            case = true = case_of(name, pelvis)
            if misregistered:
                save_case(true, out / "truth" / path.name, facts)
                case = misregister(true, pelvis)
                facts["mae_to_truth"] = round(float(np.abs(case.ct - true.ct)[case.region].mean()), 4)
            overlay(case, out / "overlays" / f"{name}.png", f"{name}   {_description(pelvis)}")
            save_case(case, path, facts)
            print(f"{name}: {_description(pelvis)}", flush=True)
        rows.append({"case": name, "kept": "yes", "why": ""} | facts)
    write_csv(out / "prepare.csv", rows)
    return rows


def _description(pelvis: DigitalPelvis) -> str:
    f = pelvis.facts
    return (
        f"prostate {f['prostate_ml']:.0f} ml, bladder {f['bladder_ml']:.0f} ml (CT {f['bladder_ml_at_ct']:.0f} ml), "
        f"spongy bone {f['spongy_hu']:.0f} HU"
    )


def _claim(out: Path, kind: str, seed: int, misregistered: bool, options: dict) -> None:
    """Note in `out` which cohort it holds, so that no call mixes two. Raises `SystemExit` when it holds another."""
    make_folder(out)
    wanted = {"cohort": "digital pelvis", "holds": kind, "seed": seed, "misregistered": misregistered} | options
    wanted = json.loads(json.dumps(wanted))
    path = out / "cohort.json"
    if path.exists():
        there = json.loads(path.read_text(encoding="utf-8"))
        if there != wanted:
            raise SystemExit(f"{out} holds another cohort ({there}); give another folder or remove that one.")
        return
    with replaced(path) as temporary:
        temporary.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")

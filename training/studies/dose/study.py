"""`python -m training reproduce dose`: what the synthetic CTs of several networks do to the dose of a simple plan
(Kaushik 2022, Table III).

For every validation patient the plan is made once on the CT with the GTV as target, and its fields are computed on
every network's synthetic CT. For the shipped model the dose is also computed on samples of the synthetic CT, and
whether their band holds the CT's dose is counted. Every patient and network is a file of its own, so the command goes
on where it was interrupted.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from rtuncertainty.bundles import bundle
from rtuncertainty.core import geometry
from rtuncertainty.core.errors import InputError
from rtuncertainty.dose.structure_region import MaskRegion
from rtuncertainty.uncertainty import hu_calibration

from ...core import provenance
from ...core.files import replace_text, replaced
from ...data.prepare.synthesis import Case, load_case
from ...evaluation import slices
from ..mr_only.study import TITLES
from . import tables

SHIPPED, WATER = "limb-t1-synct", "body = 0 HU"
# photons first: they are ten times as fast
MODALITIES = ("photon", "proton")
# wider than the default, for targets of up to 1.5 litres
PROTON = {"spot_spacing_mm": 10.0, "layer_spacing_mm": 8.0}
TARGET = "gtv"
# the target without what lies this near to the skin, mm: there 10 MV photons build up, and the depth of the skin
# decides about the dose
SKIN_MM, INSIDE = 15.0, "inside"
# dropout samples of the shipped model, whose spread is used, and of the others, of which only the mean is
SAMPLES, FEW = 4, 2
# distances at which the errors' correlation is told
LAGS_MM = (2, 5, 10, 20, 40, 60)
# samples of the synthetic CT, and how far their errors go together in mm
MEMBERS = {"photon": 20, "proton": 10}
CORRELATIONS = {"photon": {"measured": None, "10": 10.0, "inf": float("inf")}, "proton": {"measured": None, "10": 10.0}}


def run(
    data: Path | None, out: Path, minutes: float | None = None, device: str = "auto", only: list[str] | None = None
) -> Path:
    """Compute what is missing within `minutes`, then write the tables; returns `out`/dose/dose.md.

    data: what prepare wrote. out: a folder that `reproduce mr_only` wrote; its bundles are compared, beside the shipped
    model and
    water. only: these networks (the bundles' names, limb-t1-synct).
    """
    from rtuncertainty.cli import plan as cli_plan

    cli_plan.library()
    started = time.monotonic()
    if data is None or not (data / "prepare.csv").exists():
        raise SystemExit("--data is missing: give the folder that prepare wrote.")
    models = _models(out, only)
    patients = _patients(models, data)
    until = None if minutes is None else started + 60 * minutes
    folder = out / "dose"
    # small patients first: the tables fill sooner
    patients.sort(key=lambda name: (data / "cases" / f"{name}.npz").stat().st_size)
    for modality in MODALITIES:
        for patient in patients:
            try:
                left = _one_patient(data, folder, patient, modality, models, device, until)
            except InputError as error:
                # told in the tables as a patient that is missing
                print(f"{patient}, {modality}: {error}", flush=True)
                continue
            if not left:
                print("no time left; give the command again to go on", flush=True)
                return tables.write(folder, patients)
    return tables.write(folder, patients)


def _models(out: Path, only) -> dict[str, Path]:
    """{title: bundle folder}, the shipped model first."""
    known = {SHIPPED: bundle.find(SHIPPED)}
    known |= {
        n: out / "bundles" / n
        for n in ("m4", "m3", "3tn", "1tn-gl", "m1", "m2b", "m2a", "2tn", "1tn-fl")
        if (out / "bundles" / n / "model.json").exists()
    }
    unknown = set(only or ()) - set(known)
    if unknown:
        raise SystemExit(f"--only: {', '.join(sorted(unknown))} is not one of {', '.join(known)}.")
    return {TITLES.get(n, n): path for n, path in known.items() if not only or n in only}


def _patients(models, data: Path) -> list[str]:
    """The patients of `data` that validated every network. Raises `SystemExit` where they differ or one was trained
    on.
    """
    cards = {title: bundle.read_card(path) for title, path in models.items()}
    hashes = provenance.identities(data, sorted(f.stem for f in (data / "cases").glob("*.npz")))
    found = {title: _validated(card, hashes) for title, card in cards.items()}
    first = next(iter(found.values()))
    for title, card in cards.items():
        trained = set(card["training"].get("case_names", [])) | {
            n for n, h in hashes.items() if provenance.seen_checkpoints(card, h)
        }
        if found[title] != first or trained & set(first):
            raise SystemExit(
                f"{title} was validated on other patients than {next(iter(cards))}, or trained on some of them; they "
                "cannot be compared."
            )
    return first


def _validated(card: dict, hashes: dict) -> list[str]:
    """On whom a bundle's run validated: told by their images, of earlier cards by their names."""
    if "patients" in card["training"]:
        return sorted(n for n, h in hashes.items() if provenance.validated(card, h))
    return sorted(card["training"]["validation_names"])


def _one_patient(data, folder, name, modality, models, device, until) -> bool:
    """All that is missing of a patient; False when the time was over before it was done."""
    wanted = [*models, WATER]
    wanted = [t for t in wanted if _missing(_file(folder, modality, name, t), modality) is not None]
    if not wanted:
        return True
    case = load_case(data / "cases" / f"{name}.npz")
    grid = _grid(case)
    regions = _regions(case, grid)
    delivery, seconds = None, 0.0
    for title in wanted:
        if until is not None and time.monotonic() > until:
            return False
        # predictions first: they are kept, whatever becomes of the plan
        found = (
            {"synct": np.zeros_like(case.ct)}
            if title == WATER
            else _predicted(folder, name, title, models[title], case, device)
        )
        if delivery is None:
            started = time.process_time()
            delivery = _planned(case, grid, regions[TARGET], modality)
            seconds = time.process_time() - started
        path = _file(folder, modality, name, title)
        lengths = _missing(path, modality) if title == SHIPPED and "sd" in found else []
        record = _compared(delivery, regions, found, {k: CORRELATIONS[modality][k] for k in lengths}, MEMBERS[modality])
        record = _with_known_bands(record, path) | {
            "plan_cpu_seconds": round(seconds, 1),
            "title": title,
            "patient": name,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps(record, indent=1))
        print(f"{modality} {name} {title}: Davg {record['difference']['davg']:+.2f} %", flush=True)
    return True


def _missing(path: Path, modality: str) -> list[str] | None:
    """The bands (of `CORRELATIONS`) that a record lacks, all without a record; None where there is nothing to do."""
    if not path.exists():
        return list(CORRELATIONS[modality])
    bands = json.loads(path.read_text(encoding="utf-8"))["bands"]
    # a record without any band is of a synthetic CT without sd
    return [k for k in CORRELATIONS[modality] if k not in bands] or None if bands else None


def _with_known_bands(record: dict, path: Path) -> dict:
    """A record with the bands that it had before."""
    if not path.exists():
        return record
    known = json.loads(path.read_text(encoding="utf-8"))
    for new, old in ((record, known), (record.get(INSIDE, {}), known.get(INSIDE, {}))):
        new["bands"] = old.get("bands", {}) | new.get("bands", {})
    return record


def _file(folder, modality, name, title) -> Path:
    return folder / modality / f"{name} {title}.json"


def _grid(case: Case) -> sitk.Image:
    grid = sitk.Image([int(n) for n in case.mr.shape[::-1]], sitk.sitkUInt8)
    grid.SetSpacing([float(s) for s in case.spacing])
    return grid


def _predicted(folder, name, title, model, case, device) -> dict:
    """Synthetic CT and predictive sd (HU, recalibrated as the card says; the sd of the shipped model only), computed
    once.
    """
    path = folder / "predicted" / f"{name} {title}.npz"
    if not path.exists():
        card, networks = bundle.load(model)
        found = slices.predict_case(networks, card, case, SAMPLES if title == SHIPPED else FEW, device=device)
        arrays = {"synct": np.rint(found["synct"].clip(-1024, 3071)).astype(np.int16)}
        if title == SHIPPED:
            variances = [found[k] ** 2 for k in ("intrinsic_sd", "parameter_sd")]
            recalibration = hu_calibration.of_card(card)
            if recalibration is not None:
                variances = recalibration.apply(found["synct"], *variances)
            arrays["sd"] = np.sqrt(variances[0] + variances[1]).astype(np.float16)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as part:
            np.savez_compressed(part, **arrays)
    with np.load(path) as f:
        return {k: f[k].astype(np.float32) for k in f}


def _planned(case, grid, target, modality):
    from rtuncertainty.dose import plan as rtplan
    from rtuncertainty.dose.plan import plan

    chosen = replace(plan.DEFAULTS[modality], **(PROTON if modality == "proton" else {}))
    person = rtplan.Patient(grid, case.ct, case.body, case.valid)
    return rtplan.planned(chosen, person, target, rtplan.SCHNEIDER)


def _regions(case: Case, grid) -> dict[str, MaskRegion]:
    """The target, and what of it lies deeper than `SKIN_MM` (where the image cuts the body off is no skin)."""
    target = case.labels == case.classes[TARGET]
    deep = ndimage.distance_transform_edt(case.body, sampling=case.spacing[::-1]) > SKIN_MM
    found = {TARGET: target, INSIDE: target & deep}
    return {name: MaskRegion(geometry.like(mask, grid, np.uint8)) for name, mask in found.items()}


def _compared(delivery, regions, found, correlations: dict[str, float | None], samples: int) -> dict:
    """One network's dose beside the CT's, as numbers for JSON, with a band of `samples` members for each of
    `correlations`.
    """
    from rtuncertainty.dose import plan as rtplan
    from rtuncertainty.dose.plan import compare as comparing

    image, prescription = delivery.grid.dose_image, delivery.plan.prescription_gy
    ct = image(delivery.ct_dose)
    started = time.process_time()
    dose = image(delivery.dose(delivery.volume(found["synct"])[None])[0])
    seconds = time.process_time() - started
    members = {}
    for name, length in correlations.items():
        members[name] = [
            image(delivery.dose(delivery.volume(m)[None])[0])
            for m in rtplan.field_members(
                found["synct"], found["sd"], delivery.patient.grid.GetSpacing(), samples, correlation_mm=length
            )
        ]
    compared = comparing.compare(ct, dose, regions, prescription)
    record = {
        "gamma": {f"{p:g}%/{mm:g}mm": v for (p, mm), v in compared.passed.items()},
        "dose_cpu_seconds": round(seconds, 2),
    }
    if correlations:
        record["correlation"] = correlation(found["synct"], found["sd"], delivery.patient)
    for row in compared.structures:
        measured = {
            "volume_ml": row.volume_ml,
            "ct_percent": {d: 100 * v / prescription for d, v in row.ct.items()},
            "difference": row.difference,
            "bands": {
                length: _band(images, regions[row.structure], row, prescription) for length, images in members.items()
            },
        }
        record |= measured if row.structure == TARGET else {row.structure: measured}
    return record


def _band(members, region, row, prescription) -> dict:
    """{dose: [5 %, 95 %]} of the difference from the CT in percent of the prescription."""
    from rtuncertainty.dose.plan import compare as comparing

    found = [comparing.rows_of(m, {TARGET: region})[0].dvh for m in members]
    lower, upper = comparing.interval([comparing.doses(f) for f in found], row.ct, prescription)
    return {d: [lower[d], upper[d]] for d in lower}


def correlation(synct, sd, patient, lags_mm=LAGS_MM) -> dict[str, float]:
    """The correlation of (synthetic CT − CT) / sd between voxels so many mm apart in a slice, and their mean and sd,
    inside the body.
    """
    there = (patient.body & patient.measured).astype(np.float32)
    z = np.clip((synct - patient.ct) / np.maximum(sd, 1.0), -5, 5) * there
    power = float((z**2).sum() / there.sum())
    out = {"mean": float(z.sum() / there.sum()), "sd": power**0.5}
    for lag in lags_mm:
        step = max(1, round(lag / patient.grid.GetSpacing()[0]))
        pairs = [
            ((a * b).sum(), (p * q).sum())
            for a, b, p, q in (
                (z[:, :, :-step], z[:, :, step:], there[:, :, :-step], there[:, :, step:]),
                (z[:, :-step], z[:, step:], there[:, :-step], there[:, step:]),
            )
        ]
        out[f"{lag} mm"] = float(sum(p[0] for p in pairs) / max(sum(p[1] for p in pairs), 1) / power)
    return out

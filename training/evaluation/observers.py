"""`python -m training observers`: how far a model's intervals and contours are from what two people differ by.

The data are pairs of label images of one scan, one of each observer (`PATIENT/{oncologist,radiographer}.nii.gz` with
`labels.json`: Nikolov 2021, JMIR 23:e26151). There the oncologist corrected the radiographer's contours, so that their
difference is the least that two people differ by.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rtuncertainty.core import image_io, structure_names, surfaces
from rtuncertainty.uncertainty.fit import volume_coverage, volumes
from rtuncertainty.uncertainty.fit.volumes import VolumeRow

from ..calibration.rows import read_rows
from ..core.files import replace_text
from .comparison import tables

OBSERVERS = ("oncologist", "radiographer")
LEVEL = 0.9
# half the width of a normal 90 % interval in SDs
HALF_90 = 1.645


def measured(data: Path) -> dict[str, dict]:
    """{organ: {"n", "dice", "msd_mm", "volume_sd", "volume_mean"}} of two observers, over all patients in `data`.

    dice, msd_mm (mean surface distance): means over patients; volume_sd, volume_mean: SD and mean of the relative
    difference of the two volumes, (first − second) over their mean. Organs by their names in our cards, those that
    both drew.

    Raises:
        SystemExit: where there are no such data.
    """
    files = sorted(data.rglob(f"{OBSERVERS[0]}.nii.gz"))
    if not files or not (data / "labels.json").exists():
        raise SystemExit(f"{data}: no PATIENT/{OBSERVERS[0]}.nii.gz with a labels.json; give the folder of the scans.")
    values = json.loads((data / "labels.json").read_text(encoding="utf-8"))
    named: dict[str, list[int]] = {}
    for name, value in values.items():
        organ = structure_names.organ(name.replace("-", " ").replace("_", " "))
        if organ:
            named.setdefault(organ, []).append(value)
    found: dict[str, list[tuple[float, float, float]]] = {}
    for file in files:
        images = [image_io.read(file.with_name(f"{who}.nii.gz")) for who in OBSERVERS]
        drawn = [sitk.GetArrayViewFromImage(i) for i in images]
        for organ, labels in named.items():
            one, other = (np.isin(d, labels) for d in drawn)
            if one.any() and other.any():
                a, b = float(one.sum()), float(other.sum())
                distance = surfaces.surface_distance(one, other, images[0].GetSpacing()).mean
                found.setdefault(organ, []).append((surfaces.dice(one, other), distance, 2 * (a - b) / (a + b)))
    out = {}
    for organ, rows in sorted(found.items()):
        if len(rows) > 1:
            dice, distance, difference = np.array(rows).T
            out[organ] = {
                "n": len(rows),
                "dice": round(float(dice.mean()), 3),
                "msd_mm": round(float(distance.mean()), 2),
                "volume_sd": round(float(difference.std(ddof=1)), 3),
                "volume_mean": round(float(difference.mean()), 3),
            }
    return out


def of_model(rows: list[VolumeRow]) -> dict[str, dict]:
    """{organ: {"n", "dice", "volume_sd", "interval_sd", "within_90"}} of a model's rows.

    volume_sd: of the relative difference of its volume from the true one (from the 16th and 84th percentile, which a
    lost contour does not decide); interval_sd: what a normal distribution with its 90 % intervals would have, over
    the shown volume (median), calibrated on other patients as its card is.
    """
    rows = volumes.usable(rows)
    method = "cv_plus" if all(r.fold >= 0 for r in rows) else "conformal_scaled"
    held: dict[str, list] = {}
    for r, c in volume_coverage.cross_validated(rows, method):
        low, high = c.interval(r.distribution, LEVEL, members=(r.member,))[:2]
        m = r.distribution.volume_ml
        held.setdefault(r.structure, []).append(
            (r.dice, 2 * (m - r.true_ml) / (m + r.true_ml), (high - low) / m, low <= r.true_ml <= high)
        )
    found = {}
    for organ, of in held.items():
        dice, difference, width, inside = np.array(of, float).T
        low, high = np.quantile(difference, [0.1587, 0.8413])
        found[organ] = {
            "n": len(of),
            "dice": round(float(np.nanmean(dice)), 3),
            "volume_sd": round(float(high - low) / 2, 3),
            "interval_sd": round(float(np.median(width)) / (2 * HALF_90), 3),
            "within_90": round(float(inside.mean()), 3),
        }
    return found


def run(data: Path, rows: Path, out: Path, evaluation: Path | None = None) -> Path:
    """observers.md and observers.json in `out`, of the rows that an evaluation wrote; returns the first.

    `evaluation`: evaluation.json, which gets both for the card: in `accuracy.table`, and in `calibration.observers`,
    which the lights of agreement take as their scale.
    """
    people, model = measured(data), of_model(read_rows(rows))
    common = [o for o in model if o in people]
    if not common:
        raise SystemExit(f"{data} and {rows} have no organ in common; there are {', '.join(people)}.")
    body = []
    for organ in common:
        p, m = people[organ], model[organ]
        body.append(
            [
                organ.replace("_", " "),
                str(p["n"]),
                str(m["n"]),
                f"{p['dice']:.2f}",
                f"{m['dice']:.2f}",
                *(f"{100 * v:.0f} %" for v in (p["volume_sd"], m["volume_sd"], m["interval_sd"])),
                f"{m['interval_sd'] / p['volume_sd']:.1f}" if p["volume_sd"] else "–",
            ]
        )
    head = ["organ", "scans of two observers", "patients of the model", "Dice of the observers", "of the model"]
    head += ["SD of the observers' volumes", "of the model's errors", "that its intervals say", "over the observers'"]
    text = (
        "# Intervals of volumes beside what two people differ by\n\nTwo observers contoured the same scans "
        "(Nikolov 2021); the second corrected the first, so their difference is the least that people differ by. Other "
        "patients than the model's. SDs are of relative differences of volume; that of the model's errors is half the "
        "distance of their 16th and 84th percentile, that of its intervals their width at 90 % over 3.29.\n\n"
    )
    replace_text(out / "observers.json", json.dumps({"observers": people, "model": model}, indent=1))
    if evaluation is not None:
        made = json.loads(evaluation.read_text(encoding="utf-8"))
        table = made["accuracy"]["table"]
        for organ in common:
            table[f"Dice of two observers, {organ}"] = people[organ]["dice"]
            table[f"SD of volume: two observers, {organ} (%)"] = round(100 * people[organ]["volume_sd"], 1)
            table[f"SD of volume: what intervals say, {organ} (%)"] = round(100 * model[organ]["interval_sd"], 1)
        made["calibration"]["observers"] = {o: people[o] for o in common}
        replace_text(evaluation, json.dumps(made, indent=1, ensure_ascii=False, allow_nan=False))
    return replace_text(out / "observers.md", text + tables.markdown(head, body) + "\n")

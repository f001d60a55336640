"""`python -m training reproduce volumes`: the four networks of Eaton-Rosen 2018 on organs in CT, under one budget.

They are trained on the same patients for as many steps, on weights that all begin with where the budget has such,
exported, and scored on the validation patients. Results are organs.md and contours.csv; volumes.md with the calibration
of each network's volumes, fitted on other patients than it is scored on; and the noise experiment with the network that
ships.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from rtuncertainty.uncertainty.fit.quality import BAD

from ... import methods
from ...calibration import calibrate
from ...calibration.rows import read_rows
from ...core import provenance
from ...core.files import replace_text
from ...data import organ_case
from ...data.prepare import input_statistics, organs
from ...evaluation import organs as volume_evaluation
from ...evaluation.comparison import tables
from ...run import budgeted, common_start, export, joined
from . import noise as noise_experiment
from . import tables as volume_tables

FOLDER = Path(__file__).resolve().parent
CARD = FOLDER / "headneck_organs_card.yaml"
TITLES = {
    "hr_drop_last": "HR-drop-last",
    "hr_default": "HR-default",
    "hr_drop_all": "HR-drop-all",
    "hr_hetero": "HR-hetero",
}
# what ships: a sample of it costs next to nothing
SHIPPED = "hr_drop_last"
# evaluation needs the last part of the time
RESERVE = 0.15
# validation patients whose scans are made worse in the noise experiment, where the budget does not say
NOISE_PATIENTS = 5
METRICS = {
    "dsc": ("Dice", 3),
    "msd_mm": ("Mean surface distance (mm)", 2),
    "hd95_mm": ("95 % Hausdorff distance (mm)", 1),
}


def run(
    data: Path | None,
    out: Path,
    minutes: float | None = None,
    device: str = "auto",
    only=None,
    budget: Path | None = None,
) -> Path:
    """Train what is left to train within `minutes`, evaluate what has been trained, compare; returns the results
    folder.

    `data`: planning CTs (see `pairs.patients`), or what `organs` wrote. `only`: train these networks alone (two
    processes may share the work); the comparison takes all that are finished. `budget`: see `methods.load`, by default
    that for the device; its `evaluation` says how: {samples, noise_patients}.
    """
    started = time.monotonic()
    budgeted.require_known(only, TITLES)
    budget = budget or budgeted.budget_for(FOLDER, device)
    how = (yaml.safe_load(budget.read_text(encoding="utf-8")) or {}).get("evaluation", {})
    noise_patients = how.pop("noise_patients", NOISE_PATIENTS)
    prepared = prepared_in(data, out)
    until = None if minutes is None else started + 60 * minutes * (1 - RESERVE)
    common = common_start.run(budget, SHIPPED, prepared, out, CARD, device, until)
    configs = {n: _config(out, n, common) for n in TITLES}
    budgeted.train_left(
        {n: c for n, c in configs.items() if not only or n in only}, prepared, out, budget, device, until
    )
    files = {}
    for name in budgeted.require_finished(configs, out, budget):
        if not only or name in only or (out / "evaluation" / name / "rows.json").exists():
            files[name] = budgeted.evaluated(
                out,
                name,
                CARD,
                lambda model, folder, name=name: volume_evaluation.run(
                    prepared, out / "runs" / name, model, folder, device=device, **how
                ),
            )
    if not files:
        raise SystemExit(
            f"{out}: none of {', '.join(only)} has been trained to the end yet; give the command again, with more "
            "--minutes."
        )
    missing = [t for n, t in TITLES.items() if n not in files]
    print(
        f"compared: {', '.join(TITLES[n] for n in files)}"
        + (f"; not finished: {', '.join(missing)}" if missing else ""),
        flush=True,
    )
    results = write(
        {TITLES[n]: file for n, file in files.items()},
        out / "results",
        budgeted.hardware(out / "runs" / next(iter(files))),
    )
    noise = None
    if SHIPPED in files:
        evaluation = for_card(
            files[SHIPPED], prepared, out / "runs" / SHIPPED, out / "evaluation" / SHIPPED / "evaluation.json"
        )
        bundle = export.run(out / "runs" / SHIPPED, CARD, out / "bundle" / "headneck-ct-organs", evaluation)
        noise = _noise(prepared, out, bundle, noise_patients, how.get("samples", volume_evaluation.SAMPLES), device)
    intro = (
        f"[organs.md](organs.md) has the contours. Trained on {budgeted.hardware(out / 'runs' / next(iter(files)))}."
    )
    calibrated({TITLES[n]: file for n, file in files.items()}, results, noise=noise, intro=intro)
    return results


def evaluate_one(
    prepared: Path,
    run_folder: Path | Sequence[Path],
    model: Path,
    out: Path,
    samples: int,
    device: str,
    unseen: bool = False,
    until: float | None = None,
) -> Path:
    """Score one bundle, of whatever run or of the folds of a study (`joined.runs`); returns the folder with
    rows.json, evaluation.json (for `export`) and organs.md.
    """
    rows = volume_evaluation.run(prepared, run_folder, model, out, samples, device, unseen, until)
    for_card(rows, prepared, run_folder, out / "evaluation.json")
    return write({model.name: rows}, out, budgeted.hardware(joined.runs(run_folder)[0]))


def calibrated(
    files: dict[str, Path],
    out: Path,
    evaluation: Path | None = None,
    noise: Path | None = None,
    method: str | None = None,
    intro: str = "",
    limit: float = BAD,
) -> Path:
    """`python -m training calibrate`: volumes.md with its tables and figures in `out`, of rows.json by the network's
    title; returns volumes.md.

    evaluation: the evaluation.json of the first network, which gets its calibration (see `calibrate.into_evaluation`).
    noise: noise.json of `noise`. method, limit (a Dice below is bad): see `volume_card.fit`.
    """
    rows = {title: read_rows(file) for title, file in files.items()}
    first = next(iter(files.values()))
    training = json.loads(first.read_text(encoding="utf-8")).get("training")
    if evaluation is not None:
        calibrate.into_evaluation(first, evaluation, method, limit)
    return volume_tables.write(rows, out, training, noise, intro, limit)


def _noise(prepared: Path, out: Path, bundle: Path, patients: int, samples: int, device: str) -> Path:
    """The noise experiment with the bundle on the first validation patients, unless that was done for these weights;
    noise.json.
    """
    folder, mark = (
        out / "evaluation" / "noise",
        json.loads((bundle / "model.json").read_text(encoding="utf-8"))["weights"]["sha256"],
    )
    known = folder / "weights.txt"
    if (folder / "noise.json").exists() and known.exists() and known.read_text(encoding="utf-8") == mark:
        return folder / "noise.json"
    names = json.loads((out / "runs" / SHIPPED / "split.json").read_text(encoding="utf-8"))["validation"][:patients]
    cases = (noise_experiment.of_organs(organ_case.load(prepared / "cases" / f"{n}.npz")) for n in names)
    found = noise_experiment.run(bundle, cases, folder, samples=samples, device=device)
    replace_text(known, mark)
    return found


def prepared_in(data: Path | None, out: Path) -> Path:
    """What `organs` wrote: `data`, or made of it in `out`."""
    if data is None:
        raise SystemExit(
            "--data is missing: give the folder of the planning CTs, or what 'python -m training organs' wrote."
        )
    if (data / organs.SETTINGS).exists():
        return data
    organs.run(data, out / "prepared")
    return out / "prepared"


def _config(out: Path, name: str, common: Path | None) -> Path:
    """The config of a network, which begins with the weights of the bundle `common`."""
    plain = yaml.safe_load(methods.file_of(name).read_text(encoding="utf-8"))
    return budgeted.written(out / "configs" / f"{name}.yaml", plain | ({"initialise": str(common)} if common else {}))


def _contours(file: Path) -> list[dict]:
    """The contours of a rows.json, NaN where there is no number."""
    rows = json.loads(file.read_text(encoding="utf-8"))["contours"]
    return [{k: math.nan if v is None else v for k, v in r.items()} for r in rows]


def write(files: dict[str, Path], results: Path, hardware: str) -> Path:
    """organs.md and contours.csv in `results`; returns the folder. `files`: rows.json by the network's title."""
    found = {title: _contours(file) for title, file in files.items()}
    every = [r for rows in found.values() for r in rows]
    names = list(dict.fromkeys(r["organ"] for r in every))
    cases = {r["case"] for r in every}
    lines = [
        "# Organs on validation patients",
        f"{len(cases)} patients on whom nothing was trained; scored are the organs that were drawn, after the rules of "
        "the card. An organ that "
        f"was not found has a Dice of 0 and no distances. Trained on {hardware}. Mean ± sd over patients.",
    ]
    for metric, (title, digits) in METRICS.items():
        body = []
        for network, rows in found.items():
            values = [[r[metric] for r in rows if r["organ"] == o] for o in names]
            means = [np.nanmean(v) for v in values if not np.isnan(v).all()]
            body.append(
                [network, *(tables.cell(v, digits) for v in values), f"{np.mean(means):.{digits}f}" if means else "–"]
            )
        heads = [f"{o} (n = {len({r['case'] for r in every if r['organ'] == o})})" for o in names]
        lines += [f"## {title}", tables.markdown(["network", *heads, "mean of organs"], body)]
    results.mkdir(parents=True, exist_ok=True)
    columns = ["network", "case", "organ", *METRICS]
    replace_text(
        results / "contours.csv",
        tables.csv_text(
            columns, ([{"network": n, **r}[c] for c in columns] for n, rows in found.items() for r in rows)
        ),
    )
    replace_text(results / "organs.md", "\n\n".join(lines) + "\n")
    return results


def for_card(file: Path, prepared: Path, run_folder: Path | Sequence[Path], out: Path) -> Path:
    """evaluation.json for `export`: the accuracy of each organ, the calibration, and what images were trained on.

    `file`: rows.json of the run in `run_folder`, which was trained on scans of `prepared`.
    """
    rows = _contours(file)
    table = {}
    for organ in dict.fromkeys(r["organ"] for r in rows):
        mine = [r for r in rows if r["organ"] == organ]
        table[f"Dice, {organ}"] = round(float(np.mean([r["dsc"] for r in mine])), 2)
        distances = [r["msd_mm"] for r in mine if not math.isnan(r["msd_mm"])]
        if distances:
            table[f"Mean surface distance, {organ} (mm)"] = round(float(np.mean(distances)), 2)
    cases = {r["case"] for r in rows}
    found = json.loads(file.read_text(encoding="utf-8"))
    made = provenance.training_entry(found) | {
        "weights_sha256": found["weights_sha256"],
        "accuracy": {
            "cases": provenance.described(len(cases), "validation patients of the same collection", found),
            "n": len(cases),
            "table": table,
        },
        "calibration": {"synct": None, "volumes": None},
    }
    names = joined.sides(run_folder).training
    made["input_statistics"] = input_statistics.of_organs(
        organ_case.load(prepared / "cases" / f"{n}.npz") for n in names
    )
    return calibrate.into_evaluation(file, replace_text(out, json.dumps(made, indent=1, ensure_ascii=False)))

"""`python -m training reproduce volumes_folds | left_atrium_folds | limb_folds`: a shipped model from all patients.

One network is trained on each of K folds of all patients; together they are one bundle, and all that its card says
comes of predictions of the checkpoint that has not seen the patient. The same command goes on where it was cut, in
training as in evaluation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from .. import methods
from ..core.config import Config
from ..data.prepare import synthesis
from ..evaluation import slices
from ..run import budgeted, export, train
from .few_labels import study as few_labels_study
from .mr_only import study as mr_only_study
from .volumes import study as volume_study

# evaluation needs the last part of the time
RESERVE = 0.3
SAMPLES = 20
# Dice of an organ below which it is drawn anew rather than corrected. On voxels of 4 mm the Dice of small organs stays
# below the 0.85 of other studies even where the contour lies within a voxel
REDRAWN = 0.7


def _limb_prepared(data: Path | None, out: Path) -> Path:
    if data is None:
        raise SystemExit("--data is missing: give the folder of the patients, or what prepare wrote.")
    if not (data / "prepare.csv").exists():
        synthesis.run(data, out / "prepared")
        return out / "prepared"
    return data


def _limb_evaluated(prepared, runs, model, out, samples, device, unseen, until) -> None:
    slices.run(prepared, runs, model, out, samples, device, 1, unseen, until)
    volume_study.calibrated({model.name: out / "volumes.json"}, out)


def _organs_evaluated(prepared, runs, model, out, samples, device, unseen, until) -> None:
    volume_study.evaluate_one(prepared, runs, model, out, samples, device, unseen, until)
    volume_study.calibrated({model.name: out / "rows.json"}, out, out / "evaluation.json", limit=REDRAWN)


@dataclass(frozen=True)
class Study:
    """`config`: of every fold; `prepared(data, out)`, `card(out, prepared)`, and what scores the bundle."""

    config: Path
    prepared: Callable[[Path | None, Path], Path]
    card: Callable[[Path, Path], Path]
    evaluate: Callable


STUDIES = {
    "volumes_folds": Study(
        volume_study.FOLDER / "headneck_vnet.yaml",
        volume_study.prepared_in,
        lambda out, prepared: volume_study.CARD,
        _organs_evaluated,
    ),
    "left_atrium_folds": Study(
        few_labels_study.FOLDER / "left_atrium_vnet.yaml",
        lambda data, out: few_labels_study.prepared_in(data, out, 1.25),
        few_labels_study.card_of,
        few_labels_study.evaluate_one,
    ),
    "limb_folds": Study(
        mr_only_study.FOLDER / "limb_m4_folds.yaml",
        _limb_prepared,
        lambda out, prepared: mr_only_study.FOLDER / "limb_card.yaml",
        _limb_evaluated,
    ),
}


def _of_fold(plain: Config, fold: int) -> dict:
    """What the config of a fold changes: each has a seed of its own."""
    return {"fold": fold, "seed": plain.seed + fold}


def run(
    name: str,
    data: Path | None,
    out: Path,
    minutes: float | None = None,
    config: Path | None = None,
    device: str = "auto",
    fold: int | None = None,
) -> Path:
    """Train what is left of the folds within `minutes`, then export, evaluate and export with the card; returns the
    bundle.

    `data`: the patients as prepare takes them, or what it wrote. Runs lie in `out`/folds/K, tables in `out`/results,
    the bundle in `out`/bundle. `fold`: train this one alone (several processes may share the work).
    Raises `SystemExit` where the time was over before all was done; the same command goes on.
    """
    started = time.monotonic()
    study = STUDIES[name]
    prepared = study.prepared(data, out)
    plain = methods.load(config or study.config)
    if not plain.cross_fit:
        raise SystemExit(f"{config}: it deals no folds; set cross_fit: true.")
    if fold is not None and not 0 <= fold < plain.folds:
        raise SystemExit(f"--fold: {fold} is not one of 0 to {plain.folds - 1}.")
    until = None if minutes is None else started + 60 * minutes
    training_until = None if minutes is None else started + 60 * minutes * (1 - RESERVE)
    runs = [out / "folds" / str(k) for k in range(plain.folds)]
    configs = [methods.load(config or study.config, None, _of_fold(plain, k)) for k in range(plain.folds)]
    for k in range(plain.folds) if fold is None else [fold]:
        left = None if training_until is None else (training_until - time.monotonic()) / 60
        if not budgeted.finished(runs[k], configs[k]) and (left is None or left > 0.2):
            train.run(prepared, config or study.config, runs[k], left, device=device, changes=_of_fold(plain, k))
    missing = [str(k) for k in range(plain.folds) if not budgeted.finished(runs[k], configs[k])]
    if missing:
        raise SystemExit(f"{out}: not trained to the end yet: fold {', '.join(missing)}; give the command again.")
    card = study.card(out, prepared)
    called = yaml.safe_load(card.read_text(encoding="utf-8"))["name"]
    bundle, results = out / "bundle" / called, out / "results"
    export.run(runs, card, bundle)
    study.evaluate(prepared, runs, bundle, results, SAMPLES, device, False, until)
    return export.run(runs, card, bundle, results / "evaluation.json")

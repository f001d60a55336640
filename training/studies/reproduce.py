"""`python -m training reproduce NAME`: from patients to tables and a bundle in one command that can be interrupted.

The same command goes on where it stopped: prepared cases are kept, training resumes from its last checkpoint, and the
bundle and the tables are made from whatever has been trained when the minutes are over.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from ..data.prepare import synthesis
from ..evaluation import slices
from ..run import export, train
from . import folds
from .dose import study as dose_study
from .few_labels import study as few_labels_study
from .mr_only import study
from .propagation import study as propagation_study
from .volumes import study as volume_study

# name -> (card, config for two CPU cores, config for a GPU)
EXPERIMENTS = {"limb": ("limb_card.yaml", "limb_m4.yaml", "limb_m4_gpu.yaml")}
# evaluation and export need the last part of the time
RESERVE = 0.2


def run(
    name: str,
    data: Path | None,
    out: Path,
    minutes: float | None = None,
    config: Path | None = None,
    device: str = "auto",
    only: list[str] | None = None,
    fold: int | None = None,
) -> Path:
    """Run the experiment `name`; returns the folder of its results: evaluation.md and `bundle/` for one model, or for
    `study.STUDIES` and `propagation_study.SITES` the comparison of several networks (`only`: those to train).

    `data`: the patients as prepare takes them, or a folder that prepare wrote (which is what to take to a machine with
    a GPU: some 50 MB, and no registration there). `config` defaults to the one for the device. `fold`: see `study.run`.
    """
    import torch

    if name == "volumes":
        return volume_study.run(data, out, minutes, device, only, config)
    if name in folds.STUDIES:
        return folds.run(name, data, out, minutes, config, device, fold)
    if name == "dose":
        return dose_study.run(data, out, minutes, device, only)
    if name == "few_labels":
        return few_labels_study.run(data, out, minutes, device, only, config)
    if name in propagation_study.SITES:
        return propagation_study.run(name, data, out, minutes, device, only, config)
    if name in study.STUDIES:
        return study.run(name, data, out, minutes, device, only, config, fold)
    if data is None:
        raise SystemExit("--data is missing: give the folder of the patients, or what prepare wrote.")
    started = time.monotonic()
    card, for_cpu, for_gpu = EXPERIMENTS[name]
    if config is None:
        config = study.FOLDER / (for_gpu if device != "cpu" and torch.cuda.is_available() else for_cpu)
    prepared = data
    if not (data / "prepare.csv").exists():
        prepared = out / "prepared"
        synthesis.run(data, prepared)
    left = None
    if minutes is not None:
        left = max(0.5, minutes * (1 - RESERVE) - (time.monotonic() - started) / 60)
    run_folder = out / "run"
    train.run(prepared, config, run_folder, left, device=device)
    bundle, results = out / "bundle" / name, out / "results"
    export.run(run_folder, study.FOLDER / card, bundle)
    slices.run(prepared, run_folder, bundle, results, device=device)
    export.run(run_folder, study.FOLDER / card, bundle, results / "evaluation.json")
    shutil.copy(prepared / "prepare.csv", results / "prepare.csv")
    return results

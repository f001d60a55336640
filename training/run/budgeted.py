"""Several networks under one budget: train what is left, tell what is done, evaluate each once. The loop of all
studies.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from .. import methods
from ..core.config import Config
from ..core.files import replace_text
from . import export, train
from . import folder as run_folder


def budget_for(folder: Path, device: str) -> Path:
    """`gpu.yaml` of `folder` where a GPU is there and wanted, else `cpu.yaml`."""
    import torch

    return folder / ("gpu.yaml" if device != "cpu" and torch.cuda.is_available() else "cpu.yaml")


def require_known(only, known) -> None:
    """Raise `SystemExit` for a name of --only that is none of `known`."""
    unknown = set(only or ()) - set(known)
    if unknown:
        raise SystemExit(f"--only: {', '.join(sorted(unknown))} is not one of {', '.join(known)}.")


def train_left(
    configs: dict[str, Path], prepared: Path, out: Path, budget: Path | None, device: str, until: float | None = None
) -> None:
    """Train those of `configs` (name → config) into `out`/runs/NAME that are not finished, one after the other.

    `until`: when to stop in good order, by `time.monotonic()`; the next call resumes.
    """
    for name, config in configs.items():
        folder = out / "runs" / name
        if finished(folder, methods.load(config, budget)):
            continue
        left = None if until is None else (until - time.monotonic()) / 60
        if left is not None and left < 0.2:
            print(f"{name}: no time left; give the command again", flush=True)
            continue
        train.run(prepared, config, folder, left, device=device, budget=budget)
        print(f"{name}: trained", flush=True)


def finished(folder: Path, config: Config) -> bool:
    """Whether the run in `folder` is one of this config and has done all its steps.

    Raises `SystemExit` for a folder that was trained with another config, which must not be mixed in.
    """
    if not (folder / "config.yaml").exists():
        return False
    known = methods.of_run(folder).plain()
    for name in config.changed(known)[:1]:
        raise SystemExit(
            f"{folder} was trained with another {name} ({known.get(name)}, now {config.plain()[name]}); choose another "
            "--out."
        )
    return run_folder.is_done(folder, config.steps)


def require_finished(configs: dict[str, Path], out: Path, budget: Path) -> list[str]:
    """Names of `configs` that are trained to the end. Raises `SystemExit` where none is."""
    done = [n for n, config in configs.items() if finished(out / "runs" / n, methods.load(config, budget))]
    if not done:
        raise SystemExit(
            f"{out}: no network has been trained to the end yet; give the command again, with more --minutes."
        )
    return done


def evaluated(out: Path, name: str, card: Path, evaluate: Callable[[Path, Path], object]) -> Path:
    """Export a finished run as `out`/bundles/NAME and evaluate it, unless that was done for these weights; returns its
    rows.json.

    `evaluate(bundle, folder)` writes `folder`/rows.json, which bears "weights_sha256" and "scored".
    """
    bundle, folder = out / "bundles" / name, out / "evaluation" / name
    export.run(
        out / "runs" / name, card, bundle, name=f"{yaml.safe_load(card.read_text(encoding='utf-8'))['name']}-{name}"
    )
    sha256 = json.loads((bundle / "model.json").read_text(encoding="utf-8"))["weights"]["sha256"]
    rows = folder / "rows.json"
    known = json.loads(rows.read_text(encoding="utf-8")) if rows.exists() else {}
    if known.get("weights_sha256") != sha256 or "scored" not in known:
        evaluate(bundle, folder)
    return rows


def written(file: Path, settings: dict) -> Path:
    """`settings` as YAML, written where it is not there: processes that share the work must not take it from each
    other.
    """
    text = yaml.safe_dump(settings, allow_unicode=True, sort_keys=False)
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_text(file, text)
    return file


def hardware(run_folder: Path) -> str:
    """What a run was trained on."""
    return json.loads((run_folder / "versions.json").read_text(encoding="utf-8"))["device"]

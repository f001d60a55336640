"""`python -m training reproduce few_labels`: four methods with 16 and 8 labelled scans, an upper bound, and MT-CTL part by part."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from . import budgeted, export, few_labels_eval, few_labels_tables, left_atrium
from .data import scan
from .evaluation import store

CONFIGS = Path(__file__).resolve().parent / "configs"
FOLDER, CARD = CONFIGS / "few_labels", CONFIGS / "left_atrium_card.yaml"
# the part of the time that evaluation needs
RESERVE = 0.1


@dataclass(frozen=True)
class Run:
    """A method with so many labelled scans (0: all). `method`: as the paper calls it; `config`: in configs/few_labels; `part_of`: of an
    ablation the whole that it is a part of; `changes`: of the config."""

    method: str
    config: str
    labelled: int
    title: str
    part_of: str = ""
    changes: dict = field(default_factory=dict)


def _runs() -> dict[str, Run]:
    methods = {"vnet": "V-Net", "ua_mt": "UA-MT", "sassnet": "SASSNet", "mt_ctl": "MT-CTL"}
    found = {f"{config}-{n}": Run(method, config, n, method) for n in (16, 8) for config, method in methods.items()}
    found["vnet-all"] = Run("V-Net", "vnet", 0, "V-Net, all labels")
    parts = {"distance": [], "cross": ["cross_task"], "guided": ["cross_task", "guidance"], "adversarial": ["cross_task", "guidance", "adversarial"]}
    told = {"distance": "V-Net with a distance map", "cross": "+ cross-task", "guided": "+ guidance by uncertainty", "adversarial": "+ adversarial"}
    for name, given in parts.items():
        found[f"mt_ctl-16-{name}"] = Run("MT-CTL", "mt_ctl", 16, told[name], "mt_ctl-16", {"parts": given})
    return found


RUNS = _runs()
SHIPPED = "mt_ctl-16"


def run(data: Path | None, out: Path, minutes: float | None = None, device: str = "auto", only=None, budget: Path | None = None) -> Path:
    """Train what is left to train within `minutes`, evaluate what has been trained, compare; returns the results folder.

    `data`: the challenge's scans, or what `left_atrium` wrote. `only`: names of `RUNS` to train, by default all but the parts (two
    processes may share the work); the comparison takes all that are finished. `budget`: see `train.load_config`, by default
    that for the device; its `evaluation` says {spacing (mm; of scans that are prepared here), stride, samples}.
    """
    started = time.monotonic()
    budgeted.require_known(only, RUNS)
    budget = budget or budgeted.budget_for(FOLDER, device)
    how = (yaml.safe_load(budget.read_text(encoding="utf-8")) or {}).get("evaluation", {})
    prepared = _prepared(data, out, how.get("spacing"))
    configs = {n: _config(out, n) for n in RUNS}
    until = None if minutes is None else started + 60 * minutes * (1 - RESERVE)
    chosen = only or [n for n, r in RUNS.items() if not r.part_of]
    budgeted.train_left({n: configs[n] for n in chosen}, prepared, out, budget, device, until)
    card, files = _card(out, prepared), {}
    for name in budgeted.require_finished(configs, out, budget):
        if name in chosen or (out / "evaluation" / name / "rows.json").exists():
            files[name] = budgeted.evaluated(out, name, card, lambda model, folder, name=name: few_labels_eval.run(
                prepared, out / "runs" / name, model, folder, how.get("stride", few_labels_eval.STRIDE), how.get("samples", few_labels_eval.SAMPLES), device))
    if not files:
        raise SystemExit(f"{out}: none of {', '.join(chosen)} has been trained to the end yet; give the command again, with more --minutes.")
    missing = [n for n in chosen if n not in files]
    print(f"compared: {', '.join(files)}" + (f"; not finished: {', '.join(missing)}" if missing else ""), flush=True)
    results = few_labels_tables.write(files, RUNS, out / "results", budgeted.hardware(out / "runs" / next(iter(files))))
    if SHIPPED in files:
        told = few_labels_tables.for_card(files[SHIPPED], out / "evaluation" / SHIPPED / "evaluation.json")
        export.run(out / "runs" / SHIPPED, card, out / "bundle" / "left-atrium-mr", told)
    return results


def evaluate_one(prepared: Path, run_folder: Path, model: Path, out: Path, samples: int, device: str) -> Path:
    """Score one bundle, of whatever run; returns the folder with rows.json, evaluation.json (for `export`) and few_labels.md."""
    rows = few_labels_eval.run(prepared, run_folder, model, out, samples=samples, device=device)
    few_labels_tables.for_card(rows, out / "evaluation.json")
    found = json.loads(rows.read_text(encoding="utf-8"))
    one = Run("", found["network"], found["labelled"], model.name)
    return few_labels_tables.write({model.name: rows}, {model.name: one}, out, budgeted.hardware(run_folder))


def _prepared(data: Path | None, out: Path, spacing: float | None) -> Path:
    if data is None:
        raise SystemExit("--data is missing: give the folder of the scans, or what 'python -m training left_atrium' wrote.")
    if (data / "prepare.csv").exists() and (data / "scans").is_dir():
        return data
    left_atrium.run(data, out / "prepared", spacing)
    return out / "prepared"


def _card(out: Path, prepared: Path) -> Path:
    """The card with the spacing of the prepared scans, written into `out`."""
    card = yaml.safe_load(CARD.read_text(encoding="utf-8"))
    one = min((prepared / "scans").glob("*.npz"))
    asked = scan.options_of(one)["spacing_mm"]
    card["input"]["spacing_mm"] = [s or round(own, 4) for s, own in zip(asked, scan.load(one).spacing)]
    return _written(out / "configs" / CARD.name, card)


def _config(out: Path, name: str) -> Path:
    """The config of a run: its method's own, with the labelled scans and changes, written into `out`."""
    run = RUNS[name]
    plain = yaml.safe_load((FOLDER / f"{run.config}.yaml").read_text(encoding="utf-8"))
    return _written(out / "configs" / f"{name}.yaml", plain | {"labelled": run.labelled} | run.changes)


def _written(file: Path, settings: dict) -> Path:
    """`settings` as YAML, written where it is not there: processes that share the work must not take it from each other."""
    text = yaml.safe_dump(settings, allow_unicode=True, sort_keys=False)
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        file.parent.mkdir(parents=True, exist_ok=True)
        store.replace_text(file, text)
    return file

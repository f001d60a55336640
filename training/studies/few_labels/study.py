"""`python -m training reproduce few_labels`: four methods with 16 and 8 labelled scans, an upper bound, and MT-CTL part
by part.

On a hospital's own scans (`scans`) the same with as many labels as there are, and with half of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from ... import methods
from ...data import scan
from ...data.prepare import input_statistics, left_atrium, scans
from ...evaluation import few_labels
from ...methods.hasan2021 import feed
from ...run import budgeted, export, joined
from ...run import card as cards
from . import quality as few_labels_quality
from . import tables

FOLDER = Path(__file__).resolve().parent
CARD = FOLDER / "left_atrium_card.yaml"
# the part of the time that evaluation needs
RESERVE = 0.1


@dataclass(frozen=True)
class Run:
    """A method with so many labelled scans (0: all). `method`: as the paper calls it; `config`: in methods/hasan2021;
    `part_of`: of an ablation the whole that it is a part of; `changes`: of the config."""

    method: str
    config: str
    labelled: int
    title: str
    part_of: str = ""
    changes: dict = field(default_factory=dict)


def _runs(counts=(16, 8)) -> dict[str, Run]:
    titles = {"vnet": "V-Net", "ua_mt": "UA-MT", "sassnet": "SASSNet", "mt_ctl": "MT-CTL"}
    found = {f"{config}-{n}": Run(method, config, n, method) for n in counts for config, method in titles.items()}
    found["vnet-all"] = Run("V-Net", "vnet", 0, "V-Net, all labels")
    parts = {
        "distance": [],
        "cross": ["cross_task"],
        "guided": ["cross_task", "guidance"],
        "adversarial": ["cross_task", "guidance", "adversarial"],
    }
    names = {
        "distance": "+ distance map",
        "cross": "+ cross-task",
        "guided": "+ guidance by uncertainty",
        "adversarial": "+ adversarial",
    }
    whole = f"mt_ctl-{counts[0]}"
    found[f"{whole}-alone"] = Run(
        "V-Net", "vnet", counts[0], "V-Net on the labelled half of every batch", whole, {"unlabelled_batch": 2}
    )
    for name, given in parts.items():
        found[f"{whole}-{name}"] = Run("MT-CTL", "mt_ctl", counts[0], names[name], whole, {"parts": given})
    return found


RUNS = _runs()
# the best of the table (training/results/few_labels.md)
SHIPPED = "vnet-all"


def runs_of(prepared: Path) -> tuple[dict[str, Run], str]:
    """(runs, the one that ships) for prepared scans: `RUNS` for the challenge's.

    For a hospital's own: with all of its labels and with half of them, whose others then count as unlabelled. Where
    every scan has labels, all of them leave nothing to learn from without labels: then the V-Net alone takes them all,
    and half of them ship.
    """
    if scans.settings_of(prepared) is None:
        return RUNS, SHIPPED
    sides = feed.sides(prepared / "prepare.csv", 0)
    most = len(sides.labelled)
    counts = ((most,) if sides.unlabelled else ()) + ((most // 2,) if most > 1 else ())
    if not counts:
        return {"vnet-all": Run("V-Net", "vnet", 0, "V-Net, all labels")}, "vnet-all"
    found = _runs(counts)
    if sides.unlabelled:
        del found["vnet-all"]  # which is vnet with all of them
    return found, f"mt_ctl-{counts[0]}"


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

    `data`: the challenge's scans, or what `left_atrium` or `scans` wrote. `only`: names of `runs_of` to train, by
    default all but the parts (two processes may share the work); the comparison takes all that are finished. `budget`:
    see `methods.load`, by default that for the device; its `evaluation` says {spacing (mm; of the challenge's scans,
    prepared here), stride, samples}. What ships is exported as `out`/bundle/NAME, with its expected Dice calibrated
    (`few_labels_quality`); of a hospital's own scans that may be the only one that was asked for.
    """
    started = time.monotonic()
    budget = budget or budgeted.budget_for(FOLDER, device)
    how = (yaml.safe_load(budget.read_text(encoding="utf-8")) or {}).get("evaluation", {})
    prepared = prepared_in(data, out, how.get("spacing"))
    runs, shipped = runs_of(prepared)
    budgeted.require_known(only, runs)
    if runs is not RUNS and only and len(only) == 1:
        shipped = only[0]
    configs = {n: _config(out, n, r) for n, r in runs.items()}
    until = None if minutes is None else started + 60 * minutes * (1 - RESERVE)
    card = card_of(out, prepared)  # before the training: it may be still to be filled in
    chosen = only or [n for n, r in runs.items() if not r.part_of]
    budgeted.train_left({n: configs[n] for n in chosen}, prepared, out, budget, device, until)
    files, quality = {}, {}
    samples = how.get("samples", few_labels.SAMPLES)
    for name in budgeted.require_finished(configs, out, budget):
        if name in chosen or (out / "evaluation" / name / "rows.json").exists():
            files[name] = budgeted.evaluated(
                out,
                name,
                card,
                lambda model, folder, name=name: few_labels.run(
                    prepared, out / "runs" / name, model, folder, how.get("stride", few_labels.STRIDE), samples, device
                ),
            )
    if not files:
        raise SystemExit(
            f"{out}: none of {', '.join(chosen)} has been trained to the end yet; give the command again, with more "
            "--minutes."
        )
    missing = [n for n in chosen if n not in files]
    print(f"compared: {', '.join(files)}" + (f"; not finished: {', '.join(missing)}" if missing else ""), flush=True)
    if shipped in files:
        folder, run_folder = out / "evaluation" / shipped, out / "runs" / shipped
        quality[shipped] = few_labels_quality.run(
            prepared, run_folder, out / "bundles" / shipped, folder, samples, device
        )
        names = tables.for_card(
            files[shipped], folder / "evaluation.json", quality[shipped], _statistics(prepared, run_folder)
        )
        export.run(run_folder, card, out / "bundle" / yaml.safe_load(card.read_text(encoding="utf-8"))["name"], names)
    return tables.write(files, runs, out / "results", budgeted.hardware(out / "runs" / next(iter(files))), quality)


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
    rows.json, quality.json, evaluation.json (for `export`) and few_labels.md.
    """
    rows = few_labels.run(prepared, run_folder, model, out, samples=samples, device=device, unseen=unseen, until=until)
    quality = few_labels_quality.run(prepared, run_folder, model, out, samples, device, unseen=unseen, until=until)
    tables.for_card(rows, out / "evaluation.json", quality, _statistics(prepared, run_folder))
    found = json.loads(rows.read_text(encoding="utf-8"))
    one = Run("", found["network"], found["labelled"], model.name)
    return tables.write(
        {model.name: rows},
        {model.name: one},
        out,
        budgeted.hardware(joined.runs(run_folder)[0]),
        {model.name: quality},
    )


def _statistics(prepared: Path, run_folder: Path | Sequence[Path]) -> dict | None:
    """What images a run was trained on, for its card."""
    names = joined.sides(run_folder).training
    return input_statistics.of_scans(scan.load(prepared / "scans" / f"{n}.npz") for n in names)


def prepared_in(data: Path | None, out: Path, spacing: float | None) -> Path:
    """What `left_atrium` or `scans` wrote: `data`, or made of it in `out`."""
    if data is None:
        raise SystemExit(
            "--data is missing: give the folder of the scans, or what 'python -m training scans' or left_atrium wrote."
        )
    if (data / "prepare.csv").exists() and (data / "scans").is_dir():
        return data
    left_atrium.run(data, out / "prepared", spacing)
    return out / "prepared"


def card_of(out: Path, prepared: Path) -> Path:
    """The challenge's card with the spacing of the prepared scans, or a hospital's own (`run.card`), written
    into `out`. Raises `SystemExit` where that is still to be filled in.
    """
    if scans.settings_of(prepared) is not None:
        own = prepared / cards.CARD
        if not own.exists():
            cards.write(prepared)
        return budgeted.written(out / "configs" / "card.yaml", cards.read(own))
    card = yaml.safe_load(CARD.read_text(encoding="utf-8"))
    one = min((prepared / "scans").glob("*.npz"))
    asked = scan.options_of(one)["spacing_mm"]
    card["input"]["spacing_mm"] = [s or round(own, 4) for s, own in zip(asked, scan.load(one).spacing)]
    return budgeted.written(out / "configs" / CARD.name, card)


def _config(out: Path, name: str, run: Run) -> Path:
    """The config of a run: its method's own, with the labelled scans and changes, written into `out`."""
    plain = yaml.safe_load(methods.file_of(run.config).read_text(encoding="utf-8"))
    return budgeted.written(out / "configs" / f"{name}.yaml", plain | {"labelled": run.labelled} | run.changes)

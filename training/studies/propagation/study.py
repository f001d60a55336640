"""`python -m training reproduce propagation|propagation_pelvis`: pairs, six networks under one budget, elastix, and the
tables that compare them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from rtuncertainty.bundles import bundle

from ... import methods
from ...core.files import replaced
from ...data.prepare import pairs
from ...evaluation import pairs as propagation_eval
from ...run import budgeted, export
from . import tables, volumes

FOLDER = Path(__file__).resolve().parent
# evaluation and elastix need the last part of the time
RESERVE = 0.3


@dataclass(frozen=True)
class Run:
    """A network under one setting: the config's name, and what differs from it."""

    config: str
    title: str
    changes: dict = field(default_factory=dict)


# the six networks; then the paper's questions of loss weighting (Table 2), bending energy (Fig. 2) and input (Table 1)
RUNS = {
    "cross_stitch": Run("cross_stitch", "Cross-stitch"),
    "seg": Run("seg", "Seg"),
    "reg": Run("reg", "Reg"),
    "dense": Run("dense", "Dense"),
    "jrs_reg": Run("jrs_reg", "JRS-reg"),
    "sedd": Run("sedd", "SEDD"),
    "dense-equal": Run("dense", "Dense, equal", {"weighting": "equal"}),
    "dense-dwa": Run("dense", "Dense, DWA", {"weighting": "dwa"}),
    "cross_stitch-homoscedastic": Run("cross_stitch", "Cross-stitch, homoscedastic", {"weighting": "homoscedastic"}),
    "cross_stitch-dwa": Run("cross_stitch", "Cross-stitch, DWA", {"weighting": "dwa"}),
    "jrs_reg-equal": Run("jrs_reg", "JRS-reg, equal", {"weighting": "equal"}),
    "jrs_reg-dwa": Run("jrs_reg", "JRS-reg, DWA", {"weighting": "dwa"}),
    "sedd-equal": Run("sedd", "SEDD, equal", {"weighting": "equal"}),
    "sedd-dwa": Run("sedd", "SEDD, DWA", {"weighting": "dwa"}),
    "reg-0.05": Run("reg", "Reg, bending 0.05", {"bending": 0.05}),
    "reg-5": Run("reg", "Reg, bending 5", {"bending": 5.0}),
    "jrs_reg-0.05": Run("jrs_reg", "JRS-reg, bending 0.05", {"bending": 0.05}),
    "jrs_reg-5": Run("jrs_reg", "JRS-reg, bending 5", {"bending": 5.0}),
    "cross_stitch-0.05": Run("cross_stitch", "Cross-stitch, bending 0.05", {"bending": 0.05}),
    "cross_stitch-5": Run("cross_stitch", "Cross-stitch, bending 5", {"bending": 5.0}),
    "seg-labels": Run("seg", "Seg, daily CT and planning labels", {"inputs": "daily+labels"}),
    "seg-all": Run("seg", "Seg, both CTs and labels", {"inputs": "daily+planning+labels"}),
    "reg-labels": Run("reg", "Reg, both CTs and labels", {"inputs": "daily+planning+labels"}),
    "jrs_reg-labels": Run("jrs_reg", "JRS-reg, both CTs and labels", {"inputs": "daily+planning+labels"}),
    "dense-planning": Run("dense", "Dense, both CTs", {"inputs": "daily+planning"}),
    "sedd-planning": Run("sedd", "SEDD, both CTs", {"inputs": "daily+planning"}),
    "cross_stitch-planning": Run("cross_stitch", "Cross-stitch, both CTs", {"inputs": "daily+planning"}),
}
SHIPPED = "cross_stitch"


@dataclass(frozen=True)
class Site:
    """A region: its card, the folder of its budgets, its organs, the working grid's spacing (mm), and of digital
    patients how many.
    """

    card: str
    budgets: str
    organs: tuple[str, ...]
    spacing: tuple[float, float, float]
    phantoms: int = 0


SITES = {
    "propagation": Site("headneck_propagation_card.yaml", ".", pairs.HEADNECK, (4.0, 4.0, 3.0)),
    "propagation_pelvis": Site("pelvis_propagation_card.yaml", "pelvis", pairs.PELVIS, (4.0, 4.0, 4.0), 24),
}


def run(
    name: str,
    data: Path | None,
    out: Path,
    minutes: float | None = None,
    device: str = "auto",
    only=None,
    budget: Path | None = None,
) -> Path:
    """Train what is left to train within `minutes`, evaluate what has been trained, compare; returns the results
    folder.

    `name`: one of `SITES`. `data`: planning CTs (see `pairs.patients`), or what `pairs` wrote. `only`: names of `RUNS`
    to train, by default the six networks. `budget`: by default that
    for the device. Given again, the command goes on where it stopped.
    """
    started, site = time.monotonic(), SITES[name]
    budget = budget or budgeted.budget_for(FOLDER / site.budgets, device)
    budgeted.require_known(only, RUNS)
    prepared = _prepared(site, data, out)
    configs = {n: _config(out, n) for n in RUNS}
    until = None if minutes is None else started + 60 * minutes * (1 - RESERVE)
    budgeted.train_left(
        {n: configs[n] for n in only or [n for n, r in RUNS.items() if not r.changes]},
        prepared,
        out,
        budget,
        device,
        until,
    )
    done = budgeted.require_finished(configs, out, budget)
    # the refinement begins where a network ends; that of one network tells what it gains and costs
    found = {
        n: budgeted.evaluated(
            out,
            n,
            FOLDER / site.card,
            lambda model, folder, n=n: propagation_eval.run(
                prepared, out / "runs" / n, model, folder, ("fast", "full") if n == SHIPPED else (), device
            ),
        )
        for n in done
    }
    names = json.loads((out / "runs" / done[0] / "split.json").read_text(encoding="utf-8"))["validation"]
    baselines = propagation_eval.run_baselines_of(prepared, names, out / "evaluation" / "baselines")
    results = tables.write(
        {RUNS[n].title: path for n, path in found.items()},
        baselines,
        out / "results",
        budgeted.hardware(out / "runs" / done[0]),
    )
    if SHIPPED in done:
        chosen = tables.for_card(found[SHIPPED], out / "evaluation" / SHIPPED / "evaluation.json")
        volumes.into_evaluation(prepared, out / "bundles" / SHIPPED, chosen, device=device)
        export.run(out / "runs" / SHIPPED, FOLDER / site.card, out / "bundle" / _card(site)["name"], chosen)
    return results


def evaluate_one(
    prepared: Path,
    run_folder: Path | None,
    model: Path,
    out: Path,
    device: str,
    unseen: bool = False,
    elastix: bool = False,
    modes: tuple[str, ...] = ("fast", "full"),
) -> Path:
    """Score one bundle, of whatever run; returns the folder with rows.json, evaluation.json (for `export`) and
    propagation.md. Without a run it is scored on all pairs of patients whom it has not seen. `modes`: of refinement.
    """
    rows = propagation_eval.run(prepared, run_folder, model, out, modes, device, unseen)
    chosen = tables.for_card(rows, out / "evaluation.json")
    volumes.into_evaluation(prepared, model, chosen, device=device)
    baselines = None
    if elastix:
        names = list(json.loads(chosen.read_text(encoding="utf-8"))["scored"])
        baselines = propagation_eval.run_baselines_of(prepared, names, out / "baselines")
    card = bundle.read_card(model)
    return tables.write({model.name: rows}, baselines, out, card["training"].get("hardware", "hardware not stated"))


def _card(site: Site) -> dict:
    return yaml.safe_load((FOLDER / site.card).read_text(encoding="utf-8"))


def _prepared(site: Site, data: Path | None, out: Path) -> Path:
    if data is not None and (data / "pairs.json").exists():
        return data
    if data is None and not site.phantoms:
        raise SystemExit(
            "--data is missing: give the folder of the planning CTs, or what 'python -m training pairs' wrote."
        )
    # the days of a digital patient are all that there is of him, so he has more of them
    pairs.run(data, out / "prepared", site.organs, site.spacing, days=1 if data else 2, count=site.phantoms)
    return out / "prepared"


def _config(out: Path, name: str) -> Path:
    """The config of a run: the network's own, or for a variant one that is written into `out`."""
    plain = methods.file_of(RUNS[name].config)
    if not RUNS[name].changes:
        return plain
    made = out / "configs" / f"{name}.yaml"
    made.parent.mkdir(parents=True, exist_ok=True)
    with replaced(made) as part:
        part.write_text(
            yaml.safe_dump(yaml.safe_load(plain.read_text(encoding="utf-8")) | RUNS[name].changes), encoding="utf-8"
        )
    return made

"""`python -m training reproduce mr_only|pelvis`: networks under one budget and split, and the tables that compare them.

Every network is trained to the budget's number of steps on the same patches, exported, evaluated on the same validation
patients, and compared. The command can be interrupted at any time; given again it goes on, and what was finished stays.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from rtuncertainty.bundles import bundle as bundles

from ... import methods
from ...core.config import Config
from ...core.files import replace_text
from ...data.prepare import synthesis
from ...evaluation import slices
from ...evaluation.comparison import compare, store
from ...run import budgeted
from . import claims

FOLDER = Path(__file__).resolve().parent
# the papers' names
TITLES = {
    "m1": "M1",
    "m2a": "M2a",
    "m2b": "M2b",
    "m3": "M3",
    "m4": "M4",
    "1tn-gl": "1TN-GL",
    "1tn-fl": "1TN-FL",
    "2tn": "2TN",
    "3tn": "3TN",
}
# those whose paper has no dropout at inference
SINGLE_PASS = ("1tn-gl", "1tn-fl", "2tn", "3tn")
# the part of the time that evaluation needs
RESERVE = 0.3


@dataclass(frozen=True)
class Study:
    """Networks to compare, the card of their bundles, the folder with `cpu.yaml` and `gpu.yaml`, and whose patients."""

    networks: tuple[str, ...]
    card: str
    budgets: str
    phantom: bool = False


STUDIES = {
    "mr_only": Study(tuple(TITLES), "limb_card.yaml", "."),
    "pelvis": Study(("m1", "m2a", "m2b", "m3", "m4"), "pelvis_card.yaml", "pelvis", phantom=True),
}


def run(
    study_name: str,
    data: Path | None,
    out: Path,
    minutes: float | None = None,
    device: str = "auto",
    only=None,
    budget: Path | None = None,
    fold: int | None = None,
) -> Path:
    """Train what is left to train within `minutes`, evaluate what has been trained, compare; returns the results
    folder.

    `data`: patients, or what prepare wrote; the digital pelves are made where it is None. `only`: train these networks
    alone (two processes may share the work); the comparison takes all that are finished. `budget`: see
    `methods.load`, by default that for the device; its `evaluation` says how: {samples, every}. `fold`: another part of
    the patients validates than the budget's own; all of it then lies in `out`/fold-N, and the networks that were
    evaluated in several folds are compared on the patients of all of them, in `out`/results/folds.
    """
    started = time.monotonic()
    study = STUDIES[study_name]
    budget = budget or budgeted.budget_for(FOLDER / study.budgets, device)
    budgeted.require_known(only, study.networks)
    how = (yaml.safe_load(budget.read_text(encoding="utf-8")) or {}).get("evaluation", {})
    prepared = _prepared(study, data, out)
    if fold is not None:
        out = out / f"fold-{fold}"
        budget = _of_fold(budget, out, fold)
    chosen = [n for n in study.networks if not only or n in only]
    until = None if minutes is None else started + 60 * minutes * (1 - RESERVE)
    budgeted.train_left({n: methods.file_of(n) for n in chosen}, prepared, out, budget, device, until)
    folders = {}
    for name in budgeted.require_finished({n: methods.file_of(n) for n in study.networks}, out, budget):
        if name in chosen:
            budgeted.evaluated(
                out,
                name,
                FOLDER / study.card,
                lambda bundle, folder, name=name: slices.run(
                    prepared, out / "runs" / name, bundle, folder, device=device, **how
                ),
            )
            if name in SINGLE_PASS:
                _single_pass(prepared, out, name, device, how)
        folders |= {t: out / "evaluation" / f for t, f in _evaluations(name).items() if _done(out, f)}
    if not folders:
        raise SystemExit(
            f"{out}: no network has been trained to the end yet; give the command again, with more --minutes."
        )
    missing = [TITLES[n] for n in study.networks if TITLES[n] not in folders]
    print(f"compared: {', '.join(folders)}" + (f"; not finished: {', '.join(missing)}" if missing else ""), flush=True)
    results = out / "results"
    compare.run(folders, results)
    claims.write(folders, results / "claims.md")
    if fold is not None:
        _compare_folds(study, out.parent)
    return results


def _evaluations(name: str) -> dict[str, str]:
    """{title: folder of an evaluation} of a network. Kaushik's have no dropout at inference: their row is one pass, and
    the mean of dropout samples, which tells an uncertainty, stands beside it.
    """
    if name not in SINGLE_PASS:
        return {TITLES[name]: name}
    return {TITLES[name]: f"{name}-pass", f"{TITLES[name]}, mean of samples": name}


def _done(out: Path, folder: str) -> bool:
    return (out / "evaluation" / folder / store.FILE).exists()


def _single_pass(prepared: Path, out: Path, name: str, device: str, how: dict) -> None:
    """Evaluate the bundle of a network by a single pass without dropout, unless that was done for these weights."""
    folder, model = out / "evaluation" / f"{name}-pass", out / "bundles" / name
    if (
        _done(out, folder.name)
        and store.read(folder)["weights_sha256"] == bundles.read_card(model)["weights"]["sha256"]
    ):
        return
    slices.run(prepared, out / "runs" / name, model, folder, device=device, **(how | {"samples": 1}))


def _compare_folds(study: Study, out: Path) -> None:
    """Compare the networks that were evaluated in several folds, each on the patients whom it was not trained on."""
    places = [out, *sorted(out.glob("fold-*"))]
    found = {
        title: [p / "evaluation" / folder for p in places if _done(p, folder)]
        for n in study.networks
        for title, folder in _evaluations(n).items()
    }
    most = max(map(len, found.values()))
    folders = {title: given for title, given in found.items() if len(given) == most > 1}
    if folders:
        results = out / "results" / "folds"
        compare.run(folders, results)
        claims.write(folders, results / "claims.md")
        print(f"compared in {most} folds: {', '.join(folders)}", flush=True)


def _of_fold(budget: Path, out: Path, fold: int) -> Path:
    """The budget with another fold, written into `out`. Raises `SystemExit` for a fold that it does not have."""
    settings = yaml.safe_load(budget.read_text(encoding="utf-8")) or {}
    folds = settings.get("folds", Config.folds)
    if not 0 <= fold < folds:
        raise SystemExit(f"--fold: {fold} is not one of 0 to {folds - 1}, which {budget} divides the patients into.")
    out.mkdir(parents=True, exist_ok=True)
    return replace_text(out / "budget.yaml", yaml.safe_dump(settings | {"fold": fold}))


def _prepared(study: Study, data: Path | None, out: Path) -> Path:
    """The folder of prepared cases, made where it is not there."""
    if data is not None and (data / "prepare.csv").exists():
        return data
    if study.phantom:
        from ...data.prepare import cohort

        cohort.prepare_cohort(out / "prepared")
    elif data is None:
        raise SystemExit("--data is missing: give the folder of the patients, or what prepare wrote.")
    else:
        synthesis.run(data, out / "prepared")
    return out / "prepared"

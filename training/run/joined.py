"""The runs of one cross-fitted study: each was trained without the patients of another fold.

Together they make one bundle, in which every patient of the study is scored by what has not seen him.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import methods
from .folder import is_done

# how long a fold was trained, and from where: may differ where one went on from an earlier run of its own fold
_LENGTH = ("initialise", "steps", "validate_every", "learning_rate", "warm_up", "schedule", "dice_until")


@dataclass(frozen=True)
class Sides:
    """Who trained and who validates, in one run or in all folds of a study (names of cases, in order).

    `folders`: of the runs, in the order of their checkpoints; `of`: the number of the run that each case validates.
    """

    folders: list[Path]
    splits: list[dict]
    of: dict[str, int]

    @property
    def training(self) -> list[str]:
        """All on whom any run was trained; in a study of folds they validate, too."""
        return list(dict.fromkeys(n for s in self.splits for n in s["training"]))

    @property
    def validation(self) -> list[str]:
        """All who are scored."""
        return list(self.of)


def runs(given: Path | Sequence[Path]) -> list[Path]:
    """Run folders in the order of their folds: those given, and those in a given folder that holds runs.

    Raises `SystemExit` where there is none.
    """
    found: list[Path] = []
    for path in [given] if isinstance(given, Path) else given:
        inner = [f for f in (path.iterdir() if path.is_dir() else ()) if (f / "split.json").exists()]
        # a fold that is still being trained is no member yet; one that is named is, and export says what it lacks
        done = [f for f in inner if is_done(f, methods.of_run(f).steps)]
        left = sorted(f.name for f in set(inner) - set(done))
        if left and not (path / "split.json").exists():
            print(f"{path}: not finished, so left out: {', '.join(left)}", flush=True)
        found += [path] if (path / "split.json").exists() else done
    found = list(dict.fromkeys(found))
    if not found:
        raise SystemExit(f"{given}: there is no run that has been trained; train first.")
    return sorted(found, key=lambda f: _split(f).get("fold", 0)) if len(found) > 1 else found


def sides(given: Path | Sequence[Path]) -> Sides:
    """Of one run, or of the folds of one study (`require_together`)."""
    folders = runs(given)
    splits = [_split(f) for f in folders]
    if len(folders) > 1:
        require_together(folders)
    return Sides(folders, splits, {n: k for k, s in enumerate(splits) for n in s["validation"]})


def require_together(folders: Sequence[Path]) -> None:
    """Raise `SystemExit`, naming the first that does not belong, unless the runs are different folds of one study: of
    the same network and settings (but the seed; and how long, where one goes on from another run by `initialise`), and
    of the same images of the same patients, dealt to the same folds.
    """
    first, plain = _split(folders[0]), methods.of_run(folders[0]).plain()
    if not first.get("cross_fit"):
        raise SystemExit(f"{folders[0]}: it is no fold of a cross-fitted study; train with cross_fit: true.")
    used: dict[int, Path] = {}
    validates: dict[str, Path] = {}
    for folder in folders:
        split, config = _split(folder), methods.of_run(folder)
        free = {"fold", "seed", *(_LENGTH if config.initialise or plain.get("initialise") else ())}
        differs = f"{folder} does not belong to {folders[0]}:"
        changed = [
            f"{f.name} is {config.plain()[f.name]}, there {plain.get(f.name)}"
            for f in config.settings()
            if f.metadata["learnt"] and f.name not in free and config.plain()[f.name] != plain.get(f.name)
        ]
        if config.method != methods.of_run(folders[0]).method:
            changed = [f"its method is {config.method}, there {methods.of_run(folders[0]).method}"]
        if not changed and not split.get("cross_fit"):
            changed = ["it is no fold of a cross-fitted study"]
        if not changed and split["fold"] in used:
            changed = [f"both are fold {split['fold']}"]
        others = _others(split["hashes"], first["hashes"])
        if not changed and others:
            changed = [f"other patients, or other images of theirs ({', '.join(others[:5])})"]
        twice = [n for n in split["validation"] if n in validates]
        if not changed and twice:
            changed = [f"{twice[0]} validates {validates[twice[0]]} too; the patients were dealt anew in between"]
        if changed:
            raise SystemExit(f"{differs} {'; '.join(changed)}.")
        used[split["fold"]] = folder
        validates |= dict.fromkeys(split["validation"], folder)


def _others(one: dict[str, list[str]], other: dict[str, list[str]]) -> list[str]:
    """Cases that two splits do not share; an unlabelled scan may stand in one alone, if its patient is in both."""
    every = [{h for hashes in side.values() for h in hashes} for side in (one, other)]
    missing = [n for n in one if not set(one[n]) <= every[1]] + [n for n in other if not set(other[n]) <= every[0]]
    return sorted({*missing, *(n for n in one.keys() & other.keys() if one[n] != other[n])})


def _split(folder: Path) -> dict:
    file = folder / "split.json"
    if not file.exists():
        raise SystemExit(f"{file} is missing: {folder} is no run; train first.")
    return json.loads(file.read_text(encoding="utf-8"))


def entry(folders: Sequence[Path]) -> dict:
    """What a card's `training` says of the folds; nothing of a run that is none."""
    splits = [_split(f) for f in folders]
    if not splits[0].get("cross_fit"):
        return {}
    folds: list[int] = [s["fold"] for s in splits]
    configs = [methods.of_run(f) for f in folders]
    went_on = {
        "went_on": [k for k, c in zip(folds, configs) if c.initialise],
        "steps_of_folds": [c.steps for c in configs],
    }
    return {
        "cross_fit": True,
        "folds": splits[0]["folds"],
        "fold": folds if len(folds) > 1 else folds[0],
        **(went_on if len(folds) > 1 and went_on["went_on"] else {}),
    }

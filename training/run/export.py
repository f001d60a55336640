"""`python -m training export`: a run's weights and all that is known of them, as a bundle."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from rtuncertainty import networks
from rtuncertainty.bundles import bundle
from rtuncertainty.core.ct import WINDOW
from rtuncertainty.core.errors import InputError

from .. import methods
from ..core import provenance
from ..core.config import Config
from . import card as cards
from . import joined
from .folder import is_done, network_state

# weights beyond this many bytes are stored with half precision; they are evaluated as stored
LARGEST_SINGLE = 8_000_000


def run(
    run_folder: Path | Sequence[Path],
    card_file: Path,
    out: Path,
    evaluation: Path | None = None,
    name: str | None = None,
    members: list[Path] = (),
    overwrite: bool = True,
) -> Path:
    """Write `out`/model.json and weights.pt from a run folder and a YAML of what no run can know.

    `run_folder`: of one run, or of the folds of one cross-fitted study (`joined.runs`), each a checkpoint of its own,
    stored with half precision; of one run also those of its `kept_steps` (Bragman 2018, Sec. 3: 18,000 and 19,000).
    `evaluation`: the evaluation.json of these weights; without it the card says "not evaluated". `name` replaces the
    card's. `members`: more run folders of the same network and split, whose weights make an ensemble. `overwrite`:
    also a bundle of another run.
    Raises `SystemExit` when a run has no checkpoint, or a member is of another network or split; where the YAML has
    entries that are still to be filled in; and for a bundle of another run that is not to be overwritten.
    """
    card = cards.read(card_file)
    folders = _trained_together(run_folder)
    run_folder = folders[0]
    state, steps = network_state(run_folder)
    config = methods.of_run(run_folder)
    split = json.loads((run_folder / "split.json").read_text(encoding="utf-8"))
    versions = json.loads((run_folder / "versions.json").read_text(encoding="utf-8"))
    earlier = [network_state(run_folder, k)[0] for k in config.kept_steps if k < steps] if len(folders) == 1 else []
    states = [state, *(network_state(f)[0] for f in folders[1:])]
    states += [_member(folder, config, split) for folder in members] + earlier
    architecture, states = _as_shipped(config, states)
    if len(folders) > 1 or sum(v.numel() for s in states for v in s.values()) * 4 > LARGEST_SINGLE:
        states = [{k: v.half() if v.is_floating_point() else v for k, v in s.items()} for s in states]
    splits = [json.loads((f / "split.json").read_text(encoding="utf-8")) for f in (*folders, *members)]
    splits += [split for _ in earlier]
    identity = _identity_of(folders, splits)
    if not overwrite:
        _require_own(out, identity)
    out.mkdir(parents=True, exist_ok=True)
    weights = out / "weights.pt"
    torch.save({"checkpoints": states}, out / "weights.part")
    os.replace(out / "weights.part", weights)
    network = networks.build(architecture, **config.built_arguments)
    card["name"] = name or card["name"]
    card["architecture"] = {
        "name": architecture,
        "arguments": config.built_arguments,
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    joint = config.method == "elmahdy2021"
    card["outputs"] |= _outputs(network, config)
    if joint and config.hu_window != WINDOW:
        card["input"]["normalisation"] = "HU from {:.0f} to {:.0f}".format(*config.hu_window)
    card["outputs"]["structures"] = _structures(card, config.network, network.classes, card_file)
    where = (
        "whole channels before the heads"
        if joint
        else "last layer of the trunk"
        if hasattr(network, "trunk")
        else "whole channels in every level"
    )
    card["dropout"] = {
        "p": network.dropout,
        "where": getattr(network, "dropped_at", where) if network.dropout else "none",
    }
    card["checkpoints"] = len(states)
    card["training"].update(
        {
            "cases": len({n for s in splits[: len(folders)] for n in s["training"]}),
            "steps": steps,
            "of_steps": config.steps,
            "batch": config.batch,
            "patch": config.plain()["patch"],
            "seed": config.seed,
            "run": identity,
            **({"beta": config.beta} if hasattr(config, "beta") else {}),
            "hardware": versions["device"],
            "torch": versions["torch"],
        }
    )
    seen = provenance.for_card(splits, bundle.sha256(weights)[:32])
    # a run of an earlier version knows names alone
    card["training"].update(
        {"patients": seen} if seen else {"case_names": split["training"], "validation_names": split["validation"]}
    )
    card["training"].update(joined.entry(folders))
    if config.method == "eatonrosen2018":
        card["training"]["method"] = "organs"
    elif config.method == "hasan2021":
        card["training"].update(
            {"method": config.network, "labelled": config.labelled, "parts": config.plain()["parts"]}
        )
    if config.initialise:
        card["training"]["initialised_with"] = Path(config.initialise).name
        card["training"]["steps_before"] = _steps_of(config.initialise)
    card["accuracy"], card["calibration"] = (
        {"cases": "not evaluated", "n": 0, "table": {}},
        {"synct": None, "volumes": None},
    )
    if evaluation:
        _measured(card, evaluation, bundle.sha256(weights))
    card["weights"] = {"file": weights.name, "sha256": bundle.sha256(weights), "bytes": weights.stat().st_size}
    return _written(card, out)


def measured_again(model: Path, evaluation: Path, out: Path, version: str) -> Path:
    """A bundle with the same weights and what an evaluation of them has measured: accuracy, calibration, paths.

    Args:
        model: the bundle.
        evaluation: evaluation.json of its weights, on patients whom they have not seen.
        out: the new bundle's folder; may be that of `model`.
        version: of the new bundle.

    Returns:
        `out`.

    Raises:
        SystemExit: an evaluation of other weights, or of patients who were trained on.
    """
    bundle.read_card(model)
    card = provenance.read_json(model / "model.json")
    weights = model / card["weights"]["file"]
    _measured(card, evaluation, bundle.sha256(weights))
    card["version"] = version
    out.mkdir(parents=True, exist_ok=True)
    if out.resolve() != model.resolve():
        shutil.copyfile(weights, out / weights.name)
    return _written(card, out)


def _measured(card: dict, evaluation: Path, sha256: str) -> None:
    """Put the figures of an evaluation.json into a card. Raises `SystemExit` where it is not of the weights with that
    SHA-256, or of patients whom they have seen.
    """
    found = provenance.read_json(evaluation)
    if found.get("weights_sha256") != sha256:
        raise SystemExit(f"{evaluation} was made with other weights; run 'python -m training evaluate' on this bundle.")
    provenance.require_scored_unseen(evaluation, found, card)
    card["accuracy"], card["calibration"] = found["accuracy"], found["calibration"]
    if found.get("input_statistics"):
        card["input"]["statistics"] = found["input_statistics"]
    for s in card["outputs"].get("structures", []):
        if s["name"] in found.get("paths", {}):
            s["path"] = found["paths"][s["name"]]
        if "not_segmented" in found:
            s.pop("segment", None)
        if s["name"] in found.get("not_segmented", []):
            s["segment"] = False


def _written(card: dict, out: Path) -> Path:
    """Replace the card of the bundle `out`, and read it as a user would; returns `out`."""
    (out / "model.json.part").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(out / "model.json.part", out / "model.json")
    bundle.read_card(out)
    return out


def _trained_together(given: Path | Sequence[Path]) -> list[Path]:
    """`joined.runs`; raises `SystemExit` for a fold that is not of the others' study, and for one that is not trained
    to its end: what it lacks, no calibration would tell.
    """
    folders = joined.runs(given)
    if len(folders) > 1:
        joined.require_together(folders)
        for folder in folders:
            if not is_done(folder, methods.of_run(folder).steps):
                raise SystemExit(f"{folder} is not trained to its end; give its train command again, or leave it out.")
    return folders


def _outputs(network, config: Config) -> dict:
    """The card's outputs besides structures: a deformation, or a synthetic CT, where the network gives one."""
    if config.method == "elmahdy2021":
        deforms = network.registration_heads is not None
        return {"deformation": {"unit": "mm", "bending": config.bending} if deforms else {"given": False}}
    # volumetric networks segment, and nothing else
    if getattr(network, "dimensions", 2) == 2 and "mean" in getattr(network, "outputs", ("mean",)):
        return {"synct": {"unit": "HU", "scale": config.hu_scale, "offset": 0.0}}
    return {}


def _as_shipped(config: Config, states: list[dict]) -> tuple[str, list[dict]]:
    """(network, states) of what predicts: the methods that learn from few labels train more than the V-Net that they
    ship. MT-CTL's ships with the decoders of its maps.
    """
    if config.method != "hasan2021":
        return config.network, states
    architecture = "mt_ctl" if config.network == "mt_ctl" else "vnet"
    kept = networks.build(architecture, **config.built_arguments).state_dict()
    return architecture, [{k: s[k] for k in kept} for s in states]


def _identity_of(folders: Sequence[Path], splits: list[dict]) -> str:
    """`_identity` of a run, or of all folds together."""
    each = [_identity(methods.of_run(f), s) for f, s in zip(folders, splits)]
    return each[0] if len(each) == 1 else hashlib.sha256(" ".join(each).encode()).hexdigest()[:16]


def _identity(config: Config, split: dict) -> str:
    """Tells a run by its settings and patients; the same for a run that was cut and resumed, or done again."""
    learnt = {f.name: config.plain()[f.name] for f in config.settings() if f.metadata["learnt"]}
    entry = json.dumps([learnt, split["training"], split["validation"], split.get("hashes")], sort_keys=True)
    return hashlib.sha256(entry.encode()).hexdigest()[:16]


def _require_own(out: Path, identity: str) -> None:
    """Raise `SystemExit` where `out` holds the bundle of another run."""
    if not (out / "model.json").exists():
        return
    card = provenance.read_json(out / "model.json")
    if card.get("training", {}).get("run") != identity:
        which = f"{card.get('name', 'a bundle')} {card.get('version', '')}".strip()
        raise SystemExit(f"{out} holds {which}, of another run; choose another --out, or say --force to replace it.")


def _steps_of(model: str) -> int | None:
    """Steps of the weights of a bundle (a name or a folder), with those that they began with; None where the bundle
    is gone.
    """
    try:
        entry = bundle.read_card(bundle.find(model))["training"]
    except InputError:
        return None
    return entry["steps"] + (entry.get("steps_before") or 0)


def _structures(card: dict, network: str, classes: int, card_file: Path) -> list[dict]:
    """The card's structures as far as the network knows them; `structures_of` in the YAML has those of one network."""
    found = (
        card["outputs"].pop("structures_of", {}).get(network, card["outputs"].get("structures", [])) if classes else []
    )
    card["outputs"].pop("structures_of", None)
    if len(found) != max(0, classes - 1):
        raise SystemExit(
            f"{card_file}: it names {len(found)} structures for {network}, which knows {max(0, classes - 1)}."
        )
    return found


def _member(folder: Path, config: Config, split: dict) -> dict:
    """The weights of another run of the ensemble, which must be alike but for its seed."""
    ours, other = config.plain(), methods.of_run(folder).plain()
    for key in ("network", "arguments", "hu_scale"):
        if other.get(key) != ours.get(key):
            raise SystemExit(
                f"{folder}: its {key} is {other.get(key)}, that of the first run {ours.get(key)}; an ensemble is of "
                "one network."
            )
    theirs = json.loads((folder / "split.json").read_text(encoding="utf-8"))
    trained = {h for n in theirs["training"] for h in theirs.get("hashes", {}).get(n, [])}
    if set(theirs["training"]) & set(split["validation"]) or any(
        trained & set(split.get("hashes", {}).get(n, [])) for n in split["validation"]
    ):
        raise SystemExit(f"{folder}: it was trained on patients whom the first run validates on; use one split.")
    return network_state(folder)[0]

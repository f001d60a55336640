"""`python -m training export`: a run's weights and all that is known of them, as a bundle."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
import yaml

from rtbackend import bundle

# weights beyond this many bytes are stored with half precision; they are evaluated as stored
LARGEST_SINGLE = 8_000_000


def run(run_folder: Path, card_file: Path, out: Path, evaluation: Path | None = None) -> Path:
    """Write `out`/model.json and weights.pt from a run folder and a YAML of what no run can know.

    `evaluation`: the evaluation.json of these weights; without it the card says "not evaluated".
    Raises `SystemExit` when the run has no checkpoint.
    """
    last = run_folder / "checkpoints" / "last.ckpt"
    if not last.exists():
        raise SystemExit(f"{last} is missing: train first.")
    stored = torch.load(last, map_location="cpu", weights_only=False)
    hyper = yaml.safe_load((run_folder / "config.yaml").read_text(encoding="utf-8"))
    split = json.loads((run_folder / "split.json").read_text(encoding="utf-8"))
    versions = json.loads((run_folder / "versions.json").read_text(encoding="utf-8"))
    state = {k.removeprefix("network."): v.contiguous() for k, v in stored["state_dict"].items() if k.startswith("network.")}
    if sum(v.numel() for v in state.values()) * 4 > LARGEST_SINGLE:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    card = yaml.safe_load(card_file.read_text(encoding="utf-8"))
    out.mkdir(parents=True, exist_ok=True)
    weights = out / "weights.pt"
    torch.save({"checkpoints": [state]}, out / "weights.part")
    os.replace(out / "weights.part", weights)
    card["architecture"] = {"name": hyper["network"], "arguments": hyper["arguments"],
                            "parameters": sum(v.numel() for k, v in state.items()
                                              if not k.endswith(("running_mean", "running_var", "num_batches_tracked")))}
    card["outputs"]["synct"] = {"unit": "HU", "scale": hyper["hu_scale"], "offset": 0.0}
    card["dropout"] = {"p": 0.5, "where": "last layer of the trunk"}
    card["checkpoints"] = 1
    card["training"].update({
        "cases": len(split["training"]), "case_names": split["training"], "validation_names": split["validation"],
        "steps": stored["global_step"], "of_steps": hyper["steps"], "batch": hyper["batch"], "patch": hyper["patch"],
        "seed": hyper["seed"], "beta": hyper["beta"], "hardware": versions["device"], "torch": versions["torch"],
    })
    card["accuracy"], card["calibration"] = {"cases": "not evaluated", "n": 0, "table": {}}, {"synct": None, "volumes": None}
    if evaluation:
        found = json.loads(evaluation.read_text(encoding="utf-8"))
        if found["weights_sha256"] != bundle.sha256(weights):
            raise SystemExit(f"{evaluation} was made with other weights; run 'python -m training evaluate' on this bundle.")
        card["accuracy"], card["calibration"] = found["accuracy"], found["calibration"]
    card["weights"] = {"file": weights.name, "sha256": bundle.sha256(weights), "bytes": weights.stat().st_size}
    (out / "model.json.part").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(out / "model.json.part", out / "model.json")
    bundle.read_card(out)
    return out

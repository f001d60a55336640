"""A small bundle with random but steady weights, for tests: it has learnt nothing."""

import json
from pathlib import Path

import torch

from rtuncertainty import networks
from rtuncertainty.bundles import bundle

ARGUMENTS = {"classes": 3, "width": 4, "features": 8, "branch_width": 4}


def make_bundle(folder: Path, name="test-synct", network="m4", arguments=None, **changes) -> Path:
    """Write model.json and weights.pt of `network` into `folder`; `changes` replace entries of the card."""
    arguments = ARGUMENTS if arguments is None else arguments
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    built = networks.build(network, **arguments).train()
    for _ in range(4):
        built(torch.randn(2, 1, 32, 32))
    torch.save({"checkpoints": [built.state_dict()]}, folder / "weights.pt")
    card = {
        "format": 1,
        "name": name,
        "version": "0.0.1",
        "title": "Untrained network for tests",
        "task": "synthetic CT and segmentation",
        "architecture": {"name": network, "arguments": arguments},
        "input": {
            "modality": "MR",
            "sequence": "T1-weighted",
            "region": "limb",
            "spacing_mm": [2.0, 2.0, None],
            "spacing_range_mm": [[0.4, 0.4, 1.0], [2.5, 2.5, 6.0]],
            "minimum_size": [8, 8, 2],
            "field_of_view_mm": [[20, 20, 10], [500, 500, 600]],
            "normalisation": "z-score in the body",
            "bias_field": "auto",
        },
        "outputs": {
            "synct": {"unit": "HU", "scale": 200.0, "offset": 0.0},
            "structures": [
                {
                    "name": "bone",
                    "label": 1,
                    "color": [241, 214, 145],
                    "code": {"scheme": "SCT", "value": "272673000", "meaning": "Bone"},
                },
                {
                    "name": "gtv",
                    "label": 2,
                    "color": [221, 40, 60],
                    "code": {"scheme": "SCT", "value": "4147007", "meaning": "Mass"},
                },
            ],
        },
        "dropout": {"p": 0.5, "where": "last layer of the trunk"},
        "checkpoints": 1,
        "training": {"data": "none", "cases": 0, "licence": "Apache-2.0", "citation": "none", "phantom": False},
        "accuracy": {"cases": "not evaluated", "n": 0, "table": {}},
        "calibration": {"synct": None, "volumes": None},
        "intended_use": "Tests only.",
        "licence": "Apache-2.0",
        "weights": {
            "file": "weights.pt",
            "sha256": bundle.sha256(folder / "weights.pt"),
            "bytes": (folder / "weights.pt").stat().st_size,
        },
    }
    card.update(changes)
    (folder / "model.json").write_text(json.dumps(card), encoding="utf-8")
    return folder

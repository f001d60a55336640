"""The cards of models for tests: a prediction and a propagation."""

CARD = {
    "format": 1,
    "name": "test-model",
    "version": "0.1.0",
    "title": "Limb T1 MR to synthetic CT, bone and tumour",
    "task": "synthetic CT and segmentation",
    "architecture": {"name": "m4", "arguments": {}},
    "input": {
        "modality": "MR",
        "sequence": "T1-weighted",
        "region": "limb (thigh, knee, lower leg, hip)",
        "spacing_mm": [1.0, 1.0, None],
        "spacing_range_mm": [[0.5, 0.5, 1.0], [1.6, 1.6, 6.0]],
        "minimum_size": [16, 16, 1],
        "field_of_view_mm": [[20, 20, 20], [500, 500, 600]],
        "normalisation": "z-score in body",
        "bias_field": "auto",
    },
    "outputs": {
        "synct": {"unit": "HU", "scale": 1000.0, "offset": 0.0},
        "structures": [
            {"name": "bone", "label": 1, "color": [241, 214, 145]},
            {"name": "gtv", "label": 2, "color": [216, 84, 79]},
        ],
    },
    "dropout": {"p": 0.5, "where": "last trunk layer"},
    "checkpoints": 1,
    "training": {
        "data": "Soft-tissue-Sarcoma (TCIA)",
        "cases": 22,
        "licence": "CC BY 3.0",
        "citation": "Vallières 2015",
        "phantom": False,
        "hardware": "1 GPU",
        "minutes": 30,
    },
    "accuracy": {
        "cases": "held-out patients",
        "n": 5,
        "table": {"MAE body (HU)": 61.234, "MAE bone (HU)": 182.0, "Dice bone": 0.83},
    },
    "calibration": {"synct": {"z_mean": 0.03, "z_sd": 1.21, "n": 5}, "volumes": None},
    "intended_use": "Research use only. Not for clinical decisions.",
    "licence": "Apache-2.0",
    "weights": {"file": "weights.pt", "sha256": "0" * 64, "bytes": 1},
}

PROPAGATION_CARD = {
    **CARD,
    "name": "test-propagation",
    "title": "Head and neck, planning to daily CT",
    "task": "registration and segmentation",
    "architecture": {"name": "sedd", "arguments": {}},
    "input": {
        "modality": "CT",
        "region": "head and neck",
        "spacing_mm": [3.0, 3.0, 4.0],
        "spacing_range_mm": [[0.5, 0.5, 1.0], [4.5, 4.5, 5.0]],
        "minimum_size": [16, 16, 8],
        "field_of_view_mm": [[20, 20, 20], [600, 600, 600]],
        "normalisation": "HU / 500",
    },
    "outputs": {
        "deformation": {
            "unit": "mm",
            "limits": {"amber": {"msd_mm": 2.0, "dice": 0.8}, "red": {"msd_mm": 3.0, "dice": 0.65}},
        },
        "structures": [
            {"name": n, "label": i + 1, "color": [60 * i, 120, 200]}
            for i, n in enumerate(("Brainstem", "SpinalCord", "Parotid_L", "Parotid_R"))
        ],
    },
    "training": {**CARD["training"], "data": "OpenKBP", "licence": "MIT", "citation": "Babier 2021"},
    "accuracy": {"cases": "held-out patients", "n": 5, "table": {"Dice Parotid_L": 0.84}},
    "calibration": {},
}

"""The card of a model for tests."""

CARD = {
    "format": 1, "name": "test-model", "version": "0.1.0", "title": "Limb T1 MR to synthetic CT, bone and tumour",
    "task": "synthetic CT and segmentation", "architecture": {"name": "m4", "arguments": {}},
    "input": {"modality": "MR", "sequence": "T1-weighted", "region": "limb (thigh, knee, lower leg, hip)",
              "spacing_mm": [1.0, 1.0, None], "spacing_range_mm": [[0.5, 0.5, 1.0], [1.6, 1.6, 6.0]],
              "minimum_size": [16, 16, 1], "field_of_view_mm": [[20, 20, 20], [500, 500, 600]],
              "normalisation": "z-score in body", "bias_field": "auto"},
    "outputs": {"synct": {"unit": "HU", "scale": 1000.0, "offset": 0.0},
                "structures": [{"name": "bone", "label": 1}, {"name": "gtv", "label": 2}]},
    "dropout": {"p": 0.5, "where": "last trunk layer"}, "checkpoints": 1,
    "training": {"data": "Soft-tissue-Sarcoma (TCIA)", "cases": 22, "licence": "CC BY 3.0", "citation": "Vallières 2015",
                 "phantom": False, "hardware": "1 GPU", "minutes": 30},
    "accuracy": {"cases": "held-out patients", "n": 5,
                 "table": {"MAE body (HU)": 61.234, "MAE bone (HU)": 182.0, "Dice bone": 0.83}},
    "calibration": {"synct": {"z_mean": 0.03, "z_sd": 1.21, "n": 5}, "volumes": None},
    "intended_use": "Research use only. Not for clinical decisions.", "licence": "Apache-2.0",
    "weights": {"file": "weights.pt", "sha256": "0" * 64, "bytes": 1},
}

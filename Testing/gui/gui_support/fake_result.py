"""A small result folder as `python -m rtuncertainty predict` writes it."""

import csv
import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

STRUCTURES = [
    {
        "name": "bone",
        "label": 1,
        "color": [241, 214, 145],
        "code": {"scheme": "SCT", "value": "272673000", "meaning": "Bone"},
    },
    {
        "name": "gtv",
        "label": 2,
        "color": [216, 84, 79],
        "code": {"scheme": "SCT", "value": "86049000", "meaning": "Neoplasm, Primary"},
    },
]


def write_result(folder, source, reference=False, report=False) -> Path:
    """Write a result on the grid of the image `source`; returns the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    grid = sitk.ReadImage(str(source))
    shape = grid.GetSize()[::-1]
    rng = np.random.default_rng(0)

    def save(name, array, dtype=np.float32):
        image = sitk.GetImageFromArray(np.ascontiguousarray(array, dtype))
        image.CopyInformation(grid)
        sitk.WriteImage(image, str(folder / name))
        return name

    files = {"synct": save("synct.nii.gz", rng.normal(0, 50, shape), np.int16)}
    for kind in ("intrinsic", "parameter", "predictive"):
        files[f"{kind}_sd"] = save(f"synct_{kind}_sd.nii.gz", rng.uniform(0, 120, shape))
    labels = np.zeros(shape, np.uint8)
    labels[2:-2, 4:10, 4:10], labels[2:-2, 12:16, 12:16] = 1, 2
    files["structures"] = _segmentation(folder / "structures.seg.nrrd", labels, grid)
    files["entropy"] = save("structures_entropy.nii.gz", rng.uniform(0, 1, shape))
    files["mutual_information"] = save("structures_mutual_information.nii.gz", rng.uniform(0, 0.3, shape))
    files["probabilities"] = {
        s["name"]: save(f"probability_{s['name']}.nii.gz", labels == s["label"]) for s in STRUCTURES
    }
    files["body"] = save("body.nii.gz", np.ones(shape), np.uint8)
    files["volumes"] = _table(
        folder / "volumes.csv",
        "structure volume_ml lower_ml upper_ml level calibrated",
        [["bone", 212.4, 198.0, 230.9, 0.9, "no"], ["gtv", 48.7, 39.2, 61.5, 0.9, "no"]],
    )
    files["flags"] = _table(
        folder / "flags.csv",
        "subject severity flag reason",
        [
            ["gtv", "serious", "wide interval", "The 90 % interval of the volume spans 46 % of it."],
            ["input", "warning", "few slices", "The field of view is shorter than any in training."],
            ["synCT", "info", "not calibrated", "The SD of the synthetic CT was not checked against errors."],
        ],
    )
    if reference:
        files["reference"] = save("reference_ct.nii.gz", rng.normal(0, 60, shape), np.int16)
        files["error"] = save("error.nii.gz", rng.normal(0, 60, shape))
        files["zscore"] = save("zscore.nii.gz", rng.normal(0, 1, shape))
        files["metrics"] = _table(folder / "metrics.csv", "region metric value unit", [["body", "MAE", 61.2, "HU"]])
    if report:
        (folder / "report.html").write_text("<p>Report</p>", encoding="utf-8")
    summary = {
        "format": 1,
        "job": "predict",
        "name": f"test-model on {Path(source).stem}",
        "created": "2026-01-01T00:00:00",
        "input": {
            "path": str(source),
            "name": Path(source).stem,
            "size": list(grid.GetSize()),
            "spacing_mm": list(grid.GetSpacing()),
        },
        "model": {"name": "test-model"},
        "options": {},
        "device_used": "cpu",
        "bias_field_corrected": False,
        "notes": [],
        "level": 0.9,
        "files": files,
        "structures": STRUCTURES,
        "seconds": {},
        "versions": {},
    }
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder


def _table(path, columns, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns.split(), *rows])
    return path.name


def _segmentation(path, labels, grid):
    image = sitk.GetImageFromArray(labels)
    image.CopyInformation(grid)
    for index, structure in enumerate(STRUCTURES):
        prefix, code = f"Segment{index}_", structure["code"]
        category = "Segmentation category and type - 3D Slicer General Anatomy list"
        named = f"{code['scheme']}^{code['value']}^{code['meaning']}"
        tags = f"TerminologyEntry:{category}~SCT^85756007^Tissue~{named}~^^~~^^~^^|"
        values = {
            "ID": structure["name"],
            "Name": structure["name"],
            "LabelValue": structure["label"],
            "Layer": 0,
            "Color": " ".join(f"{c / 255:.4f}" for c in structure["color"]),
            "Tags": tags,
            "Extent": "0 {} 0 {} 0 {}".format(*(n - 1 for n in grid.GetSize())),
        }
        for key, value in values.items():
            image.SetMetaData(prefix + key, str(value))
    sitk.WriteImage(image, str(path))
    return path.name

"""A small result folder as `rtuncertainty predict` writes it, made with SimpleITK and numpy alone."""

from __future__ import annotations

import json
import math
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
        "color": [144, 238, 144],
        "code": {
            "scheme": "SCT",
            "value": "108369006",
            "meaning": "Neoplasm",
            "category": {"scheme": "SCT", "value": "49755003", "meaning": "Morphologically Altered Structure"},
        },
    },
]
SIZE = (36, 30, 14)
SPACING = (1.2, 1.5, 4.0)
ORIGIN = (-35.5, 12.25, 410.75)
NAMES = {
    "synct": "synct.nii.gz",
    "intrinsic_sd": "synct_intrinsic_sd.nii.gz",
    "parameter_sd": "synct_parameter_sd.nii.gz",
    "predictive_sd": "synct_predictive_sd.nii.gz",
    "entropy": "structures_entropy.nii.gz",
    "mutual_information": "structures_mutual_information.nii.gz",
    "body": "body.nii.gz",
}
WITH_REFERENCE = {"reference": "reference_ct.nii.gz", "error": "error.nii.gz", "zscore": "zscore.nii.gz"}


def oblique() -> np.ndarray:
    """A rotation of 20 degrees about z and then 10 about x: no axis along the body."""
    a, b = math.radians(20.0), math.radians(10.0)
    about_z = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    return about_x @ about_z


def image(array: np.ndarray, direction: np.ndarray) -> sitk.Image:
    """An image (z, y, x) on the test's grid."""
    result = sitk.GetImageFromArray(array)
    result.SetSpacing(SPACING)
    result.SetOrigin(ORIGIN)
    result.SetDirection(np.asarray(direction, dtype=float).ravel().tolist())
    return result


def labels() -> np.ndarray:
    """A shaft of bone (1) and a tumour (2) beside it, uint8 (z, y, x); neither lies in the middle."""
    z, y, x = np.mgrid[0 : SIZE[2], 0 : SIZE[1], 0 : SIZE[0]].astype(float)
    result = np.zeros(z.shape, np.uint8)
    result[(x - 12) ** 2 + (y - 10) ** 2 < 16] = 1
    result[((x - 25) / 5) ** 2 + ((y - 20) / 5) ** 2 + ((z - 5) / 3) ** 2 < 1] = 2
    return result


def make_result(folder, reference: bool = False, direction: np.ndarray | None = None, name: str = "mr") -> Path:
    """Write the folder and return it. With `reference` it has error, z-score and metrics. Direction: oblique by
    default.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    direction = oblique() if direction is None else direction
    random = np.random.default_rng(3)
    label = labels()
    z, y, x = np.mgrid[0 : SIZE[2], 0 : SIZE[1], 0 : SIZE[0]].astype(np.float32)
    body = (((x - 18) / 17) ** 2 + ((y - 15) / 14) ** 2 < 1).astype(np.uint8)
    ct = np.where(body > 0, 40.0, -1000.0) + 900.0 * (label == 1)
    intrinsic = (body * (20.0 + 80.0 * (label == 1) + 2.0 * x)).astype(np.float32)
    parameter = (body * (5.0 + y)).astype(np.float32)
    predictive = np.sqrt(intrinsic**2 + parameter**2)
    zscore = (body * random.normal(size=body.shape)).astype(np.float32)
    probability = {s["name"]: (0.9 * (label == s["label"]) + 0.05).astype(np.float32) for s in STRUCTURES}
    background = 1.0 - sum(probability.values())
    entropy = -sum(p * np.log(np.clip(p, 1e-6, 1.0)) for p in (*probability.values(), background)).astype(np.float32)
    arrays = {
        "synct": (ct + 0.2 * zscore * predictive).astype(np.int16),
        "intrinsic_sd": intrinsic,
        "parameter_sd": parameter,
        "predictive_sd": predictive,
        "entropy": entropy,
        "mutual_information": 0.2 * entropy,
        "body": body,
        "reference": ct.astype(np.int16),
        "error": (zscore * predictive).astype(np.float32),
        "zscore": zscore,
    }
    files: dict = dict(NAMES, **(WITH_REFERENCE if reference else {}))
    for key, file in files.items():
        sitk.WriteImage(image(arrays[key], direction), str(folder / file), True)
    files["probabilities"] = {n: f"probability_{n}.nii.gz" for n in probability}
    for structure, file in files["probabilities"].items():
        sitk.WriteImage(image(probability[structure], direction), str(folder / file), True)
    files["structures"] = "structures.seg.nrrd"
    _write_segmentation(image(label, direction), folder / files["structures"])
    _write_tables(folder, files, reference)
    summary = {
        "format": 1,
        "job": "predict",
        "name": f"limb-t1-synct on {name}",
        "created": "2026-01-31T10:00:00+01:00",
        "input": {"path": f"{name}.nii.gz", "name": name, "size": list(SIZE), "spacing_mm": list(SPACING)},
        "model": {"name": "limb-t1-synct"},
        "options": {"samples": 20, "seed": 0},
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


def make_input(folder, direction: np.ndarray | None = None) -> Path:
    """The image that the result is of, as a file."""
    file = Path(folder) / "mr.nii.gz"
    array = np.random.default_rng(4).integers(0, 900, SIZE[::-1]).astype(np.int16)
    sitk.WriteImage(image(array, oblique() if direction is None else direction), str(file), True)
    return file


def _write_segmentation(image: sitk.Image, file: Path) -> None:
    """The label image with the header that Slicer gives a segmentation."""
    image.SetMetaData("Segmentation_MasterRepresentation", "Binary labelmap")
    image.SetMetaData("Segmentation_ContainedRepresentationNames", "Binary labelmap|")
    image.SetMetaData("Segmentation_ReferenceImageExtentOffset", "0 0 0")
    for index, structure in enumerate(STRUCTURES):
        where = np.nonzero(sitk.GetArrayViewFromImage(image) == structure["label"])
        extent = [v for axis in (2, 1, 0) for v in (int(where[axis].min()), int(where[axis].max()))]
        for key, value in {
            "ID": structure["name"],
            "Name": structure["name"],
            "NameAutoGenerated": "0",
            "Color": " ".join(str(c / 255) for c in structure["color"]),
            "ColorAutoGenerated": "0",
            "LabelValue": str(structure["label"]),
            "Layer": "0",
            "Extent": " ".join(map(str, extent)),
            "Tags": " ",
        }.items():
            image.SetMetaData(f"Segment{index}_{key}", value)
    sitk.WriteImage(image, str(file), True)


def _write_tables(folder: Path, files: dict, reference: bool) -> None:
    """volumes.csv, flags.csv and, with a reference, metrics.csv."""
    files["volumes"], files["flags"] = "volumes.csv", "flags.csv"
    (folder / "volumes.csv").write_text(
        "structure,volume_ml,lower_ml,upper_ml,level,calibrated\nbone,4.93,4.71,5.2,0.9,no\ngtv,2.2,,,0.9,no\n",
        encoding="utf-8",
    )
    (folder / "flags.csv").write_text(
        'subject,severity,flag,reason\nsynCT,warning,not calibrated,"never calibrated, so intervals may be too '
        'narrow"\n',
        encoding="utf-8",
    )
    if reference:
        files["metrics"] = "metrics.csv"
        (folder / "metrics.csv").write_text("region,metric,value,unit\nbody,MAE,41.5,HU\n", encoding="utf-8")

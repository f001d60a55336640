"""The files that a review reads, added to a small result folder, and a result of many structures.

Nested contours of a probability p hold the voxels of p > 1 − q, all voxels together; every number is measured on them.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rtuncertainty.uncertainty.volume_calibration import NEVER_CALIBRATED

PERCENTILES = (0.5, 1, 2.5, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 97.5, 99, 99.5)
LEVELS = (0.5, 0.68, 0.8, 0.9, 0.95)


def add_review_files(folder, calibrated: bool = True, sd_mm: float = 2.0) -> Path:
    """Write distribution, intervals, quality and inside images beside the files of a result, and name them in its
    summary.

    A prediction has probabilities; of a propagation they are those of a surface whose position has an SD of `sd_mm`.
    Calibrated intervals are one and a half times as wide as the distribution; what is not calibrated has none.
    """
    folder = Path(folder)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    files = summary["files"]
    tables: dict[str, list] = {"volume_distribution": [], "volume_intervals": [], "quality": []}
    files["inside"] = {}
    for name, probability in _probabilities(folder, files, sd_mm).items():
        percent = np.rint(100 * sitk.GetArrayFromImage(probability)).astype(np.uint8)
        ml = float(np.prod(probability.GetSpacing())) / 1000
        files["inside"][name] = f"inside_{name}.nii.gz"
        image = sitk.GetImageFromArray(percent)
        image.CopyInformation(probability)
        sitk.WriteImage(image, str(folder / files["inside"][name]), True)
        _rows(name, percent, ml, calibrated, tables)
    for key, rows in tables.items():
        files[key] = "structure_quality.csv" if key == "quality" else f"{key}.csv"
        with open(folder / files[key], "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder


def _probabilities(folder: Path, files: dict, sd_mm: float) -> dict[str, sitk.Image]:
    if files.get("probabilities"):
        return {name: sitk.ReadImage(str(folder / file)) for name, file in files["probabilities"].items()}
    from scipy.stats import norm

    from rtuncertainty.core import structure_set

    found = {}
    for name, structure in structure_set.read(folder / files["propagated"]).items():
        signed = sitk.SignedMaurerDistanceMap(
            structure.mask, insideIsPositive=True, squaredDistance=False, useImageSpacing=True
        )
        image = sitk.GetImageFromArray(norm.cdf(sitk.GetArrayFromImage(signed) / sd_mm))
        image.CopyInformation(structure.mask)
        found[name] = image
    return found


def _rows(name: str, percent: np.ndarray, ml: float, calibrated: bool, tables: dict) -> None:
    """The rows of a structure, counted on its nested contours."""
    counts = np.bincount(percent.ravel(), minlength=101)
    labelled = percent > 50
    within = np.bincount(percent[labelled], minlength=101)

    def volume(q, of=counts):
        return float(of[int(np.floor(100 - q + 1e-9)) + 1 :].sum()) * ml

    middle = volume(50)
    for q in PERCENTILES:
        tables["volume_distribution"].append(
            {
                "structure": name,
                "percentile": q,
                "volume_ml": round(volume(q), 3),
                "calibrated_ml": round(middle + 1.5 * (volume(q) - middle), 3) if calibrated else "",
            }
        )
    for level in LEVELS:
        lower, upper = (volume(50 + s * 50 * level) for s in (-1, 1))
        few = calibrated and level == 0.95
        tables["volume_intervals"].append(
            {
                "structure": name,
                "level": level,
                "lower_ml": round(max(middle + 1.5 * (lower - middle), 0), 3) if calibrated and not few else "",
                "upper_ml": round(middle + 1.5 * (upper - middle), 3) if calibrated and not few else "",
                "calibrated": "yes" if calibrated and not few else "no",
                "cases": 28 if calibrated else 0,
                "note": "too few cases for 95 %" if few else "" if calibrated else NEVER_CALIBRATED,
            }
        )
    qs = np.linspace(0.5, 99.5, 100)
    dice = np.array([2 * volume(q, within) / (volume(q) + middle) if middle else 0 for q in qs])
    surface = labelled & ~sitk.GetArrayViewFromImage(
        sitk.BinaryErode(sitk.GetImageFromArray(labelled.astype(np.uint8)), [1, 1, 1])
    ).astype(bool)
    p = np.clip(percent[surface] / 100, 1e-6, 1 - 1e-6)
    tables["quality"].append(
        {
            "structure": name,
            "expected_dice": round(float(dice.mean()), 4),
            "dice_lower": round(float(np.percentile(dice, 5)), 4),
            "dice_upper": round(float(np.percentile(dice, 95)), 4),
            "calibrated": "yes" if calibrated else "no",
            "surface_entropy": round(float(-(p * np.log(p) + (1 - p) * np.log(1 - p)).mean()), 4) if p.size else "",
        }
    )


def make_large(folder, structures: int = 20, size=(256, 256, 80), seed: int = 0, prefix: str = "organ") -> Path:
    """A prediction of many structures with all its files: blurred balls of different sharpness in a body of tissue."""
    from rtuncertainty.core.segmentation_file import with_segments

    folder, random = Path(folder), np.random.default_rng(seed)
    folder.mkdir(parents=True)
    spacing, shape = (0.98, 0.98, 3.0), size[::-1]
    z, y, x = (np.arange(n, dtype=np.float32) for n in shape)
    z, y, x = z[:, None, None], y[None, :, None], x[None, None, :]
    body = np.broadcast_to(
        ((x - size[0] / 2) / (0.46 * size[0])) ** 2 + ((y - size[1] / 2) / (0.4 * size[1])) ** 2 < 1, shape
    )
    best, labels, total, doubt = (
        np.full(shape, 0.5, np.float32),
        np.zeros(shape, np.uint8),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
    )
    known, files = [], {"probabilities": {}}

    def save(key, array, name=None):
        image = sitk.GetImageFromArray(np.ascontiguousarray(array))
        image.SetSpacing(spacing)
        sitk.WriteImage(image, str(folder / f"{name or key}.nii.gz"), True)
        return f"{name or key}.nii.gz"

    columns = int(np.ceil(np.sqrt(structures)))
    for index in range(structures):
        name = f"{prefix}_{index + 1:02d}"
        centre = [
            size[0] * (0.18 + 0.64 * (index % columns + 0.5) / columns),
            size[1] * (0.22 + 0.56 * (index // columns + 0.5) / columns),
            size[2] * random.uniform(0.3, 0.7),
        ]
        radius, soft = random.uniform(8, 14), random.uniform(0.6, 4.0)
        distance = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (3 * (z - centre[2])) ** 2)
        p = (1 / (1 + np.exp(np.clip((distance - radius) / soft, -30, 30)))).astype(np.float32)
        p[p < 1e-3] = 0
        total += p
        doubt -= p * np.log(np.maximum(p, 1e-6))
        labels[p > best] = index + 1
        np.maximum(best, p, out=best)
        files["probabilities"][name] = save(f"probability_{name}", p)
        color = [int(c) for c in 80 + 175 * np.abs(np.sin(index * np.array([1.0, 1.7, 2.3]) + 0.5))]
        known.append({"name": name, "label": index + 1, "color": color, "code": None})
    rest = np.clip(1 - total, 1e-6, 1)
    doubt -= rest * np.log(rest)
    sd = body * (15 + 200 * doubt + 5 * random.standard_normal(shape)).astype(np.float32)
    files["synct"] = save("synct", np.where(body, 40 + 300 * (labels > 0), -1000).astype(np.int16))
    for key in ("intrinsic_sd", "parameter_sd", "predictive_sd"):
        files[key] = save(
            key,
            (np.abs(sd) * {"intrinsic_sd": 0.8, "parameter_sd": 0.6, "predictive_sd": 1.0}[key]).astype(np.float32),
            f"synct_{key}",
        )
    files["entropy"], files["mutual_information"] = (
        save("entropy", doubt),
        save("mutual_information", (0.3 * doubt).astype(np.float32)),
    )
    files["body"] = save("body", body.astype(np.uint8))
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing(spacing)
    files["structures"] = "structures.seg.nrrd"
    sitk.WriteImage(with_segments(image, known), str(folder / files["structures"]), True)
    ml = float(np.prod(spacing)) / 1000
    counts = np.bincount(labels.ravel(), minlength=structures + 1)[1:] * ml
    lines = [f"{s['name']},{v:.3f},{0.9 * v:.3f},{1.1 * v:.3f},0.9,no" for s, v in zip(known, counts)]
    files["volumes"], files["flags"] = "volumes.csv", "flags.csv"
    (folder / "volumes.csv").write_text(
        "\n".join(["structure,volume_ml,lower_ml,upper_ml,level,calibrated", *lines, ""]), encoding="utf-8"
    )
    (folder / "flags.csv").write_text(
        "subject,severity,flag,reason\n"
        f"{prefix}_03,warning,uncertain volume,The 90 % interval spans 61 % of the volume.\n"
        f"{prefix}_07,serious,not found,No voxel is likely.\n",
        encoding="utf-8",
    )
    summary = {
        "format": 1,
        "job": "predict",
        "name": "many-organs on ct",
        "created": "2026-01-31T10:00:00+01:00",
        "input": {"path": "ct.nii.gz", "name": "ct", "size": list(size), "spacing_mm": list(spacing)},
        "model": {"name": "many-organs"},
        "options": {"samples": 20, "seed": 0},
        "notes": [],
        "level": 0.9,
        "files": files,
        "structures": known,
    }
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return add_review_files(folder)

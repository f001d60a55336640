"""`python -m training evaluate`: a bundle against simple baselines on the validation patients, per patient.

Scores are taken on the prepared grid, in the body where MR and CT were both measured, with the code that predicts.
Writes evaluation.md, evaluation.csv, evaluation.json (for the card) and one picture per patient.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from rtbackend import bundle, inference
from rtbackend.events import Progress
from rtbackend.structures import tidy_labels

from .baselines import MonotoneMap
from .prepare import BONE_HU, LABELS, Case, load_case

METHODS = ("ours", "monotone map", "body = 0 HU")


def mae(prediction, ct, region) -> float:
    """Mean absolute error in HU in a region (bool, same shape); NaN where it is empty."""
    return float(np.abs(prediction - ct)[region].mean()) if region.any() else float("nan")


def dice(a, b) -> float:
    """Dice of two bool arrays; NaN where both are empty."""
    total = a.sum() + b.sum()
    return float(2 * (a & b).sum() / total) if total else float("nan")


def predict_case(networks, card, case: Case, samples: int, seed: int = 0, device: str = "cpu") -> dict:
    """synCT (HU), predictive sd (HU), labels and probabilities [K, z, y, x] of a prepared case."""
    statistics, _, _ = inference.run(networks, case.mr, samples, seed, inference.choose_device(device), Progress())
    scale, offset = card["outputs"]["synct"]["scale"], card["outputs"]["synct"]["offset"]
    probability = statistics.probability.numpy().swapaxes(0, 1)
    intrinsic, parameter = (v.numpy()[:, 0] * scale**2 for v in (statistics.intrinsic, statistics.parameter))
    return {"synct": statistics.mean.numpy()[:, 0] * scale + offset, "sd": np.sqrt(intrinsic + parameter),
            "intrinsic_sd": np.sqrt(intrinsic), "parameter_sd": np.sqrt(parameter), "labels": tidy_labels(np.where(case.body, probability.argmax(0), 0), card["outputs"]["structures"], np.prod(case.spacing) / 1000),
            "probability": probability}


def score_case(case: Case, found: dict, monotone: MonotoneMap) -> dict:
    """One row of the table."""
    region = case.region
    bone = region & (case.ct > BONE_HU)
    synct = {"ours": found["synct"], "monotone map": monotone(case.mr), "body = 0 HU": np.zeros_like(case.ct)}
    row = {"case": case.name}
    for name in METHODS:
        row[f"MAE body, {name}"] = mae(synct[name], case.ct, region)
        row[f"MAE bone, {name}"] = mae(synct[name], case.ct, bone)
    row["Dice synCT > 250 HU"] = dice((found["synct"] > 250) & region, (case.ct > 250) & region)
    for name in ("bone", "gtv"):
        truth = (case.labels == LABELS[name]) & region
        row[f"Dice {name}"] = dice((found["labels"] == LABELS[name]) & region, truth) if truth.any() else float("nan")
    z = ((found["synct"] - case.ct) / found["sd"])[region]
    row["z mean"], row["z sd"] = float(z.mean()), float(z.std())
    row["within 90 %"] = float((np.abs(z) < 1.6449).mean())
    row["mean predictive SD"] = float(found["sd"][region].mean())
    return row


def run(prepared: Path, run_folder: Path, model: Path, out: Path, samples: int = 20, device: str = "auto") -> Path:
    """Evaluate the bundle `model` of `run_folder` on that run's validation patients; returns evaluation.md."""
    out.mkdir(parents=True, exist_ok=True)
    card, networks = bundle.load(model)
    split = json.loads((run_folder / "split.json").read_text(encoding="utf-8"))
    if set(split["training"]) & set(split["validation"]):
        raise SystemExit(f"{run_folder / 'split.json'}: patients are in training and validation.")
    rng = np.random.default_rng(0)
    intensities, hu = [], []
    for name in split["training"]:
        case = load_case(prepared / "cases" / f"{name}.npz")
        voxels = np.flatnonzero(case.region)
        # as many of each patient, so that no large one decides
        voxels = rng.choice(voxels, min(50_000, len(voxels)), replace=False)
        intensities.append(case.mr.ravel()[voxels])
        hu.append(case.ct.ravel()[voxels])
    monotone = MonotoneMap().fit(np.concatenate(intensities), np.concatenate(hu))
    rows = []
    for name in split["validation"]:
        case = load_case(prepared / "cases" / f"{name}.npz")
        found = predict_case(networks, card, case, samples, device=device)
        rows.append(score_case(case, found, monotone))
        picture(case, found, monotone, out / f"{name}.png")
        print(name, {k: round(v, 2) for k, v in rows[-1].items() if k != "case"}, flush=True)
    return _write(rows, card, split, samples, out)


def _write(rows, card, split, samples, out) -> Path:
    columns = [c for c in rows[0] if c != "case"]
    mean = {c: float(np.nanmean([r[c] for r in rows])) for c in columns}
    sd = {c: float(np.nanstd([r[c] for r in rows], ddof=1)) if len(rows) > 1 else 0.0 for c in columns}
    with open(out / "evaluation.csv", "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, ["case", *columns])
        writer.writeheader()
        writer.writerows({k: v if isinstance(v, str) else round(v, 4) for k, v in r.items()} for r in rows)

    def number(v, column):
        return "–" if np.isnan(v) else f"{v:.1f}" if column.startswith(("MAE", "mean")) else f"{v:.2f}"

    lines = [f"# {card['name']} {card['version']} on {len(rows)} validation patients", "",
             f"Weights: {card['training']['steps']} steps on {len(split['training'])} other patients, {card['training']['hardware']}. "
             f"{samples} samples. MAE in HU, in the body inside the field of view of MR and CT; bone is where the CT exceeds 200 HU.", "",
             "| patient | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for r in rows:
        lines.append(f"| {r['case']} | " + " | ".join(number(r[c], c) for c in columns) + " |")
    lines.append("| **mean ± sd** | " + " | ".join(f"{number(mean[c], c)} ± {number(sd[c], c)}" for c in columns) + " |")
    (out / "evaluation.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shown = {"MAE body (HU)": "MAE body, ours", "MAE bone (HU)": "MAE bone, ours", "Dice bone": "Dice bone", "Dice tumour": "Dice gtv",
             "MAE body of the best monotone intensity map (HU)": "MAE body, monotone map",
             "MAE bone of the best monotone intensity map (HU)": "MAE bone, monotone map"}
    (out / "evaluation.json").write_text(json.dumps({
        "weights_sha256": card["weights"]["sha256"],
        "accuracy": {"cases": f"{len(rows)} validation patients of the same collection, none of them trained on", "n": len(rows),
                     "table": {k: round(mean[c], 2) for k, c in shown.items()}},
        "calibration": {"synct": {"z_mean": round(mean["z mean"], 3), "z_sd": round(mean["z sd"], 3), "within_90": round(mean["within 90 %"], 3),
                                  "n": len(rows), "recalibrated": False,
                                  "body_sd_range_hu": [round(min(r["mean predictive SD"] for r in rows), 1), round(max(r["mean predictive SD"] for r in rows), 1)]},
                        "volumes": None},
    }, indent=1), encoding="utf-8")
    return out / "evaluation.md"


def picture(case: Case, found: dict, monotone: MonotoneMap, path: Path) -> None:
    """Two slices with much bone: MR, CT, synthetic CT, monotone map, error and predictive sd."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    amount = ((case.ct > BONE_HU) & case.region).sum((1, 2))
    order = np.argsort(amount)
    slices = [int(order[-1]), int(order[len(order) // 2])]
    figure, axes = plt.subplots(2, 6, figsize=(20, 7), squeeze=False)
    for row, z in zip(axes, slices):
        body = case.body[z]
        shown = [("MR", case.mr[z], "gray", -2, 3), ("CT (aligned)", np.where(case.valid[z], case.ct[z], -1000), "gray", -300, 900),
                 ("synthetic CT", np.where(body, found["synct"][z], -1000), "gray", -300, 900),
                 ("monotone map", np.where(body, monotone(case.mr[z]), -1000), "gray", -300, 900),
                 ("error, HU", np.where(case.region[z], found["synct"][z] - case.ct[z], 0), "RdBu_r", -400, 400),
                 ("predictive SD, HU", np.where(body, found["sd"][z], 0), "viridis", 0, 250)]
        for axis, (title, array, colors, low, high) in zip(row, shown):
            image = axis.imshow(array, cmap=colors, vmin=low, vmax=high)
            if title == "MR":
                for k, color in ((1, "y"), (2, "r")):
                    if (found["labels"][z] == k).any():
                        axis.contour(found["labels"][z] == k, [0.5], colors=color, linewidths=1)
            if "HU" in title:
                figure.colorbar(image, ax=axis, fraction=0.046)
            axis.set_title(f"{title}, slice {z}" if title == "MR" else title, fontsize=9)
            axis.axis("off")
    figure.suptitle(case.name)
    figure.tight_layout()
    figure.savefig(path, dpi=70)
    plt.close(figure)

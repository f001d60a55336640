"""`python -m training prepare`: from a folder per patient to aligned, checked, network-ready cases.

Reads `CASE/{mr,ct[,gtv]}.nii.gz` (or .nii, .mha, .nrrd), aligns the CT to the MR, derives the labels
{0 background, 1 bone, 2 gtv}, scores each pair, draws an overlay of each and drops what did not register.

Writes to `--out`: `cases/CASE.npz` (see `load_case`), `overlays/CASE.png`, `prepare.csv` (all scores, kept or dropped
and why). A case whose file is there already is not computed again, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import csv
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from rtbackend import geometry, preprocess

LABELS = {"background": 0, "bone": 1, "gtv": 2}
BONE_HU = 200.0
# A pair is dropped when one of these fails after the registration. Chosen by looking at the overlays: shafts that fit
# have a cortical ratio (see registration.Score) of 0.2 to 0.5, epiphyses and pelves that fit up to 0.95 (their dense
# spongy bone is bright in MR), bones that are visibly off more than 1.
LIMITS = {"body_dice": (0.94, None), "cortical_ratio": (None, 1.0), "fat_ratio": (1.3, None), "folding": (None, 0.005)}
SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")


@dataclass
class Case:
    """One prepared patient; arrays [z, y, x] on one axial grid of the network's in-plane spacing."""

    name: str
    mr: np.ndarray  # float32, z-score inside the body
    ct: np.ndarray  # float32, HU
    labels: np.ndarray  # uint8, see LABELS
    body: np.ndarray  # bool, from the MR
    valid: np.ndarray  # bool, where both MR and CT were measured
    spacing: tuple  # (x, y, z) in mm

    @property
    def region(self) -> np.ndarray:
        """Where a loss or a score may look: body and measured by both."""
        return self.body & self.valid


def find(folder: Path, stem: str) -> Path | None:
    """The image `stem` with any suffix of SUFFIXES in `folder`, or None."""
    return next((folder / (stem + s) for s in SUFFIXES if (folder / (stem + s)).exists()), None)


def list_cases(data: Path) -> list[Path]:
    """Folders below `data` that hold an mr and a ct, sorted by name. Raises `SystemExit` when there is none."""
    found = sorted(f for f in data.iterdir() if f.is_dir() and find(f, "mr") and find(f, "ct")) if data.is_dir() else []
    if not found:
        raise SystemExit(f"{data}: no folder in it holds mr.nii.gz and ct.nii.gz; give the folder of the cases with --data.")
    return found


def bone_labels(ct: np.ndarray, body: np.ndarray, spacing) -> np.ndarray:
    """Whole bones, marrow included, bool: > 200 HU in the body, specks gone, closed by 2 mm, holes filled per slice."""
    bone = (ct > BONE_HU) & ndimage.binary_erosion(body, iterations=2, border_value=1)
    labels, count = ndimage.label(bone)
    if count == 0:
        return bone
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    bone = (sizes * np.prod(spacing) > 300.0)[labels]  # below 0.3 ml: noise, calcified vessels
    radius = max(1, round(2.0 / spacing[0]))
    disc = np.hypot(*np.ogrid[-radius:radius + 1, -radius:radius + 1])[None] <= radius
    around = ((0, 0), (radius, radius), (radius, radius))
    closed = ndimage.binary_closing(np.pad(bone, around, mode="edge"), disc)[:, radius:-radius, radius:-radius]
    filled = np.stack([ndimage.binary_fill_holes(s) for s in closed | bone])
    return filled & body


def why_dropped(scores: dict) -> str:
    """The limits that a pair's scores break, in words; empty when it may stay. A NaN (too little bone) passes."""
    out = []
    for name, (low, high) in LIMITS.items():
        value = scores[name]
        if low is not None and value < low:
            out.append(f"{name} {value:.2f} < {low}")
        if high is not None and value > high:
            out.append(f"{name} {value:.2f} > {high}")
    return "; ".join(out)


def prepare_case(folder: Path, spacing=(1.0, 1.0, None)) -> tuple[Case, dict]:
    """Align, label and preprocess one patient; returns it with its scores (before_* and after the registration)."""
    from . import registration

    mr = geometry.to_axial(sitk.ReadImage(str(find(folder, "mr")), sitk.sitkFloat32))
    ct = geometry.to_axial(sitk.ReadImage(str(find(folder, "ct")), sitk.sitkFloat32))
    aligned = registration.align(mr, ct)
    ready = preprocess.preprocess(mr, spacing, name=folder.name)
    grid = ready.image
    array = sitk.GetArrayFromImage(geometry.resample(aligned.ct, grid, background=-1000.0))
    body = sitk.GetArrayFromImage(ready.body) > 0
    valid = sitk.GetArrayFromImage(geometry.resample(aligned.valid, grid, "nearest")) > 0
    labels = np.where(bone_labels(array, body, grid.GetSpacing()), LABELS["bone"], 0).astype(np.uint8)
    gtv = find(folder, "gtv")
    if gtv is not None:
        tumour = geometry.to_axial(sitk.ReadImage(str(gtv)))
        labels[sitk.GetArrayFromImage(geometry.resample(tumour, grid, "nearest")) > 0] = LABELS["gtv"]
    scores = {f"before_{k}": v for k, v in aligned.before.table().items() if k not in ("folding", "shift_mm")}
    scores.update(aligned.after.table())
    case = Case(folder.name, sitk.GetArrayFromImage(grid), array, labels, body, valid, grid.GetSpacing())
    return case, scores


def save_case(case: Case, path: Path, scores: dict) -> None:
    """Write a case, compactly: MR in steps of 1/32 sd, CT of 2 HU, both far below their noise; written beside and renamed."""
    temporary = path.with_suffix(".part.npz")
    np.savez_compressed(
        temporary, mr=np.rint(case.mr * 32).clip(-32768, 32767).astype(np.int16), ct=np.rint(case.ct / 2).astype(np.int16),
        labels=case.labels, body=np.packbits(case.body), valid=np.packbits(case.valid), spacing=case.spacing,
        scores=json.dumps(scores),
    )
    os.replace(temporary, path)


def load_case(path: Path) -> Case:
    """Read what `save_case` wrote."""
    with np.load(path, allow_pickle=False) as f:
        shape = f["mr"].shape
        bits = {k: np.unpackbits(f[k], count=int(np.prod(shape))).reshape(shape).astype(bool) for k in ("body", "valid")}
        return Case(path.stem, f["mr"].astype(np.float32) / 32, f["ct"].astype(np.float32) * 2, f["labels"], bits["body"],
                    bits["valid"], tuple(float(s) for s in f["spacing"]))


def overlay(case: Case, path: Path, title: str) -> None:
    """A picture of the pair: three slices and a coronal cut of the MR with the CT's skin (cyan) and bone (red)."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(16, 4.3))
    n = case.mr.shape[0]
    views = [(case.mr[z], case.ct[z], 1.0) for z in (n // 5, n // 2, 4 * n // 5)]
    y = int(np.median(np.nonzero(case.labels == 1)[1])) if (case.labels == 1).any() else case.mr.shape[1] // 2
    views.append((case.mr[::-1, y], case.ct[::-1, y], case.spacing[2] / case.spacing[0]))
    for axis, (mr, ct, aspect) in zip(axes, views):
        axis.imshow(mr, cmap="gray", vmin=-2, vmax=2.5, aspect=aspect)
        if ct.min() < -300 < ct.max():
            axis.contour(ct, [-300], colors="c", linewidths=0.8)
        if ct.max() > 250:
            axis.contour(ct, [250], colors="r", linewidths=0.8)
        axis.axis("off")
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=70)
    plt.close(figure)


def run(data: Path, out: Path, only=None) -> list[dict]:
    """Prepare every case below `data` into `out`; returns the rows of prepare.csv. See the module's docstring."""
    for sub in ("cases", "overlays"):
        (out / sub).mkdir(parents=True, exist_ok=True)
    rows = []
    for folder in list_cases(data):
        if only and folder.name not in only:
            continue
        path = out / "cases" / f"{folder.name}.npz"
        if path.exists():
            with np.load(path, allow_pickle=False) as f:
                scores = json.loads(str(f["scores"]))
        else:
            try:
                case, scores = prepare_case(folder)
            except Exception as error:  # one bad case must not end the night's run: it is listed with its reason
                rows.append({"case": folder.name, "kept": "no", "why": f"{type(error).__name__}: {error}".splitlines()[0]})
                print(f"{folder.name}: {rows[-1]['why']}", flush=True)
                continue
            save_case(case, path, scores)
        why = why_dropped(scores)
        title = (f"{folder.name}   body Dice {scores['body_dice']:.3f}   cortical {scores['cortical_ratio']:.2f}   "
                 f"fat {scores['fat_ratio']:.2f}   " + (f"DROPPED: {why}" if why else "kept"))
        overlay(load_case(path), out / "overlays" / f"{folder.name}.png", title)
        rows.append({"case": folder.name, "kept": "no" if why else "yes", "why": why}
                    | {k: round(v, 4) for k, v in scores.items()})
        print(f"{folder.name}: {'dropped, ' + why if why else 'kept'}  body Dice {scores['body_dice']:.3f}  "
              f"cortical {scores['cortical_ratio']:.2f}  moved {scores['shift_mm']:.1f} mm", flush=True)
    names = list(dict.fromkeys(k for row in rows for k in row))
    temporary = out / "prepare.csv.part"
    with open(temporary, "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, names)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, out / "prepare.csv")
    return rows

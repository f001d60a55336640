"""`python -m training left_atrium`: the scans of the left-atrium challenge in their customary order, ready to train on.

Reads every layout of `data.layouts`: `train/ID/{mr,la}.nii.gz`, or `ID/mri_norm2.h5` as UA-MT and its successors have them.
The order is that of `train_order.txt` or `train.list` in the data; it says who is labelled (see `data.few_labels_feed`).
Scaled as `predict` scales them (z-score of the whole image). Writes `scans/ID.npz` and prepare.csv.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rtbackend import preprocess
from rtbackend.errors import InputError

from .data import labels as label_rules
from .data import layouts, reading, scan
from .data.files import make_folder, write_csv

ORDER = ("train_order.txt", "train.list")
RULES = (label_rules.Rule("left_atrium", "la"),)


def order(data: Path, names: list[str]) -> list[str]:
    """`names` in the data's own order, those that it does not name behind them; by name where the data state no order."""
    file = next((p for folder in (data, *sorted(f for f in data.iterdir() if f.is_dir())) for p in (folder / n for n in ORDER) if p.is_file()), None)
    stated = file.read_text(encoding="utf-8").split() if file else []
    return [n for n in stated if n in names] + sorted(set(names) - set(stated))


def run(data: Path, out: Path, spacing=None) -> list[dict]:
    """Prepare the scans of `data` on voxels of `spacing` mm (None keeps their own); returns the rows of prepare.csv.

    Columns: case, kept, order (1, 2, … in the customary order), labelled (yes | no), left_atrium_ml. A scan whose file is there
    already is not made again. Raises `SystemExit` in one line where a scan cannot be prepared.
    """
    try:
        return _run(data, out, [spacing] * 3)
    except InputError as error:
        raise SystemExit(str(error)) from error


def _run(data, out, spacing):
    sources = {s.name: s for s in layouts.find(data).sources}
    make_folder(out / "scans")
    options, rows = {"spacing_mm": spacing, "normalisation": preprocess.WHOLE_IMAGE}, []
    for number, name in enumerate(order(data, list(sources)), 1):
        path = out / "scans" / f"{name}.npz"
        if scan.options_of(path) != options:
            scan.save(_prepared(sources[name], options), path, options)
        found = scan.load(path)
        drawn = found.labels is not None and found.labels.any()
        ml = round(float((found.labels == 1).sum() * np.prod(found.spacing) / 1000), 2) if drawn else ""
        rows.append({"case": name, "kept": "yes", "order": number, "labelled": "yes" if drawn else "no", "left_atrium_ml": ml})
        print(f"{number}. {name}: {' × '.join(map(str, found.image.shape[::-1]))} voxels" + (f", {ml} ml" if drawn else ", without labels"), flush=True)
    write_csv(out / "prepare.csv", rows)
    return rows


def _prepared(source: layouts.Source, options: dict) -> scan.Scan:
    if source.problem:
        raise InputError(f"{source.name}: {source.problem}")
    ready = preprocess.for_card(reading.read(source.mr), {"name": source.name, "input": options}, name=source.name)
    drawn = {name: reading.read_label(place) for name, place in source.labels.items() if name == "la"}
    everywhere = np.ones(ready.image.GetSize()[::-1], bool)
    labels = label_rules.draw(RULES, drawn, ready.image, None, everywhere)[0] if drawn else None
    return scan.Scan(source.name, sitk.GetArrayFromImage(ready.image), labels, ready.image.GetSpacing(), label_rules.classes(RULES))


def rows_in_order(table: Path) -> list[dict]:
    """The rows of prepare.csv, first in the customary order first. Raises `SystemExit` where it is missing."""
    if not table.exists():
        raise SystemExit(f"{table} is missing: run 'python -m training left_atrium' first.")
    with open(table, newline="", encoding="utf-8") as f:
        return sorted((r for r in csv.DictReader(f) if r["kept"] == "yes"), key=lambda r: int(r["order"]))

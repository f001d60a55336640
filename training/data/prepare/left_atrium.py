"""`python -m training left_atrium`: the scans of the left-atrium challenge in their customary order, ready to train on.

Reads every layout of `data.layouts`: `train/ID/{mr,la}.nii.gz`, or `ID/mri_norm2.h5` as UA-MT and its successors have
them. The order is that of `train_order.txt` or `train.list` in the data; it says who is labelled, and with `set` unsaid
who validates (see `data.few_labels_feed`). Scaled as `predict` scales them (z-score of the whole image). All else is as
in `scans`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rtuncertainty.core import geometry
from rtuncertainty.core.errors import InputError
from rtuncertainty.prediction import preprocess

from ...core.files import make_folder, write_csv
from .. import checks, layouts, reading, scan
from .. import labels as label_rules
from ..checks import Finding
from . import scans

STRUCTURE = "left_atrium"


def order(data: Path, names: list[str]) -> list[str]:
    """`names` in the data's own order, those that it does not name behind them; by name where the data state no
    order.
    """
    stated = scans.stated_order(data)
    return [n for n in stated if n in names] + sorted(set(names) - set(stated))


def run(data: Path, out: Path, spacing=None) -> list[dict]:
    """Prepare the scans of `data` on voxels of `spacing` mm (None keeps their own); returns the rows of prepare.csv.

    Columns: case, kept (yes | no), why (not), order (1, 2, … in the customary order), labelled (yes | no),
    left_atrium_ml. A scan whose file is there already is not made again. One that cannot be prepared is listed with its
    reason and left out; it keeps its place in the order, so that no other changes sides. Raises `SystemExit` where none
    can be.
    """
    try:
        return _run(data, out, [spacing] * 3)
    except InputError as error:
        raise SystemExit(str(error)) from error


def _run(data, out, spacing):
    sources = {s.name: s for s in layouts.find(data).sources}
    for sub in ("scans", "overlays"):
        make_folder(out / sub)
    options, rows, findings = {"spacing_mm": spacing, "normalisation": preprocess.WHOLE_IMAGE}, [], {}
    for number, name in enumerate(order(data, list(sources)), 1):
        path = out / "scans" / f"{name}.npz"
        findings[name] = [Finding("note", "source", n) for n in sources[name].notes]
        if scan.options_of(path) != options:
            try:
                made = _prepared(sources[name], options)
            except Exception as error:  # one bad scan must not end the run: it is listed with its reason
                why = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
                findings[name].append(Finding("error", "failed", " ".join(why.split())))
                rows.append({"case": name, "kept": "no", "why": findings[name][-1].message, "order": number})
                print(f"{number}. {name}: left out, {why}", flush=True)
                continue
            scan.save(made, path, options)
        found = scan.load(path)
        scans.draw(path, out / "overlays" / f"{name}.png", preprocess.WHOLE_IMAGE)
        drawn = found.labels is not None and found.labels.any()
        ml = round(float((found.labels == 1).sum() * np.prod(found.spacing) / 1000), 2) if drawn else ""
        known = {"order": number, "labelled": "yes" if drawn else "no", f"{STRUCTURE}_ml": ml}
        rows.append({"case": name, "kept": "yes", "why": ""} | known)
        print(
            f"{number}. {name}: {' × '.join(map(str, found.image.shape[::-1]))} voxels"
            + (f", {ml} ml" if drawn else ", without labels"),
            flush=True,
        )
    write_csv(out / "prepare.csv", rows, ["case", "kept", "why", "order", "labelled", f"{STRUCTURE}_ml"])
    write_csv(out / "checks.csv", checks.rows(findings), list(checks.COLUMNS))
    print(checks.summary(findings), flush=True)
    if not any(r["kept"] == "yes" for r in rows):
        raise InputError(f"{data}: none of the {len(rows)} scans can be used; see above why.")
    return rows


def _prepared(source: layouts.Source, options: dict) -> scan.Scan:
    if source.problem:
        raise InputError(f"{source.name}: {source.problem}")
    ready = preprocess.for_card(reading.read(source.mr), {"name": source.name, "input": options}, name=source.name)
    mask = None
    if "la" in source.labels:
        drawn = reading.read_label(source.labels["la"])
        mask = geometry.like(sitk.GetArrayViewFromImage(drawn) > 0, drawn, np.uint8)
    return scans.placed(source.name, ready, mask, label_rules.classes([label_rules.Rule(STRUCTURE)]), crop=False)

"""`python -m training card`: the card of a model on own data, as far as the prepared data tell; the rest is the user's.

What only the user knows stands as `FILL` in it, and `export` refuses a card in which that is left.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rtuncertainty.bundles import card as card_check
from rtuncertainty.core import structure_names
from rtuncertainty.prediction import preprocess

from ..core import files, provenance
from ..data import case as slices
from ..data.prepare import scans

CARD = "card.yaml"
STUDIES = Path(__file__).resolve().parents[1] / "studies"
# what stands where the user has to write
FILL = "TO FILL IN"
# images beyond those that were seen by so much are warned of
ROOM = 1.25
COLOURS = ((128, 174, 128), (241, 214, 145), (177, 122, 101), (111, 184, 210), (216, 101, 79), (144, 118, 187))
HEAD = (
    f"# What no run can know of this model. Write what says '{FILL}', sequence and region; take away what is wrong.\n"
)


def write(prepared: Path, out: Path | None = None, name: str | None = None, filled: dict | None = None) -> Path:
    """Write the card of what `prepare`, `pairs`, `organs` or `scans` wrote as YAML, by default `prepared`/card.yaml.

    Args:
        name: of the bundle; default: of its structures and modality.
        filled: entries by their path ("training.licence"), which are then not to be written by hand.
    Raises:
        SystemExit: where the file is there already (it may hold what somebody wrote), and for an entry that there is
            not.
    """
    out = out or prepared / CARD
    if out.exists():
        raise SystemExit(f"{out} is there already; change it, or remove it to have it made anew.")
    card = settings(prepared, name)
    for path, value in (filled or {}).items():
        *outer, last = path.split(".")
        inner: Any = card
        for key in outer:
            inner = inner.get(key) if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or last not in inner:
            raise SystemExit(f"--set {path}: the card has no such entry; there are {', '.join(left(card))}.")
        inner[last] = value
    out.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(card, allow_unicode=True, sort_keys=False, width=120)
    return files.replace_text(out, HEAD + text)


def left(card, path: str = "") -> list[str]:
    """The entries of a card, by their paths, that are still to be filled in."""
    if isinstance(card, str):
        return [path] if FILL in card else []
    inner = card.items() if isinstance(card, dict) else enumerate(card) if isinstance(card, list) else ()
    return [entry for key, value in inner for entry in left(value, f"{path}.{key}" if path else str(key))]


def read(file: Path) -> dict:
    """A card's YAML. Raises `SystemExit` for one that cannot be read or in which something is left to be filled in."""
    try:
        card = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError:
        raise SystemExit(f"{file} is missing; 'python -m training card' writes it.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SystemExit(f"{file}: this is not YAML ({getattr(error, 'problem', None) or error}).") from None
    if not isinstance(card, dict):
        raise SystemExit(f"{file}: this is no card; 'python -m training card' writes one.")
    # what `export` takes out, see there
    outputs = {k: v for k, v in (card.get("outputs") or {}).items() if k != "structures_of"}
    unknown = card_check.unknown_entry({**card, "outputs": outputs})
    if unknown:
        raise SystemExit(f"{file}: {unknown}.")
    missing = left(card)
    if missing:
        raise SystemExit(f"{file}: {', '.join(missing)} still to be filled in (where it says '{FILL}').")
    return card


def settings(prepared: Path, name: str | None = None) -> dict:
    """The card as a dict. Raises `SystemExit` for a folder that nothing was prepared in, and for a name that is no
    folder's name.
    """
    for file, of_kind in ((scans.SETTINGS, _scans), ("pairs.json", _pairs), ("organs.json", _organs)):
        if (prepared / file).exists():
            task, structures, image, method = of_kind(prepared, json.loads((prepared / file).read_text("utf-8")))
            break
    else:
        task, structures, image, method = _slices(prepared)
    known = "-".join(structures) if len(structures) == 1 else task.split(" ")[-1]
    name = name or re.sub(r"[^a-z0-9]+", "-", f"{known}-{image['modality']}".lower()).strip("-")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise SystemExit(f"--name {name}: letters, digits, '-', '_' and '.' make a name.")
    drawn = [
        {"name": s, "label": k, "color": list(COLOURS[(k - 1) % len(COLOURS)]), "rule": {"largest": 1}}
        | known_structure(s)
        | {"description": "as it was drawn in the data that it was trained on"}
        for k, s in enumerate(structures, 1)
    ]
    for s in drawn:
        # what holds parts of its own is told by their labels; rules are for pieces of organs
        parts = [structures.index(n) + 1 for n in _holds(prepared).get(s["name"], ())]
        if parts:
            s["holds"] = parts
    card = {
        "format": 1,
        "name": name,
        "version": "0.1.0",
        "title": f"{FILL}: what it makes of which images, in a line",
        "task": task,
        "input": {"modality": image["modality"], "sequence": "", "region": ""} | image,
        "outputs": {"structures": drawn},
        "training": {
            "data": "own, not published",
            "licence": f"{FILL}: of the data, or 'not published'",
            "citation": f"{FILL}: of the data; {method} (method)",
            "phantom": False,
        },
        "intended_use": f"{FILL}: for which images, and 'Research use only, not for clinical decisions.'",
        "licence": f"{FILL}: of the weights",
    }
    if task.startswith("synthetic CT") and "bone" in structures:  # the one network that draws its own class
        bone = drawn[structures.index("bone")] | {"name": "bone above 250 HU", "label": 1}
        card["outputs"]["structures_of"] = {"3tn": [bone | {"description": "what exceeds 250 HU in a CT"}]}
    return card


def _scans(prepared: Path, known: dict) -> tuple:
    image = {"modality": known["modality"]} | seen(known)
    return "segmentation", [known["structure"]], image, "Hasan & Linte 2021"


def _pairs(prepared: Path, known: dict) -> tuple:
    return "contour propagation", known["organs"], _ct(known), "Elmahdy 2021"


def _organs(prepared: Path, known: dict) -> tuple:
    image = _ct(known)
    if known.get("channels"):
        image |= {"modality": "MR", "normalisation": preprocess.IN_BODY, "bias_field": "off"}
        image |= {"channels": known["channels"]}
    return "segmentation", known["organs"], image, "Eaton-Rosen 2018"


def _holds(prepared: Path) -> dict:
    """{structure: its parts}, where `sequences` prepared some."""
    file = prepared / "organs.json"
    return json.loads(file.read_text("utf-8")).get("holds", {}) if file.exists() else {}


def _ct(known: dict) -> dict:
    """Input of networks that see whole CTs on one grid."""
    spacing = [float(s) for s in known["spacing"]]
    return {"modality": "CT", "spacing_mm": spacing, "normalisation": preprocess.HOUNSFIELD}


def _slices(prepared: Path) -> tuple:
    fields, classes, with_ct = [], {}, False
    options: dict = {}
    for file in _cases(prepared):
        case = slices.load_case(file)
        fields.append(np.multiply(case.spacing, case.mr.shape[::-1]))
        classes, with_ct = case.classes, with_ct or case.ct is not None
        options = (slices.read_record(file) or {}).get("options") or options
    asked = options.get("spacing") or [None, None, None]
    image = {
        "modality": "MR",
        "spacing_mm": [a if a is None else float(a) for a in asked],
        "field_of_view_mm": _widened(np.array(fields)),
        "normalisation": preprocess.IN_BODY,
        "bias_field": options.get("bias_field", "auto"),
    }
    structures = sorted((n for n, v in classes.items() if v), key=classes.__getitem__)
    if not with_ct:
        return "segmentation", structures, image, "Eaton-Rosen 2018"
    return "synthetic CT and segmentation", structures, image, "Bragman 2018, Kaushik 2022"


def _cases(prepared: Path) -> list[Path]:
    """The prepared cases that were kept."""
    found = [prepared / "cases" / f"{name}.npz" for name in provenance.patients(prepared)]
    found = [f for f in found if f.exists()]
    if not found:
        raise SystemExit(
            f"{prepared} holds nothing that 'python -m training' prepare, pairs, organs or scans wrote; prepare first."
        )
    return found


def seen(known: dict) -> dict:
    """The card's spacing, scale and limits of images, from scans.json: what came, and a little more."""
    images = list(known["images"].values())
    spacings, voxels = (np.array([i[k] for i in images], float) for k in ("own_spacing_mm", "own_voxels"))
    working = np.median([i["spacing_mm"] for i in images], 0)
    found = {
        "spacing_mm": [float(f"{(a or w):.4g}") for a, w in zip(known["spacing_mm"], working)],
        "spacing_range_mm": _widened(spacings),
        "minimum_size": [max(2, int(n) // 4) for n in voxels.min(0)],
        "field_of_view_mm": _widened(spacings * voxels),
        "normalisation": known["normalisation"],
    }
    return found | ({"bias_field": known["bias_field"]} if known["normalisation"] == preprocess.IN_BODY else {})


def _widened(values: np.ndarray) -> list[list[float]]:
    return [[float(f"{v:.3g}") for v in limit] for limit in (values.min(0) / ROOM, values.max(0) * ROOM)]


def known_structure(structure: str) -> dict:
    """Colour, code and rule of the structure in a card of ours; without one nothing."""
    organ = structure_names.organ(structure) or structure
    for file in sorted(STUDIES.glob("*/*_card.yaml")):
        for s in (yaml.safe_load(file.read_text(encoding="utf-8"))["outputs"] or {}).get("structures") or []:
            if s["name"] == organ:
                return {k: s[k] for k in ("color", "code", "rule") if k in s}
    return {}

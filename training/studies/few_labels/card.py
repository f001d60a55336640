"""`python -m training card`: the card of a structure learnt from few labels, as far as the prepared scans tell; the
rest is the user's to write.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import yaml

from rtuncertainty.core import structure_names
from rtuncertainty.prediction import preprocess

from ...core import files
from ...data.prepare import scans

STUDIES = Path(__file__).resolve().parents[1]
TEMPLATE = STUDIES / "few_labels" / "few_labels_card.yaml"
CARD = "card.yaml"
# scans beyond those that were seen by so much are warned of
ROOM = 1.25


def write(prepared: Path, out: Path | None = None, name: str | None = None) -> Path:
    """Write the card of the scans in `prepared` (see `scans`) as YAML, by default `prepared`/card.yaml, which
    `reproduce few_labels` takes.

    name: of the bundle. Raises `SystemExit` where the file is there already: it may hold what somebody wrote.
    """
    out = out or prepared / CARD
    if out.exists():
        raise SystemExit(f"{out} is there already; change it, or remove it to have it made anew.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with files.replaced(out) as temporary:
        temporary.write_text(
            HEAD + yaml.safe_dump(settings(prepared, name), allow_unicode=True, sort_keys=False, width=120),
            encoding="utf-8",
        )
    return out


HEAD = (
    "# What no run can know of this model. Write sequence, region, licence and intended use; take away what is wrong.\n"
)


def settings(prepared: Path, name: str | None = None) -> dict:
    """The card as a dict. Raises `SystemExit` for a folder that `scans` did not write, and for a name that is no
    folder's name.
    """
    known = scans.settings_of(prepared)
    if known is None:
        raise SystemExit(f"{prepared / scans.SETTINGS} is missing: run 'python -m training scans' first.")
    structure, modality = known["structure"], known["modality"]
    name = name or re.sub(r"[^a-z0-9]+", "-", f"{structure}-{modality}".lower()).strip("-")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise SystemExit(f"--name {name}: letters, digits, '-', '_' and '.' make a name.")
    card = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))
    card["name"], card["title"] = (
        name,
        f"{structure.replace('_', ' ').capitalize()} in {modality} (learnt from few labels)",
    )
    card["input"] |= {"modality": modality} | seen(known)
    card["outputs"]["structures"][0] |= {"name": structure} | known_structure(structure)
    return card


def seen(known: dict) -> dict:
    """The card's spacing, scale and limits of images, from scans.json: what came, and a little more."""
    images = list(known["images"].values())
    spacings, voxels = (np.array([i[k] for i in images], float) for k in ("own_spacing_mm", "own_voxels"))
    fields = spacings * voxels
    working = np.median([i["spacing_mm"] for i in images], 0)
    found = {
        "spacing_mm": [float(f"{(a or w):.4g}") for a, w in zip(known["spacing_mm"], working)],
        "spacing_range_mm": _widened(spacings),
        "minimum_size": [max(2, int(n) // 4) for n in voxels.min(0)],
        "field_of_view_mm": _widened(fields),
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
            if s["name"] == organ and file != TEMPLATE:
                return {k: s[k] for k in ("color", "code", "rule") if k in s}
    return {}

"""Which structures a case has: rules NAME=WHAT, and the label image that they make."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from rtuncertainty.core import geometry
from rtuncertainty.core.errors import InputError

BONE_HU = 200.0
BACKGROUND = "background"
IGNORE = "ignore"  # nnU-Net's name for voxels of which nobody knows what they are


@dataclass(frozen=True)
class Rule:
    """The class `name` is where the label image `file` has one of `values`.

    `file` "ct" stands for the bones of the CT, None for the only label image there is; no `values` for all above 0.
    """

    name: str
    file: str | None = None
    values: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}=" + ":".join(filter(None, [self.file or "", ",".join(map(str, self.values))]))


DEFAULT = (Rule("bone", "ct"), Rule("gtv", "gtv"))


def parse(text: str) -> Rule:
    """The rule NAME=ct, NAME=FILE, NAME=FILE:VALUE[,VALUE…] or NAME=VALUE[,VALUE…]. Raises `SystemExit` for another."""
    name, _, what = (t.strip() for t in text.partition("="))
    file, _, values = what.rpartition(":") if ":" in what else ("", "", what)
    if re.fullmatch(r"\d+(,\d+)*", values):
        rule = Rule(name, file or None, tuple(int(v) for v in values.split(",")))
    else:
        rule = Rule(name, what)
    if not name or not what or ":" in (rule.file or "") or name == BACKGROUND:
        raise SystemExit(
            f"--label {text}: give NAME=VALUE[,VALUE], NAME=FILE, NAME=FILE:VALUE or NAME=ct, "
            "or a JSON or YAML file of names and values; the background is what no rule names."
        )
    return rule


def from_mapping(mapping: dict) -> tuple[Rule, ...]:
    """Rules from {name: value or values} (nnU-Net) or {value: name} (Learn2Reg, decathlon); the background is left
    out.
    """
    if all(str(k).isdigit() for k in mapping):
        mapping = {str(name): int(value) for value, name in mapping.items()}
    rules = []
    for name, value in mapping.items():
        if isinstance(value, str) and not value.replace(",", "").isdigit():
            rules.append(parse(f"{name}={value}"))
            continue
        values = value if isinstance(value, list) else str(value).split(",")
        values = tuple(int(v) for v in values if int(v) > 0)
        if values and name != BACKGROUND:
            rules.append(Rule(str(name), None, values))
    return tuple(rules)


def parse_all(items) -> tuple[Rule, ...]:
    """Rules from the arguments of --label, each a rule or a file of them. Raises `SystemExit` with what is wrong."""
    import yaml

    rules: list[Rule] = []
    for item in items:
        path = Path(item)
        if path.suffix.lower() in (".json", ".yaml", ".yml"):
            try:
                mapping = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
                rules += from_mapping(mapping.get("labels", mapping))
            except OSError as error:
                raise SystemExit(f"--label {item}: {error.strerror}.") from error
            except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
                raise SystemExit(
                    f"--label {item}: no table of names and values in it; see nnU-Net's dataset.json."
                ) from error
        else:
            rules.append(parse(item))
    names = [r.name for r in rules]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice or len(names) > 255:
        raise SystemExit(f"--label: {', '.join(twice)} is given twice." if twice else "--label: more than 255 classes.")
    return tuple(rules)


def classes(rules) -> dict[str, int]:
    """The value of each class in a prepared label image, in the order of the rules."""
    names = [r.name for r in rules if r.name != IGNORE]
    return {BACKGROUND: 0} | {name: k + 1 for k, name in enumerate(names)}


def file_of(rule: Rule, names) -> str | None:
    """Which of a case's label images `names` a rule means; None when it is not there. Raises `InputError` if
    unclear.
    """
    if rule.file:
        return rule.file if rule.file in names else None
    if len(names) > 1:
        raise InputError(
            f"label {rule}: there are the label images {', '.join(sorted(names))}; write {rule.name}=FILE:VALUE."
        )
    return next(iter(names), None)


def draw(
    rules, images: dict, grid: sitk.Image, ct: np.ndarray | None, body: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Labels uint8 and which voxels are to be ignored, bool, [z, y, x] on `grid`. Of two classes the later one wins.

    `images`: a case's label images by name; `ct`: HU on the grid, where a rule asks for bones; `body`: bool.
    """
    values = classes(rules)
    out, ignored = np.zeros(body.shape, np.uint8), np.zeros(body.shape, bool)
    on_grid: dict[str, np.ndarray] = {}
    for rule in rules:
        if rule.file == "ct":
            if ct is None:
                raise InputError(f"label {rule}: there is no CT to take it from; leave it out or name a label image.")
            where = bone_labels(ct, body, grid.GetSpacing())
        else:
            file = file_of(rule, images)
            if file is None:
                continue
            if file not in on_grid:
                on_grid[file] = sitk.GetArrayFromImage(
                    geometry.resample(geometry.to_axial(images[file]), grid, "nearest")
                )
            where = np.isin(on_grid[file], rule.values) if rule.values else on_grid[file] > 0
        if rule.name == IGNORE:
            ignored |= where
        else:
            out[where] = values[rule.name]
    return out, ignored


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
    disc = np.hypot(*np.ogrid[-radius : radius + 1, -radius : radius + 1])[None] <= radius
    around = ((0, 0), (radius, radius), (radius, radius))
    closed = ndimage.binary_closing(np.pad(bone, around, mode="edge"), disc)[:, radius:-radius, radius:-radius]
    filled = np.stack([ndimage.binary_fill_holes(s) for s in closed | bone])
    return filled & body


def read_json(path: Path) -> dict:
    """A JSON file's object. Raises `SystemExit` that names a file which holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(found, dict):
        raise SystemExit(f"{path}: a JSON object was expected in it.")
    return found

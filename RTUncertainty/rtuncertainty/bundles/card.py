"""Does a model's card say what it must, in the form that it must? A card comes from elsewhere, and is read long
before a run ends.
"""

from __future__ import annotations

import difflib
import math
import re

# the architecture of a card without a network: it has no weights
REGISTRATION = "registration"


def fault(card: dict) -> str | None:
    """What is wrong with a card that has all required entries.

    Args:
        card: as read from model.json.

    Returns:
        A text that names the entry; None where nothing is wrong.
    """
    architecture = card.get("architecture")
    weightless = isinstance(architecture, dict) and architecture.get("name") == REGISTRATION
    for path, (test, wanted, optional) in _ENTRIES.items():
        optional = optional or (weightless and path == "weights.file")
        value = card
        for key in path.split("."):
            value = value.get(key) if value is not None else None
        if (value is None and not optional) or (value is not None and not test(value)):
            return f"{path} is {str(value)[:60]!r}; it must be {wanted}"
    unknown = unknown_entry(card)
    if unknown:
        return unknown
    synct = card["outputs"].get("synct") or {}
    if "synct" in card["outputs"] and (synct.get("scale") is None or synct.get("offset") is None):
        return "outputs.synct needs scale and offset"
    structures = card["outputs"]["structures"]
    for number, structure in enumerate(structures, 1):
        for key, (test, wanted) in _STRUCTURE.items():
            if not isinstance(structure, dict) or not test(structure.get(key)):
                return f"{key} of structure {number} must be {wanted}"
    for number, structure in enumerate(structures):
        held = structure.get("holds", [])
        if not isinstance(held, list) or not set(held) <= {s["label"] for s in structures[number + 1 :]}:
            return f"holds of structure {number + 1} must be a list of labels of structures behind it"
    for key in ("name", "label"):
        if len({s[key] for s in structures}) < len(structures):
            return f"two structures have the same {key}"
    return None


def unknown_entry(card: dict) -> str | None:
    """What a card says that nobody would read, in words; None where there is nothing of that kind.

    Training, accuracy and calibration are looked at by name alone: what is in them is shown, and steers nothing.
    """
    outputs = card.get("outputs")
    structures = outputs.get("structures") if isinstance(outputs, dict) else None
    parts = [("", card, None)] + [(f"{name}.", card.get(name), name) for name in _KNOWN if name in card]
    for number, structure in enumerate(structures if isinstance(structures, list) else [], 1):
        where = f"outputs.structures, {number}: "
        parts += [(where, structure, "structure")]
        parts += [(f"{where}rule.", structure.get("rule"), "rule")] if isinstance(structure, dict) else []
    for where, part, kind in parts:
        known = _TOP if kind is None else _KNOWN[kind]
        for key in part if isinstance(part, dict) else ():
            if key not in known:
                close = difflib.get_close_matches(str(key), known, 1, 0.6)
                meant = f" (did you mean {close[0]}?)" if close else f"; known are {', '.join(known)}"
                return f"{where}{key} is no entry of a card{meant}"
    return None


def _text(value) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(value, count: int, test) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == count and all(map(test, value))


def _positive(value) -> bool:
    return _number(value) and value > 0


def _range(value) -> bool:
    return _numbers(value, 2, lambda end: _numbers(end, 3, _number))


def _object(value) -> bool:
    return isinstance(value, dict)


# path: its test, what it must be, and whether it may be missing or null; an object comes before what is in it
_ENTRIES = {
    **{key: (_text, "a text", False) for key in ("name", "version", "title", "task")},
    **{
        key: (_object, "an object", False)
        for key in ("architecture", "input", "outputs", "dropout", "training", "accuracy", "calibration", "weights")
    },
    "architecture.name": (_text, "a text", False),
    "architecture.arguments": (_object, "an object", False),
    "input.modality": (lambda v: v in ("CT", "MR"), "CT or MR", True),
    "input.spacing_mm": (
        lambda v: _numbers(v, 3, lambda s: s is None or _positive(s)),
        "three positive numbers or nulls",
        False,
    ),
    "input.channels": (
        lambda v: isinstance(v, list) and len(v) > 0 and all(map(_text, v)) and len(set(v)) == len(v),
        "a list of different names",
        True,
    ),
    "input.minimum_size": (lambda v: _numbers(v, 3, _positive), "three positive numbers", True),
    "input.spacing_range_mm": (_range, "two times three numbers", True),
    "input.field_of_view_mm": (_range, "two times three numbers", True),
    "outputs.structures": (lambda v: isinstance(v, list) and len(v) < 256, "a list of at most 255", False),
    "outputs.synct": (_object, "an object", True),
    "outputs.synct.scale": (_positive, "a positive number", True),
    "outputs.synct.offset": (_number, "a number", True),
    "outputs.deformation": (_object, "an object", True),
    "dropout.p": (lambda v: _number(v) and 0 <= v < 1, "a number from 0 to below 1", False),
    "calibration.synct": (_object, "an object", True),
    "calibration.volumes": (_object, "an object", True),
    "weights.file": (_text, "the name of a file", False),
}
# a name becomes part of a file's
_STRUCTURE = {
    "name": (
        lambda v: _text(v) and re.fullmatch(r"""[^/\\:*?"<>|\x00-\x1f]{1,64}""", v) is not None,
        '1 to 64 letters, without those that no file name has (/ \\ : * ? " < > |)',
    ),
    "label": (lambda v: isinstance(v, int) and not isinstance(v, bool) and 0 < v < 256, "a whole number from 1 to 255"),
    "color": (lambda v: _numbers(v, 3, lambda c: _number(c) and 0 <= c <= 255), "three numbers from 0 to 255"),
}
# all entries of a card, and of those parts of it that steer what is computed
_TOP = (
    "format", "name", "version", "title", "task", "architecture", "input", "outputs", "dropout", "checkpoints",
    "training", "accuracy", "calibration", "intended_use", "licence", "weights",
)  # fmt: skip
_KNOWN = {
    "architecture": ("name", "arguments", "parameters"),
    "input": (
        "modality", "sequence", "region", "spacing_mm", "spacing_range_mm", "minimum_size", "field_of_view_mm",
        "normalisation", "bias_field", "statistics", "channels",
    ),
    "outputs": ("synct", "structures", "deformation"),
    "dropout": ("p", "where"),
    "weights": ("file", "sha256", "bytes"),
    "structure": ("name", "label", "color", "code", "rule", "description", "path", "segment", "holds"),
    "rule": ("largest", "fill_holes", "smallest_ml"),
}  # fmt: skip

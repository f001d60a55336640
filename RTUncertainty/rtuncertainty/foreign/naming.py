"""What the labels of an image are called: by source.json, nnU-Net's dataset.json, the table that TotalSegmentator
writes into the NIfTI header, or the .json beside the image.
"""

from __future__ import annotations

import gzip
import html
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from ..core import image_io
from ..core.errors import InputError
from ..core.scans.headers import is_nifti
from .source import table

DATASET = "dataset.json"
# of a NIfTI header with its extensions
MOST_BYTES = 1 << 20


@dataclass
class Names:
    """Names of labels.

    Attributes:
        values: {name: the labels that it consists of}, in the order of a model's classes.
        by: the file that says so.
        regions: whether structures may hold one another, each with a probability of its own (nnU-Net's regions).
    """

    values: dict[str, tuple[int, ...]]
    by: str
    regions: bool = False


def of_labels(path: Path, structures: dict[str, dict]) -> Names | None:
    """The names of the labels of an image, or of the classes of an `.npz`.

    Args:
        path: of the file; what lies beside it is looked at.
        structures: of source.json, which come first.

    Returns:
        The names; None where nothing says any.

    Raises:
        InputError: a file of names that cannot be understood.
    """
    if any("label" in s for s in structures.values()):
        given = sorted((s["label"], name) for name, s in structures.items() if "label" in s)
        return Names({name: (label,) for label, name in given}, "source.json")
    dataset = path.parent / DATASET
    if dataset.is_file():
        return _of_dataset(dataset)
    known = header_table(path) if is_nifti(path) else {}
    if known:
        return Names({name: (label,) for label, name in sorted(known.items())}, str(path))
    beside = path.with_name(image_io.stem(path) + ".json")
    if beside.is_file():
        found = table(beside)
        if all(type(v) is int and v > 0 for v in found.values()) and len(set(found.values())) == len(found) > 0:
            return Names({n: (v,) for n, v in sorted(found.items(), key=lambda item: item[1])}, str(beside))
    return None


def _of_dataset(file: Path) -> Names:
    """nnU-Net v2: {"labels": {"background": 0, "PZ": 1}}, or regions {"whole": [1, 2], "core": [2]}."""
    labels = table(file).get("labels")
    if not isinstance(labels, dict) or labels.get("background") != 0:
        raise InputError(
            f'{file}: has no labels of nnU-Net v2, such as {{"background": 0, "PZ": 1}}; convert the dataset, or name '
            "the labels in a source.json."
        )
    found: dict[str, tuple[int, ...]] = {}
    for name, value in labels.items():
        values = tuple(value) if isinstance(value, list) else (value,)
        if name in ("background", "ignore") or values == (0,):
            continue
        if not values or not all(type(v) is int and v > 0 for v in values):
            raise InputError(
                f"{file}: the label of '{name}' is {value!r}; it must be a whole number or a list of such."
            )
        found[name] = values
    regions = any(len(v) > 1 for v in found.values())
    if not found:
        raise InputError(f"{file}: names no structure; copy the dataset.json that nnU-Net wrote beside its results.")
    # channels of a softmax follow the labels, those of regions the file
    return Names(found if regions else dict(sorted(found.items(), key=lambda item: item[1])), str(file), regions)


def header_table(path: Path) -> dict[int, str]:
    """The label table that TotalSegmentator writes behind the NIfTI-1 header of a multilabel image (an extension in
    Caret's XML).

    Args:
        path: NIfTI.

    Returns:
        {label: name}; empty without a table.
    """
    try:
        with (gzip.open if path.name.lower().endswith(".gz") else open)(path, "rb") as file:
            head = file.read(352)
            if len(head) < 352 or head[348] == 0:  # no extension
                return {}
            behind = file.read(MOST_BYTES).split(b"</CaretExtension>")
    except (OSError, EOFError, zlib.error):
        return {}  # who reads the voxels will say
    if len(behind) < 2 or b"<LabelTable>" not in behind[0]:
        return {}
    text = behind[0].decode("utf-8", "replace")
    # nnU-Net labels are whole numbers; the rest of the XML is colours
    found = re.findall(r'<Label Key="(\d+)"[^>]*>(?:<!\[CDATA\[(.*?)\]\]>|([^<]*))</Label>', text, re.DOTALL)
    return {int(key): raw or html.unescape(plain) for key, raw, plain in found if int(key) > 0}

"""Scanner and protocol as an image states them: what a drift of either is seen by. Nothing of a patient is read, and no
free text, in which a name could stand.
"""

from __future__ import annotations

import math
from pathlib import Path

import SimpleITK as sitk

# of each fact: DICOM's tag, and whether it is a number
TAGS = {
    "modality": ("0008|0060", False),
    "manufacturer": ("0008|0070", False),
    "model": ("0008|1090", False),
    "field_strength_t": ("0018|0087", True),
    "kvp": ("0018|0060", True),
    "kernel": ("0018|1210", False),
    "scanning_sequence": ("0018|0020", False),
    "sequence_variant": ("0018|0021", False),
    "repetition_time_ms": ("0018|0080", True),
    "echo_time_ms": ("0018|0081", True),
    "flip_angle_degrees": ("0018|1314", True),
    "slice_thickness_mm": ("0018|0050", True),
}
SCANNER = ("modality", "manufacturer", "model", "field_strength_t")
# by how much a number of a protocol may differ and still be the same
ALIKE = 0.05


def of(place) -> dict[str, str | float]:
    """What a DICOM series says of how it was taken.

    Args:
        place: a folder with the series, or one of its files; any other image says nothing.

    Returns:
        Facts by the names of `TAGS`, of those that are stated.
    """
    from .dicom_scan import is_dicom

    if not isinstance(place, (str, Path)):
        return {}
    path = Path(place)
    try:
        files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    except OSError:
        return {}
    first = next((f for f in files if is_dicom(f)), None)
    if first is None:
        return {}
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(first))
    reader.SetImageIO("GDCMImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return {}
    found: dict[str, str | float] = {}
    for name, (tag, numeric) in TAGS.items():
        value = reader.GetMetaData(tag).strip().rstrip("\0").strip() if reader.HasMetaDataKey(tag) else ""
        if not value:
            continue
        if not numeric:
            found[name] = value
            continue
        try:
            number = float(value.split("\\")[0])
        except ValueError:
            continue
        if math.isfinite(number):
            found[name] = number
    return found


def scanner(facts: dict) -> str:
    """Who made the scanner and which it is, in one line; empty where nothing is stated."""
    said = [str(facts[k]) for k in ("manufacturer", "model") if facts.get(k)]
    return " ".join(said + [f"{facts[k]:g} T" for k in ("field_strength_t",) if k in facts])


def differences(facts: dict, known: list[dict]) -> list[str]:
    """In what an acquisition differs from all known ones.

    Args:
        facts: of `of`.
        known: of the acquisitions that count as usual.

    Returns:
        A line for each fact that none of them shares; nothing where either says nothing.
    """
    out = []
    for name, value in facts.items():
        seen = sorted({k[name] for k in known if name in k}, key=str)
        if seen and not any(_alike(value, s) for s in seen):
            out.append(f"{name.replace('_', ' ')} {_text(value)} (at commissioning {', '.join(map(_text, seen))})")
    return out


def _alike(a, b) -> bool:
    if isinstance(a, float) and isinstance(b, (int, float)):
        return abs(a - b) <= ALIKE * max(abs(a), abs(b))
    return str(a).strip().lower() == str(b).strip().lower()


def _text(value) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)

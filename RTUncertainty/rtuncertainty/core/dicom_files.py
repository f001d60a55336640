"""What knows DICOM objects, the package `rtuncertainty.dicom` beside this one, is found by name when it is needed, and only then.

It needs pydicom, which this package does without; image series are read by SimpleITK.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from .errors import InputError


def is_dicom(path) -> bool:
    """Whether a file looks like DICOM: by its mark, or without one by the group that every dataset begins with."""
    try:
        with open(path, "rb") as file:
            start = file.read(132)
    except OSError:
        return False
    return start[128:] == b"DICM" or start[:4] in (b"\x08\x00\x00\x00", b"\x08\x00\x05\x00", b"\x08\x00\x08\x00", b"\x08\x00\x16\x00")


def may_hold_dicom(path) -> bool:
    """Whether `path` is a DICOM file or a folder, in which one may lie."""
    return Path(path).is_dir() or is_dicom(path)


def library(wanted_for: str):
    """The package `rtuncertainty.dicom`. Raises `InputError`, which says what it was `wanted_for`, where it or pydicom is missing."""
    for name, remedy in (("pydicom", "run 'pip install pydicom'"), ("rtuncertainty.dicom", "install RTUncertainty again")):
        try:
            found = importlib.import_module(name)
        except ImportError:
            raise InputError(f"{wanted_for} needs {name}: {remedy}.") from None
    return found

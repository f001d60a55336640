"""Structures from whatever file holds them, DICOM included, and how to know DICOM without pydicom."""

from __future__ import annotations

import importlib
from pathlib import Path

import SimpleITK as sitk

from rtuncertainty.core import structure_set
from rtuncertainty.core.errors import InputError
from rtuncertainty.core.scans.dicom_scan import is_dicom


def may_hold_dicom(path) -> bool:
    """Whether `path` is a DICOM file or a folder, in which one may lie."""
    return Path(path).is_dir() or is_dicom(path)


def require_pydicom(wanted_for: str) -> None:
    """Raises where pydicom is missing.

    Args:
        wanted_for: what it is wanted for.

    Raises:
        InputError: says so and how to get it.
    """
    try:
        importlib.import_module("pydicom")
    except ImportError:
        raise InputError(f"{wanted_for} needs pydicom: run 'pip install pydicom'.") from None


def read(
    given,
    name: str = "the structures",
    grid: sitk.Image | None = None,
    tell=None,
    grid_name: str = "the image",
    empty: bool = False,
) -> dict[str, structure_set.Structure]:
    """Structures by name from all that `core.structure_set.read` takes, and from an RTSTRUCT.

    Args:
        given: a `.seg.nrrd` file, a label image, a dict {name: mask}, an RTSTRUCT file, or a folder with one.
        name: what messages call `given` where it is no path.
        grid: the image on which an RTSTRUCT was drawn; its contours become masks on these voxels.
        tell: called with notes on contours that are left out.
        grid_name: what messages call `grid`.
        empty: whether no structure needs a voxel.

    Raises:
        InputError: the file cannot be read, or holds no structures.
    """
    if isinstance(given, (dict, sitk.Image)) or not may_hold_dicom(given):
        return structure_set.read(given, name, empty, tell)
    require_pydicom("an RTSTRUCT")
    from .rtstruct_read import read_structures

    return structure_set.checked(read_structures(given, grid, tell, grid_name), str(given), empty)

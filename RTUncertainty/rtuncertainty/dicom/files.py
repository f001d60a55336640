"""Reading DICOM files: whole or with a clear error, and without a word of pydicom's own about their contents."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.errors import BytesLengthException
from pydicom.filereader import data_element_generator
from pydicom.uid import DeflatedExplicitVRLittleEndian

from rtuncertainty.core.errors import InputError
from rtuncertainty.core.scans.frames import quiet

from .structure_input import is_dicom

# of elements with this length the end is marked instead
_UNDEFINED = 0xFFFFFFFF


def read_header(path: Path):
    """A file without its pixels.

    Args:
        path: of the file.

    Returns:
        The dataset, or None for what is no DICOM file or cannot be parsed.

    Raises:
        InputError: no permission to read it.
    """
    if not is_dicom(path):
        return None
    try:
        with quiet():
            return pydicom.dcmread(path, stop_before_pixels=True, force=True)
    except PermissionError:
        raise InputError(f"{path}: no permission to read it.") from None
    except Exception:  # pydicom raises whatever the damage leads to
        return None


def read_whole(path: Path):
    """A file, every element of it.

    Args:
        path: of the file.

    Returns:
        The dataset.

    Raises:
        InputError: a file that is missing, damaged or cut short.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file.")
    if not is_dicom(path):
        raise InputError(f"{path}: is no DICOM file.")
    try:
        with quiet():
            dataset = pydicom.dcmread(path, force=True)
            short = _is_cut_short(path, dataset)
    except PermissionError:
        raise InputError(f"{path}: no permission to read it.") from None
    except Exception:
        raise InputError(f"{path}: cannot be read as DICOM; it is damaged, copy it again.") from None
    if short:
        raise InputError(f"{path}: is cut short; copy it again.")
    return dataset


def _is_cut_short(path: Path, dataset) -> bool:
    """Whether the file ends within an element. pydicom takes what there is and says nothing."""
    meta = getattr(dataset, "file_meta", {})
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        return False  # zlib has checked it
    with open(path, "rb") as file:
        # the dataset begins behind the preamble, the mark and the elements of group 2, whose length comes first
        start = 144 + meta["FileMetaInformationGroupLength"].value if "FileMetaInformationGroupLength" in meta else 0
        file.seek(start)
        try:
            for element in data_element_generator(file, *dataset.original_encoding):
                length = getattr(element, "length", _UNDEFINED)
                if length not in (0, _UNDEFINED) and len(element.value or b"") < length:
                    return True
                start = file.tell()
        except (EOFError, OSError, BytesLengthException):
            return True
    return start < path.stat().st_size


def value(dataset, keyword: str, default=""):
    """The value of an element.

    Args:
        dataset: of pydicom.
        keyword: of the element.
        default: where it is missing, empty or not of its kind.

    Returns:
        As pydicom has it.
    """
    try:
        with quiet():
            found = dataset.get(keyword)
    except Exception:
        return default
    return default if found is None or found == "" else found


def numbers(dataset, keyword: str, count: int) -> list[float] | None:
    """The numbers of an element.

    Args:
        dataset: of pydicom.
        keyword: of the element.
        count: how many there must be.

    Returns:
        None where there are not so many.
    """
    found = value(dataset, keyword, None)
    try:
        found = [float(v) for v in found]
    except (TypeError, ValueError):
        return None
    return found if len(found) == count else None

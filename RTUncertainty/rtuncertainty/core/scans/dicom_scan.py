"""One scan from DICOM files: which files of a folder are its slices, whether they agree, and their values, each slice
scaled by its own tags.

GDCM reads the pixels of slices, pydicom those of multi-frame images (`frames`). Both take what they get: that slices
fit together is looked at here.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from . import frames, slice_stack

# what is no scan, though it may lie beside one: other objects of radiotherapy, reports, and pictures
NO_SCAN = (
    *("SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", "RTRECORD", "RTIMAGE", "REG", "FID", "PR", "SR", "KO", "DOC", "OT"),
    *("SM", "XC", "ES", "GM", "OP", "OPT", "US", "ECG", "CR", "DX", "MG", "RF", "XA", "PLAN", "M3D"),
)
TAGS = {
    "SOPClassUID": "0008|0016",
    "Modality": "0008|0060",
    "ImageType": "0008|0008",
    "PatientID": "0010|0020",
    "FrameOfReferenceUID": "0020|0052",
    "ImagePositionPatient": "0020|0032",
    "ImageOrientationPatient": "0020|0037",
    "SamplesPerPixel": "0028|0002",
    "PhotometricInterpretation": "0028|0004",
    "NumberOfFrames": "0028|0008",
    "Rows": "0028|0010",
    "Columns": "0028|0011",
    "PixelSpacing": "0028|0030",
    "BitsStored": "0028|0101",
    "PixelRepresentation": "0028|0103",
    "RescaleIntercept": "0028|1052",
    "RescaleSlope": "0028|1053",
    "RescaleType": "0028|1054",
    "Units": "0054|1001",
}
# in which the slices of one volume may not differ; one that lacks it does not
ALIKE = (
    "SOPClassUID",
    "Modality",
    "PatientID",
    "FrameOfReferenceUID",
    "PhotometricInterpretation",
    "RescaleType",
    "Units",
)
# of a CT; "US" is unspecified, which of a CT's slices means HU
HU = ("", "HU", "HU_MOD", "US")
CT_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.2{end}" for end in ("", ".1", ".2"))
# HU; a CT has air or at least fat in it
FAT = -50.0
IMAGE_CLASS = re.compile(rb"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(1|2|4|7|12|20|128|130)(\.[0-9.]+)?\0?$")


def is_dicom(path) -> bool:
    """Whether a file looks like DICOM: by its mark, or without one by the group that every dataset begins with."""
    try:
        with open(path, "rb") as file:
            start = file.read(132)
    except OSError:
        return False
    return start[128:] == b"DICM" or start[:4] in (
        b"\x08\x00\x00\x00",
        b"\x08\x00\x05\x00",
        b"\x08\x00\x08\x00",
        b"\x08\x00\x16\x00",
    )


def tag_of(keyword: str) -> str:
    """A keyword with its tag, as in "RescaleSlope (0028,1053)"."""
    return f"{keyword} ({TAGS[keyword].replace('|', ',')})"


def read(place: Path, tell=None) -> sitk.Image:
    """The scan in a folder, or in a DICOM file with many frames, as float32, with the metadata "modality" and
    "frame_of_reference" where they are known.

    tell: called with notes, lines of text. Raises `InputError` for what makes no volume, or whose values cannot be
    known.
    """
    files = _series(place) if place.is_dir() else [place]
    headers = [_header(file) for file in files]
    _require_alike(place, headers)
    if any(frames.is_multi_frame(h) for h in headers):
        for h, file in zip(headers, files):
            _require_scan(place, h, file)
        image, order, axes, step, positions = frames.read(place, files)
    else:
        if not place.is_dir():
            raise InputError(f"{place} is a single DICOM slice; give the folder in which all slices of the scan lie.")
        image, order, axes, step, positions = _slices(place, files, headers)
    uneven = slice_stack.uneven(positions, order, axes, step)
    if uneven and tell is not None:
        tell(f"{place}: {uneven}")
    for key, keyword in (("modality", "Modality"), ("frame_of_reference", "FrameOfReferenceUID")):
        found = next((h[keyword] for h in headers if h.get(keyword)), "")
        if found:
            image.SetMetaData(key, found)
    return image


def _series(folder: Path) -> list[str]:
    """The files of the only scan in a folder."""
    reader, shown = sitk.ImageSeriesReader(), sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # of a folder without a series, which is told below
    try:
        found = [list(reader.GetGDCMSeriesFileNames(str(folder), n)) for n in reader.GetGDCMSeriesIDs(str(folder))]
    except RuntimeError:  # GDCM does not sort frames without a place; why they are none is told where they are read
        found = [[str(p)] for p in sorted(folder.iterdir()) if p.is_file() and is_dicom(p)]
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
    kinds = [_modality(files[0]) for files in found]
    scans = [files for files, kind in zip(found, kinds) if kind not in NO_SCAN]
    if not scans:
        what = f"{' and '.join(sorted(set(kinds)))}, but no scan" if kinds else "no DICOM series"
        raise InputError(f"{folder} holds {what}; give the folder in which the slices lie.")
    if len(scans) > 1:
        raise InputError(
            f"{folder} holds {len(scans)} DICOM series (of {', '.join(str(len(s)) for s in scans)} files); give a "
            "folder with one."
        )
    [files] = scans
    damaged = _left_out(folder, files, {Path(f).name for other in found for f in other})
    if damaged is not None:
        raise InputError(
            f"{damaged} cannot be read as a DICOM slice; it is damaged: copy it again, or take it out of the folder."
        )
    return files


def _modality(file: str) -> str:
    try:
        return _header(file).get("Modality", "")
    except InputError:
        return ""  # it is told where it is read as a slice


def _left_out(folder: Path, files, listed) -> Path | None:
    """A file that GDCM passed over though it was a slice: damaged, cut short or empty."""
    suffixes = {Path(f).suffix.lower() for f in files} - {""}
    shapes = {re.sub(r"\d+", "0", Path(f).name) for f in files}
    for path in sorted(folder.iterdir()):
        if path.name in listed or path.name.startswith(".") or not path.is_file():
            continue
        if is_dicom(path):
            with open(path, "rb") as file:
                start = file.read(1024)
            # the class of what is stored, in the first group, whose form never changes
            at = start.find(b"\x02\x00\x02\x00UI")
            stored = start[at + 8 : at + 8 + int.from_bytes(start[at + 6 : at + 8], "little")] if at > 0 else b""
            if at < 0 and start[128:132] == b"DICM" or IMAGE_CLASS.match(stored):
                return path
        elif path.suffix.lower() in suffixes or re.sub(r"\d+", "0", path.name) in shapes or path.stat().st_size == 0:
            return path
    return None


def _header(file) -> dict[str, str]:
    """What a file says of itself, by keyword (`TAGS`)."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    reader.SetImageIO("GDCMImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if has_pydicom() and frames.is_enhanced(file):  # GDCM knows no frames without a place: they tell it themselves
            return {"SOPClassUID": frames.ENHANCED[0]}
        raise InputError(f"{file} cannot be read as a DICOM slice; it is damaged, copy it again.") from error
    return {
        keyword: reader.GetMetaData(tag).strip().rstrip("\0").strip()
        for keyword, tag in TAGS.items()
        if reader.HasMetaDataKey(tag)
    }


def _no_volume(place: Path, count: int, why) -> InputError:
    return InputError(
        f"{place}: its {count} slices make no volume: {why}; give a folder with all slices of one series, each once."
    )


def _require_alike(place: Path, headers) -> None:
    for keyword in ALIKE:
        if len({h[keyword] for h in headers if h.get(keyword)}) > 1:
            raise _no_volume(place, len(headers), f"they differ in {tag_of(keyword)}")


def _require_scan(place, header, file) -> None:
    if header.get("Modality") in NO_SCAN:
        raise InputError(f"{file} is {header['Modality']}, no scan; give the folder of the CT or MR.")
    if header.get("SamplesPerPixel", "1") != "1":
        raise InputError(f"{file} is a picture in colours, no scan; give the folder of the CT or MR.")
    kind = header.get("PhotometricInterpretation", "MONOCHROME2")
    if kind != "MONOCHROME2":  # of MONOCHROME1 GDCM turns the numbers round
        raise InputError(f"{file} states {tag_of('PhotometricInterpretation')} {kind}; export it as MONOCHROME2.")


def _slices(place: Path, files, headers):
    """(image, order, axes, step, positions) of single slices."""
    for header, file in zip(headers, files):
        _require_scan(place, header, file)
    try:
        places = [_place(h) for h in headers]
        order, axes, step = slice_stack.ordered(*zip(*places))
    except ValueError as why:
        raise _no_volume(place, len(files), why) from None
    require_scaling(headers, files)
    for file in files:
        if frames.is_short(file):
            raise InputError(f"{file} holds fewer pixels than it says; it is damaged, copy it again.")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(files[i]) for i in order])
    # each slice is scaled by its own slope and intercept; the first one's pixel type must not decide for all
    reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError(f"{place}: the DICOM series cannot be read; it is damaged, copy it again.") from error
    image.SetSpacing([*image.GetSpacing()[:2], step])
    image.SetOrigin(places[order[0]][1])
    image.SetDirection([float(v) for v in axes.ravel()])
    return image, order, axes, step, [p[1] for p in places]


def _place(header: dict[str, str]) -> tuple:
    """Orientation, position, pixel spacing and shape of a slice."""

    def numbers(keyword, count):
        try:
            found = [float(v) for v in header.get(keyword, "").split("\\") if v.strip()]
        except ValueError:
            found = []
        if len(found) != count:
            raise ValueError(f"position, orientation or pixel spacing is missing: {tag_of(keyword)}")
        return found

    return (
        numbers("ImageOrientationPatient", 6),
        numbers("ImagePositionPatient", 3),
        numbers("PixelSpacing", 2),
        numbers("Rows", 1) + numbers("Columns", 1),
    )


def require_scaling(headers, names) -> None:
    """Raise `InputError` unless what stored numbers mean is known: of a CT slope and intercept to HU, of others that
    all slices have them or none.

    Args:
        headers: of each slice or frame what it says, by keyword (`TAGS`).
        names: what messages call each of them.
    """
    is_ct = any(h.get("Modality") == "CT" or h.get("SOPClassUID") in CT_CLASSES for h in headers)
    scaled = [bool(h.get("RescaleSlope")) and bool(h.get("RescaleIntercept")) for h in headers]
    tags = f"{tag_of('RescaleSlope')} or {tag_of('RescaleIntercept')}"
    if not all(scaled) and (is_ct or any(scaled) or any(h.get("RescaleSlope") for h in headers)):
        without = next(n for n, s in zip(names, scaled) if not s)
        numbers = "which are no HU without them" if is_ct else "though others have them"
        raise InputError(f"{without} lacks {tags} of its numbers, {numbers}; export the scan again.")
    for header, name in zip(headers, names):
        if not header.get("RescaleSlope"):
            continue
        try:
            slope, intercept = float(header["RescaleSlope"]), float(header["RescaleIntercept"])
        except ValueError:
            slope = intercept = float("nan")
        if not (np.isfinite([slope, intercept]).all() and slope != 0):
            raise InputError(
                f"{name} states {tag_of('RescaleSlope')} {header['RescaleSlope']} and {tag_of('RescaleIntercept')} "
                f"{header['RescaleIntercept']}, which scale nothing; export the scan again."
            )
        if not is_ct:
            continue
        if header.get("RescaleType", "").upper() not in HU:
            raise InputError(
                f"{name} states {tag_of('RescaleType')} {header['RescaleType']}, so its numbers are no HU; export the "
                "CT in HU."
            )
        if "LOCALIZER" in header.get("ImageType", "").upper():
            raise InputError(
                f"{name} is a localizer by its {tag_of('ImageType')}, no slice; take it out of the folder."
            )
        bits = int(float(header.get("BitsStored") or 16))
        signed = header.get("PixelRepresentation", "0") == "1"
        if slope > 0 and intercept - slope * signed * 2 ** (bits - 1) > FAT:
            raise InputError(
                f"{name} can hold no HU below {intercept:g} by its {tag_of('RescaleIntercept')} and "
                "PixelRepresentation (0028,0103), and a CT has air or fat in it; export the scan again."
            )


def has_pydicom() -> bool:
    """Whether pydicom is there."""
    return importlib.util.find_spec("pydicom") is not None

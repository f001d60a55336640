"""A dose distribution from a file, in Gy."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..core import image_io
from ..core.errors import InputError
from ..core.scans import frames
from ..core.scans.dicom_scan import is_dicom

UNITS = {"Gy": 1.0, "cGy": 0.01}
# Gy; more is hardly ever a dose outside of brachytherapy, but the usual sign of cGy
UNUSUAL = 200.0
# Gy; what no radiation therapy reaches: stored numbers of an RTDOSE without their scaling, for instance
IMPOSSIBLE = 1e5


def read(path, unit: str | None = None, note=None) -> sitk.Image:
    """A dose in Gy, never negative.

    Args:
        path: NRRD, NIfTI or MetaImage, an RTDOSE file, or a folder with one, in which no other DICOM file lies.
        unit: of an image file, "Gy" (also None) or "cGy". An RTDOSE brings its own, and its DoseGridScaling, whatever
            `unit` says.
        note: called with a sentence where nobody said the unit and the numbers look like another one.

    Returns:
        3-D, float32; the metadata "frame_of_reference" is the RTDOSE's.

    Raises:
        InputError: what `image_io.read` refuses, negative and impossible doses, relative doses, frames of uneven
            distance and a modality other than RTDOSE.
    """
    path = Path(path)
    if unit is not None and unit not in UNITS:
        raise InputError(f"dose unit '{unit}' is unknown; use {' or '.join(UNITS)}.")
    file = _dicom_file(path)
    image = _read_rtdose(file, note) if file is not None else image_io.read(path, tell=note) * UNITS[unit or "Gy"]
    array = sitk.GetArrayViewFromImage(image)
    negative = int((array < 0).sum())
    if negative:
        raise InputError(
            f"{path} holds {negative} negative values (down to {array.min():g}); it is no dose, or a difference of "
            "doses."
        )
    if array.max() > IMPOSSIBLE:
        raise InputError(
            f"{path} reaches {array.max():g} Gy, which no dose does; give it in Gy (an RTDOSE's stored numbers need "
            "its DoseGridScaling)."
        )
    if note is not None and unit is None and array.max() > UNUSUAL:
        note(f"{path} reaches {array.max():.0f} Gy; if its numbers are cGy, say --dose-unit cGy.")
    return image


def _dicom_file(path: Path) -> Path | None:
    """The DICOM file that `path` is, or that the folder `path` holds; None for a file of another kind."""
    if not path.is_dir():
        return path if is_dicom(path) else None
    # a folder may hold the scan as well, and a scan must not be taken for a dose
    files = [p for p in path.iterdir() if p.is_file() and is_dicom(p)]
    if len(files) != 1:
        raise InputError(
            f"{path} holds {len(files) or 'no'} DICOM file{'' if not files else 's'}; give the RTDOSE file itself."
        )
    return files[0]


def _read_rtdose(path: Path, note=None) -> sitk.Image:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    try:
        reader.ReadImageInformation()
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read as a DICOM image; give an RTDOSE file with its dose grid.") from error

    def tag(key):
        return reader.GetMetaData(key).strip().strip("\0").strip() if reader.HasMetaDataKey(key) else ""

    modality, units = tag("0008|0060"), tag("3004|0002").upper()
    if modality != "RTDOSE":
        raise InputError(f"{path} is a DICOM file of modality {modality or 'unknown'}; give an RTDOSE file.")
    if units != "GY":
        raise InputError(f"{path} holds a dose in units '{units or 'unknown'}'; export the dose in Gy.")
    if tag("3004|0004").upper() == "ERROR":
        raise InputError(f"{path} holds a difference of doses (DoseType, 3004,0004, is ERROR); give a dose.")
    if tag("0028|0004") not in ("", "MONOCHROME2"):  # of MONOCHROME1 GDCM turns the numbers round
        raise InputError(f"{path} states PhotometricInterpretation (0028,0004) {tag('0028|0004')}; export it again.")
    if frames.is_short(path):
        raise InputError(f"{path} holds fewer pixels than it says; it is damaged, copy it again.")
    image = _placed(path, _scaled(path, image, tag), tag)
    image = image_io.check(image, str(path))
    if tag("0020|0052"):
        image.SetMetaData("frame_of_reference", tag("0020|0052"))
    summed = tag("3004|000a").upper()
    if note is not None and summed not in ("", "PLAN", "MULTI_PLAN", "PLAN_OVERVIEW", "RECORD"):
        note(f"{path} holds the dose of one {summed} (DoseSummationType, 3004,000A), not of a plan.")
    return image


def _scaled(path: Path, image: sitk.Image, tag) -> sitk.Image:
    """Gy, float64, of what GDCM has read: it leaves DoseGridScaling to others, but does apply a RescaleSlope, which
    means nothing in an RTDOSE.
    """
    try:
        scaling = float(tag("3004|000e"))
    except ValueError:
        raise InputError(
            f"{path} has no DoseGridScaling (3004,000E), without which its numbers are no dose; export it again."
        ) from None
    if not (scaling > 0 and math.isfinite(scaling)):
        raise InputError(
            f"{path} states a DoseGridScaling (3004,000E) of {scaling:g}; it must be positive: export it again."
        )
    image = sitk.Cast(image, sitk.sitkFloat64)
    try:
        slope, intercept = float(tag("0028|1053") or 1), float(tag("0028|1052") or 0)
    except ValueError:
        slope, intercept = math.nan, 0.0
    if (slope, intercept) != (1, 0):
        if not (math.isfinite(slope) and math.isfinite(intercept) and slope):
            raise InputError(f"{path} states a RescaleSlope (0028,1053) that is no number or 0; export it again.")
        image = sitk.Round((image - intercept) / slope)
    return image * scaling


def _placed(path: Path, image: sitk.Image, tag) -> sitk.Image:
    """The dose at its place: GDCM makes 1 mm and the origin of what is not there.

    Planes lie at GridFrameOffsetVector from the first along the normal, or, where it begins with the first plane's
    height in an axial grid, at these heights (PS3.3, C.8.8.3.2). Raises `InputError` for what is missing or uneven.
    """
    found, frame_count = {}, image.GetSize()[2] if image.GetDimension() > 2 else 1
    for keyword, key, count in (
        ("ImageOrientationPatient", "0020|0037", 6),
        ("ImagePositionPatient", "0020|0032", 3),
        ("PixelSpacing", "0028|0030", 2),
        ("GridFrameOffsetVector", "3004|000c", frame_count),
    ):
        if keyword == "GridFrameOffsetVector" and frame_count == 1:  # told as a single slice
            found[keyword] = np.zeros(1)
            continue
        name = f"{keyword} ({key.replace('|', ',').upper()})"
        try:
            numbers = np.array([float(v) for v in tag(key).split("\\") if v.strip()])
        except ValueError:
            numbers = np.array([math.nan])
        if len(numbers) != count or not np.isfinite(numbers).all():
            raise InputError(
                f"{path} has {f'{len(numbers)} numbers in' if len(numbers) else 'no'} {name}, {count} are needed to "
                "know where its dose lies; export it again."
            )
        found[keyword] = numbers
    row, column = found["ImageOrientationPatient"].reshape(2, 3)
    if not np.allclose([row @ row, column @ column, row @ column], [1, 1, 0], atol=1e-3):
        raise InputError(
            f"{path} has an ImageOrientationPatient (0020,0037) that is not two directions at a right angle; export it "
            "again."
        )
    if min(found["PixelSpacing"]) <= 0:
        raise InputError(f"{path} has a PixelSpacing (0028,0030) that is not positive; export it again.")
    row, column = row / np.linalg.norm(row), column / np.linalg.norm(column)
    normal, origin, offsets = np.cross(row, column), found["ImagePositionPatient"], found["GridFrameOffsetVector"]
    steps = np.diff(offsets)
    if len(steps) and not (np.ptp(steps) <= 0.01 * abs(steps[0]) and abs(offsets[-1] - offsets[0]) > 0):
        raise InputError(
            f"{path} has dose planes at uneven distances ({np.abs(steps).min():g} to {np.abs(steps).max():g} mm by its "
            "GridFrameOffsetVector, 3004,000C); export it on an even grid."
        )
    heights = len(steps) > 0 and abs(offsets[0]) > 0.01
    if heights and not (abs(normal[2]) > 1 - 1e-3 and abs(offsets[0] - origin[2]) <= 0.01):
        raise InputError(
            f"{path} has a GridFrameOffsetVector (3004,000C) that begins with {offsets[0]:g} mm, neither 0 nor the "
            "height of its first plane, so the planes' place is not known; export it again."
        )
    step = float(steps.mean()) if len(steps) else 1.0
    if heights:
        step *= np.sign(normal[2])  # heights, not distances along the normal
    if image.GetDimension() == 3:
        image.SetSpacing([float(found["PixelSpacing"][1]), float(found["PixelSpacing"][0]), abs(step)])
        image.SetOrigin(origin.tolist())
        image.SetDirection(np.stack([row, column, normal * np.sign(step)], 1).ravel().tolist())
    return image

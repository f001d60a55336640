"""A dose distribution from a file, in Gy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..core import image_io
from ..core.errors import InputError
from ..dicom.structure_input import is_dicom

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
    image = _read_rtdose(file) if file is not None else image_io.read(path) * UNITS[unit or "Gy"]
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


def _read_rtdose(path: Path) -> sitk.Image:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    try:
        reader.ReadImageInformation()
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read as a DICOM image; give an RTDOSE file with its dose grid.") from error

    def tag(key):
        return reader.GetMetaData(key).strip().strip("\0") if reader.HasMetaDataKey(key) else ""

    modality, units = tag("0008|0060"), tag("3004|0002").upper()
    if modality != "RTDOSE":
        raise InputError(f"{path} is a DICOM file of modality {modality or 'unknown'}; give an RTDOSE file.")
    if units != "GY":
        raise InputError(f"{path} holds a dose in units '{units or 'unknown'}'; export the dose in Gy.")
    _require_even_frames(path, tag("3004|000c"))
    if "float" not in image.GetPixelIDTypeAsString():
        # GDCM leaves DoseGridScaling to the reader of the numbers
        try:
            scaling = float(tag("3004|000e"))
        except ValueError:
            raise InputError(
                f"{path} has no DoseGridScaling, without which its numbers are no dose; export it again."
            ) from None
        image = sitk.Cast(image, sitk.sitkFloat64) * scaling
    image = image_io.check(image, str(path))
    if tag("0020|0052"):
        image.SetMetaData("frame_of_reference", tag("0020|0052"))
    return image


def _require_even_frames(path: Path, offsets: str) -> None:
    """Raise `InputError` for a GridFrameOffsetVector of uneven steps, which no image grid can hold."""
    steps = np.diff([float(v) for v in offsets.split("\\") if v.strip()])
    if len(steps) and np.ptp(steps) > 0.01 * abs(steps[0]):
        raise InputError(
            f"{path} has dose planes at uneven distances ({np.abs(steps).min():g} to {np.abs(steps).max():g} mm); "
            "export it on an even grid."
        )

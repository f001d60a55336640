"""Multi-frame DICOM images (enhanced CT and MR, PS3.3 C.7.6.16): a volume from their frames, in any order.

Place, direction, voxel size and scale of each frame are those of its functional groups. Needs pydicom.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from . import slice_stack

# classes whose geometry lies in functional groups: enhanced and legacy converted CT, MR and PET
ENHANCED = tuple(
    f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2.1", "2.2", "4.1", "4.3", "4.4", "128.1", "130", "7.1", "7.2", "7.3")
)
# (sequence, element) in which the frames of one volume do not differ, and what they then show
ONE = (
    ("FrameContentSequence", "StackID", "stacks"),
    ("FrameContentSequence", "TemporalPositionIndex", "time points"),
    ("MREchoSequence", "EffectiveEchoTime", "echoes"),
    ("MRDiffusionSequence", "DiffusionBValue", "b-values"),
    ("MRImageFrameTypeSequence", "ComplexImageComponent", "parts of complex numbers"),
    ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase", "phases of the heart"),
    ("RespiratorySynchronizationSequence", "NominalPercentageOfRespiratoryPhase", "phases of breathing"),
)


@contextlib.contextmanager
def quiet():
    """A context in which DICOM libraries say nothing: their warnings quote values, a patient's name among them."""
    from pydicom import config

    logs = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    levels, settings = [log.level for log in logs], config.settings
    modes = settings.reading_validation_mode, settings.writing_validation_mode
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for log in logs:
            log.setLevel(logging.CRITICAL + 1)
        settings.reading_validation_mode = settings.writing_validation_mode = config.IGNORE
        try:
            yield
        finally:
            settings.reading_validation_mode, settings.writing_validation_mode = modes
            for log, level in zip(logs, levels):
                log.setLevel(level)


def is_multi_frame(header: dict[str, str]) -> bool:
    """Whether a file holds frames, by what it says of itself (`dicom_scan.TAGS`)."""
    try:
        many = int(header.get("NumberOfFrames") or 1) > 1
    except ValueError:
        many = True
    return many or header.get("SOPClassUID") in ENHANCED


def is_enhanced(file) -> bool:
    """Whether a file is an enhanced image by its class, read with pydicom."""
    import pydicom

    with quiet():
        try:
            return pydicom.dcmread(file, specific_tags=["SOPClassUID"]).get("SOPClassUID") in ENHANCED
        except Exception:  # no DICOM, or damaged
            return False


def is_short(file) -> bool:
    """Whether the pixels that are not compressed are fewer than rows and columns say, which GDCM fills up with zeros.
    Not known, and so False, without pydicom.
    """
    if importlib.util.find_spec("pydicom") is None:
        return False
    import pydicom
    from pydicom.pixels.utils import get_expected_length

    with quiet():
        try:
            header = pydicom.dcmread(file, force=True)
            if header.file_meta.get("TransferSyntaxUID", pydicom.uid.ImplicitVRLittleEndian).is_compressed:
                return False
            return "PixelData" in header and len(header.PixelData) < get_expected_length(header)
        except Exception:  # GDCM has read it
            return False


def read(place: Path, files):
    """(image, order, axes, step, positions) of the frames of all `files`; the image is float32, see
    `slice_stack.ordered` for the rest.

    Raises `InputError` for frames that make no volume, whose scale is not known, and without pydicom.
    """
    from . import dicom_scan

    if not dicom_scan.has_pydicom():
        raise InputError(f"{files[0]} is a multi-frame image, which needs pydicom: run 'pip install pydicom'.")
    values, heads, places = [], [], []
    for file in files:
        stored, found = _frames(file)
        values.append(stored)
        heads += found
    names = [f"frame {h['number'] + 1} of {h['file']}" for h in heads]
    for sequence, keyword, what in ONE:
        kinds = {h[keyword] for h in heads if h[keyword] != ""}
        if len(kinds) > 1:
            raise InputError(
                f"{place} holds {len(kinds)} {what} ({keyword} in {sequence}); export one of them by itself."
            )
    numbers = sorted(h["InStackPositionNumber"] for h in heads if h["InStackPositionNumber"] != "")
    if numbers and numbers != list(range(1, len(heads) + 1)):
        raise InputError(
            f"{place}: its {len(heads)} frames have the places {numbers[0]} to {numbers[-1]} of the stack "
            "(InStackPositionNumber, 0020,9057), not each one once; frames are missing or come twice: copy it again."
        )
    keywords = ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing")
    for head, name in zip(heads, names):
        missing = next((k for k in keywords if head[k] is None), None)
        if missing is not None:
            raise InputError(
                f"{name} has no {dicom_scan.tag_of(missing)}, so its place in space is not known; give a series of "
                "slices, or an enhanced image with functional groups."
            )
        places.append((*(head[k] for k in keywords), head["shape"]))
    try:
        order, axes, step = slice_stack.ordered(*zip(*places))
    except ValueError as why:
        raise InputError(
            f"{place}: its {len(places)} frames make no volume: {why}; export one stack of one scan."
        ) from None
    dicom_scan.require_scaling(heads, names)
    slopes, intercepts = (
        np.array([float(h[k] or d) for h in heads])[order, None, None]
        for k, d in (("RescaleSlope", 1), ("RescaleIntercept", 0))
    )
    volume = np.concatenate(values)[order] * slopes + intercepts
    image = sitk.GetImageFromArray(volume.astype(np.float32))
    spacing = places[0][2]
    image.SetSpacing([spacing[1], spacing[0], step])
    image.SetOrigin(places[order[0]][1])
    image.SetDirection([float(v) for v in axes.ravel()])
    return image, order, axes, step, [p[1] for p in places]


def _frames(file) -> tuple[np.ndarray, list[dict]]:
    """(stored numbers [frame, row, column], of each frame what it says of itself)."""
    import pydicom

    try:
        with quiet():
            dataset = pydicom.dcmread(file, force=True)
            found = _heads(file, dataset)
            return _stored(file, dataset), found
    except InputError:
        raise
    except Exception as error:  # pydicom raises whatever the damage leads to
        raise InputError(
            f"{file} cannot be read as a multi-frame image ({type(error).__name__}); it is damaged, copy it again."
        ) from None


def _heads(file, dataset) -> list[dict]:
    count = int(dataset.get("NumberOfFrames") or 1)
    each = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    if each and len(each) != count:
        raise InputError(
            f"{file} has {count} frames (NumberOfFrames, 0028,0008), but {len(each)} items in "
            "PerFrameFunctionalGroupsSequence (5200,9230); it is damaged, copy it again."
        )
    if not each and not shared and count > 1:
        raise InputError(
            f"{file} has {count} frames without places in space (no PerFrameFunctionalGroupsSequence, 5200,9230); "
            "give a series of slices, or an enhanced image."
        )
    # what the frames of one place have; a slice among the frames has them itself
    plain = [] if each or shared else [dataset]

    def of(number, sequence, keyword):
        for groups in (*each[number : number + 1], *shared[:1]):
            for item in groups.get(sequence) or []:
                if item.get(keyword) not in (None, ""):
                    return item.get(keyword)
        return next((d.get(keyword) for d in plain), None)

    def numbers(number, sequence, keyword, length):
        found = of(number, sequence, keyword)
        try:
            found = [float(v) for v in found]
        except (TypeError, ValueError):
            return None
        return found if len(found) == length else None

    heads = []
    for k in range(count):
        head = {
            "file": file,
            "number": k,
            "shape": [int(dataset.Rows), int(dataset.Columns)],
            "Modality": str(dataset.get("Modality") or ""),
            "ImageType": "\\".join(map(str, of(k, "CTImageFrameTypeSequence", "FrameType") or [])),
            "BitsStored": str(dataset.get("BitsStored") or 16),
            "PixelRepresentation": str(dataset.get("PixelRepresentation") or 0),
            "ImageOrientationPatient": numbers(k, "PlaneOrientationSequence", "ImageOrientationPatient", 6),
            "ImagePositionPatient": numbers(k, "PlanePositionSequence", "ImagePositionPatient", 3),
            "PixelSpacing": numbers(k, "PixelMeasuresSequence", "PixelSpacing", 2),
        }
        for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
            found = of(k, "PixelValueTransformationSequence", keyword)
            head[keyword] = "" if found is None else str(found)
        place = of(k, "FrameContentSequence", "InStackPositionNumber")
        head["InStackPositionNumber"] = "" if place is None else int(place)
        for sequence, keyword, _ in ONE:
            found = of(k, sequence, keyword)
            head[keyword] = "" if found is None else str(found)
        heads.append(head)
    return heads


def _stored(file, dataset) -> np.ndarray:
    """The stored numbers [frame, row, column], not scaled."""
    shape = (int(dataset.get("NumberOfFrames") or 1), int(dataset.Rows), int(dataset.Columns))
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or dataset.get("PhotometricInterpretation") != "MONOCHROME2":
        raise InputError(
            f"{file} is a picture ({dataset.get('PhotometricInterpretation')}), no scan; give the "
            "folder of the CT or MR."
        )
    if not dataset.file_meta.TransferSyntaxUID.is_compressed or "RLE" in dataset.file_meta.TransferSyntaxUID.name:
        return dataset.pixel_array.reshape(shape)
    # GDCM knows every compression; as a picture without groups it does not scale it
    for keyword in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7.3"
    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder) / "frames.dcm")
        dataset.save_as(place)
        return sitk.GetArrayFromImage(sitk.ReadImage(place, imageIO="GDCMImageIO")).reshape(shape)

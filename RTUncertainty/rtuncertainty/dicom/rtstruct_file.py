"""What stands in an RTSTRUCT file: ROIs with their contours in mm, names, colours, roles and codes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rtuncertainty.core.errors import InputError

from . import files

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"


@dataclass
class Roi:
    """One ROI as the file has it.

    Attributes:
        name: of the ROI.
        color: RGB, or None.
        role: RT ROI interpreted type.
        code: its coded meaning, or None.
        frame: UID of its frame of reference.
        contours: closed planar ones, points [n, 3], LPS in mm.
        left_out: {why others were: how many}.
        xor: the contours say themselves that overlaps are holes.
        thickness_mm: of their planes, where they say it.
    """

    name: str
    color: tuple | None = None
    role: str = ""
    code: dict | None = None
    frame: str = ""
    contours: list[np.ndarray] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    xor: bool = False
    thickness_mm: float | None = None

    def leave_out(self, why: str, count: int = 1) -> None:
        """Counts contours that are not used.

        Args:
            why: the reason.
            count: how many.
        """
        self.left_out[why] = self.left_out.get(why, 0) + count


def find(path: Path) -> Path:
    """A structure set.

    Args:
        path: a file, or a folder with only one.

    Returns:
        The file.

    Raises:
        InputError: there is none or are several.
    """
    if not path.is_dir():
        return path
    try:
        found = [p for p in sorted(path.iterdir()) if p.is_file() and _is_structure_set(p)]
    except PermissionError:
        raise InputError(f"{path}: no permission to read it.") from None
    if len(found) != 1:
        raise InputError(
            f"{path}: holds {len(found) or 'no'} DICOM structure sets; give "
            f"{'one of the files' if found else 'an RTSTRUCT file'}."
        )
    return found[0]


def _is_structure_set(path: Path) -> bool:
    header = files.read_header(path)
    return header is not None and files.value(header, "SOPClassUID") == RTSTRUCT


def rois_of(path: Path) -> list[Roi]:
    """All ROIs of a structure set, in its order.

    Args:
        path: of the file.

    Returns:
        With their contours.

    Raises:
        InputError: a file that is none, or not a whole one.
    """
    dataset = files.read_whole(path)
    if files.value(dataset, "SOPClassUID") != RTSTRUCT:
        raise InputError(
            f"{path}: is DICOM, but no structure set (RTSTRUCT); its modality is "
            f"{files.value(dataset, 'Modality', 'not given')}."
        )
    if not files.value(dataset, "StructureSetROISequence") or not files.value(dataset, "ROIContourSequence"):
        raise InputError(f"{path}: holds no structures; it is empty or damaged.")
    # of structures that name none themselves
    frames = {
        str(files.value(f, "FrameOfReferenceUID"))
        for f in files.value(dataset, "ReferencedFrameOfReferenceSequence", [])
    }
    frame = frames.pop() if len(frames) == 1 else ""
    rois = {}
    for item in dataset.StructureSetROISequence:
        number = str(files.value(item, "ROINumber"))
        if number in rois:
            raise InputError(
                f"{path}: gives two structures one ROINumber (3006,0022), {number or 'none at all'}: whose contours "
                "are whose cannot be known; export it again."
            )
        name = files.value(item, "ROIName")
        name = (
            name if isinstance(name, str) else "\\".join(map(str, name))
        )  # a backslash separates values, and yet somebody wrote it
        name = " ".join("".join(c if c.isprintable() else " " for c in name).split())
        rois[number] = Roi(
            name or f"ROI {number}", frame=str(files.value(item, "ReferencedFrameOfReferenceUID", frame))
        )
    for item in dataset.ROIContourSequence:
        roi = rois.get(str(files.value(item, "ReferencedROINumber")))
        if roi is None:
            raise InputError(f"{path}: has contours of a structure that it does not name; it is damaged.")
        color = files.numbers(item, "ROIDisplayColor", 3)
        roi.color = tuple(int(min(max(c, 0), 255)) for c in color) if color else None
        for contour in files.value(item, "ContourSequence", []):
            kind, points = str(files.value(contour, "ContourGeometricType", "unknown")), _points(contour)
            if points is None:
                raise InputError(f"{path}: a contour of '{roi.name}' is damaged: its points are not whole.")
            if kind not in CLOSED:
                roi.leave_out(f"of type {kind}, not closed planar")
            elif len(points) < 3:
                roi.leave_out("of fewer than 3 points")
            else:
                roi.contours.append(points)
                roi.xor |= kind == "CLOSEDPLANAR_XOR"
                thick = files.value(contour, "ContourSlabThickness", 0.0)
                roi.thickness_mm = roi.thickness_mm or (float(thick) if _positive(thick) else None)
    for item in files.value(dataset, "RTROIObservationsSequence", []):
        roi = rois.get(str(files.value(item, "ReferencedROINumber")))
        if roi is not None:
            roi.role = str(files.value(item, "RTROIInterpretedType"))
            roi.code = _code(item)
    return list(rois.values())


def _positive(number) -> bool:
    try:
        return float(number) > 0
    except (TypeError, ValueError):
        return False


def _points(contour) -> np.ndarray | None:
    """The points [n, 3] of a contour; None where they are damaged."""
    element = contour.get_item("ContourData")
    raw = element.value if element is not None and element.value else b""
    try:
        # straight from the bytes: a DICOM number for each of millions of coordinates would take minutes
        values = np.array([v for v in raw.split(b"\\") if v.strip()] if isinstance(raw, bytes) else list(raw), float)
    except (TypeError, ValueError):
        return None
    count = int(files.value(contour, "NumberOfContourPoints", 0))
    if values.size % 3 or not np.isfinite(values).all() or (count and values.size != 3 * count):
        return None
    return values.reshape(-1, 3)


def _code(item) -> dict | None:
    """The code of a ROI as in a card, with its category and modifier."""

    def first(dataset, keyword):
        for found in files.value(dataset, keyword, []) or []:
            names = [str(files.value(found, k)) for k in ("CodingSchemeDesignator", "CodeValue", "CodeMeaning")]
            return (found, dict(zip(("scheme", "value", "meaning"), names))) if names[1] else (None, None)
        return None, None

    coded, code = first(item, "RTROIIdentificationCodeSequence")
    if code is None:
        return None
    for key, (_, more) in (
        ("category", first(item, "SegmentedPropertyCategoryCodeSequence")),
        ("modifier", first(coded, "SegmentedPropertyTypeModifierCodeSequence")),
    ):
        if more:
            code[key] = more
    return code

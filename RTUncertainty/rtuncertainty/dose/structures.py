"""Structures from a file as regions: contours of an RTSTRUCT as they were drawn, masks of everything else."""

from __future__ import annotations

from pathlib import Path

from ..core import structure_set
from ..core.errors import InputError
from ..dicom.structure_input import may_hold_dicom, require_pydicom
from .contours import ContourRegion
from .structure_region import MaskRegion, NoRegion


def read(path, tell=None, thickness_mm: float | None = None, frame: str = "") -> dict:
    """Structures from a file as regions. One that has no region is a `NoRegion`, which says why.

    Args:
        path: a `.seg.nrrd`, a label image (`structure_set.read`) or an RTSTRUCT (file, or folder with one; needs
            pydicom).
        tell: called with notes on contours that are left out.
        thickness_mm: of a structure with contours in one plane only.
        frame: the frame of reference of the dose, if known; an RTSTRUCT's must be the same.

    Returns:
        {name: region}.

    Raises:
        InputError: a file that holds no structures.
    """
    if not may_hold_dicom(path):
        return {name: MaskRegion(s.mask) for name, s in structure_set.read(path).items()}
    require_pydicom("an RTSTRUCT")
    from ..dicom import rtstruct_file

    file = rtstruct_file.find(Path(path))
    found: dict[str, ContourRegion | NoRegion] = {}
    rois = rtstruct_file.rois_of(file)
    frames = {roi.frame for roi in rois if roi.contours} - {""}
    if frame and frames and frame not in frames:
        raise InputError(
            f"{file}: its frame of reference is not that of the dose; give the structure set that the plan was made on."
        )
    for roi in rois:
        name = structure_set.unused(roi.name, found)
        for why, count in roi.left_out.items():
            if tell is not None:
                tell(f"{name}: {count} of its contours left out: {why}.")
        try:
            found[name] = ContourRegion(roi.contours, thickness_mm, name)
        except InputError as error:
            found[name] = NoRegion(str(error))
    if all(r.empty for r in found.values()):
        raise InputError(f"{file}: holds no closed planar contour; give a structure set with structures in it.")
    return found

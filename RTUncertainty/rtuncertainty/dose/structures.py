"""Structures from a file as regions: contours of an RTSTRUCT as they were drawn, masks of everything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core import structure_set
from ..core.errors import InputError
from ..dicom import combine
from ..dicom.structure_input import may_hold_dicom, require_pydicom
from .contours import ContourRegion
from .structure_region import MaskRegion, NoRegion


def read(path, tell=None, thickness_mm: float | None = None, frame: str = "") -> dict:
    """Structures from a file as regions. One that has no region is a `NoRegion`, which says why.

    Args:
        path: a `.seg.nrrd`, a label image (`structure_set.read`) or an RTSTRUCT (file, or folder with one; needs
            pydicom).
        tell: called with notes on contours that are left out.
        thickness_mm: of a structure with contours in one plane only, the distance of the slices that it was drawn on.
        None: what its contours say (ContourSlabThickness), or else the planes' distance of the other structures, which
        is told.
        frame: the frame of reference of the dose, if known; an RTSTRUCT's must be the same.

    Returns:
        {name: region}.

    Raises:
        InputError: a file that holds no structures.
    """
    if not may_hold_dicom(path):
        return {name: MaskRegion(s.mask) for name, s in structure_set.read(path, tell=tell).items()}
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
    tell = tell or (lambda note: None)
    others = _planes_mm(rois) if thickness_mm is None else None
    for roi in rois:
        name = structure_set.unused(roi.name, found)
        if name != roi.name:
            tell(f"{roi.name}: several structures have this name; the later one is called {name}.")
        for why, count in roi.left_out.items():
            tell(f"{name}: {count} of its contours left out: {why}.")
        thickness = thickness_mm or roi.thickness_mm or others
        try:
            region = found[name] = ContourRegion(roi.contours, thickness, name, xor=roi.xor)
        except InputError as error:
            found[name] = NoRegion(str(error))
            continue
        if not region.empty and len(region.planes) == 1:
            whose = (
                "that of the scan's slices"
                if thickness_mm
                else "what they say (ContourSlabThickness)"
                if roi.thickness_mm
                else "the planes' distance of the other structures"
            )
            tell(f"{name}: has contours in one plane only; its thickness of {thickness:.3g} mm is {whose}.")
        for note in region.notes:
            tell(note)
    if all(r.empty for r in found.values()):
        refused = next((r.reason for r in found.values() if isinstance(r, NoRegion)), None)
        if refused is not None:
            raise InputError(f"{file}: {refused}")
        raise InputError(f"{file}: holds no closed planar contour; give a structure set with structures in it.")
    return found


def _planes_mm(rois) -> float | None:
    """The usual distance of planes of the structures with several; None where there is none."""
    found = []
    for roi in rois:
        if len(roi.contours) > 1:
            largest = max(roi.contours, key=len)
            normal = np.linalg.svd(largest - largest.mean(0))[2][2]
            found.append(combine.levels([float((c @ normal).mean()) for c in roi.contours])[1])
    found = [f for f in found if f > 0]
    return float(np.median(found)) if found else None

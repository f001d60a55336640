"""What a case looks like: the slice in which result and reference differ most, side by side."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..core import geometry, structure_names
from ..report.data import axial_array
from ..report.figures import Figure, Scale, View, colored, contour_lines, draw
from ..report.pictures import CT_WINDOW, SOFT_TISSUE, box_of
from ..report.structures import Part, Structure
from ..results.result import Result
from ..uncertainty import metrics
from .evidence import Reference

ERROR = Scale("signed", -300.0, 300.0, "HU")


def of_case(result: Result, reference: Reference, image: sitk.Image | None = None) -> list[Figure]:
    """Pictures of a case, up to three of each kind.

    Args:
        result: of the model.
        reference: what is known of the patient.
        image: what was given to the model, on any grid, or None.

    Returns:
        Of a synthetic CT: it, the reference CT, their difference. Of structures (key "contours"): the image with the
        model's contours and, dotted white, those of the reference.
    """
    grid = result.grid()
    found = [] if reference.ct is None or not result.has("synct") else _synct(result, reference.ct, grid)
    drawn = reference.structures and image is not None and result.has("structures")
    return found + (_contours(result, reference, grid, image) if drawn else [])


def _synct(result: Result, reference_ct: sitk.Image, grid: sitk.Image) -> list[Figure]:
    ct, valid = metrics.reference_on(reference_ct, result.image("synct"))
    synct, truth = axial_array(result.image("synct")).astype(np.float32), axial_array(ct)
    known = axial_array(geometry.like(valid, grid, np.uint8)) > 0
    spacing = geometry.to_axial(grid).GetSpacing()
    body = metrics.reference_body(truth, spacing) & known
    error = np.where(body, synct - truth, 0)
    per_slice = np.abs(error).sum((1, 2)) / np.maximum(body.sum((1, 2)), 1)
    per_slice[body.sum((1, 2)) < 0.3 * body.sum((1, 2)).max()] = 0
    view = View("axial", int(per_slice.argmax()), box_of(body, spacing), spacing)
    window, number = Scale("grey", *CT_WINDOW, "HU"), view.index + 1
    return [
        draw(
            view, colored(view.cut(synct), window), [], f"Synthetic CT, slice {number}", "synct", strip=True, bar=True
        ),
        draw(view, colored(view.cut(truth), window), [], "Reference CT", "reference", strip=True),
        draw(view, colored(view.cut(error), ERROR), [], "Error: synthetic CT − CT", "error", scale=ERROR),
    ]


def _contours(result: Result, reference: Reference, grid: sitk.Image, image: sitk.Image | None) -> list[Figure]:
    own, axial = result.structures(), geometry.to_axial(grid)
    known = structure_names.match(reference.structures, list(own))
    shown, differ = [], np.zeros(axial.GetSize()[::-1], bool)
    for given, name in known.items():
        drawn = reference.structures[given].mask
        truth = axial_array(sitk.Resample(drawn, grid, sitk.Transform(), sitk.sitkNearestNeighbor, 0)) > 0
        mask = axial_array(own[name].mask) > 0
        differ |= mask != truth
        parts = {"structure": Part.of(mask), "accepted": Part.of(truth)}
        shown.append(Structure(name, own[name].color, parts))
    if not shown or image is None:
        return []
    there = geometry.resample(sitk.Cast(image, sitk.sitkFloat32), grid, "linear", float(_lowest(image)))
    array, spacing = axial_array(there), axial.GetSpacing()
    window = Scale("grey", *SOFT_TISSUE, "HU") if array.min() < -200 else Scale("grey", 0.0, _bright(array))
    out, title = [], "line: model; dotted white: reference"
    order = np.argsort(-differ.sum((1, 2)))
    slices = [int(order[0])]
    slices += [int(k) for k in order if all(abs(int(k) - s) > 3 for s in slices)][:2]
    box = box_of(np.any([_mask(s) for s in shown], axis=0), spacing, 40.0)
    for index in slices:
        view = View("axial", index, box, spacing)
        lines = contour_lines(view, shown, ("structure", "accepted"))
        caption = f"Slice {index + 1}; {title}"
        out.append(draw(view, colored(view.cut(array), window), lines, caption, "contours", bar=True))
        title = "as before"
    return out


def _mask(structure: Structure) -> np.ndarray:
    whole = np.zeros(structure.contours["accepted"].shape, bool)
    for part in structure.contours.values():
        whole[part.box] |= part.voxels.astype(bool)
    return whole


def _lowest(image: sitk.Image) -> float:
    return float(sitk.GetArrayViewFromImage(image).min())


def _bright(array: np.ndarray) -> float:
    return max(float(np.percentile(array, 99.5)), 1e-6)

"""`python -m training organs`: planning CTs with structures become CTs with organs on one grid, to segment and to
measure.

They go onto the same grid and into the same HU as `predict` brings them
(`rtuncertainty.prediction.preprocess.for_card`, "HU from -500 to 1000"), cropped to the body with 8 mm of air around
it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rtuncertainty.core import geometry
from rtuncertainty.core.ct import AIR_HU, body_mask
from rtuncertainty.core.errors import InputError
from rtuncertainty.propagation.pair import MARGIN_MM, cropped, label_array

from ...core.files import make_folder
from .. import organ_case
from ..checks import BadCase, Finding
from . import pairs, patients
from .patients import Patient

SETTINGS = "organs.json"
# share of an organ that must lie on the grid, for the grid to tell its volume
WITHIN = 0.9
# where a voxel begins to belong to an organ: at one half, or where that would change its volume, between these
FILLED = (0.2, 0.8)


def run(data: Path, out: Path, organs=pairs.HEADNECK, spacing=(4.0, 4.0, 3.0), only=None) -> list[dict]:
    """Write a case for every patient of `data` (`patients.find`), overlays/, prepare.csv and checks.csv; returns the
    rows of prepare.csv: case, kept (yes | no), why (not), …

    `organs`: names as the cards have them; a patient's structures are told by theirs in any common spelling. `spacing`:
    mm, x y z. What is there already is not made again. Raises `SystemExit` for a folder that holds cases made with
    other settings, and where no patient can be used.
    """
    for sub in ("cases", "overlays"):
        make_folder(out / sub)
    pairs.claim(out / SETTINGS, {"organs": list(organs), "spacing": [float(s) for s in spacing]})
    table = patients.Table(out, ["organs", *(f"{o}_ml" for o in organs)])
    for patient, named in table.patients(patients.find(data, only=only), organs):
        path = out / "cases" / f"{patient.name}.npz"
        if not path.exists():
            try:
                organ_case.save(prepared(patient, named, organs, spacing, table.findings[patient.name]), path)
            except InputError as error:
                table.leave_out(patient.name, BadCase([Finding("error", "failed", str(error))]))
                continue
        case = organ_case.load(path)
        ml = {f"{o}_ml": round(case.drawn_ml[o], 2) if o in case.drawn_ml else "" for o in organs}
        table.keep(path.stem, patient, {"organs": len(case.present), **ml})
        patients.draw(out, case.name, case.hu, case.labels, case.body, case.spacing, case.classes)
        print(
            f"{case.name}: {' × '.join(map(str, case.labels.shape[::-1]))} voxels, {', '.join(case.present)}",
            flush=True,
        )
    rows = table.write(only)
    patients.require_some(data, rows, organs)
    return rows


def prepared(patient: Patient, named: dict[str, str], organs, spacing, found=None) -> organ_case.OrganCase:
    """A patient on the working grid; `named`: the organ that each structure is; `found`: gets what there is to say.

    An organ has as many voxels as it has ml (`preserving`). Where organs overlap, the one that fills more of a voxel
    has it, the earlier of `organs` where they fill it alike: classes of a softmax exclude each other. An organ of which
    a tenth lies beyond the body that was found (scans with empty slices) counts as not drawn. Raises `InputError` for a
    CT without a patient.
    """
    ct = geometry.to_axial(patient.ct)
    grid = geometry.resample(ct, geometry.resampled_grid(ct, spacing), background=AIR_HU)
    body = body_mask(grid, f"{patient.name}, its CT")
    inside = sitk.GetArrayFromImage(body) > 0
    grid, body = cropped(grid, inside, MARGIN_MM), cropped(body, inside, MARGIN_MM)
    masks, drawn_ml = {}, {}
    for name, organ in named.items():
        mask = geometry.to_axial(patient.structures[name])
        count = int(np.count_nonzero(sitk.GetArrayViewFromImage(mask)))
        ml = count * float(np.prod(mask.GetSpacing())) / 1000
        filled = sitk.GetArrayFromImage(geometry.resample(sitk.Cast(sitk.NotEqual(mask, 0), sitk.sitkFloat32), grid))
        within = float(filled.sum()) * float(np.prod(grid.GetSpacing())) / 1000
        if within < WITHIN * ml:
            told = f"{organ} counts as not drawn, {within:.1f} of its {ml:.1f} ml lie where the patient was found"
            print(f"{patient.name}: {told}", flush=True)
            if found is not None:
                found.append(Finding("warning", "beyond", told))
        elif count:
            drawn_ml[organ] = ml
            masks[organ] = preserving(filled, ml * 1000 / float(np.prod(grid.GetSpacing())))
    labels = label_array(masks, organs, grid.GetSize()[::-1])
    return organ_case.OrganCase(
        patient.name,
        patient.name,
        sitk.GetArrayFromImage(grid).astype(np.float32),
        labels,
        sitk.GetArrayFromImage(body) > 0,
        grid.GetSpacing(),
        list(organs),
        drawn_ml,
    )


def preserving(filled: np.ndarray, voxels: float) -> np.ndarray:
    """How far each voxel is filled (0 to 1), scaled so that `voxels` of them lie above one half.

    Cutting at one half makes thin structures thinner on coarser voxels: the spinal cord lost 14 % of its volume
    (median), some 30 %.
    """
    values = np.sort(filled[filled > 0.01], axis=None)[::-1]
    if not values.size:
        return filled
    count = min(max(1, round(voxels)), values.size)
    last, following = float(values[count - 1]), float(values[count]) if count < values.size else 0.0
    threshold = (last + following) / 2
    if last == following:  # of voxels that are filled alike all belong to it or none
        more, fewer = int((values >= last).sum()) - count, count - int((values > last).sum())
        threshold = last * (1 - 1e-6 if more < fewer else 1 + 1e-6)
    return filled * np.float32(0.5 / np.clip(threshold, *FILLED))

"""DVHs and gamma indices from files to files: what the command line runs."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..core import geometry, image_io
from ..core.errors import InputError
from ..core.events import Progress
from . import bands, dose_image, dvh, structures, table
from .gamma import Gamma, gamma

# what voxels that were not evaluated have in a gamma image: NaN would hide the window of every viewer
NOT_EVALUATED = -1.0
# stages of DVHs and their shares of the time
SHARES = {"read": 0.1, "dvh": 0.1, "bands": 0.8}


def dvh_to_files(
    dose,
    structure_file,
    output,
    *,
    band_folder=None,
    scan=None,
    kept_samples: bool = False,
    unit=None,
    prescription=None,
    device="cpu",
    note=None,
    progress: Progress | None = None,
) -> tuple[Path, Path]:
    """Writes the DVHs of all structures: numbers to `output`, curves beside it (dvh.csv, dvh_curves.csv).

    Args:
        dose: path, see `dose_image.read`.
        structure_file: path, see `structures.read`.
        output: of the numbers.
        band_folder: a result folder, see `bands.read`.
        kept_samples: the samples that the result kept make the bands, see `bands.read_kept`.
        scan: path of the scan that the structures were drawn on; the distance of its slices is the thickness of
            structures with contours in one plane only.
        unit: of the dose.
        prescription: Gy, or None.
        device: of torch.
        note: called with sentences that the user should know.
        progress: with the shares `SHARES`.

    Returns:
        Both paths.

    Raises:
        InputError: what cannot be read or written, and no structure in the dose.
        Cancelled: the user cancelled.
    """
    if prescription is not None and not (prescription > 0 and math.isfinite(prescription)):
        raise InputError(f"the prescription is {prescription:g} Gy; give a positive dose in Gy.")
    if kept_samples and band_folder is None:
        raise InputError("samples that were kept lie in a result: name its folder with --bands.")
    output = Path(output)
    curves = output.with_name(f"{output.stem}_curves.csv")
    for place in (output, curves):
        image_io.require_regular(place)
        _require_other(place, dose, structure_file)
    note, progress = note or (lambda message: None), progress or Progress(shares=SHARES)
    progress.stage("read", 0.0, "Reading dose and structures")
    image = dose_image.read(dose, unit, note)
    frame = image.GetMetaData("frame_of_reference") if image.HasMetaDataKey("frame_of_reference") else ""
    image = geometry.to_axial(image)
    thickness = geometry.to_axial(image_io.read(scan, tell=note)).GetSpacing()[2] if scan is not None else None
    regions = structures.read(structure_file, note, thickness, frame)
    rows = []
    for number, (name, region) in enumerate(regions.items()):
        progress.stage("dvh", number / len(regions), f"DVH of {name}")
        rows.append(_row(name, region, image, device))
    if all(r.dvh is None for r in rows):
        raise InputError(
            f"none of the structures of {structure_file} lies in {dose}; "
            "give dose and structures of one patient in one frame of reference."
        )
    if band_folder is not None:
        source = bands.read_kept if kept_samples else bands.read
        found = source(band_folder, [r.structure for r in rows])
        _add_bands(rows, image, regions, found, prescription, device, note, progress)
    for r in rows:
        if r.note:
            note(f"{r.structure}: {r.note.rstrip('.')}.")
    for place, text in ((output, table.metrics_table(rows, prescription)), (curves, table.curves_table(rows))):
        image_io.write_file(place, lambda p, text=text: p.write_text(text, encoding="utf-8"))
    return output, curves


def _row(name, region, dose, device) -> table.Row:
    if region.empty:
        return table.Row(name, note=region.reason)
    try:
        found = dvh.of_region(dose, region, device=device)
    except InputError as error:
        return table.Row(name, note=str(error))
    outside = 1 - found.covered
    return table.Row(
        name, found, note=f"{outside:.1%} of it lie outside of the dose grid and do not count" if outside > 0 else ""
    )


def _add_bands(rows, dose, regions, found, prescription, device, note, progress):
    axis = table.dose_axis(max(float(r.dvh.dose[0]) for r in rows if r.dvh is not None))
    for number, r in enumerate(rows):
        if r.dvh is None:
            continue
        if r.structure not in found:
            r.note = "; ".join(filter(None, [r.note, "no band: its distribution is not in the result folder"]))
            continue
        report_step = functools.partial(_step, progress, number, len(rows), r.structure)
        r.band, band_note = bands.of_structure(
            dose, found[r.structure], axis, prescription=prescription, device=device, step=report_step
        )
        other = (
            bands.apart(regions[r.structure], found[r.structure])
            if not isinstance(found[r.structure], bands.Kept)
            else 0
        )
        if r.band is not None and other > bands.APART:
            band_note = (
                f"its band is of other contours: {other:.0%} of its volume differ from all of them; give that result's "
                "structures.seg.nrrd, as the structures of a planning scan lie elsewhere than on the daily one"
            )
        r.note = "; ".join(filter(None, [r.note, band_note]))
    uncalibrated = [r.structure for r in rows if r.band is not None and r.band.calibrated == "no"]
    if uncalibrated:
        note(f"The bands of {', '.join(uncalibrated)} are not calibrated.")


def _step(progress, number, count, name, part):
    progress.stage("bands", (number + part) / count, f"Band of {name}")


def gamma_to_file(reference, evaluated, output=None, *, unit=None, note=None, **options) -> Gamma:
    """γ of two dose files.

    Args:
        reference: path, see `dose_image.read`.
        evaluated: path, see `dose_image.read`.
        output: also written as an image on the reference's grid, −1 where it was not evaluated; None: not written.
        unit: of the doses.
        note: called with sentences that the user should know.
        **options: of `gamma`.

    Returns:
        γ of every voxel.

    Raises:
        InputError: what cannot be read or written, and doses without common voxels.
    """
    if output is not None and not Path(output).name.lower().endswith(image_io.SUFFIXES):
        raise InputError(f"{output}: an image of gamma is written as {', '.join(image_io.SUFFIXES)}; give such a name.")
    if output is not None:
        image_io.require_regular(output)
        _require_other(output, reference, evaluated)
    first, second = (dose_image.read(path, unit, note) for path in (reference, evaluated))
    frames = [i.GetMetaData("frame_of_reference") for i in (first, second) if i.HasMetaDataKey("frame_of_reference")]
    if len(set(frames)) > 1:
        raise InputError(f"{evaluated}: its frame of reference is not that of {reference}; give two doses on one scan.")
    geometry.require_overlap(first, second, str(reference), str(evaluated))
    found = gamma(first, second, **options)
    if found.evaluated == 0:
        raise InputError(f"no voxel of {reference} above the cut-off lies in {evaluated}; there is nothing to compare.")
    if output is not None:
        values = np.nan_to_num(found.values.cpu().numpy(), nan=NOT_EVALUATED)
        image_io.write_file(output, lambda place: sitk.WriteImage(geometry.like(values, first), str(place), True))
    return found


def _require_other(output, *inputs) -> None:
    """Raise `InputError` where the output would replace one of the inputs."""
    if any(Path(output).resolve() == Path(given).resolve() for given in inputs):
        raise InputError(f"{output} is one of the inputs and would be replaced; give another file for the output.")

"""The main job on a case that needs no download: a digital limb, or the user's own folder."""

from __future__ import annotations

import math
from pathlib import Path

from ..core import image_io
from ..core.errors import InputError
from ..core.events import Progress
from ..jobs import prediction as job
from ..results import Result
from .output import say


def find_image(folder: Path, stem: str) -> Path | None:
    """The image or DICOM folder of a name.

    Args:
        folder: where it is looked for.
        stem: the name without a suffix.

    Returns:
        Its path, or None.
    """
    if (folder / stem).is_dir():
        return folder / stem
    return next((folder / (stem + s) for s in image_io.SUFFIXES if (folder / (stem + s)).is_file()), None)


def run(
    output,
    model: str,
    progress: Progress,
    *,
    case=None,
    scene=False,
    limb_seed: int = 7,
    samples: int = 20,
    device: str = "auto",
) -> Path:
    """Predicts a digital limb, or the `mr` (and `ct`) of a folder, with report and, if asked, scene.

    Prints where the results are and how large the error against the true CT is.

    Args:
        output: the result folder.
        model: name or folder of a bundle.
        progress: takes the stages; its token cancels.
        case: a folder with an MR and perhaps a CT; None: the digital limb.
        scene: whether `scene.mrb` is wanted.
        limb_seed: of the digital limb.
        samples: T ≥ 2.
        device: auto, cpu, cuda, cuda:n.

    Returns:
        The result folder.

    Raises:
        InputError: `case` holds no MR, and what `predict_to_folder` raises.
    """
    output = Path(output)
    if case is None:
        from ..phantoms import limb

        say(f"Making a digital limb (an MR, its true CT and structures, seed {limb_seed}) in {output / 'input'}")
        limb.write_limb(output / "input", limb_seed)
        folder = output / "input"
    else:
        folder = Path(case)
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder; give one that holds mr.nii.gz (and ct.nii.gz, if it is known).")
    mr, ct = find_image(folder, "mr"), find_image(folder, "ct")
    if mr is None:
        raise InputError(f"{folder} holds no mr (mr.nii.gz, mr.nrrd, mr.mha or a DICOM folder called mr).")
    time = "this takes about a minute on two cores" if case is None else "the time grows with the size of the body"
    say(f"Running the model; {time}.")
    result = job.predict_to_folder(
        mr,
        model,
        output / "result",
        progress=progress,
        scene=scene,
        report=True,
        reference=ct,
        samples=samples,
        device=device,
    )
    say("\n".join(["", *summary_lines(result, folder / "labels.nii.gz" if case is None else None), ""]))
    return result


def summary_lines(result: Path, truth: Path | None = None) -> list[str]:
    """What a result folder holds, in lines for a person: errors, volumes, flags, files.

    Args:
        result: the folder.
        truth: a label image (values of `phantoms.limb.LABELS`) on the grid of the result, or None.

    Returns:
        The lines.
    """
    found = Result.read(result)
    lines = _errors(found.table("metrics"), truth is not None)
    lines.append("Structures")
    known = _truth(found, truth) if truth is not None else {}
    for r in found.table("volumes"):
        note = "" if r["calibrated"] == "yes" else ", not calibrated"
        ends = [float(r[c]) for c in ("lower_ml", "upper_ml") if r[c]]
        interval = "{:.0%} interval {:.1f} to {:.1f} ml".format(float(r["level"]), *ends) if ends else "no interval"
        lines.append(
            f"  {r['structure']:12} {float(r['volume_ml']):8.1f} ml   ({interval}{note}){known.get(r['structure'], '')}"
        )
    lines += [f"  {r['subject']}: {r['flag']} ({r['severity']}). {r['reason']}" for r in found.table("flags")]
    lines += [f"  {text}" for text in found.missing_sds()]
    lines += ["", f"Open in a browser:   {result / 'report.html'}"]
    if (result / "scene.mrb").exists():
        lines.append(f"Open in 3D Slicer:   {result / 'scene.mrb'}")
    return [*lines, f"Images and tables:   {result}", "Research use only, not for clinical decisions."]


def _errors(metrics: list[dict], digital: bool) -> list[str]:
    """The table of errors against a CT; empty without one."""
    values = {(r["region"], r["metric"]): float(r["value"]) for r in metrics}
    lines = []
    for region in dict.fromkeys(r["region"] for r in metrics):
        if (region, "MAE") in values:
            z = values.get((region, "z sd"), math.nan)
            lines.append(f"  {region:12} {values[region, 'MAE']:8.0f} HU   {z:5.2f} times as large as stated")
    if not lines:
        return []
    heading = "Synthetic CT against the true CT: mean absolute error, and errors beside their stated SD (1 is ideal)"
    known = (
        "The model learnt from patients and has never seen a digital limb."
        if digital
        else "The CT is taken as it lies: where it is not aligned with the MR, the shift counts as error."
    )
    return [heading, *lines, f"  {known}", ""]


def _truth(result: Result, truth: Path) -> dict[str, str]:
    """True volume and Dice of each structure of a digital limb, in words."""
    import numpy as np
    import SimpleITK as sitk

    from ..phantoms.limb import LABELS

    images = [sitk.ReadImage(str(p)) for p in (result.path("structures"), truth)]
    ml = float(np.prod(images[1].GetSpacing())) / 1000
    found, true = (sitk.GetArrayFromImage(image) for image in images)
    words = {}
    for structure in result.summary["structures"]:
        if structure["name"] in LABELS:
            a, b = found == structure["label"], true == LABELS[structure["name"]]
            dice = 2 * int((a & b).sum()) / max(int(a.sum()) + int(b.sum()), 1)
            words[structure["name"]] = f"   true: {b.sum() * ml:.1f} ml, Dice {dice:.2f}"
    return words

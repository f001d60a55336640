"""Propagation on a case that needs no download: a digital pelvis and a simulated day of it, whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..core import image_io, structure_set, surfaces
from ..core.events import Progress
from ..jobs.propagation import propagate_to_folder
from ..results import Result
from .output import say

MODEL = "pelvis-ct-propagation-phantom"
# far from the digital pelves that the model was trained on, which are numbered from 0
FIRST_SEED = 5000


def make_case(folder: Path, seed: int) -> None:
    """Writes planning.nii.gz, structures.seg.nrrd, daily.nii.gz and truth.seg.nrrd (on the daily grid).

    Args:
        folder: where to.
        seed: of the digital pelvis and of its day.
    """
    from ..phantoms.daily_anatomy import daily_scan
    from ..phantoms.pelvis import LABELS, digital_pelvis

    pelvis = digital_pelvis(FIRST_SEED + seed)
    masks = {n: sitk.Equal(pelvis.labels, v) for n, v in LABELS.items() if n not in ("background", "bone")}
    day = daily_scan(pelvis.ct, masks, FIRST_SEED + seed)
    folder.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(pelvis.ct, str(folder / "planning.nii.gz"), True)
    sitk.WriteImage(day.ct, str(folder / "daily.nii.gz"), True)
    for name, found in (("structures", masks), ("truth", day.structures)):
        image = structure_set.as_segmentation(list(structure_set.read(found).values()))
        sitk.WriteImage(image, str(folder / f"{name}.seg.nrrd"), True)


def run(
    output, model: str, progress: Progress, *, scene=False, seed: int = 7, samples: int = 20, device: str = "auto"
) -> Path:
    """Propagates the structures of a digital pelvis to its simulated day.

    Prints where the results are and how far the contours are from the truth.

    Args:
        output: the result folder.
        model: name or folder of a bundle.
        progress: takes the stages; its token cancels.
        scene: whether `scene.mrb` is wanted.
        seed: of the digital pelvis and of its day.
        samples: T ≥ 2.
        device: auto, cpu, cuda, cuda:n.

    Returns:
        The result folder.

    Raises:
        InputError: what `propagate_to_folder` raises.
    """
    output = Path(output)
    case = output / "input"
    say(
        f"Making a digital pelvis and another day of it (planning CT, structures, daily CT and truth, seed {seed}) in "
        f"{case}",
    )
    with image_io.Staging(output / "result").writing():
        make_case(case, seed)
    say("Running the model; this takes about half a minute on two cores.")
    result = propagate_to_folder(
        case / "planning.nii.gz",
        case / "structures.seg.nrrd",
        case / "daily.nii.gz",
        model,
        output / "result",
        progress=progress,
        scene=scene,
        report=True,
        samples=samples,
        device=device,
    )
    say("\n".join(["", *summary_lines(result, case), ""]))
    return result


def summary_lines(result: Path, case: Path) -> list[str]:
    """What a result folder holds, in lines for a person: every contour beside the truth, flags, files.

    Args:
        result: the folder.
        case: the folder of `make_case`.

    Returns:
        The lines.
    """
    written = Result.read(result)
    truth, planned = (structure_set.read(case / f"{name}.seg.nrrd") for name in ("truth", "structures"))
    found = written.structures()
    daily = sitk.ReadImage(str(case / "daily.nii.gz"), sitk.sitkUInt8)
    lines = [
        "Contours on the daily CT against the truth: Dice, mean surface distance (and of the planning contours, had "
        "they stayed)"
    ]
    for row in written.table("structure_table"):
        name = row["structure"]
        own, left = (
            _scores(found[name].mask, truth[name].mask),
            _scores(
                sitk.Resample(planned[name].mask, daily, sitk.Transform(), sitk.sitkNearestNeighbor), truth[name].mask
            ),
        )
        agreement = {"green": "agree", "amber": "look", "red": "check"}.get(row["light"], "one path only")
        lines.append(
            f"  {name:20} {own[0]:.2f}  {own[1]:4.1f} mm   ({left[0]:.2f}  {left[1]:4.1f} mm)   {row['default']}, "
            f"{agreement}: {row['reason']}"
        )
    lines += [f"  {r['subject']}: {r['flag']} ({r['severity']}). {r['reason']}" for r in written.table("flags")]
    lines.append("")
    for name, words in (("report.html", "Open in a browser:   "), ("scene.mrb", "Open in 3D Slicer:   ")):
        if (result / name).exists():
            lines.append(words + str(result / name))
    return [
        *lines,
        f"Images and tables:   {result}",
        "The model knows digital patients only. Research use only, not for clinical decisions.",
    ]


def _scores(mask: sitk.Image, truth: sitk.Image) -> tuple[float, float]:
    a, b = (sitk.GetArrayViewFromImage(i) > 0 for i in (mask, truth))
    return surfaces.dice(np.asarray(a), np.asarray(b)), surfaces.surface_distance(a, b, truth.GetSpacing()).mean

"""The main job on a case that needs no download: a digital limb, or the user's own folder."""

from __future__ import annotations

import csv
from pathlib import Path

from . import image_io, job
from .errors import InputError
from .events import Progress


def find_image(folder: Path, stem: str) -> Path | None:
    """The image or DICOM folder called `stem` in `folder`, or None."""
    if (folder / stem).is_dir():
        return folder / stem
    return next((folder / (stem + s) for s in image_io.SUFFIXES if (folder / (stem + s)).is_file()), None)


def run(output, model: str, progress: Progress, *, case=None, scene=False, limb_seed: int = 7, samples: int = 20, device: str = "auto") -> Path:
    """Predict a digital limb (seeded) or the `mr` (and `ct`) in the folder `case`, with report and, if asked, scene.

    Prints where the results are and how large the error against the true CT is. Returns the result folder.
    Raises `InputError` when `case` holds no MR, and what `job.predict_to_folder` raises.
    """
    output = Path(output)
    if case is None:
        from . import phantom

        print(f"Making a digital limb (seed {limb_seed}) in {output / 'input'}", flush=True)
        phantom.write_limb(output / "input", limb_seed)
        folder = output / "input"
    else:
        folder = Path(case)
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder; give one that holds mr.nii.gz (and ct.nii.gz, if it is known).")
    mr, ct = find_image(folder, "mr"), find_image(folder, "ct")
    if mr is None:
        raise InputError(f"{folder} holds no mr (mr.nii.gz, mr.nrrd, mr.mha or a DICOM folder called mr).")
    result = job.predict_to_folder(mr, model, output / "result", progress=progress, scene=scene, report=True,
                                   reference=ct, samples=samples, device=device)
    _tell(result, scene)
    return result


def _tell(result: Path, scene: bool) -> None:
    print()
    if (result / "metrics.csv").exists():
        with open(result / "metrics.csv", newline="", encoding="utf-8") as f:
            rows = [r for r in csv.DictReader(f) if r["metric"] in ("MAE", "z sd")]
        print("Against the CT:   " + "   ".join(f"{r['metric']} {r['region']} {float(r['value']):.{0 if r['unit'] else 2}f} {r['unit']}".strip() for r in rows))
    with open(result / "volumes.csv", newline="", encoding="utf-8") as f:
        for r in csv.DictReader(f):
            print(f"{r['structure']:16} {float(r['volume_ml']):8.1f} ml   {float(r['level']):.0%} interval "
                  f"{float(r['lower_ml']):.1f} to {float(r['upper_ml']):.1f} ml{'' if r['calibrated'] == 'yes' else ' (not calibrated)'}")
    print(f"\nReport with pictures:  {result / 'report.html'}")
    if scene:
        print(f"Scene for 3D Slicer:   {result / 'scene.mrb'}")
    print(f"Images and tables:     {result}")

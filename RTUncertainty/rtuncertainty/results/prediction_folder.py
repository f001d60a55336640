"""A result as a folder: what `predict` writes, and what the scene, the report and RTReview read."""

from __future__ import annotations

import datetime
import json
import os
import shutil
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .. import __version__
from ..uncertainty import flags, metrics, volume_assessment, volumes
from ..core import image_io
from ..uncertainty.hu_calibration import interval_factors
from ..core.errors import InputError
from ..prediction.predict import LEVEL, Prediction
from ..core.segmentation_file import with_segments

FORMAT = 1


def require_space(image: sitk.Image, output, structures: int) -> None:
    """Raise `InputError` when the disk of `output` cannot hold a result of `image`; about 3 bytes a voxel and map."""
    needed = image.GetNumberOfPixels() * (3 * (9 + structures) + structures)
    place = next(p for p in [Path(output).absolute(), *Path(output).absolute().parents] if p.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise InputError(f"{output}: the results need about {needed / 1e6:.0f} MB, but only {free / 1e6:.0f} MB are free "
                         "on that disk; free some or choose another folder.")


def save(prediction: Prediction, staging: image_io.Staging) -> dict:
    """Write all files of a result but the scene and the report; returns the summary, which `finish` writes."""
    p = prediction
    files = {
        "synct": (p.synct, "synct"), "intrinsic_sd": (p.intrinsic_sd, "synct_intrinsic_sd"),
        "parameter_sd": (p.parameter_sd, "synct_parameter_sd"), "predictive_sd": (p.predictive_sd, "synct_predictive_sd"),
        "entropy": (p.entropy, "structures_entropy"), "mutual_information": (p.mutual_information, "structures_mutual_information"),
        "body": (p.body, "body"), "reference": (p.reference, "reference_ct"), "error": (p.error, "error"), "zscore": (p.zscore, "zscore"),
    }
    structures = p.card["outputs"]["structures"]
    # no map of what the network cannot know: zeros would read as certainty
    unknown = set() if structures else {"entropy", "mutual_information"}
    if not p.card["dropout"]["p"] and p.card.get("checkpoints", 1) == 1:
        unknown.add("mutual_information")
    unknown |= {key for key in ("intrinsic_sd", "parameter_sd", "predictive_sd") if p.synct is not None and not np.any(sitk.GetArrayViewFromImage(files[key][0]))}
    named = {}
    for key, (image, name) in files.items():
        if image is not None and key not in unknown:
            named[key] = f"{name}.nii.gz"
            staging.image(image, named[key])
    named["probabilities"] = {}
    for name, image in p.probabilities.items():
        named["probabilities"][name] = f"probability_{name}.nii.gz"
        staging.image(image, named["probabilities"][name])
    if structures:
        named["structures"] = "structures.seg.nrrd"
        staging.image(with_segments(p.structures, structures), named["structures"])
    named["volumes"], named["flags"] = "volumes.csv", "flags.csv"
    staging.text(volumes.table(p.volumes), "volumes.csv")
    staging.text(flags.table(p.flags), "flags.csv")
    named |= volume_assessment.write(p.assessed, p.card, staging)
    if p.metrics:
        named["metrics"] = "metrics.csv"
        with staging.writing():
            metrics.write_rows(p.metrics, staging.folder / named["metrics"])
    name = image_io.stem(p.input_name)
    return {
        "format": FORMAT, "job": "predict", "name": f"{p.card['name']} on {name}",
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "input": {"path": os.path.basename(p.input_name), "name": name, "size": list(p.body.GetSize()),
                  "spacing_mm": [round(s, 5) for s in p.body.GetSpacing()]},
        "model": p.card, "options": p.options, "device_used": p.device_used, "bias_field_corrected": p.bias_field_corrected,
        "notes": p.notes, "level": LEVEL, "interval_factor": interval_factors(p.card, [LEVEL])[LEVEL], "files": named, "structures": structures, "seconds": p.seconds,
        "versions": versions(),
    }


def versions() -> dict:
    """Of this package and of what it computes with."""
    import platform

    import scipy
    import torch

    return {"rtuncertainty": __version__, "torch": torch.__version__, "numpy": np.__version__, "scipy": scipy.__version__,
            "SimpleITK": sitk.Version_VersionString(), "python": platform.python_version()}


def write_summary(summary: dict, staging: image_io.Staging) -> None:
    """Write `summary.json`; a folder with one is a result."""
    staging.text(json.dumps(summary, indent=1, ensure_ascii=False), "summary.json")

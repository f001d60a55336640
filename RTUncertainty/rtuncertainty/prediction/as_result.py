"""A prediction as a `Result`: which of its images and tables are written, and its summary."""

from __future__ import annotations

import os

import numpy as np
import SimpleITK as sitk

from ..core import image_io
from ..core.structure_set import of_labels
from ..results import tables
from ..results.result import FORMAT, SDS, Result, now, versions
from ..uncertainty.hu_calibration import interval_factors
from .predict import LEVEL, Prediction


def as_result(p: Prediction) -> Result:
    """The result to write of a prediction. Maps of what the network cannot know are left out: their zeros would read as
    certainty.

    Args:
        p: what `predict` found.

    Returns:
        Images, tables and summary in memory; `Result.write` makes a folder of them.
    """
    structures = p.card["outputs"]["structures"]
    keys = ("synct", *SDS, "entropy", "mutual_information", "body", "reference", "error", "zscore")
    unknown = set() if structures else {"entropy", "mutual_information"}
    if (not p.card["dropout"]["p"] or p.options["samples"] == 1) and p.card.get("checkpoints", 1) == 1:
        unknown.add("mutual_information")
    unknown |= {key for key in SDS if p.synct is not None and not np.any(sitk.GetArrayViewFromImage(getattr(p, key)))}
    content = {key: getattr(p, key) for key in keys if key not in unknown}
    content |= p.further
    content["probabilities"] = p.probabilities
    if p.samples is not None:
        content["samples"] = p.samples
        content |= {key: getattr(p, key) for key in ("intrinsic_variance", "parameter_variance")}
    if structures:
        content["structures"] = of_labels(p.structures, structures)
    content |= {"volumes": tables.of_volumes(p.volumes), "flags": tables.of_flags(p.flags)}
    if p.assessed:
        content |= tables.of_assessed(p.assessed, p.card) | {"inside": {a.name: a.inside for a in p.assessed}}
    if p.metrics:
        content["metrics"] = tables.of_metrics(p.metrics)
    name = image_io.stem(p.input_name)
    return Result(
        {
            "format": FORMAT,
            "job": "predict",
            "name": f"{p.card['name']} on {name}",
            "created": now(),
            "input": {
                "path": os.path.basename(p.input_name),
                "name": name,
                "size": list(p.body.GetSize()),
                "spacing_mm": [round(s, 5) for s in p.body.GetSpacing()],
            },
            "model": p.card,
            "options": p.options,
            "device_used": p.device_used,
            "bias_field_corrected": p.bias_field_corrected,
            "notes": p.notes,
            "level": LEVEL,
            "interval_factor": interval_factors(p.card, [LEVEL])[LEVEL],
            "structures": structures,
            "seconds": p.seconds,
            "versions": versions(),
        }
        | ({"likeness": p.likeness} if p.likeness else {})
        | ({"site": p.card["site"]} if p.card.get("site") else {}),
        content,
    )

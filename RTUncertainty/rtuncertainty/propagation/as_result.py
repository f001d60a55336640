"""A propagation as a `Result`: its images and tables, and its summary."""

from __future__ import annotations

import math
import os

import SimpleITK as sitk

from ..bundles import bundle as bundles
from ..bundles.card import REGISTRATION
from ..core import image_io
from ..core.structure_set import Structure, as_segmentation
from ..results import tables
from ..results.result import FORMAT, Result, now, versions
from ..uncertainty import flags, volume_assessment, volumes
from .result import LEVEL, Contour, Propagation


def as_result(found: Propagation) -> Result:
    """The result to write of a propagation.

    Args:
        found: what `propagate` found.

    Returns:
        Images, tables and summary in memory; `Result.write` makes a folder of them. Without a transform and its
        Jacobian where the model deforms nothing.
    """
    deforms = bundles.deforms(found.card)
    content = {
        "transform": found.field if deforms else None,
        "warped_planning": found.warped_planning,
        "jacobian": found.jacobian if deforms else None,
        "displacement_sd": found.displacement_sd,
        "segmented_entropy": found.entropy,
    }
    for key, masks in (
        ("propagated", [c.propagated for c in found.contours]),
        ("segmented", [c.segmented for c in found.contours]),
        ("structures", [c.mask for c in found.contours]),
    ):
        some = [Structure(c.name, mask, c.color, c.code) for c, mask in zip(found.contours, masks) if mask is not None]
        content[key] = as_segmentation(some) if some else None
    content |= {
        "structure_table": _structure_rows(found.contours, found.flags),
        "flags": tables.of_flags(found.flags),
        "volumes": tables.of_volumes([_volume(c, found.card) for c in found.contours]),
    }
    assessed = [c.assessed for c in found.contours if c.assessed is not None]
    if assessed:
        content |= tables.of_assessed(assessed, found.card) | {"inside": {a.name: a.inside for a in assessed}}
    daily, image, statistics = image_io.stem(found.names["daily"]), found.warped_planning, found.jacobian_statistics
    inputs = {
        key: {"path": os.path.basename(found.names[key]), "name": image_io.stem(found.names[key])}
        for key in ("planning", "structures", "daily")
    }
    return Result(
        {
            "format": FORMAT,
            "job": "propagate",
            "name": f"{found.card['name']} on {daily}",
            "created": now(),
            "planning": inputs["planning"],
            "structures_input": inputs["structures"],
            "daily": inputs["daily"]
            | {"size": list(image.GetSize()), "spacing_mm": [round(s, 5) for s in image.GetSpacing()]},
            "model": found.card,
            "options": found.options,
            "device_used": found.device_used,
            "notes": found.notes,
            "level": LEVEL,
            "structures": [
                {
                    "name": c.name,
                    "label": k,
                    "color": list(c.color),
                    "code": c.code,
                    "planning_name": c.planning_name,
                    "role": c.role,
                    "default": c.default,
                    "paths": ["propagated"] + ["segmented"] * (c.segmented is not None),
                }
                | ({"organ": c.organ} if c.organ not in ("", c.name) else {})
                for k, c in enumerate(found.contours, 1)
            ],
            "similarity": {k: v for k, v in found.similarity.items() if deforms or k != "after"},
            "folding": found.folding if deforms else None,
            "rigid": _rigid(found.rigid),
            "jacobian": {
                "mean": statistics.mean,
                "sd": statistics.sd,
                "min": statistics.minimum,
                "max": statistics.maximum,
            }
            if deforms
            else None,
            "seconds": found.seconds,
            "versions": versions(),
        }
        | _checks(found)
        | ({"likeness": found.likeness} if found.likeness else {})
        | ({"site": found.card["site"]} if found.card.get("site") else {}),
        content,
    )


def _checks(found: Propagation) -> dict:
    """What registration alone was checked by; a network's summary stays as it was, its flags say what failed."""
    if found.card["architecture"]["name"] != REGISTRATION:
        return {}
    return {"checks": {name: round(v, 4) if math.isfinite(v) else None for name, v in found.checks.items()}}


def _rigid(transform: sitk.Euler3DTransform) -> dict:
    """Angles in degrees and shift in mm (LPS) about the given centre, daily to planning points."""
    angles = [math.degrees(a) for a in (transform.GetAngleX(), transform.GetAngleY(), transform.GetAngleZ())]
    return {
        "angles_degrees": angles,
        "translation_mm": list(transform.GetTranslation()),
        "centre_mm": list(transform.GetCenter()),
    }


def _volume(c: Contour, card: dict) -> volumes.Volume:
    if c.assessed is not None:
        return volume_assessment.volume(c.assessed, card, LEVEL)
    return volumes.Volume(c.name, *(c.segmented_ml if c.default == "segmented" else c.propagated_ml), LEVEL, False)


def _structure_rows(contours: list[Contour], raised: list[flags.Flag]) -> list[dict[str, str]]:
    """The rows of structures.csv; a cell is empty where there is no such path, no sample or no calibration."""
    rows = []
    for c in contours:
        flagged = ", ".join(f.flag for f in raised if f.subject == c.name)
        numbers = [
            c.planning_ml,
            *c.propagated_ml,
            *(c.segmented_ml or (None,) * 3),
            c.agreement.dice,
            c.agreement.msd_mm,
            c.propagated_sd_mm,
            c.segmented_sd_mm,
        ]
        cells = [
            c.name,
            c.default,
            c.agreement.light,
            *map(tables.rounded, numbers),
            str(c.agreement.worst_slice),
            flagged,
            c.agreement.reason,
        ]
        rows.append(dict(zip(tables.COLUMNS["structure_table"], cells, strict=True)))
    return rows

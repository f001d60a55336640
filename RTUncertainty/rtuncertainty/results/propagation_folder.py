"""A propagation as a folder: what `rtuncertainty propagate` writes, and what the scene and the module read."""

from __future__ import annotations

import csv
import datetime
import io
import math
import os

import SimpleITK as sitk

from ..uncertainty import flags, volume_assessment, volumes
from ..core import image_io
from . import prediction_folder
from ..deformation import write_transform
from ..core.structure_set import Structure, as_segmentation
from ..propagation.result import LEVEL, Contour, Propagation

COLUMNS = ("structure", "default", "light", "planning_ml", "propagated_ml", "propagated_lower_ml", "propagated_upper_ml", "segmented_ml",
           "segmented_lower_ml", "segmented_upper_ml", "dice", "msd_mm", "propagated_sd_mm", "segmented_sd_mm", "worst_slice", "flag", "reason")


def save(found: Propagation, staging: image_io.Staging) -> dict:
    """Write all files of a result but the scene; returns the summary, which `results.write_summary` writes."""
    files = {"transform": "transform.h5"}
    with staging.writing():
        write_transform(found.field, staging.folder / files["transform"])
    for key, image, name in (("warped_planning", found.warped_planning, "warped_planning"), ("jacobian", found.jacobian, "jacobian"),
                             ("displacement_sd", found.displacement_sd, "displacement_sd"), ("segmented_entropy", found.entropy, "segmented_entropy")):
        if image is not None:
            files[key] = f"{name}.nii.gz"
            staging.image(image, files[key])
    sets = {"propagated": [(c, c.propagated) for c in found.contours],
            "segmented": [(c, c.segmented) for c in found.contours if c.segmented is not None],
            "structures": [(c, c.mask) for c in found.contours]}
    for key, rows in sets.items():
        if rows:
            files[key] = f"{key}.seg.nrrd"
            staging.image(as_segmentation([Structure(c.name, mask, c.color, c.code) for c, mask in rows]), files[key])
    files |= {"structure_table": "structures.csv", "volumes": "volumes.csv", "flags": "flags.csv"}
    staging.text(table(found.contours, found.flags), files["structure_table"])
    staging.text(volumes.table([_volume(c, found.card) for c in found.contours]), files["volumes"])
    staging.text(flags.table(found.flags), files["flags"])
    files |= volume_assessment.write([c.assessed for c in found.contours if c.assessed is not None], found.card, staging)
    daily = image_io.stem(found.names["daily"])
    image = {"size": list(found.warped_planning.GetSize()), "spacing_mm": [round(s, 5) for s in found.warped_planning.GetSpacing()]}
    inputs = {key: {"path": os.path.basename(found.names[key]), "name": image_io.stem(found.names[key])} for key in ("planning", "structures", "daily")}
    statistics = found.jacobian_statistics
    return {
        "format": prediction_folder.FORMAT, "job": "propagate", "name": f"{found.card['name']} on {daily}",
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "planning": inputs["planning"], "structures_input": inputs["structures"], "daily": inputs["daily"] | image,
        "model": found.card, "options": found.options, "device_used": found.device_used, "notes": found.notes, "level": LEVEL, "files": files,
        "structures": [{"name": c.name, "label": k, "color": list(c.color), "code": c.code, "planning_name": c.planning_name, "role": c.role, "default": c.default,
                        "paths": ["propagated"] + ["segmented"] * (c.segmented is not None)} for k, c in enumerate(found.contours, 1)],
        "similarity": found.similarity, "folding": found.folding, "rigid": _rigid(found.rigid),
        "jacobian": {"mean": statistics.mean, "sd": statistics.sd, "min": statistics.minimum, "max": statistics.maximum},
        "seconds": found.seconds, "versions": prediction_folder.versions(),
    }


def _rigid(transform: sitk.Euler3DTransform) -> dict:
    """Angles in degrees and shift in mm (LPS) about the given centre, daily to planning points."""
    angles = [math.degrees(a) for a in (transform.GetAngleX(), transform.GetAngleY(), transform.GetAngleZ())]
    return {"angles_degrees": angles, "translation_mm": list(transform.GetTranslation()), "centre_mm": list(transform.GetCenter())}


def _volume(c: Contour, card: dict) -> volumes.Volume:
    if c.assessed is not None:
        return volume_assessment.volume(c.assessed, card, LEVEL)
    ml, lower, upper = c.segmented_ml if c.default == "segmented" else c.propagated_ml
    return volumes.Volume(c.name, ml, ml if lower is None else lower, ml if upper is None else upper, LEVEL, False)


def table(contours: list[Contour], raised: list) -> str:
    """`structures.csv` as text; a cell is empty where there is no such path or no sample."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for c in contours:
        told = ", ".join(f.flag for f in raised if f.subject == c.name)
        numbers = [c.planning_ml, *c.propagated_ml, *(c.segmented_ml or (None,) * 3), c.agreement.dice, c.agreement.msd_mm, c.propagated_sd_mm, c.segmented_sd_mm]
        writer.writerow([c.name, c.default, c.agreement.light, *map(_number, numbers), c.agreement.worst_slice, told, c.agreement.reason])
    return out.getvalue()


def _number(value) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.3f}"

"""A small planning and daily CT with structures, and a result folder as `rtuncertainty propagate` writes it.

The deformation is known: a shift that fades towards the head. Made with SimpleITK, numpy and the backend's own writer
of segmentations; the network is what is not there.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from rtuncertainty.core import structure_set

SIZE, SPACING, ORIGIN = (44, 36, 20), (3.0, 3.0, 4.0), (-60.0, -48.0, 205.0)
SHIFT = (4.0, -3.0, 2.0)  # mm, LPS: from a point of the daily to that of the planning CT, at the feet
# name, colour, centre and half axes in voxels; the target lies over the left parotid
STRUCTURES = (
    ("Brainstem", (244, 214, 49), (22, 20, 12), (3.5, 3.5, 6)),
    ("SpinalCord", (241, 214, 145), (22, 23, 7), (1.8, 1.8, 6)),
    ("Parotid_L", (0, 151, 206), (32, 19, 10), (4, 5, 5)),
    ("Parotid_R", (183, 156, 220), (12, 19, 10), (4, 5, 5)),
    ("PTV70", (221, 40, 60), (30, 17, 10), (5, 5, 5)),
)
KNOWN = ("Brainstem", "SpinalCord", "Parotid_L", "Parotid_R")


def case(direction: np.ndarray | None = None) -> tuple[sitk.Image, list[structure_set.Structure], sitk.Image]:
    """(planning CT, its structures, daily CT); structures are masks on the planning grid, two of them overlap."""
    z, y, x = np.mgrid[0 : SIZE[2], 0 : SIZE[1], 0 : SIZE[0]].astype(float)
    ct = np.where(((x - 22) / 19) ** 2 + ((y - 18) / 15) ** 2 < 1, 40.0, -1000.0)
    masks = {}
    for number, (name, _color, centre, axes) in enumerate(STRUCTURES):
        masks[name] = sum(((v - c) / a) ** 2 for v, c, a in zip((x, y, z), centre, axes)) < 1
        if name != "PTV70":
            ct[masks[name]] = 80.0 + 40 * number
    planning = image(np.round(ct + np.random.default_rng(0).normal(0, 8, ct.shape)).astype(np.int16), direction)
    structures = [
        structure_set.Structure(name, image(masks[name].astype(np.uint8), direction), color)
        for name, color, *_ in STRUCTURES
    ]
    daily = sitk.Resample(planning, planning, transform_of(planning), sitk.sitkLinear, -1000)
    return planning, structures, daily


def image(array: np.ndarray, direction: np.ndarray | None = None) -> sitk.Image:
    """An image (z, y, x) on the test's grid."""
    result = sitk.GetImageFromArray(array)
    result.SetSpacing(SPACING)
    result.SetOrigin(ORIGIN)
    result.SetDirection(np.asarray(np.eye(3) if direction is None else direction, float).ravel().tolist())
    return result


def field_of(daily: sitk.Image) -> sitk.Image:
    """The displacement (mm, LPS) from points of the daily to points of the planning CT."""
    z = np.linspace(1.0, 0.4, daily.GetSize()[2])[:, None, None, None]
    field = sitk.GetImageFromArray(np.broadcast_to(z * SHIFT, (*daily.GetSize()[::-1], 3)).copy(), isVector=True)
    field.CopyInformation(daily)
    return field


def transform_of(daily: sitk.Image) -> sitk.Transform:
    """The deformation as ITK's resampling takes it."""
    return sitk.DisplacementFieldTransform(field_of(daily))


def make_propagation(
    folder,
    planning=None,
    structures=None,
    daily=None,
    segmented: bool = True,
    samples: bool = True,
    names: tuple[str, str] = ("planning", "daily"),
) -> Path:
    """Write the result folder and return it. Without images it is one of `case()`.

    `segmented`: whether the model also segments; `samples`: whether it samples. `structures` is a list of `Structure`.
    """
    if planning is None:
        planning, structures, daily = case()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    transform = transform_of(daily)
    files = {"transform": "transform.h5"}
    sitk.WriteTransform(transform, str(folder / files["transform"]))

    def save(key, picture, kind=sitk.sitkFloat32):
        files[key] = f"{key}.nii.gz"
        sitk.WriteImage(sitk.Cast(picture, kind), str(folder / files[key]), True)

    save("warped_planning", sitk.Resample(planning, daily, transform, sitk.sitkLinear, -1000), sitk.sitkInt16)
    save("jacobian", sitk.DisplacementFieldJacobianDeterminant(field_of(daily)))
    z = np.arange(daily.GetSize()[2])[:, None, None] * np.ones(daily.GetSize()[::-1])
    if samples:
        save("displacement_sd", _like(0.3 + 0.15 * z, daily))
    propagated = {s.name: sitk.Resample(s.mask, daily, transform, sitk.sitkNearestNeighbor, 0) for s in structures}
    direct = {}
    for number, name in enumerate(n for n in propagated if n in KNOWN and segmented):
        # worse from structure to structure: as it is, one voxel larger, shifted by two voxels, far away
        array = sitk.GetArrayFromImage(propagated[name])
        larger = sitk.GetArrayFromImage(sitk.BinaryDilate(propagated[name], [1, 1, 0]))
        array = [array, larger, np.roll(array, 2, 2), np.roll(array, 4, 1)][number % 4]
        direct[name] = _like(array.astype(np.uint8), daily)
    rows = [_row(s, propagated[s.name], direct.get(s.name), samples) for s in structures]
    for key, masks in (("propagated", propagated), ("segmented", direct)):
        if masks:
            files[key] = f"{key}.seg.nrrd"
            known = [
                structure_set.Structure(s.name, masks[s.name], s.color, s.code) for s in structures if s.name in masks
            ]
            sitk.WriteImage(structure_set.as_segmentation(known), str(folder / files[key]), True)
    files["structures"] = files["propagated"]
    if direct:
        surface = sum(sitk.GetArrayFromImage(sitk.BinaryContour(m)).astype(float) for m in direct.values())
        save("segmented_entropy", _like(0.6 * (surface > 0), daily))
    for key, name, table in (
        ("structure_table", "structures.csv", rows),
        ("volumes", "volumes.csv", _volumes(rows)),
        ("flags", "flags.csv", _flags(rows)),
    ):
        files[key] = name
        with open(folder / name, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    summary = {
        "format": 1,
        "job": "propagate",
        "name": f"headneck-ct-propagation on {names[1]}",
        "created": "2026-01-31T10:00:00+01:00",
        **{
            key: {"path": f"{name}.nii.gz", "name": name, "size": list(i.GetSize()), "spacing_mm": list(i.GetSpacing())}
            for key, name, i in (("planning", names[0], planning), ("daily", names[1], daily))
        },
        "structures_input": {"path": "structures.seg.nrrd", "name": "structures"},
        "model": {"name": "headneck-ct-propagation"},
        "options": {"samples": 20, "seed": 0, "device": "cpu", "rigid": "on", "refine": "fast"},
        "device_used": "cpu",
        "notes": [],
        "level": 0.9,
        "files": files,
        "structures": [
            {
                "name": s.name,
                "label": n + 1,
                "color": list(s.color),
                "code": s.code,
                "planning_name": s.name,
                "paths": ["propagated", "segmented"] if s.name in direct else ["propagated"],
                "default": "propagated",
            }
            for n, s in enumerate(structures)
        ],
        "similarity": {"before": 0.81, "rigid": 0.9, "after": 0.97},
        "folding": 0.0,
        "jacobian": {"mean": 1.0, "sd": 0.02, "min": 0.9, "max": 1.1},
        "seconds": {},
        "versions": {},
    }
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder


def _like(array: np.ndarray, grid: sitk.Image) -> sitk.Image:
    result = sitk.GetImageFromArray(array)
    result.CopyInformation(grid)
    return result


def _row(structure, moved: sitk.Image, direct: sitk.Image | None, samples: bool) -> dict:
    """A row of structures.csv, measured on the masks."""
    first = sitk.GetArrayViewFromImage(moved) > 0
    ml = float(np.prod(moved.GetSpacing())) / 1000
    volume = first.sum() * ml
    row = {
        "structure": structure.name,
        "default": "propagated",
        "planning_ml": round(
            float(sitk.GetArrayViewFromImage(structure.mask).sum())
            * float(np.prod(structure.mask.GetSpacing()))
            / 1000,
            3,
        ),
        "propagated_ml": round(volume, 3),
        "propagated_lower_ml": round(0.93 * volume, 3) if samples else "",
        "propagated_upper_ml": round(1.07 * volume, 3) if samples else "",
        "segmented_ml": "",
        "segmented_lower_ml": "",
        "segmented_upper_ml": "",
        "dice": "",
        "msd_mm": "",
        "propagated_sd_mm": 0.8 if samples else "",
        "segmented_sd_mm": "",
        "worst_slice": int(np.median(np.nonzero(first)[0])) if first.any() else 0,
        "light": "green",
        "flag": "",
        "reason": "the sampled surfaces agree; the model does not segment it directly",
    }
    if direct is None:
        return row
    second = sitk.GetArrayViewFromImage(direct) > 0
    other = second.sum() * ml
    dice = 2 * (first & second).sum() / (first.sum() + second.sum())
    apart = sitk.GetArrayFromImage(
        sitk.Abs(sitk.SignedMaurerDistanceMap(moved, squaredDistance=False, useImageSpacing=True))
    )
    msd = float(apart[sitk.GetArrayFromImage(sitk.BinaryContour(direct)) > 0].mean())
    light = "green" if dice > 0.8 else "amber" if dice > 0.65 else "red"
    apart_words = f"the two contours are {msd:.1f} mm apart on average; their Dice is {dice:.2f}"
    row.update(
        segmented_ml=round(other, 3),
        dice=round(float(dice), 3),
        msd_mm=round(msd, 2),
        light=light,
        worst_slice=int((first ^ second).sum((1, 2)).argmax()) if (first ^ second).any() else row["worst_slice"],
        flag="" if light == "green" else "check the contour",
        reason="the two contours agree" if light == "green" else apart_words,
    )
    if samples:
        row.update(
            segmented_lower_ml=round(0.9 * other, 3), segmented_upper_ml=round(1.1 * other, 3), segmented_sd_mm=1.1
        )
    return row


def _volumes(rows: list[dict]) -> list[dict]:
    return [
        {
            "structure": r["structure"],
            "volume_ml": r["propagated_ml"],
            "lower_ml": r["propagated_lower_ml"],
            "upper_ml": r["propagated_upper_ml"],
            "level": 0.9,
            "calibrated": "no",
        }
        for r in rows
    ]


def _flags(rows: list[dict]) -> list[dict]:
    severity = {"amber": "warning", "red": "serious"}
    flagged = [
        {
            "subject": r["structure"],
            "severity": severity[r["light"]],
            "flag": r["flag"],
            "reason": f"{r['reason'][:1].upper()}{r['reason'][1:]}.",
        }
        for r in rows
        if r["light"] in severity
    ]
    return flagged or [
        {
            "subject": "deformation",
            "severity": "info",
            "flag": "not calibrated",
            "reason": "Its spread was never checked.",
        }
    ]

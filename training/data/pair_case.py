"""A planning and a daily CT of one patient with the true deformation between them, and the file in which they wait."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.files import replaced


@dataclass
class PairCase:
    """Arrays [z, y, x] on the working grid, rigidly aligned (see `rtuncertainty.propagation.pair`).

    `classes` are the organs in the order of their labels 1, 2, …; `present` those that were drawn.
    """

    name: str
    patient: str
    planning: np.ndarray  # float32, HU
    daily: np.ndarray
    planning_labels: np.ndarray  # uint8
    daily_labels: np.ndarray
    displacement: np.ndarray  # float32 [3, z, y, x], x, y, z in voxels, daily to planning; 0 outside the body
    body: np.ndarray  # bool, of the daily scan
    known: np.ndarray  # bool, where both scans were taken
    spacing: tuple  # (x, y, z) in mm
    classes: list[str]
    present: list[str]


def save(case: PairCase, path: Path, record: dict) -> None:
    """Write a pair compactly: HU in steps of 8, displacements in the body in steps of 1/32 voxel. `record` (JSON) is
    kept with it.
    """
    arrays = {
        "labels": np.stack([case.planning_labels, case.daily_labels]),
        "hu": np.rint(np.stack([case.planning, case.daily]).clip(-1024, 3071) / 8).astype(np.int16),
        "displacement": np.rint(case.displacement * 32 * case.body).clip(-32768, 32767).astype(np.int16),
        "masks": np.packbits(np.stack([case.body, case.known])),
        "spacing": case.spacing,
        "about": json.dumps(
            {"patient": case.patient, "classes": case.classes, "present": case.present, "record": record}
        ),
    }
    with replaced(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def load(path: Path) -> PairCase:
    """Read what `save` wrote."""
    with np.load(path, allow_pickle=False) as f:
        shape = f["labels"].shape
        masks = np.unpackbits(f["masks"], count=int(np.prod(shape))).reshape(shape).astype(bool)
        hu, about = f["hu"].astype(np.float32) * 8, json.loads(str(f["about"]))
        return PairCase(
            path.stem,
            about["patient"],
            hu[0],
            hu[1],
            f["labels"][0],
            f["labels"][1],
            f["displacement"].astype(np.float32) / 32,
            masks[0],
            masks[1],
            tuple(float(s) for s in f["spacing"]),
            about["classes"],
            about["present"],
        )

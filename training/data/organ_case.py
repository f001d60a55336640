"""A CT with organs on the working grid, and the file in which it waits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.files import replaced


@dataclass
class OrganCase:
    """Arrays [z, y, x] on the working grid. `classes` are the organs in the order of their labels 1, 2, …

    `drawn_ml`: of each organ that was drawn in this patient, the volume in ml on the voxels on which it was drawn; that
    of the labels differs a little, and where organs overlap. An organ that is not in `drawn_ml` may be there all the
    same: its voxels are among the background.
    """

    name: str
    patient: str
    hu: np.ndarray  # float32
    labels: np.ndarray  # uint8
    body: np.ndarray  # bool
    spacing: tuple  # (x, y, z) in mm
    classes: list[str]
    drawn_ml: dict[str, float]

    @property
    def present(self) -> list[str]:
        """The organs that were drawn, in the order of `classes`."""
        return [c for c in self.classes if c in self.drawn_ml]

    @property
    def ml_per_voxel(self) -> float:
        return float(np.prod(self.spacing)) / 1000


def save(case: OrganCase, path: Path) -> None:
    """Write a case compactly: HU in steps of 8, below the noise of a CT."""
    arrays: dict[str, Any] = {
        "hu": np.rint(case.hu.clip(-1024, 3071) / 8).astype(np.int16),
        "labels": case.labels.astype(np.uint8),
        "body": np.packbits(case.body),
        "spacing": case.spacing,
        "about": json.dumps({"patient": case.patient, "classes": case.classes, "drawn_ml": case.drawn_ml}),
    }
    with replaced(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def load(path: Path) -> OrganCase:
    """Read what `save` wrote."""
    with np.load(path, allow_pickle=False) as f:
        labels, about = f["labels"], json.loads(str(f["about"]))
        body = np.unpackbits(f["body"], count=labels.size).reshape(labels.shape).astype(bool)
        return OrganCase(
            path.stem,
            about["patient"],
            f["hu"].astype(np.float32) * 8,
            labels,
            body,
            tuple(float(s) for s in f["spacing"]),
            about["classes"],
            about["drawn_ml"],
        )

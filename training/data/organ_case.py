"""A CT, or an MR that `prepare --for segmentation` wrote, with organs on the working grid, and its file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rtuncertainty.core.ct import normalised

from ..core.files import replaced
from .case import Case, load_case


@dataclass
class OrganCase:
    """Arrays [z, y, x] on the working grid. `classes` are the organs in the order of their labels 1, 2, …

    `drawn_ml`: of each organ that was drawn in this patient, the volume in ml on the voxels on which it was drawn; that
    of the labels differs a little, and where organs overlap. An organ that is not in `drawn_ml` may be there all the
    same: its voxels are among the background.
    """

    name: str
    patient: str
    hu: np.ndarray  # float32, HU; of an MR the z-score in the body
    labels: np.ndarray  # uint8
    body: np.ndarray  # bool
    spacing: tuple  # (x, y, z) in mm
    classes: list[str]
    drawn_ml: dict[str, float]
    ct: bool = True
    known: np.ndarray | None = None  # bool, where it is known what is what; None: everywhere
    # of several MR sequences, as the network sees them [c, z, y, x], float32; else None. `hu` is 0 then, `ct` False
    images: np.ndarray | None = None
    # {structure: its parts}: labels exclude each other, a structure is its own voxels and those of its parts
    holds: dict[str, list[str]] = field(default_factory=dict)

    @property
    def seen(self) -> np.ndarray:
        """What a network sees [c, z, y, x], float32."""
        return self.image[None] if self.images is None else self.images

    @property
    def image(self) -> np.ndarray:
        """The first image that a network sees [z, y, x], float32."""
        if self.images is not None:
            return self.images[0]
        return normalised(self.hu) if self.ct else self.hu

    def mask(self, structure: str) -> np.ndarray:
        """The voxels [z, y, x] (bool) of a structure, its parts among them."""
        return np.isin(self.labels, [1 + self.classes.index(n) for n in (structure, *self.holds.get(structure, ()))])

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
        "about": json.dumps(
            {"patient": case.patient, "classes": case.classes, "drawn_ml": case.drawn_ml, "holds": case.holds}
        ),
    }
    if case.images is not None:  # in steps of 1/32 SD, below their noise
        arrays["images"] = np.rint(case.images * 32).clip(-32768, 32767).astype(np.int16)
    with replaced(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def load(path: Path) -> OrganCase:
    """Read what `save` wrote, or the `case.Case` of a patient without a CT."""
    with np.load(path, allow_pickle=False) as f:
        of_mr = "mr" in f
    if of_mr:
        return _of_mr(load_case(path))
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
            ct="images" not in f,
            images=f["images"].astype(np.float32) / 32 if "images" in f else None,
            holds=about.get("holds", {}),
        )


def _of_mr(case: Case) -> OrganCase:
    """A patient who is only segmented. Beyond the body nothing is an organ, measured or not."""
    classes = sorted((n for n, v in case.classes.items() if v), key=case.classes.__getitem__)
    counts = {n: int((case.labels == case.classes[n]).sum()) for n in classes}
    ml = float(np.prod(case.spacing)) / 1000
    drawn = {n: count * ml for n, count in counts.items() if count}
    known = case.valid | ~case.body
    return OrganCase(
        case.name,
        case.name,
        case.mr,
        np.where(known, case.labels, 0).astype(np.uint8),
        case.body,
        case.spacing,
        classes,
        drawn,
        False,
        None if known.all() else known,
    )

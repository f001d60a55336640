"""A prepared patient, and the file in which it waits for a training."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rtuncertainty.uncertainty import metrics

from ..core.files import replaced

LABELS = {"background": 0, "bone": 1, "gtv": 2}


@dataclass
class Case:
    """One prepared patient; arrays [z, y, x] on one axial grid of the network's in-plane spacing."""

    name: str
    mr: np.ndarray  # float32, z-score inside the body
    ct: np.ndarray | None  # float32, HU; None for a patient who is only segmented
    labels: np.ndarray  # uint8, see `classes`
    body: np.ndarray  # bool, from the MR
    valid: np.ndarray  # bool, where both MR and CT were measured
    spacing: tuple  # (x, y, z) in mm
    classes: dict = field(default_factory=lambda: dict(LABELS))  # name -> value in `labels`
    ct_body: np.ndarray | None = (
        None  # bool, from the CT, without couch; found where it is not given, None without a CT
    )

    def __post_init__(self):
        if self.ct is not None and self.ct_body is None:
            self.ct_body = metrics.reference_body(self.ct, self.spacing)

    @property
    def region(self) -> np.ndarray:
        """Where a score looks: in the CT's body, measured by both. What the MR's body mask takes for air counts,
        too.
        """
        return (self.body if self.ct_body is None else self.ct_body) & self.valid

    @property
    def patient(self) -> np.ndarray:
        """Body in the MR, in the CT or in both. A loss looks at what of it is `valid`: skin and cut bone are learnt
        from as well.
        """
        return self.body if self.ct_body is None else self.body | self.ct_body


def save_case(case: Case, path: Path, scores: dict, options: dict | None = None, findings: list | None = None) -> None:
    """Write a case, compactly: MR in steps of 1/32 sd, CT of 2 HU, both far below their noise.

    `scores` of the registration, the `options` that the case was prepared with and what the checks found (lists of
    level, check and message) are kept with it. Raises `InputError` for a full disk; the file is then not there.
    """
    arrays = {
        "mr": np.rint(case.mr * 32).clip(-32768, 32767).astype(np.int16),
        "labels": case.labels,
        "body": np.packbits(case.body),
        "valid": np.packbits(case.valid),
        "spacing": case.spacing,
        "scores": json.dumps(scores),
        "classes": json.dumps(case.classes),
    }
    if case.ct is not None:
        arrays["ct_body"] = np.packbits(case.ct_body)
        arrays["ct"] = np.rint(case.ct / 2).clip(-32768, 32767).astype(np.int16)
    for name, value in (("options", options), ("findings", findings)):
        if value is not None:
            arrays[name] = json.dumps(value)
    with replaced(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def load_case(path: Path) -> Case:
    """Read what `save_case` wrote; a file of an earlier version has the classes `LABELS`, and its CT's body is found
    anew.
    """
    with np.load(path, allow_pickle=False) as f:
        shape = f["mr"].shape
        bits = {
            k: np.unpackbits(f[k], count=int(np.prod(shape))).reshape(shape).astype(bool)
            for k in ("body", "valid", "ct_body")
            if k in f
        }
        ct = f["ct"].astype(np.float32) * 2 if "ct" in f else None
        classes = json.loads(str(f["classes"])) if "classes" in f else dict(LABELS)
        return Case(
            path.stem,
            f["mr"].astype(np.float32) / 32,
            ct,
            f["labels"],
            bits["body"],
            bits["valid"],
            tuple(float(s) for s in f["spacing"]),
            classes,
            bits.get("ct_body"),
        )


def read_record(path: Path) -> dict | None:
    """`scores`, `options` and `findings` of a case's file, the latter two None in files of an earlier version.

    None for a file that is not there or is damaged, which is to be made again.
    """
    try:
        with np.load(path, allow_pickle=False) as f:
            return {k: json.loads(str(f[k])) if k in f else None for k in ("scores", "options", "findings")}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None

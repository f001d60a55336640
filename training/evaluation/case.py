"""One patient as a network saw it, beside what the reference CT shows."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from ..data.prepare.synthesis import Case


@dataclass
class Evaluated:
    """A network's output for one prepared patient; arrays [z, y, x] on the grid of `case`.

    Attributes:
        name: of the patient.
        case: MR, CT, labels and regions.
        synct: HU; None for a network that only segments.
        sd: predictive SD, HU; None for a network that gives none.
        intrinsic_sd, parameter_sd: HU, or None.
        probability: [K, z, y, x], channel k for label k; K = 0 or None without class outputs.
        labels: by default the likeliest class inside the body.

    Raises:
        SystemExit: a synthetic CT of a case without CT, an array of another shape, or a synthetic CT or an SD
            that is not a finite number (or an SD that is negative) inside the region that is scored.
    """

    name: str
    case: Case
    synct: np.ndarray | None
    sd: np.ndarray | None = None
    intrinsic_sd: np.ndarray | None = None
    parameter_sd: np.ndarray | None = None
    probability: np.ndarray | None = None
    labels: np.ndarray | None = None

    def __post_init__(self):
        if self.case.ct is None and self.synct is not None:
            raise SystemExit(
                f"{self.name}: the patient has no CT to compare a synthetic CT with; leave it out of the split."
            )
        shape, region = self.case.mr.shape, self.case.region
        if not region.any():
            raise SystemExit(
                f"{self.name}: no voxel lies in the body and in both fields of view; look at its overlay and leave it "
                "out."
            )
        for what in ("synct", "sd", "intrinsic_sd", "parameter_sd", "labels"):
            array = getattr(self, what)
            if array is None:
                continue
            if array.shape != shape:
                raise SystemExit(
                    f"{self.name}: {what} has the shape {array.shape}, the prepared case {shape}; "
                    "predict it on the prepared grid."
                )
            if not np.isfinite(array[region]).all() or (what.endswith("sd") and (array[region] < 0).any()):
                raise SystemExit(
                    f"{self.name}: {what} holds values that are no numbers or, for an sd, below zero; look at the "
                    "weights."
                )
        if self.classes:
            if self.probability.shape[1:] != shape:
                raise SystemExit(
                    f"{self.name}: probability has the shape {self.probability.shape}, expected K and {shape}."
                )
            if self.labels is None:
                self.labels = np.where(self.case.body, self.probability.argmax(0), 0)

    @property
    def classes(self) -> int:
        """K, the number of classes that the network gives, background included; 0 without class outputs."""
        return 0 if self.probability is None else len(self.probability)

    def structures(self) -> dict[str, int]:
        """The names and label values of the patient's structures, background left out."""
        return {name: value for name, value in self.case.classes.items() if value}


def fingerprint(case: Case) -> int:
    """A checksum of what a patient is scored against: CT (to 1 HU) and labels inside the region, and the region itself.

    Two networks' rows of one patient belong together only when it is the same.

    Args:
        case: of the patient.

    Returns:
        32 bits.
    """
    region = case.region
    found = zlib.crc32(np.packbits(region).tobytes())
    if case.ct is not None:
        found = zlib.crc32(np.rint(case.ct[region]).astype("<i2").tobytes(), found)
    return zlib.crc32(case.labels[region].astype("u1").tobytes(), found)

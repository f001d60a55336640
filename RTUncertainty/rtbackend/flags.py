"""Flags: what a reviewer should look at first, each with its reason."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

import numpy as np

COLUMNS = ("subject", "severity", "flag", "reason")
# An interval wider than half of the volume says that the volume is hardly known.
WIDE_INTERVAL = 0.5


@dataclass
class Flag:
    """`subject`: a structure's name, "input" or "synCT"; `severity`: info, warning or serious."""

    subject: str
    severity: str
    flag: str
    reason: str


def of_structure(volume, labelled: np.ndarray, field_of_view: np.ndarray) -> list[Flag]:
    """Flags of one structure from its `volumes.Volume` and its voxels [z, y, x], in the measured field of view."""
    name = volume.structure
    if not labelled.any():
        if volume.upper_ml > 0:
            return [Flag(name, "warning", "not found", f"No voxel is more likely {name} than not, yet up to {volume.upper_ml:.1f} ml are within the interval.")]
        return [Flag(name, "info", "not found", f"No voxel is likely {name}.")]
    out = []
    z = np.flatnonzero(labelled.any((1, 2)))
    edge = z[0] == 0 or z[-1] == labelled.shape[0] - 1
    edge |= bool(labelled[:, [0, -1]].any() or labelled[:, :, [0, -1]].any() or (labelled & ~field_of_view).any())
    if edge:
        out.append(Flag(name, "info", "cut off", "It reaches the edge of the image: the volume is that of the visible part."))
    width = (volume.upper_ml - volume.lower_ml) / volume.volume_ml
    if width > WIDE_INTERVAL:
        out.append(Flag(name, "warning", "uncertain volume", f"The {volume.level:.0%} interval spans {width:.0%} of the volume "
                        f"({volume.lower_ml:.1f} to {volume.upper_ml:.1f} ml); check the contour."))
    return out


def of_synct(predictive_sd: np.ndarray, body: np.ndarray, card: dict) -> list[Flag]:
    """A flag when the mean predictive sd in the body exceeds all that the model's validation patients had."""
    seen = (card["calibration"].get("synct") or {}).get("body_sd_range_hu")
    if not seen or not body.any():
        return []
    mean = float(predictive_sd[body].mean())
    if mean > seen[1]:
        return [Flag("synCT", "warning", "unusually uncertain", f"The mean predictive SD in the body is {mean:.0f} HU; on the validation "
                     f"patients it was {seen[0]:.0f} to {seen[1]:.0f} HU. The image may be unlike the training data.")]
    return []


def table(flags: list[Flag]) -> str:
    """`flags.csv` as text."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((f.subject, f.severity, f.flag, f.reason) for f in flags)
    return out.getvalue()

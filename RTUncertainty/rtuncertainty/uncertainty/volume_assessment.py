"""What is known of a structure's volume and quality, and its files in a result: volume_distribution.csv, volume_intervals.csv,
structure_quality.csv and inside_<structure>.nii.gz."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..core import geometry
from . import quality as structure_quality, volume_calibration, volume_distribution
from .quality import Quality
from .volume_distribution import LEVELS, VolumeDistribution
from .volumes import SURE, Volume

DISTRIBUTION = ("structure", "percentile", "volume_ml", "calibrated_ml")
INTERVALS = ("structure", "level", "lower_ml", "upper_ml", "calibrated", "cases", "note")


@dataclass
class Assessed:
    """One structure: the distribution of its volume, how much of it holds each voxel (uint8, percent, on the contour's grid),
    and the quality of its contour."""

    distribution: VolumeDistribution
    inside: sitk.Image
    quality: Quality

    @property
    def name(self) -> str:
        return self.distribution.structure


def assess(name: str, inside: np.ndarray, probability: np.ndarray | None, labelled: np.ndarray, entropy: np.ndarray | None, grid: sitk.Image, card: dict,
           rule: dict | None = None) -> Assessed:
    """All of one structure; arrays [z, y, x] on `grid`.

    inside: P(p > ½), see `volume_distribution`; probability: the mean over the samples, or None: then `inside` in its place;
    labelled: the contour that is shown; entropy: predictive, nats, or None; rule: the structure's (`structures.tidy`).
    """
    probability = inside if probability is None else probability
    membership = np.zeros(labelled.shape, np.float32)
    # an organ is a small part of a scan; a voxel around it tells where its surface is. What is no number is kept, to be refused
    some = ~(inside < SURE) | (probability > structure_quality.LEAST) | labelled
    box = volume_distribution.box_of(some, (1, 1, 1)) if some.any() else (slice(0, 1),) * 3
    membership[box] = volume_distribution.restricted(inside[box], labelled[box], rule)
    distribution = volume_distribution.of_membership(name, membership, float(np.prod(grid.GetSpacing())) / 1000)
    quality = structure_quality.assess(name, probability[box], labelled[box], None if entropy is None else entropy[box], card, rule)
    return Assessed(distribution, geometry.like(volume_distribution.percent(membership), grid, np.uint8), quality)


def volume(found: Assessed, card: dict, level: float) -> Volume:
    """The structure's row of volumes.csv."""
    interval = volume_calibration.of_card(card).interval(found.distribution, level)
    return Volume(found.name, found.distribution.volume_ml, interval.lower, interval.upper, level, interval.calibrated)


def write(found: list[Assessed], card: dict, staging) -> dict:
    """Write the files of all structures into `staging` (`image_io.Staging`); returns their entries in the summary's "files"."""
    if not found:
        return {}
    calibration = volume_calibration.of_card(card)
    files = {"volume_distribution": "volume_distribution.csv", "volume_intervals": "volume_intervals.csv", "quality": "structure_quality.csv",
             "inside": image_names([f.name for f in found])}
    staging.text(distribution_table(found, calibration), files["volume_distribution"])
    staging.text(interval_table(found, calibration), files["volume_intervals"])
    staging.text(structure_quality.table([f.quality for f in found]), files["quality"])
    for f in found:
        staging.image(f.inside, files["inside"][f.name])
    return files


def image_names(structures: list[str]) -> dict[str, str]:
    """{structure: file of its membership}; names that clinics give may hold what no file name may."""
    out: dict[str, str] = {}
    for name in structures:
        # a file name has 255 bytes, a letter up to four
        safe, number = re.sub(r"[^\w.-]+", "_", name)[:50], 1
        file = f"inside_{safe}.nii.gz"
        # on some disks upper and lower case are one
        while file.lower() in {f.lower() for f in out.values()}:
            number += 1
            file = f"inside_{safe}_{number}.nii.gz"
        out[name] = file
    return out


def distribution_table(found: list[Assessed], calibration) -> str:
    """`volume_distribution.csv` as text; calibrated_ml is empty where it was not calibrated so far out."""
    rows = []
    for f in found:
        calibrated = calibration.quantiles(f.distribution)
        rows += [[f.name, f"{q:g}", f"{v:.3f}", "" if c is None else f"{c:.3f}"]
                 for q, v, c in zip(f.distribution.percentiles, f.distribution.ml, calibrated)]
    return _csv(DISTRIBUTION, rows)


def interval_table(found: list[Assessed], calibration) -> str:
    """`volume_intervals.csv` as text."""
    rows = []
    for f in found:
        for level in LEVELS:
            i = calibration.interval(f.distribution, level)
            note = i.note or ("the samples have no spread" if not i.calibrated and f.distribution.ml[0] == f.distribution.ml[-1] else "")
            rows.append([f.name, f"{level:g}", f"{i.lower:.3f}", f"{i.upper:.3f}", "yes" if i.calibrated else "no", i.cases, note])
    return _csv(INTERVALS, rows)


def _csv(head, rows) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return out.getvalue()

"""What is known of a structure's volume and quality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..core import geometry
from . import quality as structure_quality
from . import volume_calibration, volume_distribution
from .cross_conformal import MemberVolume
from .quality import Quality
from .volume_distribution import VolumeDistribution
from .volumes import SURE, Volume


@dataclass
class Assessed:
    """What is known of one structure.

    Attributes:
        distribution: of its volume.
        inside: percentile map, uint8 on the contour's grid: percent of the distribution that holds a voxel.
        quality: of its contour.
        members: what each checkpoint says of it, where they are asked one by one (for the calibration cv_plus), or all
            together.
    """

    distribution: VolumeDistribution
    inside: sitk.Image
    quality: Quality
    members: tuple[MemberVolume, ...] = ()

    @property
    def name(self) -> str:
        """The structure's name."""
        return self.distribution.structure


def assess(
    name: str,
    inside: np.ndarray,
    probability: np.ndarray | None,
    labelled: np.ndarray,
    entropy: np.ndarray | None,
    grid: sitk.Image,
    card: dict,
    rule: dict | None = None,
) -> Assessed:
    """Distribution and quality of one structure; arrays [z, y, x] on `grid`.

    Args:
        name: of the structure.
        inside: P(p > ½), see `volume_distribution`.
        probability: mean over the samples; None: `inside` in its place.
        labelled: the contour that is shown, bool.
        entropy: predictive, nats, or None.
        grid: image of the contour.
        card: of the model.
        rule: the structure's (`structures.tidy`), or None.

    Returns:
        What is known of it; volumes in ml.
    """
    probability = inside if probability is None else probability
    membership, box, distribution = _distributed(name, inside, probability, labelled, grid.GetSpacing(), rule)
    quality = structure_quality.assess(
        name, probability[box], labelled[box], None if entropy is None else entropy[box], card, rule
    )
    raw = quality.expected_dice
    if quality.calibrated:
        raw = structure_quality.expected_dice(probability[box], labelled[box], rule)
    percent = geometry.like(volume_distribution.percent(membership), grid, np.uint8)
    return Assessed(distribution, percent, quality, (MemberVolume(distribution, raw, quality.surface_entropy),))


def member_volume(
    name: str,
    inside: np.ndarray,
    probability: np.ndarray,
    labelled: np.ndarray,
    entropy: np.ndarray,
    spacing,
    rule: dict | None = None,
) -> MemberVolume:
    """The same of one checkpoint, as far as a calibration of volumes asks; `spacing` (x, y, z; mm)."""
    _, box, distribution = _distributed(name, inside, probability, labelled, spacing, rule)
    return MemberVolume(
        distribution,
        structure_quality.expected_dice(probability[box], labelled[box], rule),
        structure_quality.surface_entropy(entropy[box], labelled[box]),
    )


def _distributed(name, inside, probability, labelled, spacing, rule):
    """(membership, the box in which there is any, distribution of the volume) of a structure."""
    membership = np.zeros(labelled.shape, np.float32)
    # an organ is a small part of a scan; a voxel around it shows where its surface is. What is no number is kept, to be
    # refused
    some = ~(inside < SURE) | (probability > structure_quality.LEAST) | labelled
    box = geometry.bounding_box(some, 1) if some.any() else (slice(0, 1),) * 3
    membership[box] = volume_distribution.restricted(inside[box], labelled[box], rule)
    distribution = volume_distribution.of_membership(name, membership, float(np.prod(spacing)) / 1000)
    return membership, box, distribution


def volume(found: Assessed, card: dict, level: float) -> Volume:
    """The structure's row of volumes.csv.

    Args:
        found: as of `assess`.
        card: of the model.
        level: of the interval, 0 to 1.

    Returns:
        An interval only where the card calibrates it for the level.
    """
    interval = volume_calibration.of_card(card).interval(found.distribution, level, members=found.members)
    return Volume(found.name, found.distribution.volume_ml, *interval.shown, level, interval.calibrated)

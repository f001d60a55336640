"""What a propagation is: images, contours of two paths, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import SimpleITK as sitk

from ..deformation.jacobian import JacobianStatistics
from ..uncertainty import flags, volume_assessment
from .agreement import Agreement

LEVEL = 0.9


@dataclass
class Contour:
    """A structure on the daily grid: masks (uint8) of each path, None where there is none, and what is known of them.

    `planning_ml`, and of each path its volume and interval in ml (`*_ml`: volume, lower, upper; bounds NaN without
    samples or calibration); sd_mm of each path: the sampled spread of its surface, mean over the surface.
    """

    name: str  # the clinic's, as in the planning structures
    organ: str  # what the model knows it as; empty where it does not
    planning_name: str
    color: tuple
    code: dict | None
    propagated: sitk.Image
    segmented: sitk.Image | None
    planning_ml: float
    propagated_ml: tuple
    segmented_ml: tuple | None
    propagated_sd_mm: float
    segmented_sd_mm: float
    agreement: Agreement
    default: str
    cut_off: float = 0.0  # the part of the planning structure that lies outside of the daily scan
    role: str = ""  # DICOM's RT ROI interpreted type, if the planning structures came with one
    assessed: volume_assessment.Assessed | None = None  # of the default path; None without samples

    @property
    def mask(self) -> sitk.Image:
        """That of the default path."""
        return self.segmented if self.default == "segmented" else self.propagated


@dataclass
class Propagation:
    """All that `propagate` found. Images on the grid of the daily CT; `field` (mm, daily to planning points) covers the
    daily CT on voxels of the working grid's size."""

    field: sitk.Image
    warped_planning: sitk.Image  # int16, HU
    jacobian: sitk.Image
    displacement_sd: sitk.Image | None  # mm
    entropy: sitk.Image | None  # nats, of the direct segmentation
    contours: list[Contour]
    flags: list[flags.Flag]
    similarity: dict
    folding: float
    jacobian_statistics: JacobianStatistics
    rigid: sitk.Transform
    card: dict
    options: dict
    names: dict
    device_used: str
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

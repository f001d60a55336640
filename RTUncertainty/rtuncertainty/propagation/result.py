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
    """A structure on the daily grid: masks of each path, and what is known of them.

    Attributes:
        name: shown.
        planning_name: in the planning structures.
        color: RGB, 0 to 255.
        code: its coded meaning, if any.
        propagated: uint8.
        segmented: uint8; None where the model does not segment it.
        planning_ml: volume of the planning structure.
        propagated_ml, segmented_ml: (volume, lower, upper) of each path; bounds NaN without samples or calibration.
        propagated_sd_mm, segmented_sd_mm: the sampled SD of each path's surface, mean over the surface.
        agreement: of the two paths.
        default: "propagated" or "segmented", the better path on validation pairs.
        cut_off: the part of the planning structure that lies outside of the daily scan.
        role: DICOM's RT ROI interpreted type, if the planning structures came with one.
        assessed: distribution and quality of the default path; None without samples.
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
    cut_off: float = 0.0
    role: str = ""
    assessed: volume_assessment.Assessed | None = None

    @property
    def mask(self) -> sitk.Image:
        """The mask of the default path (uint8)."""
        return self.segmented if self.default == "segmented" else self.propagated


@dataclass
class Propagation:
    """All that `propagate` found; images on the grid of the daily CT.

    Attributes:
        field: mm, daily to planning points; covers the daily CT on voxels of the working grid's size.
        warped_planning: the planning CT, int16, HU.
        jacobian: determinant; 0 or less is a fold.
        displacement_sd: mm; None without samples.
        entropy: nats, of the direct segmentation; None without one.
        contours: one for each planning structure.
        flags: what to look at first.
        similarity: correlation of the CTs "before", after "rigid" alignment and "after" the deformation.
        folding: share of voxels that fold, where both scans are known.
        jacobian_statistics: in the same voxels.
        rigid: the pre-alignment, daily to planning points.
        card: of the model.
        options: what the run was asked for.
        names: of the inputs.
        device_used: of torch.
        notes: for the user.
        seconds: by stage.
    """

    field: sitk.Image
    warped_planning: sitk.Image
    jacobian: sitk.Image
    displacement_sd: sitk.Image | None
    entropy: sitk.Image | None
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
    checks: dict[str, float] = field(default_factory=dict)  # see `uncertainty.checks`
    likeness: dict = field(default_factory=dict)  # of the daily CT, see `input_quality.likeness`

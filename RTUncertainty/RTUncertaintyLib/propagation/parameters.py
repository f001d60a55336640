"""The parameters of the RTPropagation module, kept in the scene."""

import enum

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import parameterNodeWrapper

from ..jobs.parameters import JobParameters
from ..widgets.text import _


class Refine(enum.Enum):
    """Refinement of the network's deformation on the scans themselves; the value is the backend's word."""

    OFF = "off"
    FAST = "fast"
    FULL = "full"

    def label(self) -> str:
        """The word in the panel."""
        return {"off": _("Off"), "fast": _("Fast"), "full": _("Full")}[self.value]


@parameterNodeWrapper
class PropagationParameters(JobParameters):
    """What `JobParameters` has, the two scans, the structures, and how they are brought together."""

    planningVolume: vtkMRMLScalarVolumeNode
    planningStructures: vtkMRMLSegmentationNode
    dailyVolume: vtkMRMLScalarVolumeNode
    rigid: bool = True
    refine: Refine = Refine.FAST
    # else it follows the model (`rtuncertainty.bundles.bundle.refinement`)
    refineChosen: bool = False

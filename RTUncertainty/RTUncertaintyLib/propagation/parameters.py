"""The parameters of the RTPropagation module, kept in the scene."""

import enum

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from typing import Annotated

from ..prediction.parameters import Device
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
class PropagationParameters:
    """`model` and the folders are paths; an empty text is none."""

    planningVolume: vtkMRMLScalarVolumeNode
    planningStructures: vtkMRMLSegmentationNode
    dailyVolume: vtkMRMLScalarVolumeNode
    model: str
    modelFolder: str
    outputFolder: str
    samples: Annotated[int, WithinRange(2, 200)] = 20
    seed: Annotated[int, WithinRange(0, 999999999)] = 0
    device: Device = Device.AUTO
    rigid: bool = True
    refine: Refine = Refine.FAST

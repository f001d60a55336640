"""The parameters of the RTPrediction module, kept in the scene."""

import enum
from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from ..jobs.parameters import JobParameters
from ..widgets.text import _


class BiasField(enum.Enum):
    """Bias field correction (N4); the value is the backend's word."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"

    def label(self) -> str:
        """The word in the panel."""
        return {"auto": _("Automatic"), "on": _("Always correct"), "off": _("Never correct")}[self.value]


@parameterNodeWrapper
class PredictionParameters(JobParameters):
    """What `JobParameters` has, the image, an optional reference CT, and what the preparation, the report and the
    samples that are kept shall be.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    referenceVolume: vtkMRMLScalarVolumeNode
    biasField: BiasField = BiasField.AUTO
    report: bool = True
    keepSamples: Annotated[int, WithinRange(0, 100)] = 0

"""The parameters of the RTPrediction module, kept in the scene."""

import enum

from slicer import vtkMRMLScalarVolumeNode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from typing import Annotated

from ..widgets.text import _


class Device(enum.Enum):
    """Where the network runs; the value is the backend's word."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"

    def label(self) -> str:
        """The word in the panel."""
        return {"auto": _("Automatic"), "cpu": _("CPU"), "cuda": _("GPU (CUDA)")}[self.value]


class BiasField(enum.Enum):
    """Bias field correction (N4); the value is the backend's word."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"

    def label(self) -> str:
        """The word in the panel."""
        return {"auto": _("Automatic"), "on": _("Always correct"), "off": _("Never correct")}[self.value]


@parameterNodeWrapper
class PredictionParameters:
    """`model` and the folders are paths; an empty text is none."""

    inputVolume: vtkMRMLScalarVolumeNode
    referenceVolume: vtkMRMLScalarVolumeNode
    model: str
    modelFolder: str
    outputFolder: str
    samples: Annotated[int, WithinRange(2, 200)] = 20
    seed: Annotated[int, WithinRange(0, 999999999)] = 0
    device: Device = Device.AUTO
    biasField: BiasField = BiasField.AUTO
    report: bool = True

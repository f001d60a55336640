"""What the parameter nodes of all jobs hold."""

import enum
from typing import Annotated

from slicer.parameterNodeWrapper import WithinRange

from ..widgets.text import _


class Device(enum.Enum):
    """Where the network runs; the value is the backend's word."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"

    def label(self) -> str:
        """The word in the panel."""
        return {"auto": _("Automatic"), "cpu": _("CPU"), "cuda": _("GPU (CUDA)")}[self.value]


class JobParameters:
    """Model, samples, seed, device, folders and the site's calibration; `model`, `site` and the folders are paths, an
    empty text is none.

    A base class and no `@parameterPack`: the names of a pack's members would change ("job.device"), and with them those
    that scenes of older versions hold. The wrapper of a derived class takes over annotations and defaults of its base.
    """

    model: str
    modelFolder: str
    outputFolder: str
    site: str
    samples: Annotated[int, WithinRange(2, 200)] = 20
    seed: Annotated[int, WithinRange(0, 999999999)] = 0
    device: Device = Device.AUTO

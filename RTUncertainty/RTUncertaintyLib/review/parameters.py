"""The parameters of the RTReview module, kept in the scene."""

import enum
from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


class Level(enum.Enum):
    """Nominal level of the intervals."""

    P50 = 0.5
    P68 = 0.68
    P80 = 0.8
    P90 = 0.9
    P95 = 0.95

    def label(self) -> str:
        """The word in the panel."""
        return f"{self.value:.0%}".replace("%", " %")


@parameterNodeWrapper
class ReviewParameters:
    """`run` is the identifier of the run on show, `structure` the name of the one that is chosen; an empty text is
    none. `prescription` is in Gy, 0 for none; `dvhDoses` are those (Gy) at which the table tells volumes."""

    run: str
    structure: str
    level: Level = Level.P90
    nested: bool = True
    reviewer: str
    dose: vtkMRMLScalarVolumeNode
    prescription: Annotated[float, WithinRange(0, 200)] = 0.0
    dvhDoses: str = "20, 40"
    ownSegmentation: vtkMRMLSegmentationNode
    ownImage: vtkMRMLScalarVolumeNode

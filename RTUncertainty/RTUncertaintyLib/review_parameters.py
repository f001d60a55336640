"""The parameters of the RTReview module, kept in the scene."""

import enum

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import parameterNodeWrapper


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
    """`run` is the identifier of the run on show, `structure` the name of the one that is chosen; an empty text is none."""

    run: str
    structure: str
    level: Level = Level.P90
    nested: bool = True
    reviewer: str
    ownSegmentation: vtkMRMLSegmentationNode
    ownImage: vtkMRMLScalarVolumeNode

"""Does a volume fit a model's card? Asked before a run, so that nobody waits for a result that means nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rtuncertainty.bundles import compatibility
from rtuncertainty.bundles.compatibility import Scan
from rtuncertainty.core import image_io
from rtuncertainty.core.errors import InputError
from rtuncertainty.core.geometry import in_patient_axes

from ..mrml.volume_export import UnusableVolume, dicom_modality, ijk_to_world, volume_array
from ..widgets.text import _

FEW_SLICES = 5


@dataclass
class InputCheck:
    """What stands in the way of a run (`errors`) and what makes its result doubtful (`warnings`)."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def message(self) -> str:
        """One message: the first error, or all warnings, or nothing."""
        return self.errors[0] if self.errors else " ".join(self.warnings)


def check_input(node, card: dict) -> InputCheck:
    """Compare a scalar volume node with the card of a model, as the backend will; see
    `rtuncertainty.bundles.compatibility`.
    """
    try:
        array, matrix = volume_array(node), ijk_to_world(node)
        name, size, lengths = node.GetName(), array.shape[::-1], np.linalg.norm(matrix[:3, :3], axis=0)
        image_io.require_slices(size, name)
        image_io.require_extent(lengths, size, name)
        array = image_io.without_border_nan(array) if card["input"].get("modality") != "CT" else array
        image_io.require_values(array, name)
        scan = Scan(array, *in_patient_axes(matrix[:3, :3] / lengths, lengths, size), dicom_modality(node))
        compatibility.require(card, scan, name)
    except (UnusableVolume, InputError) as error:
        return InputCheck(errors=[str(error)])
    check = InputCheck(warnings=[f"{name}: {words}" for words in compatibility.warnings(card, scan)])
    if min(size) < FEW_SLICES:
        check.warnings.append(_("{name} has only {count} slices.").format(name=name, count=min(size)))
    _check_sequence(check, name, node)
    return check


def node_state(node) -> tuple:
    """What changes when a volume or segmentation node is edited, renamed or moved; cheap to ask for."""
    if node is None:
        return (None,)
    content = node.GetSegmentation() if node.IsA("vtkMRMLSegmentationNode") else node.GetImageData()
    transform = node.GetParentTransformNode()
    return (
        node.GetID(),
        node.GetName(),
        content.GetMTime() if content else 0,
        node.GetMTime(),
        transform.GetMTime() if transform else 0,
    )


def _check_sequence(check, name, node) -> None:
    """A volume that follows a sequence browser holds one frame, and another one as soon as the browser moves."""
    scene = node.GetScene()
    browsers = scene.GetNodesByClass("vtkMRMLSequenceBrowserNode") if scene is not None else None
    for index in range(browsers.GetNumberOfItems() if browsers is not None else 0):
        browser = browsers.GetItemAsObject(index)
        if browser.IsProxyNodeID(node.GetID()):
            check.warnings.append(
                _(
                    "{name} follows the sequence {browser}: the model runs on the frame that is shown now ({frame} of "
                    "{count})."
                ).format(
                    name=name,
                    browser=browser.GetName(),
                    frame=browser.GetSelectedItemNumber() + 1,
                    count=browser.GetNumberOfItems(),
                )
            )
            return

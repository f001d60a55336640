"""Does a volume fit a model's card? Asked before a run, so that nobody waits for a result that means nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..widgets.text import _
from ..mrml.volume_export import UnusableVolume, dicom_modality, ijk_to_world, volume_array

FEW_SLICES = 5
LARGEST_SAMPLE = 2_000_000
"""Voxels looked at for a statistic; larger volumes are thinned."""


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
    """Compare a scalar volume node with the card of a model (dict, see `rtuncertainty.bundles.bundle.read_card`)."""
    try:
        array, matrix = volume_array(node), ijk_to_world(node)
    except UnusableVolume as error:
        return InputCheck(errors=[str(error)])
    check, name, wanted = InputCheck(), node.GetName(), card["input"]
    spacing, size = in_patient_axes(matrix, array.shape[::-1])
    _check_size(check, name, size, wanted)
    if check.errors:
        return check
    _check_values(check, name, array)
    if check.errors:
        return check
    _check_modality(check, name, node, array, wanted)
    _check_sequence(check, name, node)
    _check_geometry(check, name, spacing, size, wanted)
    return check


def node_state(node) -> tuple:
    """What changes when a volume or segmentation node is edited, renamed or moved; cheap to ask for."""
    if node is None:
        return (None,)
    content = node.GetSegmentation() if node.IsA("vtkMRMLSegmentationNode") else node.GetImageData()
    transform = node.GetParentTransformNode()
    return (node.GetID(), node.GetName(), content.GetMTime() if content else 0, node.GetMTime(),
            transform.GetMTime() if transform else 0)


def _check_size(check, name, size, wanted) -> None:
    least = wanted.get("minimum_size") or [1, 1, 1]
    if sum(n > 1 for n in size) < 3:
        check.errors.append(_("{name} is a single slice or less ({size} voxels): choose a volume of several slices.")
                            .format(name=name, size=_triple(size, 0)))
    elif any(n < m for n, m in zip(size, least)):
        check.errors.append(
            _("{name} has {size} voxels (left-right, front-back, head-foot); the model needs at least {least}.").format(
                name=name, size=_triple(size, 0), least=_triple(least, 0)))
    elif min(size) < FEW_SLICES:
        check.warnings.append(_("{name} has only {count} slices.").format(name=name, count=min(size)))


def _check_values(check, name, array) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array.sum(dtype=np.float64)):
        bad = int(array.size - np.count_nonzero(np.isfinite(array)))
        if bad:
            check.errors.append(
                _("{name} has {count} voxels that are not numbers (NaN or infinite): replace them first.").format(
                    name=name, count=bad))
            return
    if array.min() == array.max():
        check.errors.append(_("{name} is empty: all voxels have the value {value:g}.").format(
            name=name, value=float(array.flat[0])))


def _check_modality(check, name, node, array, wanted) -> None:
    asked = str(wanted.get("modality", "")).upper()
    tag = dicom_modality(node)
    if asked == "MR" and (tag == "CT" or not tag and looks_like_ct(array)):
        why = _("by its DICOM tag") if tag else _("with air at −1000 HU")
        check.errors.append(_("{name} is a CT ({why}); the model was trained on MR: choose the MR.").format(
            name=name, why=why))
    elif asked == "CT" and (tag not in ("", "CT") or not tag and not looks_like_ct(array)):
        why = _("it is a {tag} by its DICOM tag").format(tag=tag) if tag else _("there is no air near −1000 HU")
        check.errors.append(_("{name} is no CT ({why}); the model was trained on CT: choose a CT in HU.").format(name=name, why=why))
    elif tag and asked and tag != asked:
        check.warnings.append(_("{name} is a {tag} by its DICOM tag; the model was trained on {asked}.").format(
            name=name, tag=tag, asked=asked))


def _check_sequence(check, name, node) -> None:
    """A volume that follows a sequence browser holds one frame, and another one as soon as the browser moves."""
    scene = node.GetScene()
    browsers = scene.GetNodesByClass("vtkMRMLSequenceBrowserNode") if scene is not None else None
    for index in range(browsers.GetNumberOfItems() if browsers is not None else 0):
        browser = browsers.GetItemAsObject(index)
        if browser.IsProxyNodeID(node.GetID()):
            check.warnings.append(
                _("{name} follows the sequence {browser}: the model runs on the frame that is shown now ({frame} of {count}).").format(
                    name=name, browser=browser.GetName(), frame=browser.GetSelectedItemNumber() + 1, count=browser.GetNumberOfItems()))
            return


def _check_geometry(check, name, spacing, size, wanted) -> None:
    if wanted.get("spacing_range_mm"):
        low, high = np.array(wanted["spacing_range_mm"], float)
        if np.any(spacing < low * 0.99) or np.any(spacing > high * 1.01):
            check.warnings.append(
                _("Voxels of {name} measure {spacing} mm (left-right, front-back, head-foot); the model knows {low} "
                  "to {high} mm.").format(name=name, spacing=_triple(spacing), low=_triple(low), high=_triple(high)))
    if wanted.get("field_of_view_mm"):
        low, high = np.array(wanted["field_of_view_mm"], float)
        extent = spacing * size
        if np.any(extent < low * 0.99) or np.any(extent > high * 1.01):
            check.warnings.append(
                _("{name} covers {extent} mm; the model knows {low} to {high} mm.").format(
                    name=name, extent=_triple(extent, 0), low=_triple(low, 0), high=_triple(high, 0)))


def _triple(values, digits: int = 1) -> str:
    return " × ".join(f"{v:.{digits}f}" for v in values)


def in_patient_axes(matrix: np.ndarray, size) -> tuple[np.ndarray, np.ndarray]:
    """Spacing (mm) and number of voxels along left-right, front-back and head-foot, by the nearest image axis.

    `matrix` is 4 × 4, voxel indices to RAS; `size` is (i, j, k).
    """
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    cosines = np.abs(matrix[:3, :3] / spacing)
    order = [0, 0, 0]
    for _pass in range(3):
        world, image = np.unravel_index(np.argmax(cosines), (3, 3))
        order[world] = int(image)
        cosines[world, :], cosines[:, image] = -1, -1
    return spacing[order], np.array(size)[order]


def looks_like_ct(array: np.ndarray) -> bool:
    """Whether values lie as those of a CT in HU do: below −500, and 2 % of them near −1000 (as in the backend)."""
    step = max(1, int(np.ceil((array.size / LARGEST_SAMPLE) ** (1 / 3))))
    sample = array[::step, ::step, ::step].astype(np.float32)
    return bool(sample.min() < -500 and (np.abs(sample + 1000) < 200).mean() > 0.02)

"""CT and synthetic CT of one patient on one grid, and what of each is computed with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from rtuncertainty.core import geometry, image_io
from rtuncertainty.core.ct import body_mask
from rtuncertainty.core.errors import InputError
from rtuncertainty.uncertainty import metrics

AIR, WATER = -1000.0, 0.0


@dataclass
class Patient:
    """CT and synthetic CT of a patient; arrays [z, y, x] on one grid.

    Outside of `body` both images are air. Inside, where one of the two was not measured, both are water. So what is
    compared differs only where both say something, and where the MR's field of view cuts the body off, both doses lack
    what lies beyond.

    Attributes:
        grid: its axes run along LPS.
        ct: float32, HU.
        body: bool.
        measured: bool; False beyond the CT's field of view.
        synct: float32, HU, or None.
        sd: float32, HU, predictive SD, or None.
    """

    grid: sitk.Image
    ct: np.ndarray
    body: np.ndarray
    measured: np.ndarray
    synct: np.ndarray | None = None
    sd: np.ndarray | None = None

    def ready(self, hu: np.ndarray) -> np.ndarray:
        """`hu` as beams are to see it."""
        return np.where(self.body, np.where(self.measured, hu, WATER), AIR).astype(np.float32)


def of_images(
    ct: sitk.Image,
    synct: sitk.Image | None = None,
    sd: sitk.Image | None = None,
    body: sitk.Image | None = None,
    ct_name: str = "the CT",
    synct_name: str = "the synthetic CT",
) -> Patient:
    """A patient from images in one frame of reference; the grid is the synthetic CT's (else the CT's), turned to LPS
    axes.

    Args:
        ct: HU.
        synct: HU.
        sd: of the synthetic CT, HU.
        body: of the MR that the synthetic CT was made from; None: where the CT shows the patient.
        ct_name: what messages call the CT.
        synct_name: what messages call the synthetic CT.

    Returns:
        The patient.

    Raises:
        InputError: images that do not overlap or show no patient, or a CT that is not in HU.
    """
    if not image_io.looks_like_ct(ct):
        raise InputError(
            f"{ct_name} does not look like a CT in HU (no air near -1000 HU); give the CT that the plan is made on."
        )
    if synct is not None:
        geometry.require_overlap(ct, synct, ct_name, synct_name)
    grid = axial(synct if synct is not None else ct)
    there, measured = metrics.reference_on(ct, grid, ct_name)
    ct_array = sitk.GetArrayFromImage(there)
    if body is None:
        inside = (
            sitk.GetArrayViewFromImage(body_mask(geometry.like(np.where(measured, ct_array, AIR), grid), ct_name)) > 0
        )
    else:
        inside = sitk.GetArrayViewFromImage(geometry.resample(body, grid, "nearest")) > 0
    if not (inside & measured).any():
        raise InputError(
            f"{ct_name} covers nothing of the patient in {synct_name}; give images of the same patient in the same "
            "frame."
        )

    def array(image, outside):
        return (
            None
            if image is None
            else sitk.GetArrayFromImage(geometry.resample(image, grid, "linear", outside)).astype(np.float32)
        )

    return Patient(grid, ct_array, inside, measured, array(synct, AIR), array(sd, 0.0))


def axial(image: sitk.Image) -> sitk.Image:
    """An image's voxels, axes turned to LPS.

    Args:
        image: 3-D.

    Returns:
        The image; of an oblique one an empty grid of its spacing around its field of view.
    """
    turned = geometry.to_axial(image)
    if np.allclose(turned.GetDirection(), np.eye(3).ravel(), atol=1e-4):
        return turned
    size = np.array(turned.GetSize())
    corners = [[(n - 0.5) if b else -0.5 for n, b in zip(size, bits)] for bits in np.ndindex(2, 2, 2)]
    points = np.array([turned.TransformContinuousIndexToPhysicalPoint(c) for c in corners])
    spacing = np.array(turned.GetSpacing())
    grid = sitk.Image([int(n) for n in np.ceil(np.ptp(points, 0) / spacing)], sitk.sitkUInt8)
    grid.SetSpacing([float(s) for s in spacing])
    grid.SetOrigin([float(v) for v in points.min(0) + spacing / 2])
    return grid

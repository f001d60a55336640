"""A limb of water with a target, as images and as a patient, for the tests of plans."""

import numpy as np
import SimpleITK as sitk

from rtuncertainty.core import geometry
from rtuncertainty.dose.plan.patient import Patient
from rtuncertainty.dose.structure_region import MaskRegion

CENTRE = (10.0, -20.0, 30.0)


def limb(radius=60.0, bone=None, slices=24, target_radius=18.0, target_at=(0.0, 0.0, 0.0), edge=3.0):
    """(CT in HU, labels of the target) of a cylinder of 24 HU (relative electron density 1.02) along z around `CENTRE`,
    axes along LPS.

    bone: HU of a rod of 12 mm radius, 30 mm to the patient's left of the axis.
    """
    half = int(np.ceil((radius + 12) / edge))
    grid = sitk.Image([2 * half + 1, 2 * half + 1, slices], sitk.sitkInt16)
    grid.SetSpacing([edge] * 3)
    grid.SetOrigin([CENTRE[0] - half * edge, CENTRE[1] - half * edge, CENTRE[2] - (slices - 1) / 2 * edge])
    z, y, x = np.meshgrid(
        *[(np.arange(n) - (n - 1) / 2) * edge for n in (slices, 2 * half + 1, 2 * half + 1)], indexing="ij"
    )
    hu = np.where(x * x + y * y <= radius**2, 24.0, -1000.0)
    if bone is not None:
        hu[(x - 30) ** 2 + y**2 <= 12**2] = bone
    inside = (x - target_at[0]) ** 2 + (y - target_at[1]) ** 2 + (z - target_at[2]) ** 2 <= target_radius**2
    return geometry.like(hu, grid, np.int16), geometry.like(inside, grid, np.uint8)


def patient(**options):
    """(patient, region of its target); the body is the cylinder."""
    ct, target = limb(**options)
    hu = sitk.GetArrayFromImage(ct).astype(np.float32)
    return Patient(ct, hu, hu > -500, np.ones(hu.shape, bool)), MaskRegion(target)

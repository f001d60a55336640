"""The grid a dose is computed on, and how images come onto it."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch

from rtuncertainty.core import geometry
from rtuncertainty.core.errors import InputError
from rtuncertainty.dose.structure_region import overlap

# air between patient and the grid's edge, which every beam enters through; and how far a field's scatter reaches along
# the patient, mm
AIR_MM, SCATTER_MM = 15.0, 40.0
MOST_VOXELS = 12_000_000


class DoseGrid:
    """Voxels of one edge length along the patient's axes (LPS), with the isocentre in the middle of one.

    In the axial plane it is a square around the isocentre that holds the body at every gantry angle. Along the patient
    it reaches beyond the target; where the images end before that, their last slice goes on, because a patient does.
    Doses are given for what the images show: `inside` are those slices.

    Args:
        source: any image with the geometry of the images that will come, axes along LPS (see `patient.axial`).
        body: bool [z, y, x] on `source`.
        isocentre: LPS, mm.
        target: corners [n, 3] of the target's box, LPS, mm.
        spacing: edge of a voxel, mm.
        reach_mm: beyond the target.
    """

    def __init__(
        self, source: sitk.Image, body: np.ndarray, isocentre, target, spacing: float, reach_mm: float = SCATTER_MM
    ):
        self.spacing, self.isocentre = float(spacing), np.asarray(isocentre, float)
        origin, edges = np.array(source.GetOrigin()), np.array(source.GetSpacing())
        found = [np.flatnonzero(body.any(axes)) for axes in ((0, 1), (0, 2), (1, 2))]
        if any(len(f) == 0 for f in found):
            raise InputError("there is no body in the images; a dose needs a patient.")
        low = origin + edges * ([f[0] - 0.5 for f in found])
        high = origin + edges * ([f[-1] + 0.5 for f in found])
        if np.any(self.isocentre < low) or np.any(self.isocentre > high):
            raise InputError(
                f"the isocentre ({', '.join(f'{v:.1f}' for v in self.isocentre)} mm LPS) lies outside of the patient; "
                'give another, or "target" for the middle of the target.'
            )
        corners = np.array([[x, y] for x in (low[0], high[0]) for y in (low[1], high[1])])
        radius = np.linalg.norm(corners - self.isocentre[:2], axis=1).max() + AIR_MM
        half = int(np.ceil(radius / spacing))
        target = np.asarray(target, float)
        down = int(np.ceil((self.isocentre[2] - target[:, 2].min() + reach_mm) / spacing))
        up = int(np.ceil((target[:, 2].max() + reach_mm - self.isocentre[2]) / spacing))
        size = (2 * half + 1, 2 * half + 1, down + up + 1)
        if np.prod(size, dtype=np.int64) > MOST_VOXELS:
            raise InputError(
                f"the dose grid would have {np.prod(size, dtype=np.int64) / 1e6:.0f} million voxels; give a larger "
                "grid_mm in the plan."
            )
        first = self.isocentre - self.spacing * np.array([half, half, down])
        self.image = sitk.Image([int(n) for n in size], sitk.sitkUInt8)
        self.image.SetSpacing([self.spacing] * 3)
        self.image.SetOrigin([float(v) for v in first])
        self.shape = size[::-1]
        # pydosert's order, from the middle of the first voxel
        self.isocentre_mm = tuple(self.spacing * n for n in (down, half, half))
        self._source = tuple(source.GetSize()[::-1])
        self._weights = [
            self._along(axis, origin[axis], edges[axis], source.GetSize()[axis], first[axis], size[axis])
            for axis in (2, 1, 0)
        ]
        heights = first[2] + self.spacing * np.arange(size[2])
        shown = np.flatnonzero((heights > low[2] - spacing / 2) & (heights < high[2] + spacing / 2))
        self.inside = slice(int(shown[0]), int(shown[-1]) + 1)

    def _along(self, axis, origin, edge, count, first, cells) -> torch.Tensor:
        """[cells, count]: how much each source voxel fills of each cell; outside of the source along z its last
        slice, else nothing.
        """
        at = (origin - first + edge * (np.arange(count + 1) - 0.5)) / self.spacing
        weights = overlap(at[:-1], at[1:], cells)
        if axis == 2:
            filled = weights.sum(1)
            covered = filled > 1e-6
            weights[covered] /= filled[covered, None]
            middles = first + self.spacing * np.arange(cells)
            weights[~covered & (middles < origin), 0] = 1
            weights[~covered & (middles >= origin), -1] = 1
        return torch.from_numpy(weights.astype(np.float32))

    def averaged(self, values, outside: float = 0.0) -> torch.Tensor:
        """Means over the grid's voxels.

        Args:
            values: [z, y, x] on the source.
            outside: value beyond the source in the axial plane.

        Returns:
            float32 [z, y, x].

        Raises:
            ValueError: values of another shape than the source's.
        """
        values = torch.as_tensor(np.asarray(values, np.float32)) - outside
        if tuple(values.shape) != self._source:
            raise ValueError(f"values have the shape {tuple(values.shape)}, the images {self._source}")
        for axis, weights in enumerate(self._weights):
            values = torch.movedim(torch.tensordot(weights, values, ([1], [axis])), 0, axis)
        return values.contiguous() + outside

    def dose_image(self, dose: torch.Tensor) -> sitk.Image:
        """A dose as an image, of the slices that the images show.

        Args:
            dose: Gy [z, y, x] of the grid.

        Returns:
            Gy.
        """
        return geometry.like(dose[self.inside].cpu().numpy(), self.image[:, :, self.inside])

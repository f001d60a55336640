"""Smooth velocity fields and the diffeomorphisms that are their flows.

Velocities are made as arrays [z, y, x, 3] of (x, y, z) in mm on the patient's axes (LPS). Flows are computed on tensors
[1, 3, z, y, x] in voxels along the lattice's axes, as in `rtuncertainty.deformation`.

Source: a stationary velocity field's flow by scaling and squaring, Arsigny et al., "A Log-Euclidean framework for
statistics on diffeomorphisms", MICCAI 2006; its inverse is the flow of the negative velocity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from ...deformation.compose import compose_tensor
from ...deformation.field import axes
from ...deformation.warp import sample_tensor

STEP = 0.2  # voxels that the first, unsquared step may move a point: error and folding fall with it
SQUARINGS = (4, 9)
STEPS = 8  # of the fourth-order Runge-Kutta method, where single points are followed


@dataclass(frozen=True)
class Lattice:
    """Where voxels lie.

    Attributes:
        shape: (z, y, x).
        first: LPS of voxel 0, mm.
        matrix: [3, 3], a column is one voxel's step along x, y, z.
    """

    shape: tuple
    first: np.ndarray
    matrix: np.ndarray

    @classmethod
    def of(cls, image: sitk.Image) -> Lattice:
        """The voxels of an image."""
        matrix, first = axes(image)
        return cls(image.GetSize()[::-1], first, matrix)

    def around(self, pad, stride) -> Lattice:
        """Blocks that cover this lattice and some voxels on either side of it.

        Args:
            pad: voxels (x, y, z), at least.
            stride: voxels (x, y, z) of a block.

        Returns:
            A coarser lattice.
        """
        shape = [-(-(n + 2 * p) // s) for n, p, s in zip(self.shape[::-1], pad, stride)]
        first = self.first + self.matrix @ ((np.array(stride) - 1) / 2 - np.array(pad))
        return Lattice(tuple(shape[::-1]), first, self.matrix * np.array(stride))

    @property
    def spacing(self) -> np.ndarray:
        """Voxel edges (x, y, z) in mm."""
        return np.linalg.norm(self.matrix, axis=0)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml."""
        return float(abs(np.linalg.det(self.matrix))) / 1000

    def points(self) -> np.ndarray:
        """LPS of every voxel's centre, float32 [z, y, x, 3]."""
        z, y, x = (np.arange(n, dtype=np.float64) for n in self.shape)
        columns = self.matrix.T
        made = (
            (x[:, None] * columns[0])[None, None]
            + (y[:, None] * columns[1])[None, :, None]
            + (z[:, None] * columns[2])[:, None, None]
        )
        return (made + self.first).astype(np.float32)

    def index(self, points: np.ndarray) -> np.ndarray:
        """Continuous voxel numbers (x, y, z) of LPS points [..., 3], float32."""
        back = np.linalg.inv(self.matrix)
        return points @ back.T.astype(np.float32) - (back @ self.first).astype(np.float32)

    def inside(self, points: np.ndarray) -> np.ndarray:
        """Whether points lie between the centres of the outermost voxels."""
        last = np.array(self.shape[::-1], np.float32) - 1
        found = self.index(points)
        return ((found >= 0) & (found <= last)).all(-1)

    def voxels(self, array: np.ndarray) -> torch.Tensor:
        """Vectors [z, y, x, 3] in mm as a tensor [1, 3, z, y, x] in voxels."""
        made = array @ np.linalg.inv(self.matrix).T.astype(np.float32)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(made, -1, 0)))[None]

    def millimetres(self, tensor: torch.Tensor) -> np.ndarray:
        """A tensor [1, 3, ...] of vectors in voxels as an array [..., 3] in mm."""
        return np.moveaxis(tensor[0].numpy(), 0, -1) @ self.matrix.T.astype(np.float32)

    def at(self, tensor: torch.Tensor, points: np.ndarray) -> np.ndarray:
        """Vectors at points; beyond the lattice its border's.

        Args:
            tensor: [1, 3, z, y, x], voxels of this lattice.
            points: LPS [..., 3], mm.

        Returns:
            [..., 3], mm.
        """
        index = torch.from_numpy(np.ascontiguousarray(self.index(points).reshape(-1, 3).T))
        return self.millimetres(sample_tensor(tensor, index.reshape(1, 3, 1, 1, -1))).reshape(points.shape)

    def image(self, array: np.ndarray) -> sitk.Image:
        """An array on this lattice as an image.

        Args:
            array: [z, y, x], or vectors [z, y, x, 3] in mm.

        Returns:
            A scalar image, or a displacement field.
        """
        vectors = array.ndim == 4
        made = sitk.GetImageFromArray(
            np.ascontiguousarray(array, np.float64 if vectors else array.dtype), isVector=vectors
        )
        made.SetSpacing([float(s) for s in self.spacing])
        made.SetDirection([float(v) for v in (self.matrix / self.spacing).ravel()])
        made.SetOrigin([float(v) for v in self.first])
        return made


def flow(velocity: torch.Tensor) -> torch.Tensor:
    """The displacement after one unit of time in a stationary velocity: exp(v) - id, by scaling and squaring (Arsigny
    2006).

    Args:
        velocity: [1, 3, z, y, x], voxels.

    Returns:
        The same shape and unit.
    """
    peak = float(velocity.abs().max())
    if peak == 0:
        return torch.zeros_like(velocity)
    squarings = int(np.clip(np.ceil(np.log2(peak / STEP)), *SQUARINGS))
    u = velocity / 2**squarings
    for _ in range(squarings):
        u = compose_tensor(u, u)
    return u


def follow(velocity: torch.Tensor, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where single points flow to, without the whole flow.

    The determinant's logarithm is the divergence of the velocity summed up along a point's path (Liouville's formula).

    Args:
        velocity: [1, 3, z, y, x], voxels.
        start: points [n, 3] (voxels; x, y, z).

    Returns:
        (points [n, 3], det J of the flow there [n]).
    """
    # no point leaves the box that the largest velocity reaches; at the box's faces one more voxel serves the divergence
    margin = float(velocity.abs().max()) + 2
    last = torch.tensor(velocity.shape[:1:-1]) - 1
    low = (start.min(0).values - margin).floor().long().clamp(min=0).minimum(last - 1)
    high = (start.max(0).values + margin).ceil().long().minimum(last).maximum(low + 1)
    part = velocity[:, :, low[2] : high[2] + 1, low[1] : high[1] + 1, low[0] : high[0] + 1]
    divergence = sum(torch.gradient(part[:, c], dim=3 - c)[0] for c in range(3))
    channels = torch.cat([part, divergence[:, None]], 1)

    def rate(place):
        return sample_tensor(channels, place.T.reshape(1, 3, 1, 1, -1))[0, :, 0, 0].T

    place, growth = start - low, torch.zeros(len(start))
    for _ in range(STEPS):
        k1 = rate(place)
        k2 = rate(place + k1[:, :3] / (2 * STEPS))
        k3 = rate(place + k2[:, :3] / (2 * STEPS))
        k4 = rate(place + k3[:, :3] / STEPS)
        mean = (k1 + 2 * k2 + 2 * k3 + k4) / (6 * STEPS)
        place, growth = place + mean[:, :3], growth + mean[:, 3]
    return place + low, growth.exp()

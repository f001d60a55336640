"""Single samples of a prediction as whole images: what might as well be true, beside the mean and its maps.

Synthetic CT of a sample = mean + parameter part + intrinsic part, in HU:

- parameter: what the network says with this sample's mask (`sampling.whole`) less its mean, scaled as the card
  recalibrates the parameter variance;
- intrinsic: a field of `uncertainty.fields` of variance 1, which goes together over space as errors were measured to,
  times the recalibrated intrinsic SD;
- where the body ends, and beyond a cut of the field of view (`uncertainty.edge`): a smooth field tells where tissue is
  air and air is tissue, each with its probability.

In every voxel the mean square of what they differ by from the synthetic CT is the predictive variance of the maps, but
for the clipping of HU and where the network is far from the 1000 HU between tissue and air. Structures of a sample are
the likeliest classes with its mask, with the card's rules applied: their spread is that of the parameters alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import special

from ..core import geometry
from ..core.structure_set import of_labels
from ..core.structures import tidy_labels, unions
from ..uncertainty import edge
from ..uncertainty.fields import smooth_field

RANGE = (-1024.0, 3071.0)
# over which the body's edge goes together
BOUNDARY_MM = 10.0


@dataclass
class Hounsfield:
    """What a sample's synthetic CT is made of, arrays [z, y, x] on the input's grid: `mean` as the network has it and
    `parameter`, what its samples' deviations are multiplied by; `sd`, intrinsic, without the edge; `q`, see `edge`;
    `scale` and `offset` of the card.
    """

    mean: np.ndarray
    parameter: np.ndarray
    sd: np.ndarray
    q: np.ndarray
    scale: float
    offset: float
    air: float


@dataclass
class KeptSamples:
    """The samples of a prediction, made one at a time from what the network drew, which lies on disk.

    `drawn` [n, 1 + K, z, y, x], see `sampling.whole`; `on_input` brings a channel onto the voxels of `grid`; `inside`:
    the body there; `hounsfield` None where the model makes no synthetic CT.
    """

    drawn: np.memmap
    on_input: Callable[[np.ndarray], np.ndarray]
    grid: sitk.Image
    inside: np.ndarray
    structures: list[dict]
    seed: int
    hounsfield: Hounsfield | None = None

    def __len__(self) -> int:
        return len(self.drawn)

    def __iter__(self) -> Iterator[dict[str, sitk.Image]]:
        """Images of one sample after the other by their keys in a result: "sample_synct" (int16, HU) and
        "sample_structures" (uint8 labels, with the header of a .seg.nrrd).
        """
        for number, drawn in enumerate(self.drawn):
            found = {}
            if self.hounsfield is not None:
                synct = self._synct(self.hounsfield, drawn[0], number)
                found["sample_synct"] = geometry.like(synct, self.grid, np.int16)
            if self.structures and len(drawn) > 1:
                labels = geometry.like(self._labels(drawn[1:]), self.grid, np.uint8)
                found["sample_structures"] = of_labels(labels, self.structures)
            yield found

    def _synct(self, h: Hounsfield, drawn: np.ndarray, number: int) -> np.ndarray:
        generator = np.random.default_rng([self.seed, number])
        values = self.on_input(drawn) * h.scale + h.offset
        values = h.mean + h.parameter * (values - h.mean)
        values += h.sd * smooth_field(values.shape, self.grid.GetSpacing(), None, generator)
        values = np.where(self.inside, values, h.air)
        if (h.q > 0).any():
            place = smooth_field(values.shape, self.grid.GetSpacing(), BOUNDARY_MM, generator)
            share = special.ndtr(place)
            values = np.where(self.inside & (share < h.q), h.air, values)
            values = np.where(~self.inside & (1 - share < h.q), h.air + edge.STEP_HU, values)
        return np.rint(values.clip(*RANGE))

    def _labels(self, probabilities: np.ndarray) -> np.ndarray:
        labels, likeliest, nested = np.zeros(self.inside.shape, np.uint8), None, unions(self.structures)
        if nested is not None:
            probabilities = np.tensordot(nested, probabilities, 1)
        for k, channel in enumerate(probabilities):
            p = self.on_input(channel)
            if likeliest is None:
                likeliest = p
            else:
                # parts come behind what holds them, and lie in it
                labels[p > (likeliest if nested is None else 0.5)] = self.structures[k - 1]["label"]
                likeliest = np.maximum(likeliest, p)
        labels[~self.inside] = 0
        return tidy_labels(labels, self.structures, float(np.prod(self.grid.GetSpacing())) / 1000)


def on_disk(shape: tuple[int, ...], folder=None) -> np.memmap:
    """Zeros (float32) in a file that nobody sees and that goes with them; in `folder`, or where temporary files go."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(int(np.prod(shape)) * 4)
        return np.memmap(file, np.float32, "r+", shape=shape)


def variances(probability: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The variance of a voxel's belonging to a structure in two parts (Kendall 2017; Kwon 2020).

    Args:
        probability: mean of p over the samples.
        variance: of p over the samples.

    Returns:
        (intrinsic, parameter): the mean over the samples of p (1 − p), and the variance of p. Together they are
        p̄ (1 − p̄), that of a coin which shows the mean.
    """
    parameter = np.minimum(np.maximum(variance, 0), probability * (1 - probability))
    return probability * (1 - probability) - parameter, parameter

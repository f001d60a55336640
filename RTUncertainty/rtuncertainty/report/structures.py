"""The structures that a report shows: contours as cropped volumes, and where each of them is least certain."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

NEAR_MM = 8.0
"""How far from its contour uncertainty still counts as the structure's own."""
SMOOTH_MM = 3.0


class Part:
    """A volume [z, y, x] that is zero outside of a box; indexed by one number and two slices (step 1) it gives a plane.

    Of many structures on a large image only this fits into memory.

    Args:
        shape: of the volume.
        box: slices (z, y, x).
        voxels: what is in the box.
    """

    def __init__(self, shape, box, voxels):
        self.shape, self.box, self.voxels = tuple(shape), tuple(box), voxels

    @classmethod
    def of(cls, volume: np.ndarray) -> Part:
        """The part of a volume that is not zero; a copy."""
        box = ndimage.find_objects(np.asarray(volume != 0, np.uint8))
        box = box[0] if box else tuple(slice(0, 0) for _ in volume.shape)
        return cls(volume.shape, box, volume[box].copy())

    def any(self) -> bool:
        """Whether it has a voxel that is not zero."""
        return bool(np.any(self.voxels))

    def __getitem__(self, where) -> np.ndarray:
        wanted = [
            slice(w, w + 1) if isinstance(w, (int, np.integer)) else slice(*w.indices(n)[:2])
            for w, n in zip(where, self.shape)
        ]
        out = np.zeros([max(0, w.stop - w.start) for w in wanted], self.voxels.dtype)
        common = [slice(max(w.start, b.start), min(w.stop, b.stop)) for w, b in zip(wanted, self.box)]
        if all(c.stop > c.start for c in common):
            out[tuple(slice(c.start - w.start, c.stop - w.start) for c, w in zip(common, wanted))] = self.voxels[
                tuple(slice(c.start - b.start, c.stop - b.start) for c, b in zip(common, self.box))
            ]
        return out.squeeze(tuple(i for i, w in enumerate(where) if not isinstance(w, slice)))

    def area(self) -> np.ndarray:
        """Voxels that are not zero, slice by slice along the first axis."""
        out = np.zeros(self.shape[0], int)
        out[self.box[0]] = np.count_nonzero(self.voxels, axis=(1, 2))
        return out


@dataclass
class Structure:
    """A structure of a report.

    Attributes:
        name: shown.
        color: RGB, 0 to 255.
        contours: a path (structure, propagated, segmented, planning, accepted) -> its voxels (bool).
        default: the path that stands for the structure.
        inside: percentile map, uint8, percent; None where it is not known.
        description: beside the name.
    """

    name: str
    color: tuple
    contours: dict[str, Part] = field(default_factory=dict)
    default: str = "structure"
    inside: Part | None = None
    description: str = ""

    @property
    def mask(self) -> Part | None:
        """The voxels of the default contour, None when the structure has none."""
        return self.contours.get(self.default) or next(iter(self.contours.values()), None)


def around(structure: Structure, spacing, margin_mm: float) -> tuple[slice, ...] | None:
    """The box around all contours of a structure, inside the volume.

    Args:
        structure: with its contours.
        spacing: (x, y, z), mm.
        margin_mm: around them.

    Returns:
        Slices (z, y, x); None when all are empty.
    """
    parts = [p for p in (*structure.contours.values(), structure.inside) if p is not None and p.any()]
    if not parts:
        return None
    steps = [float(s) for s in reversed(spacing)]
    box = []
    for axis, (count, step) in enumerate(zip(parts[0].shape, steps)):
        reach = int(np.ceil(margin_mm / step))
        low, high = min(p.box[axis].start for p in parts), max(p.box[axis].stop for p in parts)
        box.append(slice(max(0, low - reach), min(count, high + reach)))
    return tuple(box)


def least_certain(
    structure: Structure, spacing, uncertainty: np.ndarray | None = None
) -> tuple[tuple[int, int, int], str] | None:
    """Where a structure is least certain.

    In this order: where the propagated and the segmented contour differ; where the distribution is divided about the
    voxel (`inside` near 50 %); where `uncertainty` is highest within `NEAR_MM` of the contour. Each is smoothed over
    `SMOOTH_MM`, so that a place is found and not a voxel. Else the middle of the structure.

    Args:
        structure: with its contours.
        spacing: (x, y, z), mm.
        uncertainty: a map on the same voxels, or None.

    Returns:
        (voxel (z, y, x), what was looked at); None for a structure without a voxel.
    """
    box = around(structure, spacing, NEAR_MM + SMOOTH_MM)
    if box is None:
        return None
    steps = [float(s) for s in reversed(spacing)]

    def filled(part: Part) -> np.ndarray:
        return np.stack([part[k, box[1], box[2]] for k in range(box[0].start, box[0].stop)])

    maps = []
    both = [structure.contours.get(p) for p in ("propagated", "segmented")]
    if all(p is not None and p.any() for p in both):
        maps.append((filled(both[0]) != filled(both[1]), "the two contours differ most"))
    if structure.inside is not None and structure.inside.any():
        maps.append((1 - np.abs(filled(structure.inside).astype(np.float32) / 50 - 1), "the volume is least certain"))
    if uncertainty is not None and structure.mask is not None and structure.mask.any():
        away = ndimage.distance_transform_edt(~filled(structure.mask).astype(bool), sampling=steps)
        maps.append((np.where(away <= NEAR_MM, uncertainty[box], 0), "the uncertainty is highest"))
    for values, reason in maps:
        score = ndimage.gaussian_filter(
            np.nan_to_num(np.asarray(values, np.float32)), [SMOOTH_MM / s for s in steps], mode="constant"
        )
        if score.max() > 1e-6:
            at = np.unravel_index(score.argmax(), score.shape)
            return tuple(int(a + b.start) for a, b in zip(at, box)), reason
    return tuple((b.start + b.stop - 1) // 2 for b in box), "its middle lies"

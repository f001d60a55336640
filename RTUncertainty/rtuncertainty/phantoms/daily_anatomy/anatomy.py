"""What the changes need to know of the planning anatomy: where body, skin and bone are, and which structure is which.

Everything is computed on a lattice with a margin, into which the anatomy goes on as at the border of the scan, so that
a cut by the field of view is not taken for skin. Distances are in mm, negative inside. Arrays are [z, y, x].
"""

from __future__ import annotations

import re
from functools import cached_property

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from .field import Lattice

MARGIN = 20.0  # mm added around the planning grid
BLOCK = 4.2  # mm: smaller voxels are averaged up to this, since no change has finer detail
MARROW_MM2 = 3000.0  # larger holes in a slice's bone are no marrow
BODY_HU, BONE_HU = -300.0, 200.0
BONE_MIN_ML = 1.0  # smaller dense pieces are contrast medium, calcifications or markers
CUT = 0.35  # a slice with less than this share of its neighbour's body was not supplied
TAPERED_MM2 = (
    950.0  # for each mm of slice: a head, a ball of radius 85 mm, may end in the next slice with a section this small
)
# what makes a structure's name one of these; a single name is taken for the single organs
ROLES = {
    "bladder": "bladder",
    "rectum": "rect(um|al)",
    "prostate": "prostat",
    "parotid": "parotid",
    "cord": "spinal|cord|myelon",
    "brainstem": "brainstem",
    "bone": "bone|femoral|femur|mandible|sacrum",
}
SEVERAL = ("parotid", "bone")
NOT_ORGANS = re.compile("ptv|ctv|gtv|itv|prv|wall|minus|ring|avoid")


def roles_of(names) -> dict[str, list[str]]:
    """Which structure is which, by the names; targets have no role.

    Args:
        names: of structures.

    Returns:
        {role: names}, such as {"parotid": ["LeftParotid", "RightParotid"]}.
    """
    found, plain = {}, {n: re.sub("[^a-z]", "", n.lower()) for n in names}
    for role, pattern in ROLES.items():
        fit = sorted(
            (n for n, p in plain.items() if re.search(pattern, p) and not NOT_ORGANS.search(p)),
            key=lambda n: (len(n), n),
        )
        if fit:
            found[role] = fit if role in SEVERAL else fit[:1]
    return found


class Anatomy:
    """A planning CT and its structures, prepared for changes.

    Its `lattice` has blocks of about 4 mm, or the CT's own voxels where they are not smaller.

    Args:
        ct: HU.
        masks: {name: bool [z, y, x] on the CT's grid}.
    """

    def __init__(self, ct: sitk.Image, masks: dict[str, np.ndarray]):
        self.grid = Lattice.of(ct)
        self._pad = tuple(int(np.ceil(MARGIN / s)) for s in ct.GetSpacing())
        self._stride = tuple(max(1, int(BLOCK // s)) for s in ct.GetSpacing())
        self.lattice = self.grid.around(self._pad, self._stride)
        self.points = self.lattice.points()
        self.roles = roles_of(n for n, m in masks.items() if m.any())
        self._masks = masks
        hu = sitk.GetArrayFromImage(ct).astype(np.float32)
        self.supplied = supplied_slices(hu, ct.GetSpacing())
        # the slices that were not supplied are as their neighbours
        hu = hu[nearest(self.supplied)]
        self.hu = self._blocks(hu)
        self.dense = self._blocks((hu > BONE_HU).astype(np.float32)) >= 0.3

    def _blocks(self, array: np.ndarray) -> np.ndarray:
        """An array of the planning grid on the lattice: repeated at the border, mean over the blocks."""
        ends = [
            (p, n * s - m - p)
            for p, n, s, m in zip(self._pad[::-1], self.lattice.shape, self._stride[::-1], array.shape)
        ]
        padded = np.pad(array, ends, mode="edge")
        for axis, s in enumerate(self._stride[::-1]):
            if s > 1:
                parts = padded.shape[:axis] + (padded.shape[axis] // s, s) + padded.shape[axis + 1 :]
                padded = padded.reshape(parts).mean(axis + 1, dtype=np.float32)
        return padded

    def names(self, *roles: str) -> list[str]:
        """The structures that have one of the roles."""
        return [n for role in roles for n in self.roles.get(role, [])]

    def mask(self, name: str) -> np.ndarray:
        """A structure on the lattice, bool."""
        share = self._blocks(self._masks[name].astype(np.float32))
        return share >= 0.5 * share.max()  # thin structures fill no block

    @cached_property
    def body(self) -> np.ndarray:
        """The patient, filled."""
        return body_mask(self.hu, self.lattice)

    @cached_property
    def bone(self) -> np.ndarray:
        """Bones with their marrow; in the head also what they enclose."""
        bone = self.dense & self.body
        pieces, count = ndimage.label(bone)
        sizes = np.bincount(pieces.ravel(), minlength=count + 1) * self.lattice.voxel_ml
        sizes[0] = 0
        bone = (sizes >= BONE_MIN_ML)[pieces]
        for name in self.names("bone"):
            bone |= self.mask(name)
        reach = np.maximum(1, np.rint(4.0 / self.lattice.spacing[::-1])).astype(int)
        bone = _closed(bone, reach)
        most = np.inf if self.is_head else MARROW_MM2 / float(np.prod(self.lattice.spacing[:2]))
        return np.stack([_filled(s, most) for s in bone])

    @property
    def is_head(self) -> bool:
        """Whether structures of head and neck were drawn, and none of the pelvis."""
        return bool(self.names("brainstem", "cord", "parotid")) and not self.names("bladder", "rectum", "prostate")

    @cached_property
    def skin(self) -> np.ndarray:
        """Smoothed distance to the skin."""
        return ndimage.gaussian_filter(self.distance(self.body), 5.0 / self.lattice.spacing[::-1])

    @cached_property
    def inward(self) -> np.ndarray:
        """Unit vectors (LPS) from the skin into the patient, shorter where the skin's sides meet."""
        sd = 5.0 / self.lattice.spacing[::-1]
        slope = self.gradient(-self.skin)
        return np.stack([ndimage.gaussian_filter(slope[..., c], sd) for c in range(3)], axis=-1)

    @cached_property
    def bone_distance(self) -> np.ndarray:
        """Distance to the nearest bone; large where there is none."""
        return self.distance(self.bone)

    def distance(self, mask: np.ndarray) -> np.ndarray:
        """Signed distance (mm) to the surface of a mask on the lattice."""
        return signed_distance(mask, self.lattice.spacing)

    def gradient(self, scalar: np.ndarray) -> np.ndarray:
        """Gradient of an array on the lattice.

        Args:
            scalar: [z, y, x].

        Returns:
            [z, y, x, 3], per mm, LPS.
        """
        along = np.stack([np.gradient(scalar, axis=2 - a) for a in range(3)], axis=-1)
        return along @ np.linalg.inv(self.lattice.matrix).astype(np.float32)

    def soft(self, start: float = 2.5, reach: float = 14.0) -> np.ndarray:
        """0 in bone and near it, 1 far from it, smooth between.

        Args:
            start: mm from bone up to which it is 0.
            reach: mm farther where it is 1.

        Returns:
            float32 [z, y, x].
        """
        return smooth_step((self.bone_distance - start) / reach)

    def ml(self, name: str) -> float:
        """A structure's volume on the planning grid, ml."""
        return float(np.count_nonzero(self._masks[name])) * self.grid.voxel_ml


def signed_distance(mask: np.ndarray, spacing) -> np.ndarray:
    """Signed distance to the surface of a mask.

    Args:
        mask: bool [z, y, x].
        spacing: (x, y, z), mm.

    Returns:
        float32 [z, y, x], mm, negative inside; 1e4 everywhere for an empty mask, -1e4 for a full one.
    """
    if not mask.any() or mask.all():
        return np.full(mask.shape, -1e4 if mask.any() else 1e4, np.float32)
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing([float(s) for s in spacing])
    return sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True))


def smooth_step(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, with two continuous derivatives between."""
    x = np.clip(x, 0, 1)
    return (x * x * x * (x * (6 * x - 15) + 10)).astype(np.float32)


def local_middle(points: np.ndarray, mask: np.ndarray, sd) -> np.ndarray:
    """The middle of what lies of a structure around every point.

    Args:
        points: [z, y, x, 3], mm.
        mask: bool [z, y, x].
        sd: of the Gaussian that weighs, voxels (z, y, x).

    Returns:
        [z, y, x, 3], mm.
    """
    whole = points[mask].mean(0)
    share = mask.astype(np.float32)
    near = ndimage.gaussian_filter(share, sd)
    middle = [ndimage.gaussian_filter(share * (points[..., c] - whole[c]), sd) for c in range(3)]
    return np.stack(middle, axis=-1) / (near + np.float32(1e-6))[..., None] + whole


def body_mask(ct: np.ndarray, lattice: Lattice) -> np.ndarray:
    """The largest piece above -300 HU after thin things (masks, couch tops) were taken off, with mouth, nose and lungs.

    A cavity counts when slices of any of the three orientations close it: the mouth is open in some, never in all.

    Args:
        ct: HU [z, y, x].
        lattice: of the CT.

    Returns:
        bool [z, y, x].
    """
    dense = ct > BODY_HU
    reach = np.maximum(1, np.rint(3.0 / lattice.spacing[::-1])).astype(int)
    reach[0] = 0
    opened = ndimage.binary_opening(dense, _ball(reach))
    pieces, count = ndimage.label(opened)
    if not count:
        return dense
    largest = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    closed = _closed(largest, np.maximum(1, np.rint(6.0 / lattice.spacing[::-1])).astype(int))
    filled = [np.stack([ndimage.binary_fill_holes(s) for s in np.moveaxis(closed, axis, 0)], axis) for axis in range(3)]
    return filled[0] | filled[1] | filled[2]


def supplied_slices(ct: np.ndarray, spacing) -> np.ndarray:
    """Which slices show what was scanned: some public sets blank whole slices, in which a body ends abruptly.

    Args:
        ct: HU [z, y, x].
        spacing: (x, y, z), mm.

    Returns:
        bool [z].
    """
    area = (ct > BODY_HU).sum((1, 2))
    tapered = TAPERED_MM2 * spacing[2] / (spacing[0] * spacing[1])
    supplied = np.ones(len(area), bool)
    start = int(area.argmax())
    for order in (range(start + 1, len(area)), range(start - 1, -1, -1)):
        last = area[start]
        for k in order:
            # an end that tapers, as a head does, is the patient's own: only the sudden loss of a large section is a cut
            supplied[k] = area[k] >= CUT * last or last < tapered
            last = area[k] if supplied[k] else last
    return supplied


def nearest(supplied: np.ndarray) -> np.ndarray:
    """For every slice the number of the nearest one that was supplied, int [z]."""
    return ndimage.distance_transform_edt(~supplied, return_distances=False, return_indices=True)[0]


def _filled(part: np.ndarray, most: float) -> np.ndarray:
    """A slice of bone with its holes of up to `most` voxels filled."""
    holes, count = ndimage.label(ndimage.binary_fill_holes(part) & ~part)
    if not count:
        return part
    small = np.bincount(holes.ravel()) <= most
    small[0] = False
    return part | small[holes]


def _closed(mask: np.ndarray, reach) -> np.ndarray:
    """Gaps narrower than twice `reach` voxels (z, y, x) closed, as if the mask went on at the border."""
    ends = [(int(r), int(r)) for r in reach]
    closed = ndimage.binary_closing(np.pad(mask, ends, mode="edge"), _ball(reach))
    return closed[tuple(slice(r, -r) for r in reach)] | mask


def _ball(reach) -> np.ndarray:
    """An ellipsoid of half axes `reach` voxels (z, y, x) as a structuring element; 0 is flat."""
    axes = np.meshgrid(*(np.arange(-r, r + 1) / max(r, 1) for r in reach), indexing="ij")
    return sum(a * a for a in axes) <= 1.001

"""One function for each anatomical change: the velocity (mm, LPS, [z, y, x, 3]) of which the change is the flow.

A velocity is zero or fades where the change does not reach. Bones are kept out of all but `neck`, which bends the spine
as a chain and moves skull and mandible as one.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..fields import Fields
from .anatomy import Anatomy, local_middle, smooth_step

BACK = np.array([0.0, 1.0, 0.0], np.float32)
NECK_MM = 115.0  # from the skull's base to the first thoracic vertebra
PIVOT_MM = 12.0  # from the middle of the cord forward into the vertebral body
TILT = (
    15.0,
    0.7,
)  # levels rise by 0.7 mm/mm from 15 mm in front of the pivots, so that the mandible belongs to the head


def reach(anatomy: Anatomy, mask: np.ndarray, mm: float, start: float = 0.0) -> np.ndarray:
    """How far a change of a structure reaches: 1 in it, falling as a Gaussian of the distance.

    Args:
        anatomy: of the planning scan.
        mask: bool [z, y, x] on the lattice.
        mm: where it has fallen to 1/e.
        start: mm up to which it is 1.

    Returns:
        float32 [z, y, x].
    """
    outside = ndimage.gaussian_filter(anatomy.distance(mask), 3.0 / anatomy.lattice.spacing[::-1])
    return np.exp(-((np.maximum(outside - start, 0) / np.float32(mm)) ** 2))


def bladder(anatomy: Anatomy, name: str, upwards: float) -> np.ndarray:
    """Growth away from where the bladder is held, at the prostate or at its floor; volume about × e for a unit.

    Args:
        anatomy: of the planning scan.
        name: of the bladder.
        upwards: how much more (about 1) it grows to head and front than to the sides: an emptier one is flatter.

    Returns:
        Velocity.
    """
    mask = anatomy.mask(name)
    inside = anatomy.points[mask]
    prostate = anatomy.names("prostate")
    far = inside[:, 2]
    if prostate:
        far = np.linalg.norm(inside - anatomy.points[anatomy.mask(prostate[0])].mean(0), axis=1)
    held = inside[far <= np.quantile(far, 0.05)].mean(0)
    rates = np.array([2 - upwards, 1.0, upwards], np.float32) / 3
    return reach(anatomy, mask, 28.0)[..., None] * (anatomy.points - held) * rates


def rectum(anatomy: Anatomy, name: str, rng) -> np.ndarray:
    """Widening about the rectum's course, unevenly along it and more to the front, since the sacrum is behind it.

    Args:
        anatomy: of the planning scan.
        name: of the rectum.
        rng: random numbers.

    Returns:
        Velocity.
    """
    mask = anatomy.mask(name)
    radius = 3 * float(np.maximum(-anatomy.distance(mask), 0)[mask].mean())  # of a tube with that mean depth
    course = local_middle(anatomy.points, mask, 15.0 / anatomy.lattice.spacing[::-1]) + np.float32(0.5 * radius) * BACK
    along = Fields(rng, anatomy.lattice.shape, anatomy.lattice.spacing).smooth(90, 45)
    grown = reach(anatomy, mask, 18.0) * np.clip(1 + 0.4 * along, 0.2, 1.8)
    return grown[..., None] * (anatomy.points - course) / 2


def gland(anatomy: Anatomy, name: str) -> np.ndarray:
    """Growth about a structure's middle, volume about × e for a unit.

    Args:
        anatomy: of the planning scan.
        name: of the structure.

    Returns:
        Velocity.
    """
    mask = anatomy.mask(name)
    return reach(anatomy, mask, 15.0)[..., None] * (anatomy.points - anatomy.points[mask].mean(0)) / 3


def shift(anatomy: Anatomy, name: str, mm, reach_mm: float) -> np.ndarray:
    """A structure moved as it is.

    Args:
        anatomy: of the planning scan.
        name: of the structure.
        mm: (x, y, z).
        reach_mm: of what follows it.

    Returns:
        Velocity.
    """
    return reach(anatomy, anatomy.mask(name), reach_mm)[..., None] * np.asarray(mm, np.float32)


def weight(anatomy: Anatomy, mm: float, rng) -> np.ndarray:
    """The skin moved inwards with the 30 mm below it, less at the back and near bones.

    Args:
        anatomy: of the planning scan.
        mm: where the skin is free to.
        rng: random numbers.

    Returns:
        Velocity.
    """
    depth = -anatomy.skin
    fading = 1 - smooth_step(np.where(depth > 0, depth / 30, -depth / 25))
    uneven = np.clip(1 + 0.2 * Fields(rng, anatomy.lattice.shape, anatomy.lattice.spacing).smooth(90, 90), 0.5, 1.5)
    made = (anatomy.soft(reach=20.0) * fading * uneven * (1 - 0.7 * np.clip(-(anatomy.inward @ BACK), 0, 1)))[
        ..., None
    ] * anatomy.inward
    # bones will hold it back: this much of it remains where the skin is free
    free = free_skin(anatomy)
    remaining = float((anatomy.soft() * (made * anatomy.inward).sum(-1))[free].mean()) if free.any() else 1.0
    return np.float32(mm / max(remaining, 0.2)) * made


def free_skin(anatomy: Anatomy) -> np.ndarray:
    """The voxels of the skin, but for the back, on which the patient lies, and where bones are close below it."""
    near = np.abs(anatomy.skin) < 0.75 * float(anatomy.lattice.spacing.max())
    return near & (anatomy.inward @ BACK > -0.3) & (anatomy.bone_distance > 15)


def residual(anatomy: Anatomy, sd_mm: float, rng) -> np.ndarray:
    """Soft tissue moved at random, alike within 6 cm.

    Args:
        anatomy: of the planning scan.
        sd_mm: along each axis.
        rng: random numbers.

    Returns:
        Velocity.
    """
    fields = Fields(rng, anatomy.lattice.shape, anatomy.lattice.spacing)
    return np.float32(sd_mm) * np.stack([fields.smooth(60, 60) for _ in range(3)], axis=-1)


class Stiff:
    """A structure that moves and turns as one and keeps its shape, and the tissue within 8 mm of it, which follows.

    Called with a velocity, it puts the structure's best rigid motion in its place: the tissue-dependent filter of
    Staring, Klein and Pluim, Phys Med Biol 2007; 52:6879, for one structure.

    Args:
        anatomy: of the planning scan.
        name: of the structure.
    """

    def __init__(self, anatomy: Anatomy, name: str):
        self.mask = anatomy.mask(name)
        inside = anatomy.points[self.mask].astype(np.float64)
        self.middle = inside.mean(0)
        self.arms = inside - self.middle
        self.inertia = (self.arms**2).sum() * np.eye(3) - self.arms.T @ self.arms
        self.places = anatomy.points - self.middle.astype(np.float32)
        self.share = (reach(anatomy, self.mask, 8.0, 3.0) * anatomy.soft(0.0, 5.0))[..., None]

    def __call__(self, velocity: np.ndarray) -> np.ndarray:
        """The velocity [z, y, x, 3] with the structure's rigid motion in it."""
        inside = velocity[self.mask].astype(np.float64)
        mean = inside.mean(0)
        turn = np.linalg.lstsq(self.inertia, np.cross(self.arms, inside - mean).sum(0), rcond=None)[0]
        rigid = mean.astype(np.float32) + np.cross(turn.astype(np.float32), self.places)
        return velocity + self.share * (rigid - velocity)


def neck(anatomy: Anatomy, degrees) -> np.ndarray:
    """The head bent against the shoulders.

    With the angle a(s) at the level s of the spine and the pivots c(s), a chain of joints moves a point p at the level
    s by w x (a(s) p - m(s)), m' = a' c: on every level a rotation about its own pivot, for which the levels are planes
    through it. Half of the angle lies above and half below the middle of the neck, where patients are aligned.

    Args:
        anatomy: of the planning scan.
        degrees: about x (flexion, chin to chest), y (to the side) and z (turned).

    Returns:
        Velocity.
    """
    z, course = spine(anatomy)
    base = z[-1]
    if anatomy.names("brainstem"):  # it ends there, which the cord as drawn may not
        base = max(base, float(anatomy.points[anatomy.mask(anatomy.names("brainstem")[0])][:, 2].min()))
    top = base - 10.0
    level = levels(anatomy, z, course)
    fine = np.arange(top - NECK_MM - 5, top + 5.5, 0.5)
    angle = smooth_ramp((fine - (top - NECK_MM)) / NECK_MM) - 0.5
    pivots = np.stack([np.interp(fine, z, course[:, 0]), np.interp(fine, z, course[:, 1]), fine], axis=-1)
    moment = np.cumsum(np.gradient(angle)[:, None] * pivots, axis=0)
    middle = np.abs(angle).argmin()
    moment -= moment[middle] - angle[middle] * pivots[middle]
    at_level = np.interp(level, fine, angle).astype(np.float32)
    at_moment = np.stack([np.interp(level, fine, moment[:, c]) for c in range(3)], axis=-1).astype(np.float32)
    turn = np.deg2rad(np.asarray(degrees, float))  # a turn about x takes what is above to the front
    return np.cross(turn.astype(np.float32), at_level[..., None] * anatomy.points - at_moment)


def spine(anatomy: Anatomy) -> tuple[np.ndarray, np.ndarray]:
    """The spine's pivots, from its levels.

    Args:
        anatomy: of the planning scan, with a cord.

    Returns:
        (z [n] in mm, upwards, the last where the cord ends, at the skull's base; (x, y) [n, 2] in mm).
    """
    cord = anatomy.points[anatomy.mask(anatomy.names("cord")[0])]
    z = np.arange(cord[:, 2].min(), cord[:, 2].max() + 5, 5.0)
    near = np.exp(-0.5 * ((z[:, None] - cord[None, :, 2]) / 6) ** 2)
    course = near @ cord[:, :2] / near.sum(1, keepdims=True)
    course[:, 1] -= PIVOT_MM
    # downwards it goes on as in its lowest 4 cm
    low = z < z[0] + 40
    slope = np.polyfit(z[low], course[low], 1)[0] if low.sum() > 2 else np.zeros(2)
    below = np.arange(z[0] - 200, z[0], 5.0)
    course = np.concatenate([course[0] + (below - z[0])[:, None] * slope, course])
    return np.concatenate([below, z]), course


def levels(anatomy: Anatomy, z: np.ndarray, course: np.ndarray) -> np.ndarray:
    """The level of the spine with which every point moves: its own z, and a higher one in front of the spine.

    Args:
        anatomy: of the planning scan.
        z: as `spine` gives it.
        course: as `spine` gives it.

    Returns:
        [z, y, x], mm.
    """
    p = anatomy.points
    front = np.interp(p[..., 2], z, course[:, 1]) - p[..., 1] - TILT[0]
    front = 10 * np.logaddexp(0, front / 10)  # 0 behind, without a kink
    return p[..., 2] + TILT[1] * front


def smooth_ramp(x: np.ndarray) -> np.ndarray:
    """0 below 0 and 1 above 1, straight in the middle, its slope rising and falling over a fifth at the ends."""
    rate = np.clip(np.minimum(x, 1 - x) / 0.2, 0, 1)
    rate = rate * rate * (3 - 2 * rate)
    total = np.cumsum(rate)
    return total / total[-1]

"""How much changes from the planning day to another day: drawn from what was measured in patients.

Pelvis: Roeske et al., IJROBP 1995; 33:1321 (bladder and rectum vary by ±30 % sd) and Langen and Jones, IJROBP 2001;
50:265 (prostate, sd 1 to 4 mm, least to the sides). Head and neck: Barker et al., IJROBP 2004; 59:960 (parotids lose
0.2 to 1.8 % a treatment day and move inwards by 3 mm) and van Kranen et al., IJROBP 2009; 73:1566 (bones of the neck
move against each other by 1 to 4 mm and some degrees).
"""

from __future__ import annotations

import zlib

import numpy as np

from ...core.errors import InputError
from .anatomy import Anatomy

CHANGES = (
    "bladder",
    "rectum",
    "rectal_gas",
    "prostate",
    "parotids",
    "neck",
    "weight",
    "residual",
    "couch",
    "field_of_view",
)


def possible(anatomy: Anatomy) -> tuple[str, ...]:
    """The changes that a planning scan's structures permit."""
    needed = {
        "bladder": "bladder",
        "rectum": "rectum",
        "rectal_gas": "rectum",
        "prostate": "prostate",
        "parotids": "parotid",
        "neck": "cord",
    }
    return tuple(
        c for c in CHANGES if (c not in needed or anatomy.names(needed[c])) and (c != "neck" or anatomy.is_head)
    )


def generator(seed: int, name: str) -> np.random.Generator:
    """Random numbers of one change, which stay the same whether or not other changes take place.

    Args:
        seed: of the day.
        name: of the change.

    Returns:
        Of numpy.
    """
    return np.random.default_rng([int(seed), zlib.crc32(name.encode())])


def draw(anatomy: Anatomy, changes, seed: int, severity: float) -> dict:
    """The amount of each change.

    Args:
        anatomy: of the planning scan.
        changes: names out of `CHANGES`.
        seed: of the day.
        severity: factor on distances, angles and logarithms of ratios.

    Returns:
        {change: amount}.
    """
    return {c: _DRAWS[c](anatomy, generator(seed, c), float(severity)) for c in changes}


def check(given: dict, drawn: dict) -> None:
    """Raises for amounts that cannot be.

    Args:
        given: {change: amount}, of the user.
        drawn: {change: amount}, of this day.

    Raises:
        InputError: an amount of a change that does not take place, of another form than drawn ones, or too large.
    """
    for name, amount in given.items():
        if name not in drawn:
            raise InputError(
                f"daily anatomy: an amount was given for {name!r}; amounts can be given for {', '.join(drawn)}."
            )
        wanted = drawn[name] if drawn[name] is not None else 0.0
        if not (amount is None and name == "rectal_gas") and not _fits(amount, wanted, name):
            limits = " with {}".format(
                ", ".join(f"{k} from {a:g} to {b:g}" for k, (a, b) in _LIMITS.items() if k == name or k in str(wanted))
            )
            raise InputError(
                f"daily anatomy: {amount!r} is no amount for {name}; give finite numbers in the form of "
                f"{wanted!r}{limits}."
            )


# of an amount, or of one part of it
_LIMITS = {
    "bladder": (0.3, 3),
    "rectum": (0.4, 2.5),
    "rectal_gas": (0, 1),
    "prostate": (-20, 20),
    "neck": (-20, 20),
    "weight": (-12, 12),
    "residual": (0, 5),
    "ratio": (0.3, 3),
    "medial_mm": (-10, 10),
    "shift_mm": (-300, 300),
    "turn_degrees": (-30, 30),
    "spacing_ratio": (0.25, 4),
    "lower_mm": (-300, 300),
    "upper_mm": (-300, 300),
}


def _fits(amount, like, name: str) -> bool:
    """Whether an amount has the form of another, and its numbers lie within limits."""
    if isinstance(like, dict):
        return (
            isinstance(amount, dict)
            and amount.keys() == like.keys()
            and all(_fits(amount[k], like[k], k) for k in like)
        )
    if isinstance(like, tuple):
        return (
            np.ndim(amount) == 1 and len(amount) == len(like) and all(_fits(a, v, name) for a, v in zip(amount, like))
        )
    low, high = _LIMITS[name]
    return isinstance(amount, (int, float, np.number)) and bool(low <= amount <= high)


def _clipped(rng, sd, most, size=None):
    return np.clip(rng.normal(0, sd, size), -np.asarray(most), np.asarray(most))


def _bladder(anatomy, rng, severity):
    """Ratio of volumes."""
    return float(np.exp(severity * _clipped(rng, 0.33, 0.69)))


def _rectum(anatomy, rng, severity):
    """Ratio of volumes."""
    return float(np.exp(severity * _clipped(rng, 0.2, 0.40)))


def _rectal_gas(anatomy, rng, severity):
    """Gas as a share of the rectum on the day, 0 for none; None where it stays as it was."""
    changed, gone, share = rng.random() < 0.6 * severity, rng.random() < 0.5, rng.uniform(0.08, 0.45)
    return (0.0 if gone else float(share)) if changed else None


def _prostate(anatomy, rng, severity):
    """mm (x, y, z) that it moves beyond what its neighbours push it."""
    return tuple(float(v) for v in severity * _clipped(rng, (1.0, 3.0, 2.7), (2.5, 6, 6), 3))


def _parotids(anatomy, rng, severity):
    """For each gland the ratio of volumes and mm towards the middle, beyond what the thinner skin moves it."""
    shared, made = rng.uniform(0.72, 0.92), {}
    for name in anatomy.names("parotid"):
        ratio, medial = np.clip(shared + rng.normal(0, 0.03), 0.68, 0.97), rng.normal(1.5, 0.7)
        made[name] = {"ratio": float(ratio**severity), "medial_mm": float(severity * medial)}
    return made


def _neck(anatomy, rng, severity):
    """Degrees about x (flexion positive), y and z."""
    return tuple(float(v) for v in severity * _clipped(rng, (2.5, 1.3, 1.5), (6, 3, 4), 3))


def _weight(anatomy, rng, severity):
    """mm that the skin moves inwards; outwards if negative."""
    return float(severity * (rng.uniform(2, 6) if anatomy.is_head else _clipped(rng, 2.0, 5)))


def _residual(anatomy, rng, severity):
    """sd in mm of what else moves."""
    return float(severity * rng.uniform(0.6, 1.5))


def _couch(anatomy, rng, severity):
    """mm (x, y, z) and degrees about x, then y, then z, through the body's middle; now and then the patient lies far
    off.
    """
    far = 4.0 if rng.random() < 0.12 else 1.0
    shift, turn = severity * far * _clipped(rng, 5.0, 12.0, 3), severity * _clipped(rng, 1.0, 3.0, 3)
    return {"shift_mm": tuple(float(v) for v in shift), "turn_degrees": tuple(float(v) for v in turn)}


def _field_of_view(anatomy, rng, severity):
    """Ratios of the voxels' edges, and mm by which the lower and the upper faces move outwards, each (x, y, z)."""
    severity = min(severity, 2.0)  # some of the patient is always seen
    extent = np.array(anatomy.grid.shape[::-1]) * anatomy.grid.spacing
    ratio = np.exp(severity * rng.uniform(-0.2, 0.15, 3))
    ratio[1] = ratio[0]
    outwards = severity * rng.uniform((-0.06, -0.06, -0.1), 0.05, (2, 3)) * extent
    return {
        "spacing_ratio": tuple(float(v) for v in ratio),
        "lower_mm": tuple(float(v) for v in outwards[0]),
        "upper_mm": tuple(float(v) for v in outwards[1]),
    }


_DRAWS = {
    "bladder": _bladder,
    "rectum": _rectum,
    "rectal_gas": _rectal_gas,
    "prostate": _prostate,
    "parotids": _parotids,
    "neck": _neck,
    "weight": _weight,
    "residual": _residual,
    "couch": _couch,
    "field_of_view": _field_of_view,
}

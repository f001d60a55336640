"""A treatment plan in a few words: what a JSON file says, checked, with defaults for both kinds of beams."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from rtuncertainty.core.errors import InputError

PHOTON, PROTON = MODALITIES = ("photon", "proton")
TARGET = "target"


@dataclass(frozen=True)
class Plan:
    """Static fields around one isocentre, all of them shaped to the target.

    Attributes:
        modality: photon (a linear accelerator's MLC fields) or proton (scanned spots whose weights are fitted to a
            uniform dose of the target on the CT).
        beams: gantry angles of IEC 61217 in degrees for a patient who lies head first supine: 0 from the front, 90 from
            the patient's left.
        isocentre: LPS in mm, or "target" for the middle of the target.
        prescription_gy: the dose that half of the target gets on the CT (D50 % of ICRU 83), in all fractions together.
        fractions: how many.
        margin_mm: around the target in the beam's eye view, for the penumbra (protons: for the width of a spot, 7 mm
            and more).
        grid_mm: edge of a dose voxel.
        weights: of the monitor units, one a beam; None: equal ones.
        machine: a photon machine of pydosert, or the path of its JSON file.
        spot_spacing_mm: of protons.
        layer_spacing_mm: of protons' energy layers, water-equivalent.
        range_shifter_mm: of protons; without one the lowest energy of the machine (32 MeV) already stops 7 mm deep.
        name: of the plan.
    """

    modality: str = PHOTON
    beams: tuple[float, ...] = (0.0, 90.0, 180.0, 270.0)
    isocentre: str | tuple[float, float, float] = TARGET
    prescription_gy: float = 50.0
    fractions: int = 25
    margin_mm: float = 8.0
    grid_mm: float = 3.0
    weights: tuple[float, ...] | None = None
    machine: str = "varian_10MV"
    spot_spacing_mm: float = 8.0
    layer_spacing_mm: float = 6.0
    range_shifter_mm: float = 20.0
    name: str = ""

    def as_dict(self) -> dict:
        """What `read_plan` reads, without the other modality's entries."""
        return {k: v for k, v in asdict(self).items() if k not in _OTHERS[self.modality]}


_PROTON_ONLY, _PHOTON_ONLY = ("spot_spacing_mm", "layer_spacing_mm", "range_shifter_mm"), ("weights", "machine")
_OTHERS = {PHOTON: _PROTON_ONLY, PROTON: _PHOTON_ONLY}
# a four-field box; two fields at a right angle, as protons need few
DEFAULTS = {
    PHOTON: Plan(name="four-field box"),
    PROTON: Plan(PROTON, (0.0, 90.0), margin_mm=10.0, name="two proton fields"),
}
# static fields; memory grows with them
MOST_BEAMS = 72
# smallest and largest of each number
_LIMITS = {
    "prescription_gy": (0.1, 200.0),
    "fractions": (1, 100),
    "margin_mm": (0.0, 50.0),
    "grid_mm": (1.0, 10.0),
    "spot_spacing_mm": (2.0, 20.0),
    "layer_spacing_mm": (1.0, 20.0),
    "range_shifter_mm": (0.0, 100.0),
}


def read_plan(path) -> Plan:
    """The plan in a JSON file; what it leaves out is as in `DEFAULTS` of its modality.

    Args:
        path: of the file.

    Returns:
        The plan, checked.

    Raises:
        InputError: names the file, the entry and what it may be.
    """
    try:
        given = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}; give a plan as a JSON file.") from error
    except ValueError as error:
        raise InputError(f"{path} is no JSON file ({error}); see the README for a plan.") from error
    if not isinstance(given, dict):
        raise InputError(f'{path} holds no plan: a JSON object with entries such as "modality" and "beams" is needed.')
    try:
        return from_dict(given)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def from_dict(given: dict) -> Plan:
    """The plan of a dict as in the JSON file.

    Args:
        given: entries.

    Returns:
        The plan, checked.

    Raises:
        InputError: names the entry.
    """
    modality = given.get("modality", PHOTON)
    if modality not in MODALITIES:
        raise InputError(f"modality is {modality!r}; give photon or proton.")
    unknown = set(given) - {f.name for f in fields(Plan)}
    if unknown:
        raise InputError(
            f"{', '.join(sorted(map(str, unknown)))} is no entry of a plan; it has "
            f"{', '.join(f.name for f in fields(Plan))}."
        )
    misplaced = sorted(set(given) & set(_OTHERS[modality]))
    if misplaced:
        raise InputError(f"{misplaced[0]} is no entry of a {modality} plan; leave it out.")
    values = {key: _checked(key, value) for key, value in given.items()}
    plan = replace(DEFAULTS[modality], **values)
    if plan.weights is not None and (
        len(plan.weights) != len(plan.beams) or min(plan.weights) < 0 or not any(plan.weights)
    ):
        raise InputError(
            f"weights are {list(plan.weights)}; give one for each of the {len(plan.beams)} beams, none negative and "
            "not all 0."
        )
    return plan


def _checked(key: str, value):
    if key in _LIMITS:
        low, high = _LIMITS[key]
        if not _is_number(value) or not low <= value <= high:
            raise InputError(f"{key} is {value!r}; give a number from {low:g} to {high:g}.")
        if key == "fractions" and value != int(value):
            raise InputError(f"fractions is {value!r}; give a whole number.")
        return int(value) if key == "fractions" else float(value)
    if key == "isocentre":
        if value == TARGET:
            return value
        return _numbers(key, value, '"target" or three numbers, LPS in mm', 3)
    if key == "beams":
        angles = _numbers(key, value, "a list of gantry angles in degrees")
        if len(angles) > MOST_BEAMS or max(map(abs, angles)) > 360:
            raise InputError(
                f"beams are {len(angles)} angles from {min(angles):g} to {max(angles):g}; give at most {MOST_BEAMS}, "
                "from -360 to 360 degrees."
            )
        return angles
    if key == "weights":
        return None if value is None else _numbers(key, value, "a list of numbers")
    if not isinstance(value, str) or (key == "machine" and not value):
        raise InputError(f"{key} is {value!r}; give a text.")
    return value


def _numbers(key, value, wanted, count=None) -> tuple:
    if (
        not isinstance(value, (list, tuple))
        or not value
        or not all(map(_is_number, value))
        or (count and len(value) != count)
    ):
        raise InputError(f"{key} is {value!r}; give {wanted}.")
    return tuple(float(v) for v in value)


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)

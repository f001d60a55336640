"""Flags: what a reviewer should look at first, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from . import volume_range

DOUBTFUL_ML = 5.0
# what a limit may be about. How large each is depends on the network: no limit fits all, and one that was not validated
# on a model's own patients always comes or never
MEASURES = ("interval_width", "expected_dice", "surface_entropy")
# share of contours off, counted with one more miss than was seen, up to which those that a limit lets pass are called
# probably fine
RISK = 0.15


@dataclass
class Flag:
    """What to look at, and why.

    Attributes:
        subject: a structure's name, "input" or "synCT".
        severity: info, warning or serious.
        flag: in two or three words.
        reason: whole sentences for the user.
    """

    subject: str
    severity: str
    flag: str
    reason: str


def limits(card: dict) -> dict[str, tuple[float, str]]:
    """The limits beyond which a structure is flagged.

    Args:
        card: of the model.

    Returns:
        {one of `MEASURES`: (limit, its record on validation patients in words)}, of those that the card has.
    """
    out = {}
    for name, e in (card["calibration"].get("flags") or {}).items():
        if name not in MEASURES:
            continue
        of = f" ({e['images']})" if e.get("images") else ""
        out[name] = (
            float(e["threshold"]),
            f"on {e['cases']} validation contours{of} it caught {e['caught']} of {e['caught'] + e['missed']} bad ones, "
            f"with {e['false_alarms']} false alarm{'s' * (e['false_alarms'] != 1)}",
        )
    return out


def of_structure(
    volume,
    labelled: np.ndarray,
    field_of_view: np.ndarray,
    quality=None,
    card: dict | None = None,
    sampled_ml: float = 0.0,
    not_measured: np.ndarray | None = None,
) -> list[Flag]:
    """Flags of one structure.

    Args:
        volume: `volumes.Volume`.
        labelled: its voxels, bool [z, y, x].
        field_of_view: bool [z, y, x], what was measured.
        quality: `quality.Quality`, or None.
        card: whose limits count, or None.
        sampled_ml: the largest volume that the samples suggest, for a structure that was not found.
        not_measured: bool [z, y, x], what lies beyond a field of view that cuts the body, or None.

    Returns:
        None to some flags.
    """
    name = volume.structure
    if not labelled.any():
        if sampled_ml > 0:
            return [
                Flag(
                    name,
                    "warning",
                    "not found",
                    f"No voxel is more likely {name} than not, yet the samples, which are uncalibrated, allow for up "
                    f"to {sampled_ml:.1f} ml.",
                )
            ]
        return [Flag(name, "info", "not found", f"No voxel is likely {name}.")]
    out = []
    z = np.flatnonzero(labelled.any((1, 2)))
    edge = z[0] == 0 or z[-1] == labelled.shape[0] - 1
    edge |= bool(labelled[:, [0, -1]].any() or labelled[:, :, [0, -1]].any() or (labelled & ~field_of_view).any())
    cut = not_measured is not None and bool((labelled & ndimage.binary_dilation(not_measured, iterations=2)).any())
    if cut:
        out.append(
            Flag(
                name,
                "warning",
                "cut off",
                "It reaches the edge of what the MR measured, and may go on beyond it: the volume is that of the part "
                "inside.",
            )
        )
    elif edge:
        out.append(
            Flag(name, "info", "cut off", "It reaches the edge of the image: the volume is that of the visible part.")
        )
    unusual = volume_range.reason(name, volume.volume_ml, card, edge or cut) if card else None
    if unusual:
        out.append(Flag(name, "warning", "unusual volume", unusual))
    return out + of_uncertainty(volume, quality, card)


def of_uncertainty(volume, quality=None, card: dict | None = None) -> list[Flag]:
    """Flags of a structure that was found: a wide interval of the volume (none where it is not calibrated), a low
    expected Dice, an uncertain surface. Only limits that the card has validated raise one.

    Args:
        volume: `volumes.Volume`.
        quality: `quality.Quality`, or None.
        card: whose limits count, or None.

    Returns:
        None to three flags.
    """
    known, out = limits(card or {"calibration": {}}), []

    def flag(name: str, reason: str) -> None:
        out.append(Flag(volume.structure, "warning", name, f"{reason} ({source}); check the contour."))

    if "interval_width" in known:
        limit, source = known["interval_width"]
        width = (volume.upper_ml - volume.lower_ml) / volume.volume_ml
        if width > limit:
            interval = f"{volume.lower_ml:.1f} to {volume.upper_ml:.1f} ml"
            flag(
                "uncertain volume",
                f"The {volume.level:.0%} interval spans {width:.0%} of the volume ({interval}), more than {limit:.0%}",
            )
    if quality is not None and "expected_dice" in known:
        limit, source = known["expected_dice"]
        if quality.expected_dice < limit:
            flag("low expected Dice", f"The expected Dice is {quality.expected_dice:.2f}, less than {limit:.2f}")
    if quality is not None and "surface_entropy" in known:
        limit, source = known["surface_entropy"]
        if quality.surface_entropy > limit:
            entropy = f"{quality.surface_entropy:.2f} nats, more than {limit:.2f}"
            flag("uncertain surface", f"The mean entropy along its surface is {entropy}")
    return out


def of_edge(doubtful_ml: float) -> list[Flag]:
    """A flag where a relevant volume was taken for air although it may be tissue; see `preprocess.regions`.

    Args:
        doubtful_ml: that volume.

    Returns:
        One flag, or none below `DOUBTFUL_ML`.
    """
    if doubtful_ml < DOUBTFUL_ML:
        return []
    return [
        Flag(
            "synCT",
            "warning",
            "edge of the body unclear",
            f"{doubtful_ml:.0f} ml beside the body were taken for air (-1000 HU) although the MR shows "
            "some signal there, or the border of the image cuts something dark: bone or other tissue may be missing. "
            "Look at the border.",
        )
    ]


def of_not_measured(missing_ml: float, outside_ml: float) -> list[Flag]:
    """A flag where the field of view cuts the body: `missing_ml` of tissue may lie in the `outside_ml` beyond it, which
    are shown as air; see `edge.beyond_cut`.
    """
    if missing_ml < DOUBTFUL_ML:
        return []
    return [
        Flag(
            "input",
            "warning",
            "not measured",
            f"The MR's field of view cuts the body: {outside_ml:.0f} ml of the image beyond it hold no measurement. By "
            f"their distance from the cut, about {missing_ml:.0f} ml of them are tissue. They are shown as air (-1000 "
            "HU) with an SD of up to 920 HU: use nothing of them.",
        )
    ]


def of_synct(predictive_sd: np.ndarray, body: np.ndarray, card: dict) -> list[Flag]:
    """A flag when a synthetic CT is less certain than on all of the model's validation patients.

    Args:
        predictive_sd: HU [z, y, x].
        body: bool [z, y, x], away from its edge.
        card: of the model, with the range of the mean SD.

    Returns:
        One flag, or none.
    """
    seen = (card["calibration"].get("synct") or {}).get("body_sd_range_hu")
    if not seen or not body.any():
        return []
    mean = float(predictive_sd[body].mean())
    if mean > seen[1]:
        return [
            Flag(
                "synCT",
                "warning",
                "unusually uncertain",
                f"The mean predictive SD in the body is {mean:.0f} HU; on the validation "
                f"patients it was {seen[0]:.0f} to {seen[1]:.0f} HU. The image may be unlike the training data.",
            )
        ]
    return []

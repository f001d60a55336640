"""Do two CTs and the planning structures fit a model's card, and each other? Asked before a run."""

from __future__ import annotations

import numpy as np

from ..jobs.input_check import InputCheck, check_input
from ..mrml.segmentation_export import box_corners, structure_boxes
from ..mrml.volume_export import UnusableVolume, ijk_to_world, volume_array
from ..widgets.text import _

NAMED = 4
"""Structures that a message names; of more it tells the number."""
OUTSIDE_VOXELS = 1.5
"""How far a structure may reach beyond the planning CT: contours are drawn to the edge of a slice."""


def check_propagation(planning, structures, daily, card: dict, rigid: bool = True) -> InputCheck:
    """Compare the planning CT, its segmentation node and the daily CT with the card of a model; `rigid`:
    pre-alignment is on.
    """
    check = InputCheck()
    if planning is not None and planning is daily:
        check.errors.append(
            _("{name} is chosen as planning and as daily CT: choose two scans.").format(name=planning.GetName())
        )
        return check
    for node in (planning, daily):
        one = check_input(node, card)
        check.errors += one.errors
        check.warnings += one.warnings
    if check.errors:
        return check
    try:
        boxes = structure_boxes(structures)
    except UnusableVolume as error:
        check.errors.append(str(error))
        return check
    _check_structures(check, structures.GetName(), boxes, planning)
    if not check.errors:
        _check_overlap(check, planning, daily, rigid)
    return check


def _check_structures(check, name: str, boxes: dict, planning) -> None:
    empty = [n for n, box in boxes.items() if box is None]
    if len(empty) == len(boxes):
        check.errors.append(
            _("All structures of {name} are empty: choose the segmentation that was drawn on the planning CT.").format(
                name=name
            )
        )
        return
    world_to_index, size = np.linalg.inv(ijk_to_world(planning)), np.array(volume_array(planning).shape[::-1])
    outside, cut = [], []
    for structure, box in boxes.items():
        if box is None:
            continue
        index = box @ world_to_index[:3, :3].T + world_to_index[:3, 3]
        low, high = index.min(0), index.max(0)
        if np.any(high < -0.5) or np.any(low > size - 0.5):
            outside.append(structure)
        elif np.any(low < -0.5 - OUTSIDE_VOXELS) or np.any(high > size - 0.5 + OUTSIDE_VOXELS):
            cut.append(structure)
    if len(outside) + len(empty) == len(boxes):
        check.errors.append(
            _("The structures of {name} lie outside of {planning}: choose the CT that they were drawn on.").format(
                name=name, planning=planning.GetName()
            )
        )
        return
    for found, words in (
        (empty, _("empty and will be left out")),
        (outside, _("outside of {planning} and will be left out").format(planning=planning.GetName())),
        (cut, _("partly outside of {planning}").format(planning=planning.GetName())),
    ):
        if found:
            check.warnings.append(_("{structures}: {words}.").format(structures=_some(found), words=words))


def _some(names: list[str]) -> str:
    return (
        ", ".join(names)
        if len(names) <= NAMED
        else _("{names} and {count} more").format(names=", ".join(names[: NAMED - 1]), count=len(names) - NAMED + 1)
    )


def _check_overlap(check, planning, daily, rigid: bool) -> None:
    boxes = []
    for node in (planning, daily):
        matrix = ijk_to_world(node)
        corners = (
            box_corners([-0.5] * 3, np.array(volume_array(node).shape[::-1]) - 0.5) @ matrix[:3, :3].T + matrix[:3, 3]
        )
        boxes.append((corners.min(0), corners.max(0)))
    apart = np.maximum(np.maximum(boxes[0][0] - boxes[1][1], boxes[1][0] - boxes[0][1]), 0)
    if not apart.any():
        return
    words = _("{planning} and {daily} do not overlap: they lie {distance:.0f} mm apart.").format(
        planning=planning.GetName(), daily=daily.GetName(), distance=float(np.linalg.norm(apart))
    )
    if rigid:
        check.warnings.append(
            words + " " + _("The rigid pre-alignment has to find the way; look closely at the result.")
        )
    else:
        check.errors.append(words + " " + _("Switch the rigid pre-alignment on (Settings)."))

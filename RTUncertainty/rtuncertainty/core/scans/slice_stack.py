"""Do the slices of a DICOM series make a volume? Their places in space, put in order, or the reason why they do not."""

from __future__ import annotations

import numpy as np

# part of the slices' distance by which one step may differ from the others, a slice lie aside, and how far all steps
# together may bring a slice off its place
UNEVEN, OFF = 0.05, 0.2
# the same that is no rounding any more and is told
TOLD = 0.01
# part of the usual distance below which two slices lie at one position; mm per voxel and cosines that count as the same
SAME_PLACE, SAME = 0.1, 1e-3


def ordered(orientations, positions, pixels, shapes) -> tuple[np.ndarray, np.ndarray, float]:
    """(order, axes, step) of slices: their numbers from one end to the other, the unit vectors of row, column and
    normal as the columns of a matrix [3, 3], and the distance of slices in mm.

    Of each slice, as DICOM has them: orientation (6 cosines), position (LPS, mm), pixel spacing (2 numbers, mm), shape
    (rows, columns). Raises `ValueError`, whose text tells in a few words why they make no volume.
    """
    turned, at, pixel, shape = (np.array(column, float) for column in (orientations, positions, pixels, shapes))
    if not all(np.isfinite(v).all() for v in (turned, at, pixel)) or (pixel <= 0).any():
        raise ValueError("position, orientation or pixel spacing is no number, or not positive")
    if np.ptp(turned, 0).max() > SAME or (np.ptp(pixel, 0) > SAME * pixel[0]).any() or np.ptp(shape, 0).any():
        raise ValueError("they differ in size, pixel spacing or orientation")
    if len(at) < 2:
        raise ValueError("there is only one")
    row, column = turned[0].reshape(2, 3)
    if not np.allclose([row @ row, column @ column, row @ column], [1, 1, 0], atol=0.01):
        raise ValueError("their orientation is not two directions at a right angle")
    row, column = row / np.linalg.norm(row), column / np.linalg.norm(column)
    normal = np.cross(row, column)
    order = np.argsort(at @ normal, kind="stable")
    steps = np.diff(at[order], axis=0)
    along = steps @ normal
    step = float(along.mean())
    if along.min() <= SAME_PLACE * max(float(np.median(along)), step) or step < 1e-6:
        raise ValueError("several lie at one position")
    off = np.concatenate([[0.0], np.cumsum(along - step)])
    if np.abs(along - step).max() > UNEVEN * step or np.abs(off).max() > OFF * step:
        raise ValueError(
            f"their distances are {along.min():.2f} to {along.max():.2f} mm; slices are missing or lie unevenly"
        )
    aside = np.linalg.norm(
        at[order] - at[order[0]] - np.concatenate([[0.0], np.cumsum(along)])[:, None] * normal, axis=1
    )
    if np.linalg.norm(steps - along[:, None] * normal, axis=1).max() > UNEVEN * step or aside.max() > max(
        OFF * step, float(pixel.min()) / 2
    ):
        raise ValueError("they are sheared by a tilted gantry")
    return order, np.stack([row, column, normal], 1), step


def uneven(positions, order, axes, step: float) -> str:
    """A note where the distances of slices vary by more than rounding; empty otherwise. Arguments as of `ordered`."""
    along = np.diff(np.array(positions, float)[order] @ axes[:, 2])
    off = np.abs(np.cumsum(along - step)).max()
    # positions are rounded to a hundredth of a millimetre at times
    if np.abs(along - step).max() <= TOLD * step + 0.011:
        return ""
    return (
        f"the distances of its slices vary from {along.min():.3g} to {along.max():.3g} mm; they are taken as "
        f"{step:.4g} mm, which puts slices up to {off:.2g} mm off their place."
    )

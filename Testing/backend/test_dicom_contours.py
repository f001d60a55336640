"""Voxels to polygons and back: nothing is lost, and other ways of counting and of asking what is inside agree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from rtuncertainty.dicom import combine
from rtuncertainty.dicom.fill import between, rasterised, stacked
from rtuncertainty.dicom.outlines import polygons

MASKS = arrays.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 14)))
EVERY = np.ones((3, 3), bool)  # voxels that touch by a corner hang together


def area(polygon):
    x, y = polygon.T
    return (x @ np.roll(y, -1) - np.roll(x, -1) @ y) / 2


def winding(polygon, point):
    """How often a polygon goes around a point, by the angles at which its points are seen."""
    to = polygon - point
    angle = np.arctan2(to[:, 1], to[:, 0])
    turn = (np.diff(np.append(angle, angle[0])) + np.pi) % (2 * np.pi) - np.pi
    return round(turn.sum() / (2 * np.pi))


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_every_voxel_comes_back_and_none_besides(mask):
    found = polygons(mask)
    assert found or not mask.any()
    if found:
        assert np.array_equal(rasterised(combine.grouped(found)[0], mask.shape), mask)
        # a reader that takes a polygon after the other and adds them up sees the same: no hole hides in a second
        # contour
        assert np.array_equal(np.logical_or.reduce([rasterised([[p]], mask.shape) for p in found]), mask)


@settings(max_examples=40, deadline=None)
@given(MASKS)
def test_another_rule_for_inside_agrees(mask):
    found = polygons(mask)
    for y, x in np.ndindex(mask.shape):
        assert sum(winding(p, (x, y)) for p in found) == int(mask[y, x])


@settings(max_examples=100, deadline=None)
@given(MASKS)
def test_area_and_count_of_polygons(mask):
    """One polygon a piece; their area is that of the voxels less half a voxel for each piece and more for each hole."""
    found = polygons(mask)
    pieces, holes = ndimage.label(mask, EVERY)[1], ndimage.label(np.pad(~mask, 1, constant_values=True))[1] - 1
    assert len(found) == pieces
    assert sum(map(area, found)) == pytest.approx(mask.sum() - (pieces - holes) / 2)


def test_thin_and_single_voxels():
    mask = np.zeros((9, 9), bool)
    mask[1, 1] = mask[4, 2:8] = True  # a dot, a line
    mask[range(5, 9), range(5, 9)] = True  # a diagonal
    found = polygons(mask)
    assert len(found) == 3 - 1 and np.array_equal(rasterised(combine.grouped(found)[0], mask.shape), mask)
    [dot] = polygons(mask[:3, :3])
    assert sorted(map(tuple, dot)) == [(0.5, 1.0), (1.0, 0.5), (1.0, 1.5), (1.5, 1.0)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(-3, 15), st.floats(-3, 13)), min_size=3, max_size=9))
def test_polygons_between_voxels_are_filled_where_their_winding_is_odd(points):
    polygon = np.array(points)
    inside = rasterised([[polygon]], (10, 12))
    for y, x in np.ndindex(inside.shape):
        (x0, y0), (x1, y1) = (polygon - (x, y)).T, (np.roll(polygon, -1, 0) - (x, y)).T
        near = np.abs(x0 * y1 - x1 * y0) <= 1e-6 * (1 + np.hypot(x1 - x0, y1 - y0))
        if not near.any():  # on an edge either answer will do
            assert inside[y, x] == winding(polygon, (x, y)) % 2


def test_holes_islands_and_keyholes():
    def square(low, high):
        return np.array([(low, low), (high, low), (high, high), (low, high)], float)

    ring = rasterised([[square(0.5, 9.5)], [square(2.5, 7.5)]], (11, 11))
    assert ring.sum() == 81 - 25 and not ring[5, 5]
    assert rasterised([[square(0.5, 9.5)], [square(2.5, 7.5)], [square(4.5, 5.5)]], (11, 11))[5, 5]
    # in and out by one channel, which runs through voxel centres here
    outer, inner = square(0.5, 9.5), square(2.5, 7.5)[::-1]
    keyhole = np.concatenate([outer, outer[:1], inner, inner[:1]])
    assert np.array_equal(rasterised([[keyhole]], (11, 11)), ring)


def test_neighbours_share_an_edge_but_no_voxel():
    left, right = np.array([(0, 0), (5, 0), (5, 8), (0, 8)], float), np.array([(5, 0), (9, 0), (9, 8), (5, 8)], float)
    a, b = rasterised([[left]], (10, 10)), rasterised([[right]], (10, 10))
    assert not (a & b).any() and (a | b).sum() == 9 * 8


def test_beyond_the_image_is_cut():
    whole = rasterised([[np.array([(-50, -50), (50, -50), (50, 50), (-50, 50)], float)]], (4, 6))
    assert whole.all() and not rasterised([[np.array([(7.0, 1), (9, 1), (9, 3)])]], (4, 6)).any()


def disc(radius, shape=(41, 41), x=20, y=20):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def test_between_two_discs_lies_the_disc_between():
    for weight in (0.25, 0.5, 0.75):
        got, want = between(disc(6), disc(14), weight, (1.0, 1.0)), disc(6 + 8 * weight)
        assert 2 * (got & want).sum() / (got.sum() + want.sum()) > 0.97
    # pixels that are not square: a shape half way as far in mm, not in pixels
    got = between(disc(8), disc(8, y=24), 0.5, (3.0, 1.0))
    assert abs(np.argwhere(got).mean(0)[0] - 22) < 0.5


def test_slices_between_contours():
    sparse = {float(k): disc(6 + k) for k in (3, 6, 9, 12)}
    mask, filled, gaps = stacked(sparse, 20, (1.0, 1.0))
    assert np.flatnonzero(mask.any((1, 2))).tolist() == list(range(3, 13)) and filled == 6 and not gaps
    assert np.array_equal(mask[6], disc(12)) and mask[6].sum() < mask[7].sum() < mask[8].sum() < mask[9].sum()
    # on every slice but two: these were left out on purpose
    dense = {float(k): disc(8) for k in (1, 2, 3, 4, 7, 8)}
    mask, filled, gaps = stacked(dense, 10, (1.0, 1.0))
    assert np.flatnonzero(mask.any((1, 2))).tolist() == [1, 2, 3, 4, 7, 8] and not filled and gaps == [3.0]
    # shapes that do not overlap are two things
    apart = {2.0: disc(4, x=8), 5.0: disc(4, x=30)}
    assert np.flatnonzero(stacked(apart, 9, (1.0, 1.0))[0].any((1, 2))).tolist() == [2, 5]


def test_contours_beside_the_slices():
    """Contours as far apart as the slices but 0.4 of one off: what lies between is taken, no slice too many."""
    planes = {k + 0.4: disc(5 + k) for k in range(2, 8)}
    mask, filled, gaps = stacked(planes, 12, (1.0, 1.0))
    assert np.flatnonzero(mask.any((1, 2))).tolist() == list(range(2, 8)) and not filled and not gaps
    assert disc(7)[:, 20].sum() <= mask[3][:, 20].sum() <= disc(8)[:, 20].sum() and np.array_equal(mask[2], disc(7))
    # finer than the slices: the nearest one counts
    fine = {k / 4: disc(4 + k / 4) for k in range(0, 33)}
    mask, filled, _ = stacked(fine, 9, (1.0, 1.0))
    assert all(np.array_equal(mask[k], disc(4 + k)) for k in range(9)) and not filled

"""The card's rules on pieces and holes."""

import numpy as np
import pytest

from rtuncertainty.core import structures
from rtuncertainty.uncertainty import volume_distribution, volumes


def pieces():
    """A large block with a hole, a middle and a small one."""
    a = np.zeros((4, 30, 30), bool)
    a[:, 2:12, 2:12] = True
    a[:, 5:7, 5:7] = False
    a[1:3, 18:22, 18:22] = True
    a[0, 28, 28] = True
    return a


@pytest.mark.parametrize(
    "rule,voxels",
    [
        ({}, 4 * 96 + 32 + 1),
        ({"largest": 1}, 4 * 96),
        ({"largest": 2}, 4 * 96 + 32),
        ({"smallest_ml": 0.02}, 4 * 96 + 32),
        ({"smallest_ml": 0.02, "fill_holes": True}, 400 + 32),
    ],
)
def test_rules(rule, voxels):
    assert structures.tidy(pieces(), rule, 0.001).sum() == voxels
    assert not structures.tidy(np.zeros((2, 3, 3), bool), rule, 0.001).any()


def test_a_moved_structure_that_broke_keeps_its_parts():
    cord = np.zeros((40, 12, 12), bool)
    cord[:18, 5:7, 5:7] = cord[21:, 5:7, 5:7] = True
    cord[3, 0, 0] = True
    assert structures.tidy(cord, {"largest": 1}, 0.001).sum() == 19 * 4
    found = structures.tidy_moved(cord, {"largest": 1}, 0.001)
    assert found.sum() == 37 * 4 and not found[3, 0, 0] and structures.large_pieces(cord).max() == 2
    assert np.array_equal(structures.tidy_moved(cord, {"smallest_ml": 0.0005}, 0.001), cord)
    # what touches at a corner is one piece
    stairs = np.zeros((4, 8, 8), bool)
    for k in range(4):
        stairs[k, 2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = True
    assert structures.large_pieces(stairs).max() == 1 and not structures.large_pieces(np.zeros((2, 2, 2), bool)).any()


def test_filling_takes_no_voxel_of_another_structure():
    labels = pieces().astype(np.uint8)
    labels[:, 5, 5] = 2
    out = structures.tidy_labels(
        labels, [{"label": 1, "rule": {"fill_holes": True, "largest": 1}}, {"label": 2}], 0.001
    )
    assert np.all(out[:, 5, 5] == 2) and np.all(out[:, 6, 6] == 1) and not out[:, 20, 20].any()


def test_intervals_follow_the_pieces_that_were_kept():
    p = np.where(pieces(), 0.8, 0.1)
    variance = np.full(p.shape, 0.05)
    kept = structures.tidy(pieces(), {"largest": 1}, 0.001)
    inside = volumes.probability_of_being_inside(p, variance)
    found = volume_distribution.of_membership("x", volume_distribution.restricted(inside, kept, {"largest": 1}), 0.001)
    lower, upper = found.interval(0.9)
    assert lower <= found.volume_ml <= upper and found.volume_ml == pytest.approx(0.384)
    # the other pieces are not in the upper contour, unless the contour joins them
    assert structures.connected_to(pieces(), kept).sum() == kept.sum()
    assert structures.connected_to(pieces(), np.zeros_like(kept)).sum() == pieces().sum()

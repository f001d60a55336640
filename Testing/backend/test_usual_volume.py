"""Volumes that no patient has are flagged; those that one may have are not."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rtuncertainty.uncertainty import flags, volume_range, volumes

CARD = {
    "calibration": {
        "flags": {
            "usual_volume": {
                "threshold": 1.25,
                "caught": 2,
                "missed": 6,
                "false_alarms": 1,
                "cases": 50,
                "patients": 10,
                "dice_limit": 0.5,
                "structures": {"parotid": {"cases": 38, "least_ml": 5.0, "most_ml": 50.0}},
            }
        }
    }
}


def raised(ml: float, name: str = "parotid", edge: bool = False) -> list[str]:
    labelled = np.zeros((6, 6, 6), bool)
    labelled[(0 if edge else 2) : 4, 2:4, 2:4] = True
    found = flags.of_structure(
        volumes.Volume(name, ml, 0.9 * ml, 1.1 * ml, 0.9, True), labelled, np.ones_like(labelled), None, CARD
    )
    return [f.reason for f in found if f.flag == "unusual volume"]


def test_only_what_lies_far_beyond_is_flagged():
    (low,), (high,) = raised(2.8), raised(80.0)
    assert low == (
        "2.8 ml is less than any of the 38 training patients had (5.0 to 50.0 ml); on 50 validation contours such "
        "volumes gave away 2 of 8 "
        "with a Dice below 0.5, with 1 false alarm; check the contour."
    )
    assert "80.0 ml is more than any" in high
    assert not raised(4.2) and not raised(62.0) and not raised(20.0) and not raised(2.8, "larynx")
    # what the image cuts off may be small, and is not large for that reason
    assert not raised(2.8, edge=True) and raised(80.0, edge=True)
    assert volume_range.reason("parotid", 2.8, {"calibration": {"flags": None}}) is None


@given(ml=st.floats(1e-3, 1e4), least=st.floats(1e-2, 1e2), width=st.floats(1, 50))
def test_beyond_is_one_inside_and_symmetric_in_factors(ml, least, width):
    found = volume_range.beyond(ml, least, least * width)
    assert found >= 1 and (found == 1) == (least <= ml <= least * width)
    assert math.isclose(found, volume_range.beyond(1 / ml, 1 / (least * width), 1 / least), rel_tol=1e-9)


def test_nothing_is_infinitely_far():
    assert volume_range.beyond(0.0, 5.0, 50.0) == math.inf

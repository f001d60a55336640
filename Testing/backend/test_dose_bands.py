"""Bands of DVHs: sampled doses, nested contours of a result folder, calibrated volumes."""

import json

import numpy as np
import pytest
from make_dose import ball, grid, linear_dose, places, result_folder

from rtbackend import geometry
from rtbackend.dose import bands, dvh, table
from rtbackend.dose.structure_region import MaskRegion
from rtbackend.errors import InputError


def test_a_band_of_doses_is_that_of_their_scale():
    dose = linear_dose(grid((10, 10, 10), (2, 2, 2)))
    region = MaskRegion(geometry.like(places(dose)[..., 0] > 5, dose, np.uint8))
    factors = np.random.default_rng(0).normal(1, 0.02, 41)
    members = [dvh.of_region(dose * float(f), region) for f in factors]
    found = bands.band(members, table.dose_axis(60), 0.9)
    plain = dvh.of_region(dose, region)
    for column, number in table.numbers(plain).items():
        if column.endswith("_gy"):
            assert found.intervals[column] == pytest.approx(tuple(number * np.quantile(factors, [0.05, 0.95], method="hazen")), rel=1e-5)
    curve = plain.volume_at_dose(table.dose_axis(60)).numpy()
    assert (np.array(found.lower) <= curve + 1e-6).all() and (curve <= np.array(found.upper) + 1e-6).all()
    with pytest.raises(ValueError, match="two members"):
        bands.band(members[:1], [0.0])


def in_a_falling_dose(folder):
    """The band of the ball in a dose that falls by 1 Gy a mm from its middle: every Dx tells a radius."""
    image = grid((33, 33, 33), (1.0,) * 3, (-16, -16, -16))
    dose = geometry.like(np.maximum(0, 40 - np.sqrt((places(image) ** 2).sum(-1))), image)
    found = bands.read(folder, ["ball", "other"])
    assert list(found) == ["ball"]
    return bands.of_structure(dose, found["ball"], table.dose_axis(40))


def test_a_band_of_nested_contours(tmp_path):
    result, note = in_a_falling_dose(result_folder(tmp_path / "r"))
    assert note == "" and result.calibrated == "no" and result.level == 0.9
    # the larger the ball, the colder its rim: Dmean = 40 − 3/4 radius, and a dose grid of 1 mm blunts the tip in the middle by 0.03 Gy
    low, high = result.intervals["mean_gy"]
    assert (low, high) == pytest.approx((40 - 0.75 * 11.645, 40 - 0.75 * 8.355), abs=0.08)
    assert result.intervals["volume_ml"] == pytest.approx(tuple(ball([5, 95])), rel=0.05)
    at = int(np.argmin(np.abs(table.dose_axis(40) - 30)))
    # V30 is the share within 10 mm
    assert result.upper[at] == pytest.approx(100, abs=0.5) and result.lower[at] == pytest.approx(100 * (10 / 11.645) ** 3, abs=3)


def test_calibrated_volumes_choose_the_contours(tmp_path):
    """Where the calibrated spread is half of the network's, contours nearer to the middle count."""
    percentiles = [0.5, 1, 2.5, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 97.5, 99, 99.5]
    narrow, _ = in_a_falling_dose(result_folder(tmp_path / "narrow", percentiles, ball(percentiles, 0.5)))
    assert narrow.calibrated == "volume"
    assert narrow.intervals["volume_ml"] == pytest.approx(tuple(ball([5, 95], 0.5)), rel=0.05)
    # twice as wide: there are no such contours, so what there is is not called calibrated
    wide, _ = in_a_falling_dose(result_folder(tmp_path / "wide", percentiles, ball(percentiles, 2.0)))
    assert wide.calibrated == "no"
    few, _ = in_a_falling_dose(result_folder(tmp_path / "few", percentiles, [None] * 5 + list(ball(percentiles[5:-5], 0.5)) + [None] * 5))
    assert few.calibrated == "no" and few.intervals["volume_ml"] == pytest.approx(tuple(ball([5, 95])), rel=0.05)


def test_a_structure_that_may_not_be_there():
    image = grid((12, 12, 12), (2.0,) * 3)
    inside = np.zeros((12, 12, 12))
    inside[4:8, 4:8, 4:8] = 70
    dose = linear_dose(image)
    result, note = bands.of_structure(dose, bands.Distribution(geometry.like(inside, image, np.uint8)), [0.0, 40.0])
    assert result is not None and note.startswith("empty in 30%")
    result, note = bands.of_structure(dose, bands.Distribution(geometry.like(inside * 0.5, image, np.uint8)), [0.0, 40.0])
    assert result is None and "no band" in note


@pytest.mark.parametrize("files,words", [
    (None, "no result folder"), ({"synct": "synct.nii.gz"}, "nothing to make a band of"), ({"inside": {"bladder": "b.nii.gz"}}, "knows none")])
def test_folders_without_a_band(tmp_path, files, words):
    if files is not None:
        (tmp_path / "summary.json").write_text(json.dumps({"files": files}), encoding="utf-8")
    with pytest.raises(InputError, match=words):
        bands.read(tmp_path, ["ball"])

"""Bands of DVHs: sampled doses, nested contours of a result folder, calibrated volumes."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from make_dose import ball, grid, linear_dose, places, result_folder

from rtuncertainty.core import geometry
from rtuncertainty.core.errors import InputError
from rtuncertainty.core.segmentation_file import with_segments
from rtuncertainty.dose import bands, dvh, table
from rtuncertainty.dose.job import dvh_to_files
from rtuncertainty.dose.nested import NestedContours
from rtuncertainty.dose.structure_region import MaskRegion
from rtuncertainty.results import Result


def test_a_band_of_doses_is_that_of_their_scale():
    dose = linear_dose(grid((10, 10, 10), (2, 2, 2)))
    region = MaskRegion(geometry.like(places(dose)[..., 0] > 5, dose, np.uint8))
    factors = np.random.default_rng(0).normal(1, 0.02, 41)
    members = [dvh.of_region(dose * float(f), region) for f in factors]
    found = bands.band(members, table.dose_axis(60), 0.9)
    plain = dvh.of_region(dose, region)
    for column, number in table.numbers(plain).items():
        if column.endswith("_gy"):
            assert found.intervals[column] == pytest.approx(
                tuple(number * np.quantile(factors, [0.05, 0.95], method="hazen")), rel=1e-5
            )
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
    # the larger the ball, the colder its rim: Dmean = 40 − 3/4 radius, and a dose grid of 1 mm blunts the tip in the
    # middle by 0.03 Gy
    low, high = result.intervals["mean_gy"]
    assert (low, high) == pytest.approx((40 - 0.75 * 11.645, 40 - 0.75 * 8.355), abs=0.08)
    assert result.intervals["volume_ml"] == pytest.approx(tuple(ball([5, 95])), rel=0.05)
    at = int(np.argmin(np.abs(table.dose_axis(40) - 30)))
    # V30 is the share within 10 mm
    assert result.upper[at] == pytest.approx(100, abs=0.5) and result.lower[at] == pytest.approx(
        100 * (10 / 11.645) ** 3, abs=3
    )


PERCENTILES = [0.5, 1, 2.5, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 97.5, 99, 99.5]


def test_calibrated_volumes_choose_the_contours(tmp_path):
    """The band is that of the calibrated volumes, be they narrower or wider than the network's, to the last voxel."""
    for sd in (0.5, 1.0, 2.0):
        found, note = in_a_falling_dose(result_folder(tmp_path / f"{sd}", PERCENTILES, ball(PERCENTILES, sd)))
        assert found.calibrated == "volume" and ("grow and shrink evenly" in note) == (sd == 2.0)
        assert found.intervals["volume_ml"] == pytest.approx(tuple(ball([5, 95], sd)), rel=1e-4)
        # Dmean = 40 − 3/4 radius
        radii = 10 + sd * 1.64485 * np.array([1, -1])
        assert found.intervals["mean_gy"] == pytest.approx(tuple(40 - 0.75 * radii), abs=0.1)


def test_uncalibrated_tails_are_not_called_calibrated(tmp_path):
    """Without calibrated volumes at both ends of the band, the network's own contours stand."""
    # just as far as the ends of the band is far enough
    enough, _ = in_a_falling_dose(
        result_folder(tmp_path / "enough", PERCENTILES, [None] * 3 + list(ball(PERCENTILES[3:-3], 0.5)) + [None] * 3)
    )
    assert enough.calibrated == "volume" and enough.intervals["volume_ml"] == pytest.approx(
        tuple(ball([5, 95], 0.5)), rel=1e-4
    )
    few, _ = in_a_falling_dose(
        result_folder(tmp_path / "few", PERCENTILES, [None] * 5 + list(ball(PERCENTILES[5:-5], 0.5)) + [None] * 5)
    )
    assert few.calibrated == "no" and few.intervals["volume_ml"] == pytest.approx(tuple(ball([5, 95])), rel=0.05)
    # nor where there is no room for the largest: 36³ voxels of 0.8 mm hold 24 ml
    large, _ = in_a_falling_dose(result_folder(tmp_path / "large", PERCENTILES, [v * 6 for v in ball(PERCENTILES)]))
    assert large.calibrated == "no"


def test_known_shells_in_a_linear_dose(tmp_path):
    """Shells of 1 mm, each of 10 %, in 1 Gy a mm: D98 and D2 of a ball are those of its caps, and calibration moves
    them by the radius.
    """
    image = grid((60, 60, 60), (0.7,) * 3, (-20.65, -20.65, -20.65))
    radius = np.sqrt((places(image) ** 2).sum(-1))
    inside = geometry.like(np.clip(100 - 10 * np.floor(radius - 8), 0, 100) * (radius < 18), image, np.uint8)
    dose = linear_dose(grid((45, 45, 45), (1.0,) * 3, (-22, -22, -22)))
    wanted = np.interp(PERCENTILES, [0, 100], [11.0, 14.0])
    volumes_ml = tuple(4 / 3 * np.pi * wanted**3 / 1000)
    found, _ = bands.of_structure(dose, bands.Distribution(inside, tuple(PERCENTILES), volumes_ml), [0.0, 30.0])
    # height of the cap that holds 2 % of a ball, in radii
    height = next(r.real for r in np.roots([1, 0, -3, 2 - 4 * 0.02]) if 0 < r.real < 1)
    low, high = np.interp([5, 95], [0, 100], [11.0, 14.0])
    assert found.intervals["d98_gy"] == pytest.approx((30 - height * high, 30 - height * low), abs=0.15)
    assert found.intervals["d2_gy"] == pytest.approx((30 + height * low, 30 + height * high), abs=0.15)
    assert found.intervals["d50_gy"] == pytest.approx((30, 30), abs=0.02) and found.calibrated == "volume"


@pytest.mark.parametrize("spacing", [(0.8, 0.8, 0.8), (1.0, 1.0, 3.0)])
def test_a_nested_contour_of_every_volume(spacing):
    """Exact volumes, each contour within the next, from less than the sure core to more than all that was sampled."""
    size = [int(44 / s) for s in spacing]
    image = grid(size, spacing, [-(n - 1) / 2 * s for n, s in zip(size, spacing)])
    radius = np.sqrt((places(image) ** 2).sum(-1))
    inside = geometry.like(np.clip(np.round(100 * (14 - radius) / 6), 0, 100), image, np.uint8)
    wanted = np.array([0.2, 1.0, 2.2, 4.0, 8.0, 11.4, 14.0])
    nested = NestedContours(inside, wanted[-1])
    assert nested.least_ml > wanted[1] and nested.most_ml < wanted[-1] <= nested.room_ml
    before = np.zeros(radius.shape)
    for ml in wanted:
        region = nested.of_volume(ml)
        assert region.volume_ml == pytest.approx(ml, rel=1e-5)
        weight = region.fraction(image)
        assert weight.sum() * np.prod(spacing) / 1000 == pytest.approx(ml, rel=1e-4) and (weight >= before - 1e-6).all()
        # of a ball every contour is a ball, and lies as it does
        r = (3000 * ml / (4 * np.pi)) ** (1 / 3)
        off = max(spacing)
        assert (weight[radius < r - off] > 0.999).all() and (weight[radius > r + off] < 1e-3).all()
        assert (weight[..., None] * places(image)).sum((0, 1, 2)) / weight.sum() == pytest.approx([0, 0, 0], abs=0.02)
        before = weight
    assert nested.of_volume(0).empty
    with pytest.raises(ValueError, match="no room"):
        nested.of_volume(1000)
    nowhere = NestedContours(inside * 0)
    assert nowhere.room_ml == 0 and nowhere.most_ml == 0


def test_a_structure_that_may_not_be_there():
    image = grid((12, 12, 12), (2.0,) * 3)
    inside = np.zeros((12, 12, 12))
    inside[4:8, 4:8, 4:8] = 70
    dose = linear_dose(image)
    result, note = bands.of_structure(dose, bands.Distribution(geometry.like(inside, image, np.uint8)), [0.0, 40.0])
    assert result is not None and note.startswith("empty in 30%")
    result, note = bands.of_structure(
        dose, bands.Distribution(geometry.like(inside * 0.5, image, np.uint8)), [0.0, 40.0]
    )
    assert result is None and "no band" in note


@pytest.mark.parametrize("shift, noted", [(0, False), (2, False), (20, True)])
def test_a_band_of_another_contour_is_noted(tmp_path, shift, noted):
    """A planning structure beside the distribution of the daily contour: its dose may lie outside of the band."""
    image = grid((57, 33, 33), (1.0,) * 3, (-16, -16, -16))
    x, y, z = np.moveaxis(places(image), -1, 0)
    sitk.WriteImage(geometry.like(60 - x, image), str(tmp_path / "dose.nrrd"))
    moved = geometry.like(((x - shift) ** 2 + y**2 + z**2) < 100, image, np.uint8)
    sitk.WriteImage(moved, str(tmp_path / "s.nii.gz"))
    (tmp_path / "s.json").write_text('{"ball": 1}', encoding="utf-8")
    folder, told = result_folder(tmp_path / "r"), []
    table, _ = dvh_to_files(
        tmp_path / "dose.nrrd", tmp_path / "s.nii.gz", tmp_path / "o.csv", band_folder=folder, note=told.append
    )
    assert ("its band is of other contours" in table.read_text(encoding="utf-8")) == noted
    assert any("structures.seg.nrrd" in note for note in told) == noted


@pytest.mark.parametrize(
    "files,words",
    [
        (None, "no result folder"),
        ({"synct": "synct.nii.gz"}, "nothing to make a band of"),
        ({"inside": {"bladder": "b.nii.gz"}}, "knows none"),
    ],
)
def test_folders_without_a_band(tmp_path, files, words):
    if files is not None:
        (tmp_path / "summary.json").write_text(json.dumps({"files": files}), encoding="utf-8")
    with pytest.raises(InputError, match=words):
        bands.read(tmp_path, ["ball"])


def test_a_band_over_samples_that_were_kept(tmp_path):
    """Balls of five radii as samples: their volumes and mean doses are known, the band goes from the least to the
    most.
    """
    image, radii = grid((33, 33, 33), (1.0,) * 3, (-16, -16, -16)), (7.0, 8.5, 10.0, 11.5, 13.0)
    r = np.sqrt((places(image) ** 2).sum(-1))
    structures = [
        {"name": "ball", "label": 1, "color": [255, 0, 0]},
        {"name": "nothing", "label": 2, "color": [0, 0, 1]},
    ]
    kept = [{"sample_structures": with_segments(geometry.like(r < a, image, np.uint8), structures)} for a in radii]
    Result({"job": "predict"}, {"samples": kept}).write(tmp_path / "r")
    found = bands.read_kept(tmp_path / "r", ["ball", "nothing", "other"])
    assert list(found) == ["ball", "nothing"]
    dose = geometry.like(np.maximum(0, 40 - r), image)
    band, note = bands.of_structure(dose, found["ball"], table.dose_axis(40))
    ends = np.array([radii[0], radii[-1]])
    assert note == "" and band.calibrated == "no"
    assert band.intervals["volume_ml"] == pytest.approx(tuple(4 / 3 * np.pi * ends**3 / 1000), rel=0.06)
    assert band.intervals["mean_gy"] == pytest.approx(tuple((40 - 0.75 * ends)[::-1]), abs=0.1)
    assert bands.of_structure(dose, found["nothing"], table.dose_axis(40))[1].startswith("no band: in 100%")
    Result({"job": "predict"}, {"samples": kept[:1]}).write(tmp_path / "one")
    with pytest.raises(InputError, match="a band needs two"):
        bands.read_kept(tmp_path / "one", ["ball"])
    with pytest.raises(InputError, match="--bands"):
        dvh_to_files(tmp_path / "d.nrrd", tmp_path / "s.nrrd", tmp_path / "o.csv", kept_samples=True)

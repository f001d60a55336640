"""Beyond the field of view, or air that a mask made 0? A digital leg whose field of view is known."""

import re

import numpy as np
import pytest
import SimpleITK as sitk
from make_bundle import make_bundle

from rtuncertainty import predict
from rtuncertainty.core import geometry
from rtuncertainty.prediction import preprocess

SPACING = (1.5, 1.5, 4.0)
Z, Y, X = np.indices((16, 90, 96))


def leg(noise=12.0):
    """(MR, body): a leg that grows thinner upwards, skin over fat over muscle over bone."""
    r, radius = np.hypot((Y - 45) * 1.5, (X - 46) * 1.5), 56 - 1.2 * Z
    values = np.select([r < 8, r < 12, r < radius - 9, r < radius - 2, r < radius], [800, 40, 350, 900, 130], 0)
    spread = np.random.default_rng(0).standard_normal((2, *r.shape)) * noise
    return (np.hypot(values + spread[0], spread[1]) + 1 if noise else values.astype(float)), r < radius


def outside(name):
    """Where there is nothing measured: beyond a face of a turned box, a circle, in empty slices."""
    turned = 0.25 * (Z - 8) * 4.0 + 0.9 * (Y - 45) * 1.5 + 0.3 * (X - 46) * 1.5 > 30
    circle = np.hypot((Y - 45) * 1.5, (X - 46) * 1.5) > 36
    return {"turned": turned, "circle": circle, "slices": Z < 4, "turned and slices": turned | (Z < 4)}[name]


def found(array):
    grid = sitk.Image(array.shape[::-1], sitk.sitkUInt8)
    grid.SetSpacing(SPACING)
    ready = preprocess.preprocess(geometry.like(array, grid), (None,) * 3, "off")
    return np.zeros(array.shape, bool) if ready.not_measured is None else sitk.GetArrayFromImage(ready.not_measured) > 0


@pytest.mark.parametrize(
    "name, air",
    [*((n, a) for n in ("turned", "circle", "slices") for a in ("noise", "zero")), ("turned and slices", "noise")],
)
def test_a_field_of_view_that_cuts_the_leg_is_found(name, air):
    array, body = leg()
    if air == "zero":
        array[~body] = 0
    array[outside(name)] = 0
    seen = found(array)
    missed = outside(name) & body
    assert seen[missed].mean() > 0.97 and seen[~outside(name) & body].mean() < 0.01


def test_air_that_a_mask_made_zero_is_no_cut():
    array, body = leg()
    assert not found(array).any()
    array[~body] = 0
    assert not found(array).any()


def test_a_mask_that_leaves_some_air_around_is_no_cut():
    array, body = leg()
    r = np.hypot((Y - 45) * 1.5, (X - 46) * 1.5)
    array[r > 56 - 1.2 * Z + 8] = 0
    assert not found(array).any()


def test_a_leg_flattened_by_the_table_has_skin_there():
    """Flat over 60 mm, the air made 0: the dark skin tells that the body ends."""
    array, body = leg()
    array[~body | (Y > 45 + 24)] = 0
    array[(Y == 45 + 24) & (array > 0)] = 110
    assert not found(array).any()


def test_a_field_of_view_that_is_wider_than_the_leg_is_no_cut():
    array, body = leg()
    array[np.abs(X - 46) * 1.5 > 62] = 0
    assert not found(array).any()


def test_no_certainty_beyond_the_cut(tmp_path):
    """As `predict` shows it. Before, all of it was -1000 HU with an SD of 0 from 6 mm on, and no flag."""
    array, body = leg()
    array[outside("slices")] = 0
    image = sitk.GetImageFromArray(array.astype(np.float32))
    image.SetSpacing(SPACING)
    found = predict(image, make_bundle(tmp_path / "m"), samples=2, bias_field="off")
    sd, missed = sitk.GetArrayFromImage(found.predictive_sd), outside("slices") & body
    assert (sd[missed] > 700).all()  # 1000 HU times the root of 0.85 exp(-(16/25)^2) at the farthest slice
    flag = next(f for f in found.flags if f.flag == "not measured")
    told = float(re.search(r"about (\d+) ml of them", flag.reason)[1])
    assert told == pytest.approx(missed.sum() * np.prod(SPACING) / 1000, rel=0.4)
    with_air = predict(image[:, :, 4:], make_bundle(tmp_path / "m"), samples=2, bias_field="off")
    assert "not measured" not in [f.flag for f in with_air.flags]

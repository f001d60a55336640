"""Images against the training images of a card: clean ones pass, worse ones score worse, step by step."""

import json
import math

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from rtuncertainty.bundles import input_quality
from rtuncertainty.prediction import preprocess
from training.data.organ_case import OrganCase
from training.data.prepare import input_statistics
from training.studies.volumes import noise

SPACING = (1.5, 1.5, 3.0)


def thigh(seed: int) -> tuple[np.ndarray, np.ndarray, tuple]:
    """Fat about muscles and a bone with walls of other thickness and place in every patient, mild noise; z-scored in
    the body.
    """
    rng = np.random.default_rng(seed)
    z, y, x = np.indices((12, 72, 72)).astype(float)
    y, x = y - 36 + rng.normal(0, 1) - 0.2 * z, x - 36 + rng.normal(0, 1)
    r = np.hypot(y * rng.uniform(0.95, 1.1), x)
    body = r < 30 + 0.2 * z
    image = np.where(body, 8.0, 0.0)
    image[r < rng.uniform(23, 25)] = 4.0
    for angle in rng.uniform(0, 2 * np.pi, 5):
        image[np.abs(x * np.cos(angle) + y * np.sin(angle)) < 0.8] *= 1.3
    bone = np.hypot(y + rng.normal(3, 1), x - rng.normal(4, 1))
    image[bone < 7 + np.sin(z)], image[bone < 4.5] = 0.5, 7.0
    image = ndimage.gaussian_filter(image, (0.3, 0.7, 0.7)) + rng.uniform(0.15, 0.25) * rng.standard_normal(image.shape)
    return normalised(image, body), body, SPACING


def normalised(image, body) -> np.ndarray:
    return ((image - image[body].mean()) / image[body].std()).astype(np.float32)


@pytest.fixture(scope="module")
def stored() -> dict:
    return json.loads(json.dumps(input_statistics.of_images(thigh(k) for k in range(12)), allow_nan=False))


def score(volume, body, stored) -> float:
    return input_quality.score(normalised(volume, body), body, SPACING, stored)


def test_clean_images_of_the_same_kind_pass(stored):
    card = {"input": {"statistics": stored}}
    told = [input_quality.warnings(*thigh(100 + k), card) for k in range(25)]
    assert sum(map(bool, told)) <= 1
    assert max(input_quality.score(*thigh(100 + k), stored) for k in range(25)) < 1.5 * input_quality.limit(12)
    assert input_quality.warnings(*thigh(0), {"input": {}}) == []


@pytest.mark.parametrize("kind", ["noise", "blur", "resolution"])
def test_worse_images_score_worse(stored, kind):
    for seed in (200, 201):
        volume, body, _ = thigh(seed)
        image = sitk.GetImageFromArray(volume - volume.min())
        image.SetSpacing(SPACING)
        worse = [sitk.GetArrayFromImage(noise.degraded(image, kind, a)) for a in (noise.NONE[kind], *noise.STEPS[kind])]
        scores = [score(w, body, stored) for w in worse]
        assert all(a < b for a, b in zip(scores[1:], scores[2:])) and scores[0] < scores[1]
        assert scores[0] < input_quality.limit(12) < scores[-1]
        told = input_quality.warnings(normalised(worse[-1], body), body, SPACING, {"input": {"statistics": stored}})
        assert told and all("12 training images" in t for t in told)
        assert any(("noise" if kind == "noise" else "edges") in t for t in told)


def test_other_intensities_are_told(stored):
    volume, body, spacing = thigh(300)
    other = normalised(np.exp(1.5 * volume), body)  # another contrast altogether
    told = input_quality.warnings(other, body, spacing, {"input": {"statistics": stored}})
    assert any("intensities" in t for t in told)


def test_noise_is_measured_as_it_is():
    """White noise on flat tissue and on a ramp: the estimate is its sd, whatever the slope."""
    rng = np.random.default_rng(0)
    body = np.ones((6, 60, 60), bool)
    ramp = np.broadcast_to(np.linspace(0, 10, 60), body.shape)
    for sd in (0.05, 0.2, 0.5):
        volume = ramp + sd * rng.standard_normal(body.shape)
        contrast = np.subtract(*np.percentile(volume, [95, 5]))
        assert input_quality.statistics(volume, body, SPACING)["noise"] * contrast == pytest.approx(sd, rel=0.06)
    smooth = input_quality.statistics(ramp, body, SPACING)
    assert smooth["noise"] < 1e-4 and smooth["sharpness"] * 9.0 == pytest.approx(10 / 59 / 1.5, rel=0.02)


def test_little_or_no_body():
    volume, nothing = np.zeros((3, 9, 9), np.float32), np.zeros((3, 9, 9), bool)
    assert all(math.isnan(v) for v in input_quality.statistics(volume, nothing, SPACING).values())
    flat = input_quality.statistics(np.zeros((1, 30, 30), np.float32), np.ones((1, 30, 30), bool), SPACING)
    assert flat["noise"] == 0 and math.isnan(flat["sharpness_z"])
    known = input_statistics.of_images(thigh(k) for k in range(4))
    assert input_quality.score(volume, nothing, SPACING, known) == 0.0
    assert input_statistics.of_images([thigh(0), thigh(1)]) is None


def test_what_the_card_stores(stored):
    assert stored["cases"] == 12 and set(stored["measures"]) == set(input_quality.MEASURES)
    assert len(stored["quantiles"]) == len(input_quality.LEVELS) and stored["quantiles"] == sorted(stored["quantiles"])
    for name, m in stored["measures"].items():
        low, high = (input_quality.evened(name, v) for v in m["range"])
        assert low <= m["mean"] <= high
    assert len(json.dumps(stored)) < 1500


def test_no_warning_of_what_a_training_image_had_too(stored):
    volume, body, spacing = thigh(0)
    noisy = volume + 3 * np.random.default_rng(0).standard_normal(volume.shape).astype(np.float32)
    card = {"input": {"statistics": stored}}
    assert any("noise" in w for w in input_quality.warnings(noisy, body, spacing, card))
    # one training image as noisy as this one, which hardly moves the mean
    much = input_quality.measured(noisy, body, spacing, stored)["noise"]
    one = stored | {
        "measures": stored["measures"] | {"noise": stored["measures"]["noise"] | {"range": [0.0, 1.01 * much]}}
    }
    assert not any("noise" in w for w in input_quality.warnings(noisy, body, spacing, {"input": {"statistics": one}}))


def test_prepared_cases_of_every_kind():
    from types import SimpleNamespace

    thighs = [thigh(k) for k in range(4)]
    own = input_statistics.of_cases(SimpleNamespace(mr=v, body=b, spacing=s) for v, b, s in thighs)
    assert own == input_statistics.of_images(thighs)
    # a scan that is cropped to an organ has no body of its own
    assert input_statistics.of_scans(SimpleNamespace(image=v, body=None, spacing=s) for v, _, s in thighs)["cases"] == 4
    assert input_statistics.of_scans(SimpleNamespace(image=v, body=b, spacing=s) for v, b, s in thighs) == own
    hu = [(400 * v, b, s) for v, b, s in thighs]
    about = {"name": "p", "patient": "p", "classes": ["gtv"], "drawn_ml": {}}
    organs = input_statistics.of_organs(
        OrganCase(hu=v, labels=b.astype(np.uint8), body=b, spacing=s, **about) for v, b, s in hu
    )
    pairs = input_statistics.of_pairs(
        SimpleNamespace(patient=f"p{k // 2}", daily=v, body=b, spacing=s) for k, (v, b, s) in enumerate(2 * hu)
    )
    assert organs["cases"] == pairs["cases"] == 4 and abs(organs["quantiles"][9]) < 1


def test_statistics_are_those_of_what_predict_sees():
    """On an MR through the same preprocessing as a prediction's, at another spacing than the training's."""
    volume, body, _ = thigh(400)
    image = sitk.GetImageFromArray(np.where(ndimage.binary_dilation(body), 100 * (volume - volume[body].min()), 0))
    image.SetSpacing(SPACING)
    card = {"name": "m", "input": {"spacing_mm": [1.5, 1.5, None], "normalisation": "z-score in the body"}}
    ready = preprocess.for_card(image, card, "off")
    found = input_quality.statistics(
        sitk.GetArrayViewFromImage(ready.image), sitk.GetArrayViewFromImage(ready.body) > 0, ready.image.GetSpacing()
    )
    own = input_quality.statistics(volume, body, SPACING)
    assert found["noise"] == pytest.approx(own["noise"], rel=0.35) and found["sharpness"] == pytest.approx(
        own["sharpness"], rel=0.3
    )

"""What the edge of the body adds to the standard deviation."""

import numpy as np
import pytest
import SimpleITK as sitk

from rtuncertainty.core import geometry
from rtuncertainty.prediction import preprocess
from rtuncertainty.uncertainty import edge, flags


def half(shape=(4, 30, 60), spacing=(1.0, 1.0, 3.0)):
    body = np.zeros(shape, bool)
    body[:, :, :30] = True
    return body, spacing


def test_q_falls_on_both_sides_of_the_edge_and_not_at_the_image_border():
    body, spacing = half()
    q = edge.probability(body, np.ones(body.shape, bool), spacing)[2, 15]
    assert q[29] == q[30] == pytest.approx(1 / (1 + np.exp(0.5 / edge.SCALE_MM)))
    assert (np.diff(q[30:36]) < 0).all() and (q[30:34] > 0.005).all() and q[45] == 0 and q[0] == 0


def test_q_is_in_millimetres():
    body, _ = half()
    fine, coarse = (edge.probability(body, np.ones(body.shape, bool), (s, s, 3.0))[2, 15] for s in (0.5, 2.0))
    assert (
        fine[30 + 8] > 0.0
        and coarse[30 + 2] == pytest.approx(1 / (1 + np.exp(4.0 / edge.SCALE_MM)), rel=2.0)
        and coarse[34] == 0
    )


def test_where_the_field_of_view_cuts_the_body_it_does_not_end():
    body, spacing = half()
    measured = np.zeros(body.shape, bool)
    measured[:, :, :30] = True
    q = edge.probability(body, measured, spacing)
    assert not q[body].any() and (q[:, :, 30:33] > 0.01).all()


def test_air_by_decree_is_not_certain():
    body, spacing = half()
    uncertain = np.zeros(body.shape, bool)
    uncertain[:, :5, 50:] = True
    q = edge.probability(body, np.ones(body.shape, bool), spacing, uncertain)
    synct, intrinsic, parameter, _ = edge.applied(
        q, body, np.full(body.shape, 40.0), np.full(body.shape, 100.0), np.full(body.shape, 9.0), -1000.0
    )
    assert (synct[~body] == -1000).all() and (synct[body] == 40).all() and not parameter[~body].any()
    assert (
        (intrinsic[uncertain] == edge.UNCERTAIN * edge.STEP_HU**2).all()
        and (intrinsic[body] >= 100).all()
        and intrinsic[0, 20, 55] == 0
    )


def test_a_large_dark_patch_at_the_border_and_a_faint_one_in_air_are_doubtful():
    values = np.where(np.arange(120)[None, None, :] < 60, 500.0, 0.0) * np.ones((6, 100, 1))
    values[:, 20:60, 0:30] = 0  # 12 cm², cut by the border along 4 cm
    values[:, 44:56, 94:106] = 120
    noise = np.random.default_rng(0).standard_normal((2, *values.shape)) * 10
    image = sitk.GetImageFromArray((np.hypot(values + noise[0], noise[1]) + 1).astype(np.float32))
    body, _, uncertain = (
        sitk.GetArrayFromImage(i) > 0 for i in preprocess.regions(geometry.like(sitk.GetArrayFromImage(image), image))
    )
    seen = body | uncertain
    assert (
        seen[:, 25:55, 2:25].mean() > 0.95 and seen[:, 46:54, 96:104].mean() > 0.95 and seen[:, 70:, 70:].mean() < 0.02
    )
    assert flags.of_edge(float(uncertain.sum()) / 1000) and not flags.of_edge(1.0)


def test_beyond_a_cut_nothing_is_certain():
    """The share that stands in the module: 0.85 at the cut, a third of it (1/e) after 25 mm."""
    body = np.zeros((4, 60, 120), bool)
    body[:, 10:50, :40] = True
    beyond = np.zeros(body.shape, bool)
    beyond[:, :, 40:] = True
    q = edge.beyond_cut(body, beyond, (1.0, 1.0, 3.0))[2, 30]
    assert not q[:40].any() and (q[40:90] > 0).all() and (np.diff(q[40:90]) < 0).all()
    assert q[40] == pytest.approx(0.85, rel=0.01) and q[39 + 25] == pytest.approx(0.85 / np.e, rel=1e-4)
    assert not edge.beyond_cut(body, np.zeros(body.shape, bool), (1.0, 1.0, 3.0)).any()
    assert flags.of_not_measured(12.3, 80.0)[0].flag == "not measured" and not flags.of_not_measured(4.0, 80.0)


def test_a_structure_at_the_cut_says_so():
    from rtuncertainty.uncertainty.volumes import Volume

    labelled, beyond = np.zeros((5, 20, 20), bool), np.zeros((5, 20, 20), bool)
    labelled[1:4, 5:15, 5:12] = True
    beyond[:, :, 12:] = True
    volume = Volume("bone", 1.0, float("nan"), float("nan"), 0.9, False)

    def told(outside):
        return [
            f.flag for f in flags.of_structure(volume, labelled, np.ones(labelled.shape, bool), not_measured=outside)
        ]

    assert told(beyond) == ["cut off"] and told(None) == [] == told(np.roll(beyond, 5, 2) & (np.arange(20) > 15))

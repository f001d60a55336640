"""A review of the user's own segmentation and probability volumes."""

import numpy as np
import pytest
import slicer.util
from make_result import image, labels, oblique
from propagation_case import ids, segmentation_node

from rtuncertainty.core.errors import InputError
from rtuncertainty.core.structure_set import Structure
from RTUncertaintyLib import scene as run_scene
from RTUncertaintyLib.headless import scene as headless
from RTUncertaintyLib.mrml.attributes import nodes_by_class
from RTUncertaintyLib.mrml.volumes import add_volume
from RTUncertaintyLib.runs.review_data import ReviewData
from RTUncertaintyLib.runs.spread import Spread


class Own:
    """A CT, a segmentation "Mine" of two structures and their probabilities, blurred by one voxel, in a scene."""

    def __init__(self, scene):
        from scipy import ndimage

        array = labels()
        self.ct = add_volume(scene, image(np.where(array > 0, 300, 40).astype(np.int16), oblique()), "CT")
        masks = {name: array == value for name, value in (("Bone", 1), ("GTV", 2))}
        structures = [
            Structure(n, image(m.astype(np.uint8), oblique()), (200, 80 * i, 60))
            for i, (n, m) in enumerate(masks.items())
        ]
        self.segmentation = segmentation_node(scene, structures, self.ct, "Mine")
        self.arrays = {n: ndimage.gaussian_filter(m.astype(np.float32), 1.0).clip(0, 1) for n, m in masks.items()}
        self.nodes = {
            n: add_volume(scene, image(a, oblique()), f"probability {n.lower()}") for n, a in self.arrays.items()
        }


@pytest.fixture
def own(views):
    return Own(views.scene)


def test_numbers_follow_from_the_probabilities(own, views):
    run = run_scene.review_segmentation(own.segmentation, own.nodes, views.scene)
    data, ml = ReviewData.of_run(run), float(np.prod(own.ct.GetSpacing())) / 1000
    assert (
        data.job == "own"
        and [s.name for s in data.structures] == ["Bone", "GTV"]
        and "never calibrated" in data.notes[0]
    )
    for structure in data.structures:
        p, drawn = np.rint(100 * own.arrays[structure.name]), labels() == {"Bone": 1, "GTV": 2}[structure.name]
        assert structure.volume_ml == pytest.approx(drawn.sum() * ml, rel=1e-4)
        for q, told in ((5, structure.interval(0.9).lower_ml), (95, structure.interval(0.9).upper_ml)):
            assert told == pytest.approx((p > 100 - q).sum() * ml, rel=1e-4)
        dice = [2 * ((p > 100 - q) & drawn).sum() / ((p > 100 - q).sum() + drawn.sum()) for q in np.arange(0.5, 100)]
        assert structure.quality.expected_dice == pytest.approx(np.mean(dice), abs=1e-4)
        assert structure.quality.dice_lower == pytest.approx(np.percentile(dice, 5), abs=1e-4)
        assert not structure.quality.calibrated and 0.3 < structure.quality.surface_entropy < np.log(2)
        volumes = [point.volume_ml for point in structure.distribution]
        assert volumes == sorted(volumes) and volumes[-1] > volumes[0]
    assert data.structure("GTV").color == pytest.approx((200 / 255, 80 / 255, 60 / 255))


def test_shown_reviewed_and_decided_like_any_run(own, views):
    run = run_scene.review_segmentation(own.segmentation, own.nodes, views.scene)
    before = own.segmentation.GetDisplayNode().GetMTime(), own.segmentation.GetSegmentation().GetMTime()
    run_scene.show_run(run, "entropy")
    composites = nodes_by_class(views.scene, "vtkMRMLSliceCompositeNode")
    assert {c.GetBackgroundVolumeID() for c in composites} == {own.ct.GetID()} and run.input is own.ct
    assert {c.GetForegroundVolumeID() for c in composites} == {run.overlays["entropy"].GetID()}
    assert run_scene.review_structure(run, "GTV") is not None and run_scene.show_nested(run, "GTV")
    assert run_scene.uncertain_regions(run, "entropy", 0.3)
    run_scene.decide(run, "GTV", "accepted")
    assert ReviewData.of_run(run).counts()["accepted"] == 1
    assert before == (own.segmentation.GetDisplayNode().GetMTime(), own.segmentation.GetSegmentation().GetMTime()), (
        "the user's own stays as it is"
    )


def test_entropy_is_that_of_structures_and_background(own, views):
    run = run_scene.review_segmentation(own.segmentation, own.nodes, views.scene)
    p = np.stack([*own.arrays.values(), 1 - sum(own.arrays.values())]).clip(1e-7, 1)
    assert np.allclose(slicer.util.arrayFromVolume(run.overlays["entropy"]), -(p * np.log(p)).sum(0), atol=2e-3)


def test_removing_it_leaves_what_is_the_users(own, views):
    before = ids(views.scene)
    run = run_scene.review_segmentation(own.segmentation, own.nodes, views.scene)
    run_scene.show_run(run, "entropy")
    run_scene.show_nested(run, "Bone")
    run_scene.remove_run(run)
    assert ids(views.scene) == before and not run.exists()
    assert {c.GetBackgroundVolumeID() for c in nodes_by_class(views.scene, "vtkMRMLSliceCompositeNode")} == {
        own.ct.GetID()
    }


def test_found_again_in_a_scene_file(own, views, tmp_path):
    run = run_scene.review_segmentation(own.segmentation, own.nodes, views.scene)
    run_scene.decide(run, "Bone", "rejected", "too large")
    assert views.scene.WriteToMRB(str(tmp_path / "s.mrb"))
    holder = headless.new_scene()
    headless.open_scene(holder, tmp_path / "s.mrb")
    (run_id,) = run_scene.find_runs(holder.scene)
    again = run_scene.run_nodes(run_id, holder.scene)
    assert (
        isinstance(again, run_scene.OwnRun) and again.segmentation.GetName() == "Mine" and again.input.GetName() == "CT"
    )
    data = ReviewData.of_run(again)
    assert (
        data.structure("Bone").decision.comment == "too large"
        and data.structures[0].intervals == ReviewData.of_run(run).structures[0].intervals
    )


@pytest.mark.parametrize("factor, dtype", [(1, np.float32), (100, np.uint8), (255, np.uint8)])
def test_scales(own, views, factor, dtype):
    array = np.rint(own.arrays["GTV"] / own.arrays["GTV"].max() * factor) if factor > 1 else own.arrays["GTV"]
    node = add_volume(views.scene, image(array.astype(dtype), oblique()), "p")
    run = run_scene.review_segmentation(own.segmentation, {"GTV": node}, views.scene)
    found = slicer.util.arrayFromVolume(run.inside["GTV"]).max()
    assert found == (100 if factor > 1 else round(100 * own.arrays["GTV"].max()))


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda o, s: {}, "no structure has a probability"),
        (lambda o, s: {"Liver": o.nodes["GTV"]}, "has no structure Liver"),
        (lambda o, s: {"GTV": o.ct}, "so it is no probability"),
        (lambda o, s: {"GTV": s.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")}, "holds no scalar image"),
        (
            lambda o, s: {
                "GTV": o.nodes["GTV"],
                "Bone": add_volume(s, image(o.arrays["Bone"][:, :-1], oblique()), "small"),
            },
            "another grid than probability gtv",
        ),
        (
            lambda o, s: {"GTV": o.nodes["GTV"], "Bone": add_volume(s, image(o.arrays["Bone"], np.eye(3)), "turned")},
            "another grid",
        ),
    ],
)
def test_what_cannot_be_reviewed_is_told_in_one_line(own, views, spoil, words):
    given = spoil(own, views.scene)
    before = ids(views.scene)
    with pytest.raises(InputError, match=words) as error:
        run_scene.review_segmentation(own.segmentation, given, views.scene)
    assert "\n" not in str(error.value) and ids(views.scene) == before


def test_a_transformed_probability_is_refused(own, views):
    transform = views.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    own.nodes["GTV"].SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(InputError, match="another transform"):
        run_scene.review_segmentation(own.segmentation, own.nodes, views.scene)


def test_the_segmentation_is_deleted_meanwhile(own, views):
    run = run_scene.review_segmentation(own.segmentation, own.nodes, views.scene)
    views.scene.RemoveNode(own.segmentation)
    data = ReviewData.of_run(run)
    assert run.exists() and [s.name for s in data.structures] == ["Bone", "GTV"]
    run_scene.show_run(run, "entropy")
    assert (
        run_scene.review_structure(run, "GTV") is not None
        and run_scene.uncertain_regions(run, "entropy", 0.3)[0].place == "outside the structures"
    )


@pytest.mark.parametrize(
    "names, volumes, wanted",
    [
        (
            ["Bladder", "Rectum"],
            ["CT", "probability bladder", "prob_rectum"],
            {"Bladder": "probability bladder", "Rectum": "prob_rectum"},
        ),
        (
            ["Parotid", "Parotid left"],
            ["parotid_left_prob", "parotid prob"],
            {"Parotid": "parotid prob", "Parotid left": "parotid_left_prob"},
        ),
        (["GTV"], ["GTV", "GTV_softmax"], {"GTV": "GTV_softmax"}),
        (["Heart"], ["CT of Heartland", "MR"], {}),
        (["Lung_L", "Lung_R"], ["p(Lung L)", "p(Lung R)", "CT"], {"Lung_L": "p(Lung L)", "Lung_R": "p(Lung R)"}),
        (["?"], ["CT"], {}),
    ],
)
def test_volumes_are_matched_by_name(names, volumes, wanted):
    assert run_scene.match_probabilities(names, volumes) == wanted


def test_spread_of_a_certain_and_of_an_empty_structure():
    drawn = np.zeros((6, 6, 6), bool)
    drawn[1:5, 1:5, 1:5] = True
    sure = Spread(100 * drawn.astype(np.uint8), drawn, 0.5)
    assert (
        sure.interval(0.95) == (32.0, 32.0)
        and sure.dice() == (1.0, 1.0, 1.0)
        and sure.surface_entropy() == pytest.approx(0, abs=1e-4)
    )
    empty = Spread(np.zeros((6, 6, 6), np.uint8), ~drawn & False, 0.5)
    assert (
        empty.volume_ml == 0
        and empty.interval(0.9) == (0.0, 0.0)
        and all(np.isnan(v) for v in (*empty.dice(), empty.surface_entropy()))
    )

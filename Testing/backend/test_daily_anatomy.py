"""A day made from a planning scan: the field is a diffeomorphism, known to SimpleITK and back, and does what was
asked.
"""

import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from rtuncertainty.core.errors import InputError
from rtuncertainty.deformation import jacobian_determinant, jacobian_statistics, transform_points
from rtuncertainty.phantoms import pelvis as phantom_pelvis
from rtuncertainty.phantoms.daily_anatomy import CHANGES, DailyOptions, daily_scan, masks_of, roles_of
from rtuncertainty.phantoms.daily_anatomy import changes as made
from rtuncertainty.phantoms.daily_anatomy.anatomy import Anatomy, supplied_slices
from rtuncertainty.phantoms.daily_anatomy.field import Lattice, flow, follow

DATA = Path(os.environ.get("RTU_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
SPACING = (4.5, 4.5, 6.0)
VOXEL_ML = float(np.prod(SPACING)) / 1000
QUIET = dict(noise_hu=0.0, drift=0.0)
STILL = ("bladder", "rectum", "prostate", "weight", "residual")  # of the pelvis, but for the couch


def array(image):
    return sitk.GetArrayFromImage(image)


@cache
def pelvis(seed=4):
    drawn = phantom_pelvis.digital_pelvis(seed, size=(76, 50, 26), spacing=SPACING, noise=0, bias=0, ct_noise=0)
    return drawn.ct, masks_of(drawn.labels, {n: v for n, v in phantom_pelvis.LABELS.items() if v})


def day(seed=0, man=4, **options):
    ct, masks = pelvis(man)
    return daily_scan(ct, masks, seed, DailyOptions(**{**QUIET, **options}))


@cache
def full_day(seed, man=4):
    return day(seed, man)


def determinant(field, mask=None):
    return jacobian_statistics(jacobian_determinant(field), mask)


def there_and_back(scan, planning):
    """Voxels by which a planning point misses itself after the inverse and then the field, where the day shows it."""
    start = Lattice.of(planning).points().reshape(-1, 3).astype(float)
    daily = start + array(scan.inverse).reshape(-1, 3)
    shown = Lattice.of(scan.ct).inside(daily.astype(np.float32))
    back = transform_points(scan.displacement, daily[shown])
    assert shown.mean() > 0.3
    return np.abs((back - start[shown]) @ np.linalg.inv(Lattice.of(planning).matrix).T).max()


# ------------------------------------------------------------------ flows
def linear_velocity(matrix, size=24):
    """The velocity A x on a cube of voxels about the middle."""
    lattice = Lattice((size, size, size), np.full(3, -(size - 1) / 2), np.eye(3))
    return lattice, lattice.points(), lattice.voxels(lattice.points() @ np.float32(matrix).T)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(-0.3, 0.3), min_size=9, max_size=9))
def test_the_flow_of_a_linear_velocity_is_the_matrix_exponential(values):
    matrix = np.array(values).reshape(3, 3)
    lattice, points, velocity = linear_velocity(matrix)
    wanted = points @ expm(matrix).T
    inner = (np.abs(points) < 4).all(-1)
    assert np.abs(points + lattice.millimetres(flow(velocity)) - wanted)[inner].max() < 0.05
    start = torch.from_numpy(np.argwhere(inner)[:, ::-1].astype(np.float32))
    moved, growth = follow(velocity, start)
    assert np.abs(moved.numpy() + lattice.first - wanted[inner]).max() < 1e-3
    assert np.allclose(growth.numpy(), np.exp(np.trace(matrix)), rtol=1e-3)


def test_single_points_go_where_the_whole_flow_takes_them():
    anatomy = Anatomy(*arrays(pelvis()))
    velocity = anatomy.lattice.voxels(made.residual(anatomy, 3.0, np.random.default_rng(0)))
    whole = flow(velocity)
    index = np.argwhere(anatomy.mask("prostate"))
    moved, growth = follow(velocity, torch.from_numpy(index[:, ::-1].astype(np.float32)))
    found = whole[0].numpy()[:, index[:, 0], index[:, 1], index[:, 2]].T
    assert np.abs(moved.numpy() - index[:, ::-1] - found).max() < 0.02
    expected = array(jacobian_determinant(anatomy.lattice.image(anatomy.lattice.millimetres(whole))))[tuple(index.T)]
    assert np.abs(growth.numpy() - expected).max() < 0.03


def arrays(case):
    ct, masks = case
    return ct, {n: array(m) > 0 for n, m in masks.items()}


@settings(max_examples=15, deadline=None)
@given(st.tuples(*[st.floats(-3, 3)] * 3), st.tuples(*[st.floats(0.5, 6)] * 3), st.tuples(*[st.floats(-500, 500)] * 3))
def test_a_lattice_knows_where_its_voxels_are(turn, spacing, origin):
    image = sitk.Image([5, 4, 3], sitk.sitkUInt8)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(Rotation.from_rotvec(turn).as_matrix().ravel())
    lattice = Lattice.of(image)
    assert np.allclose(lattice.points()[2, 1, 4], image.TransformIndexToPhysicalPoint((4, 1, 2)), atol=1e-3)
    assert np.allclose(lattice.index(lattice.points()), np.moveaxis(np.indices((3, 4, 5))[::-1], 0, -1), atol=2e-3)
    block = lattice.around((2, 2, 2), (2, 3, 1))
    inner = np.mean([image.TransformContinuousIndexToPhysicalPoint(p) for p in ((-2, -2, -2), (-1, 0, -2))], axis=0)
    assert block.shape == (7, 3, 5) and np.allclose(block.first, inner, atol=1e-3)


# ------------------------------------------------------------------ the whole
@pytest.mark.parametrize("man, seed", [(4, 1), (11, 2)])
def test_a_day_is_a_diffeomorphism_that_leaves_bones_as_they_are(man, seed):
    scan = full_day(seed, man)
    whole = determinant(scan.displacement)
    assert whole.folding_fraction == 0 and whole.minimum > 0.2
    assert determinant(scan.inverse).minimum > 0.2
    bone = np.logical_or.reduce(
        [array(scan.structures[n]) > 0 for n in ("bone", "femoral_head_left", "femoral_head_right")]
    )
    assert determinant(scan.displacement, bone).sd < 0.02
    assert determinant(scan.displacement, array(scan.structures["prostate"]) > 0).sd < 0.06
    assert there_and_back(scan, pelvis(man)[0]) < 0.1
    assert scan.description["tempered"] == 1 and set(scan.description["asked"]) == set(CHANGES) - {"parotids", "neck"}


def test_too_much_is_tempered_and_not_torn():
    scan = day(3, severity=4.0)
    assert scan.description["tempered"] < 1
    assert min(determinant(scan.displacement).minimum, determinant(scan.inverse).minimum) > 0.2
    assert there_and_back(scan, pelvis()[0]) < 0.1


def test_simpleitk_makes_the_same_day_of_the_field():
    scan = day(5, changes=STILL + ("couch", "field_of_view"))
    ct, masks = pelvis()
    transform = sitk.DisplacementFieldTransform(sitk.Image(scan.displacement))
    assert sitk.GetArrayViewFromImage(scan.displacement).any()
    expected = sitk.Resample(sitk.Cast(ct, sitk.sitkFloat64), scan.ct, transform, sitk.sitkLinear, -1024.0)
    difference = np.abs(array(expected) - array(scan.ct))
    # a voxel at the very face of the field of view may be inside for one and outside for the other
    assert np.quantile(difference, 0.9999) <= 0.51 and (difference > 1).mean() < 1e-4
    for name, mask in masks.items():
        again = sitk.Resample(sitk.Cast(mask, sitk.sitkFloat64), scan.ct, transform, sitk.sitkLinear, 0.0)
        assert (array(again) > 0.5).sum() > 100
        assert ((array(again) > 0.5) != (array(scan.structures[name]) > 0)).mean() < 1e-5


def test_no_severity_is_the_planning_scan_with_noise():
    scan = day(7, severity=0.0)
    ct, masks = pelvis()
    assert not array(scan.displacement).any() and not array(scan.inverse).any() and not array(scan.refilled).any()
    assert np.array_equal(array(scan.ct), array(ct)) and scan.ct.GetOrigin() == ct.GetOrigin()
    assert (
        all(np.array_equal(array(scan.structures[n]), array(m)) for n, m in masks.items()) and array(scan.known).all()
    )
    first, again = (
        array(day(7, severity=0.0, noise_hu=20.0, changes=()).ct).astype(float) - array(ct) for _ in range(2)
    )
    body = array(scan.body) > 0
    assert 18 < first[body].std() < 22 and abs(first[body].mean()) < 0.5 and np.array_equal(first, again)


def test_a_seed_is_one_day():
    first, again, other = full_day(1), day(1), day(2, changes=STILL)
    for name in ("ct", "displacement", "inverse", "body", "known", "refilled"):
        assert np.array_equal(array(getattr(first, name)), array(getattr(again, name))), name
    assert first.description == again.description and json.loads(json.dumps(first.description)) == first.description
    assert all(first.description["asked"][c] != other.description["asked"][c] for c in STILL)
    # what is drawn for one change does not depend on the others
    alone = day(1, changes=("prostate",))
    assert alone.description["asked"]["prostate"] == first.description["asked"]["prostate"]


# ------------------------------------------------------------------ what was asked for
@pytest.mark.parametrize("bladder, rectum", [(1.5, 0.75), (0.55, 1.3)])
def test_volumes_come_out_as_asked(bladder, rectum):
    scan = day(2, changes=STILL, amounts={"bladder": bladder, "rectum": rectum})
    for name, ratio in (("bladder", bladder), ("rectum", rectum)):
        before, after = (float(array(m[name]).sum()) for m in (pelvis()[1], scan.structures))
        assert after / before == pytest.approx(ratio, rel=0.1)
        told = scan.description["volumes_ml"][name]
        assert told[0] == pytest.approx(before * VOXEL_ML) and told[1] / told[0] == pytest.approx(ratio, rel=0.02)
    kept = determinant(scan.inverse, array(pelvis()[1]["prostate"]) > 0)
    assert kept.mean == pytest.approx(1, abs=0.1)


def test_a_fuller_bladder_rises_and_its_base_stays():
    scan = day(0, changes=("bladder",), amounts={"bladder": 1.6})
    grown, before = (np.argwhere(array(m["bladder"])) for m in (scan.structures, pelvis()[1]))
    assert grown[:, 0].max() - before[:, 0].max() >= 1 and abs(grown[:, 0].min() - before[:, 0].min()) <= 1


def test_the_prostate_moves_and_keeps_its_shape():
    scan = day(0, changes=("prostate",), amounts={"prostate": (1.0, -5.0, 4.0)})
    assert scan.description["shifts_mm"]["prostate"] == pytest.approx((1, -5, 4), abs=1.0)
    middle = [np.argwhere(array(m["prostate"])).mean(0)[::-1] * SPACING for m in (scan.structures, pelvis()[1])]
    assert middle[0] - middle[1] == pytest.approx(
        scan.description["shifts_mm"]["prostate"], abs=2.0
    )  # in voxels of 6 mm
    assert determinant(scan.displacement, array(scan.structures["prostate"]) > 0).sd < 0.035


def test_the_skin_moves_by_the_weight_lost():
    scan = day(0, changes=("weight",), amounts={"weight": 5.0})
    assert scan.description["skin_mm"] == pytest.approx(5.0, rel=0.12)
    ct = pelvis()[0]
    lost = np.count_nonzero(array(ct) > -300) - np.count_nonzero(array(scan.ct) > -300)
    back, front = (np.argwhere((array(i) > -300)[13, :, 38])[:, 0] for i in (ct, scan.ct))
    assert (
        lost > 0.03 * np.count_nonzero(array(ct) > -300)
        and front.min() > back.min()
        and abs(front.max() - back.max()) <= 1
    )


def test_the_couch_is_the_rigid_transform_of_simpleitk():
    shift, turn = (4.0, -7.0, 11.0), (2.0, -1.0, 3.0)
    ct = pelvis()[0]
    scan = day(0, changes=("couch",), amounts={"couch": {"shift_mm": shift, "turn_degrees": turn}})
    anatomy = Anatomy(*arrays(pelvis()))
    rigid = sitk.Euler3DTransform(anatomy.points[anatomy.body].mean(0).astype(float).tolist(), *np.deg2rad(turn), shift)
    rigid.SetComputeZYX(True)
    expected = sitk.TransformToDisplacementField(
        rigid.GetInverse(), sitk.sitkVectorFloat64, ct.GetSize(), ct.GetOrigin(), ct.GetSpacing()
    )
    assert np.linalg.norm(array(scan.displacement) - array(expected), axis=-1).max() < 0.01
    expected = sitk.TransformToDisplacementField(
        rigid, sitk.sitkVectorFloat64, ct.GetSize(), ct.GetOrigin(), ct.GetSpacing()
    )
    assert np.linalg.norm(array(scan.inverse) - array(expected), axis=-1).max() < 0.02


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_gas_comes_and_goes_and_moves_nothing(share):
    rectum = array(pelvis()[1]["rectum"]) > 0
    scan = day(0, changes=("rectal_gas",), amounts={"rectal_gas": share})
    assert not array(scan.displacement).any()
    before, after = (np.clip((30 - array(i).astype(float)) / 990, 0, 1)[rectum] for i in (pelvis()[0], scan.ct))
    assert after.mean() == pytest.approx(share, abs=0.02) and abs(before.mean() - share) > 0.03
    assert scan.description["rectal_gas_ml"][1] == pytest.approx(share * rectum.sum() * VOXEL_ML, rel=0.02, abs=0.01)
    change, refilled = np.abs(array(scan.ct) - array(pelvis()[0])), array(scan.refilled) > 0
    assert refilled.any() and (change[refilled] >= 49).all() and (change[~refilled] <= 51).all()
    if share:  # it lies in front
        gas = np.argwhere((array(scan.ct) < -600) & rectum)
        assert (
            len(gas) > 20
            and gas[:, 1].mean() < np.argwhere(rectum & np.isin(np.arange(26), gas[:, 0])[:, None, None])[:, 1].mean()
        )


# ------------------------------------------------------------------ geometry
EXACT = dict(changes=("bladder", "prostate"), amounts={"bladder": 1.4, "prostate": (0.5, -3.0, 2.0)})


@cache
def plain_day():
    return day(0, **EXACT)


def test_the_order_of_the_axes_does_not_matter():
    ct, masks = pelvis()

    def turned(image):
        return sitk.Flip(sitk.PermuteAxes(image, (1, 2, 0)), (True, False, True))

    plain = plain_day()
    scan = daily_scan(turned(ct), {n: turned(m) for n, m in masks.items()}, 0, DailyOptions(**QUIET, **EXACT))
    back = sitk.DICOMOrient(scan.displacement, "LPS")
    assert back.GetOrigin() == pytest.approx(plain.displacement.GetOrigin()) and array(plain.displacement).any()
    assert np.abs(array(back) - array(plain.displacement)).max() < 0.1


def test_an_oblique_anisotropic_grid_gives_the_same_anatomy():
    ct, masks = pelvis()
    turn = Rotation.from_euler("xyz", (12, -8, 15), degrees=True).as_matrix()
    oblique = sitk.Image([64, 120, 34], sitk.sitkUInt8)
    oblique.SetSpacing((5.2, 2.0, 5.5))
    oblique.SetDirection(turn.ravel())
    middle = np.array(oblique.TransformContinuousIndexToPhysicalPoint([31.5, 59.5, 16.5]))
    oblique.SetOrigin((-middle).tolist())
    turned = sitk.Resample(ct, oblique, sitk.Transform(), sitk.sitkLinear, -1000)
    there = {n: sitk.Resample(m, oblique, sitk.Transform(), sitk.sitkNearestNeighbor) for n, m in masks.items()}
    plain = plain_day()
    scan = daily_scan(turned, there, 0, DailyOptions(**QUIET, **EXACT))
    assert determinant(scan.displacement).minimum > 0.2 and there_and_back(scan, turned) < 0.1
    inside = np.argwhere(array(plain.structures["bladder"]) + array(plain.structures["prostate"]))
    points = Lattice.of(ct).points()[tuple(inside.T)].astype(float)
    moved, expected = (
        transform_points(scan.displacement, points) - points,
        transform_points(plain.displacement, points) - points,
    )
    assert np.abs(expected).max() > 4 and np.linalg.norm(moved - expected, axis=1).mean() < 0.5
    assert scan.description["volumes_ml"]["bladder"][1] == pytest.approx(
        plain.description["volumes_ml"]["bladder"][1], rel=0.05
    )


def test_a_grid_can_be_given_and_what_lies_beyond_is_unknown():
    ct, masks = pelvis()
    grid = sitk.Image([40, 30, 22], sitk.sitkUInt8)
    grid.SetSpacing((7, 7, 6))
    grid.SetOrigin((-140, -100, 0))
    scan = day(0, grid=grid)
    assert scan.ct.GetSize() == grid.GetSize() and scan.ct.GetPixelID() == sitk.sitkInt16
    planning = transform_points(scan.displacement, Lattice.of(grid).points().reshape(-1, 3))
    index = Lattice.of(ct).index(planning.astype(np.float32))
    outside = ((index < -0.51) | (index > np.array(ct.GetSize()) - 0.49)).any(1).reshape(22, 30, 40)
    assert (
        0.1 < outside.mean() < 0.9 and not array(scan.known)[outside].any() and (array(scan.ct)[outside] == -1024).all()
    )
    assert not array(scan.body)[outside].any() and array(scan.known)[~outside].mean() > 0.9


def test_blanked_slices_are_unknown_and_no_skin():
    ct, masks = pelvis()
    blanked = array(ct)
    blanked[:5] = blanked[22:] = -1024
    assert np.array_equal(np.flatnonzero(supplied_slices(blanked, SPACING)), np.arange(5, 22))
    image = sitk.GetImageFromArray(blanked)
    image.CopyInformation(ct)
    scan = daily_scan(image, masks, 0, DailyOptions(**QUIET, changes=("weight",), amounts={"weight": 5.0}))
    assert not array(scan.known)[[0, 3, 23, 25]].any() and array(scan.known)[6:21, 10:40, 10:66].all()
    # what is left of the body moves as if nothing were cut off
    whole = day(0, changes=("weight",), amounts={"weight": 5.0})
    body = array(scan.body) > 0
    error = np.linalg.norm(array(scan.displacement) - array(whole.displacement), axis=-1)[body]
    assert error.mean() < 0.4 and error.max() < 3 and np.linalg.norm(array(whole.displacement), axis=-1)[body].max() > 5


@pytest.mark.parametrize("thickness", [1.0, 2.5, 5.0])
def test_a_head_that_ends_by_itself_is_not_cut(thickness):
    for start in np.linspace(0, 1, 6):
        z, y, x = np.meshgrid(
            thickness * (start + np.arange(-5, 110 / thickness)),
            np.arange(-96, 97, 4),
            np.arange(-96, 97, 4),
            indexing="ij",
        )
        assert supplied_slices(np.where(z * z + y * y + x * x < 85**2, 0, -1024), (4, 4, thickness)).all()


def test_a_scan_of_floats_stays_one():
    ct, masks = pelvis()
    scan = daily_scan(sitk.Cast(ct, sitk.sitkFloat32), masks, 0, DailyOptions(**QUIET, changes=("residual",)))
    assert scan.ct.GetPixelID() == sitk.sitkFloat32 and (array(scan.ct) % 1 != 0).any()


# ------------------------------------------------------------------ names and mistakes
def test_names_tell_what_a_structure_is():
    found = roles_of(
        [
            "Bladder",
            "Rectum",
            "Prostate",
            "PTV_Prostate",
            "Bladder_wall",
            "FemoralHead_L",
            "Parotid_R",
            "LeftParotid",
            "SpinalCord",
        ]
    )
    assert found == {
        "bladder": ["Bladder"],
        "rectum": ["Rectum"],
        "prostate": ["Prostate"],
        "parotid": ["Parotid_R", "LeftParotid"],
        "cord": ["SpinalCord"],
        "bone": ["FemoralHead_L"],
    }


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(severity=-1), "severity"),
        (dict(noise_hu=float("nan")), "noise_hu"),
        (dict(changes=("neck",)), "possible are"),
        (dict(amounts={"parotids": {}}), "can be given for"),
        (dict(amounts={"bladder": 40}), "0.3 to 3"),
        (dict(amounts={"prostate": (1, 2)}), "form of"),
        (dict(amounts={"couch": 3}), "form of"),
        (dict(amounts={"rectal_gas": "much"}), "gas"),
        (dict(amounts={"couch": {"shift_mm": (0, 0, float("nan")), "turn_degrees": (0, 0, 0)}}), "shift_mm from"),
    ],
)
def test_options_that_cannot_be(options, words):
    with pytest.raises(InputError, match=words):
        day(**options)


def test_images_that_do_not_fit():
    ct, masks = pelvis()
    with pytest.raises(InputError, match="'bladder'.*resample"):
        daily_scan(ct, {"bladder": masks["bladder"][1:]})
    with pytest.raises(InputError, match="no body"):
        daily_scan(ct * 0 - 1000, {})
    with pytest.raises(InputError, match="at least 8"):
        daily_scan(ct[:, :, :4], {})


# ------------------------------------------------------------------ head and neck
@cache
def head(name="train/pt_16"):
    folder = DATA / "openkbp_hn" / name
    if not folder.is_dir() and os.environ.get("CI") != "true":
        pytest.skip(f"{folder} is not there: set RTU_DATA to the folder with the data sets")
    bits = json.loads((DATA / "openkbp_hn" / "structure_bits.json").read_text(encoding="utf-8"))
    drawn = sitk.ReadImage(str(folder / "structures_bits.nii.gz"), sitk.sitkUInt16)
    masks = {n: sitk.NotEqual(sitk.And(drawn, 1 << b), 0) for n, b in bits.items()}
    return sitk.ReadImage(str(folder / "ct.nii.gz")), {n: m for n, m in masks.items() if array(m).any()}


@pytest.mark.parametrize("seed", [1])
def test_a_head_of_openkbp(seed):
    ct, masks = head()
    scan = daily_scan(ct, masks, seed, DailyOptions(**QUIET))
    assert scan.description["tempered"] == 1 and set(scan.description["asked"]) >= {
        "parotids",
        "neck",
        "weight",
        "couch",
    }
    whole = determinant(scan.displacement)
    assert whole.folding_fraction == 0 and whole.minimum > 0.2 and there_and_back(scan, ct) < 0.1
    bone = (array(scan.ct) > 350) & (array(scan.body) > 0)
    assert bone.sum() > 1000 and determinant(scan.displacement, bone).sd < 0.04
    size = float(np.prod(scan.ct.GetSpacing()) / np.prod(ct.GetSpacing()))
    for name, asked in scan.description["asked"]["parotids"].items():
        ratio = asked["ratio"]
        before, after = scan.description["volumes_ml"][name]
        assert after / before == pytest.approx(ratio, rel=0.03)
        assert array(scan.structures[name]).sum() * size / array(masks[name]).sum() == pytest.approx(ratio, rel=0.1)
    # the blanked part of this scan stays unknown
    assert array(scan.known).mean() < 0.8 and (array(scan.body) <= array(scan.known)).all()


def test_the_neck_bends_as_a_chain_and_the_head_moves_as_one():
    ct, masks = head()
    degrees = (6.0, 0.0, 0.0)
    scan = daily_scan(ct, masks, 0, DailyOptions(**QUIET, changes=("neck",), amounts={"neck": degrees}, grid=ct))
    jaw = np.argwhere(array(masks["Mandible"]))
    assert determinant(scan.inverse, array(masks["Mandible"]) > 0).sd < 0.01
    before = Lattice.of(ct).points()[tuple(jaw.T)].astype(float)
    after = before + array(scan.inverse)[tuple(jaw.T)]
    turn, _ = Rotation.align_vectors(after - after.mean(0), before - before.mean(0))
    # half of the angle is above the middle of the neck; chin to chest is a turn about x
    assert np.rad2deg(turn.as_rotvec()) == pytest.approx((3, 0, 0), abs=0.15)
    assert np.abs(turn.apply(before - before.mean(0)) + after.mean(0) - after).max() < 0.5
    cord = array(masks["SpinalCord"]) > 0
    assert determinant(scan.inverse, cord).sd < 0.03
    chin = before[:, 1].argmin()
    assert after[chin, 2] < before[chin, 2]


def test_parotids_shrink_and_come_nearer():
    ct, masks = head()
    asked = {n: {"ratio": 0.75, "medial_mm": 2.5} for n in ("LeftParotid", "RightParotid")}
    scan = daily_scan(ct, masks, 0, DailyOptions(**QUIET, changes=("parotids",), grid=ct, amounts={"parotids": asked}))
    shifts = scan.description["shifts_mm"]
    assert -3 < shifts["LeftParotid"][0] < -1 and 1 < shifts["RightParotid"][0] < 3
    for name in shifts:
        before, after = scan.description["volumes_ml"][name]
        assert after / before == pytest.approx(0.75, rel=0.03)
        assert array(scan.structures[name]).sum() / array(masks[name]).sum() == pytest.approx(0.75, rel=0.1)

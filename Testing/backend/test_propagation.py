"""From two CTs and structures to contours on the daily scan: with a network that has learnt nothing, on a patient
whose motion is known.
"""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk
from make_pair import SPACING, image, make_patient, make_propagation_bundle

import rtuncertainty
from rtuncertainty.cli import command_line
from rtuncertainty.core import ct as body
from rtuncertainty.core import structure_set, surfaces
from rtuncertainty.core.errors import Cancelled, InputError
from rtuncertainty.core.events import CancelToken
from rtuncertainty.jobs.propagation import propagate_to_folder
from rtuncertainty.propagation import agreement, rigid


@pytest.fixture(scope="module")
def patient():
    return make_patient()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_propagation_bundle(tmp_path_factory.mktemp("model") / "test-propagation")


@pytest.fixture(scope="module")
def files(patient, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    planning, masks, daily, *_ = patient
    sitk.WriteImage(planning, str(folder / "planning.nii.gz"))
    sitk.WriteImage(daily, str(folder / "daily.nrrd"))
    sitk.WriteImage(
        structure_set.as_segmentation(list(structure_set.read(masks).values())), str(folder / "structures.seg.nrrd")
    )
    return folder


@pytest.fixture(scope="module")
def found(patient, model):
    planning, masks, daily, *_ = patient
    return rtuncertainty.propagate(planning, masks, daily, model, samples=3, refine="full")


def array(i):
    return sitk.GetArrayFromImage(i)


def test_refinement_finds_the_true_motion(found, patient):
    _, _, daily, truth, field = patient
    assert [c.name for c in found.contours] == ["Bladder", "Rectum", "PTV"] and [
        c.planning_name for c in found.contours
    ] == ["Bladder", "Rectum", "PTV"]
    for c in found.contours:
        mask = array(truth[c.planning_name]) > 0
        assert surfaces.surface_distance(array(c.propagated) > 0, mask, SPACING).mean < 0.5
        assert surfaces.dice(array(c.propagated) > 0, mask) > 0.95
    assert found.similarity["before"] < found.similarity["rigid"] < found.similarity["after"] and found.folding == 0
    own = array(
        sitk.TransformToDisplacementField(
            sitk.DisplacementFieldTransform(sitk.Image(found.field)),
            sitk.sitkVectorFloat64,
            daily.GetSize(),
            daily.GetOrigin(),
            daily.GetSpacing(),
            daily.GetDirection(),
        )
    )
    organs = np.logical_or.reduce([array(m) > 0 for m in truth.values()])
    assert (
        np.linalg.norm(own - array(field), axis=-1)[organs].mean()
        < 1.5
        < np.linalg.norm(array(field), axis=-1)[organs].mean()
    )


def test_simpleitk_warps_as_we_did(found, patient):
    planning, masks, daily, *_ = patient
    transform = sitk.DisplacementFieldTransform(sitk.Image(found.field))
    theirs = sitk.Resample(planning, daily, transform, sitk.sitkLinear, -1000.0, sitk.sitkFloat32)
    assert np.abs(array(theirs) - array(found.warped_planning)).max() <= 1
    mask = array(sitk.Resample(sitk.Cast(masks["PTV"], sitk.sitkFloat32), daily, transform, sitk.sitkLinear, 0.0)) > 0.5
    assert np.array_equal(mask, array(found.contours[2].propagated) > 0)


def test_a_daily_scan_that_is_the_planning_scan_moves_nothing(patient, model):
    planning, masks, *_ = patient
    same = rtuncertainty.propagate(planning, masks, planning, model, samples=2)
    inside = array(body.body_mask(planning)) > 0
    assert np.linalg.norm(array(same.field), axis=-1)[inside].mean() < 0.3
    assert all(surfaces.dice(array(c.propagated) > 0, array(masks[c.planning_name]) > 0) > 0.97 for c in same.contours)


def test_the_same_seed_gives_the_same_result(patient, model, found):
    planning, masks, daily, *_ = patient
    again = rtuncertainty.propagate(planning, masks, daily, model, samples=3, refine="full")
    assert np.array_equal(array(again.field), array(found.field)) and np.array_equal(
        array(again.displacement_sd), array(found.displacement_sd)
    )
    other = rtuncertainty.propagate(planning, masks, daily, model, samples=3, refine="off", seed=1)
    assert not np.array_equal(array(other.displacement_sd), array(found.displacement_sd))


def test_other_orientation_and_voxels_of_the_daily_scan(patient, model):
    planning, masks, daily, truth, _ = patient
    turned = sitk.DICOMOrient(daily, "PIR")
    assert (
        rtuncertainty.propagate(planning, masks, turned, model, samples=2).contours[0].propagated.GetDirection()
        == turned.GetDirection()
    )
    fine = sitk.Resample(
        daily,
        [60, 56, 45],
        sitk.Transform(),
        sitk.sitkLinear,
        daily.GetOrigin(),
        [3.1, 3.1, 2.0],
        daily.GetDirection(),
        -1000.0,
    )
    found = rtuncertainty.propagate(planning, masks, fine, model, samples=2, refine="full")
    for c in found.contours:
        mask = (
            array(
                sitk.Resample(
                    sitk.Cast(truth[c.planning_name], sitk.sitkFloat32), fine, sitk.Transform(), sitk.sitkLinear
                )
            )
            > 0.5
        )
        assert surfaces.surface_distance(array(c.propagated) > 0, mask, fine.GetSpacing()).mean < 1.0


def test_rigid_alignment_finds_shift_and_turn(patient):
    planning, *_ = patient
    turn = sitk.Euler3DTransform((0, -5, 60), 0.02, -0.03, 0.06, (30.0, -22.0, 9.0))
    moved = sitk.Resample(planning, planning, turn, sitk.sitkLinear, -1000.0)
    mine = rigid.register(moved, planning, body.body_mask(moved), body.body_mask(planning))
    points = np.random.default_rng(0).uniform((-50, -40, 30), (50, 40, 90), (50, 3))
    errors = [np.linalg.norm(np.subtract(mine.TransformPoint(p), turn.TransformPoint(p))) for p in points]
    assert np.mean(errors) < 1.0


def test_what_is_written(files, model, tmp_path):
    out = propagate_to_folder(
        files / "planning.nii.gz", files / "structures.seg.nrrd", files / "daily.nrrd", model, tmp_path / "r", samples=2
    )
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["job"] == "propagate" and summary["name"] == "test-propagation on daily"
    named = [f for entry in summary["files"].values() for f in (entry.values() if isinstance(entry, dict) else [entry])]
    assert sorted(p.name for p in out.iterdir()) == sorted([*named, "summary.json"])
    assert summary["structures_input"]["name"] == "structures" and [s["paths"] for s in summary["structures"]][2] == [
        "propagated"
    ]
    with open(out / "structures.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    assert [r["structure"] for r in rows] == ["Bladder", "Rectum", "PTV"] and rows[2]["dice"] == "" == rows[2][
        "segmented_ml"
    ]
    assert all(r["light"] in agreement.LIGHTS and r["reason"] and 0 <= int(r["worst_slice"]) < 30 for r in rows)
    # the model's volumes were never calibrated: none has an interval
    assert all(float(r["propagated_ml"]) >= 0 == len(r["propagated_lower_ml"] + r["propagated_upper_ml"]) for r in rows)
    # the PTV covers both organs: they are all there, whole
    segments = structure_set.read(out / "propagated.seg.nrrd")
    assert float(array(segments["PTV"].mask).sum()) * 0.048 == pytest.approx(float(rows[2]["propagated_ml"]), rel=1e-3)
    daily = sitk.ReadImage(str(files / "daily.nrrd"))
    for name in ("warped_planning.nii.gz", "jacobian.nii.gz", "displacement_sd.nii.gz", "segmented_entropy.nii.gz"):
        assert sitk.ReadImage(str(out / name)).GetSize() == daily.GetSize()
    transform = sitk.ReadTransform(str(out / "transform.h5"))
    warped = sitk.Resample(
        sitk.ReadImage(str(files / "planning.nii.gz")), daily, transform, sitk.sitkLinear, -1000.0, sitk.sitkFloat32
    )
    assert np.abs(array(warped) - array(sitk.ReadImage(str(out / "warped_planning.nii.gz")))).max() <= 1


def test_a_structure_that_cannot_be_propagated_is_told_and_left_out(patient, model):
    planning, masks, daily, *_ = patient
    far = image(array(masks["PTV"]), np.uint8, origin=(5000.0, 0.0, 0.0))
    given = {"Bladder": masks["Bladder"], "nothing": image(np.zeros_like(array(masks["PTV"])), np.uint8), "far": far}
    found = rtuncertainty.propagate(planning, given, daily, model, samples=2, refine="off")
    assert [(c.name, c.organ) for c in found.contours] == [("Bladder", "bladder")]
    assert {f.subject: f.flag for f in found.flags if f.flag == "left out"} == {
        "nothing": "left out",
        "far": "left out",
    }
    assert sum("left out" in note for note in found.notes) == 2
    with pytest.raises(InputError, match="none of the structures"):
        rtuncertainty.propagate(planning, {"far": far}, daily, model, samples=2)


def shifted(ct, by):
    moved = sitk.Image(ct)
    moved.SetOrigin(np.add(ct.GetOrigin(), by))
    return moved


@pytest.mark.parametrize(
    "change, told",
    [
        ({"planning": image(np.random.default_rng(0).integers(1, 900, (20, 30, 30)))}, "the planning CT is no CT"),
        ({"daily": image(np.full((20, 30, 30), -1000))}, "the daily CT"),
        ({"samples": 0}, "2 or more"),
        ({"seed": -1}, "seed"),
        ({"rigid": "maybe"}, "rigid"),
        ({"refine": "best"}, "refine"),
        ({"bundle": "limb-t1-synct"}, "propagates"),
        ({"bundle": "none"}, "known names"),
        ({"structures": {"a": image(np.zeros((30, 44, 48)), np.uint8)}}, "no structure with a voxel"),
        ({"device": "cuda:77"}, "cuda:77"),
    ],
)
def test_bad_input_gets_one_clear_line(patient, model, change, told):
    planning, masks, daily, *_ = patient
    given = {"planning": planning, "structures": masks, "daily": daily, "bundle": model, "samples": 2, **change}
    with pytest.raises(InputError, match=told) as error:
        rtuncertainty.propagate(**given)
    assert "\n" not in str(error.value)


def test_scans_that_do_not_overlap(patient, model):
    planning, masks, daily, *_ = patient
    with pytest.raises(InputError, match="do not overlap"):
        rtuncertainty.propagate(planning, masks, shifted(daily, (900, 0, 0)), model, samples=2, rigid="off")
    # with the rigid alignment a couch that is far off is no obstacle
    found = rtuncertainty.propagate(planning, masks, shifted(daily, (120, -60, 40)), model, samples=2, refine="full")
    assert found.similarity["after"] > 0.98 and found.similarity["before"] < 0.3


def test_part_of_a_structure_beyond_the_daily_scan_is_told(patient, model):
    planning, masks, daily, *_ = patient
    short = daily[:, :, :16]
    found = rtuncertainty.propagate(planning, masks, short, model, samples=2, refine="off")
    assert (
        any(f.subject == "PTV" and f.flag == "cut off" for f in found.flags) and 0.2 < found.contours[2].cut_off < 0.8
    )


def test_part_of_a_structure_beyond_the_planning_scan_is_told(patient, model):
    planning, masks, daily, *_ = patient
    # the PTV reaches from slice 5 to 24: above slice 14 lies about half of it
    found = rtuncertainty.propagate(planning[:, :, :15], masks, daily, model, samples=2, refine="off", symmetric="off")
    whole, kept = (array(m).astype(bool) for m in (masks["PTV"], masks["PTV"][:, :, :15]))
    part = 1 - kept.sum() / whole.sum()
    assert 0.3 < part < 0.6
    assert [f.reason for f in found.flags if f.subject == "PTV" and f.reason.endswith("is not propagated.")] == [
        f"About {part:.0%} of it lies outside of the planning scan and is not propagated."
    ]
    assert any(n.startswith("PTV: about") for n in found.notes)


def test_structures_with_the_voxels_of_the_daily_scan_are_told(patient, model):
    planning, masks, daily, *_ = patient
    finer = sitk.Resample(daily, (96, 88, 30), sitk.Transform(), sitk.sitkLinear, daily.GetOrigin(), (2.0, 2.0, 3.0))
    settings = {"samples": 2, "refine": "off", "symmetric": "off"}
    swapped = rtuncertainty.propagate(finer, masks, planning, model, **settings)
    assert [f.subject for f in swapped.flags if f.flag == "drawn on the daily scan?"] == ["structures"]
    right = rtuncertainty.propagate(planning, masks, finer, model, **settings)
    assert not [f for f in right.flags if "daily scan?" in f.flag or "planning scan" in f.reason]


def test_starts_without_overlap_leave_the_terminal_alone(patient, capfd):
    planning, _, daily, *_ = patient
    far = shifted(daily, (900, 300, -400))
    bodies = [body.body_mask(i, "the CT") for i in (far, planning)]
    moved = rigid.register(far, planning, *bodies)
    near = rigid.register(daily, planning, body.body_mask(daily, "the CT"), bodies[1])
    point = np.array([4.0, 8.0, 60.0])
    there, here = moved.TransformPoint(point + (900, 300, -400)), near.TransformPoint(point)
    assert np.linalg.norm(np.subtract(there, here)) < 0.5
    assert capfd.readouterr() == ("", "")


def test_cancel_leaves_nothing(files, model, tmp_path):
    token = CancelToken()

    def listen(event):
        if event.get("stage") == "network":
            token.cancel()

    from rtuncertainty.core.events import PROPAGATION, Progress

    with pytest.raises(Cancelled):
        propagate_to_folder(
            files / "planning.nii.gz",
            files / "structures.seg.nrrd",
            files / "daily.nrrd",
            model,
            tmp_path / "r",
            samples=2,
            progress=Progress(listen, token, shares=PROPAGATION),
        )
    assert list(tmp_path.iterdir()) == []


def test_the_command_line(files, model, tmp_path, capsys):
    arguments = [
        "propagate",
        "--model",
        str(model),
        "--planning",
        str(files / "planning.nii.gz"),
        "--structures",
        str(files / "structures.seg.nrrd"),
        "--daily",
        str(files / "daily.nrrd"),
        "--output",
        str(tmp_path / "r"),
        "--samples",
        "2",
        "--refine",
        "off",
        "--progress",
        "json",
    ]
    assert command_line.main(arguments) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[-1]["event"] == "done" and {"read", "align", "network", "assemble", "write"} <= {
        e.get("stage") for e in events
    }
    overall = [e["overall"] for e in events if e["event"] == "progress"]
    assert overall == sorted(overall)
    assert command_line.main([*arguments[:-4], "--refine", "most"]) == 2
    assert (
        command_line.main([a if a != str(files / "daily.nrrd") else str(tmp_path / "no.nrrd") for a in arguments]) == 2
    )
    assert "no.nrrd" in capsys.readouterr().err


def test_lights_and_their_reasons():
    a = np.zeros((10, 30, 30), bool)
    a[2:8, 5:20, 5:20] = True
    same, near, far = a, np.roll(a, 1, 1), np.roll(a, 8, 2)
    assert agreement.judge(a, same, (1, 1, 1)).light == "green"
    amber = agreement.judge(a, np.roll(a, 3, 1), (1, 1, 1), limits={"amber": {"msd_mm": 0.5, "dice": 0.5, "sd_mm": 2}})
    assert (amber.light, "mm apart" in amber.reason) == ("amber", True)
    red = agreement.judge(a, far, (1, 1, 1))
    assert (
        red.light == "red"
        and "Dice is 0.47" in red.reason
        and agreement.judge(a, near, (1, 1, 1)).dice == pytest.approx(14 / 15)
    )
    assert (
        agreement.judge(a, a & False, (1, 1, 1)).light == "red"
        and agreement.judge(a & False, None, (1, 1, 1)).light == "red"
    )
    alone = agreement.judge(a, None, (1, 1, 1))
    assert alone.light == "amber" and "nothing was sampled" in alone.reason
    assert agreement.judge(a, None, (1, 1, 1), sd=0.5).light == "green"
    unsure = agreement.judge(a, None, (1, 1, 1), sd=2.0, otherwise=4)
    assert (unsure.light, unsure.worst_slice) == ("amber", 4) and "2.0 mm" in unsure.reason
    b = a.copy()
    b[6, 5:20, 5:25] = True
    assert agreement.judge(a, b, (1, 1, 1)).worst_slice == 6


def test_memory_that_runs_out_is_told(patient, model, monkeypatch):
    import torch

    from rtuncertainty.core.errors import OutOfMemoryError
    from rtuncertainty.core.events import Progress
    from rtuncertainty.propagation import deform, job

    def hungry(*_):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"
        )

    monkeypatch.setattr(deform, "run", hungry)
    planning, masks, daily, *_ = patient
    with pytest.raises(OutOfMemoryError, match="smaller field of view"):
        rtuncertainty.propagate(planning, masks, daily, model, samples=2)
    # from a GPU it goes on to the CPU
    told, seen = Progress(), []

    def first_hungry(network, where):
        seen.append(where.type)
        if where.type == "cuda":
            raise torch.OutOfMemoryError("out of memory")
        return "found"

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    network = torch.nn.Identity()
    monkeypatch.setattr(network, "to", lambda where: network)
    assert job._on_device(first_hungry, network, torch.device("cuda"), told) == ("found", torch.device("cpu"))
    assert seen == ["cuda", "cpu"] and "CPU" in told.notes[0]


def test_an_organ_that_the_model_segments_badly_is_propagated_only(patient, tmp_path):
    planning, masks, daily, *_ = patient
    model = make_propagation_bundle(tmp_path / "m")
    card = json.loads((model / "model.json").read_text(encoding="utf-8"))
    card["outputs"]["structures"][0] |= {"segment": False, "path": "propagated"}
    (model / "model.json").write_text(json.dumps(card), encoding="utf-8")
    bladder, rectum, ptv = rtuncertainty.propagate(planning, masks, daily, model, samples=2, refine="off").contours
    assert bladder.segmented is None is bladder.segmented_ml and rectum.segmented is not None and ptv.segmented is None
    assert np.isnan(bladder.agreement.dice) and bladder.agreement.light == "green"


def test_the_spread_of_a_whole_body_is_taken_on_coarser_voxels(monkeypatch):
    """Distances over a large structure are taken on fewer voxels; its distribution hardly changes, and its contour
    not at all.
    """
    from rtuncertainty.propagation import assess

    z, y, x = np.indices((16, 60, 60))
    mask = np.hypot(y - 30, x - 30) < 22
    day = sitk.GetImageFromArray(mask.astype(np.uint8))
    day.SetSpacing((1.0, 1.0, 3.0))
    sd = sitk.GetImageFromArray(np.full(mask.shape, 2.0, np.float32))
    sd.CopyInformation(day)
    fine = assess.of_deformation("body", mask, sd, sd, day, {"calibration": {}}, None)
    monkeypatch.setattr(assess, "LARGEST", 10_000)
    coarse = assess.of_deformation("body", mask, sd, sd, day, {"calibration": {}}, None)
    assert coarse.distribution.volume_ml == fine.distribution.volume_ml == pytest.approx(mask.sum() * 0.003)
    for q in (5, 95):
        assert coarse.distribution.quantile(q) == pytest.approx(fine.distribution.quantile(q), rel=0.08)
        # a cylinder whose radius is off by 1.64 sds; its ends lie at the edge of the scan, where nothing is known of
        # them
        assert fine.distribution.quantile(q) == pytest.approx(
            np.pi * (22 + np.sign(q - 50) * 3.29) ** 2 * 16 * 0.003, rel=0.08
        )
    assert np.array_equal(array(coarse.inside) > 50, mask)

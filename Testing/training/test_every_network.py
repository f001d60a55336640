"""The whole way of every network, built small: train, export, predict or propagate, report, scene, read, evaluate.

The documentation's table of the networks is `ROWS`; one row more is one test more.
"""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tiny_scans
import yaml

pytest.importorskip("lightning")
pytest.importorskip("itk")

from test_joint_training import moved  # noqa: E402
from test_organs import CLASSES as ORGANS  # noqa: E402
from test_organs import patient  # noqa: E402

from rtuncertainty import networks  # noqa: E402
from rtuncertainty.bundles import bundle  # noqa: E402
from rtuncertainty.core import structure_set  # noqa: E402
from rtuncertainty.core.errors import InputError  # noqa: E402
from rtuncertainty.jobs.prediction import predict_to_folder  # noqa: E402
from rtuncertainty.jobs.propagation import propagate_to_folder  # noqa: E402
from rtuncertainty.phantoms import limb as phantom  # noqa: E402
from rtuncertainty.prediction import channels, preprocess  # noqa: E402
from rtuncertainty.prediction.predict import predict  # noqa: E402
from rtuncertainty.results import Result  # noqa: E402
from training import __main__ as command  # noqa: E402
from training.data import organ_case, pair_case  # noqa: E402
from training.data.prepare import organs, synthesis  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
TRAINED = {
    "steps": 2,
    "batch": 2,
    "warm_up": 0,
    "validate_every": 2,
    "checkpoint_every": 2,
    "log_every": 1,
    "settle_batches": 1,
}
SLICES = {"patch": 32, "folds": 4}
HIGHRES = {"width": 2, "features": 4}
ATROUS = {"filters": 2}
JOINT = {"classes": 3, "widths": [2, 3, 4]}
VOLUMES = {"in_channels": 1, "classes": 4, "width": 2, "features": 4}
SCANS = {"patch": [16, 16, 16], "labelled": 3, "arguments": {"width": 2, "levels": 2}, "discriminator_width": 2}


def highres(**more):
    return "limbs", SLICES | {"arguments": HIGHRES | more}


SEGMENTS = {"intrinsic_sd", "parameter_sd", "predictive_sd", "synct"}
# a title: what it is trained on, the settings, and which of its maps a result has not
ROWS = {
    "m1": (*highres(), {"intrinsic_sd", "parameter_sd", "predictive_sd"}),
    "m2a": (*highres(), {"intrinsic_sd"}),
    "m2b": (*highres(), set()),
    "m3": (*highres(classes=3, branch_width=2), {"intrinsic_sd"}),
    "m4": (*highres(classes=3, branch_width=2), set()),
    **{n: ("limbs", SLICES | {"arguments": ATROUS}, {"intrinsic_sd"}) for n in ("1tn-gl", "1tn-fl", "2tn", "3tn")},
    "seg": ("pairs", {"arguments": JOINT | {"dropout": 0.1}}, {"transform", "jacobian", "displacement_sd"}),
    **{n: ("pairs", {"arguments": JOINT | {"dropout": 0.1}}, {"segmented"}) for n in ("reg", "jrs_reg")},
    **{n: ("pairs", {"arguments": JOINT | {"dropout": 0.1}}, set()) for n in ("dense", "sedd", "cross_stitch")},
    "hr_default": ("organs", {"patch": 16, "arguments": VOLUMES}, SEGMENTS | {"mutual_information"}),
    "hr_drop_last": ("organs", {"patch": 16, "arguments": VOLUMES}, SEGMENTS),
    "hr_drop_all": ("organs", {"patch": 16, "arguments": VOLUMES}, SEGMENTS),
    "hr_hetero": ("organs", {"patch": 16, "arguments": VOLUMES | {"branches": [3, 2]}}, SEGMENTS),
    "vnet": ("scans", SCANS | {"unlabelled_batch": 0}, SEGMENTS | {"distance"}),
    "mt_ctl": ("scans", SCANS | {"batch": 4, "unlabelled_batch": 2}, SEGMENTS),
}
# other ways to train some of them
MORE = {
    "m1, structures alone": (*highres(classes=3), SEGMENTS | {"mutual_information"}),
    "m2b, structures alone, no CT": ("limbs without CT", *highres(classes=3)[1:], SEGMENTS),
    "cross_stitch, no dropout": ("pairs", {"arguments": JOINT}, {"displacement_sd"}),
    "hr_drop_last, two sequences": ("sequences", {"patch": 16, "arguments": VOLUMES | {"in_channels": 2}}, SEGMENTS),
    "vnet, two sequences": (
        "sequences",
        {"patch": 16, "method": "eatonrosen2018"}
        | {"arguments": {"in_channels": 2, "classes": 4, "width": 2, "levels": 2}},
        SEGMENTS,
    ),
    "seg, no dropout": ("pairs", {"arguments": JOINT}, {"transform", "jacobian", "displacement_sd"}),
}
LIMB = {"size": (48, 48, 6), "spacing": (3.0, 3.0, 5.0)}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """{kind: (folder of prepared cases, what the networks are then asked about)}"""
    folder = tmp_path_factory.mktemp("prepared")
    return {
        "limbs": _limbs(folder / "limbs", True),
        "limbs without CT": _limbs(folder / "without", False),
        "pairs": _pairs(folder / "pairs"),
        "organs": _organs(folder / "organs"),
        "scans": _scans(folder / "scans"),
        "sequences": _sequences(folder / "sequences"),
    }


def _table(folder, rows):
    with open(folder / "prepare.csv", "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows(rows)


def _limbs(folder, with_ct):
    (folder / "cases").mkdir(parents=True)
    for seed in range(4):
        limb = phantom.digital_limb(seed, **LIMB)
        ready = preprocess.preprocess(limb.mr, (None,) * 3, "off")
        body = sitk.GetArrayFromImage(ready.body) > 0
        case = synthesis.Case(
            f"p{seed}",
            sitk.GetArrayFromImage(ready.image),
            sitk.GetArrayFromImage(limb.ct).astype(np.float32) if with_ct else None,
            sitk.GetArrayFromImage(limb.labels),
            body,
            np.ones_like(body),
            LIMB["spacing"],
        )
        synthesis.save_case(case, folder / "cases" / f"p{seed}.npz", {})
    _table(folder, [["case", "kept"], *[[f"p{i}", "yes"] for i in range(4)]])
    sitk.WriteImage(phantom.digital_limb(9, **LIMB).mr, str(folder / "mr.nii.gz"))
    return folder, {"input": folder / "mr.nii.gz"}


def _image(array, spacing, dtype=np.int16):
    made = sitk.GetImageFromArray(np.ascontiguousarray(array, dtype))
    made.SetSpacing(spacing)
    return made


def small(seed):
    """The smallest pair that the joint networks see whole."""
    case, cut = moved(seed), (slice(2, 46), slice(4, 48), slice(6, 50))
    arrays = {n: a[(..., *cut)] for n, a in vars(case).items() if isinstance(a, np.ndarray)}
    return replace(case, **arrays)


def _pairs(folder):
    (folder / "cases").mkdir(parents=True)
    for seed in range(3):
        pair_case.save(small(seed), folder / "cases" / f"p{seed}_day0.npz", {})
    sides = ["train", "train", "validation"]
    _table(
        folder, [["case", "kept", "patient", "set"], *[[f"p{i}_day0", "yes", f"p{i}", s] for i, s in enumerate(sides)]]
    )
    case = small(5)
    (folder / "pairs.json").write_text(json.dumps({"organs": case.classes, "spacing": case.spacing}), encoding="utf-8")
    for name, hu in (("planning", case.planning), ("daily", case.daily)):
        sitk.WriteImage(_image(np.rint(hu), case.spacing), str(folder / f"{name}.nii.gz"))
    masks = {n: _image(case.planning_labels == k, case.spacing, np.uint8) for k, n in enumerate(case.classes, 1)}
    given = structure_set.as_segmentation(list(structure_set.read(masks).values()))
    sitk.WriteImage(given, str(folder / "structures.seg.nrrd"))
    return folder, {n: folder / f for n, f in (("planning", "planning.nii.gz"), ("daily", "daily.nii.gz"))} | {
        "structures": folder / "structures.seg.nrrd"
    }


def _organs(folder):
    (folder / "cases").mkdir(parents=True)
    cases = [patient(n) for n in range(4)]
    for case in cases:
        organ_case.save(case, folder / "cases" / f"{case.name}.npz")
    sides = ["train", "train", "validation", "validation"]
    _table(
        folder,
        [["case", "kept", "patient", "set"], *[[c.name, "yes", c.patient, s] for c, s in zip(cases, sides)]],
    )
    about = {"organs": ORGANS, "spacing": cases[0].spacing}
    (folder / organs.SETTINGS).write_text(json.dumps(about), encoding="utf-8")
    sitk.WriteImage(_image(np.rint(patient(7).hu), cases[0].spacing), str(folder / "ct.nii.gz"))
    return folder, {"input": folder / "ct.nii.gz"}


def _scans(folder):
    tiny_scans.write_scans(folder / "data", 6)
    arguments = ["scans", "--data", folder / "data" / "train", "--out", folder / "prepared", "--structure", "atrium=la"]
    assert main(*arguments, "--image", "mr", "--normalisation", "image", "--validation", "2") == 0
    return folder / "prepared", {"input": sorted((folder / "data" / "train").iterdir())[0] / "mr.nii.gz"}


def tumour(seed):
    """Two sequences of a head with a tumour whose core lies in it, and its active part in that; and the labels."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*[np.arange(n, dtype=float) for n in (20, 24, 28)], indexing="ij")
    head = ((z - 10) / 9) ** 2 + ((y - 12) / 10) ** 2 + ((x - 14) / 12) ** 2 < 1
    centre = np.array([10, 12, 14]) + rng.integers(-2, 3, 3)
    distance = np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
    labels = (1 * (distance < 7) + 1 * (distance < 5) + 1 * (distance < 3)) * head
    noise = rng.normal(0, 8, (2, *head.shape))
    t1 = (300 - 80 * (labels == 2) + 150 * (labels == 3)) * head + noise[0] * head
    t2 = (200 + 200 * (labels > 0)) * head + noise[1] * head
    return [_image(a, (2.0, 2.0, 2.0), t) for a, t in ((t1, np.float32), (t2, np.float32), (labels, np.uint8))]


def _sequences(folder):
    for seed in range(5):
        place = folder / "data" / f"p{seed}" if seed < 4 else folder / "new"
        place.mkdir(parents=True)
        for image, name in zip(tumour(seed), ("t1", "t2", "labels")):
            sitk.WriteImage(image, str(place / f"{name}.nii.gz"))
    words = [w for s in ("whole=1,2,3", "core=2,3", "active=3") for w in ("--structure", s)]
    arguments = ["--data", folder / "data", "--out", folder / "prepared", "--sequences", "t1", "t2", *words]
    assert main("sequences", *arguments, "--spacing", "2", "2", "2") == 0
    new = folder / "new"
    return folder / "prepared", {"input": [str(new / "t1.nii.gz"), str(new / "t2.nii.gz")]}


def main(*arguments):
    return command.main([str(a) for a in arguments])


def test_every_network_has_a_row():
    assert set(ROWS) == set(networks.REGISTRY)
    page = ROOT / "Resources" / "Documentation" / "use" / "networks.md"
    cells = [line.split(" | ") for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    listed = {c[0].strip("| `"): set(c[-1].strip(" |").split(", ")) - {""} for c in cells}
    assert listed == {name: absent - (SEGMENTS if "synct" in absent else set()) for name, (*_, absent) in ROWS.items()}
    for name in ("1tn_gl", "1tn-gl", "1tn_fl"):
        assert networks.build(name, filters=2).classes == 0


@pytest.fixture(scope="session")
def card(prepared, tmp_path_factory):
    """The card of what was prepared, by its kind."""
    made = {}
    for kind, (folder, _) in prepared.items():
        made[kind] = tmp_path_factory.mktemp("card") / "card.yaml"
        filled = ["title=T", "training.licence=L", "training.citation=C", "intended_use=U", "licence=L"]
        words = [w for f in filled for w in ("--set", f)]
        assert main("card", "--prepared", folder, "--out", made[kind], "--name", "small", *words) == 0
    return made


@pytest.mark.parametrize("title", [*ROWS, *MORE])
def test_from_training_to_slicer(title, prepared, card, tmp_path, monkeypatch):
    kind, settings, absent = (ROWS | MORE)[title]
    (folder, asked), network = prepared[kind], title.split(",")[0]
    config, model, result = tmp_path / "config.yaml", tmp_path / "model", tmp_path / "result"
    monkeypatch.setattr("rtuncertainty.propagation.refine.ITERATIONS", {"off": (0, 0), "fast": (2, 0), "full": (2, 1)})
    # what costs most has tests of its own: of the challenge's MS-SSIM (97³ voxels), and of symmetry (six more passes)
    monkeypatch.setattr("training.evaluation.synthrad.ms_ssim", lambda *_: 0.9)
    still = {"identity_mm": 0.1, "inverse_mm": 0.1}
    monkeypatch.setattr("training.evaluation.pairs._symmetry", lambda *_: still)
    if kind == "pairs":
        settings = {"patch": 44} | settings
    config.write_text(yaml.safe_dump(TRAINED | {"network": network} | settings), encoding="utf-8")
    train = ["train", "--prepared", folder, "--config", config, "--out", tmp_path / "run", "--device", "cpu"]
    assert main(*train) == 0
    if network == "cross_stitch":  # Elmahdy's Figs. 3 and 4
        columns = (tmp_path / "run" / "log" / "metrics.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
        assert {"weight/ncc", "weight/dice_segmented", "stitch/1_11", "stitch/4_21"} <= set(columns)
    assert main("export", "--run", tmp_path / "run", "--card", card[kind], "--out", model) == 0
    found = bundle.read_card(model)
    assert ("synct" in found["outputs"]) == (kind == "limbs" and "alone" not in title)
    if kind == "pairs":
        propagate_to_folder(*asked_of(asked), model, result, samples=2, report=True)
        image = asked["daily"]
    else:
        predict_to_folder(asked["input"], model, result, samples=2, report=True, bias_field="off")
        image = asked["input"][0] if kind == "sequences" else asked["input"]
    read = Result.read(result)
    read.require_files()
    for key in absent:
        assert not read.has(key), key
    for key in {"intrinsic_sd", "parameter_sd", "predictive_sd"} - absent if read.has("synct") else ():
        assert sitk.GetArrayViewFromImage(read.image(key)).any()
    for key in ("intrinsic_sd", "parameter_sd", "predictive_sd"):
        assert any("this model gives none" in n for n in read.notes) or key not in absent - SEGMENTS
    if kind == "pairs":
        assert read.has("transform") == (network != "seg") and read.has("displacement_sd") == (
            network != "seg" and "no dropout" not in title
        )
        said = any("deformation (SD): this model gives none" in n for n in read.notes)
        assert said == (read.has("transform") and not read.has("displacement_sd"))
        for row in read.table("structure_table"):
            assert (row["default"] == "segmented") <= (network == "seg")
            assert "sampled surfaces agree" not in row["reason"] or "no dropout" not in title
    assert read.report is not None
    scene_of(result, image, tmp_path)
    arguments = ["--prepared", folder, "--run", tmp_path / "run", "--model", model, "--out", tmp_path / "scores"]
    assert main("evaluate", *arguments, "--samples", "2") == 0
    evaluation = tmp_path / "scores" / "evaluation.json"
    if evaluation.exists():
        arguments = ["--run", tmp_path / "run", "--card", card[kind], "--out", model, "--evaluation", evaluation]
        assert main("export", *arguments) == 0
        assert bundle.read_card(model)["accuracy"]["n"] > 0

    if network == "3tn":  # the paper's one pass: no dropout, so nothing of the parameters is known
        single = predict(str(image), model, samples=1, bias_field="off")
        again = predict(str(image), model, samples=1, seed=5, bias_field="off")
        assert not sitk.GetArrayViewFromImage(single.parameter_sd).any() and "single pass" in " ".join(single.notes)
        assert (sitk.GetArrayViewFromImage(single.synct) == sitk.GetArrayViewFromImage(again.synct)).all()
    if kind == "sequences":
        masks = {n: sitk.GetArrayFromImage(s.mask) > 0 for n, s in read.structures().items()}
        assert list(masks) == ["whole", "core", "active"]
        assert not (masks["core"] & ~masks["whole"]).any() and not (masks["active"] & ~masks["core"]).any()
        p = [sitk.GetArrayFromImage(read.image("probabilities", n)) for n in masks]
        assert (p[0] >= p[1] - 1e-5).all() and (p[1] >= p[2] - 1e-5).all()


def test_several_images_are_told_apart(tmp_path):
    for name in ("t1", "t2"):
        sitk.WriteImage(_image(np.arange(64).reshape(4, 4, 4), (1.0,) * 3), str(tmp_path / f"{name}.nrrd"))
    t1, t2 = (str(tmp_path / f"{n}.nrrd") for n in ("t1", "t2"))
    card = {"name": "two", "input": {"channels": ["T1", "T2"]}}
    assert channels.in_order([t1, t2], card) == [t1, t2]
    assert (
        channels.in_order([f"T2={t2}", f"T1={t1}"], card) == [t1, t2] == channels.in_order({"T2": t2, "T1": t1}, card)
    )
    four = sitk.JoinSeries(sitk.ReadImage(t1), sitk.ReadImage(t2))
    assert [i.GetSize() for i in channels.in_order(four, card)] == [(4, 4, 4)] * 2
    sitk.WriteImage(four, str(tmp_path / "both.nii.gz"))
    assert len(channels.in_order(tmp_path / "both.nii.gz", card)) == 2
    for given, words in (
        (t1, "sees 2 images, T1, T2; 1 given"),
        ([t2, t1], "stands for T1, and is named as T2"),
        ([f"T1={t1}", f"T1={t2}"], "given twice"),
        ([f"T1={t1}", f"FLAIR={t2}"], "'FLAIR' is none of them"),
        ([f"T1={t1}", t2], "some without"),
    ):
        with pytest.raises(InputError, match=words):
            channels.in_order(given, card)
    with pytest.raises(InputError, match="sees one image"):
        channels.in_order([t1, t2], {"name": "one", "input": {}})
    other = _image(np.zeros((4, 4, 5)), (1.0,) * 3)
    with pytest.raises(InputError, match="resample it onto its grid"):
        channels.require_one_grid([(sitk.ReadImage(t1), t1), (other, t2)])


def asked_of(asked):
    return (str(asked[k]) for k in ("planning", "structures", "daily"))


def scene_of(result, image, folder):
    """The scene that Slicer opens, where its libraries are."""
    slicer = pytest.importorskip("slicer")
    if not hasattr(slicer, "vtkMRMLSegmentationNode"):
        pytest.skip("no Slicer libraries")
    from RTUncertaintyLib.headless.scene_bundle import write_scene

    write_scene(str(result), str(folder / "scene.mrb"), str(image))
    assert (folder / "scene.mrb").stat().st_size > 1000

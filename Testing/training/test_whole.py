"""From a folder of patients to a bundle that predicts, on digital limbs, and a run that was cut and resumed."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml

pytest.importorskip("lightning")
pytest.importorskip("itk")

from rtuncertainty.bundles import bundle
from rtuncertainty.phantoms import limb as phantom
from rtuncertainty.prediction import predict  # noqa: E402
from training import __main__ as command  # noqa: E402
from training.data.prepare import synthesis  # noqa: E402
from training.run import export

SIZE = (96, 96, 8)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """One digital limb whose CT was moved, prepared by elastix; and more that need no registration."""
    folder = tmp_path_factory.mktemp("cohort")
    limb = phantom.digital_limb(3, size=SIZE, spacing=(1.5, 1.5, 3.0))
    ct = sitk.Cast(limb.ct, sitk.sitkFloat32)
    moved = sitk.Resample(ct, ct, sitk.TranslationTransform(3, (6.0, -4.0, 0.0)), sitk.sitkLinear, -1000.0)
    for name, image in (("mr", limb.mr), ("ct", moved)):
        (folder / "data" / "p0").mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, str(folder / "data" / "p0" / f"{name}.nii.gz"))
    out = folder / "prepared"
    assert command.main(["prepare", "--data", str(folder / "data"), "--out", str(out)]) == 0
    for seed in range(1, 4):
        one = phantom.digital_limb(seed, size=SIZE, spacing=(1.5, 1.5, 3.0))
        from rtuncertainty.prediction import preprocess

        ready = preprocess.preprocess(one.mr, (None,) * 3)
        body = sitk.GetArrayFromImage(ready.body) > 0
        made = synthesis.Case(
            f"p{seed}",
            sitk.GetArrayFromImage(ready.image),
            sitk.GetArrayFromImage(one.ct).astype(np.float32),
            sitk.GetArrayFromImage(one.labels),
            body,
            np.ones_like(body),
            (1.5, 1.5, 3.0),
        )
        synthesis.save_case(made, out / "cases" / f"p{seed}.npz", {})
    with open(out / "prepare.csv", "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows([["case", "kept"], *[[f"p{i}", "yes"] for i in range(4)]])
    return folder, limb


def test_registration_brings_a_moved_ct_back(prepared):
    folder, limb = prepared
    found = synthesis.load_case(folder / "prepared" / "cases" / "p0.npz")
    truth = sitk.GetArrayFromImage(
        synthesis.geometry.resample(
            sitk.Cast(limb.ct, sitk.sitkFloat32),
            synthesis.geometry.resampled_grid(limb.mr, (1, 1, None)),
            background=-1000,
        )
    )
    moved_back = np.abs(found.ct - truth)[found.region].mean()
    ct = sitk.Cast(limb.ct, sitk.sitkFloat32)
    moved = sitk.Resample(ct, ct, sitk.TranslationTransform(3, (6.0, -4.0, 0.0)), sitk.sitkLinear, -1000.0)
    before = np.abs(sitk.GetArrayFromImage(moved) - sitk.GetArrayFromImage(ct))[
        sitk.GetArrayFromImage(limb.labels) == 1
    ].mean()
    bone = found.region & (truth > 200)
    assert moved_back < 40 and np.abs(found.ct - truth)[bone].mean() < 0.5 * before
    assert (folder / "prepared" / "overlays" / "p0.png").stat().st_size > 10_000


def run(folder, name, *more):
    config = folder / "config.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "arguments": {"classes": 3, "width": 4, "features": 8, "branch_width": 4},
                "steps": 6,
                "batch": 2,
                "patch": 32,
                "folds": 4,
                "warm_up": 2,
                "checkpoint_every": 3,
                "validate_every": 3,
                "settle_batches": 4,
            }
        ),
        encoding="utf-8",
    )
    out = folder / name
    assert (
        command.main(
            [
                "train",
                "--prepared",
                str(folder / "prepared"),
                "--config",
                str(config),
                "--out",
                str(out),
                "--device",
                "cpu",
                *more,
            ]
        )
        == 0
    )
    return out


def test_a_resumed_run_ends_where_an_uncut_one_does(prepared):
    import torch

    folder, _ = prepared
    whole = run(folder, "whole")
    # the same run, cut after half of its steps: the schedule is that of six
    cut = run(folder, "cut", "--stop-after", "3")
    assert torch.load(cut / "checkpoints" / "last.ckpt", weights_only=False)["global_step"] == 3
    first = (cut / "log" / "metrics.csv").read_text(encoding="utf-8").splitlines()
    cut = run(folder, "cut")
    # what was logged before the cut is still there
    assert (cut / "log" / "metrics.csv").read_text(encoding="utf-8").splitlines()[: len(first)] == first
    a, b = (torch.load(r / "checkpoints" / "last.ckpt", weights_only=False) for r in (whole, cut))
    assert a["global_step"] == b["global_step"] == 6
    for key, value in a["state_dict"].items():
        assert torch.allclose(value.float(), b["state_dict"][key].float(), atol=1e-6), key
    before = (cut / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    run(folder, "cut")  # nothing is left to do
    assert (cut / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before


def test_a_run_begins_with_the_weights_of_a_bundle(prepared, tmp_path, capsys):
    import torch

    from rtuncertainty import networks
    from training.run import initial

    folder, _ = prepared
    card = tmp_path / "card.yaml"
    card.write_text(
        (Path(command.__file__).parent / "studies" / "mr_only" / "limb_card.yaml").read_text(encoding="utf-8"),
        encoding="utf-8",
    )
    made = export.run(run(folder, "whole"), card, tmp_path / "bundle")
    theirs = bundle.load(made)[1][0].state_dict()
    arguments = {"width": 4, "features": 8, "branch_width": 4}
    same, more = (networks.build("m4", classes=n, **arguments) for n in (3, 5))
    split = json.loads((folder / "whole" / "split.json").read_text(encoding="utf-8"))
    validating = {n: split["hashes"][n] for n in split["validation"]}
    initial.begin_with(same, str(made), validating)
    assert all(torch.equal(v, theirs[k]) for k, v in same.state_dict().items())
    # with five classes the two heads that tell them are new, and said to be
    initial.begin_with(more, str(made), validating)
    new = {k for k, v in more.state_dict().items() if v.shape != theirs[k].shape}
    assert new and all(torch.equal(v, theirs[k]) for k, v in more.state_dict().items() if k not in new)
    said = capsys.readouterr().out.splitlines()[-1]
    assert all(k.rsplit(".", 1)[0] in said for k in new) and "trunk" not in said
    with pytest.raises(SystemExit, match="trained on someone"):
        initial.begin_with(
            same, str(made), {"someone": split["hashes"][split["training"][0]]}
        )  # told by the image, whatever the name
    with pytest.raises(SystemExit, match="less than half fits"):
        initial.begin_with(networks.build("m4", classes=3, width=8, features=8, branch_width=4), str(made), {})
    with pytest.raises(SystemExit, match="neither a folder"):
        initial.begin_with(same, str(tmp_path / "none"), {})
    # by the config
    config = folder / "tuned.yaml"
    config.write_text(
        (folder / "config.yaml").read_text(encoding="utf-8") + f"initialise: {made}\nlearning_rate: 0.0\n",
        encoding="utf-8",
    )
    assert (
        command.main(
            [
                "train",
                "--prepared",
                str(folder / "prepared"),
                "--config",
                str(config),
                "--out",
                str(tmp_path / "tuned"),
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    tuned = export.network_state(tmp_path / "tuned")[0]
    assert all(torch.equal(v, theirs[k]) for k, v in tuned.items() if "running" not in k and "batches" not in k)
    card = json.loads(
        (export.run(tmp_path / "tuned", card, tmp_path / "second") / "model.json").read_text(encoding="utf-8")
    )
    assert card["training"]["initialised_with"] == made.name


def test_export_evaluate_and_predict(prepared, tmp_path):
    folder, limb = prepared
    trained = run(folder, "exported")
    model = tmp_path / "model"
    card = "training/studies/mr_only/limb_card.yaml"
    arguments = [
        "export",
        "--run",
        str(trained),
        "--card",
        str(Path(__file__).resolve().parents[2] / card),
        "--out",
        str(model),
    ]
    assert command.main(arguments) == 0
    assert bundle.read_card(model)["accuracy"]["cases"] == "not evaluated"
    assert (
        command.main(
            [
                "evaluate",
                "--prepared",
                str(folder / "prepared"),
                "--run",
                str(trained),
                "--model",
                str(model),
                "--out",
                str(tmp_path / "ev"),
                "--samples",
                "4",
            ]
        )
        == 0
    )
    assert command.main([*arguments, "--evaluation", str(tmp_path / "ev" / "evaluation.json")]) == 0
    split = json.loads((trained / "split.json").read_text(encoding="utf-8"))
    found = bundle.read_card(model)
    assert found["accuracy"]["n"] == len(split["validation"]) == 1 and found["training"]["cases"] == 3
    table = (tmp_path / "ev" / "evaluation.md").read_text(encoding="utf-8")
    assert all(n in table for n in split["validation"]) and "monotone map" in table
    result = predict.predict(limb.mr, model, samples=2)
    assert result.synct.GetSize() == limb.mr.GetSize() and [v.structure for v in result.volumes] == ["bone", "gtv"]


def test_unknown_settings_and_missing_cases_are_told(tmp_path):
    from training import methods
    from training.data import slice_feed

    (tmp_path / "c.yaml").write_text("stepz: 3", encoding="utf-8")
    with pytest.raises(SystemExit, match="stepz"):
        methods.load(tmp_path / "c.yaml")
    with pytest.raises(SystemExit, match="prepare"):
        slice_feed.kept_cases(tmp_path)
    with pytest.raises(SystemExit, match="mr.nii.gz"):
        synthesis.list_cases(tmp_path)

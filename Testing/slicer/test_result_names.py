"""Structures of any name, and results of every network, on their way from a folder through the scene."""

import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

sys.path.append(str(Path(__file__).resolve().parents[1] / "backend"))
from make_named_result import NASTY, result  # noqa: E402

from rtuncertainty.results import Result, tables  # noqa: E402
from RTUncertaintyLib import scene as run_scene  # noqa: E402
from RTUncertaintyLib.headless import scene as headless  # noqa: E402
from RTUncertaintyLib.headless.scene_bundle import write_scene  # noqa: E402
from RTUncertaintyLib.review import run_files  # noqa: E402
from RTUncertaintyLib.review.dicom import job  # noqa: E402
from RTUncertaintyLib.review.report.export import export  # noqa: E402
from RTUncertaintyLib.runs.result_tables import result_of_run  # noqa: E402
from RTUncertaintyLib.runs.review_data import ReviewData  # noqa: E402


def names_of(run) -> list:
    """The names of the structures as everything in the scene that has any tells them."""
    segments = run.segmentation.GetSegmentation()
    told = result_of_run(run)
    return [
        [s.name for s in ReviewData.of_run(run).structures],
        [segments.GetNthSegment(i).GetName() for i in range(segments.GetNumberOfSegments())],
        list(run.inside),
        list(run.probabilities),
        *([r["structure"] for r in told.table(key)] for key in ("volumes", "volume_intervals", "quality")),
        [r["subject"] for r in told.table("flags")],
    ]


def test_any_name_survives_the_scene_and_its_file(scene, tmp_path):
    pytest.importorskip("torch")
    from rtuncertainty.dose import bands

    result(NASTY).write(tmp_path / "r")
    run = run_scene.load_result(tmp_path / "r")
    assert all(names == NASTY for names in names_of(run)), names_of(run)
    assert (
        run_files.write_distributions(run, NASTY, tmp_path / "bands")
        and list(bands.read(tmp_path / "bands", NASTY)) == NASTY
    )
    job.write_result(run, tmp_path / "dicom")
    found = Result.read(tmp_path / "dicom")
    assert list(found.structures()) == NASTY == [r["structure"] for r in found.table("volumes")]
    export(run, tmp_path / "report", ("html", "csv"))
    rows = tables.read(tmp_path / "report" / "volumes.csv", tables.COLUMNS["volumes"])
    assert [r["structure"].removeprefix("'") for r in rows] == [
        n.removeprefix("'") for n in NASTY
    ]  # no formula for a spreadsheet
    write_scene(tmp_path / "r", tmp_path / "s.mrb")
    holder = headless.new_scene()
    headless.open_scene(holder, tmp_path / "s.mrb")
    ((run_id, _),) = run_scene.find_runs(holder.scene).items()
    again = names_of(run_scene.run_nodes(run_id, holder.scene))
    for names in again:
        assert sorted(names) == sorted(NASTY)


NETWORKS = {
    "m1": ({"width": 4, "features": 8}, {"intrinsic", "parameter", "predictive"}),
    "m2a": ({"width": 4, "features": 8, "dropout": 0.5}, {"intrinsic"}),
    "m2b": ({"width": 4, "features": 8, "dropout": 0.5}, set()),
    "m3": ({"classes": 3, "width": 4, "features": 8, "branch_width": 4, "dropout": 0.5}, {"intrinsic"}),
    "1tn-gl": ({"filters": 2}, {"intrinsic"}),
    "1tn-fl": ({"filters": 2}, {"intrinsic"}),
    "2tn": ({"filters": 2}, {"intrinsic"}),
    "3tn": ({"filters": 2}, {"intrinsic"}),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_a_map_that_a_model_does_not_give_is_no_map_of_zeros(scene, tmp_path, network):
    pytest.importorskip("torch")
    from make_bundle import make_bundle

    from rtuncertainty import predict
    from rtuncertainty.prediction.as_result import as_result

    arguments, missing = NETWORKS[network]
    changes = {"dropout": {"p": 0.0, "where": "nowhere"}} if network == "m1" else {}
    structures = (
        []
        if "classes" not in arguments and network != "3tn"
        else [
            {"name": n, "label": k, "color": [200, 30, 30 * k], "code": None}
            for k, n in enumerate(["bone", "gtv"][: arguments.get("classes", 2) - 1], 1)
        ]
    )
    model = make_bundle(
        tmp_path / "m",
        network=network,
        arguments=arguments,
        outputs={"synct": {"unit": "HU", "scale": 200.0, "offset": 0.0}, "structures": structures},
        **changes,
    )
    array = np.zeros((4, 36, 34), np.float32)
    array[:, 6:30, 6:28] = 100 + 10 * np.random.default_rng(0).random((4, 24, 22))
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 2.0, 4.0))
    as_result(predict(image, model, samples=2)).write(tmp_path / "r")
    found = Result.read(tmp_path / "r")
    run = run_scene.load_result(tmp_path / "r", scene)
    assert {"intrinsic", "parameter", "predictive"} - set(run.overlays) == missing - (
        {"predictive"} if found.has("predictive_sd") else set()
    )
    assert all(
        any(title.lower().startswith(key) and "this model gives none" in title for title in found.notes)
        for key in {"intrinsic", "parameter", "predictive"} - set(run.overlays)
    )
    assert [n for n in ReviewData.of_run(run).notes if "gives none" in n] == found.missing_sds() and len(
        found.missing_sds()
    ) >= (network != "m2b")
    run_scene.show_result(run)


def test_a_scene_of_an_input_that_is_a_dicom_folder(tmp_path):
    result(["a"]).write(tmp_path / "r")
    image = sitk.Cast(Result.read(tmp_path / "r").image("synct"), sitk.sitkInt16)
    image[1, 1, 1] = 100
    (tmp_path / "scan").mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(image.GetSize()[2]):
        part = image[:, :, k]
        for tag, value in (
            ("0020|000e", "1.2.3.4"),
            ("0020|0032", f"0\\0\\{k}"),
            ("0020|0037", "1\\0\\0\\0\\1\\0"),
            ("0008|0060", "MR"),
            ("0020|0013", str(k + 1)),
            ("0008|0018", f"1.2.3.4.{k + 1}"),
            ("0020|000d", "1.2.3"),
        ):
            part.SetMetaData(tag, value)
        writer.SetFileName(str(tmp_path / "scan" / f"{k}.dcm"))
        writer.Execute(part)
    assert write_scene(tmp_path / "r", tmp_path / "s.mrb", tmp_path / "scan").is_file()

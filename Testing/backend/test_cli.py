"""The command line from file to files, and every kind of bad input: one line, the right exit code, nothing left
behind.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from make_bundle import make_bundle
from scipy import ndimage
from test_preprocess import limb

from rtuncertainty.cli import command_line
from rtuncertainty.core import geometry

LIBRARY = Path(__file__).resolve().parents[2] / "RTUncertainty"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with an MR, its CT-like twin and a bundle."""
    folder = tmp_path_factory.mktemp("cli")
    image, body, _ = limb()
    sitk.WriteImage(image, str(folder / "mr.nii.gz"))
    ct = geometry.like(np.where(body, 40, -1000), image, np.int16)
    sitk.WriteImage(ct, str(folder / "ct.nii.gz"))
    make_bundle(folder / "bundle")
    return folder


def run(place, capsys, **changes):
    """`predict` with two samples; returns (exit code, the lines on standard error, output folder)."""
    options = {
        "model": place / "bundle",
        "input": place / "mr.nii.gz",
        "output": place / "out",
        "samples": 2,
        "progress": "none",
        **changes,
    }
    code = command_line.main(
        ["predict", *(str(v) for k, value in options.items() for v in ("--" + k.replace("_", "-"), value))]
    )
    return code, capsys.readouterr().err.strip().splitlines(), Path(options["output"])


def refused(place, capsys, expected, code=2, **changes):
    output = place / "refused"
    before = sorted(place.iterdir())
    got, lines, _ = run(place, capsys, **{"output": output, **changes})
    assert got == code and len(lines) == 1, lines
    assert all(word in lines[0] for word in expected), lines[0]
    assert "Traceback" not in lines[0] and sorted(place.iterdir()) == before


def test_predict_writes_everything_on_the_grid_of_the_input(place, capsys):
    code, lines, out = run(place, capsys, output=place / "whole", reference=place / "ct.nii.gz")
    assert code == 0, lines
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    images = [f for k, f in summary["files"].items() if isinstance(f, str) and f.endswith((".nii.gz", ".nrrd"))]
    images += summary["files"]["probabilities"].values()
    grid = sitk.ReadImage(str(place / "mr.nii.gz"))
    assert len(images) == 13
    for name in images:
        assert geometry.same_grid(sitk.ReadImage(str(out / name)), grid), name
    read = {
        k: sitk.GetArrayFromImage(sitk.ReadImage(str(out / summary["files"][k]))).astype(float)
        for k in ("synct", "intrinsic_sd", "parameter_sd", "predictive_sd", "body", "error", "reference", "zscore")
    }
    body = read["body"] > 0
    assert np.allclose(
        read["predictive_sd"] ** 2, read["intrinsic_sd"] ** 2 + read["parameter_sd"] ** 2, rtol=1e-4, atol=1e-2
    )
    assert np.all(read["synct"][~body] == -1000) and read["intrinsic_sd"][body].min() > 10
    away = ndimage.distance_transform_edt(~body, grid.GetSpacing()[::-1])
    # air beside the body is not certain to be air
    nearest = (away > 0) & (away < 1.01 * away[away > 0].min())
    assert read["predictive_sd"][nearest].min() > 0 and not read["predictive_sd"][away > 10].any()
    scored = read["error"] != 0
    assert scored.sum() > 0.8 * body.sum()
    assert np.allclose((read["synct"] - read["reference"])[scored], read["error"][scored], atol=0.51)
    assert np.allclose(
        (read["zscore"] * read["predictive_sd"])[scored & (read["predictive_sd"] > 0)],
        read["error"][scored & (read["predictive_sd"] > 0)],
        atol=1e-2,
    )
    with open(out / "volumes.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "structures.seg.nrrd")))
    for row, label in zip(rows, (1, 2)):
        assert float(row["volume_ml"]) == pytest.approx((labels == label).sum() * 16 / 1000, abs=1e-3)
        assert (row["lower_ml"], row["upper_ml"], row["calibrated"]) == ("", "", "no")
    with open(out / "metrics.csv", newline="", encoding="utf-8") as f:
        mae = next(float(r["value"]) for r in csv.DictReader(f) if (r["region"], r["metric"]) == ("body", "MAE"))
    assert mae == pytest.approx(np.abs(read["error"][scored]).mean(), rel=0.01)
    assert not [p for p in place.iterdir() if p.name.endswith(".part")]


def test_segments_are_named_as_the_card_does(place, capsys):
    out = run(place, capsys, output=place / "named")[2]
    header = sitk.ReadImage(str(out / "structures.seg.nrrd"))
    assert header.GetMetaData("Segment0_Name") == "bone" and header.GetMetaData("Segment1_LabelValue") == "2"
    assert "SCT^272673000^Bone" in header.GetMetaData("Segment0_Tags")


def test_the_same_seed_gives_the_same_files(place, capsys):
    a = run(place, capsys, output=place / "a", seed=3)[2]
    b = run(place, capsys, output=place / "b", seed=3)[2]
    c = run(place, capsys, output=place / "c", seed=4)[2]
    a, b, c = (sitk.GetArrayFromImage(sitk.ReadImage(str(p / "synct_parameter_sd.nii.gz"))) for p in (a, b, c))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_events_are_json_lines(place, capsys):
    command_line.main(
        [
            "predict",
            "--model",
            str(place / "bundle"),
            "--input",
            str(place / "mr.nii.gz"),
            "--output",
            str(place / "ev"),
            "--samples",
            "4",
            "--progress",
            "json",
        ]
    )
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[-1] == {"event": "done", "output": str(place / "ev")}
    progress = [e for e in events if e["event"] == "progress"]
    assert [e["stage"] for e in progress][0] == "read" and {"preprocess", "network", "assemble", "write"} <= {
        e["stage"] for e in progress
    }
    overall = [e["overall"] for e in progress]
    assert overall == sorted(overall) and overall[-1] <= 1


@pytest.mark.parametrize(
    "direction",
    [
        (0, 0, 1, 1, 0, 0, 0, 1, 0),
        (-1, 0, 0, 0, -1, 0, 0, 0, 1),
        (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1),
        (0.96, 0, 0.28, 0, 1, 0, -0.28, 0, 0.96),
    ],
)
def test_directions_that_are_not_axis_aligned_work(place, capsys, direction):
    image = sitk.ReadImage(str(place / "mr.nii.gz"))
    image.SetDirection(direction)
    image.SetOrigin((12.5, -80, 33))
    sitk.WriteImage(image, str(place / "turned.nii.gz"))
    code, lines, out = run(place, capsys, input=place / "turned.nii.gz", output=place / "turned")
    assert code == 0, lines
    synct = sitk.ReadImage(str(out / "synct.nii.gz"))
    assert geometry.same_grid(synct, image)
    # turned voxels are the same voxels: the body is where it was in the array
    straight = sitk.GetArrayFromImage(
        sitk.ReadImage(str(run(place, capsys, output=place / "straight")[2] / "body.nii.gz"))
    )
    # (along other slices its outline, which is found slice by slice, may differ by a voxel here and there)
    assert (straight == sitk.GetArrayFromImage(sitk.ReadImage(str(out / "body.nii.gz")))).mean() > 0.97


def test_dicom_series(place, capsys, dicom_series):
    code, lines, out = run(place, capsys, input=dicom_series, output=place / "from_dicom")
    assert code == 0, lines
    expected = sitk.ReadImage(str(place / "mr.nii.gz"))
    assert geometry.same_grid(sitk.ReadImage(str(out / "synct.nii.gz")), expected)


@pytest.fixture(scope="module")
def dicom_series(place):
    """The MR of `place` as a DICOM series."""
    image = sitk.ReadImage(str(place / "mr.nii.gz"))
    folder = place / "dicom"
    folder.mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for z in range(image.GetDepth()):
        one = sitk.Cast(image[:, :, z], sitk.sitkInt16)
        position = "\\".join(map(str, image.TransformIndexToPhysicalPoint((0, 0, z))))
        for key, value in {
            "0008|0060": "MR",
            "0020|000e": "1.2.826.0.1.3680043.2.1125.1",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.2",
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.3.{z}",
            "0020|0032": position,
            "0020|0013": str(z),
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0018|0050": "4",
        }.items():
            one.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{z}.dcm"))
        writer.Execute(one)
    return folder


def bad(place, name, make):
    path = place / name
    if not path.exists():
        image = make(sitk.ReadImage(str(place / "mr.nii.gz")))
        sitk.WriteImage(image, str(path))
    return path


def with_value(value):
    def change(image):
        array = sitk.GetArrayFromImage(image)
        array[3, 3, 3] = value
        return geometry.like(array, image)

    return change


def test_missing_file(place, capsys):
    refused(place, capsys, ["nowhere.nii.gz", "does not exist"], input=place / "nowhere.nii.gz")


def test_not_an_image(place, capsys):
    (place / "text.nii.gz").write_text("no image", encoding="utf-8")
    refused(place, capsys, ["text.nii.gz", "cannot be read"], input=place / "text.nii.gz")


def test_truncated_image(place, capsys):
    data = (place / "mr.nii.gz").read_bytes()
    (place / "half.nii.gz").write_bytes(data[: len(data) // 2])
    refused(place, capsys, ["half.nii.gz", "cannot be read"], input=place / "half.nii.gz")


def test_folder_without_dicom(place, capsys):
    (place / "empty").mkdir(exist_ok=True)
    refused(place, capsys, ["empty", "no DICOM series"], input=place / "empty")


@pytest.mark.parametrize(
    "name,make,words",
    [
        ("flat.nii.gz", lambda i: i[:, :, 3], ["flat.nii.gz", "2 dimensions"]),
        ("slice.nii.gz", lambda i: i[:, :, 3:4], ["slice.nii.gz", "single slice"]),
        ("four.nii.gz", lambda i: sitk.JoinSeries([i, i]), ["four.nii.gz", "4 dimensions"]),
        ("vector.nii.gz", lambda i: sitk.Compose(i, i), ["vector.nii.gz", "2 values per voxel"]),
        ("constant.nii.gz", lambda i: i * 0 + 5, ["constant.nii.gz", "same value"]),
        ("zero.nii.gz", lambda i: i * 0, ["zero.nii.gz", "same value"]),
        ("nan.nii.gz", with_value(np.nan), ["nan.nii.gz", "1 values that are NaN"]),
        ("inf.nii.gz", with_value(np.inf), ["inf.nii.gz", "infinite"]),
        ("tiny.nii.gz", lambda i: i[30:34, 30:34, 3:6], ["tiny.nii.gz", "at least 8×8×2"]),
        ("complex.nrrd", lambda i: sitk.RealAndImaginaryToComplex(i, i), ["complex.nrrd", "2 values per voxel"]),
        ("giant.nrrd", lambda i: _spaced(i, (100, 100, 100)), ["giant.nrrd", "m long", "spacing"]),
    ],
)
def test_bad_images(place, capsys, name, make, words):
    refused(place, capsys, words, input=bad(place, name, make))


def test_zero_spacing(place, capsys):
    import gzip
    import struct

    data = bytearray(gzip.decompress((place / "mr.nii.gz").read_bytes()))
    struct.pack_into("<f", data, 76 + 4, 0.0)  # pixdim[1] of the NIfTI header
    (place / "nospacing.nii").write_bytes(data)
    code, lines, _ = run(place, capsys, input=place / "nospacing.nii", output=place / "refused")
    # ITK itself repairs or refuses it: both are right, a crash or a silent result in zero millimetres is not
    assert code in (0, 2) and len(lines) == (code == 2)
    if code == 0:
        assert min(sitk.ReadImage(str(place / "refused" / "synct.nii.gz")).GetSpacing()) > 0
        import shutil

        shutil.rmtree(place / "refused")


def _spaced(image, spacing):
    image.SetSpacing(spacing)
    return image


@pytest.mark.parametrize(
    "name,offset,form,value,words",
    [
        ("size0", 80, "<f", 0.0, "voxel size"),
        ("sizenan", 88, "<f", np.nan, "voxel size"),
        ("bits", 72, "<h", 0, "header is damaged"),
        ("offset", 108, "<f", np.nan, "header is damaged"),
        ("dimensions", 40, "<h", 0, "header is damaged"),
    ],
)
def test_nifti_headers_that_make_no_image(place, capsys, name, offset, form, value, words):
    """ITK takes a voxel size of 0 for 1 mm: volumes would be wrong, and nobody told."""
    import gzip
    import struct

    data = bytearray(gzip.decompress((place / "mr.nii.gz").read_bytes()))
    struct.pack_into(form, data, offset, value)
    (place / f"{name}.nii").write_bytes(data)
    refused(place, capsys, [f"{name}.nii", words], input=place / f"{name}.nii")


def test_sheared_axes(place, capsys):
    sitk.WriteImage(sitk.ReadImage(str(place / "mr.nii.gz")), str(place / "sheared.mhd"))
    lines = (place / "sheared.mhd").read_text(encoding="utf-8").splitlines()
    changed = [
        "TransformMatrix = 1 0 0 0.3 0.95 0 0 0 1" if line.startswith("TransformMatrix") else line for line in lines
    ]
    (place / "sheared.mhd").write_text("\n".join(changed) + "\n", encoding="utf-8")
    refused(place, capsys, ["sheared.mhd", "right angles"], input=place / "sheared.mhd")
    (place / "sheared.zraw").unlink(missing_ok=True)
    (place / "sheared.raw").unlink(missing_ok=True)
    refused(place, capsys, ["sheared.mhd", "voxels is missing"], input=place / "sheared.mhd")


def test_slices_that_make_no_volume(place, capsys):
    """ITK closes gaps and takes copies for slices of their own, so that nothing has its size any more."""
    pydicom = pytest.importorskip("pydicom")
    from make_dicom import write_series

    mr = sitk.Cast(sitk.ReadImage(str(place / "mr.nii.gz")), sitk.sitkInt16)

    def series(name, change=None, **options):
        folder = write_series(mr, place / "series" / name, "MR", **options)
        for k, file in enumerate(sorted(folder.iterdir(), key=lambda f: pydicom.dcmread(f).ImagePositionPatient[2])):
            if change is not None:
                slice_ = pydicom.dcmread(file)
                change(k, slice_)
                slice_.save_as(file)
        return folder

    def tilt(k, slice_):
        x, y, z = map(float, slice_.ImagePositionPatient)
        slice_.ImagePositionPatient = [x, y + k, z]

    def localiser(k, slice_):
        if k == 2:
            slice_.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]

    def without_place(k, slice_):
        del slice_.ImagePositionPatient

    code, lines, out = run(place, capsys, input=series("whole"), output=place / "from_whole")
    assert code == 0, lines
    assert geometry.same_grid(sitk.ReadImage(str(out / "synct.nii.gz")), mr)
    refused(place, capsys, ["gap", "slices are missing"], input=series("gap", skip=(4,)))
    refused(place, capsys, ["tilted", "tilted gantry"], input=series("tilted", tilt))
    refused(place, capsys, ["localiser", "orientation"], input=series("localiser", localiser))
    refused(place, capsys, ["placeless", "position"], input=series("placeless", without_place))
    copies = series("copies")
    (copies / "copy.dcm").write_bytes(next(iter(sorted(copies.iterdir()))).read_bytes())
    refused(place, capsys, ["copies", "several lie at one position"], input=copies)
    damaged = series("damaged")
    file = sorted(damaged.iterdir())[3]
    file.write_bytes(file.read_bytes()[:300])
    refused(place, capsys, ["damaged/IM", "copy it again"], input=damaged)


def test_an_mr_as_reference(place, capsys):
    refused(place, capsys, ["mr.nii.gz", "no CT in HU"], reference=place / "mr.nii.gz")


def test_empty_arguments(place, capsys):
    """What a shell makes of a variable that is not set: results would go into the current folder."""
    refused(place, capsys, ["--input is empty"], input="")
    before = sorted(Path().iterdir())
    code, lines, _ = run(place, capsys, output="")
    assert code == 2 and len(lines) == 1 and "--output is empty" in lines[0] and sorted(Path().iterdir()) == before


def test_a_name_that_is_too_long_for_the_disk(place, capsys):
    code, lines, _ = run(place, capsys, output=place / ("n" * 300))
    assert code == 2 and len(lines) == 1 and "cannot be written" in lines[0]


def test_interrupted_before_signals_are_looked_after(capsys, monkeypatch):
    def interrupt(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "_models", interrupt)
    assert command_line.main(["models"]) == 4
    assert capsys.readouterr().err.strip() == "rtuncertainty: Cancelled; nothing was written."


def test_ct_where_mr_is_asked_for(place, capsys):
    refused(place, capsys, ["ct.nii.gz", "is a CT", "choose the MR"], input=place / "ct.nii.gz")


def test_reference_elsewhere(place, capsys):
    far = sitk.ReadImage(str(place / "ct.nii.gz"))
    far.SetOrigin((5000, 0, 0))
    sitk.WriteImage(far, str(place / "far.nii.gz"))
    refused(place, capsys, ["far.nii.gz", "do not overlap"], reference=place / "far.nii.gz")


@pytest.mark.parametrize(
    "option,value,words",
    [
        ("samples", 0, ["2 or more"]),
        ("samples", "many", ["samples"]),
        ("seed", -1, ["seed"]),
        ("bias_field", "maybe", ["bias-field"]),
        ("device", "tpu", ["device 'tpu'"]),
    ],
)
def test_bad_options(place, capsys, option, value, words):
    refused(place, capsys, words, **{option: value})


def test_no_space_left_is_found_before_the_run(place, capsys, monkeypatch):
    import collections
    import shutil

    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: collections.namedtuple("usage", "total used free")(10, 10, 1000)
    )
    refused(place, capsys, ["results need about", "free"])


def test_no_space_left_while_writing(place, capsys, monkeypatch):
    import errno

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sitk, "WriteImage", full)
    refused(place, capsys, ["no space left"])


def test_output_is_a_file(place, capsys):
    (place / "file").write_text("keep me", encoding="utf-8")
    refused(place, capsys, ["is a file"], output=place / "file")
    assert (place / "file").read_text(encoding="utf-8") == "keep me"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(place, capsys):
    locked = place / "locked"
    locked.mkdir(exist_ok=True)
    locked.chmod(0o500)
    refused(place, capsys, ["no permission"], output=locked / "out")


def test_no_permission_even_for_root(place, capsys):
    refused(place, capsys, ["/proc/nowhere"], output="/proc/nowhere/out")


def test_an_earlier_result_survives_a_failed_run(place, capsys):
    out = run(place, capsys, output=place / "kept")[2]
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    code, _, _ = run(place, capsys, output=place / "kept", input=bad(place, "nan.nii.gz", with_value(np.nan)))
    assert code == 2 and {p.name: p.read_bytes() for p in out.iterdir()} == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_cancel_and_leave_nothing(place, number):
    command = [
        sys.executable,
        "-m",
        "rtuncertainty",
        "predict",
        "--model",
        str(place / "bundle"),
        "--input",
        str(place / "mr.nii.gz"),
        "--output",
        str(place / "cancelled"),
        "--samples",
        "100000",
        "--progress",
        "json",
    ]
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(LIBRARY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    for line in process.stdout:
        if '"network"' in line and '"fraction": 0.0,' not in line:
            break
    process.send_signal(number)
    started = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 4 and time.monotonic() - started < 20
    assert (
        json.loads(out.splitlines()[-1])["exit_code"] == 4
        and err.strip() == "rtuncertainty: Cancelled; nothing was written."
    )
    assert not [p for p in place.iterdir() if "cancelled" in p.name]


def test_models_lists_bundles(place, capsys, monkeypatch):
    monkeypatch.setenv("RTU_MODELS", str(place))
    assert command_line.main(["models"]) == 0 and "test-synct" in capsys.readouterr().out
    assert command_line.main(["models", "--json"]) == 0
    assert any(c["name"] == "test-synct" for c in json.loads(capsys.readouterr().out))


def test_importing_and_listing_loads_no_torch(place):
    code = (
        "import sys, rtuncertainty, rtuncertainty.cli; rtuncertainty.list_bundles(); assert 'torch' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(LIBRARY), "RTU_MODELS": str(place)},
        check=True,
    )


def test_a_second_run_leaves_nothing_of_the_first_but_keeps_other_files(place):
    from rtuncertainty.core.image_io import Staging

    out = place / "again"
    for files in (
        {"synct": "a.nii.gz", "error": "error.nii.gz", "probabilities": {"bone": "p.nii.gz"}, "bad": "../mr.nii.gz"},
        {"synct": "a.nii.gz"},
    ):
        with Staging(out) as staging:
            for name in [
                n for v in files.values() for n in (v.values() if isinstance(v, dict) else [v]) if "/" not in n
            ]:
                staging.text(name, name)
            if "error" in files:
                staging.text("report", "report.html")
            staging.text(json.dumps({"files": files}), "summary.json")
            staging.commit()
        (out / "notes.txt").write_text("mine", encoding="utf-8")
    assert {p.name for p in out.iterdir()} == {"a.nii.gz", "summary.json", "notes.txt"}
    assert (place / "mr.nii.gz").exists()


@pytest.mark.parametrize(
    "error,code",
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), 1),
        (RuntimeError("memory format option is only supported by strided tensors"), 1),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), 3),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory: you tried to allocate 9 "
                "bytes"
            ),
            3,
        ),
        (RuntimeError("ITK ERROR: Image(0x1): Failed to allocate memory for image."), 3),
        (MemoryError("Unable to allocate 5.8 TiB for an array"), 3),
    ],
)
def test_only_what_ran_out_of_memory_is_said_to(place, capsys, monkeypatch, error, code):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("rtuncertainty.jobs.prediction.predict_to_folder", fails)
    assert run(place, capsys)[0] == code

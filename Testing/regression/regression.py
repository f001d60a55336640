"""The same numbers as before: every command of the command line on small digital patients, compared with
`expected.json`.

    python Testing/regression/regression.py record    # writes expected.json; with --only, those steps of it
    python Testing/regression/regression.py compare   # one line for each difference, exit code 1 where there is one
    … --only limb dvh (with what they need), --exact (every bit), --keep DIR (the results stay there)

After packages were renamed, change `PACKAGE` and `MAKERS`; nothing else here knows their names.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import io
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "rtuncertainty"  # `python -m` of it is the command line
MAKERS = {
    "digital_limb": f"{PACKAGE}.phantoms.limb",
    "digital_pelvis": f"{PACKAGE}.phantoms.pelvis",
    "daily_scan": f"{PACKAGE}.phantoms.daily_anatomy",
}

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EXPECTED = HERE / "expected.json"
# one thread in each process: sums come out the same; two processes beside each other
THREADS = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"), "1"
)
os.environ |= THREADS
PATHS = [str(ROOT / "RTUncertainty"), str(ROOT), str(ROOT / "Testing" / "backend")]
TOLERANCE = 1e-4  # of an image's range, of a number
ROWS = 40  # of a table, evenly spread, are kept
# what may differ between two runs, two machines, two versions
UNSTABLE = {"created", "seconds", "versions", "device_used"}
UNSTABLE_VR, UNSTABLE_TAGS = (
    {"UI", "DA", "TM", "DT"},
    {"SoftwareVersions", "PixelData", "ContourData", "VectorGridData"},
)

import numpy as np  # noqa: E402 (after the threads were set)
import SimpleITK as sitk  # noqa: E402


# ------------------------------------------------------------------ inputs
def _image(array: np.ndarray, spacing, dtype=np.int16) -> sitk.Image:
    """An image whose middle lies at (0, 0, 0)."""
    made = sitk.GetImageFromArray(np.ascontiguousarray(array, dtype))
    made.SetSpacing([float(s) for s in spacing])
    made.SetOrigin([-(n - 1) / 2 * s for n, s in zip(made.GetSize(), made.GetSpacing())])
    return made


def _places(size, spacing) -> list[np.ndarray]:
    """x, y, z in mm from the middle, each [z, y, x]."""
    z, y, x = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(size[::-1], spacing[::-1])], indexing="ij")
    return [x, y, z]


def neck(size=(44, 44, 52), spacing=(4.0, 4.0, 3.0)) -> tuple[sitk.Image, dict[str, sitk.Image]]:
    """(CT, masks) of a head and neck of ellipsoids."""
    x, y, z = _places(size, spacing)

    def ball(cx, cy, cz, rx, ry, rz):
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2 < 1

    body = ball(0, 0, 45, 74, 82, 70) | ((x / 58) ** 2 + ((y - 5) / 62) ** 2 < 1)
    jaw = ball(0, -25, -12, 46, 50, 12) & ~ball(0, -18, -12, 37, 42, 30)
    parts = {
        "Brainstem": (ball(0, 18, 20, 13, 12, 20), 35),
        "SpinalCord": ((np.hypot(x, y - 22) < 6) & (z < 0), 30),
        "Parotid_R": (ball(-47, 12, -2, 12, 16, 20), -20),
        "Parotid_L": (ball(47, 12, -2, 12, 16, 20), -20),
        "Larynx": (ball(0, -22, -52, 16, 14, 16), 45),
        "Mandible": (jaw & (y < 10), 900),
        "PTV": (ball(24, -8, -25, 20, 18, 18), 40),
    }
    hu = np.where(body, 20.0 + 25 * np.sin(x / 11) * np.sin(y / 13) * np.sin(z / 17), -1000.0)
    hu[ball(0, 0, 45, 70, 78, 66) & ~ball(0, 0, 45, 62, 70, 58) & (z > 10)] = 800
    hu[(np.hypot(x, y - 32) < 15) & (np.hypot(x, y - 22) > 8) & (z < 10)] = 400
    for mask, value in parts.values():
        hu[mask] = value
    hu[(np.hypot(x, y + 18) < 7) & (z < -20)] = -950
    hu += 8 * np.random.default_rng(1).standard_normal(hu.shape)
    return _image(np.rint(hu), spacing), {n: _image(m, spacing, np.uint8) for n, (m, _) in parts.items()}


def atrium(size=(56, 48, 32), spacing=(1.875,) * 3) -> sitk.Image:
    """A bright lobed cavity in a darker, uneven surrounding."""
    x, y, z = _places(size, spacing)
    r = np.minimum(
        np.sqrt((x / 24) ** 2 + (y / 18) ** 2 + (z / 17) ** 2),
        np.sqrt(((x - 22) / 16) ** 2 + ((y + 10) / 9) ** 2 + (z / 9) ** 2),
    )
    signal = (
        60
        + 35 * np.sin(x / 9) * np.cos(y / 8)
        + 15 * np.cos(z / 6)
        + 130 / (1 + np.exp(np.clip(12 * (r - 1), -50, 50)))
    )
    return _image(np.rint(np.maximum(signal + 4 * np.random.default_rng(2).standard_normal(r.shape), 0)), spacing)


def _labelled(masks: dict[str, sitk.Image], path: Path) -> None:
    """Write masks as one label image, the first on top, with its names in a .json beside it."""
    labels = np.zeros(next(iter(masks.values())).GetSize()[::-1], np.uint8)
    for k, mask in enumerate(masks.values(), 1):
        labels[(sitk.GetArrayViewFromImage(mask) > 0) & (labels == 0)] = k
    made = sitk.GetImageFromArray(labels)
    made.CopyInformation(next(iter(masks.values())))
    sitk.WriteImage(made, str(path), True)
    path.with_name(path.name.split(".")[0] + ".json").write_text(
        json.dumps({n: k for k, n in enumerate(masks, 1)}), encoding="utf-8"
    )


def make_inputs(folder: Path) -> None:
    """Write the inputs of all steps into `folder`."""
    sys.path[:0] = PATHS
    digital_limb, digital_pelvis, daily_scan = (
        getattr(importlib.import_module(module), name) for name, module in MAKERS.items()
    )
    from make_dicom import circle, write_series, write_structure_set

    folder.mkdir(parents=True)
    limb = digital_limb(3, size=(72, 72, 16), spacing=(1.5, 1.5, 3.0))
    write_series(limb.mr, folder / "limb-mr", "MR", root="1.2.3.11")
    sitk.WriteImage(limb.ct, str(folder / "limb-ct.nii.gz"), True)
    sitk.WriteImage(limb.labels, str(folder / "limb-labels.nrrd"), True)
    (folder / "limb-labels.json").write_text(json.dumps({"bone": 1, "gtv": 2}), encoding="utf-8")

    sitk.WriteImage(
        digital_pelvis(1, size=(104, 68, 18), spacing=(2.4, 2.4, 6.0)).mr, str(folder / "pelvis-mr.nii.gz"), True
    )
    pelvis = digital_pelvis(5001, size=(66, 44, 20), spacing=(4.0, 4.0, 6.0))
    names = ("femoral_head_left", "femoral_head_right", "prostate", "rectum", "bladder")  # labels 2 to 6
    masks = {n: sitk.Equal(pelvis.labels, k) for k, n in enumerate(names, 2)}
    day = daily_scan(pelvis.ct, masks, 5001)
    write_series(pelvis.ct, folder / "pelvis-ct", root="1.2.3.21")
    write_series(day.ct, folder / "pelvis-day", root="1.2.3.22", study="1.2.3.21.9")
    _labelled(masks, folder / "pelvis-labels.nrrd")

    ct, masks = neck()
    sitk.WriteImage(ct, str(folder / "neck.nii.gz"), True)
    _labelled(masks, folder / "neck-labels.nrrd")
    sitk.WriteImage(daily_scan(ct, masks, 3).ct, str(folder / "neck-day.nii.gz"), True)
    sitk.WriteImage(atrium(), str(folder / "atrium.nii.gz"), True)

    for name, grid, step in (("limb", limb.ct, 2), ("neck", ct, 1)):
        grid = grid[::step, ::step, :]
        x, y, z = _places(grid.GetSize(), grid.GetSpacing())
        dose = 50 * np.exp(-((x - 10) ** 2 + (y + 5) ** 2) / 3000) + 0.1 * z + 10
        for suffix, values in (("", dose), ("-shifted", np.roll(dose, 1, 2) * 1.01)):
            image = sitk.GetImageFromArray(values.astype(np.float32))
            image.CopyInformation(grid)
            sitk.WriteImage(image, str(folder / f"dose-{name}{suffix}.nrrd"), True)
    drawn = [
        (n, [circle(cx, cy, z, r) for z in np.arange(-15.0, 16, 3)])
        for n, cx, cy, r in (("ball", 5, -3, 14), ("rod", -20, 10, 6))
    ]
    write_structure_set(folder / "drawn.dcm", drawn, frame=None)
    plan = {"prescription_gy": 40, "grid_mm": 4, "beams": [0, 110]}
    (folder / "photon.json").write_text(json.dumps(plan), encoding="utf-8")
    (folder / "proton.json").write_text(json.dumps(plan | {"modality": "proton"}), encoding="utf-8")


# ------------------------------------------------------------------ steps
@dataclass(frozen=True)
class Step:
    """A command line, run in the work folder; `needs` are steps whose results it reads; `fast` ones are part of
    `make test`.
    """

    arguments: str
    needs: tuple[str, ...] = ()
    fast: bool = False


_CPU = "--device cpu --progress none"
_JOB = f"--samples 4 {_CPU}"
_PELVIS_DAY = (
    "propagate --model pelvis-ct-propagation-phantom --planning inputs/pelvis-ct --structures "
    "inputs/pelvis-labels.nrrd --daily inputs/pelvis-day"
)
# those that take longest first; what is needed before what needs it
STEPS = {
    "demo": Step(f"demo --output demo {_JOB}"),
    "demo-propagate": Step(f"demo --job propagate --output demo-propagate {_JOB}"),
    "limb": Step(
        f"predict --model limb-t1-synct --input inputs/limb-mr --reference inputs/limb-ct.nii.gz --output limb {_JOB}",
        fast=True,
    ),
    "pelvis-day": Step(f"{_PELVIS_DAY} --refine full --report --output pelvis-day {_JOB}"),
    "pelvis-plain": Step(
        f"{_PELVIS_DAY} --refine off --symmetric off --rigid off --seed 3 --output pelvis-plain {_JOB}"
    ),
    "neck-day": Step(
        "propagate --model headneck-ct-propagation --planning inputs/neck.nii.gz --structures inputs/neck-labels.nrrd "
        f"--daily inputs/neck-day.nii.gz --scene --output neck-day {_JOB}",
        fast=True,
    ),
    "pelvis": Step(
        "predict --model pelvis-t2-synct-phantom --input inputs/pelvis-mr.nii.gz --bias-field off --scene --output "
        f"pelvis {_JOB}"
    ),
    "organs": Step(f"predict --model headneck-ct-organs --input inputs/neck.nii.gz --output organs {_JOB}", fast=True),
    "atrium": Step(
        f"predict --model left-atrium-mr --input inputs/atrium.nii.gz --report --output atrium {_JOB}", fast=True
    ),
    "dose-photon": Step(
        "dose --ct inputs/limb-ct.nii.gz --structures inputs/limb-labels.nrrd --target gtv --synct limb --plan "
        "inputs/photon.json "
        f"--samples 3 --output dose-photon {_CPU}",
        ("limb",),
    ),
    "dose-proton": Step(
        "dose --ct inputs/limb-ct.nii.gz --structures inputs/limb-labels.nrrd --target gtv --synct limb/synct.nii.gz "
        "--plan inputs/proton.json "
        f"--samples 0 --output dose-proton {_CPU}",
        ("limb",),
    ),
    "dvh-limb": Step(
        "dvh --dose inputs/dose-limb.nrrd --structures inputs/limb-labels.nrrd --bands limb --prescription 50 --output "
        "dvh-limb/dvh.csv "
        f"{_CPU}",
        ("limb",),
        True,
    ),
    "dvh-neck": Step(
        "dvh --dose inputs/dose-neck.nrrd --structures neck-day/structures.seg.nrrd --bands neck-day --output "
        f"dvh-neck/dvh.csv {_CPU}",
        ("neck-day",),
        True,
    ),
    "dvh-drawn": Step(
        "dvh --dose inputs/dose-limb.nrrd --structures inputs/drawn.dcm --dose-unit Gy --output dvh-drawn/dvh.csv "
        f"{_CPU}"
    ),
    "gamma": Step(
        "gamma --reference inputs/dose-limb.nrrd --evaluated inputs/dose-limb-shifted.nrrd --output gamma/gamma.nrrd "
        "--device cpu",
        (),
        True,
    ),
    "gamma-local": Step(
        "gamma --reference inputs/dose-neck.nrrd --evaluated inputs/dose-neck-shifted.nrrd --local --dose-percent 3 "
        "--distance-mm 1 "
        "--cutoff 20 --output gamma-local/gamma.nii.gz --device cpu"
    ),
    "export-limb": Step(
        "export --result limb --dicom-reference inputs/limb-mr --what rtstruct ct seg probability --output export-limb",
        ("limb",),
        True,
    ),
    "export-day": Step(
        "export --result pelvis-day --dicom-reference inputs/pelvis-day --dicom-planning inputs/pelvis-ct --output "
        "export-day",
        ("pelvis-day",),
    ),
    "models": Step("models", (), True),
}


def run(name: str, work: Path) -> tuple[dict, float]:
    """(record, seconds) of a step: what it wrote, and what it said."""
    started = time.monotonic()
    environment = {k: v for k, v in os.environ.items() if k != "RTU_MODELS"} | THREADS
    environment |= {"PYTHONPATH": os.pathsep.join(PATHS[:2]), "PYTHONHASHSEED": "0", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", PACKAGE, *STEPS[name].arguments.split()],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    said = (done.stdout + done.stderr).replace(str(work.resolve()), "").replace(str(work), "").replace(str(ROOT), "")
    found = {"": {"exit": done.returncode, "said": [line for line in said.splitlines() if line.strip()]}}
    if (work / name).is_dir():
        found |= record(work / name)
    return found, time.monotonic() - started


def run_all(names: list[str], work: Path) -> dict:
    """Run steps, two at a time; returns {step: {file: record}}."""
    started = time.monotonic()
    make_inputs(work / "inputs")
    found = {"inputs": record(work / "inputs")}
    print(f"{time.monotonic() - started:6.1f} s  inputs", flush=True)
    futures = {}

    def one(name):
        for other in STEPS[name].needs:
            futures[other].result()
        done, seconds = run(name, work)
        print(f"{seconds:6.1f} s  {name}", flush=True)
        return done

    with ThreadPoolExecutor(2) as pool:
        for name in names:
            futures[name] = pool.submit(one, name)
    spent = sum(os.times()[:4])
    print(f"{time.monotonic() - started:6.1f} s  in all, {spent:.0f} s of a processor", flush=True)
    return found | {name: future.result() for name, future in futures.items()}


# ------------------------------------------------------------------ records
def record(folder: Path) -> dict:
    """{path: record} of all files in a folder; DICOM slices in one folder are one record."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name, suffix = path.relative_to(folder).as_posix(), path.suffix
        if suffix == ".dcm" and len(list(path.parent.glob("*.dcm"))) > 4:
            name = path.parent.relative_to(folder).as_posix()
            if name not in found:
                found[name] = _dicom(sorted(path.parent.glob("*.dcm")))
        elif suffix == ".dcm":
            found[name] = _dicom([path])
        elif suffix == ".json":
            found[name] = _stable(json.loads(path.read_text(encoding="utf-8")))
        elif suffix == ".csv":
            lines = path.read_text(encoding="utf-8").splitlines()
            found[name] = {"lines": len(lines), "rows": lines[:: max(1, math.ceil(len(lines) / ROWS))]}
        elif suffix == ".html":
            found[name] = [
                re.sub("<[^>]*>", "", h)
                for h in re.findall(r"<h[1-6][^>]*>(.*?)</h", path.read_text(encoding="utf-8"), re.S)
            ]
        elif suffix == ".mrb":
            found[name] = _nodes(path)
        elif suffix == ".h5":
            found[name] = _transform(path)
        else:
            found[name] = _voxels(path)
    return found


def _stable(tree):
    """A summary without what changes from run to run; of a model, its name and version."""
    if isinstance(tree, dict):
        tree = {k: v for k, v in tree.items() if k not in UNSTABLE}
        if "weights" in tree and "architecture" in tree:
            return {k: tree[k] for k in ("name", "version")}
        return {k: _stable(v) for k, v in tree.items()}
    return [_stable(v) for v in tree] if isinstance(tree, list) else tree


def _nodes(path: Path) -> list[str]:
    """Sorted class and name of the nodes of a scene."""
    with zipfile.ZipFile(path) as archive:
        [scene] = [n for n in archive.namelist() if n.endswith(".mrml")]
        text = archive.read(scene).decode("utf-8")
    return sorted(
        f"{kind} {name}" for kind, name in re.findall(r'<(\w+)\s[^>]*?\bname="([^"]*)"', text) if "Storage" not in kind
    )


def _short(value) -> float:
    return float(f"{float(value):.7g}")


def numbers(array) -> dict:
    """Statistics of an array, 16 values of it at fixed places, and the SHA-256 of all."""
    array = np.ascontiguousarray(array)
    values, at = array.astype(np.float64), np.random.default_rng(16).random((16, array.ndim)) * 0.6 + 0.2
    flat = values[np.isfinite(values)] if values.size else np.zeros(1)
    where = tuple((at * array.shape).astype(int).T)
    return {
        "n": int(array.size),
        "not_finite": int(values.size - flat.size) if values.size else 0,
        "whole": array.dtype.kind in "iub",
        "sum": _short(flat.sum()),
        "mean": _short(flat.mean()),
        "sd": _short(flat.std()),
        "min": _short(flat.min()),
        "max": _short(flat.max()),
        "at": [_short(v) for v in values[where]] if values.size else [],
        "sha": hashlib.sha256(array.tobytes()).hexdigest()[:16],
    }


def labels(array: np.ndarray) -> dict:
    """Voxels and the middle (voxels) of every label but 0, and the SHA-256 of all."""
    counts = {}
    for value in np.unique(array[array != 0]):
        at = np.nonzero(array == value)
        counts[str(value)] = {"voxels": int(at[0].size), "middle": [round(float(a.mean()), 4) for a in at]}
    return {"counts": counts, "sha": hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]}


def _contents(array: np.ndarray) -> dict:
    """The record of an array: of labels where it holds whole numbers up to 10, nested contours (to 100) and signals
    have more.
    """
    return (labels if array.dtype.kind in "iu" and array.size and array.min() >= 0 and array.max() <= 10 else numbers)(
        array
    )


def _voxels(path: Path) -> dict:
    """Geometry and voxels of an image; the segments of a segmentation."""
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    geometry = {
        k: [_short(v) for v in getattr(image, f"Get{k.title()}")()] for k in ("size", "spacing", "origin", "direction")
    }
    segments = {
        k: image.GetMetaData(k)
        for k in sorted(image.GetMetaDataKeys())
        if re.fullmatch(r"Segment\d+_(Name|LabelValue|Layer|Color|Tags)", k)
    }
    return {
        "geometry": geometry,
        "type": f"{array.dtype} {list(array.shape)}",
        **({"segments": segments} if segments else {}),
        **_contents(array),
    }


def _transform(path: Path) -> dict:
    """Where a transform takes the points of a lattice."""
    transform = sitk.ReadTransform(str(path))
    points = np.array(np.meshgrid(*[np.linspace(-60, 60, 7)] * 3, indexing="ij")).reshape(3, -1).T
    return numbers(np.array([transform.TransformPoint(p) for p in points.tolist()]) - points)


def _dicom(paths: list[Path]) -> dict:
    """Elements of the first file but UIDs and dates (of a sequence, those of its first two items), and the numbers
    of all.
    """
    import pydicom

    files = [pydicom.dcmread(p) for p in paths]
    files.sort(key=lambda d: [float(v) for v in d.get("ImagePositionPatient", [0, 0, 0])][::-1])
    tags: dict[str, object] = {}

    def walk(dataset, prefix):
        for e in dataset:
            if e.VR == "SQ":
                tags[prefix + e.keyword] = len(e.value)
                for k, item in enumerate(e.value[:2]):
                    walk(item, f"{prefix}{e.keyword}.{k}.")
            elif e.VR not in UNSTABLE_VR and e.keyword not in UNSTABLE_TAGS:
                tags[prefix + e.keyword] = str(e.value)[:200]

    walk(files[0], "")
    found: dict[str, object] = {"files": len(files), "tags": tags}
    first = files[0]
    if "PixelData" in first:
        pixels = np.stack([d.pixel_array for d in files])
        found["pixels"] = _contents(pixels)
    for roi in first.get("ROIContourSequence", []):
        contours = [np.array(c.ContourData, float) for c in roi.get("ContourSequence") or []]
        points = np.concatenate(contours).reshape(-1, 3) if contours else np.zeros((0, 3))
        found[f"contours {roi.ReferencedROINumber}"] = {"contours": len(contours), **numbers(points)}
    for item in first.get("DeformableRegistrationSequence", []):
        for grid in item.get("DeformableRegistrationGridSequence") or []:
            found["vectors"] = numbers(np.frombuffer(grid.VectorGridData, np.float32).reshape(-1, 3))
    return found


# ------------------------------------------------------------------ comparison
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def _near(a: float, b: float, least: float = 0.0) -> bool:
    return a == b or abs(a - b) <= max(TOLERANCE * abs(a), least) or (math.isnan(a) and math.isnan(b))


def _unit(number: str) -> float:
    """One in the last decimal of a number as text; 0 for a whole number."""
    digits, _, power = number.lower().partition("e")
    decimals = digits.partition(".")[2]
    return 1.001 * 10.0 ** (int(power or 0) - len(decimals)) if decimals else 0.0


def _alike(a, b, exact: bool) -> bool:
    """Whether two values are the same; numbers, also those in texts, within tolerance."""
    if exact or a is None or b is None or isinstance(a, bool) or isinstance(b, bool):
        return a == b
    if isinstance(a, str) and isinstance(b, str):
        ours, theirs = NUMBER.findall(a), NUMBER.findall(b)
        return NUMBER.sub("#", a) == NUMBER.sub("#", b) and all(
            _near(float(x), float(y), _unit(x)) for x, y in zip(ours, theirs)
        )
    return isinstance(a, (int, float)) and isinstance(b, (int, float)) and _near(a, b, 1e-6)


def _numbers_differ(a: dict, b: dict) -> list[str]:
    """Which statistics of two arrays differ, by more than a ten-thousandth of the range (single values of whole
    numbers: than 1).
    """
    wide = TOLERANCE * max(a["max"] - a["min"], 1e-9) + 1e-6 * max(abs(a["max"]), abs(a["min"]))
    single = max(wide, 1.0) if a["whole"] else wide
    limits = {
        "n": 0,
        "not_finite": 0,
        "sum": wide * max(a["n"], 1),
        "mean": wide,
        "sd": wide,
        "min": single,
        "max": single,
    }
    wrong = [k for k, limit in limits.items() if abs(a[k] - b[k]) > limit]
    if len(a["at"]) != len(b["at"]) or any(abs(x - y) > single for x, y in zip(a["at"], b["at"])):
        wrong.append("at")
    return wrong


def differences(a, b, exact: bool, path: str = "") -> list[str]:
    """A line for each difference between what was expected, `a`, and what was found, `b`."""

    def told(x, y):
        x, y = str(x), str(y)
        start = max(len(os.path.commonprefix([x, y])) - 40, 0)  # from shortly before they part
        return f"{path}: expected {x[start : start + 120]!r}, found {y[start : start + 120]!r}"

    if isinstance(a, dict) and isinstance(b, dict):
        lines = [f"{path}/{k}: {'is gone' if k in a else 'is new'}" for k in sorted(a.keys() ^ b.keys())]
        shared, special = [k for k in a if k in b], set()
        if "whole" in a and "whole" in b and not exact:
            lines += [f"{path}/{k}: expected {a[k]}, found {b[k]}" for k in _numbers_differ(a, b)]
            special = {"n", "not_finite", "sum", "mean", "sd", "min", "max", "at", "sha"}
        elif "voxels" in a and "middle" in a and not exact:
            far = any(abs(x - y) > 0.05 for x, y in zip(a["middle"], b["middle"]))
            if abs(a["voxels"] - b["voxels"]) > max(2, 1e-3 * a["voxels"]) or far:
                lines.append(told(a, b))
            special = {"voxels", "middle"}
        elif not exact:
            special = {"sha"}
        return lines + [
            line
            for k in shared
            if k not in special
            for line in differences(a[k], b[k], exact, f"{path}/{k}" if path else k)
        ]
    if isinstance(a, list) and isinstance(b, list):
        lines = [f"{path}: expected {len(a)} entries, found {len(b)}"] if len(a) != len(b) else []
        return lines + [line for k, (x, y) in enumerate(zip(a, b)) for line in differences(x, y, exact, f"{path}[{k}]")]
    return [] if _alike(a, b, exact) else [told(a, b)]


# ------------------------------------------------------------------ command line
def write(found: dict, path: Path) -> None:
    """Store records, one line a file."""
    out = io.StringIO()
    out.write("{\n")
    for i, (step, files) in enumerate(found.items()):
        lines = (
            f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False, separators=(',', ':'))}" for k, v in files.items()
        )
        out.write(
            f" {json.dumps(step)}: {{\n" + ",\n".join(lines) + "\n }" + (",\n" if i < len(found) - 1 else "\n}\n")
        )
    path.write_text(out.getvalue(), encoding="utf-8")


def chosen(only: list[str] | None, fast: bool) -> list[str]:
    """The steps to run: all, or those named or fast, and what they need."""
    wanted = set(only or [n for n, s in STEPS.items() if s.fast or not fast])
    wanted |= {n for w in list(wanted) for n in STEPS[w].needs}
    return [n for n in STEPS if n in wanted]


def main(arguments: list[str] | None = None) -> int:
    """Record or compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["record", "compare"])
    parser.add_argument("--only", nargs="+", choices=list(STEPS), metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--fast", action="store_true", help="the steps that are part of 'make test'")
    parser.add_argument(
        "--exact", action="store_true", help="compare: no tolerance, and hashes too (same machine, same libraries)"
    )
    parser.add_argument("--expected", type=Path, default=EXPECTED, help="default: expected.json beside this file")
    parser.add_argument("--keep", type=Path, help="new folder in which inputs and results stay")
    args = parser.parse_args(arguments)
    names = chosen(args.only, args.fast)
    with tempfile.TemporaryDirectory() as temporary:
        # both paths as JSON holds them: no tuples, no keys that are numbers
        found = json.loads(json.dumps(run_all(names, args.keep.resolve() if args.keep else Path(temporary) / "work")))
    failed = [
        f"{n}: exit code {f['']['exit']}: {' '.join(f['']['said'][-1:])}"
        for n, f in found.items()
        if f.get("", {}).get("exit")
    ]
    if args.what == "record":
        print("".join(line + "\n" for line in failed), end="")
        if not failed:
            if args.only or args.fast:
                found = json.loads(args.expected.read_text(encoding="utf-8")) | found
            write({n: found[n] for n in ("inputs", *STEPS)}, args.expected)
            print(f"{args.expected}: {args.expected.stat().st_size / 1000:.0f} kB")
        return int(bool(failed))
    expected = json.loads(args.expected.read_text(encoding="utf-8"))
    lines = differences({k: v for k, v in expected.items() if k in found}, found, args.exact)
    print("\n".join([*failed, *lines, f"{len(lines)} differences in {len(names)} steps"]))
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())

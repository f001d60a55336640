"""The wheel outside of the checkout: what it holds, its models, a job and the training's command line."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"rtuncertainty": ROOT / "RTUncertainty", "RTUncertaintyLib": ROOT / "RTUncertainty", "training": ROOT}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the checkout, in which no build folder of another day stands about."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    without = shutil.ignore_patterns("__pycache__", "*.egg-info", "results")
    for name in ("RTUncertainty/rtuncertainty", "RTUncertainty/RTUncertaintyLib", "Resources/Models"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "training", source / "training", ignore=without)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--wheel-dir", str(folder), str(source)], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """`run(*arguments)` runs `python -m …` in an empty folder, with the wheel before the checkout on the path."""
    target, empty = tmp_path_factory.mktemp("installed"), tmp_path_factory.mktemp("empty")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RTU_MODELS")}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=empty,
            env={**environment, "PYTHONPATH": str(target)},
            capture_output=True,
            text=True,
            encoding="utf-8",
        )

    where = run("-c", "import rtuncertainty, training; print(rtuncertainty.__file__, training.__file__)")
    assert where.stdout.count(str(target)) == 2, where
    run.empty = empty
    return run


def test_every_module_and_resource_is_in_the_wheel(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    expected = {p.parent.name for p in ROOT.glob("Resources/Models/*/model.json")}
    assert expected and {n.split("/")[2] for n in held if n.startswith("rtuncertainty/models/")} == expected
    for name, place in PACKAGES.items():
        for path in (place / name).rglob("*"):
            relative = path.relative_to(place).as_posix()
            if path.is_dir() or "__pycache__" in relative or "/results/" in relative and name == "training":
                continue
            wanted = name == "rtuncertainty" or path.suffix in (".py", ".yaml")
            assert not wanted or relative in held, f"{relative} is not in the wheel: see package-data in pyproject.toml"


def test_the_extension_installs_the_same_resources():
    """CMake lists patterns as pyproject.toml does; every file of the package that is no Python matches one."""
    text = (ROOT / "RTUncertainty" / "CMakeLists.txt").read_text(encoding="utf-8")
    patterns = re.findall(r'"(rtuncertainty/[^"]+)"', text)
    for path in (ROOT / "RTUncertainty" / "rtuncertainty").rglob("*"):
        relative = path.relative_to(ROOT / "RTUncertainty").as_posix()
        if path.is_file() and "__pycache__" not in relative:
            assert any(fnmatch(relative, p) for p in patterns), (
                f"{relative} is in no pattern of RTUncertainty/CMakeLists.txt"
            )


def test_one_version(wheel):
    from rtuncertainty import __version__

    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    archive = zipfile.ZipFile(wheel)
    metadata = Parser().parsestr(archive.read(next(n for n in archive.namelist() if n.endswith("METADATA"))).decode())
    assert metadata["Version"] == __version__ == re.search(r"^version: (.+)$", citation, re.M)[1]
    assert re.findall(r"^## \[([\d.]+)\]", changelog, re.M)[0] == __version__


def test_models_are_found_outside_of_the_checkout(installed):
    done = installed("-m", "rtuncertainty", "models")
    shipped = {path.parent.name for path in ROOT.glob("Resources/Models/*/model.json")}
    assert done.returncode == 0 and {line.split()[0] for line in done.stdout.splitlines()} == shipped, done
    assert not done.stderr, done


def test_a_job_runs_outside_of_the_checkout(installed):
    """The demo, on a tiny case of one's own instead of the digital limb, which takes a minute; its report included."""
    z, y, x = np.indices((6, 48, 48))
    r = np.hypot(y - 24, x - 24)
    image = np.select([r < 4, r < 8, r < 18, r < 21], [850.0, 60.0, 350.0, 900.0], 0.0)
    image += np.abs(12 * np.random.default_rng(0).standard_normal(image.shape))
    mr = sitk.GetImageFromArray(image.astype(np.float32))
    mr.SetSpacing((2, 2, 4))
    (installed.empty / "case").mkdir()
    sitk.WriteImage(mr, str(installed.empty / "case" / "mr.nii.gz"))
    options = ["--case", "case", "--samples", 2, "--device", "cpu", "--progress", "none", "--output", "out"]
    done = installed("-m", "rtuncertainty", "demo", *options)
    assert done.returncode == 0, done.stderr
    result = installed.empty / "out" / "result"
    assert "<html" in (result / "report.html").read_text(encoding="utf-8").lower()
    assert sitk.ReadImage(str(result / "synct.nii.gz")).GetSize() == mr.GetSize()


def test_training_is_in_the_wheel(installed):
    done = installed("-m", "training", "reproduce", "--help")
    assert done.returncode == 0 and "mr_only" in done.stdout, done

"""Where results go, and who listens: nothing but regular files and new names is written, and no run is lost. See
README.md.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk
from make_dose import grid, linear_dose

from rtuncertainty.cli import command_line, job
from rtuncertainty.core import image_io
from rtuncertainty.core.errors import InputError

LIBRARY = Path(__file__).resolve().parents[2] / "RTUncertainty"
unix = pytest.mark.skipif(os.name == "nt", reason="devices, links and signals as Unix has them")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A dose and a label image with an umlaut in a name, after a byte-order mark."""
    folder = tmp_path_factory.mktemp("files")
    dose = linear_dose(grid((8, 8, 8), (4, 4, 4)))
    sitk.WriteImage(dose, str(folder / "dose.nrrd"))
    labels = sitk.Cast(dose > 40, sitk.sitkUInt8)
    sitk.WriteImage(labels, str(folder / "labels.nrrd"))
    (folder / "labels.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"Größe": 1}, ensure_ascii=False).encode())
    return folder


def dvh(place, output, *more):
    given = ["--dose", place / "dose.nrrd", "--structures", place / "labels.nrrd", "--output", output]
    return ["dvh", *map(str, [*given, *more])]


def staged(output, **texts):
    with image_io.Staging(output) as staging:
        for name, text in texts.items():
            staging.text(text, f"{name}.csv")
        staging.commit()


# ------------------------------------------------------------------ folders
@unix
def test_through_a_link_and_below_a_folder_of_somebody_else(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    staged(tmp_path / "out", a="1")
    assert (tmp_path / "real" / "a.csv").read_text() == "1" and (tmp_path / "out").is_symlink()
    # what is staged lies inside of the output, so neither another disk nor the folder above matters
    replace = os.replace

    def on_one_disk(source, target):
        if Path(source).parent.parent.resolve() != Path(target).parent.resolve():
            raise OSError(18, "Invalid cross-device link")
        replace(source, target)

    monkeypatch.setattr(os, "replace", on_one_disk)
    staged(tmp_path / "out", a="2")
    assert [p.name for p in (tmp_path / "real").iterdir()] == ["a.csv"]
    assert (tmp_path / "real" / "a.csv").read_text() == "2"


@unix
def test_only_regular_files_are_replaced(tmp_path):
    for number, make in enumerate((os.mkfifo, lambda p: os.symlink(tmp_path / "elsewhere.csv", p))):
        out = tmp_path / f"out{number}"
        out.mkdir()
        (tmp_path / "elsewhere.csv").write_text("keep me")
        make(out / "a.csv")
        with pytest.raises(InputError, match="no regular file.*the result is in"):
            staged(out, a="new", b="new")
        assert not (out / "a.csv").is_file() or (out / "a.csv").is_symlink()
        assert (tmp_path / "elsewhere.csv").read_text() == "keep me" and not (out / "b.csv").exists()
        assert (tmp_path / f"out{number}-1" / "a.csv").read_text() == "new"


@unix
def test_a_link_to_nothing_and_a_device_are_no_folders(tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "nothing")
    for output in (tmp_path / "out", Path("/dev/null")):
        with pytest.raises(InputError, match="give a folder"), image_io.Staging(output):
            raise AssertionError("the work began")


def test_what_a_killed_run_left_is_no_obstacle(tmp_path):
    """In a container every run has the same process number."""
    out = tmp_path / "dvh.csv"
    for left in (f".{os.getpid()}.part.dvh.csv", f".dvh.csv.{os.getpid()}.part"):
        (tmp_path / left).mkdir()
    image_io.write_file(out, lambda p: p.write_text("whole"))
    assert out.read_text() == "whole"


# ------------------------------------------------------------------ files
@unix
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/null", "/dev/fd/1", "/proc/self/fd/1", "fifo", "folder"])
def test_devices_are_never_replaced(place, tmp_path, capsys, name):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    output = name if name.startswith("/") else tmp_path / name
    before = os.stat(output).st_mode if name != "/proc/self/fd/1" else None
    assert command_line.main(dvh(place, output)) == 2
    assert "give the name of a file" in capsys.readouterr().err
    assert before is None or os.stat(output).st_mode == before


@unix
def test_a_link_is_written_through_and_a_mounted_file_in_place(place, tmp_path, monkeypatch):
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    assert command_line.main(dvh(place, tmp_path / "link.csv")) == 0
    assert (tmp_path / "link.csv").is_symlink() and "Größe" in (tmp_path / "real.csv").read_text(encoding="utf-8")

    def busy(source, target):
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(os, "replace", busy)
    image_io.write_file(tmp_path / "real.csv", lambda p: p.write_text("in place"))
    assert (tmp_path / "real.csv").read_text() == "in place"
    with pytest.raises(InputError, match="cannot be written"):
        image_io.write_file(tmp_path / "new.csv", lambda p: p.write_text("x"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.csv", "link_curves.csv", "real.csv"]


# ------------------------------------------------------------------ who listens
def process(place, output, *more, **options):
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY), **options.pop("environment", {})}
    command = [sys.executable, "-m", "rtuncertainty", *dvh(place, output, *more)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


@unix
@pytest.mark.parametrize("closed", [["stdout"], ["stdout", "stderr"]])
def test_a_closed_pipe_loses_nothing(place, tmp_path, closed):
    run = process(place, tmp_path / "o.csv", *(["--progress", "json"] if closed == ["stdout"] else []))
    for name in closed:
        getattr(run, name).close()
    assert run.wait(timeout=120) == 0 and (tmp_path / "o.csv").is_file()


@unix
def test_terminals_without_umlauts(place, tmp_path):
    plain = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for name, more in (("ö.csv", []), ("ä.csv", ["--progress", "json"])):
        run = process(place, tmp_path / name, *more, environment=plain)
        out, err = run.communicate(timeout=120)
        assert run.returncode == 0, err
        assert out.isascii() and (tmp_path / name).is_file()
        events = [json.loads(line) for line in out.splitlines()] if more else []
        # letters that the system's encoding has not are bytes
        told = [e["output"].encode("utf-8", "surrogateescape").decode() for e in events if e["event"] == "done"]
        assert told == [str(tmp_path / name)] * bool(more)


@unix
def test_a_hangup_cancels_unless_nohup_said_otherwise():
    kept = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        token = job.cancel_on_signal()
        os.kill(os.getpid(), signal.SIGHUP)
        assert token._event.is_set()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        token = job.cancel_on_signal()
        os.kill(os.getpid(), signal.SIGHUP)
        assert not token._event.is_set()
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)

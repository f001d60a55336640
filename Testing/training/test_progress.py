"""What a training says of itself: where it stands, how fast it is, one log, and nothing that nobody asked for."""

import csv
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_cohort
import yaml

pytest.importorskip("lightning")

from training.methods.bragman2018.task import HighResTask
from training.run import folder, progress, train

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "arguments": {"classes": 3, "width": 4, "features": 8, "branch_width": 4},
    "steps": 6,
    "batch": 2,
    "patch": 16,
    "folds": 4,
    "warm_up": 2,
    "log_every": 1,
    "checkpoint_every": 2,
    "validate_every": 3,
    "settle_batches": 2,
}


@pytest.fixture
def fit(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    prepared = tiny_cohort.write(tmp_path / "prepared")

    def run(**more):
        changes = more.pop("changes", {})
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(SMALL | changes), encoding="utf-8")
        train.run(prepared, tmp_path / "c.yaml", tmp_path / "run", device="cpu", **more)
        return tmp_path / "run"

    return run


def rows(run) -> list[dict]:
    with open(run / "log" / "metrics.csv", newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def test_one_log_over_resumptions_with_learning_rate_and_time(fit, capsys):
    run = fit(stop_after=3)
    before = rows(run)
    # what a killed run logged beyond its checkpoint is made again
    with open(run / "log" / "metrics.csv", "a", newline="", encoding="utf-8") as f:
        csv.DictWriter(f, before[0].keys()).writerow({"step": 3, "seconds": 1e4, "train/loss": 99})
    fit()
    found = rows(run)
    assert found[: len(before)] == before
    trained = [r for r in found if r["train/loss"]]
    assert [int(r["step"]) for r in trained] == list(range(6)) and sum(bool(r["val/score"]) for r in found) == 2
    seconds = [float(r["seconds"]) for r in found]
    assert seconds == sorted(seconds) and 0 < seconds[-1] < 1e3
    assert float(trained[0]["learning_rate"]) == pytest.approx(1e-3) and float(trained[1]["learning_rate"]) == 2e-3
    assert not list(run.glob("log-*"))
    fit()
    said = capsys.readouterr().out
    for words in ("beginning, step 0 of 6", "stopped at step 3 of 6", "resuming at step 3 of 6", "settling"):
        assert words in said
    assert said.splitlines()[-1].endswith("finished already, after 6 steps")


def test_speed_and_time_left_without_a_terminal(fit, capsys, monkeypatch):
    monkeypatch.setattr(progress, "FIRST", 0.0)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    fit()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert len(lines) == 6 and all(
        re.match(r"step \d of 6, .*s(tep)?, about \d+ s left, loss [\d.]+", x) for x in lines
    )
    assert "val score" in lines[-1]


def test_times_in_words():
    assert [progress.duration(s) for s in (5, 600, 11100)] == ["5 s", "10 min", "3 h 05 min"]
    assert progress.rate(3.14159) == "3.14 steps/s" and progress.rate(0.5) == "2 s/step"


def test_a_run_that_is_stopped_settles_for_a_bounded_time(fit, monkeypatch):
    monkeypatch.setattr(train, "SETTLE_LIMIT", 0.2)
    started = time.monotonic()
    run = fit(stop_after=2, changes={"settle_batches": 100_000})
    assert time.monotonic() - started < 60 and (run / "checkpoints" / "final.ckpt").exists()


class Clock:
    """Seconds that pass where somebody says so."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def passes(self, seconds, function):
        def timed(*args):
            self.now += seconds
            return function(*args)

        return timed


@pytest.fixture
def clock(monkeypatch):
    """Networks that take 2 s a batch, and a validation of three slices that takes 51 s."""
    found = Clock()
    for module in (train, progress):
        monkeypatch.setattr(module, "time", found)
    monkeypatch.setattr(HighResTask, "run_network", found.passes(2.0, HighResTask.run_network))
    monkeypatch.setattr(HighResTask, "validation_step", found.passes(15.0, HighResTask.validation_step))
    return found


@pytest.mark.parametrize("validate_every", [7, 1000])
def test_minutes_are_kept_with_validation_and_settling(fit, clock, validate_every):
    long = {"steps": 1000, "validate_every": validate_every, "checkpoint_every": 500, "settle_batches": 50}
    run = fit(minutes=3, changes=long)
    assert 120 < clock.now - 1000 < 210 and (run / "checkpoints" / "final.ckpt").exists()
    assert folder.stage(run) == folder.TRAINING and rows(run)[-1]["val/score"]


def test_what_is_trained_but_has_no_time_to_settle_is_settled_later(fit, clock, capsys):
    changes = {"settle_batches": 60, "validate_every": 6}
    run = fit(minutes=2.5, changes=changes)
    assert clock.now - 1000 < 180 and folder.stage(run) == folder.TRAINED
    assert "stopped at step 6 of 6, not settled yet; the same command goes on" in capsys.readouterr().out
    fit(changes=changes)
    assert folder.stage(run) == folder.DONE and "finished, step 6 of 6" in capsys.readouterr().out


def test_a_logger_that_is_not_installed_is_told(fit, monkeypatch):
    real = progress.importlib.util.find_spec
    monkeypatch.setattr(
        progress.importlib.util, "find_spec", lambda name: None if name in ("wandb", "mlflow") else real(name)
    )
    for kind in ("wandb", "mlflow"):
        with pytest.raises(SystemExit, match=f"c.yaml: logger: {kind} is not installed: 'pip install {kind}', or set"):
            fit(changes={"logger": kind})
    with pytest.raises(SystemExit, match="logger 'tensorbord' is not one of .*did you mean tensorboard"):
        fit(changes={"logger": "tensorbord"})


def test_a_picture_of_a_validation_patient(fit, monkeypatch):
    """Of the slice in which most is drawn, at every other validation: MR, CT, synthetic CT, truth, what is found."""
    drawn = []

    class TensorBoardLogger(progress.Metrics):
        @property
        def experiment(self):
            return self

        def add_image(self, *what):
            drawn.append(what)

    monkeypatch.setattr(progress, "loggers", lambda kind, run, done: [TensorBoardLogger(run / "own", done)])
    monkeypatch.setattr(progress, "require_logger", lambda *_: None)
    fit(changes={"logger": "tensorboard", "images_every": 2, "validate_every": 2})
    assert [(name, step) for name, _, step in drawn] == [("validation", 2), ("validation", 6)]
    picture = drawn[0][1][0]
    assert picture.shape == (40, 5 * 40) and picture.dtype == "uint8"
    truth = picture[:, 3 * 40 : 4 * 40]
    assert set(truth.ravel().tolist()) == {0, 128, 255} and (truth == 255).sum() == 4 * 10
    assert picture[:, 40:80][truth == 128].min() > 150  # bone is bright in the CT


def test_tensorboard_writes_what_is_logged(fit):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = fit(changes={"logger": "tensorboard", "images_every": 1})
    found = EventAccumulator(str(run / "tensorboard")).Reload()
    assert [e.step for e in found.Images("validation")] == [3, 6] and "val/score" in found.Tags()["scalars"]


def test_nothing_that_nobody_asked_for(fit, tmp_path):
    fit(stop_after=2)
    done = subprocess.run(
        [sys.executable, "-m", "training", "train", "--prepared", str(tmp_path / "prepared"), "--device", "cpu"]
        + ["--config", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert len(done.stdout.splitlines()) == 4

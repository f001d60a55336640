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

from training.run import progress, train

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

"""What a training says of itself while it runs: lines with speed and time left, and one continuous log/metrics.csv."""

from __future__ import annotations

import csv
import logging
import os
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from ..core.files import duration, write_csv

# seconds between two lines, and to the first one
EVERY, FIRST = 60.0, 10.0
# of libraries, to nobody's use
MEANINGLESS = (
    r".*isinstance\(treespec",
    r".*`?weights_only`?",
    r".*does not have many workers",
    r".*`?IterableDataset`? has `?__len__`?",
    r".*The number of training batches \(\d+\) is smaller than the logging interval",
)


@contextmanager
def quiet():
    """Keep advertising and what means nothing here off the output; warnings else stay."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for text in MEANINGLESS:
                warnings.filterwarnings("ignore", message=text)
            yield
    finally:
        for each, level in zip(loggers, levels):
            each.setLevel(level)


def rate(per_second: float) -> str:
    """A speed in words."""
    return f"{per_second:.3g} steps/s" if per_second >= 1 else f"{1 / max(per_second, 1e-9):.3g} s/step"


class Metrics(Logger):
    """`folder`/metrics.csv over all resumptions: what was logged beyond the checkpoint, `done` steps, is made again.

    To what is logged come `learning_rate`, that of the step, and `seconds` of training, all resumptions together.
    """

    def __init__(self, folder: Path, done: int = 0):
        super().__init__()
        self.folder, self.done = folder, done
        self.file = folder / "metrics.csv"
        self.rows: list[dict] = []
        self.begun = False
        self.names: list[str] = []
        self.before = 0.0
        self.started = time.monotonic()
        self.learning_rate: float | None = None
        # Lightning's own count is one more where a run was cut at a validation
        self.step: int | None = None

    @property
    def name(self):
        return None

    @property
    def version(self):
        return self.folder.name

    @property
    def save_dir(self):
        return str(self.folder)

    def log_hyperparams(self, params, *args, **kwargs):
        pass  # config.yaml has them

    def _begin(self) -> None:
        self.begun = True
        if self.done and self.file.exists():
            with open(self.file, newline="", encoding="utf-8") as f:
                read = csv.DictReader(f)
                self.rows = [
                    r for r in read if None not in r and r.get("step", "").isdigit() and int(r["step"]) < self.done
                ]
                self.names = [n for n in read.fieldnames or () if n]
        self.before = max((float(r.get("seconds") or 0) for r in self.rows), default=0.0)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file.unlink(missing_ok=True)

    @rank_zero_only
    def log_metrics(self, metrics, step=None):
        if not self.begun:
            self._begin()
        seconds = round(self.before + time.monotonic() - self.started, 2)
        row = {
            "step": step if self.step is None else self.step,
            "seconds": seconds,
            "learning_rate": self.learning_rate,
        } | {k: float(v) for k, v in metrics.items()}
        self.rows.append(row)
        new = [n for n in row if n not in self.names]
        if new or not self.file.exists():
            first = [n for n in ("step", "seconds", "learning_rate", "epoch") if n in (*self.names, *new)]
            self.names = first + sorted({*self.names, *new} - {*first})
            write_csv(self.file, self.rows, self.names)
            return
        with open(self.file, "a", newline="", encoding="utf-8") as f:
            csv.DictWriter(f, self.names).writerow(row)


class Progress(Callback):
    """A line every so often with step, speed and time left, where no bar can show them; the learning rate for
    `Metrics`.
    """

    def __init__(self, steps: int, metrics: Metrics, lines: bool):
        self.steps, self.metrics, self.lines = steps, metrics, lines

    def on_train_start(self, trainer, module):
        self.first = trainer.global_step
        self.started = self.metrics.started = time.monotonic()
        self.due = self.started + FIRST

    def on_train_batch_start(self, trainer, module, batch, index):
        self.metrics.step = trainer.global_step
        self.metrics.learning_rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        now, done = time.monotonic(), trainer.global_step - self.first
        if not (self.lines and trainer.is_global_zero and now >= self.due and done):
            return
        self.due = now + EVERY
        speed = done / (now - self.started)
        left = duration((self.steps - trainer.global_step) / speed)
        metrics = {"loss": "train/loss", "val score": "val/score"}
        found = {k: trainer.callback_metrics.get(v) for k, v in metrics.items()}
        scores = "".join(f", {k} {float(v):.4g}" for k, v in found.items() if v is not None)
        print(f"step {trainer.global_step} of {self.steps}, {rate(speed)}, about {left} left{scores}", flush=True)


def bar() -> bool:
    """Whether a bar can be shown."""
    return os.isatty(1)

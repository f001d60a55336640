"""What a training says of itself while it runs: lines with speed and time left, and one continuous log/metrics.csv."""

from __future__ import annotations

import csv
import importlib.util
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
    `Metrics`. `end`: when the time that was given is over (`time.monotonic()`).
    """

    def __init__(self, steps: int, metrics: Metrics, lines: bool, end: float | None = None):
        self.steps, self.metrics, self.lines, self.end = steps, metrics, lines, end

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
        seconds = (self.steps - trainer.global_step) / speed
        left = f"about {duration(seconds)} left"
        if self.end is not None and now + seconds > self.end:
            left = f"{duration(max(0.0, self.end - now))} of the time given left, {duration(seconds)} to the last step"
        metrics = {"loss": "train/loss", "val score": "val/score"}
        found = {k: trainer.callback_metrics.get(v) for k, v in metrics.items()}
        scores = "".join(f", {k} {float(v):.4g}" for k, v in found.items() if v is not None)
        print(f"step {trainer.global_step} of {self.steps}, {rate(speed)}, {left}{scores}", flush=True)


class Deadline(Callback):
    """Ends a run in good order so that it is over by `end` (`time.monotonic()`): what comes after the last step, a
    validation and `after` seconds, is taken off.

    How long a validation takes is told by one batch of it before the first step, and then by the last one.
    """

    def __init__(self, end: float, after: float, validate_every: int):
        self.end, self.after, self.validate_every = end, after, validate_every
        self.step = self.validation = 0.0

    def on_train_start(self, trainer, module):
        import torch

        loader = trainer.val_dataloaders
        self.before = started = time.monotonic()
        if not len(loader):
            return
        with torch.no_grad():
            module.eval()
            module.on_validation_epoch_start()
            module.validation_step(module.transfer_batch_to_device(next(iter(loader)), module.device, 0), 0)
            module.train()
        self.validation = (time.monotonic() - started) * len(loader)
        self.before = time.monotonic()

    def on_validation_start(self, trainer, module):
        self.began = time.monotonic()

    def on_validation_end(self, trainer, module):
        self.before = time.monotonic()
        self.validation = self.before - self.began

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        now = time.monotonic()
        self.step = max(now - self.before, 0.9 * self.step)
        self.before = now
        # Lightning validates once more where a run is stopped
        due = self.validation if trainer.global_step % self.validate_every == 0 else 0.0
        late = now + due + self.step + self.validation + self.after > self.end
        if trainer.strategy.broadcast(late) if trainer.world_size > 1 else late:
            trainer.should_stop = True


class Pictures(Callback):
    """A picture of a validation patient (`Task.show`) for the loggers that take one, every so many validations."""

    def __init__(self, every: int):
        self.every, self.count = every, 0

    def on_validation_start(self, trainer, module):
        module.wants_picture, module.picture, module.drawn = self.count % self.every == 0, None, 0
        self.count += 1

    def on_validation_end(self, trainer, module):
        if module.picture is None or not trainer.is_global_zero:
            return
        step = trainer.global_step
        array = (255 * module.picture).round().byte().numpy()
        for logger in trainer.loggers:
            kind = type(logger).__name__
            if kind == "TensorBoardLogger":
                logger.experiment.add_image("validation", array[None], step)
            elif kind == "MLFlowLogger":
                logger.experiment.log_image(logger.run_id, array, f"validation-{step}.png")
            elif kind == "WandbLogger":
                logger.log_image("validation", [array], step=step)


# of each `logger` one of the packages that it needs
PACKAGES = {"csv": ("csv",), "tensorboard": ("tensorboard", "tensorboardX"), "mlflow": ("mlflow",), "wandb": ("wandb",)}


def require_logger(kind: str, file) -> None:
    """Raise `SystemExit` where the package of a `logger` is not installed."""
    if not any(importlib.util.find_spec(name) for name in PACKAGES[kind]):
        raise SystemExit(f"{file}: logger: {kind} is not installed: 'pip install {kind}', or set logger to csv.")


def loggers(kind: str, run: Path, done: int) -> list:
    """Lightning's own logger of that `kind` (none for csv), of a run that goes on from the step `done`."""
    from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger

    part = f"-from-{done}" if done else ""
    if kind == "tensorboard":
        return [TensorBoardLogger(run, name=None, version="tensorboard" + part)]
    if kind == "mlflow":
        run.mkdir(parents=True, exist_ok=True)
        # MLflow refuses plain folders since its version 3
        where = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.absolute() / 'mlflow.db'}"
        files = None if "MLFLOW_TRACKING_URI" in os.environ else (run.absolute() / "mlruns").as_uri()
        return [MLFlowLogger(run.absolute().parent.name, run.name + part, where, artifact_location=files)]
    if kind == "wandb":
        run.mkdir(parents=True, exist_ok=True)
        return [WandbLogger(run.name + part, run, offline="WANDB_API_KEY" not in os.environ)]
    return []


def bar() -> bool:
    """Whether a bar can be shown."""
    return os.isatty(1)

"""`python -m training train`: one config, one run folder, resumable.

The run folder holds `config.yaml`, `split.json`, `versions.json`, checkpoints with the stage they are at (`folder`)
and `log/metrics.csv`, continuous over all resumptions.
Running the same command again goes on from the last checkpoint, on the same patients and with the same settings or not
at all.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import time
from pathlib import Path

import yaml

from rtuncertainty.core.errors import InputError

from . import folder

# seconds that a run which was stopped before its end may settle for, and the part of its `minutes`
SETTLE_LIMIT, SETTLE_SHARE = 10.0, 0.1
# seconds in which the last checkpoints are written
CLOSING = 2.0


def run(
    prepared: Path,
    file: Path,
    out: Path,
    minutes: float | None = None,
    stop_after: int | None = None,
    device: str = "auto",
    budget: Path | None = None,
    changes: dict | None = None,
    started: float | None = None,
) -> Path:
    """Train the config in `file` on the cases that `prepare` kept, into the run folder `out`.

    Args:
        minutes, stop_after: end the run early in good order, after so many minutes or steps; the next call resumes it.
        budget, changes: what overrides the config, see `methods.load`.
        started: when the minutes began (`time.monotonic()`), now where it is not said.
    Returns:
        The last checkpoint.
    Raises:
        SystemExit: where the run has begun with other settings or patients, or by a version that did not keep them; for
            settings that there cannot be.

    With several processes (torchrun, SLURM, or `devices` > 1) every one of them calls this.
    """
    from . import progress

    with progress.quiet():
        return _run(prepared, file, out, minutes, stop_after, device, budget, changes, started)


def _run(prepared, file, out, minutes, stop_after, device, budget, changes, started) -> Path:
    started = time.monotonic() if started is None else started
    import lightning
    import torch

    from .. import methods
    from ..core import provenance
    from .initial import begin_with

    config = methods.load(file, budget, changes)
    _require_possible(config, file, budget, device)
    lightning.seed_everything(config.seed, verbose=False)
    feed = methods.feed(prepared, config)
    last, state = folder.last_good(out)
    done = state["global_step"] if state else 0
    split = folder.frozen(prepared, config, feed)
    if state or (out / "checkpoints" / "final.ckpt").exists():
        folder.require_the_same(out, config, split, _anew(prepared, file, out, budget, changes))
    kept = out / "checkpoints" / "last.ckpt"
    if folder.stage(out) == folder.DONE and (out / "checkpoints" / "final.ckpt").exists():
        print(
            f"{out}: finished already, after {provenance.read_json(out / 'stage.json').get('step')} steps", flush=True
        )
        return kept
    feed.load(file)
    end = None if minutes is None else started + 60 * minutes
    settling = min(SETTLE_LIMIT, SETTLE_LIMIT if minutes is None else SETTLE_SHARE * 60 * minutes)
    trainer, task = _built(
        config, file, lambda: _trainer(config, out, end, settling, stop_after, device, done, last == kept)
    )
    if not state:
        before = {"seen": [], "unknown": []}
        if config.initialise:
            before = begin_with(task.network, config.initialise, {n: split["hashes"][n] for n in feed.validation})
        if trainer.is_global_zero:
            _describe(out, config, split | {"before": before}, trainer)
    trained = bool(state) and (folder.stage(out) == folder.TRAINED or done >= config.steps or _stopped_early(state))
    final = out / "checkpoints" / "final.ckpt"
    if not trained and done < trainer.max_steps:
        if trainer.is_global_zero:
            final.unlink(missing_ok=True)
            print(f"{out}: {'resuming at' if done else 'beginning,'} step {done} of {config.steps}", flush=True)
        _fit(trainer, task, _loaders(config, feed, done, trainer), last)
        done = trainer.global_step
        trainer.checkpoint_callback.save(trainer)
        trained = done >= config.steps or any(
            _patience_is_over(c.state_dict()) for c in trainer.early_stopping_callbacks
        )
    elif state:
        task.load_state_dict(state["state_dict"])
    if trained and trainer.is_global_zero:
        folder.mark(out, folder.TRAINED, done, "all steps" if done >= config.steps else "early stop")
    best = out / "checkpoints" / "best.ckpt"
    if config.early_stop and best.exists():
        chosen = torch.load(best, map_location="cpu", weights_only=False)
        task.load_state_dict(chosen["state_dict"])
        done = chosen["global_step"]
    settled = True
    if task.settle_batches:
        task.network.to(trainer.strategy.root_device)  # Lightning has taken it off
        if trainer.is_global_zero:
            print(f"settling the statistics of batch normalisation over {task.settle_batches} batches", flush=True)
        limit = settling if not trained else None if end is None else max(settling, end - time.monotonic())
        settled = settle_batch_norm(task, feed.patches(config.seed + 1), limit)
    if trainer.is_global_zero:
        folder.saved(folder.weights_of(task, done), final)
        finished = trained and settled and all(_settle_kept(task, feed, out, k, end) for k in config.kept_steps)
        if finished:
            folder.mark(out, folder.DONE, done, provenance.read_json(out / "stage.json").get("ended", ""))
        reported = f"step {done} of {config.steps}" + (", not settled yet" if trained and not settled else "")
        print(
            f"{out}: " + (f"finished, {reported}" if finished else f"stopped at {reported}; the same command goes on"),
            flush=True,
        )
    return kept


def _settle_kept(task, feed, out: Path, step: int, end: float | None) -> bool:
    """Settle the weights of one of `kept_steps`, where they are there and it has not been done; whether it was over
    all batches. The task holds them afterwards.
    """
    import torch

    file = folder.kept(out, step)
    stored = torch.load(file, map_location="cpu", weights_only=False) if file.exists() else None
    if stored is None or stored.get("settled"):
        return True
    task.load_state_dict(stored["state_dict"])
    seconds = None if end is None else end - time.monotonic()
    settled = not task.settle_batches or settle_batch_norm(task, feed.patches(task.config.seed + 1), seconds)
    if settled:
        folder.saved(folder.weights_of(task, step) | {"settled": True}, file)
    return settled


def _fit(trainer, task, loaders, last: Path | None) -> None:
    """`trainer.fit` from the checkpoint `last`. Raises `SystemExit` in one line at Ctrl-C."""
    try:
        trainer.fit(task, *loaders, ckpt_path=str(last) if last else None, weights_only=False)
    except SystemExit as ended:
        if ended.code != 1:
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which Lightning ignores since
        raise SystemExit(
            f"Interrupted at step {trainer.global_step}; the same command goes on from the last checkpoint."
        ) from None


def _require_possible(config, file: Path, budget: Path | None, device: str) -> None:
    """Raise `SystemExit` for a budget that only `reproduce` can follow, a GPU that is not there, and a logger that is
    not installed.
    """
    import torch

    from . import progress

    progress.require_logger(config.logger, file)
    if budget is not None and not config.initialise:
        if (yaml.safe_load(budget.read_text(encoding="utf-8")) or {}).get("common"):
            raise SystemExit(
                f"{budget}: all networks begin with weights that its `common` trains, which train alone does not; use "
                "'python -m training reproduce volumes --config BUDGET', or name such weights by initialise."
            )
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: torch finds no GPU on this machine; use --device cpu or auto.")


def _built(config, file: Path, make_trainer) -> tuple:
    """(trainer, task). Raises `SystemExit` in one line that names the config for settings that there cannot be."""
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    from .. import methods

    try:
        trainer = make_trainer()
    except (ValueError, MisconfigurationException) as error:  # precision, devices
        raise SystemExit(f"{file}: {str(error).strip().splitlines()[0]}") from None
    if config.batch % trainer.world_size:
        raise SystemExit(
            f"{file}: a batch of {config.batch} cannot be shared by {trainer.world_size} processes; choose a multiple."
        )
    try:
        return trainer, methods.build(config)
    except (InputError, ValueError, RuntimeError) as error:
        raise SystemExit(f"{file}: arguments: {str(error).splitlines()[0]}") from None


def _anew(prepared: Path, file: Path, out: Path, budget: Path | None, changes: dict | None) -> str:
    """The command that starts a new run with these settings."""
    more = [f"--budget {budget}"] if budget else []
    more += [f"--set {key}={json.dumps(value)}" for key, value in (changes or {}).items()]
    return f"python -m training train --prepared {prepared} --config {file} {' '.join([*more, f'--out {out}-2'])}"


def _loaders(config, feed, done: int, trainer) -> tuple:
    """What `trainer` trains on from the step `done` on, and what it validates on."""
    from torch.utils.data import DataLoader

    ranks = trainer.global_rank, trainer.world_size
    patches = feed.patches(config.seed, done, *ranks)
    size = config.batch // trainer.world_size
    return DataLoader(patches, size, num_workers=config.workers), DataLoader(feed.whole(*ranks), 1)


def _patience_is_over(state: dict) -> bool:
    return state.get("wait_count", 0) >= state.get("patience", 1)


def _stopped_early(state: dict | None) -> bool:
    """Whether a checkpoint is one at which early stopping has ended the run."""
    return any(
        k.startswith("EarlyStopping") and _patience_is_over(v)
        for k, v in ((state or {}).get("callbacks") or {}).items()
    )


def _trainer(config, out, end, settling, stop_after, device, done, last_is_good):
    import lightning
    import torch
    from lightning.pytorch.callbacks import EarlyStopping

    from . import progress

    precision = config.precision
    if precision == "auto":
        precision = "16-mixed" if torch.cuda.is_available() and device != "cpu" else "32-true"
    callbacks = [folder.callback(out, config, last_is_good)]
    if config.early_stop:
        callbacks.append(EarlyStopping("val/score", patience=config.early_stop))
    metrics = progress.Metrics(out / "log", done)
    callbacks.append(progress.Progress(config.steps, metrics, not progress.bar()))
    if config.images_every and config.logger != "csv":
        callbacks.append(progress.Pictures(config.images_every))
    if end is not None:
        callbacks.append(progress.Deadline(end, settling + CLOSING, config.validate_every))
    loggers = [metrics, *progress.loggers(config.logger, out, done)]
    return lightning.Trainer(
        accelerator={"cuda": "gpu"}.get(device, device),
        devices=config.devices,
        num_nodes=config.num_nodes,
        max_steps=min(config.steps, stop_after or config.steps),
        max_epochs=-1,
        precision=precision,
        logger=loggers,
        log_every_n_steps=config.log_every,
        enable_progress_bar=progress.bar(),
        val_check_interval=config.validate_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=callbacks,
    )


def _describe(out: Path, config, split: dict, trainer) -> None:
    """config.yaml, split.json, versions.json and the stage: what it takes to do it again."""
    import lightning
    import torch

    on_gpu = trainer.accelerator.__class__.__name__ == "CUDAAccelerator"
    hardware = torch.cuda.get_device_name() if on_gpu else f"{os.cpu_count()} CPU cores"
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.yaml").write_text(yaml.safe_dump(config.plain()), encoding="utf-8")
    folder.provenance.write_json(out / "split.json", split)
    folder.mark(out, folder.TRAINING, 0)
    (out / "versions.json").write_text(
        json.dumps(
            {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "lightning": lightning.__version__,
                "processes": trainer.world_size,
                "device": hardware,
            },
            indent=1,
        ),
        encoding="utf-8",
    )


def settle_batch_norm(task, patches, seconds: float | None = None) -> bool:
    """Replace the running statistics of batch normalisation by the plain mean over many batches of training patches.

    With small batches the running ones, which remember some ten batches, move the validation error up and down from
    one step to the next (Wu & Johnson 2021, "Rethinking batch in batch norm", Sec. 3). Weights do not change, nor
    does what a resumed run goes on to learn. `seconds`: after which it ends with fewer batches. What it has come to is
    printed every so often. Returns whether it was over all of them.
    """
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    from . import progress

    network, config = task.network, task.config
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    momentum = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # the cumulative mean
    torch.manual_seed(config.seed)
    device = next(network.parameters()).device
    network.train()
    started = reported = time.monotonic()
    whole = True
    with torch.no_grad():
        for batch in range(task.settle_batches):
            now = time.monotonic()
            if batch and seconds is not None and now - started > seconds:
                whole = False
                break
            if batch and now - reported > progress.EVERY:
                reported, left = now, (now - started) / batch * (task.settle_batches - batch)
                print(f"settled {batch} of {task.settle_batches}, about {progress.duration(left)} left", flush=True)
            drawn = [patches.patch(batch * config.batch + k) for k in range(config.batch)]
            task.run_network({k: torch.stack([d[k] for d in drawn]).to(device) for k in drawn[0]})
    for m, value in zip(norms, momentum):
        m.momentum = value
    return whole

"""`python -m training train`: one config, one run folder, resumable.

The run folder holds `config.yaml`, `split.json`, `versions.json`, checkpoints with the stage they are at (`run_folder`) and
`log/metrics.csv`; what was logged after a resumption at step K is in `log-from-K`.
Running the same command again goes on from the last checkpoint, on the same patients and with the same settings or not at all.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
import platform
from pathlib import Path

import yaml

from . import folder

DEFAULTS = {
    "network": "m4",
    "task": None,  # organs: a V-Net segments organs in CT, as the networks of Eaton-Rosen 2018 do; None: what the network's paper has it for
    "arguments": {},  # of the network; the paper's sizes where nothing is said
    "initialise": None,  # a bundle's name or folder, whose weights to begin with
    "seed": 0,
    "folds": 5,
    "fold": 0,
    "cross_fit": False,  # deal all patients to the folds even where the data say who validates (pairs, organs, few labels)
    "steps": 19000,  # Bragman 2018
    "batch": 4,
    "patch": 152,  # Bragman 2018
    "centres": [0.45, 0.2, 0.35],  # shares of patches on bone, on another structure, anywhere
    "optimiser": "adam",
    "learning_rate": 2e-3,
    "warm_up": 100,
    "hu_scale": 200.0,  # HU per unit of the loss: the variance floor of 0.005 is then 14 HU, about the noise of a CT
    "printed": False,  # the losses as the paper prints them
    "beta": 0.5,  # see losses.heteroscedastic.regression_nll; 0 is the plain likelihood
    "loss_weights": [1.0, 1.5, 1.3],  # of the RoI-focused losses, Kaushik 2022
    "weighting": "equal",  # of the joint networks' losses: equal, homoscedastic or dwa, Elmahdy 2021
    "bending": 0.5,  # weight of the bending energy, Elmahdy 2021
    "cross_entropy": 0.0,  # weight of the joint networks' cross-entropy beside the Dice loss of their direct segmentation; see tasks.joint
    "dice": 1.0,  # weight of the Dice loss beside the likelihood, where organs are segmented in CT; Eaton-Rosen 2018 has 0
    "dice_until": 1.0,  # part of the steps after which the organs' Dice loss ends: with it to the end volumes come out too large (Eaton-Rosen 2018 has none)
    "organ_weight": 1.0,  # of a voxel of an organ in that likelihood, beside 1 of the background, which is fifty times as large
    "rare_organs": False,  # patches of pairs see an organ that few patients have as often as any other; else patients are drawn first
    "freeze_norm": False,  # batch normalisation with the statistics that it began with: with one patch a step its own differ from patch to patch
    "noise_samples": 10,  # of the logits of hr_hetero, in each step
    "schedule": "cosine",  # of the learning rate after the warm-up: cosine, constant or steps
    "momentum": 0.9,  # of SGD, with which learning from few labels trains; Yu 2019, as all down to discriminator_width
    "weight_decay": 1e-4,
    "labelled": 16,  # scans whose labels are used, the first in their order; 0: all
    "unlabelled_batch": 2,  # crops of a batch that are of unlabelled scans
    "on_structure": 0.0,  # part of the labelled crops that is centred on the structure; for scans of more than its surroundings
    "augmentation": "quarter turns",  # or turns and contrast, see data.few_labels_feed
    "parts": None,  # of mt_ctl: which of its parts to train; None: all
    "distance_weight": 0.3,  # of the distance map's loss, Hasan & Linte 2021
    "adversarial_weight": 0.01,
    "consistency_weight": 0.1,  # of what unlabelled crops must agree in
    "ema": 0.99,  # decay of the mean teacher
    "discriminator_width": 64,
    "validate_every": 500,
    "checkpoint_every": 250,
    "log_every": 25,
    "early_stop": 0,  # validations without a better score after which training ends; 0: never
    "precision": "auto",  # 16-mixed on a GPU, 32-true on a CPU; or what Lightning knows
    "devices": 1,
    "num_nodes": 1,
    "workers": 0,
    "settle_batches": 200,  # see settle_batch_norm; 0: the running statistics stay
}

# what a setting of words may be
CHOICES = {"augmentation": ("quarter turns", "turns and contrast"), "weighting": ("equal", "homoscedastic", "dwa"),
           "optimiser": ("adam", "nadam"), "schedule": ("cosine", "constant", "steps")}

# what a budget says to the study besides: how to evaluate (see study.py), and what all networks begin with (see common_start.py)
OF_THE_STUDY = ("evaluation", "common")


def load_config(path: Path, budget: Path | None = None) -> dict:
    """DEFAULTS with what the YAML file says, and after it what `budget` says to all networks and to this one.

    A budget is a YAML of settings too, with `networks: {NAME: settings}` for those that are one network's own.
    Raises `SystemExit` for a key that nobody knows.
    """
    given = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if budget is not None:
        common = yaml.safe_load(budget.read_text(encoding="utf-8")) or {}
        for key in OF_THE_STUDY:
            common.pop(key, None)
        own = common.pop("networks", {}).get(given.get("network", DEFAULTS["network"]), {})
        given = {**given, **common, **own}
    unknown = set(given) - set(DEFAULTS)
    if unknown:
        raise SystemExit(f"{path}: unknown setting {', '.join(n + meant(n, DEFAULTS) for n in sorted(unknown))}; known are {', '.join(DEFAULTS)}.")
    hyper = {**DEFAULTS, **given}
    _check(path, hyper)
    return hyper


def meant(word: str, known) -> str:
    """" (did you mean …?)" where a word is much like one that is known."""
    close = difflib.get_close_matches(str(word), [str(k) for k in known], 1, 0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def _check(path: Path, hyper: dict) -> None:
    """Raise `SystemExit` for a value that a setting cannot have."""
    folds, fold = hyper["folds"], hyper["fold"]
    if not isinstance(folds, int) or folds < 2:
        raise SystemExit(f"{path}: folds is {folds}; it must be 2 or more.")
    if not isinstance(fold, int) or not 0 <= fold < folds:
        raise SystemExit(f"{path}: fold {fold} is not one of 0 to {folds - 1}: there are {folds} folds.")
    for key, choices in CHOICES.items():
        if hyper[key] not in choices:
            raise SystemExit(f"{path}: {key} '{hyper[key]}' is not one of {', '.join(choices)}{meant(hyper[key], choices)}.")
    for key, default in DEFAULTS.items():
        if isinstance(default, bool) and not isinstance(hyper[key], bool):
            raise SystemExit(f"{path}: {key} is {hyper[key]}; it must be true or false.")


def run(prepared: Path, config: Path, out: Path, minutes: float | None = None, stop_after: int | None = None,
        device: str = "auto", budget: Path | None = None) -> Path:
    """Train `config` on the cases that `prepare` kept, into the run folder `out`; returns the last checkpoint.

    `minutes` or `stop_after` (a number of steps) end the run early in good order; the next call resumes it. `budget`: see
    `load_config`. With several processes (torchrun, SLURM, or `devices` > 1) every one of them calls this. Raises `SystemExit` where
    the run has begun with other settings or patients, or by a version that did not keep them.
    """
    import lightning
    import torch

    from ..core import provenance
    from .. import methods
    from .initial import begin_with

    hyper = load_config(config, budget)
    if budget is not None and not hyper["initialise"] and (yaml.safe_load(budget.read_text(encoding="utf-8")) or {}).get("common"):
        raise SystemExit(f"{budget}: all networks begin with weights that its `common` trains, which train alone does not; use 'python -m training "
                         "reproduce volumes --config BUDGET', or name such weights by initialise.")
    lightning.seed_everything(hyper["seed"], verbose=False)
    feed = methods.feed(hyper, prepared)
    last, state = folder.last_good(out)
    done = state["global_step"] if state else 0
    split = folder.frozen(prepared, hyper, feed)
    if state or (out / "checkpoints" / "final.ckpt").exists():
        anew = f"python -m training train --prepared {prepared} --config {config}{f' --budget {budget}' if budget else ''} --out {out}-2"
        folder.require_the_same(out, hyper, split, anew)
    kept = out / "checkpoints" / "last.ckpt"
    if folder.stage(out) == folder.DONE and (out / "checkpoints" / "final.ckpt").exists():
        return kept
    feed.load(config)
    trainer = _trainer(hyper, out, minutes, stop_after, device, done, last == kept)
    if hyper["batch"] % trainer.world_size:
        raise SystemExit(f"{config}: a batch of {hyper['batch']} cannot be shared by {trainer.world_size} processes; choose a multiple.")
    task = methods.build(hyper)
    if not state:
        before = {"seen": [], "unknown": []}
        if hyper["initialise"]:
            before = begin_with(task.network, hyper["initialise"], {n: split["hashes"][n] for n in feed.validation})
        if trainer.is_global_zero:
            _describe(out, hyper, split | {"before": before}, trainer)
    trained = bool(state) and (folder.stage(out) == folder.TRAINED or done >= hyper["steps"] or _stopped_early(state))
    final = out / "checkpoints" / "final.ckpt"
    if not trained and done < trainer.max_steps:
        if trainer.is_global_zero:
            final.unlink(missing_ok=True)
        ranks = trainer.global_rank, trainer.world_size
        loaders = [torch.utils.data.DataLoader(feed.patches(hyper["seed"], done, *ranks), hyper["batch"] // trainer.world_size, num_workers=hyper["workers"]),
                   torch.utils.data.DataLoader(feed.whole(*ranks), 1)]
        trainer.fit(task, *loaders, ckpt_path=str(last) if last else None, weights_only=False)
        done = trainer.global_step
        trainer.checkpoint_callback.save(trainer)
        trained = done >= hyper["steps"] or any(_patience_is_over(c.state_dict()) for c in trainer.early_stopping_callbacks)
    elif state:
        task.load_state_dict(state["state_dict"])
    if trained and trainer.is_global_zero:
        folder.mark(out, folder.TRAINED, done, "all steps" if done >= hyper["steps"] else "early stop")
    best = out / "checkpoints" / "best.ckpt"
    if hyper["early_stop"] and best.exists():
        chosen = torch.load(best, map_location="cpu", weights_only=False)
        task.load_state_dict(chosen["state_dict"])
        done = chosen["global_step"]
    if hyper["settle_batches"] and not hyper["freeze_norm"]:
        task.network.to(trainer.strategy.root_device)  # Lightning has taken it off
        settle_batch_norm(task, feed.patches(hyper["seed"] + 1), hyper)
    if trainer.is_global_zero:
        folder.saved({"state_dict": {k: v.detach().cpu() for k, v in task.state_dict().items()}, "global_step": done}, final)
        if trained:
            folder.mark(out, folder.DONE, done, provenance.read_json(out / "stage.json").get("ended", ""))
    return kept


def _patience_is_over(state: dict) -> bool:
    return state.get("wait_count", 0) >= state.get("patience", 1)


def _stopped_early(state: dict | None) -> bool:
    """Whether a checkpoint is one at which early stopping has ended the run."""
    return any(k.startswith("EarlyStopping") and _patience_is_over(v) for k, v in ((state or {}).get("callbacks") or {}).items())


def _trainer(hyper, out, minutes, stop_after, device, done, last_is_good):
    import lightning
    import torch
    from lightning.pytorch.callbacks import EarlyStopping
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    precision = hyper["precision"]
    if precision == "auto":
        precision = "16-mixed" if torch.cuda.is_available() and device != "cpu" else "32-true"
    callbacks = [folder.callback(out, hyper["checkpoint_every"], bool(hyper["early_stop"]), last_is_good, hyper["validate_every"])]
    if hyper["early_stop"]:
        callbacks.append(EarlyStopping("val/score", patience=hyper["early_stop"]))
    # a logger empties its folder, so each resumption has one of its own
    since = f"-from-{done}" if done else ""
    loggers = [CSVLogger(out, name=None, version=f"log{since}")]
    if importlib.util.find_spec("tensorboard") or importlib.util.find_spec("tensorboardX"):
        loggers.append(TensorBoardLogger(out, name=None, version=f"tensorboard{since}"))
    return lightning.Trainer(
        accelerator={"cuda": "gpu"}.get(device, device), devices=hyper["devices"], num_nodes=hyper["num_nodes"],
        max_steps=min(hyper["steps"], stop_after or hyper["steps"]), max_epochs=-1, max_time={"minutes": minutes} if minutes else None,
        precision=precision, logger=loggers, log_every_n_steps=hyper["log_every"], enable_progress_bar=os.isatty(1),
        val_check_interval=hyper["validate_every"], check_val_every_n_epoch=None, num_sanity_val_steps=0,
        gradient_clip_val=1.0, enable_model_summary=False, use_distributed_sampler=False, callbacks=callbacks)


def _describe(out: Path, hyper, split: dict, trainer) -> None:
    """config.yaml, split.json, versions.json and the stage: what it takes to do it again."""
    import lightning
    import torch

    on_gpu = trainer.accelerator.__class__.__name__ == "CUDAAccelerator"
    hardware = torch.cuda.get_device_name() if on_gpu else f"{os.cpu_count()} CPU cores"
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.yaml").write_text(yaml.safe_dump(hyper), encoding="utf-8")
    folder.provenance.write_json(out / "split.json", split)
    folder.mark(out, folder.TRAINING, 0)
    (out / "versions.json").write_text(json.dumps({
        "python": platform.python_version(), "torch": torch.__version__, "lightning": lightning.__version__,
        "processes": trainer.world_size, "device": hardware}, indent=1), encoding="utf-8")


def settle_batch_norm(task, patches, hyper) -> None:
    """Replace the running statistics of batch normalisation by the plain mean over many batches of training patches.

    With small batches the running ones, which remember some ten batches, move the validation error up and down from
    one step to the next (Wu & Johnson 2021, "Rethinking batch in batch norm", Sec. 3). Weights do not change, nor
    does what a resumed run goes on to learn.
    """
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    network = task.network
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    momentum = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # the cumulative mean
    torch.manual_seed(hyper["seed"])
    device = next(network.parameters()).device
    network.train()
    with torch.no_grad():
        for batch in range(hyper["settle_batches"]):
            drawn = [patches.patch(batch * hyper["batch"] + k) for k in range(hyper["batch"])]
            task.run_network({k: torch.stack([d[k] for d in drawn]).to(device) for k in drawn[0]})
    for m, value in zip(norms, momentum):
        m.momentum = value

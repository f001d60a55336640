"""`python -m training train`: one config, one run folder, resumable.

The run folder holds `config.yaml`, `split.json`, `versions.json`, `checkpoints/last.ckpt` and `metrics.csv`.
Running the same command again goes on from the last checkpoint.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import yaml

DEFAULTS = {
    "network": "m4",
    "arguments": {},
    "seed": 0,
    "folds": 5,
    "fold": 0,
    "steps": 19000,  # Bragman 2018
    "batch": 4,
    "patch": 152,  # Bragman 2018
    "learning_rate": 2e-3,
    "warm_up": 100,
    "hu_scale": 200.0,  # HU per unit of the loss: the variance floor of 0.005 is then 14 HU, about the noise of a CT
    "printed": False,  # the losses as the paper prints them
    "beta": 0.5,  # see losses.heteroscedastic.regression_nll; 0 is the plain likelihood
    "validate_every": 500,
    "checkpoint_every": 250,
    "workers": 0,
    "settle_batches": 200,  # see settle_batch_norm
}


def load_config(path: Path) -> dict:
    """DEFAULTS with what the YAML file says; raises `SystemExit` for a key that nobody knows."""
    given = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    unknown = set(given) - set(DEFAULTS)
    if unknown:
        raise SystemExit(f"{path}: unknown setting {', '.join(sorted(unknown))}; known are {', '.join(DEFAULTS)}.")
    return {**DEFAULTS, **given}


def kept_cases(prepared: Path) -> list[str]:
    """Names of the cases that prepare kept; raises `SystemExit` when there are fewer than two."""
    import csv

    table = prepared / "prepare.csv"
    if not table.exists():
        raise SystemExit(f"{table} is missing: run 'python -m training prepare' first.")
    with open(table, newline="", encoding="utf-8") as f:
        names = [row["case"] for row in csv.DictReader(f) if row["kept"] == "yes"]
    if len(names) < 2:
        raise SystemExit(f"{table}: {len(names)} case was kept; at least two are needed to train and to validate.")
    return names


class _Slices:
    """Every `step`-th slice of each validation case, whole, one at a time."""

    def __init__(self, cases, step=3):
        self.items = [(c, z) for c in cases for z in range(step // 2, c.mr.shape[0], step) if c.region[z].any()]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        import torch

        case, z = self.items[index]
        as_tensor = torch.from_numpy
        return {"mr": as_tensor(case.mr[z][None]), "ct": as_tensor(case.ct[z][None]),
                "labels": as_tensor(case.labels[z].astype("int64")), "weight": as_tensor(case.region[z].astype("float32"))}


def run(prepared: Path, config: Path, out: Path, minutes: float | None = None, stop_after: int | None = None, device: str = "auto") -> Path:
    """Train `config` on the cases that `prepare` kept, into the run folder `out`; returns the last checkpoint.

    `minutes` or `stop_after` (a number of steps) end the run early in good order; the next call resumes it.
    """
    import lightning
    import torch
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger

    from .data.patches import PatchDataset
    from .prepare import load_case
    from .split import split
    from .tasks.dual_task import DualTask

    hyper = load_config(config)
    lightning.seed_everything(hyper["seed"], verbose=False)
    training, validation = split(kept_cases(prepared), hyper["folds"], hyper["fold"])
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.yaml").write_text(yaml.safe_dump(hyper), encoding="utf-8")
    (out / "split.json").write_text(json.dumps({"training": training, "validation": validation}, indent=1), encoding="utf-8")
    (out / "versions.json").write_text(json.dumps({
        "python": platform.python_version(), "torch": torch.__version__, "lightning": lightning.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() and device != "cpu" else f"{os.cpu_count()} CPU cores",
    }, indent=1), encoding="utf-8")
    cases = {n: load_case(prepared / "cases" / f"{n}.npz") for n in training + validation}

    last = out / "checkpoints" / "last.ckpt"
    done = torch.load(last, map_location="cpu", weights_only=False)["global_step"] if last.exists() else 0
    patches = PatchDataset([cases[n] for n in training], hyper["patch"], hyper["seed"], start=done * hyper["batch"])
    trainer = lightning.Trainer(
        accelerator=device if device != "auto" else "auto", devices=1, max_steps=min(hyper["steps"], stop_after or hyper["steps"]), max_epochs=-1,
        max_time={"minutes": minutes} if minutes else None, precision="16-mixed" if torch.cuda.is_available() else "32-true",
        logger=CSVLogger(out, name=None, version="log"), log_every_n_steps=25, enable_progress_bar=os.isatty(1),
        val_check_interval=hyper["validate_every"], check_val_every_n_epoch=None, num_sanity_val_steps=0,
        gradient_clip_val=1.0, enable_model_summary=False,
        callbacks=[ModelCheckpoint(out / "checkpoints", save_last=True, every_n_train_steps=hyper["checkpoint_every"], save_top_k=1)],
    )
    loaders = [torch.utils.data.DataLoader(patches, hyper["batch"], num_workers=hyper["workers"]),
               torch.utils.data.DataLoader(_Slices([cases[n] for n in validation]), 1)]
    task = DualTask(hyper)
    trainer.fit(task, *loaders, ckpt_path=str(last) if last.exists() else None)
    settle_batch_norm(task.network, PatchDataset([cases[n] for n in training], hyper["patch"], hyper["seed"] + 1), hyper)
    trainer.save_checkpoint(last)
    return last


def settle_batch_norm(network, patches, hyper) -> None:
    """Replace the running statistics of batch normalisation by the plain mean over many batches of training patches.

    With small batches the running ones, which remember some ten batches, move the validation error up and down from
    one step to the next (Wu & Johnson 2021, "Rethinking batch in batch norm", Sec. 3). Weights do not change, nor
    does what a resumed run goes on to learn.
    """
    import torch

    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    momentum = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # the cumulative mean
    torch.manual_seed(hyper["seed"])
    device = next(network.parameters()).device
    network.train()
    with torch.no_grad():
        for batch in range(hyper["settle_batches"]):
            images = torch.stack([patches.patch(batch * hyper["batch"] + k)["mr"] for k in range(hyper["batch"])])
            network(images.to(device, memory_format=torch.channels_last))
    for m, value in zip(norms, momentum):
        m.momentum = value

"""Two processes against one: the same losses, step by step."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_cohort
import torch
import yaml

from training.core.distributed import GlobalBatchNorm2d, use_global_batch_norm

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = {"m2b": {"width": 4, "features": 8, "dropout": 0.0}, "3tn": {"filters": 4, "dropout": 0.0}}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return tiny_cohort.write(tmp_path_factory.mktemp("distributed") / "prepared")


def curve(prepared, network, processes) -> list[dict]:
    config, out = prepared / f"{network}{processes}.yaml", prepared / f"{network}-{processes}"
    config.write_text(
        yaml.safe_dump(
            {
                "network": network,
                "arguments": NETWORKS[network],
                "steps": 8,
                "batch": 4,
                "patch": 24,
                "folds": 4,
                "warm_up": 2,
                "log_every": 1,
                "validate_every": 4,
                "settle_batches": 2,
                "devices": processes,
            }
        ),
        encoding="utf-8",
    )
    command = [
        sys.executable,
        "-m",
        "training",
        "train",
        "--prepared",
        str(prepared),
        "--config",
        str(config),
        "--out",
        str(out),
        "--device",
        "cpu",
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with open(out / "log" / "metrics.csv", newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


@pytest.mark.parametrize("network", NETWORKS)
def test_two_processes_give_the_loss_curve_of_one(prepared, network):
    one, two = curve(prepared, network, 1), curve(prepared, network, 2)
    losses = [[float(r["train/loss"]) for r in rows if r["train/loss"]] for rows in (one, two)]
    assert len(losses[0]) == 8 and losses[0][-1] < losses[0][0]
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    # the first steps, before rounding has grown, tell it more sharply
    assert losses[1][:3] == pytest.approx(losses[0][:3], rel=2e-5)
    ends = [
        torch.load(prepared / f"{network}-{n}" / "checkpoints" / "last.ckpt", weights_only=False)["state_dict"]
        for n in (1, 2)
    ]
    assert all(torch.allclose(v.float(), ends[1][k].float(), atol=0.02, rtol=0.05) for k, v in ends[0].items())


def test_global_batch_norm_comes_and_goes():
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.ReLU())
    use_global_batch_norm(network)
    assert type(network[0]) is GlobalBatchNorm2d
    x = torch.randn(2, 3, 4, 4)
    alone = network(x)  # one process: the plain one
    use_global_batch_norm(network, False)
    assert type(network[0]) is torch.nn.BatchNorm2d and torch.equal(network(x), alone)

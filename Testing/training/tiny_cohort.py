"""Cases of noise with a bright bone in it: enough to train on in seconds, and no anatomy."""

import csv

import numpy as np

from training.data.prepare import synthesis


def write(folder, count=4):
    """Write `count` cases as prepare does; returns the folder."""
    (folder / "cases").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for k in range(count):
        labels = np.zeros((8, 40, 40), np.uint8)
        labels[:, 10:20, 12 + k % 4 : 24] = 1
        labels[:, 26:30, 20:30] = 2
        ct = (rng.normal(0, 20, labels.shape) + 600 * (labels == 1)).astype(np.float32)
        body = np.zeros(labels.shape, bool)
        body[:, 4:36, 4:36] = True
        mr = (rng.normal(0, 0.2, labels.shape) - (labels == 1) + body).astype(np.float32)
        case = synthesis.Case(f"p{k}", mr, ct, labels, body, np.ones_like(body), (1.0, 1.0, 3.0))
        synthesis.save_case(case, folder / "cases" / f"p{k}.npz", {})
    with open(folder / "prepare.csv", "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows([["case", "kept"], *[[f"p{k}", "yes"] for k in range(count)]])
    return folder

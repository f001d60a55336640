"""Scans as the left-atrium challenge has them, small, and configs to match."""

import numpy as np
import SimpleITK as sitk
import yaml


def write_scans(folder, count):
    """The challenge's layout: a bright ball in noise, in an order of its own."""
    rng = np.random.default_rng(0)
    names = [f"S{(37 * n) % 100:02d}" for n in range(count)]
    for n, name in enumerate(names):
        (folder / "train" / name).mkdir(parents=True)
        z, y, x = np.mgrid[:12, :20, :24]
        ball = (z - 6) ** 2 + (y - 10 + n % 3) ** 2 + (x - 12) ** 2 < 20 + n
        image = 60 + 60 * ball + 10 * rng.standard_normal(ball.shape)
        for stem, array in (("mr", image.clip(1, 255)), ("la", ball)):
            sitk.WriteImage(
                sitk.GetImageFromArray(array.astype(np.uint8)), str(folder / "train" / name / f"{stem}.nii.gz")
            )
    (folder / "train_order.txt").write_text("\n".join(names), encoding="utf-8")
    return names


def config(folder, method, **changes):
    settings = {
        "network": method,
        "labelled": 3,
        "steps": 4,
        "batch": 4,
        "unlabelled_batch": 0 if method == "vnet" else 2,
        "patch": [16, 16, 16],
        "schedule": "steps",
        "warm_up": 0,
        "learning_rate": 0.05,
        "validate_every": 4,
        "checkpoint_every": 2,
        "log_every": 1,
        "settle_batches": 1,
        "discriminator_width": 2,
        "arguments": {"width": 2, "levels": 2},
    } | changes
    path = folder / f"{method}.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path

"""A block patient on two days with a deformation that is known, and a small untrained bundle that propagates."""

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from make_bundle import make_bundle

from rtuncertainty import networks
from rtuncertainty.bundles import bundle

ORGANS = ["bladder", "rectum"]
SHAPE = (30, 44, 48)
SPACING = (4.0, 4.0, 3.0)


def image(array, dtype=np.int16, origin=(-90.0, -80.0, 15.0), spacing=SPACING):
    made = sitk.GetImageFromArray(np.ascontiguousarray(array, dtype))
    made.SetSpacing(spacing)
    made.SetOrigin(origin)
    return made


def make_patient(shift=(6.0, -4.0, 0.0), wave_mm=5.0, seed=0):
    """(planning CT, {name: mask}, daily CT, true daily masks, true field in mm on the daily grid).

    The daily patient lies `shift` (mm, LPS) off, and a wave of `wave_mm` moves the tissue of its middle.
    """
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*[np.arange(n, dtype=float) for n in SHAPE], indexing="ij")
    X, Y, Z = x * 4 - 90, y * 4 - 80, z * 3 + 15
    body = ((X - 4) / 75) ** 2 + ((Y - 8) / 60) ** 2 < 1

    def ball(cx, cy, cz, r):
        return (X - cx) ** 2 + (Y - cy) ** 2 + (Z - cz) ** 2 < r * r

    masks = {"Bladder": ball(4, -10, 60, 22), "Rectum": ball(0, 40, 55, 15), "PTV": ball(4, 5, 58, 30)}
    bones = ball(-40, 10, 60, 14) | ball(48, 10, 60, 14) | ball(5, 58, 70, 8)
    hu = (
        np.where(body, 20.0, -1000.0)
        + 60 * masks["Rectum"]
        - 40 * masks["Bladder"]
        + 600 * bones
        + np.where(body, 40 * np.sin(X / 9) * np.sin(Y / 11), 0)
    )
    planning = image(np.rint(hu + 6 * rng.standard_normal(hu.shape)))
    # daily point p shows what is at p + field(p) on the planning day
    bump = np.exp(-((X - 4) ** 2 + (Y - 10) ** 2 + (Z - 60) ** 2) / 1600)
    field = np.stack([-shift[0] + wave_mm * bump, -shift[1] + 0 * bump, -shift[2] - 0.5 * wave_mm * bump], -1)
    made = sitk.GetImageFromArray(field, isVector=True)
    made.CopyInformation(planning)
    truth = sitk.Image(made)
    transform = sitk.DisplacementFieldTransform(made)
    daily = sitk.Resample(image(np.rint(hu), np.float32), planning, transform, sitk.sitkLinear, -1000.0)
    daily = sitk.Cast(sitk.Round(daily + image(6 * rng.standard_normal(hu.shape), np.float32)), sitk.sitkInt16)
    given = {n: image(m, np.uint8) for n, m in masks.items()}
    moved = {
        n: sitk.Resample(sitk.Cast(m, sitk.sitkFloat32), planning, transform, sitk.sitkLinear, 0.0) > 0.5
        for n, m in given.items()
    }
    return planning, given, daily, moved, truth


def make_propagation_bundle(folder: Path, network="cross_stitch", name="test-propagation", **changes) -> Path:
    """A bundle whose network has random weights and says almost nothing: its displacement is near 0."""
    arguments = {"classes": 3, "widths": [2, 3, 4], "dropout": 0.2}
    make_bundle(folder, name=name)  # the parts of a card that all have in common
    torch.manual_seed(0)
    built = networks.build(network, **arguments).train()
    built(torch.randn(2, 3, 44, 44, 44))
    torch.save({"checkpoints": [built.state_dict()]}, folder / "weights.pt")
    card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    card["task"], card["title"] = "contour propagation", "Untrained joint network for tests"
    card["architecture"] = {"name": network, "arguments": arguments}
    card["input"] |= {"modality": "CT", "spacing_mm": list(SPACING)}
    card["outputs"] = {
        "deformation": {"unit": "mm"},
        "structures": [
            {
                "name": organ,
                "label": k,
                "color": [200, 40 * k, 30],
                "code": {"scheme": "SCT", "value": str(k), "meaning": organ},
                "rule": {"largest": 1},
            }
            for k, organ in enumerate(ORGANS, 1)
        ],
    }
    card["weights"] = {
        "file": "weights.pt",
        "sha256": bundle.sha256(folder / "weights.pt"),
        "bytes": (folder / "weights.pt").stat().st_size,
    }
    card.update(changes)
    (folder / "model.json").write_text(json.dumps(card), encoding="utf-8")
    return folder

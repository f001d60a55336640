"""A scan to be segmented, as it waits for a training: intensities in the network's scale and labels, in a small
file.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.files import replaced

# steps of one sd: far below the noise of an image; what is beyond ±127 steps is cut off
STEPS = 16
# of one unit of a CT in the networks' window (−1 to 2): 8.3 HU
CT_STEPS = 60


@dataclass
class Scan:
    """Arrays [z, y, x] on one axial grid; `labels` is None where nobody drew."""

    name: str
    image: np.ndarray  # float32, in the network's scale
    labels: np.ndarray | None  # uint8, see `classes`
    spacing: tuple  # (x, y, z) in mm
    classes: dict  # name -> value in `labels`, with the background
    body: np.ndarray | None = None  # bool; None: all of the image, which was cropped to an organ


def save(scan: Scan, path: Path, options: dict, facts: dict | None = None, steps: int = STEPS) -> None:
    """Write a scan as .npz (intensities in 1/`steps`) with the `options` that it was prepared with, and `facts` to be
    kept beside.

    Compressed by bzip2, which makes it a third smaller than numpy does, and which numpy reads all the same.
    """
    about = (
        {"classes": scan.classes, "options": options}
        | ({} if facts is None else {"facts": facts})
        | ({} if steps == STEPS else {"steps": steps})
    )
    arrays = {
        "image": np.rint(scan.image * steps).clip(-127, 127).astype(np.int8),
        "spacing": np.array(scan.spacing),
        "about": np.array(json.dumps(about)),
    }
    if scan.labels is not None:
        arrays["labels"] = scan.labels.astype(np.uint8)
    if scan.body is not None:
        arrays["body"] = scan.body.astype(np.uint8)
    with replaced(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_BZIP2) as archive:
        for name, array in arrays.items():
            stream = io.BytesIO()
            np.save(stream, array, allow_pickle=False)
            archive.writestr(f"{name}.npy", stream.getvalue())


def load(path: Path) -> Scan:
    """Read what `save` wrote."""
    with np.load(path, allow_pickle=False) as f:
        about = json.loads(str(f["about"]))
        return Scan(
            path.stem,
            f["image"].astype(np.float32) / about.get("steps", STEPS),
            f.get("labels"),
            tuple(float(s) for s in f["spacing"]),
            about["classes"],
            f["body"] > 0 if "body" in f else None,
        )


def options_of(path: Path) -> dict | None:
    """The options that a scan's file was made with; None where there is no whole file."""
    return (_about(path) or {}).get("options")


def facts_of(path: Path) -> dict:
    """The facts that were kept with a scan; none for a file that has none."""
    return (_about(path) or {}).get("facts", {})


def _about(path: Path) -> dict | None:
    try:
        with np.load(path, allow_pickle=False) as f:
            return json.loads(str(f["about"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None

"""Where the voxels of an nnU-Net `.npz` lie: the `.pkl` beside it, of which nothing is ever executed."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..core.errors import InputError

# what numbers and arrays of numpy are pickled with, by numpy 1 and 2
ALLOWED = {
    (module, name)
    for package in ("numpy.core", "numpy._core")
    for module, name in (
        (f"{package}.multiarray", "scalar"),
        (f"{package}.multiarray", "_reconstruct"),
        (f"{package}.numeric", "_frombuffer"),
    )
} | {("numpy", "dtype"), ("numpy", "ndarray"), ("_codecs", "encode"), ("collections", "OrderedDict")}
MOST_BYTES = 1 << 20
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


class _Numbers(pickle.Unpickler):
    """Reads numbers, texts and containers of them; refuses all that could run."""

    def find_class(self, module, name):
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        if module.startswith("numpy.core") and importlib.util.find_spec("numpy._core"):
            module = module.replace("numpy.core", "numpy._core")  # written with numpy 1
        elif module.startswith("numpy._core") and not importlib.util.find_spec("numpy._core"):
            module = module.replace("numpy._core", "numpy.core")
        return getattr(importlib.import_module(module), name)


def grid_of(file: Path) -> sitk.Image:
    """The grid of the probabilities beside a properties file of nnU-Net v2.

    Args:
        file: `.pkl`. SimpleITK's readers keep spacing, origin and direction ("sitk_stuff"), nibabel's an affine
            ("nibabel_stuff"; of the reoriented image where it was reoriented).

    Returns:
        uint8 image of one voxel at the first one's place, with its spacing and direction.

    Raises:
        InputError: it cannot be read, or holds more than numbers and texts.
    """
    try:
        with open(file, "rb") as stream:
            if file.stat().st_size > MOST_BYTES:
                raise ValueError("it is too large")
            found = _Numbers(stream).load()
        known = found.get("sitk_stuff") or {}
        if known:
            spacing, origin, direction = (np.array(known[k], float) for k in ("spacing", "origin", "direction"))
            direction = direction.reshape(3, 3)
        else:
            stuff = found["nibabel_stuff"]
            affine = LPS @ np.array(stuff.get("reoriented_affine", stuff["original_affine"]), float).reshape(4, 4)
            spacing = np.linalg.norm(affine[:3, :3], axis=0)
            direction, origin = affine[:3, :3] / spacing, affine[:3, 3]
            # straightened: SimpleITK asks for more digits than a header has
            u, _, v = np.linalg.svd(direction)
            direction = u @ v
        grid = sitk.Image(1, 1, 1, sitk.sitkUInt8)
        grid.SetSpacing(spacing.tolist())
        grid.SetOrigin(origin.tolist())
        grid.SetDirection(direction.ravel().tolist())
        return grid
    except Exception as error:  # whatever a damaged pickle raises
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"{file}: cannot be read as nnU-Net's properties of an image ({reason}); copy the file that lies beside "
            "the .npz."
        ) from error

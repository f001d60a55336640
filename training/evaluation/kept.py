"""What an evaluation found of each patient, kept in its folder: one that was cut goes on where it was."""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..core.files import make_folder, replaced

FOLDER = "predictions"


def weights_of(network) -> str:
    """SHA-256 of all that a network has learnt. What scores a patient of a bundle of folds stays the same when another
    fold is added or left out.

    Args:
        network: of torch.

    Returns:
        Hexadecimal digits.
    """
    found = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        found.update(name.encode() + value.detach().cpu().numpy().tobytes())
    return found.hexdigest()


class Kept:
    """The files `out`/predictions/CASE.npz.

    `mark`: what they depend on (weights, samples, …); a file with another mark is made again. `until`: by
    `time.monotonic()`; then nothing more is computed.
    """

    def __init__(self, out: Path, mark: dict, until: float | None = None):
        self.folder, self.mark, self.until = out / FOLDER, mark, until
        make_folder(self.folder)

    def of(
        self, case: str, make: Callable[[], tuple[dict, dict[str, np.ndarray]]], **more
    ) -> tuple[dict, dict[str, np.ndarray]]:
        """(plain, arrays) of a case, by `make` where they are not there.

        Args:
            case: its name.
            make: gives what JSON can hold (NaN, too), and arrays.
            more: what else these depend on.
        Raises:
            SystemExit: where the time is over.
        """
        file, mark = self.folder / f"{case}.npz", json.dumps(self.mark | more, sort_keys=True)
        found = _read(file, mark)
        if found is None:
            if self.until is not None and time.monotonic() > self.until:
                raise SystemExit(f"{self.folder}: no time left at {case}; the same command goes on there.")
            plain, arrays = make()
            with replaced(file) as part:
                about: dict[str, Any] = {"_mark": mark, "_plain": json.dumps(plain, default=lambda v: v.item())}
                np.savez_compressed(part, **(about | arrays))
            # as it will be read: a run that was cut and one that was not give the same
            found = _read(file, mark)
            assert found is not None
        return found


def _read(file: Path, mark: str) -> tuple[dict, dict[str, np.ndarray]] | None:
    """What was kept; None where there is nothing, nothing whole, or something of another mark."""
    try:
        with np.load(file, allow_pickle=False) as f:
            if str(f["_mark"]) != mark:
                return None
            return json.loads(str(f["_plain"])), {k: f[k] for k in f.files if not k.startswith("_")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None

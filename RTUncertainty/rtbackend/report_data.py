"""What a report shows of a result folder: images as arrays in patient axes, tables as rows."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from . import geometry
from .errors import InputError

IMAGES = ("synct", "predictive_sd", "intrinsic_sd", "parameter_sd", "structures", "entropy", "body")
REFERENCE_IMAGES = ("reference", "error", "zscore")


@dataclass
class Result:
    """A result folder in memory. `images` are arrays [z, y, x] with z to the head, y to the back and x to the patient's
    left (as nearly as the input's axes allow); `spacing` is (x, y, z) in mm; `volumes`, `flags` and `metrics` are rows."""

    folder: Path
    summary: dict
    images: dict[str, np.ndarray]
    spacing: tuple[float, float, float]
    oblique_degrees: float
    volumes: list[dict] = field(default_factory=list)
    flags: list[dict] = field(default_factory=list)
    metrics: list[dict] = field(default_factory=list)

    @property
    def has_reference(self) -> bool:
        return "reference" in self.images

    @property
    def body(self) -> np.ndarray:
        return self.images["body"] > 0


def load(folder, input_image=None) -> Result:
    """Read a result folder. `input_image` is the MR (image or path); without it, the summary's input is looked for.

    Raises `InputError` for a folder without a summary, a missing or unreadable file, or images on different grids.
    """
    folder = Path(folder)
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder} holds no summary.json, so it is not a result folder; "
                         "give one that predict wrote.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / 'summary.json'} cannot be read: {error}.") from error
    files = summary.get("files", {})
    images = {}
    for key in IMAGES + REFERENCE_IMAGES:
        if files.get(key):
            images[key] = _read(folder / files[key])
    for key in ("synct", "predictive_sd", "body"):
        if key not in images:
            raise InputError(f"{folder / 'summary.json'} names no file for '{key}'; run predict again.")
    mr = _input(summary, input_image)
    if mr is not None:
        images["input"] = mr
    grid = images["synct"]
    for key, image in images.items():
        if not geometry.same_grid(image, grid):
            raise InputError(f"{folder}: the image '{key}' is not on the grid of the synthetic CT; run predict again.")
    axial = geometry.to_axial(grid)
    cosines = np.abs(np.array(axial.GetDirection()).reshape(3, 3).diagonal())
    return Result(
        folder, summary, {k: sitk.GetArrayFromImage(geometry.to_axial(i)) for k, i in images.items()}, axial.GetSpacing(),
        float(np.degrees(np.arccos(np.clip(cosines.min(), 0, 1)))),
        *(_rows(folder, files.get(key)) for key in ("volumes", "flags", "metrics")))


def _read(path: Path) -> sitk.Image:
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read; it is missing or damaged. Run predict again.") from error


def _input(summary: dict, given) -> sitk.Image | None:
    if isinstance(given, sitk.Image):
        return given
    if given is None:
        named = summary.get("input", {}).get("path")
        if not named or not Path(named).is_absolute() or not Path(named).exists():
            return None
        given = named
    from . import image_io

    return image_io.read(given)


def _rows(folder: Path, name: str | None) -> list[dict]:
    if not name:
        return []
    try:
        with (folder / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"{folder / name} cannot be read; it is missing or damaged. Run predict again.") from error


def chosen_slices(result: Result) -> list[tuple[int, str]]:
    """Up to three axial slices to show, (index from the lowest, why), from the head downwards.

    The slice with the highest mean predictive SD in the body, the one in which the structures are largest (each
    relative to its own largest cross-section), and the middle of the body; one that falls within 3 % of the stack of
    another moves on to the next best, or to a third of the stack.
    """
    body, sd = result.body, result.images["predictive_sd"]
    area = body.sum((1, 2)).astype(float)
    if not area.any():
        area[:] = 1
    count = len(area)
    apart = max(1, round(0.03 * count))
    mean_sd = (sd * body).sum((1, 2)) / np.maximum(area, 1)
    # slices that show little of the body say little about it
    mean_sd = np.where(area >= 0.25 * area.max(), mean_sd, -np.inf)
    size = np.zeros(count)
    if "structures" in result.images:
        for s in result.summary.get("structures", []):
            cross = (result.images["structures"] == s["label"]).sum((1, 2))
            size += cross / cross.max() if cross.any() else 0
    z = np.flatnonzero(area)
    middle = -np.abs(np.arange(count) - (z[0] + z[-1]) / 2)
    wanted = [(mean_sd, "highest mean uncertainty"), (middle, "middle of the body")]
    if size.any():
        wanted.insert(1, (size, "largest cross-section of the structures"))
    chosen: list[tuple[int, str]] = []
    for score, reason in wanted:
        score = np.array(score, float)
        for index, _ in chosen:
            score[max(0, index - apart):index + apart + 1] = -np.inf
        if np.isfinite(score).any():
            chosen.append((int(score.argmax()), reason))
    return sorted(chosen, reverse=True)


def cut_position(result: Result) -> tuple[int, int]:
    """Row (y) and column (x) of the coronal and sagittal cut: through the middle of the last structure that is
    present (the card lists the target last), else of the body."""
    mask = result.body
    for s in result.summary.get("structures", []):
        if "structures" in result.images and (result.images["structures"] == s["label"]).any():
            mask = result.images["structures"] == s["label"]
    where = np.nonzero(mask)
    if not len(where[0]):
        return mask.shape[1] // 2, mask.shape[2] // 2
    return int(np.median(where[1])), int(np.median(where[2]))

"""A review of the user's own segmentation and probability volumes, of whatever origin: a run that owns what is
derived from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import slicer
import slicer.util
import vtk

from rtuncertainty.core.errors import InputError
from rtuncertainty.results.tables import COLUMNS as TABLES

from ..mrml import tables, volumes
from ..mrml.attributes import INPUT_REFERENCE, SEGMENTATION_REFERENCE
from ..mrml.segmentation import mask_on
from . import inside
from .load import add_overlay, all_or_nothing
from .prediction import PredictionRun
from .removal import watch_scene
from .review_data import LEVELS, write_summary
from .spread import Spread

LEVEL = 0.9


@dataclass
class OwnRun(PredictionRun):
    """A review of the user's own data: `segmentation` and `input` are the user's nodes, `overlays` has the entropy of
    the probabilities, `inside` each of them in percent."""

    job: ClassVar[str] = "own"
    single: ClassVar[tuple[str, ...]] = ()
    references: ClassVar[dict[str, str]] = {"input": INPUT_REFERENCE, "segmentation": SEGMENTATION_REFERENCE}

    @property
    def main(self):
        return self.overlays.get("entropy")


def review_segmentation(segmentation, probabilities: dict, scene=None, background=None) -> OwnRun:
    """Make a user's own segmentation ready for review; returns the run.

    segmentation
        A `vtkMRMLSegmentationNode`. It is never changed.
    probabilities
        Name of a segment -> `vtkMRMLScalarVolumeNode` of its probability, in 0..1, percent or 0..255; all on one grid.
    background
        The image that both lie on, for the slice views; the segmentation's reference image when None.

    Volumes, intervals, expected Dice and entropy follow from the probabilities with all voxels moving together, and
    were never calibrated. Raises `rtuncertainty.core.errors.InputError` when a volume is no probability or lies
    elsewhere.
    """
    scene = scene or slicer.mrmlScene
    checked = _checked(segmentation, probabilities)
    with all_or_nothing(scene):
        run = _build(scene, segmentation, probabilities, checked, background)
    watch_scene(scene)
    return run


def match_probabilities(names: list[str], volume_names: list[str]) -> dict[str, str]:
    """Segment -> the volume whose name speaks of it: "probability bladder", "bladder_prob", "p(Bladder)". A longer
    match wins, and a volume is used once; "parotid" does not take the volume of "parotid left"."""

    def words(text: str) -> list[str]:
        return "".join(c.lower() if c.isalnum() else " " for c in text).split()

    found: dict[str, str] = {}
    for name in sorted(names, key=lambda n: -len(words(n))):
        wanted = words(name)
        fitting = [v for v in volume_names if v not in found.values() and _contains(words(v), wanted)]
        if fitting and wanted:
            found[name] = min(fitting, key=lambda v: (not _speaks_of_probability(words(v)), len(v)))
    return {name: found[name] for name in names if name in found}


def _contains(words: list[str], wanted: list[str]) -> bool:
    return any(words[i : i + len(wanted)] == wanted for i in range(len(words) - len(wanted) + 1))


def _speaks_of_probability(words: list[str]) -> bool:
    return any(w.startswith("prob") or w in ("p", "softmax", "confidence") for w in words)


def _checked(segmentation, probabilities: dict) -> dict[str, np.ndarray]:
    """Segment -> probability (float32 [z, y, x], 0..1). Raises `InputError`."""
    if not probabilities:
        raise InputError(
            f"{segmentation.GetName()}: no structure has a probability volume; choose one for at least one structure."
        )
    names = {
        segmentation.GetSegmentation().GetNthSegment(i).GetName()
        for i in range(segmentation.GetSegmentation().GetNumberOfSegments())
    }
    found, first, grid = {}, None, None
    for name, node in probabilities.items():
        if name not in names:
            raise InputError(f"{segmentation.GetName()}: has no structure {name}; it has {', '.join(sorted(names))}.")
        if node.GetImageData() is None or node.GetImageData().GetNumberOfScalarComponents() != 1:
            raise InputError(f"{node.GetName()}: holds no scalar image; choose a volume of probabilities.")
        if node.GetParentTransformNode() is not segmentation.GetParentTransformNode():
            raise InputError(
                f"{node.GetName()}: lies under another transform than {segmentation.GetName()}; harden both transforms."
            )
        here = _grid(node)
        if first is None:
            first, grid = node, here
        elif here[0] != grid[0] or not np.allclose(here[1], grid[1], atol=1e-3):
            raise InputError(
                f"{node.GetName()}: lies on another grid than {first.GetName()}; resample it (module Resample Scalar "
                "Volume)."
            )
        found[name] = _as_probability(node)
    return found


def _grid(node):
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return node.GetImageData().GetDimensions(), slicer.util.arrayFromVTKMatrix(matrix)


def _as_probability(node) -> np.ndarray:
    """The voxels as probability; its scale is told by the largest value. Labels 0, 1, 2 are no percent."""
    array = slicer.util.arrayFromVolume(node)
    low, high = float(array.min()), float(array.max())
    for scale, least, most in ((1.0, 0.0, 1.001), (100.0, 20.0, 100.1), (255.0, 100.1, 255.0)):
        if least <= high <= most and low >= -0.001 * scale:
            return np.clip(array.astype(np.float32) / scale, 0.0, 1.0)
    raise InputError(
        f"{node.GetName()}: has values from {low:.3g} to {high:.3g}, so it is no probability; choose one in 0..1, "
        "percent or 0..255."
    )


def _build(scene, segmentation, nodes: dict, probabilities: dict[str, np.ndarray], background) -> OwnRun:
    grid = next(iter(nodes.values()))
    run = OwnRun.new(scene, f"Review of {segmentation.GetName()}")
    run.segmentation = segmentation
    background = background or segmentation.GetNodeReference("referenceImageGeometryRef")
    run.input = (
        background
        if background is not None and background.IsA("vtkMRMLScalarVolumeNode") and background not in nodes.values()
        else None
    )

    def title(text: str) -> str:
        return scene.GenerateUniqueName(tables.node_name(f"{segmentation.GetName()} {text}"))

    entropy = volumes.image_like(_entropy(list(probabilities.values())), grid)
    add_overlay(run, "entropy", entropy, None, 1 + len(probabilities), title)
    for reference, node in ((INPUT_REFERENCE, run.input), (SEGMENTATION_REFERENCE, segmentation)):
        if node is not None:
            run.main.SetNodeReferenceID(reference, node.GetID())
    rows: dict[str, list] = {
        key: [] for key in ("volumes", "flags", "volume_distribution", "volume_intervals", "quality")
    }
    ml = float(np.prod(grid.GetSpacing())) / 1000
    for name, probability in probabilities.items():
        percent = np.rint(100 * probability).astype(np.uint8)
        _tell(name, Spread(percent, mask_on(segmentation, name, grid), ml), rows)
        inside.add_image(run, name, volumes.image_like(percent, grid), title)
    for key, found in rows.items():
        run.tables[key] = run.add(
            tables.add_table(scene, found, TABLES[key], title(key.replace("_", " "))), f"table.{key}"
        )
    write_summary(
        run,
        {
            "job": run.job,
            "name": run.name,
            "level": LEVEL,
            "notes": [
                "Intervals follow from the given probabilities with all voxels moving together; they were never "
                "calibrated."
            ],
        },
    )
    return run


def _entropy(probabilities: list[np.ndarray]) -> np.ndarray:
    """Entropy (nats) of the structures and of what they leave to the background."""
    rest = np.clip(1 - np.sum(probabilities, axis=0), 0, 1)
    return -sum(p * np.log(np.maximum(p, 1e-7)) for p in [*probabilities, rest]).astype(np.float32)


def _tell(name: str, spread: Spread, rows: dict[str, list]) -> None:
    """The rows of a structure in the columns of a result's tables, as texts."""
    volume = spread.volume_ml
    lower, upper = spread.interval(LEVEL)
    rows["volumes"].append(_row("volumes", name, volume, lower, upper, LEVEL, "no"))
    for percentile in spread.PERCENTILES:
        rows["volume_distribution"].append(
            _row("volume_distribution", name, percentile, spread.volume_at(percentile), "")
        )
    for level in LEVELS:
        rows["volume_intervals"].append(_row("volume_intervals", name, level, *spread.interval(level), "no", 0, ""))
    rows["quality"].append(_row("quality", name, *spread.dice(), "no", spread.surface_entropy()))
    if spread.labelled_voxels == 0:
        rows["flags"].append(
            _row("flags", name, "warning", "empty", "The segmentation has no voxel of it where the probabilities lie.")
        )


def _row(table: str, *values) -> dict[str, str]:
    texts = [f"{v:.6g}" if isinstance(v, (int, float)) else v for v in values]
    return dict(zip(TABLES[table], texts))

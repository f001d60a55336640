"""A run as a scene file (`.mrb`) that opens in Slicer as the module would show it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from rtuncertainty.core.errors import InputError

from ..mrml.attributes import nodes_by_class
from ..runs.registry import load_run
from ..runs.run import Run
from ..runs.samples import SCENE_SAMPLES
from . import scene as headless

_CAMERA_DIRECTION = np.array([0.45, 0.85, 0.28])  # from the focal point, RAS: from the front, slightly left and above


def write_scene(folder, output, input_file=None) -> Path:
    """Write the scene of a result folder to `output` (`.mrb`), with the input image (of a propagation: the daily CT) in
    it when `input_file` is given, and with samples that were kept when they are few (`SCENE_SAMPLES`).

    The file is written beside its place and renamed, so that it is whole or absent. Raises
    `rtuncertainty.core.errors.InputError` when the result cannot be read or the file cannot be written.
    """
    output = Path(output)
    if output.suffix != ".mrb":
        raise InputError(f"{output}: a scene file ends in .mrb; give such a name.")
    if not output.parent.is_dir():
        raise InputError(f"{output.parent}: there is no such folder; make it first.")
    slicer_scene = headless.new_scene()
    run = load_run(folder, slicer_scene.scene, input_file, most_samples=SCENE_SAMPLES)
    headless.add_views(slicer_scene)
    run.show()
    fit_views(slicer_scene, run)
    _write(slicer_scene.scene, output)
    slicer_scene.close()
    return output


def fit_views(slicer_scene: headless.HeadlessSlicer, run: Run) -> None:
    """Centre the slice views on the tumour or else the image, and look at the structures in 3-D from the front."""
    for logic in slicer_scene.slice_logics.values():
        logic.FitSliceToBackground(*[int(n) for n in logic.GetSliceNode().GetDimensions()[:2]])
        logic.SnapSliceOffsetToIJK()
    centre = point_of_interest(run)
    for logic in slicer_scene.slice_logics.values():
        logic.GetSliceNode().JumpSliceByOffsetting(*centre)
    place_camera(slicer_scene.camera_node, run)


def point_of_interest(run: Run) -> np.ndarray:
    """RAS point in mm that the views show first: the centre of the smallest structure, else of the image."""
    smallest, centre = np.inf, None
    segmentation = run.main_segmentation.GetSegmentation() if run.main_segmentation is not None else None
    for index in range(segmentation.GetNumberOfSegments() if segmentation else 0):
        middle, extent = _box(segmentation.GetNthSegment(index))
        if 0.0 < np.prod(extent) < smallest:
            smallest, centre = np.prod(extent), middle
    if centre is None:
        bounds = [0.0] * 6
        run.main.GetRASBounds(bounds)
        centre = np.array(bounds).reshape(3, 2).mean(axis=1)
    return centre


def place_camera(camera_node, run: Run) -> None:
    """Put a camera node in front of the structures, at a distance that shows all of them."""
    bounds = [0.0] * 6
    if run.main_segmentation is not None and run.main_segmentation.GetSegmentation().GetNumberOfSegments():
        run.main_segmentation.GetRASBounds(bounds)
    if bounds[1] <= bounds[0]:
        run.main.GetRASBounds(bounds)
    box = np.array(bounds).reshape(3, 2)
    focus = box.mean(axis=1)
    direction = _CAMERA_DIRECTION / np.linalg.norm(_CAMERA_DIRECTION)
    right = np.cross([0.0, 0.0, 1.0], direction) / np.linalg.norm(np.cross([0.0, 0.0, 1.0], direction))
    axes = np.column_stack([right, np.cross(direction, right), direction])
    corners = np.array([(x, y, z) for x in box[0] for y in box[1] for z in box[2]]) - focus
    along = corners @ axes  # right, up and towards the camera; the view is at least as wide as high, 30 degrees high
    distance = float((np.abs(along[:, :2]).max(axis=1) / np.tan(np.radians(15.0)) + along[:, 2]).max())
    camera_node.SetFocalPoint(*focus)
    camera_node.SetPosition(*(focus + direction * distance * 1.05))
    camera_node.SetViewUp(0.0, 0.0, 1.0)
    camera_node.ResetClippingRange()


def _box(segment) -> tuple[np.ndarray, np.ndarray]:
    """Centre and extent of a segment in mm."""
    bounds = [0.0] * 6
    segment.GetBounds(bounds)
    box = np.array(bounds).reshape(3, 2)
    return box.mean(axis=1), np.maximum(box[:, 1] - box[:, 0], 0.0)


def _write(scene, output: Path) -> None:
    """Write beside and rename. Slicer's writer names the folder in the archive after the file, so the stem stays."""
    for color in nodes_by_class(scene, "vtkMRMLColorTableNode"):
        if color.GetSaveWithScene():
            # Releases before 5.10 do not read the newer CSV form.
            color.AddDefaultStorageNode()
            color.GetStorageNode().SetDefaultWriteFileExtension("ctbl")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{output.stem}-", dir=output.parent) as beside:
            draft = Path(beside) / output.name
            if not scene.WriteToMRB(str(draft)) or not draft.is_file() or draft.stat().st_size == 0:
                raise InputError(f"{output}: the scene could not be written; is the disk full?")
            os.replace(draft, output)
    except OSError as error:
        raise InputError(
            f"{output}: cannot be written ({error.strerror or error}); choose another folder or free space."
        ) from error

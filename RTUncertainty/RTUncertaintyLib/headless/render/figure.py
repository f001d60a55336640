"""The input, the synthetic CT, an overlay in three planes and the structures in 3-D, in one picture."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtkmodules.util.numpy_support import numpy_to_vtk

from rtuncertainty.core.errors import InputError

from ...runs.load import load_result
from ...runs.overlays import OVERLAYS, label_count, show_legends
from ...runs.prediction import PredictionRun
from ...runs.registry import find_runs, run_nodes
from ...runs.show import overlay_threshold, show_result
from .. import scene, scene_bundle
from . import views

VIEW_SIZE = (460, 460)
LEGEND_WIDTH = 130
_GAP, _HEADER = 4, 44
_BODY_HU = -300.0


def render_file(path, output, overlay: str = "predictive", input_file=None, background: str = "synct") -> Path:
    """Draw a scene file (`.mrb`, `.mrml`) or a result folder to a PNG file.

    `overlay` is a key of `scene.OVERLAYS` or 'none'; `background` 'synct' or 'input'. Raises
    `rtuncertainty.core.errors.InputError` when nothing can be read, the run lacks the overlay or the file cannot be
    written.
    """
    path = Path(path)
    slicer_scene = scene.new_scene()
    if path.is_dir():
        run = load_result(path, slicer_scene.scene, input_file=input_file)
    else:
        scene.open_scene(slicer_scene, path)
        runs = [run_nodes(identifier, slicer_scene.scene) for identifier in find_runs(slicer_scene.scene)]
        runs = [run for run in runs if isinstance(run, PredictionRun)]
        if not runs:
            raise InputError(
                f"{path}: holds no prediction of RTUncertainty; give a scene that it wrote, or a result folder."
            )
        run = runs[0]
    return render_run(slicer_scene, run, output, overlay, background)


def render_run(
    slicer_scene, run: PredictionRun, output, overlay: str = "predictive", background: str = "synct"
) -> Path:
    """Draw a run of a headless scene to a PNG file; changes the scene's views and legends.

    Axial, coronal and sagittal with the overlay over the background, and 3-D: two by two. When the run has its input,
    there are three columns, and the axial slice of the input and of the synthetic CT come first. Views are square.
    """
    output = Path(output)
    if overlay == "predictive" and run.synct is None:
        overlay = next(iter(run.overlays), "none")  # a model that only segments
    if overlay != "none" and overlay not in run.overlays:
        raise InputError(f"{run.name}: has no overlay {overlay!r}; it has {', '.join(run.overlays)} (or none).")
    scene.add_views(slicer_scene, VIEW_SIZE)
    show_result(run, None, background=background)
    for logic in slicer_scene.slice_logics.values():
        logic.ResizeSliceNode(*VIEW_SIZE)
    scene_bundle.fit_views(slicer_scene, run)
    corners = _body_corners(run.synct or run.input or next(iter(run.overlays.values())))
    for logic in slicer_scene.slice_logics.values():
        _zoom(logic.GetSliceNode(), corners, scene_bundle.point_of_interest(run))
    chosen = None if overlay == "none" else overlay
    name = "" if chosen is None else f", {OVERLAYS[overlay].name}"

    def draw(view: str, title: str, key: str | None, below: str) -> np.ndarray:
        show_result(run, key, opacity=1.0, background=below)  # opaque: the colours are those of the legend
        if key is not None:
            show_legends(run.scene)  # the sheet has one for all
        return views.slice_picture(slicer_scene, view, VIEW_SIZE, title)

    planes = [draw(view, plane + name, chosen, background) for view, plane in scene.SLICE_VIEWS.items()]
    in_3d = views.three_d_picture(slicer_scene, VIEW_SIZE, "Structures", _names(run))
    if run.input is not None and run.synct is not None and chosen is not None:
        rows = [
            [
                draw("Red", "Axial, input MR", None, "input"),
                draw("Red", "Axial, synthetic CT", None, "synct"),
                planes[0],
            ],
            [planes[1], planes[2], in_3d],
        ]
    else:
        rows = [[planes[0], in_3d], [planes[1], planes[2]]]
    show_result(run, chosen, background=background)
    legend = None
    if chosen is not None:
        kind = OVERLAYS[overlay]
        legend = views.legend_picture(
            run.overlays[overlay],
            [*kind.name.split(), kind.unit and f"({kind.unit})"],
            label_count(run.overlays[overlay], kind),
            kind.label_format,
            (LEGEND_WIDTH, 2 * VIEW_SIZE[1] + _GAP),
        )
    _save(_compose(rows, _headline(run, overlay, background), legend), output)
    return output


def _names(run: PredictionRun) -> list[tuple[str, tuple]]:
    """Name and colour of each structure."""
    if run.segmentation is None:
        return []
    segmentation = run.segmentation.GetSegmentation()
    segments = [segmentation.GetNthSegment(index) for index in range(segmentation.GetNumberOfSegments())]
    return [(segment.GetName(), segment.GetColor()) for segment in segments]


def _headline(run: PredictionRun, overlay: str, background: str) -> str:
    """What the picture shows, in one line."""
    below = (
        run.input.GetName()
        if run.input is not None and (background == "input" or run.synct is None)
        else "the synthetic CT"
    )
    if overlay == "none":
        return f"{run.name}: {below}"
    kind, lower = OVERLAYS[overlay], overlay_threshold(run, overlay)
    limit = f"{lower:g} {kind.unit}".strip()
    where = f"outside ±{limit}" if kind.signed else f"from {limit}"
    return f"{run.name}: {kind.name} {where}, over {below}"


def _body_corners(volume) -> np.ndarray:
    """RAS corners (8, 3) in mm of the part of a CT that is no air; of the whole image when there is none."""
    array = slicer.util.arrayFromVolume(volume)
    low, high = [0, 0, 0], [n - 1 for n in array.shape]
    inside = array > _BODY_HU
    for axis in range(3):
        # A thin share of the voxels, such as noise or the table's edge, does not count.
        share = inside.mean(axis=tuple(a for a in range(3) if a != axis))
        where = np.nonzero(share > 0.02)[0]
        if where.size:
            low[axis], high[axis] = int(where[0]), int(where[-1])
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    corners = [(i, j, k, 1) for k in (low[0], high[0]) for j in (low[1], high[1]) for i in (low[2], high[2])]
    return np.array([matrix.MultiplyPoint(c)[:3] for c in corners])


def _zoom(slice_node, corners: np.ndarray, through: np.ndarray) -> None:
    """Show the box of `corners` in a slice view, with a margin. The slice itself passes through the RAS point
    `through`.
    """
    matrix = slice_node.GetSliceToRAS()
    axes = np.array([[matrix.GetElement(r, c) for c in range(3)] for r in range(3)])
    along = corners @ axes  # coordinates along right, up and normal of the view
    low, high = along.min(axis=0), along.max(axis=0)
    width, height = VIEW_SIZE
    needed = np.maximum(high - low, 1.0)[:2]
    mm_per_pixel = max(needed[0] / (width - 48), needed[1] / (height - 84))  # letters, title and bar stay clear of it
    centre = 0.5 * (low + high)
    centre[2] = float(np.asarray(through) @ axes[:, 2])
    position = axes @ centre
    for row in range(3):
        matrix.SetElement(row, 3, position[row])
    slice_node.UpdateMatrices()
    slice_node.SetFieldOfView(width * mm_per_pixel, height * mm_per_pixel, slice_node.GetFieldOfView()[2])


def _compose(rows: list[list[np.ndarray]], headline: str, legend: np.ndarray | None) -> np.ndarray:
    """Rows of pictures below a line of text, the legend at their right, on black with thin grey lines between."""
    width, height = VIEW_SIZE
    across = len(rows[0]) * (width + _GAP) - _GAP + (0 if legend is None else _GAP + LEGEND_WIDTH)
    sheet = np.full((_HEADER + len(rows) * (height + _GAP), across, 3), 60, np.uint8)
    sheet[:_HEADER] = views.text_picture(headline, (across, _HEADER))
    for row, pictures in enumerate(rows):
        top = _HEADER + _GAP + row * (height + _GAP)
        for column, picture in enumerate(pictures):
            left = column * (width + _GAP)
            sheet[top : top + height, left : left + width] = picture
    if legend is not None:
        sheet[_HEADER + _GAP :, -LEGEND_WIDTH:] = legend
    return sheet


def _save(pixels: np.ndarray, output: Path) -> None:
    """Write a PNG file beside its place and rename it."""
    image = vtk.vtkImageData()
    image.SetDimensions(pixels.shape[1], pixels.shape[0], 1)
    image.GetPointData().SetScalars(numpy_to_vtk(pixels[::-1].reshape(-1, 3).copy(), deep=True))
    try:
        with tempfile.TemporaryDirectory(prefix=f".{output.stem}-", dir=output.parent) as beside:
            writer = vtk.vtkPNGWriter()
            writer.SetFileName(str(Path(beside) / output.name))
            writer.SetInputData(image)
            writer.Write()
            if writer.GetErrorCode():
                raise InputError(f"{output}: the picture could not be written; is the disk full?")
            os.replace(Path(beside) / output.name, output)
    except OSError as error:
        raise InputError(
            f"{output}: cannot be written ({error.strerror or error}); choose another folder or free space."
        ) from error

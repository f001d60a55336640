"""From a result folder to a run in the scene: all of it, or nothing."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import SimpleITK as sitk
import slicer

from rtuncertainty.core import image_io
from rtuncertainty.core.errors import InputError
from rtuncertainty.results import Result
from rtuncertainty.results.tables import COLUMNS

from ..mrml import hierarchy, segmentation, tables, volumes
from ..mrml.attributes import INPUT_REFERENCE, nodes_by_class
from . import inside as review_inside
from . import overlays, samples
from .prediction import PredictionRun
from .removal import watch_scene
from .review_data import write_summary
from .run import Run


def load_result(
    folder,
    scene=None,
    input_node=None,
    input_file=None,
    name: str | None = None,
    probabilities: bool = True,
    most_samples: int | None = None,
) -> PredictionRun:
    """Load a result folder of `rtuncertainty predict` into one subject-hierarchy folder.

    folder
        The result folder.
    scene
        A `vtkMRMLScene`; `slicer.mrmlScene` when None.
    input_node
        The volume that was predicted from, when it is in the scene. It stays the user's own; the segmentation takes its
        geometry. Ignored when it is not in `scene` (any more).
    input_file
        Instead, the file of that image: it is loaded as part of the run, so that the scene can stand alone.
    name
        Name of the run's folder; the summary's unless given. A number is added when it is taken.
    probabilities
        Whether to load the structures' probabilities also where the result has nested contours, which are much smaller.

    most_samples
        Samples that were kept are left out where there are more than these; None: all are loaded.

    Views are left as they are (`show_result`). When anything fails the scene is as before. Raises
    `rtuncertainty.core.errors.InputError` when the folder or a file in it cannot be read.
    """
    scene = scene or slicer.mrmlScene
    result = Result.read(folder, "predict")
    result.require(
        "body" if result.has("structures") and not result.has("synct") else "synct"
    )  # a model that only segments makes no synthetic CT
    result.require_files()
    if input_node is not None and input_node.GetScene() is not scene:
        input_node = None
    input_image = image_io.read(input_file) if input_file else None
    with_samples = bool(result.samples) and (most_samples is None or result.samples <= most_samples)
    with all_or_nothing(scene):
        run = _build(scene, result, input_node, input_image, name or result.name, probabilities, with_samples)
    watch_scene(scene)
    return run


@contextmanager
def all_or_nothing(scene):
    """A batch of changes to a scene; on an error every node and folder that was added is removed."""
    hierarchy_node = hierarchy.hierarchy_of(scene)
    nodes_before = {node.GetID() for node in nodes_by_class(scene, "vtkMRMLNode")}
    items_before = set(hierarchy.all_items(scene))
    scene.StartState(scene.BatchProcessState)
    try:
        yield
    except BaseException:
        for item in set(hierarchy.all_items(scene)) - items_before:
            hierarchy_node.RemoveItem(item, False, False)
        added = [node for node in nodes_by_class(scene, "vtkMRMLNode") if node.GetID() not in nodes_before]
        for node in reversed(added):
            if node.GetScene() is not None:
                scene.RemoveNode(node)
        raise
    finally:
        scene.EndState(scene.BatchProcessState)


def _build(
    scene, result: Result, input_node, input_image, wanted_name: str, all_probabilities: bool, with_samples: bool
) -> PredictionRun:
    """Add the nodes of a run, in the order in which the Data module shall list them."""
    run = PredictionRun.new(scene, wanted_name)
    prefix = input_node.GetName() if input_node is not None else result.input_name()

    def title(text: str) -> str:
        return scene.GenerateUniqueName(tables.node_name(f"{prefix} {text}"))

    grid = result.image("synct" if result.has("synct") else "body")
    run.input = input_node
    if input_image is not None:
        run.input = run.add(volumes.add_volume(scene, input_image, scene.GenerateUniqueName(prefix)), "input")
        volumes.show_as_image(run.input, input_image)
    if result.has("synct"):
        run.synct = run.add(volumes.add_volume(scene, grid, title("synCT"), volumes.HOUNSFIELD), "synct")
        volumes.show_as_ct(run.synct)
    if result.has("structures"):
        node = segmentation.add_segmentation(
            scene,
            result.path("structures"),
            result.summary.get("structures", []),
            title("structures"),
            run.input or run.synct,
        )
        run.segmentation = run.add(node, "segmentation")
    if run.input is not None:
        run.main.SetNodeReferenceID(INPUT_REFERENCE, run.input.GetID())
    _add_overlays(run, result, grid, title)
    if result.has("reference"):
        image = image_on_grid(result, "reference", grid)
        run.reference = run.add(
            volumes.add_volume(scene, image, title("reference CT"), volumes.HOUNSFIELD), "reference"
        )
        volumes.show_as_ct(run.reference)
    add_tables(run, result, title)
    wanted = [
        n for n in result.of_structures("probabilities") if all_probabilities or n not in result.of_structures("inside")
    ]
    if wanted:
        folder = hierarchy.collapsed_folder(scene, "Probabilities", run.folder_item)
        for structure in wanted:
            image = image_on_grid(result, "probabilities", grid, structure)
            node = run.add(
                volumes.add_volume(scene, image, title(f"probability {structure}"), display="fixed"),
                f"probability.{structure}",
                folder,
            )
            volumes.show_as_probability(node)
            run.probabilities[structure] = node
    review_inside.add_inside(run, result, grid, title)
    if with_samples:
        samples.add_samples(run, result, grid, title)
    write_summary(run, result.summary | {"notes": result.notes})
    return run


def _add_overlays(run: PredictionRun, result: Result, grid, title) -> None:
    """The uncertainty maps that the result has, each with its display."""
    classes = 1 + len(result.summary.get("structures", []))
    body = None
    if result.has("body"):
        body = sitk.GetArrayFromImage(image_on_grid(result, "body", grid)) > 0
    for key, overlay in overlays.OVERLAYS.items():
        if not result.has(overlay.image):
            continue
        image = image_on_grid(result, overlay.image, grid)
        add_overlay(run, key, image, body, classes, title)


def add_overlay(run: Run, key: str, image: sitk.Image, body: np.ndarray | None, classes: int, title) -> None:
    """One map with its display. `body` (bool [z, y, x]) is where the values are that its range is chosen from;
    `classes` counts structures and background."""
    overlay, values = overlays.OVERLAYS[key], sitk.GetArrayViewFromImage(image)
    inside = values[body] if body is not None and body.any() else np.ravel(values)
    high, lower = overlays.display_range(overlay, inside, classes)
    units = volumes.HOUNSFIELD if overlay.unit == "HU" else None
    node = run.add(volumes.add_volume(run.scene, image, title(overlay.name), units, "fixed"), f"overlay.{key}")
    overlays.set_up_display(node, overlay, high, lower, run.run_id, f"{node.GetName()} colours")
    run.overlays[key] = node


def image_on_grid(result: Result, key: str, grid: sitk.Image, structure: str | None = None) -> sitk.Image:
    """An image of a result; raises `InputError` when its size is not that of `grid`, the result's."""
    image = result.image(key, structure)
    if image.GetSize() != grid.GetSize():
        raise InputError(
            f"{result.path(key, structure)}: has {image.GetSize()} voxels, the result {grid.GetSize()}; the files are "
            "not of one run."
        )
    return image


def add_tables(run: Run, result: Result, title) -> None:
    """The tables that a result has, as nodes; raises `InputError` when a column is missing or a number is none."""
    for key, columns in COLUMNS.items():
        if result.has(key):
            rows = result.table(key)
            try:
                node = tables.add_table(
                    run.scene, rows, columns, title("structures" if key == "structure_table" else key.replace("_", " "))
                )
            except ValueError as error:
                raise InputError(f"{result.path(key)}: {error}; run the model again.") from error
            run.tables[key] = run.add(node, f"table.{key}")

"""From a result folder to a run in the scene: all of it, or nothing."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import slicer

from rtbackend.errors import InputError

from .. import results_folder
from ..results_folder import ResultFolder
from . import hierarchy, overlays, segmentation, tables, volumes
from .nodes import RunNodes, mark, nodes_by_class
from .removal import watch_scene

INPUT_REFERENCE = "RTUncertainty.Input"


def load_result(folder, scene=None, input_node=None, input_file=None, name: str | None = None) -> RunNodes:
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

    Views are left as they are (`show_result`). When anything fails the scene is as before. Raises
    `rtbackend.errors.InputError` when the folder or a file in it cannot be read.
    """
    scene = scene or slicer.mrmlScene
    result = results_folder.open_result(folder)
    if input_node is not None and input_node.GetScene() is not scene:
        input_node = None
    input_image = results_folder.read_image(Path(input_file)) if input_file else None
    with _all_or_nothing(scene):
        run = _build(scene, result, input_node, input_image, name or result.name)
    watch_scene(scene)
    return run


@contextmanager
def _all_or_nothing(scene):
    """A batch of changes to a scene; on an error every node and folder that was added is removed."""
    hierarchy_node = hierarchy.hierarchy_of(scene)
    nodes_before = {node.GetID() for node in nodes_by_class(scene, "vtkMRMLNode")}
    items_before = _items(hierarchy_node)
    scene.StartState(scene.BatchProcessState)
    try:
        yield
    except BaseException:
        for item in _items(hierarchy_node) - items_before:
            hierarchy_node.RemoveItem(item, False, False)
        added = [node for node in nodes_by_class(scene, "vtkMRMLNode") if node.GetID() not in nodes_before]
        for node in reversed(added):
            if node.GetScene() is not None:
                scene.RemoveNode(node)
        raise
    finally:
        scene.EndState(scene.BatchProcessState)


def _items(hierarchy_node) -> set[int]:
    """The identifiers of all items of a subject hierarchy."""
    import vtk

    ids = vtk.vtkIdList()
    hierarchy_node.GetItemChildren(hierarchy_node.GetSceneItemID(), ids, True)
    return {ids.GetId(index) for index in range(ids.GetNumberOfIds())}


def _build(scene, result: ResultFolder, input_node, input_image, wanted_name: str) -> RunNodes:
    """Add the nodes of a run, in the order in which the Data module shall list them."""
    run = RunNodes(scene, uuid.uuid4().hex, hierarchy.unique_name(scene, wanted_name))
    run.folder_item = hierarchy.add_folder(scene, run.name, run.run_id)
    prefix = input_node.GetName() if input_node is not None else result.input_name

    def added(node, role: str, folder: int | None = None):
        mark(node, run.run_id, role)
        hierarchy.put_into_folder(scene, node, run.folder_item if folder is None else folder)
        return node

    def title(text: str) -> str:
        return scene.GenerateUniqueName(f"{prefix} {text}")

    synct_image = results_folder.read_image(result.images["synct"])
    run.input = input_node
    if input_image is not None:
        run.input = added(volumes.add_volume(scene, input_image, scene.GenerateUniqueName(prefix)), "input")
        volumes.show_as_image(run.input, input_image)
    run.synct = added(volumes.add_volume(scene, synct_image, title("synCT"), volumes.HOUNSFIELD), "synct")
    volumes.show_as_ct(run.synct)
    if run.input is not None:
        run.synct.SetNodeReferenceID(INPUT_REFERENCE, run.input.GetID())
    if result.structures is not None:
        node = segmentation.add_segmentation(scene, result.structures, result.summary.get("structures", []),
                                             title("structures"), run.input or run.synct)
        run.segmentation = added(node, "segmentation")
    _add_overlays(run, result, synct_image, added, title)
    if "reference" in result.images:
        image = _image_on_grid(result, "reference", synct_image)
        run.reference = added(volumes.add_volume(scene, image, title("reference CT"), volumes.HOUNSFIELD), "reference")
        volumes.show_as_ct(run.reference)
    for key, file in result.tables.items():
        rows = results_folder.read_table(file, results_folder.TABLES[key])
        run.tables[key] = added(_table(scene, file, rows, key, title(key)), f"table.{key}")
    if result.probabilities:
        folder = hierarchy.add_folder(scene, "Probabilities", run.run_id, run.folder_item)
        hierarchy.hierarchy_of(scene).SetItemExpanded(folder, False)
        for structure, file in result.probabilities.items():
            image = _on_grid(results_folder.read_image(file), synct_image, file)
            node = added(volumes.add_volume(scene, image, title(f"probability {structure}")), f"probability.{structure}", folder)
            volumes.show_as_probability(node)
            run.probabilities[structure] = node
    return run


def _add_overlays(run: RunNodes, result: ResultFolder, synct_image, added, title) -> None:
    """The uncertainty maps that the result has, each with its display."""
    classes = 1 + len(result.summary.get("structures", []))
    body = None
    if "body" in result.images:
        body = sitk.GetArrayFromImage(_image_on_grid(result, "body", synct_image)) > 0
    for key, overlay in overlays.OVERLAYS.items():
        if overlay.image not in result.images:
            continue
        image = _image_on_grid(result, overlay.image, synct_image)
        values = sitk.GetArrayViewFromImage(image)
        inside = values[body] if body is not None and body.any() else np.ravel(values)
        high, lower = overlays.display_range(overlay, inside, classes)
        units = volumes.HOUNSFIELD if overlay.unit == "HU" else None
        node = added(volumes.add_volume(run.scene, image, title(overlay.name), units), f"overlay.{key}")
        overlays.set_up_display(node, overlay, high, lower, run.run_id, f"{node.GetName()} colours")
        run.overlays[key] = node


def _image_on_grid(result: ResultFolder, key: str, grid: sitk.Image) -> sitk.Image:
    """The image `key` of a result, which must lie on the grid of the synthetic CT."""
    return _on_grid(results_folder.read_image(result.images[key]), grid, result.images[key])


def _on_grid(image: sitk.Image, grid: sitk.Image, file: Path) -> sitk.Image:
    """The image; raises `InputError` when its size is not that of the synthetic CT."""
    if image.GetSize() != grid.GetSize():
        raise InputError(f"{file}: has {image.GetSize()} voxels, the synthetic CT {grid.GetSize()}; the files are not of one run.")
    return image


def _table(scene, file: Path, rows, key: str, name: str):
    """A table node; raises `InputError` when a number in the file is none."""
    try:
        return tables.add_table(scene, rows, results_folder.TABLES[key], name)
    except ValueError as error:
        raise InputError(f"{file}: {error}; run the prediction again.") from error

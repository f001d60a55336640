"""From a result folder of `rtuncertainty propagate` to a run in the scene: all of it, or nothing."""

from __future__ import annotations

import SimpleITK as sitk
import slicer

from rtuncertainty.bundles import bundle
from rtuncertainty.core import image_io
from rtuncertainty.results import Result

from ...mrml import propagation_style, segmentation, tables, volumes
from ...mrml.attributes import INPUT_REFERENCE, PLANNING_REFERENCE, STRUCTURES_REFERENCE
from .. import inside
from ..load import add_overlay, add_tables, all_or_nothing, image_on_grid
from ..removal import watch_scene
from ..review_data import write_summary
from .run import PropagationRun
from .structure_rows import PATHS, structure_rows
from .transform import add_transform

MAPS = ("displacement_sd", "jacobian", "segmented_entropy")
TITLES = {"propagated": "propagated structures", "segmented": "segmented structures"}
REQUIRED = ("transform", "warped_planning", "jacobian", "propagated", "structure_table")
DEFORMATION = ("transform", "jacobian")
TISSUE_HU = -500.0
SURFACE_VOXELS = 300e6
"""Voxels of the daily CT times structures up to which surfaces for the 3-D view take a few seconds (50 million a
second).
"""


def load_propagation(
    folder,
    scene=None,
    planning_node=None,
    structures_node=None,
    daily_node=None,
    input_file=None,
    name: str | None = None,
) -> PropagationRun:
    """Load a result folder of `rtuncertainty propagate` into one subject-hierarchy folder.

    folder
        The result folder.
    scene
        A `vtkMRMLScene`; `slicer.mrmlScene` when None.
    planning_node, structures_node, daily_node
        What was propagated, when it is in the scene: the planning CT, its segmentation and the daily CT. They stay the
        user's own. Ignored when they are not in `scene` (any more).
    input_file
        Instead of `daily_node`, the file of the daily CT: it is loaded as part of the run, so that the scene can stand
        alone.
    name
        Name of the run's folder; the summary's unless given. A number is added when it is taken.

    Views are left as they are (`show_propagation`). When anything fails the scene is as before. Raises
    `rtuncertainty.core.errors.InputError` when the folder or a file in it cannot be read.
    """
    scene = scene or slicer.mrmlScene
    result = Result.read(folder, "propagate")
    # a model that only segments the daily CT gives no deformation
    result.require(*[key for key in REQUIRED if key not in DEFORMATION or bundle.deforms(result.card)])
    result.require_files()
    structure_rows(result)  # says what is wrong with the table before anything is added
    own = [n if n is not None and n.GetScene() is scene else None for n in (planning_node, structures_node, daily_node)]
    daily_image = image_io.read(input_file) if input_file else None
    with all_or_nothing(scene):
        run = _build(scene, result, *own, daily_image, name or result.name)
    watch_scene(scene)
    return run


def _build(scene, result: Result, planning, structures, daily, daily_image, wanted_name: str) -> PropagationRun:
    """Add the nodes of a run, in the order in which the Data module shall list them."""
    run = PropagationRun.new(scene, wanted_name)
    run.planning, run.planning_structures, run.input = planning, structures, daily
    prefix = daily.GetName() if daily is not None else result.input_name("daily")
    moved = planning.GetName() if planning is not None else result.input_name("planning")

    def title(text: str) -> str:
        return scene.GenerateUniqueName(tables.node_name(f"{prefix} {text}"))

    if daily_image is not None:
        run.input = daily = run.add(
            volumes.add_volume(scene, daily_image, scene.GenerateUniqueName(prefix), volumes.HOUNSFIELD), "input"
        )
        volumes.show_as_ct(daily, propagation_style.WINDOW)
    warped_image = result.image("warped_planning")
    warped = volumes.add_volume(
        scene, warped_image, scene.GenerateUniqueName(f"{moved} warped to {prefix}"), volumes.HOUNSFIELD
    )
    run.warped = run.add(warped, "warped")
    volumes.show_as_ct(run.warped, propagation_style.WINDOW)
    for reference, node in (
        (PLANNING_REFERENCE, planning),
        (STRUCTURES_REFERENCE, structures),
        (INPUT_REFERENCE, daily),
    ):
        if node is not None:
            run.warped.SetNodeReferenceID(reference, node.GetID())
    known = result.summary.get("structures", [])
    surfaces = warped_image.GetNumberOfPixels() * len(known) <= SURFACE_VOXELS
    for path in filter(result.has, PATHS):
        node = segmentation.add_segmentation(
            scene, result.path(path), known, title(TITLES[path]), daily or run.warped, surfaces and path == "propagated"
        )
        run.segmentations[path] = run.add(node, f"segmentation.{path}")
        propagation_style.dress(node, path)
    if structures is not None:
        run.outlines = run.add(
            propagation_style.copy_outlines(scene, structures, known, f"{structures.GetName()} (planning)"), "outlines"
        )
    if result.has("transform"):
        name = scene.GenerateUniqueName(f"{moved} to {prefix}")
        run.transform = run.add(add_transform(scene, result.path("transform"), name), "transform")
    body = sitk.GetArrayViewFromImage(warped_image) > TISSUE_HU
    classes = 1 + sum("segmented" in s.get("paths", ()) for s in known)
    for key in filter(result.has, MAPS):
        add_overlay(run, key, image_on_grid(result, key, warped_image), body, classes, title)
    add_tables(run, result, title)
    inside.add_inside(run, result, warped_image, title)
    write_summary(run, result.summary | {"notes": result.notes})
    return run

"""In which share of the samples a voxel lies inside a structure: label maps of a run, in percent, cut to where they are
not zero.

They are label maps so that lists of images do not offer them; hidden nodes would be left out when a scene is saved as
files.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import slicer.util

from rtuncertainty.core.geometry import bounding_box
from rtuncertainty.results import Result

from ..mrml import hierarchy, volumes

ROLE, FOLDER = "inside", "Nested contours"


def add_inside(run, result: Result, grid: sitk.Image, title) -> None:
    """Label maps of a result's `inside_*` files, in a folder of their own; `title(text)` gives a node its name.

    Cut to the structure they are small enough for any scene, and need no file once the result folder is gone. Raises
    `rtuncertainty.core.errors.InputError` for a file that cannot be read or lies on another grid.
    """
    from .load import image_on_grid

    for name in result.of_structures("inside"):
        add_image(run, name, image_on_grid(result, "inside", grid, name), title)


def add_image(run, name: str, image: sitk.Image, title):
    """One such volume, of an image in percent; returns the node, None when the structure is nowhere."""
    cut = cut_to_content(image)
    if cut is None:
        return None
    node = volumes.add_volume(run.scene, cut, title(f"inside {name}"), display="none", label_map=True)
    run.inside[name] = run.add(node, f"{ROLE}.{name}", hierarchy.collapsed_folder(run.scene, FOLDER, run.folder_item))
    return node


def cut_to_content(image: sitk.Image) -> sitk.Image | None:
    """The part of an image that is not zero, with a margin of one voxel where there is room; None when there is
    none.
    """
    array = sitk.GetArrayViewFromImage(image)
    if not array.any():
        return None
    box = bounding_box(array, 1)[::-1]
    return sitk.Cast(
        sitk.RegionOfInterest(image, [s.stop - s.start for s in box], [s.start for s in box]), sitk.sitkUInt8
    )


def inside_of(run, name: str):
    """The volume (percent) of a structure, from its probability where the result had none; None when there is neither.

    The nested contours of a probability p hold the voxels of p > 1 − q: all voxels together, as the intervals of a
    network without its samples are (Eaton-Rosen 2018). It becomes part of the run, so that it is made once.
    """
    node = run.inside.get(name)
    if node is not None and node.GetScene() is run.scene and node.GetImageData() is not None:
        return node
    probability = run.probability(name)
    if probability is None or probability.GetScene() is not run.scene:
        return None
    percent = np.clip(np.rint(100.0 * slicer.util.arrayFromVolume(probability)), 0, 100).astype(np.uint8)
    return add_image(run, name, volumes.image_like(percent, probability), run.scene.GenerateUniqueName)


def percent_of(node) -> np.ndarray:
    """The voxels [z, y, x] of such a volume: uint8, 0 to 100."""
    return slicer.util.arrayFromVolume(node)

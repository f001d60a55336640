"""In which share of the samples a voxel lies inside a structure: label maps of a run, in percent, cut to where they are not zero.

They are label maps so that lists of images do not offer them; hidden nodes would be left out when a scene is saved as files.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import slicer.util

from rtuncertainty.results import Result

from ..mrml import hierarchy, volumes

ROLE, FOLDER = "inside", "Nested contours"


def add_inside(run, result: Result, grid: sitk.Image, added, title) -> None:
    """Label maps of a result's `inside_*` files, in a folder of their own; `added` and `title` are those of the loader.

    Cut to the structure they are small enough for any scene, and need no file once the result folder is gone. Raises
    `rtuncertainty.core.errors.InputError` for a file that cannot be read or lies on another grid.
    """
    from .load import image_on_grid

    for name in result.of_structures("inside"):
        add_image(run, name, image_on_grid(result, "inside", grid, name), added, title)


def add_image(run, name: str, image: sitk.Image, added, title):
    """One such volume, of an image in percent; returns the node, None when the structure is nowhere."""
    cut = cut_to_content(image)
    if cut is None:
        return None
    node = volumes.add_volume(run.scene, cut, title(f"inside {name}"), display="none", label_map=True)
    run.inside[name] = added(node, f"{ROLE}.{name}", _folder(run))
    return node


def _folder(run) -> int:
    """The folder of these label maps in that of the run, collapsed; made when it is not there yet."""
    tree = hierarchy.hierarchy_of(run.scene)
    folder = tree.GetItemChildWithName(run.folder_item, FOLDER)
    if folder == tree.GetInvalidItemID():
        folder = hierarchy.add_folder(run.scene, FOLDER, run.run_id, run.folder_item)
        tree.SetItemExpanded(folder, False)
    return folder


def cut_to_content(image: sitk.Image) -> sitk.Image | None:
    """The part of an image that is not zero, with a margin of one voxel where there is room; None when there is none."""
    array = sitk.GetArrayViewFromImage(image)
    low, size = [], []
    for axis in (2, 1, 0):
        where = np.flatnonzero(array.any(axis=tuple(a for a in range(3) if a != axis)))
        if not where.size:
            return None
        first, last = max(int(where[0]) - 1, 0), min(int(where[-1]) + 1, array.shape[axis] - 1)
        low.append(first)
        size.append(last - first + 1)
    return sitk.Cast(sitk.RegionOfInterest(image, size, low), sitk.sitkUInt8)


def inside_of(run, name: str):
    """The volume (percent) of a structure, from its probability where the result had none; None when there is neither.

    The nested contours of a probability p hold the voxels of p > 1 − q: all voxels together, as the intervals of a network
    without its samples are (Eaton-Rosen 2018). It becomes part of the run, so that it is made once.
    """
    node = run.inside.get(name)
    if node is not None and node.GetScene() is run.scene and node.GetImageData() is not None:
        return node
    probability = getattr(run, "probabilities", {}).get(name)
    if probability is None or probability.GetScene() is not run.scene:
        return None
    from .load import adder

    percent = np.clip(np.rint(100.0 * slicer.util.arrayFromVolume(probability)), 0, 100).astype(np.uint8)
    return add_image(run, name, volumes.image_like(percent, probability), adder(run), run.scene.GenerateUniqueName)


def percent_of(node) -> np.ndarray:
    """The voxels [z, y, x] of such a volume: uint8, 0 to 100."""
    return slicer.util.arrayFromVolume(node)


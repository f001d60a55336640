"""Samples that a result kept, as sequences that one browser goes through: synthetic CT and structures together."""

from __future__ import annotations

import slicer

from rtuncertainty.results import Result

from ..mrml import segmentation, volumes
from ..mrml.attributes import mark

ROLE = "samples"
SCENE_SAMPLES = 5
"""A scene file carries no more samples than these: each is a whole image."""


def add_samples(run, result: Result, grid, title) -> None:
    """Sequences of a result's samples and their browser, and the nodes that show the chosen sample.

    `title(text)` gives a node its name. Raises `rtuncertainty.core.errors.InputError` for a file that cannot be read or
    lies on another grid.
    """
    from .load import image_on_grid

    def synct(scene, number: str):
        image = image_on_grid(result, "sample_synct", grid, number)
        return volumes.add_volume(scene, image, title("synCT sample"), volumes.HOUNSFIELD, "fixed")

    def structures(scene, number: str):
        file, known = result.path("sample_structures", number), result.summary.get("structures", [])
        return segmentation.add_segmentation(scene, file, known, title("structures sample"), surfaces=False)

    browser = run.scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", title("samples"))
    run.samples["browser"] = browser
    mark(browser, run.run_id, f"{ROLE}.browser")
    for part, make in (("synct", synct), ("structures", structures)):
        numbers = result.of_structures(f"sample_{part}")
        if not numbers:
            continue
        sequence = run.scene.AddNewNodeByClass("vtkMRMLSequenceNode", title(f"{part} samples"))
        mark(sequence, run.run_id, f"{ROLE}.{part}")
        sequence.SetIndexName("sample")
        sequence.SetIndexUnit("")
        shown, role = make(run.scene, numbers[0]), f"{ROLE}.shown_{part}"
        elsewhere = _scene()  # what is copied shall not come and go in the user's scene
        for number in numbers:
            node = make(elsewhere, number)
            mark(node, run.run_id, role)  # what shows a sample takes over its attributes
            sequence.SetDataNodeAtValue(node, number)
            elsewhere.Clear(1)
        if part == "synct":
            volumes.show_as_ct(shown)
        else:
            shown.GetDisplayNode().SetVisibility(False)  # the structures of the mean are on show
        run.samples |= {part: sequence, f"shown_{part}": run.add(shown, role)}
        modifying = browser.StartModify()  # else Slicer makes a node of its own to show the sequence
        browser.AddSynchronizedSequenceNode(sequence)
        browser.AddProxyNode(shown, sequence, False)
        browser.EndModify(modifying)
    browser.SetSelectedItemNumber(0)


def _scene():
    """A scene for segmentations and volumes that nobody sees."""
    scene = slicer.vtkMRMLScene()
    for kind in ("Segmentation", "SegmentationDisplay", "SegmentationStorage"):
        if not scene.IsNodeClassRegistered(f"vtkMRML{kind}Node"):
            scene.RegisterNodeClass(getattr(slicer, f"vtkMRML{kind}Node")())
    return scene

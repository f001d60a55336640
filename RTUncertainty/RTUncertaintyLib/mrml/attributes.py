"""What is written on nodes so that a run is found again in a scene that was saved and opened, and finding nodes by
it.
"""

from __future__ import annotations

RUN_ATTRIBUTE = "RTUncertainty.Run"
"""Of every node of a run, and of its folder: the run's identifier."""
ROLE_ATTRIBUTE = "RTUncertainty.Role"
"""Of every node of a run: "role", or "role.key" where there are several of a kind."""
JOB_ATTRIBUTE = "RTUncertainty.Job"
"""Of the folder of a run: the job that made it. In scenes of older versions only reviews of the user's own data have
it.
"""
SUMMARY_ATTRIBUTE = "RTUncertainty.Summary"
"""Of a run's main node: the result's `summary.json` without its paths."""
STRUCTURE_ATTRIBUTE = "RTUncertainty.Structure"
"""Of nested contours and of the series of a chart: the structure that they show."""
HIDDEN_ATTRIBUTE = "RTUncertainty.HidPlanningStructures"
"""Of the outlines of a propagation: that they stand for the user's planning structures, whose own display went off."""
MAP_ATTRIBUTE = "RTUncertainty.Map"
"""Of a run's main node: the map that was chosen for the slice views, "none" for none."""
HANDED_ATTRIBUTE = "RTUncertainty.HandedOver"
"""Of a segmentation: what the Segment Editor was given of each structure, so that an edit is told from a look."""
INPUT_REFERENCE, SEGMENTATION_REFERENCE = "RTUncertainty.Input", "RTUncertainty.Segmentation"
PLANNING_REFERENCE, STRUCTURES_REFERENCE = "RTUncertainty.Planning", "RTUncertainty.PlanningStructures"


def mark(node, run_id: str, role: str) -> None:
    """Write on a node to which run it belongs and as what."""
    node.SetAttribute(RUN_ATTRIBUTE, run_id)
    node.SetAttribute(ROLE_ATTRIBUTE, role)


def role_of(node) -> str:
    """The role of a node in its run; empty for a node of no run."""
    return node.GetAttribute(ROLE_ATTRIBUTE) or ""


def nodes_by_class(scene, class_name: str) -> list:
    """The nodes of a class, as a list."""
    found = scene.GetNodesByClass(class_name)
    return [found.GetItemAsObject(i) for i in range(found.GetNumberOfItems())]


def marked_nodes(scene, run_id: str) -> list:
    """All nodes of a run, colour tables and legends included."""
    return [n for n in nodes_by_class(scene, "vtkMRMLNode") if n.GetAttribute(RUN_ATTRIBUTE) == run_id]


def overlay_nodes(scene) -> list:
    """The uncertainty maps of all runs."""
    return [
        n
        for n in nodes_by_class(scene, "vtkMRMLScalarVolumeNode")
        if n.GetAttribute(RUN_ATTRIBUTE) and role_of(n).startswith("overlay.")
    ]

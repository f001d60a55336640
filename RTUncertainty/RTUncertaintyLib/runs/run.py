"""What a run of any job put into a scene. Each job has its own type: `prediction`, `propagation.run`, `own`;
`registry` knows them.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import ClassVar

from ..mrml import hierarchy
from ..mrml.attributes import INPUT_REFERENCE, mark
from ..mrml.segmentation import segment_id


@dataclass
class Run:
    """What a run of any job put into a scene.

    `overlays` maps a key of `overlays.OVERLAYS` to its scalar volume, `tables` a name to its table node, `inside` a
    structure's name to the label map of the share of samples in which a voxel lies inside it, `nested` a percentile to
    the model that shows such a contour. `input` is the image that the results lie on: a node of the run when the scene
    was made from files, else the user's own node, which the run does not own. `folder_item` is the subject-hierarchy
    folder.
    """

    scene: object
    run_id: str
    name: str
    folder_item: int = 0
    overlays: dict = field(default_factory=dict)
    tables: dict = field(default_factory=dict)
    inside: dict = field(default_factory=dict)
    nested: dict = field(default_factory=dict)
    input: object = None

    job: ClassVar[str] = ""
    """The job that makes such a run, as the backend calls it."""
    single: ClassVar[tuple[str, ...]] = ("input",)
    """Roles of one node; the attribute is called as the role is."""
    keyed: ClassVar[dict[str, str]] = {"overlay": "overlays", "table": "tables", "inside": "inside", "nested": "nested"}
    """Roles of several nodes, "role.key" -> the dictionary that holds them."""
    references: ClassVar[dict[str, str]] = {"input": INPUT_REFERENCE}
    """The user's own nodes: attribute -> the node reference of the main image that leads to them."""
    ct_key: ClassVar[str] = ""
    """What a result folder calls the CT that the run made."""
    deforms: ClassVar[bool] = False
    """Whether such a run comes with a deformation."""

    @classmethod
    def new(cls, scene, name: str) -> Run:
        """An empty run with its folder; a number is added to the name when it is taken."""
        run = cls(scene, uuid.uuid4().hex, hierarchy.unique_name(scene, name))
        run.folder_item = hierarchy.add_run_folder(scene, run.name, run.run_id, cls.job)
        return run

    def add(self, node, role: str, folder: int | None = None):
        """Make a node the run's own, put it into the run's folder (or another one), and return it."""
        mark(node, self.run_id, role)
        hierarchy.put_into_folder(self.scene, node, self.folder_item if folder is None else folder)
        return node

    @property
    def main(self):
        """The image that stands for the run: when it is gone, so is the run."""
        raise NotImplementedError

    @property
    def main_segmentation(self):
        """The structures that stand for the run, None when it has none."""
        raise NotImplementedError

    @property
    def ct(self):
        """The CT that the run made, None when it made none."""
        return None

    @property
    def tissue_ct(self):
        """The CT that says where the body is, None where the maps are zero outside of the body already."""
        return None

    @property
    def deformation(self):
        """The transform that moves planning data onto the input, None when there is none."""
        return None

    def probability(self, name: str):
        """The volume of a structure's probability, None when the run has none."""
        return None

    def contour(self, name: str) -> tuple[object, bool]:
        """(the segmentation node with the contour of a structure that counts, whether the run's distribution of volumes
        is of that very contour); the node is None when there is none in the scene."""
        return self.with_segment(self.main_segmentation, name), True

    def with_segment(self, node, name: str):
        """The segmentation node when it is in the run's scene and has a segment called `name`, else None."""
        return node if node is not None and node.GetScene() is self.scene and segment_id(node, name) else None

    def worst_point(self, name: str):
        """The point (RAS, mm; array [3]) of a structure in the slice that the result calls its worst, None when it
        calls none so.
        """
        return None

    def show(self, overlay: str | None = None) -> None:
        """Show the run in all slice views, linked, with an overlay (a key of its overlays) or none."""
        raise NotImplementedError

    def show_overlay(self, key: str | None) -> None:
        """Exchange the overlay, None for none."""
        raise NotImplementedError

    def exists(self) -> bool:
        """Whether the run is still in its scene: neither removed nor lost when the scene was closed."""
        return self.main is not None and self.main.GetScene() is not None

    def about_to_be_removed(self) -> None:
        """Give back what the run changed on the user's own nodes."""

    def legend(self, key: str):
        """The colour legend (vtkMRMLColorLegendDisplayNode) of an overlay."""
        return legend_of(self.overlays[key])


def legend_of(volume):
    """The colour legend of a volume, None when it has none."""
    for index in range(volume.GetNumberOfDisplayNodes()):
        display = volume.GetNthDisplayNode(index)
        if display is not None and display.IsA("vtkMRMLColorLegendDisplayNode"):
            return display
    return None

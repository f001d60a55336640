"""Reviewing a result from its folder, a run of the scene or a user's own segmentation, with or without a screen."""

from __future__ import annotations

import json

from .. import review
from ..runs.registry import announce
from ..runs.review_data import ReviewData, read_summary
from .jobs import ReviewJobs


class ReviewLogic(ReviewJobs):
    """Runs for review, their DVHs and DICOM files. `scene_builder` and `command` replace the scene code and the backend
    in tests.

    In Slicer's Python console, or in any Python with slicer-core::

        run = RTReviewLogic().review("/data/result")
        for structure in RTReviewLogic().data(run).structures:
            print(structure.name, structure.volume_ml, structure.interval(0.9))
        dvhs = RTReviewLogic().dvh(run, doseVolumeNode)
        RTReviewLogic().dicom(run, ["rtstruct", "ct"], "/data/export", reference="/data/dicom/mr")
    """

    def __init__(self, scene_builder=None, command=None):
        super().__init__()
        self.scene_builder, self._command = scene_builder or review, command

    def runs(self) -> dict[str, str]:
        """The runs in the scene, of all modules: identifier -> name."""
        return self.scene_builder.find_runs()

    def run(self, run_id: str):
        """The nodes of a run in the scene, None when there is none with this identifier."""
        return self.scene_builder.run_nodes(run_id) if run_id else None

    def review(self, folder, show: bool | None = None):
        """The run of a result folder of `rtuncertainty predict` or `propagate`: the one in the scene, else it is
        loaded.

        `show`: whether to show it in the slice views (default: when there is a screen). Raises
        `rtuncertainty.core.errors.InputError` when the folder is no whole result; the scene is as before then.
        """
        from rtuncertainty.results import Result

        summary = Result.read(folder).summary
        run = self._loaded(summary)
        if run is None:
            run = self.scene_builder.load_run(folder, probabilities=False)  # nested contours say the same and are small
            announce(run)
        self.scene_builder.adopt_input(run, str((summary.get("input") or summary.get("daily") or {}).get("name") or ""))
        return self._shown(run, show)

    def review_segmentation(
        self, segmentation, probabilities: dict | None = None, background=None, show: bool | None = None
    ):
        """The review of a user's own segmentation; see `scene.review_segmentation`.

        Without `probabilities` (segment -> volume node) they are found by the names of the scene's volumes.
        """
        probabilities = self.matching(segmentation) if probabilities is None else probabilities
        return self._shown(
            self.scene_builder.review_segmentation(segmentation, probabilities, background=background), show
        )

    def matching(self, segmentation) -> dict:
        """Segment -> the volume of the scene whose name speaks of it, for the segments that have one."""
        import slicer.util

        nodes = {
            n.GetName(): n
            for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
            if n.GetClassName() == "vtkMRMLScalarVolumeNode" and not n.GetHideFromEditors()
        }
        found = self.scene_builder.match_probabilities(segment_names(segmentation), list(nodes))
        return {name: nodes[volume] for name, volume in found.items()}

    def data(self, run) -> ReviewData:
        """What a run says about its structures."""
        return ReviewData.of_run(run)

    def _loaded(self, summary: dict):
        """The run of the scene that has this summary, a folder is not loaded twice; None when there is none."""

        def kept(said: dict) -> dict:  # files are not kept in the scene, and the loader adds to the notes
            return json.loads(json.dumps({key: value for key, value in said.items() if key not in ("files", "notes")}))

        runs = (self.run(run_id) for run_id in self.runs())
        return next((r for r in runs if r is not None and r.exists() and kept(read_summary(r)) == kept(summary)), None)

    def _shown(self, run, show: bool | None):
        import slicer

        if getattr(slicer, "app", None) is not None if show is None else show:
            self.scene_builder.show_run(run, first_overlay(run))
        return run


def segment_names(segmentation) -> list[str]:
    """The names of a segmentation's segments, in its order."""
    segments = segmentation.GetSegmentation()
    return [segments.GetNthSegment(index).GetName() for index in range(segments.GetNumberOfSegments())]


def first_overlay(run) -> str | None:
    """The overlay that a review begins with, None where the run has none."""
    from .overlays import TITLES

    return next((key for key in TITLES if key in run.overlays), None)

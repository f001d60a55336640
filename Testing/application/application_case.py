"""What the tests inside the application share: a job from the panel's module to a result, through review, an edit, the
report, a scene file, and back.

The files run in Slicer (ctest, or *Reload and Test*) and, by pytest, on the stand-ins of Testing/standins.
"""

import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path

import slicer
import slicer.util

try:
    from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest
except ImportError:  # slicer-core alone: pytest brings the stand-ins when the tests begin
    from unittest import TestCase as ScriptedLoadableModuleTest

MODULES = Path(__file__).resolve().parents[2] / "RTUncertainty"
if importlib.util.find_spec("RTUncertaintyLib") is None:
    sys.path.insert(0, str(MODULES))


class ApplicationCase(ScriptedLoadableModuleTest):
    """A test case with the steps of a session. Subclasses make the input and run the job."""

    def setUp(self):
        if importlib.util.find_spec("torch") is None:
            self.skipTest("PyTorch is not installed: press Run in RT Prediction once.")
        slicer.mrmlScene.Clear(0)
        self.folder = Path(tempfile.mkdtemp(prefix="RTUncertaintyTest-"))

    def tearDown(self):
        slicer.mrmlScene.Clear(0)
        shutil.rmtree(self.folder, ignore_errors=True)

    def runTest(self):
        """Slicer's *Reload and Test* calls this, on a case that unittest did not set up."""
        for name in [n for n in dir(self) if n.startswith("test_")]:
            self.setUp()
            try:
                getattr(self, name)()
            finally:
                self.tearDown()

    def session(self, run, job):
        """Take a run that is in the scene through all that a reviewer does; `job` is the module that made it."""
        from RTUncertaintyLib import scene
        from RTUncertaintyLib.runs.review_data import ReviewData

        self.assertTrue(run.exists())
        self.delay(f"{run.name}: a result from {job}")
        self.check_panel(job, run)
        review = self.check_panel("RTReview", run)
        data = ReviewData.of_run(run)
        name = next(s.name for s in data.structures if run.contour(s.name)[0] is not None and s.volume_ml)
        self.edit(review, run, name)
        run = scene.run_nodes(run.run_id)  # with the table of decisions that the panel added
        self.assertEqual(ReviewData.of_run(run).structure(name).decision.state, "edited")
        report = self.export(run)
        self.assertIn("accepted after editing", report)
        key = next(iter(run.overlays))
        scene.show_run_overlay(run, key)

        file, identifier = self.folder / "scene.mrb", run.run_id
        volumes = {s.name: s.volume_ml for s in data.structures}
        self.assertTrue(slicer.util.saveScene(str(file)))
        slicer.mrmlScene.Clear(0)
        self.assertEqual(scene.find_runs(), {})
        slicer.util.loadScene(str(file))
        again = scene.run_nodes(identifier)
        self.assertIsNotNone(again, "the run is in the scene file")
        self.assertEqual({s.name: s.volume_ml for s in ReviewData.of_run(again).structures}, volumes)
        self.assertEqual(ReviewData.of_run(again).structure(name).decision.state, "edited")
        self.assertEqual(scene.chosen_overlay(again), key, "the map that was on show")
        scene.remove_run(again)
        self.assertEqual(scene.find_runs(), {})

    def delay(self, text):
        """Say what is going on, where there is someone to see it."""
        if hasattr(self, "delayDisplay"):
            self.delayDisplay(text, 100)

    def check_panel(self, module, run):
        """Open a module; it shows the run, and is as narrow as Slicer's panel. Returns its widget."""
        slicer.util.selectModule(module)
        slicer.app.processEvents()
        widget = slicer.util.getModuleWidget(module)
        if module == "RTReview":
            widget.panel.show_run(run.run_id)
            self.assertGreater(widget.ui.structuresTable.rowCount, 0)
            self.assertTrue(widget.ui.groupsLabel.text)
        self.assertEqual(
            (widget.panel.nodes if module == "RTReview" else widget.panel.results.nodes).run_id, run.run_id
        )
        for _round in range(3):  # a panel that grows does so from one layout to the next
            slicer.app.processEvents()
        hint = widget.parent.minimumSizeHint
        self.assertLessEqual((hint() if callable(hint) else hint).width(), 430)
        return widget

    def edit(self, widget, run, name):
        """Hand a structure to the Segment Editor, take one voxel from it, and come back."""
        import numpy as np

        from RTUncertaintyLib.mrml.segmentation import segment_id
        from RTUncertaintyLib.review import editor

        node, _sampled = run.contour(name)
        if getattr(slicer.modules, "segmenteditor", None) is not None:
            widget.ui.structuresTable.cellClicked(self.row_of(widget, name), 0)
            widget.ui.editButton.click()
        else:
            editor.hand_over(run, node, name)
        self.assertTrue(node.GetDisplayNode().GetVisibility(), "what is edited is on show")
        segment = node.GetSegmentation().GetSegment(segment_id(node, name))
        array = slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, segment_id(node, name))
        array[tuple(np.argwhere(array == segment.GetLabelValue())[0])] = 0
        slicer.util.selectModule("RTPrediction")
        slicer.util.selectModule("RTReview")
        slicer.app.processEvents()

    @staticmethod
    def row_of(widget, name):
        table = widget.ui.structuresTable
        return next(r for r in range(table.rowCount) if table.item(r, 0).text() == name)

    def export(self, run):
        """Write the report and the tables; returns the page."""
        from RTUncertaintyLib.review.report import export

        files = export.export(run, self.folder / "report", ("html", "csv"))
        self.assertGreater(len(files), 2)
        return (self.folder / "report" / "report.html").read_text(encoding="utf-8")

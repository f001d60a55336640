"""RTReview: a clinician goes through a result, from what is least certain to what is surest, and decides."""

import sys
from pathlib import Path

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
)

# Slicer puts the folder of a scripted module on the path. An installed extension has the shared packages in that very
# no more; in the source tree (Edit > Application Settings > Modules, or a developer's build) they lie one folder up.ie
# one folder up.
_shared = Path(__file__).resolve().parent.parent
if (_shared / "RTUncertaintyLib").is_dir() and str(_shared) not in sys.path:
    sys.path.append(str(_shared))

from RTUncertaintyLib.jobs.module_widget import JobWidget  # noqa: E402
from RTUncertaintyLib.review.logic import ReviewLogic  # noqa: E402
from RTUncertaintyLib.review.panel import ReviewPanel  # noqa: E402
from RTUncertaintyLib.review.parameters import ReviewParameters  # noqa: E402

DOCUMENTATION = "https://github.com/RTUncertainty/SlicerRTUncertainty/blob/main/Resources/Documentation"


class RTReview(ScriptedLoadableModule):
    """Registration of the module."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("RT Review")
        self.parent.categories = ["Radiotherapy"]
        self.parent.dependencies = []
        self.parent.contributors = ["RTUncertainty contributors"]
        self.parent.helpText = _(
            "Goes through the uncertainty of a result. Open a result folder, choose a result that is in the scene, or "
            "give a "
            "segmentation and probability volumes of your own. Structures stand worst first, with the interval of "
            "their volume, "
            "expected Dice and what was flagged; click one to look at its least certain slice with its 5, 50 and 95 % "
            "contours; "
            "accept, edit or reject it. Next uncertain region leads through what lies above the threshold of a map. "
            "Decisions are kept in the scene. Research use only."
        )
        self.parent.helpText += f'<p><a href="{DOCUMENTATION}/modules/RTReview.md">{_("Documentation")}</a></p>'
        self.parent.acknowledgementText = _(
            "Volume distributions after Eaton-Rosen et al. (MICCAI 2018), uncertainty of synthetic CT after Bragman et "
            "al. (MICCAI 2018)."
        )


class RTReviewLogic(ScriptedLoadableModuleLogic, ReviewLogic):
    """`run = RTReviewLogic().review("/data/result")` from the Python console; `RTReviewLogic().data(run)` has its
    numbers.
    """

    def __init__(self, scene_builder=None):
        ScriptedLoadableModuleLogic.__init__(self)
        ReviewLogic.__init__(self, scene_builder)


class RTReviewWidget(JobWidget):
    """The panel."""

    logic_class, panel_class, parameters_class = RTReviewLogic, ReviewPanel, ReviewParameters


class RTReviewTest(ScriptedLoadableModuleTest):
    """The module's own test in the application."""

    def runTest(self):
        slicer.mrmlScene.Clear()
        self.test_nothing_to_review()

    def test_nothing_to_review(self):
        """An empty scene has no results."""
        self.assertEqual(RTReviewLogic().runs(), {})

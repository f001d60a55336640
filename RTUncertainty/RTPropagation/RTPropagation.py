"""RTPropagation: planning CT and structures to the CT of today, with the error bar that each contour deserves."""

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
from RTUncertaintyLib.propagation.logic import PropagationLogic  # noqa: E402
from RTUncertaintyLib.propagation.panel import PropagationPanel  # noqa: E402
from RTUncertaintyLib.propagation.parameters import PropagationParameters  # noqa: E402

DOCUMENTATION = "https://github.com/RTUncertainty/SlicerRTUncertainty/blob/main/Resources/Documentation"


class RTPropagation(ScriptedLoadableModule):
    """Registration of the module."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("RT Propagation")
        self.parent.categories = ["Radiotherapy"]
        self.parent.dependencies = []
        self.parent.contributors = ["RTUncertainty contributors"]
        self.parent.helpText = _(
            "Brings the structures of a planning CT onto a daily CT, by deformation and by direct segmentation, and "
            "tells "
            "where the two disagree. Choose planning CT, structures, daily CT and a model, press Run; click a "
            "structure to "
            "look at its worst slice; choose a path for each and press Accept. The deformation is a transform that "
            "also "
            "moves the planning dose. Research use only."
        )
        self.parent.helpText += f'<p><a href="{DOCUMENTATION}/modules/RTPropagation.md">{_("Documentation")}</a></p>'
        self.parent.acknowledgementText = _(
            "Joint registration and segmentation networks after Elmahdy et al. (IEEE Access 2021)."
        )


class RTPropagationLogic(ScriptedLoadableModuleLogic, PropagationLogic):
    """`RTPropagationLogic().propagate(planningNode, segmentationNode, dailyNode, "headneck-ct-propagation",
    refine="fast")` from the Python console."""

    def __init__(self, scene_builder=None, command=None):
        ScriptedLoadableModuleLogic.__init__(self)
        PropagationLogic.__init__(self, scene_builder, command)


class RTPropagationWidget(JobWidget):
    """The panel."""

    logic_class, panel_class, parameters_class = RTPropagationLogic, PropagationPanel, PropagationParameters


class RTPropagationTest(ScriptedLoadableModuleTest):
    """The module's own test in the application."""

    def runTest(self):
        slicer.mrmlScene.Clear()
        self.test_models_have_cards()
        self.test_in_the_application()

    def test_models_have_cards(self):
        """Every model that the module offers has a card that can be read."""
        logic = RTPropagationLogic()
        for card in logic.models():
            self.assertEqual(logic.card(card["folder"])["name"], card["name"])

    def test_in_the_application(self):
        """The session of Testing/application, where the source tree is at hand: from *Reload and Test*."""
        folder = _shared.parent / "Testing" / "application"
        if (folder / "test_digital_pelvis.py").is_file():
            sys.path.insert(0, str(folder))
            try:
                from test_digital_pelvis import DigitalPelvisTest
            finally:
                sys.path.remove(str(folder))
            DigitalPelvisTest("runTest").runTest()

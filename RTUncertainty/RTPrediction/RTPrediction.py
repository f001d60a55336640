"""RTPrediction: one MR volume to synthetic CT and structures, with the error bar that each deserves."""

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
from RTUncertaintyLib.prediction.digital_limb import load_digital_limb  # noqa: E402
from RTUncertaintyLib.prediction.logic import PredictionLogic  # noqa: E402
from RTUncertaintyLib.prediction.panel import PredictionPanel  # noqa: E402
from RTUncertaintyLib.prediction.parameters import PredictionParameters  # noqa: E402

DOCUMENTATION = "https://github.com/RTUncertainty/SlicerRTUncertainty/blob/main/Resources/Documentation"


class RTPrediction(ScriptedLoadableModule):
    """Registration of the module."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("RT Prediction")
        self.parent.categories = ["Radiotherapy"]
        self.parent.dependencies = []
        self.parent.contributors = ["RTUncertainty contributors"]
        self.parent.helpText = _(
            "Computes a synthetic CT and structures from an MR volume, each with its uncertainty: intrinsic, parameter "
            "and predictive SD in HU, entropy of the structures, and volumes with intervals. Choose a volume and a "
            "model, press Run. Research use only."
        )
        self.parent.helpText += f'<p><a href="{DOCUMENTATION}/modules/RTPrediction.md">{_("Documentation")}</a></p>'
        self.parent.acknowledgementText = _(
            "Multi-task networks with Monte Carlo dropout after Bragman et al. (MICCAI 2018)."
        )
        slicer.app.connect("startupCompleted()", register_sample_data)


def register_sample_data():
    """Offer the digital limb in the Sample Data module."""
    import SampleData

    icon = Path(__file__).resolve().parent / "Resources" / "Icons" / "RTPrediction.png"
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="RTUncertainty",
        sampleName="DigitalLimb",
        thumbnailFileName=str(icon),
        uris=[],  # nothing to download: the downloader makes the data
        fileNames=[],
        nodeNames=[],
        customDownloader=load_digital_limb,
    )


class RTPredictionLogic(ScriptedLoadableModuleLogic, PredictionLogic):
    """`RTPredictionLogic().predict(volumeNode, "limb-t1-synct", samples=20)` from the Python console."""

    def __init__(self, scene_builder=None, command=None):
        ScriptedLoadableModuleLogic.__init__(self)
        PredictionLogic.__init__(self, scene_builder, command)


class RTPredictionWidget(JobWidget):
    """The panel."""

    logic_class, panel_class, parameters_class = RTPredictionLogic, PredictionPanel, PredictionParameters


class RTPredictionTest(ScriptedLoadableModuleTest):
    """The module's own test in the application."""

    def runTest(self):
        slicer.mrmlScene.Clear()
        self.test_models_have_cards()
        self.test_in_the_application()

    def test_models_have_cards(self):
        """Every model that the module offers has a card that can be read."""
        logic = RTPredictionLogic()
        for card in logic.models():
            self.assertEqual(logic.card(card["folder"])["name"], card["name"])

    def test_in_the_application(self):
        """The session of Testing/application, where the source tree is at hand: from *Reload and Test*."""
        folder = _shared.parent / "Testing" / "application"
        if (folder / "test_digital_limb.py").is_file():
            sys.path.insert(0, str(folder))
            try:
                from test_digital_limb import DigitalLimbTest
            finally:
                sys.path.remove(str(folder))
            DigitalLimbTest("runTest").runTest()

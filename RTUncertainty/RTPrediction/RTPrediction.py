"""RTPrediction: one MR volume to synthetic CT and structures, with the error bar that each deserves."""

import sys
from pathlib import Path

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

# In the source tree the shared packages lie one folder up; in an installed extension they lie beside this file.
_shared = Path(__file__).resolve().parent.parent
if (_shared / "RTUncertaintyLib").is_dir() and str(_shared) not in sys.path:
    sys.path.append(str(_shared))

from RTUncertaintyLib.digital_limb import load_digital_limb  # noqa: E402
from RTUncertaintyLib.prediction_logic import PredictionLogic  # noqa: E402
from RTUncertaintyLib.prediction_panel import PredictionPanel  # noqa: E402
from RTUncertaintyLib.prediction_parameters import PredictionParameters  # noqa: E402


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
            "model, press Run. Research use only.")
        self.parent.acknowledgementText = _(
            "Multi-task networks with Monte Carlo dropout after Bragman et al. (MICCAI 2018).")
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


class RTPredictionWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: builds the widgets, follows the scene and the parameter node."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self.panel = self._parameters = self._gui_tag = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        widget = slicer.util.loadUI(self.resourcePath("UI/RTPrediction.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = RTPredictionLogic()
        self.panel = PredictionPanel(self.ui, self.logic)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.on_scene_start_close)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.on_scene_end_close)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeRemovedEvent, self.on_node_removed)
        self.initialize_parameter_node()

    def cleanup(self):
        """The module is unloaded, reloaded, or the application ends."""
        self.set_parameters(None)
        self.removeObservers()
        self.panel.close()

    def enter(self):
        self.initialize_parameter_node()

    def exit(self):
        self.set_parameters(None)

    def on_scene_start_close(self, caller, event):
        """A run whose scene is closed ends quietly."""
        self.set_parameters(None)
        self.panel.abort()

    def on_scene_end_close(self, caller, event):
        self.panel.scene_closed()
        if self.parent.isEntered:
            self.initialize_parameter_node()

    def on_node_removed(self, caller, event):
        self.panel.results.forget_if_gone()

    def initialize_parameter_node(self):
        """Follow this scene's parameter node; with nothing chosen yet, take the first volume there is."""
        parameters = PredictionParameters(self.logic.getParameterNode())
        self.set_parameters(parameters)
        if parameters.inputVolume is None:
            first = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
            if first is not None and first.GetClassName() == "vtkMRMLScalarVolumeNode":
                parameters.inputVolume = first

    def set_parameters(self, parameters):
        """Leave the parameter node that is followed, and follow another one (wrapped) or none."""
        if self._parameters is not None:
            self._parameters.disconnectGui(self._gui_tag)
            self.removeObserver(self._parameters, "ModifiedEvent", self.on_parameters_modified)
        self._parameters = parameters
        if parameters is not None:
            self._gui_tag = parameters.connectGui(self.ui)
            self.addObserver(parameters, "ModifiedEvent", self.on_parameters_modified)
        self.panel.set_parameters(parameters)

    def on_parameters_modified(self, caller=None, event=None):
        self.panel.refresh()


class RTPredictionLogic(ScriptedLoadableModuleLogic, PredictionLogic):
    """`RTPredictionLogic().predict(volumeNode, "limb-t1-synct", samples=20)` from the Python console."""

    def __init__(self, scene_builder=None, command=None):
        ScriptedLoadableModuleLogic.__init__(self)
        PredictionLogic.__init__(self, scene_builder, command)


class RTPredictionTest(ScriptedLoadableModuleTest):
    """The module's own test in the application."""

    def runTest(self):
        slicer.mrmlScene.Clear()
        self.test_models_have_cards()

    def test_models_have_cards(self):
        """Every model that the module offers has a card that can be read."""
        logic = RTPredictionLogic()
        for card in logic.models():
            self.assertEqual(logic.card(card["folder"])["name"], card["name"])

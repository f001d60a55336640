"""RT Prediction in the application: a synthetic CT of a digital limb, reviewed, edited, reported, saved and opened."""

import sys
from pathlib import Path

import slicer

sys.path.append(str(Path(__file__).resolve().parent))

import application_case  # noqa: E402


class DigitalLimbTest(application_case.ApplicationCase):
    def test_from_run_to_scene_file(self):
        from rtuncertainty.phantoms.limb import digital_limb
        from RTUncertaintyLib.mrml.volumes import add_volume
        from RTUncertaintyLib.prediction.logic import PredictionLogic

        limb = digital_limb(0, size=(96, 96, 10), spacing=(1.6, 1.6, 4.0))
        node = add_volume(slicer.mrmlScene, limb.mr, "DigitalLimbMR")
        slicer.util.selectModule("RTPrediction")
        logic = PredictionLogic()
        run = logic.predict(node, logic.models()[0]["folder"], samples=2, device="cpu")
        self.assertEqual(set(run.overlays) & {"predictive", "entropy"}, {"predictive", "entropy"})
        self.session(run, "RTPrediction")
        logic.clean_up()
